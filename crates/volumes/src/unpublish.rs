//! Unpublishing: never waits for a download, never fails for what is not there.

use std::path::Path;
use std::sync::Arc;

use stowage_sys::{TargetError, UnmountError};

use crate::Meaning;
use crate::Volumes;
use crate::end::EndReason;
use crate::error::{ClearError, PublishError, target_meaning};
use crate::request::VolumeKey;

/// Why a volume is not unpublished.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UnpublishError {
    /// The path is not one that a volume can be at.
    #[error(transparent)]
    Target(Arc<TargetError>),
    /// The kernel refused.
    #[error(transparent)]
    Unmount(Arc<UnmountError>),
    /// A task of our own died.
    #[error(
        "a task of the node plugin died while it was to unpublish the volume; see its log, then try again"
    )]
    Died,
}

impl UnpublishError {
    /// What this failure means to the caller.
    pub fn meaning(&self) -> Meaning {
        match self {
            Self::Target(source) => target_meaning(source),
            Self::Unmount(_) | Self::Died => Meaning::Internal,
        }
    }
}

impl Volumes {
    /// Takes the volume away from `target`: ends a publish at work and the calls for it, unmounts, removes directory and record.
    ///
    /// What is unknown, absent or never mounted is done already. An unreadable store does not matter: what is
    /// mounted is asked of the kernel.
    pub async fn unpublish(&self, volume_id: &str, target: &Path) -> Result<(), UnpublishError> {
        let key = VolumeKey { volume_id: volume_id.to_owned(), target: target.to_owned() };
        let inner = Arc::clone(&self.inner);
        // A task of its own: a caller who goes away must not let go of the target's lock in the middle.
        let work = self.inner.tasks.spawn(async move { inner.unpublish(key).await });
        work.await.unwrap_or(Err(UnpublishError::Died))
    }
}

impl crate::Inner {
    async fn unpublish(self: Arc<Self>, key: VolumeKey) -> Result<(), UnpublishError> {
        let _target = loop {
            if let Some(job) = self.jobs.end(&key, EndReason::Unpublished) {
                let _ = job.settled().await;
            }
            let target = self.targets.lock(&key.target).await;
            // A publish call that came since would lose its record, and with it what keeps its blobs.
            if self.jobs.get(&key).is_none() {
                break target;
            }
        };
        self.idle.forget(&key);
        let work = Arc::clone(&self);
        self.blocking("unpublish the volume", move || Ok(work.take_away(&key)))
            .await
            .unwrap_or(Err(UnpublishError::Died))
    }

    fn take_away(&self, key: &VolumeKey) -> Result<(), UnpublishError> {
        let unmounted = match self.no_other_volume(key) {
            Err(PublishError::Conflict { volume_id, .. }) => {
                tracing::info!(volume = %key.volume_id, other = %volume_id, "another volume is at the target");
                false
            }
            // An unreadable store does not matter.
            Ok(()) | Err(_) => self.clear_target(&key.target).map_err(|error| match error {
                ClearError::Target(source) => UnpublishError::Target(Arc::new(source)),
                ClearError::Unmount(source) => UnpublishError::Unmount(Arc::new(source)),
            })?,
        };
        if let Err(error) = self.store.remove_record(&key.volume_id, &key.target) {
            // The mount is gone, which is what was asked; housekeeping drops the record.
            tracing::warn!(volume = %key.volume_id, %error, "the volume's record could not be removed");
        }
        if unmounted {
            tracing::info!(volume = %key.volume_id, "volume is unpublished");
        }
        Ok(())
    }
}

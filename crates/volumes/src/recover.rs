//! After a restart, and every now and then: records and mounts are brought to agree again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stowage_store::{CollectOptions, RecordState, VolumeRecord};

use crate::end::EndReason;
use crate::error::{ClearError, PublishError, store_error};
use crate::request::VolumeKey;
use crate::{Inner, Volumes, mount};

/// When a record without a mount was first seen so by this process.
#[derive(Debug, Default)]
pub(crate) struct Idle(Mutex<HashMap<VolumeKey, Instant>>);

impl Idle {
    /// Whether `key` has been idle for longer than `limit`; starts to count where it has not been seen.
    fn expired(&self, key: &VolumeKey, limit: Duration) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry(key.clone()).or_insert_with(Instant::now).elapsed() > limit
    }

    pub(crate) fn forget(&self, key: &VolumeKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// What the repair at start found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Recovered {
    /// Volumes whose mount is as recorded.
    pub healthy: usize,
    /// Records without a mount; they wait for kubelet's next call, for some minutes.
    pub waiting: usize,
    /// Mounts from a crash between a mount and its record; unmounted.
    pub unmounted: usize,
}

impl Volumes {
    /// Compares every record with the mount table, and takes down what a crash left between the two.
    ///
    /// Never disturbs a mount that is as recorded: a pod may be reading from it.
    pub async fn recover(&self) -> Result<Recovered, PublishError> {
        let inner = Arc::clone(&self.inner);
        self.inner
            .blocking("compare the records with the mount table", move || {
                if let Err(error) = inner.mounter.sweep_staging() {
                    tracing::warn!(%error, "cannot remove what a killed process left in the staging directory");
                }
                let mut recovered = Recovered::default();
                for record in inner.store.records().map_err(store_error("read the records"))? {
                    // One target that cannot be looked at must not keep the whole node from starting.
                    if let Err(error) = inner.recover_one(&record, &mut recovered) {
                        tracing::warn!(volume = %record.volume_id, %error, "a record cannot be compared with its mount");
                        recovered.waiting += 1;
                    }
                }
                Ok(recovered)
            })
            .await
    }

    /// Runs until `stop`: ends what nobody asks for any more and keeps the store under its watermarks.
    pub async fn housekeeping(&self, every: Duration, on_collected: impl Fn(u64) + Send) {
        let mut ticks = tokio::time::interval(every);
        loop {
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.tidy().await {
                tracing::warn!(%error, "housekeeping failed; it is tried again");
            }
            let inner = Arc::clone(&self.inner);
            let collected = self
                .inner
                .blocking("collect what is unused", move || {
                    inner
                        .store
                        .collect(&CollectOptions::default())
                        .map_err(store_error("collect what is unused"))
                })
                .await;
            match collected {
                Ok(report) if report.bytes > 0 => on_collected(report.bytes),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "collection failed; it is tried again"),
            }
        }
    }

    /// One round of housekeeping over jobs and records.
    pub async fn tidy(&self) -> Result<(), PublishError> {
        let limit = self.inner.options.interest;
        for (key, job) in self.inner.jobs.abandoned(limit) {
            tracing::info!(volume = %key.volume_id, "nobody asks for the volume any more; the pull ends");
            job.end(EndReason::Abandoned);
            let _ = job.settled().await;
        }
        let inner = Arc::clone(&self.inner);
        let records = self
            .inner
            .blocking("read the records", move || {
                inner.store.records().map_err(store_error("read the records"))
            })
            .await?;
        for record in records {
            let key = VolumeKey { volume_id: record.volume_id.clone(), target: record.target.clone() };
            let _target = self.inner.targets.lock(&key.target).await;
            if self.inner.jobs.is_asked_for(&key) {
                self.inner.idle.forget(&key);
                continue;
            }
            let inner = Arc::clone(&self.inner);
            let volume = key.volume_id.clone();
            let tidied = self.inner.blocking("tidy a record", move || inner.tidy_record(&key, limit)).await;
            // The others come all the same.
            if let Err(error) = tidied {
                tracing::warn!(%volume, %error, "a record could not be tidied; it is tried again");
            }
        }
        Ok(())
    }
}

impl Inner {
    fn recover_one(&self, record: &VolumeRecord, recovered: &mut Recovered) -> Result<(), PublishError> {
        if record.capability == crate::pull::CAPABILITY {
            // Its process is gone, or it could not have the store.
            return self
                .store
                .remove_record(&record.volume_id, &record.target)
                .map_err(store_error("remove the record of an interrupted pull"));
        }
        match record.state {
            RecordState::Mounted if mount::is_healthy(record)? => recovered.healthy += 1,
            RecordState::Mounted => recovered.waiting += 1,
            RecordState::Pending => {
                // No publish call has answered for it, so no container reads from it.
                match self.unmount_at(&record.target) {
                    Ok(unmounted) => recovered.unmounted += usize::from(unmounted),
                    Err(error) => tracing::warn!(
                        target = %record.target.display(), %error, "cannot look for a mount that a crash left"
                    ),
                }
                recovered.waiting += 1;
            }
        }
        Ok(())
    }

    /// Drops the record of a volume that is not mounted and that nobody has asked for in `limit`.
    fn tidy_record(&self, key: &VolumeKey, limit: Duration) -> Result<(), PublishError> {
        let Some(record) = self
            .store
            .record(&key.volume_id, &key.target)
            .map_err(store_error("read the volume's record"))?
        else {
            self.idle.forget(key);
            return Ok(());
        };
        if record.state == RecordState::Mounted && mount::is_healthy(&record)? {
            self.idle.forget(key);
            return Ok(());
        }
        if !self.idle.expired(key, limit) {
            return Ok(());
        }
        self.idle.forget(key);
        if record.state == RecordState::Pending {
            match self.clear_target(&key.target) {
                // A path that is refused has nothing of ours.
                Ok(_) | Err(ClearError::Target(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        tracing::info!(volume = %key.volume_id, "the volume is not mounted and nobody asks for it; its record goes");
        self.store
            .remove_record(&key.volume_id, &key.target)
            .map_err(store_error("remove the volume's record"))
    }
}

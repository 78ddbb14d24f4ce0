//! The numbers of one published volume.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stowage_store::RecordState;

use crate::error::{PublishError, store_error};
use crate::{Volumes, mount};

/// Size and condition of a volume. All of it is used: nothing can be written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VolumeStats {
    /// Bytes of the volume's files.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
    /// What is wrong with the volume.
    pub abnormal: Option<Abnormal>,
}

/// What is wrong with a volume.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Abnormal {
    /// The kind, for programs.
    pub kind: AbnormalKind,
    /// One sentence for people.
    pub message: String,
}

/// How a volume can be wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AbnormalKind {
    /// A file's bytes are not those of its digest.
    Damaged,
    /// The mount is gone.
    NotMounted,
    /// The files are gone from the store.
    ViewGone,
}

/// Why there are no numbers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StatsError {
    /// No such volume, or not at that path.
    #[error("volume {volume_id} is not published at {path}")]
    NotFound {
        /// The volume.
        volume_id: String,
        /// The path asked about.
        path: PathBuf,
    },
    /// No such volume, at no path at all.
    #[error("volume {volume_id} is published nowhere on this node")]
    Unknown {
        /// The volume.
        volume_id: String,
    },
    /// The store or the kernel could not be asked.
    #[error(transparent)]
    Failed(#[from] PublishError),
}

impl Volumes {
    /// What is wrong with the volume: at `path`, or wherever it is published.
    pub async fn health(&self, volume_id: &str, path: Option<&Path>) -> Result<Vec<Abnormal>, StatsError> {
        if let Some(path) = path {
            return Ok(self.stats(volume_id, path).await?.abnormal.into_iter().collect());
        }
        let (inner, id) = (Arc::clone(&self.inner), volume_id.to_owned());
        let records = self
            .inner
            .blocking("read the volume's records", move || {
                inner.store.records_of(&id).map_err(store_error("read the volume's records"))
            })
            .await?;
        let mounted = records.into_iter().filter(|record| record.state == RecordState::Mounted);
        let (mut found, mut abnormal) = (false, Vec::new());
        for record in mounted {
            match self.stats(volume_id, &record.target).await {
                Ok(stats) => {
                    found = true;
                    abnormal.extend(stats.abnormal);
                }
                // Unpublished in the meantime.
                Err(StatsError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if found { Ok(abnormal) } else { Err(StatsError::Unknown { volume_id: volume_id.to_owned() }) }
    }

    /// The numbers of the volume that is published at `path`.
    pub async fn stats(&self, volume_id: &str, path: &Path) -> Result<VolumeStats, StatsError> {
        let (inner, id, path) = (Arc::clone(&self.inner), volume_id.to_owned(), path.to_owned());
        let missing = StatsError::NotFound { volume_id: id.clone(), path: path.clone() };
        let stats = self
            .inner
            .blocking("read the volume's numbers", move || {
                let record =
                    inner.store.record(&id, &path).map_err(store_error("read the volume's record"))?;
                let Some(record) = record.filter(|record| record.state == RecordState::Mounted) else {
                    return Ok(None);
                };
                let Some(view_id) = record.view.clone() else { return Ok(None) };
                let view = inner.store.view(&view_id).map_err(store_error("read the view"))?;
                let condemned = inner.store.condemned(&view_id).map_err(store_error("read the view"))?;
                let wrong = if let Some(reason) = condemned {
                    Some((
                        AbnormalKind::Damaged,
                        format!(
                            "a file of the volume is damaged ({reason}); delete the pod to get a new copy"
                        ),
                    ))
                } else if !mount::is_healthy(&record)? {
                    Some((
                        AbnormalKind::NotMounted,
                        "the volume is not mounted; it is mounted again when kubelet asks".to_owned(),
                    ))
                } else if view.is_none() {
                    Some((
                        AbnormalKind::ViewGone,
                        "the volume's files are no longer in the store; delete the pod to get them back"
                            .to_owned(),
                    ))
                } else {
                    None
                };
                let abnormal = wrong.map(|(kind, message)| Abnormal { kind, message });
                let (bytes, inodes) = view.map_or((0, 0), |view| (view.bytes, view.inodes));
                Ok(Some(VolumeStats { bytes, inodes, abnormal }))
            })
            .await?;
        stats.ok_or(missing)
    }
}

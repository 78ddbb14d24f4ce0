//! How operations on volumes fail, and what each failure means to a caller.

use std::path::PathBuf;
use std::sync::Arc;

use stowage_artifact::{Digest, LayoutError, ManifestError, SelectError};
use stowage_engine::{FetchError, OciLayoutError};
use stowage_registry::RegistryError;
use stowage_store::{AdmitError, DecodeError, ImageError, SourceErrorKind, StoreError, ViewError};
use stowage_sys::{InspectError, MountError, TargetError, UnmountError};

/// What a failure means; the RPC layer turns each into one status code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Meaning {
    /// The request can never work as it is.
    Invalid,
    /// Work goes on; ask again.
    InProgress,
    /// Something outside is out of order for now.
    Unavailable,
    /// No space, or over a limit.
    Exhausted,
    /// No credential, or a wrong one.
    Unauthenticated,
    /// Known, and not allowed.
    Denied,
    /// No such reference or blob.
    NotFound,
    /// Bytes that do not match their digest after all tries.
    DataLoss,
    /// The target is published with other arguments.
    Conflict,
    /// This node cannot do what the volume needs.
    Unsupported,
    /// Ended by another call for the same volume.
    Aborted,
    /// The node itself is at fault.
    Internal,
}

impl Meaning {
    /// Whether kubelet takes the code for an end and may never call again: everything must be rolled back.
    pub fn is_final(self) -> bool {
        match self {
            Self::InProgress | Self::Unavailable | Self::Exhausted | Self::Aborted => false,
            Self::Invalid
            | Self::Unauthenticated
            | Self::Denied
            | Self::NotFound
            | Self::DataLoss
            | Self::Conflict
            | Self::Unsupported
            | Self::Internal => true,
        }
    }
}

/// Why a target cannot be cleared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClearError {
    /// The path is not one that a volume can be at, or cannot be looked at.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The kernel refused.
    #[error(transparent)]
    Unmount(#[from] UnmountError),
}

impl From<ClearError> for PublishError {
    fn from(error: ClearError) -> Self {
        match error {
            ClearError::Target(source) => Self::Target(Arc::new(source)),
            ClearError::Unmount(source) => Self::Unmount(Arc::new(source)),
        }
    }
}

/// Why a volume is not published.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublishError {
    /// The download goes on after this call.
    #[error("{reference} is still being pulled: {progress}; the download goes on, publish again")]
    InProgress {
        /// What is being pulled.
        reference: String,
        /// Bytes, rate and time left in words.
        progress: String,
    },
    /// An unpublish, or a publish with another credential, ended this one.
    #[error("publishing of volume {volume_id} was ended: {reason}")]
    Aborted {
        /// The volume.
        volume_id: String,
        /// Which call ended it.
        reason: &'static str,
    },
    /// The process is about to exit.
    #[error("the node plugin is shutting down; publish again, the download is resumed")]
    ShuttingDown,
    /// Another volume, or the same one in another form, is at the target.
    #[error(
        "volume {volume_id} is published at {target} with other arguments ({difference}); unpublish it first"
    )]
    Conflict {
        /// The volume.
        volume_id: String,
        /// The target path.
        target: PathBuf,
        /// What differs.
        difference: String,
    },
    /// `pullPolicy: Never` and not here.
    #[error("{reference} is not on this node and pullPolicy is Never; pull it first or use IfNotPresent")]
    NotPresent {
        /// What was asked for.
        reference: String,
    },
    /// On the node, but this pod has not shown that it may read it.
    #[error(
        "this pod has no access to {reference} on this node ({reason}); give it a pull secret that the registry accepts"
    )]
    NoGrant {
        /// What was asked for.
        reference: String,
        /// What was tried.
        reason: String,
    },
    /// The administrator's policy says no.
    #[error("{reference} is refused by this node's policy: {reason}")]
    Policy {
        /// What was asked for.
        reference: String,
        /// Which rule.
        reason: String,
    },
    /// Too many volumes wait already.
    #[error("{waiting} volumes are being pulled on this node, the limit is {limit}; try again later")]
    QueueFull {
        /// Running publishes.
        waiting: usize,
        /// The limit.
        limit: usize,
    },
    /// The credential that the registry is to be asked with could not be had.
    #[error("cannot pull {reference}: {reason}")]
    Credential {
        /// What was asked for.
        reference: String,
        /// Which credential, why not, and what to do.
        reason: String,
        /// What that means to the caller.
        meaning: Meaning,
    },
    /// The registry, while something was asked of it.
    #[error("{source}")]
    Registry {
        /// What was asked for.
        reference: String,
        /// What the registry client says.
        source: Arc<RegistryError>,
    },
    /// The document at the reference is not one that can be read.
    #[error("{reference} cannot be mounted: {source}")]
    Manifest {
        /// What was asked for.
        reference: String,
        /// What is wrong with it.
        source: Arc<ManifestError>,
    },
    /// Indexes within indexes without an end.
    #[error(
        "{reference} cannot be mounted: it leads through {depth} indexes to yet another one, {digest}; name a manifest"
    )]
    NestedIndex {
        /// What was asked for.
        reference: String,
        /// Indexes on the way.
        depth: usize,
        /// The one at which it stopped.
        digest: Digest,
    },
    /// No entry of the index fits.
    #[error("{reference} cannot be mounted: {source}")]
    Select {
        /// What was asked for.
        reference: String,
        /// Which choices there are.
        source: Arc<SelectError>,
    },
    /// The artifact cannot become a tree.
    #[error("{reference} cannot be mounted: {source}")]
    Layout {
        /// What was asked for.
        reference: String,
        /// Which layer, and why.
        source: Arc<LayoutError>,
    },
    /// The kernel cannot show the members of tars.
    #[error(
        "{reference} cannot be mounted: {layer} is a tar, whose files need EROFS, and {why}; set `tar: file` to mount the tar itself"
    )]
    NoErofs {
        /// What was asked for.
        reference: String,
        /// The first tar.
        layer: String,
        /// What the kernel lacks.
        why: String,
    },
    /// An image layout directory cannot be read.
    #[error("cannot pull {reference}: {source}")]
    LayoutDirectory {
        /// Under which reference it was to be pulled.
        reference: String,
        /// What is wrong with the directory.
        source: Arc<OciLayoutError>,
    },
    /// An image layout directory holds nothing, or too much, for a reference.
    #[error("cannot pull {reference}: {reason}")]
    LayoutEntry {
        /// Under which reference it was to be pulled.
        reference: String,
        /// What was found instead.
        reason: String,
    },
    /// A blob did not arrive.
    #[error("cannot pull {reference}: {source}")]
    Fetch {
        /// What was asked for.
        reference: String,
        /// What the engine says.
        source: Arc<FetchError>,
    },
    /// Not enough room, found before the first byte.
    #[error("cannot pull {reference}: {source}")]
    Space {
        /// What was asked for.
        reference: String,
        /// Needed and free bytes.
        source: Arc<AdmitError>,
    },
    /// A manifest says something else of a blob's size than the bytes that are here.
    #[error(
        "cannot pull {reference}: its manifest gives blob {digest} {declared} bytes, which is not its size; push the artifact anew"
    )]
    WrongSize {
        /// What was asked for.
        reference: String,
        /// The blob.
        digest: Digest,
        /// What the manifest says.
        declared: u64,
    },
    /// The view could not be made.
    #[error("cannot build the view of {reference}: {source}")]
    View {
        /// What was asked for.
        reference: String,
        /// What the store says.
        source: Arc<ViewError>,
    },
    /// The target path is not one that may be mounted on.
    #[error(transparent)]
    Target(Arc<TargetError>),
    /// What is mounted at the target cannot be taken away.
    #[error(transparent)]
    Unmount(Arc<UnmountError>),
    /// The mount at the target cannot be looked at.
    #[error(transparent)]
    Inspect(Arc<InspectError>),
    /// The kernel refused.
    #[error("cannot mount the volume at {target}: {source}")]
    Mount {
        /// The target path.
        target: PathBuf,
        /// What the kernel said.
        source: Arc<MountError>,
    },
    /// The store's disk.
    #[error("cannot {doing}: {source}")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// What the store says.
        source: Arc<StoreError>,
    },
    /// What is at the target could not be found out, so nothing was touched.
    #[error("cannot tell what is mounted for volume {volume_id}: {source}; publish again")]
    Unsure {
        /// The volume.
        volume_id: String,
        /// What failed.
        source: Arc<PublishError>,
    },
    /// The publish failed for good, and what it had left could not be removed.
    #[error("{source}; what it left could not be removed ({left}), which is tried again with the next call")]
    NotRolledBack {
        /// Why the publish failed.
        source: Arc<PublishError>,
        /// Why something of it is left.
        left: Arc<PublishError>,
    },
    /// A task of our own died.
    #[error("a task of the node plugin died while it was to {doing}; see its log, then publish again")]
    Died {
        /// What was being done.
        doing: &'static str,
    },
}

impl PublishError {
    /// What this failure means to the caller.
    #[expect(clippy::match_same_arms, reason = "one line a situation, in the order of the variants")]
    pub fn meaning(&self) -> Meaning {
        match self {
            Self::InProgress { .. } => Meaning::InProgress,
            Self::Aborted { .. } => Meaning::Aborted,
            Self::ShuttingDown => Meaning::Unavailable,
            Self::Conflict { .. } => Meaning::Conflict,
            Self::NotPresent { .. } => Meaning::NotFound,
            Self::NoGrant { .. } | Self::Policy { .. } => Meaning::Denied,
            Self::QueueFull { .. } | Self::Space { .. } => Meaning::Exhausted,
            Self::Credential { meaning, .. } => *meaning,
            Self::Registry { source, .. } => Meaning::from(source.as_ref()),
            Self::Manifest { .. } | Self::NestedIndex { .. } | Self::Select { .. } => Meaning::Invalid,
            Self::LayoutDirectory { .. } | Self::LayoutEntry { .. } => Meaning::Invalid,
            Self::Layout { .. } => Meaning::Invalid,
            Self::NoErofs { .. } => Meaning::Unsupported,
            Self::Fetch { source, .. } => fetch_meaning(source),
            Self::WrongSize { .. } => Meaning::DataLoss,
            Self::View { source, .. } => view_meaning(source),
            Self::Target(source) => target_meaning(source),
            Self::Unmount(_) | Self::Inspect(_) => Meaning::Internal,
            Self::Mount { source, .. } => mount_meaning(source),
            Self::Store { source, .. } => store_meaning(source),
            // Something is left, or may be: kubelet must come again, or unpublish.
            Self::Unsure { .. } | Self::NotRolledBack { .. } | Self::Died { .. } => Meaning::Unavailable,
        }
    }

    /// For a failure before anything was changed: a healthy volume may be at the target, which a final code would
    /// take away from a running pod.
    pub(crate) fn unsure(self, volume_id: &str) -> Self {
        match self {
            Self::Store { .. } | Self::Inspect(_) | Self::Unmount(_) => {
                Self::Unsure { volume_id: volume_id.to_owned(), source: Arc::new(self) }
            }
            Self::Target(ref source) if target_meaning(source) == Meaning::Internal => {
                Self::Unsure { volume_id: volume_id.to_owned(), source: Arc::new(self) }
            }
            other => other,
        }
    }
}

impl From<&RegistryError> for Meaning {
    fn from(error: &RegistryError) -> Self {
        match error {
            RegistryError::Unauthenticated { .. } => Self::Unauthenticated,
            RegistryError::Forbidden { .. } | RegistryError::Refused { .. } => Self::Denied,
            RegistryError::NotFound { .. } => Self::NotFound,
            // A registry that answers nonsense may answer well tomorrow.
            RegistryError::RateLimited { .. }
            | RegistryError::Unavailable { .. }
            // An administrator may be about to add the authority.
            | RegistryError::Untrusted { .. }
            | RegistryError::RangeRefused { .. }
            | RegistryError::Protocol { .. } => Self::Unavailable,
            RegistryError::TooLarge { .. } => Self::Invalid,
            RegistryError::DigestMismatch { .. } => Self::DataLoss,
        }
    }
}

fn fetch_meaning(error: &FetchError) -> Meaning {
    match error {
        FetchError::Source(source) => match source.kind {
            SourceErrorKind::Unauthenticated => Meaning::Unauthenticated,
            SourceErrorKind::Forbidden => Meaning::Denied,
            SourceErrorKind::NotFound => Meaning::NotFound,
            SourceErrorKind::RateLimited
            | SourceErrorKind::Unavailable
            | SourceErrorKind::RangeRefused
            | SourceErrorKind::Protocol => Meaning::Unavailable,
        },
        FetchError::Unavailable { .. } | FetchError::RateLimited { .. } | FetchError::ShuttingDown => {
            Meaning::Unavailable
        }
        FetchError::NoSpace { .. } => Meaning::Exhausted,
        FetchError::DigestMismatch { .. } | FetchError::SizeMismatch { .. } | FetchError::TooLong { .. } => {
            Meaning::DataLoss
        }
        FetchError::Store { .. } | FetchError::Died { .. } => Meaning::Internal,
    }
}

fn mount_meaning(error: &MountError) -> Meaning {
    match error {
        MountError::Unsupported { .. } | MountError::NoLoopNode { .. } => Meaning::Unsupported,
        MountError::NeedsDevices { .. } | MountError::LayerCount { .. } => Meaning::Invalid,
        MountError::Target(source) => target_meaning(source),
        MountError::TableFull { .. } => Meaning::Exhausted,
        MountError::Kernel { .. }
        | MountError::AlreadyMounted { .. }
        | MountError::NotAMount { .. }
        | MountError::NotReadOnly { .. }
        | MountError::Staging { .. }
        | MountError::NotAFile { .. }
        | MountError::Inspect(_) => Meaning::Internal,
    }
}

pub(crate) fn target_meaning(error: &TargetError) -> Meaning {
    match error {
        TargetError::Outside { .. }
        | TargetError::Symlink { .. }
        | TargetError::NoParent { .. }
        | TargetError::NotADirectory { .. } => Meaning::Invalid,
        TargetError::Root { .. } | TargetError::Io { .. } => Meaning::Internal,
    }
}

fn view_meaning(error: &ViewError) -> Meaning {
    match error {
        // A blob went into quarantine meanwhile; the next try fetches it again.
        ViewError::MissingBlobs(_) => Meaning::Unavailable,
        ViewError::Unsupported(_) => Meaning::Unsupported,
        ViewError::WrongSize { .. } => Meaning::DataLoss,
        ViewError::Decode(source) => decode_meaning(source),
        ViewError::Tar { .. }
        | ViewError::Merge(_)
        | ViewError::Image(ImageError::TooLarge)
        | ViewError::Collision { .. }
        | ViewError::Claim { .. }
        | ViewError::NothingLeft => Meaning::Invalid,
        ViewError::Image(ImageError::Write(_)) => Meaning::Internal,
        ViewError::Store(source) => store_meaning(source),
    }
}

fn decode_meaning(error: &DecodeError) -> Meaning {
    match error {
        DecodeError::Malformed { .. } | DecodeError::TooLarge { .. } => Meaning::Invalid,
        DecodeError::NoRoom { .. } => Meaning::Exhausted,
        DecodeError::Store(source) => store_meaning(source),
    }
}

fn store_meaning(error: &StoreError) -> Meaning {
    if error.is_no_space() {
        Meaning::Exhausted
    } else if matches!(error, StoreError::NoSuchView(_)) {
        // Collected as often as it was built; the next try builds it again.
        Meaning::Unavailable
    } else {
        Meaning::Internal
    }
}

/// Says what was being done when the store failed.
pub(crate) fn store_error(doing: &'static str) -> impl FnOnce(StoreError) -> PublishError {
    move |source| PublishError::Store { doing, source: Arc::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> PublishError {
        store_error("read the volume's record")(std::io::Error::other("disk on fire").into())
    }

    /// A healthy volume of a running pod may be at the target: kubelet must not be told that it is gone.
    #[test]
    fn a_failure_to_look_at_the_target_is_never_final() {
        assert!(disk().meaning().is_final());
        let unsure = disk().unsure("csi-1");
        assert_eq!(unsure.meaning(), Meaning::Unavailable);
        assert!(
            unsure.to_string().contains("csi-1") && unsure.to_string().contains("disk on fire"),
            "{unsure}"
        );
        let conflict = PublishError::NotPresent { reference: "r".to_owned() }.unsure("csi-1");
        assert_eq!(conflict.meaning(), Meaning::NotFound, "what was found out stays as it is");
    }

    #[test]
    fn what_may_have_left_something_is_never_final() {
        for error in [
            PublishError::Died { doing: "publish a volume" },
            PublishError::NotRolledBack { source: Arc::new(disk()), left: Arc::new(disk()) },
        ] {
            assert!(!error.meaning().is_final(), "{error}");
        }
    }
}

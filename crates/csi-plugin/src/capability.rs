//! Which ways of using a volume there are: mounted, and never written by several nodes.

use stowage_csi_proto::csi::v1::VolumeCapability;
use stowage_csi_proto::csi::v1::volume_capability::{AccessType, access_mode::Mode};

/// Mount flags that change nothing on a read-only volume.
const MOUNT_FLAGS: [&str; 2] = ["ro", "noatime"];

/// Why a capability is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// A field without which a capability says nothing.
    #[error("the volume capability has no access {0}; whoever calls always sends one")]
    Missing(&'static str),
    /// A raw device is asked for.
    #[error("block access is not supported: an artifact is files; use volumeMode Filesystem")]
    Block,
    /// An access mode, by its name in the specification.
    #[error("access mode {0} lets several nodes write; volumes are read-only, use ReadOnlyMany")]
    Writers(&'static str),
    /// A mount flag.
    #[error("mount flag `{0}` is not supported on a read-only volume; leave it out of mountOptions")]
    MountFlag(String),
    /// A file system type.
    #[error(
        "file system type `{0}` cannot be chosen; leave out fsType, or csi.storage.k8s.io/fstype of the StorageClass"
    )]
    FsType(String),
}

/// Refuses what cannot be had (`csi.md`, "Codes of the controller", access modes); the mode, where it can.
pub fn check_capability(capability: &VolumeCapability) -> Result<Mode, CapabilityError> {
    let mount = match capability.access_type.as_ref().ok_or(CapabilityError::Missing("type"))? {
        AccessType::Block(_) => return Err(CapabilityError::Block),
        AccessType::Mount(mount) => mount,
    };
    let mode = capability.access_mode.as_ref().ok_or(CapabilityError::Missing("mode"))?.mode();
    match mode {
        Mode::Unknown => return Err(CapabilityError::Missing("mode")),
        Mode::MultiNodeSingleWriter | Mode::MultiNodeMultiWriter => {
            return Err(CapabilityError::Writers(mode.as_str_name()));
        }
        Mode::SingleNodeWriter
        | Mode::SingleNodeReaderOnly
        | Mode::MultiNodeReaderOnly
        | Mode::SingleNodeSingleWriter
        | Mode::SingleNodeMultiWriter => {}
    }
    if let Some(flag) = mount.mount_flags.iter().find(|flag| !MOUNT_FLAGS.contains(&flag.as_str())) {
        return Err(CapabilityError::MountFlag(flag.clone()));
    }
    if !mount.fs_type.is_empty() {
        return Err(CapabilityError::FsType(mount.fs_type.clone()));
    }
    Ok(mode)
}

#[cfg(test)]
mod tests {
    use stowage_csi_proto::csi::v1::volume_capability::{AccessMode, BlockVolume, MountVolume};

    use super::*;

    fn capability(mode: Mode, mount: MountVolume) -> VolumeCapability {
        VolumeCapability {
            access_mode: Some(AccessMode { mode: mode.into() }),
            access_type: Some(AccessType::Mount(mount)),
        }
    }

    #[test]
    fn every_mode_but_writers_on_several_nodes_is_accepted() {
        for mode in [
            Mode::SingleNodeWriter,
            Mode::SingleNodeReaderOnly,
            Mode::MultiNodeReaderOnly,
            Mode::SingleNodeSingleWriter,
            Mode::SingleNodeMultiWriter,
        ] {
            assert_eq!(check_capability(&capability(mode, MountVolume::default())), Ok(mode));
        }
        for mode in [Mode::MultiNodeSingleWriter, Mode::MultiNodeMultiWriter] {
            let refused = check_capability(&capability(mode, MountVolume::default()));
            assert_eq!(refused, Err(CapabilityError::Writers(mode.as_str_name())));
        }
    }

    #[test]
    fn what_a_volume_cannot_be_is_named() {
        let good = capability(Mode::MultiNodeReaderOnly, MountVolume::default());
        let flags = |flag: &str| MountVolume { mount_flags: vec![flag.to_owned()], ..MountVolume::default() };
        for flag in MOUNT_FLAGS {
            let accepted = check_capability(&capability(Mode::MultiNodeReaderOnly, flags(flag)));
            assert_eq!(accepted, Ok(Mode::MultiNodeReaderOnly), "{flag}");
        }
        let ext4 = MountVolume { fs_type: "ext4".to_owned(), ..MountVolume::default() };
        for (bad, expected) in [
            (VolumeCapability::default(), CapabilityError::Missing("type")),
            (VolumeCapability { access_mode: None, ..good.clone() }, CapabilityError::Missing("mode")),
            (capability(Mode::Unknown, MountVolume::default()), CapabilityError::Missing("mode")),
            (
                VolumeCapability { access_type: Some(AccessType::Block(BlockVolume {})), ..good },
                CapabilityError::Block,
            ),
            (capability(Mode::MultiNodeReaderOnly, flags("rw")), CapabilityError::MountFlag("rw".to_owned())),
            (capability(Mode::MultiNodeReaderOnly, ext4), CapabilityError::FsType("ext4".to_owned())),
        ] {
            assert_eq!(check_capability(&bad), Err(expected));
        }
    }
}

//! The capabilities that a call lists.

use stowage_csi_plugin::check_capability;
use stowage_csi_proto::csi::v1::VolumeCapability;

/// Why a list of capabilities is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CapabilityError {
    #[error("the request has no volume capabilities; the provisioner always sends some")]
    None,
    #[error(transparent)]
    Unsupported(#[from] stowage_csi_plugin::CapabilityError),
}

/// Refuses a list in which one cannot be had.
pub(crate) fn check(capabilities: &[VolumeCapability]) -> Result<(), CapabilityError> {
    if capabilities.is_empty() {
        return Err(CapabilityError::None);
    }
    for capability in capabilities {
        check_capability(capability)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use stowage_csi_plugin::CapabilityError as Reason;
    use stowage_csi_proto::csi::v1::volume_capability::access_mode::Mode;
    use stowage_csi_proto::csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};

    use super::*;

    #[test]
    fn one_bad_capability_refuses_the_list() {
        let good = VolumeCapability {
            access_mode: Some(AccessMode { mode: Mode::MultiNodeReaderOnly.into() }),
            access_type: Some(AccessType::Mount(MountVolume::default())),
        };
        let block = VolumeCapability { access_type: Some(AccessType::Block(BlockVolume {})), ..good.clone() };
        assert_eq!(check(std::slice::from_ref(&good)), Ok(()));
        assert_eq!(check(&[good, block]), Err(Reason::Block.into()));
        assert_eq!(check(&[]), Err(CapabilityError::None));
    }
}

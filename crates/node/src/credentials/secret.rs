//! The pod's own pull secret, as `nodePublishSecretRef` names it.

pub(crate) use stowage_registry::{PullSecretError as SecretError, credential_from_secret as lookup};

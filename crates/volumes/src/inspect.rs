//! What volume a reference would become, with nothing fetched but the manifest.

use stowage_artifact::{Platform, VolumeAttributes};
use stowage_registry::Registry;

use crate::error::PublishError;
use crate::origin::Origin;
use crate::request::Access;
use crate::resolve::{Resolved, Resolver};

/// Resolves `attributes` and plans the volume, without a store.
pub async fn inspect(
    registry: &Registry,
    attributes: &VolumeAttributes,
    access: &Access,
    platform: &Platform,
) -> Result<Resolved, PublishError> {
    let origin = Origin::Registry(registry.repository(&attributes.reference, access.credential.clone()));
    Resolver { cache: None, origin: &origin, principal: &access.principal, attributes, platform }
        .resolve(None)
        .await
        .map(std::sync::Arc::unwrap_or_clone)
}

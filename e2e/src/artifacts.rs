//! `CachedArtifact`: the kind, its definition in a cluster, the pods that the controller makes for it.

use anyhow::{Context as _, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};

/// The name of the definition.
const DEFINITION: &str = "cachedartifacts.stowage.dev";
/// The label that the controller gives every pod of a `CachedArtifact`.
pub(crate) const POD_LABEL: &str = "stowage.dev/cached-artifact";

/// The objects of a namespace.
pub(crate) fn api(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("stowage.dev", "v1alpha1", "CachedArtifact");
    let resource = ApiResource::from_gvk_with_plural(&kind, "cachedartifacts");
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// The definition of the kind, where the cluster has it.
pub(crate) async fn definition(client: &Client) -> Result<Option<CustomResourceDefinition>> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .get_opt(DEFINITION)
        .await
        .with_context(|| format!("cannot look for the definition {DEFINITION}"))
}

//! The DaemonSet of an object: one pod for each node, whose only container holds the volume.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{
    CSIVolumeSource, Capabilities, Container, LocalObjectReference, PodSecurityContext, PodSpec,
    PodTemplateSpec, ResourceRequirements, SeccompProfile, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource as _;
use stowage_artifact::VolumeAttributes;

use super::{MANAGER, PrefetchOptions};
use crate::crd::{CachedArtifact, CachedArtifactSpec};
use crate::names::{
    ARTIFACT_LABEL, COMPONENT_LABEL, DIGEST_ANNOTATION, DIGEST_LABEL, NAME_LABEL, VOLUME_LABEL,
    artifact_label, daemon_set, digest_label, volume_label,
};

/// The user of the distroless images, which owns nothing on a node.
const NOBODY: i64 = 65532;
const VOLUME: &str = "artifact";
const MOUNT_PATH: &str = "/artifact";

/// What is to be on the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    /// The reference by its digest.
    pub(crate) reference: String,
    pub(crate) digest: String,
}

impl Pin {
    /// The attributes of the pods' volume: the object's, with the reference by its digest.
    pub(crate) fn attributes(&self, attributes: &VolumeAttributes) -> BTreeMap<String, String> {
        let mut map = attributes.canonical();
        map.insert("reference".to_owned(), self.reference.clone());
        map
    }
}

/// The labels by which the pods of an object are found.
pub(crate) fn selector(object: &str) -> BTreeMap<String, String> {
    [
        (NAME_LABEL, "stowage".to_owned()),
        (COMPONENT_LABEL, "prefetch".to_owned()),
        (ARTIFACT_LABEL, artifact_label(object)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// The DaemonSet as the controller wants it; fields that are left out are not the controller's.
pub(crate) fn wanted(
    artifact: &CachedArtifact,
    attributes: &VolumeAttributes,
    pin: &Pin,
    options: &PrefetchOptions,
) -> DaemonSet {
    let object = artifact.metadata.name.as_deref().unwrap_or_default();
    let labels = selector(object);
    let mut own_labels = labels.clone();
    own_labels.insert("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned());
    let mut pod_labels = labels.clone();
    let volume = pin.attributes(attributes);
    pod_labels.insert(DIGEST_LABEL.to_owned(), digest_label(&pin.digest));
    pod_labels.insert(VOLUME_LABEL.to_owned(), volume_label(&volume));
    let surge = i32::try_from(artifact.spec.max_concurrent_nodes.max(1)).unwrap_or(i32::MAX);
    DaemonSet {
        metadata: ObjectMeta {
            name: Some(daemon_set(object)),
            namespace: artifact.metadata.namespace.clone(),
            labels: Some(own_labels),
            owner_references: artifact.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(DaemonSetSpec {
            selector: LabelSelector { match_labels: Some(labels), match_expressions: None },
            revision_history_limit: Some(1),
            // The old pin stays on a node until the new one is ready there.
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_surge: Some(IntOrString::Int(surge)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: Some([(DIGEST_ANNOTATION.to_owned(), pin.digest.clone())].into()),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(artifact, volume, options)),
            },
            ..DaemonSetSpec::default()
        }),
        status: None,
    }
}

/// The nodes that are meant; the plugin is on those with Linux, and where it is not, no pod of ours can start.
fn node_selector(spec: &CachedArtifactSpec) -> BTreeMap<String, String> {
    let mut labels = spec.node_selector.clone();
    labels.entry("kubernetes.io/os".to_owned()).or_insert_with(|| "linux".to_owned());
    labels
}

/// A pod that passes the restricted Pod Security Standard.
fn pod(artifact: &CachedArtifact, volume: BTreeMap<String, String>, options: &PrefetchOptions) -> PodSpec {
    let spec = &artifact.spec;
    let container = Container {
        name: "pause".to_owned(),
        image: Some(options.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec!["pause".to_owned()]),
        resources: Some(spec.resources.clone().unwrap_or_else(small)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        // A volume that no container mounts is skipped by some runtimes.
        volume_mounts: Some(vec![VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: MOUNT_PATH.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    };
    let secret = spec.pull_secret_ref.as_ref();
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(1),
        node_selector: Some(node_selector(spec)),
        tolerations: Some(spec.tolerations.clone()).filter(|list| !list.is_empty()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(NOBODY),
            run_as_group: Some(NOBODY),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container],
        volumes: Some(vec![Volume {
            name: VOLUME.to_owned(),
            csi: Some(CSIVolumeSource {
                driver: options.driver_name.clone(),
                read_only: Some(true),
                volume_attributes: Some(volume),
                node_publish_secret_ref: secret
                    .map(|secret| LocalObjectReference { name: secret.name.clone() }),
                fs_type: None,
            }),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    }
}

fn small() -> ResourceRequirements {
    let of = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Quantity((*value).to_owned()))).collect()
    };
    ResourceRequirements {
        requests: Some(of(&[("cpu", "1m"), ("memory", "16Mi")])),
        limits: Some(of(&[("memory", "64Mi")])),
        claims: None,
    }
}

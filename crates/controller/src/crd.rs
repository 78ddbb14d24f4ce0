//! `CachedArtifact`: an artifact that is to be on nodes before the first pod asks for it (`docs/reference/crd.md`).

#![allow(clippy::duplicated_attributes, reason = "each printer column has a name and a type of its own")]

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, CustomResourceExt as _};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use stowage_artifact::VolumeAttributes;

/// The group of everything that Stowage names in Kubernetes.
pub const GROUP: &str = "stowage.dev";
/// The shortest time between two questions for a tag.
pub const SHORTEST_INTERVAL: Duration = Duration::from_mins(1);
/// Nodes that fetch a new version at the same time, unless the object says otherwise.
pub const DEFAULT_CONCURRENT_NODES: u32 = 10;

/// What is to be on the nodes, and on which.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "stowage.dev",
    version = "v1alpha1",
    kind = "CachedArtifact",
    plural = "cachedartifacts",
    shortname = "cart",
    category = "stowage",
    namespaced,
    status = "CachedArtifactStatus",
    derive = "PartialEq",
    doc = "An artifact that is kept on nodes, so that pods find it there. It costs one small pod for each node.",
    printcolumn(name = "Reference", type_ = "string", json_path = ".spec.volumeAttributes.reference"),
    printcolumn(
        name = "Resolved",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Resolved\")].status"
    ),
    printcolumn(
        name = "Cached",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Cached\")].status"
    ),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.nodes.ready"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.nodes.desired"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.nodes.failed", priority = 1),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.sizeBytes", priority = 1),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.resolvedDigest", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct CachedArtifactSpec {
    /// The volume that pods will ask for, in the words of their volumeAttributes: what is cached is exactly what
    /// such a volume needs.
    #[schemars(schema_with = "volume_attributes")]
    pub volume_attributes: BTreeMap<String, String>,
    /// A pull secret in this namespace. Nodes use it; the controller reads it only in the namespaces that it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret_ref: Option<PullSecretRef>,
    /// How often the registry is asked again what a tag stands for: 0 for once, else at least 1m.
    #[serde(default = "never", skip_serializing_if = "is_never")]
    #[schemars(schema_with = "resolve_interval")]
    pub resolve_interval: String,
    /// Only nodes with these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that do not keep the artifact away from a node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// Of the container that does nothing but hold the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Nodes that fetch a new version at the same time. Nodes that have no version yet do not wait for each other.
    #[serde(default = "concurrent_nodes")]
    #[schemars(schema_with = "max_concurrent_nodes")]
    pub max_concurrent_nodes: u32,
}

/// A secret of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullSecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What has become of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CachedArtifactStatus {
    /// The generation of the object that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The reference that was resolved, as the object had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_reference: Option<String>,
    /// The reference by its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_reference: Option<String>,
    /// What the reference stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_digest: Option<String>,
    /// When the registry last said what the reference stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Time>,
    /// Bytes of the volume's files, so far as the manifest tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// How many nodes have it.
    #[serde(default)]
    pub nodes: NodeNumbers,
    /// Why nodes do not have it, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// `Resolved` and `Cached`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Nodes by what they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeNumbers {
    /// Nodes that are to have it.
    pub desired: i32,
    /// Nodes that have been told of the current version.
    pub updated: i32,
    /// Nodes that have the current version.
    pub ready: i32,
    /// Nodes that cannot have it now.
    pub failed: i32,
}

/// Why a node does not have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The node; empty where no pod could be made for it.
    pub node: String,
    /// The reason of the event or of the pod's state, such as `ArtifactPullFailed`.
    pub reason: String,
    /// What the node or the API server says.
    pub message: String,
}

/// A time that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("resolveInterval `{0}` is no time; write 0 for never, or at least 1m, such as 10m or 1h30m")]
pub struct IntervalError(String);

/// The definition has no YAML form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the definition of CachedArtifact cannot be written as YAML: {0}")]
pub struct YamlError(String);

impl CachedArtifactSpec {
    /// The time after which a tag is resolved anew; `None` for never.
    pub fn interval(&self) -> Result<Option<Duration>, IntervalError> {
        let text = self.resolve_interval.trim();
        let refused = || IntervalError(text.chars().take(40).collect());
        match go_duration(text).ok_or_else(refused)? {
            Duration::ZERO => Ok(None),
            interval if interval < SHORTEST_INTERVAL => Err(refused()),
            interval => Ok(Some(interval)),
        }
    }
}

/// The definition that goes into the cluster.
pub fn definition() -> CustomResourceDefinition {
    let mut definition = CachedArtifact::crd();
    // An uninstalled chart must not take the objects of all namespaces with it.
    let annotations = definition.metadata.annotations.get_or_insert_default();
    annotations.insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
    definition
}

/// The definition as YAML, for `kubectl apply`.
pub fn yaml() -> Result<String, YamlError> {
    serde_saphyr::to_string(&definition()).map_err(|error| YamlError(error.to_string()))
}

/// Hours, minutes and seconds in the form of Go and of CEL: `1h30m`, `90s`, `0`.
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0_u64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..end].parse().ok()?;
        let unit = match rest.as_bytes()[end] {
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[end + 1..];
    }
    (!text.is_empty()).then(|| Duration::from_secs(seconds))
}

fn never() -> String {
    "0".to_owned()
}

fn is_never(text: &str) -> bool {
    text == "0"
}

fn concurrent_nodes() -> u32 {
    DEFAULT_CONCURRENT_NODES
}

fn volume_attributes(_: &mut SchemaGenerator) -> Schema {
    let keys = VolumeAttributes::KEYS.map(|key| format!("'{key}'")).join(", ");
    json_schema!({
        "description": "The volume that pods will ask for, in the words of their volumeAttributes: what is cached is exactly what such a volume needs.",
        "type": "object",
        "additionalProperties": { "type": "string", "maxLength": 16384 },
        "minProperties": 1,
        "maxProperties": VolumeAttributes::KEYS.len(),
        "x-kubernetes-validations": [
            {
                "rule": "'reference' in self && self['reference'] != ''",
                "message": "reference is required: name what to cache, such as registry.example/models/llama:v1",
            },
            {
                "rule": format!("self.all(key, key in [{keys}])"),
                "message": format!("only these attributes are known: {}", VolumeAttributes::KEYS.join(", ")),
            },
            {
                "rule": "!('pullPolicy' in self) || self['pullPolicy'] != 'Never'",
                "message": "pullPolicy Never fetches nothing; use IfNotPresent or Always",
            },
        ],
    })
}

fn resolve_interval(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "How often the registry is asked again what a tag stands for: 0 for once, else at least 1m.",
        "type": "string",
        "default": "0",
        "maxLength": 20,
        "pattern": "^(0|([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?)$",
        "x-kubernetes-validations": [{
            "rule": "self == '0' || (self != '' && (duration(self) == duration('0s') || duration(self) >= duration('1m')))",
            "message": "resolveInterval is 0 for never, or at least 1m, such as 10m or 1h30m",
        }],
    })
}

fn max_concurrent_nodes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "Nodes that fetch a new version at the same time. Nodes that have no version yet do not wait for each other.",
        "type": "integer",
        "format": "int32",
        "default": DEFAULT_CONCURRENT_NODES,
        "minimum": 1,
        "maximum": 1000,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(value: Value) -> Result<CachedArtifactSpec, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn an_object_needs_nothing_but_a_reference() {
        let spec = spec(json!({ "volumeAttributes": { "reference": "r.example/a:v1" } })).unwrap();
        assert_eq!(spec.interval(), Ok(None));
        assert_eq!(spec.max_concurrent_nodes, 10);
        assert_eq!(spec.pull_secret_ref, None);
    }

    /// The API server refuses unknown fields by the schema; one of a newer schema must not blind us to all objects.
    #[test]
    fn a_field_of_a_newer_definition_is_passed_over() {
        let attributes = json!({ "reference": "r.example/a:v1" });
        assert!(spec(json!({ "volumeAttributes": attributes, "newer": {} })).is_ok());
        assert!(spec(json!({ "newer": {} })).is_err());
    }

    #[test]
    fn intervals_are_zero_or_at_least_a_minute() {
        let interval = |text: &str| {
            CachedArtifactSpec { resolve_interval: text.to_owned(), ..CachedArtifactSpec::default() }
                .interval()
        };
        for (text, seconds) in [("1m", 60), ("90s", 90), ("1h30m", 5400), ("24h", 86400)] {
            assert_eq!(interval(text), Ok(Some(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["0", "0s", "0m"] {
            assert_eq!(interval(text), Ok(None), "{text}");
        }
        for text in ["", "59s", "1", "-1m", "1d", "m", "99999999999999999999h"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_definition_has_what_the_reference_promises() {
        let definition = serde_json::to_value(definition()).unwrap();
        assert_eq!(definition["metadata"]["name"], "cachedartifacts.stowage.dev");
        assert_eq!(definition["spec"]["scope"], "Namespaced");
        assert_eq!(definition["spec"]["names"]["shortNames"], json!(["cart"]));
        let version = &definition["spec"]["versions"][0];
        assert_eq!(version["name"], "v1alpha1");
        assert_eq!(version["subresources"], json!({ "status": {} }));
        let columns: Vec<&str> = version["additionalPrinterColumns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| column["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            columns,
            ["Reference", "Resolved", "Cached", "Ready", "Desired", "Failed", "Bytes", "Digest", "Age"]
        );
        let schema = &version["schema"]["openAPIV3Schema"]["properties"];
        let spec = &schema["spec"]["properties"];
        let rules = spec["volumeAttributes"]["x-kubernetes-validations"].as_array().unwrap();
        assert!(rules[1]["rule"].as_str().unwrap().contains("'subPath'"));
        assert!(spec["resolveInterval"]["x-kubernetes-validations"][0]["rule"].is_string());
        assert_eq!(spec["maxConcurrentNodes"]["default"], 10);
        assert_eq!(schema["spec"]["required"], json!(["volumeAttributes"]));
        for field in
            ["observedGeneration", "resolvedReference", "resolvedDigest", "sizeBytes", "nodes", "failures"]
        {
            assert!(schema["status"]["properties"][field].is_object(), "{field}");
        }
    }
}

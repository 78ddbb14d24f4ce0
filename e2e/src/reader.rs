//! Pods that read a volume: our own image, as `stowage probe-volume`.

use serde_json::{Value, json};

use crate::labels;
use crate::registry::Sample;

/// Where the volume is mounted in a reader.
const MOUNT: &str = "/volume";

/// What a reader mounts.
#[derive(Clone, Debug)]
enum Source {
    /// An inline volume: attributes, and the name of a secret.
    Inline(Vec<(String, String)>, Option<String>),
    /// A claim of this name.
    Claim(String),
    /// An `image` volume of this reference.
    Image(String),
}

/// A pod to be. Its names are short; the scenario is put in front of them.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    name: String,
    source: Source,
    read_only: bool,
    arguments: Vec<String>,
    root: bool,
    node: Option<String>,
}

impl Reader {
    fn new(name: &str, source: Source) -> Self {
        Self { name: name.into(), source, read_only: true, arguments: Vec::new(), root: false, node: None }
    }

    /// A reader of an inline volume of this reference.
    pub(crate) fn inline(name: &str, reference: &str) -> Self {
        let attributes = vec![("reference".to_owned(), reference.to_owned())];
        Self::new(name, Source::Inline(attributes, None))
    }

    /// A reader of a claim.
    pub(crate) fn claim(name: &str, claim: &str) -> Self {
        Self::new(name, Source::Claim(claim.into()))
    }

    /// A reader of an `image` volume.
    pub(crate) fn image(name: &str, reference: &str) -> Self {
        Self::new(name, Source::Image(reference.into()))
    }

    /// Adds a volume attribute of an inline volume.
    pub(crate) fn attribute(mut self, key: &str, value: &str) -> Self {
        if let Source::Inline(attributes, _) = &mut self.source {
            attributes.push((key.to_owned(), value.to_owned()));
        }
        self
    }

    /// Names the pull secret of an inline volume.
    pub(crate) fn secret(mut self, name: &str) -> Self {
        if let Source::Inline(_, secret) = &mut self.source {
            *secret = Some(name.to_owned());
        }
        self
    }

    /// Wants exactly the files of the sample.
    pub(crate) fn expects(mut self, sample: &Sample) -> Self {
        self.arguments.push("--exact".into());
        self.arguments
            .extend(sample.files.iter().map(|file| format!("--expect={}={}", file.path, file.digest)));
        self
    }

    /// Wants every attempt to write to fail, as root in the container.
    pub(crate) fn fails_to_write_as_root(mut self) -> Self {
        self.arguments.push("--write-must-fail".into());
        self.root = true;
        self
    }

    /// Leaves `readOnly` out of the volume and the mount.
    pub(crate) fn without_read_only(mut self) -> Self {
        self.read_only = false;
        self
    }

    /// Reads again and again until the pod is deleted.
    pub(crate) fn holds(mut self) -> Self {
        self.arguments.push("--hold".into());
        self
    }

    /// Runs on this node, whatever its taints.
    pub(crate) fn on(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    /// Whether it was told where to run.
    pub(crate) fn is_placed(&self) -> bool {
        self.node.is_some()
    }

    /// The pod's short name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The manifest, for this scenario.
    pub(crate) fn manifest(&self, scenario: &str, image: &str, driver: &str) -> Value {
        let mut arguments = vec![json!("probe-volume"), json!(format!("--path={MOUNT}"))];
        arguments.extend(self.arguments.iter().map(|argument| json!(argument)));
        let mut mount = json!({ "name": "volume", "mountPath": MOUNT });
        if self.read_only {
            mount["readOnly"] = json!(true);
        }
        let mut spec = json!({
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 5,
            "securityContext": self.pod_security(),
            "containers": [{
                "name": "reader",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": arguments,
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": if self.root { json!({}) } else { json!({ "drop": ["ALL"] }) },
                },
                "volumeMounts": [mount],
            }],
            "volumes": [self.volume(scenario, driver)],
        });
        if let Some(node) = &self.node {
            spec["tolerations"] = json!([{ "operator": "Exists" }]);
            spec["affinity"] = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{
                    "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }],
                }],
            }}});
        }
        let name = labels::name(scenario, &self.name);
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec })
    }

    /// As the restricted Pod Security standard wants it, unless the reader has to be root.
    fn pod_security(&self) -> Value {
        let user = if self.root { 0 } else { 65532 };
        json!({
            "runAsNonRoot": !self.root,
            "runAsUser": user,
            "runAsGroup": user,
            "seccompProfile": { "type": "RuntimeDefault" },
        })
    }

    fn volume(&self, scenario: &str, driver: &str) -> Value {
        match &self.source {
            Source::Inline(attributes, secret) => {
                let attributes: serde_json::Map<String, Value> =
                    attributes.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
                let mut csi = json!({ "driver": driver, "volumeAttributes": attributes });
                if self.read_only {
                    csi["readOnly"] = json!(true);
                }
                if let Some(name) = secret {
                    csi["nodePublishSecretRef"] = json!({ "name": labels::name(scenario, name) });
                }
                json!({ "name": "volume", "csi": csi })
            }
            Source::Claim(claim) => {
                let claim = labels::name(scenario, claim);
                json!({ "name": "volume", "persistentVolumeClaim": { "claimName": claim, "readOnly": true } })
            }
            Source::Image(reference) => {
                json!({ "name": "volume", "image": { "reference": reference, "pullPolicy": "IfNotPresent" } })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::registry::SampleFile;

    fn sample() -> Sample {
        let file = |path: &str| SampleFile { path: path.into(), digest: format!("sha256:{path}"), size: 1 };
        Sample {
            reference: "10.0.0.1:5000/a:v1".into(),
            digest: "sha256:m".into(),
            files: vec![file("a.txt"), file("b=c")],
        }
    }

    fn pod(reader: &Reader) -> Pod {
        serde_json::from_value(reader.manifest("play", "img", "csi.stowage.dev")).unwrap()
    }

    #[test]
    fn an_inline_volume_is_written_as_kubelet_wants_it() {
        let reader = Reader::inline("r", "10.0.0.1:5000/a:v1").attribute("pullPolicy", "Never").secret("s");
        let spec = pod(&reader.expects(&sample()).holds().on("node-1")).spec.unwrap();
        let csi = spec.volumes.unwrap().remove(0).csi.unwrap();
        assert_eq!((csi.driver.as_str(), csi.read_only), ("csi.stowage.dev", Some(true)));
        let attributes = csi.volume_attributes.unwrap();
        assert_eq!(attributes["reference"], "10.0.0.1:5000/a:v1");
        assert_eq!(attributes["pullPolicy"], "Never");
        assert_eq!(csi.node_publish_secret_ref.unwrap().name, "play-s");
        let container = &spec.containers[0];
        let expected = ["--exact", "--expect=a.txt=sha256:a.txt", "--expect=b=c=sha256:b=c", "--hold"];
        assert_eq!(container.args.as_ref().unwrap()[..2], ["probe-volume", "--path=/volume"]);
        assert_eq!(container.args.as_ref().unwrap()[2..], expected);
        let affinity = spec.affinity.unwrap().node_affinity.unwrap();
        let terms = affinity.required_during_scheduling_ignored_during_execution.unwrap().node_selector_terms;
        let field = &terms[0].match_fields.as_ref().unwrap()[0];
        assert_eq!(
            (field.key.as_str(), field.values.as_ref().unwrap()[0].as_str()),
            ("metadata.name", "node-1")
        );
    }

    #[test]
    fn readers_meet_the_restricted_standard_unless_they_have_to_be_root() {
        let claims = pod(&Reader::claim("r", "c"));
        assert_eq!(claims.metadata.name.as_deref(), Some("play-r"));
        let restricted = claims.spec.unwrap();
        let claim = restricted.volumes.as_ref().unwrap()[0].persistent_volume_claim.as_ref().unwrap();
        assert_eq!(claim.claim_name, "play-c");
        let security = restricted.security_context.unwrap();
        assert_eq!((security.run_as_non_root, security.run_as_user), (Some(true), Some(65532)));
        assert_eq!(security.seccomp_profile.unwrap().type_, "RuntimeDefault");
        let container = restricted.containers[0].security_context.clone().unwrap();
        assert_eq!(container.capabilities.unwrap().drop, Some(vec!["ALL".to_owned()]));
        let root =
            pod(&Reader::inline("r", "a.io/b").fails_to_write_as_root().without_read_only()).spec.unwrap();
        assert_eq!(root.security_context.unwrap().run_as_user, Some(0));
        assert_eq!(root.volumes.unwrap()[0].csi.as_ref().unwrap().read_only, None);
        assert_eq!(root.containers[0].volume_mounts.as_ref().unwrap()[0].read_only, None);
    }

    #[test]
    fn an_image_volume_names_its_image() {
        let spec = pod(&Reader::image("r", "10.0.0.1:5000/i:v1")).spec.unwrap();
        let image = spec.volumes.unwrap().remove(0).image.unwrap();
        assert_eq!(image.reference.as_deref(), Some("10.0.0.1:5000/i:v1"));
    }
}

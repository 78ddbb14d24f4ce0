//! Two tenants, one node, one artifact: who may read what from the store.

mod heist;
mod sharing;
mod slow;

use serde_json::json;
use stowage_artifact::Digest;
use stowage_testkit::BlobData;
use stowage_testkit::artifacts::oras_files;
use stowage_testkit::kubelet::{Pod, PublishRequest, is_uncertain};
use stowage_testkit::registry::{Access, BearerOptions, Denial, Registry, RegistryBuilder, RequestRecord};
use tonic::{Code, Status};

use super::{Model, publication, publish};
use crate::harness::{Node, Scene, digest_of, scene};
use crate::oci_layout;

const MIB: u64 = 1 << 20;
/// What a proof of possession may cost at most, in bytes of one blob.
const PROOF: u64 = 8 * (64 << 10);
const PRIVATE: &str = "team/private";

/// A user with a password, and what the pod of that user may see.
#[derive(Clone, Copy)]
struct Tenant {
    name: &'static str,
    password: &'static str,
}

const ADA: Tenant = Tenant { name: "ada", password: "ada's own" };
const CAROL: Tenant = Tenant { name: "carol", password: "carol's own" };
/// Known to the registry, without access to the artifact.
const BOB: Tenant = Tenant { name: "bob", password: "bob's own" };
/// Has nothing.
const NOBODY: Tenant = Tenant { name: "", password: "" };

impl Tenant {
    /// The pull secret of a pod, for one registry.
    fn secret(self, registry: &Registry) -> Vec<(String, String)> {
        if self.name.is_empty() {
            return Vec::new();
        }
        let auth = json!({ "username": self.name, "password": self.password });
        vec![(".dockerconfigjson".to_owned(), json!({ "auths": { registry.host(): auth } }).to_string())]
    }

    /// A volume of a new pod of this tenant.
    fn request(self, node: &Node, registry: &Registry, attributes: &[(&str, &str)]) -> PublishRequest {
        let mut request = node.plugin().inline(&Pod::new(self.name, "pod"), "model", attributes);
        request.secrets.extend(self.secret(registry));
        request
    }

    /// Whether this tenant's password came with a request.
    fn asked(self, request: &RequestRecord) -> bool {
        use base64::Engine as _;

        let pair = format!("{}:{}", self.name, self.password);
        let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        request.header("authorization") == Some(&basic)
    }
}

/// The tenants' accounts.
fn with_tenants(builder: RegistryBuilder) -> RegistryBuilder {
    builder
        .user(ADA.name, ADA.password)
        .user(CAROL.name, CAROL.password)
        .user_of(BOB.name, BOB.password, &[("bob/*", Access::Push)])
        .public("public/*")
}

async fn private_registry() -> Registry {
    with_tenants(Registry::builder().basic("root", "root")).start().await.unwrap()
}

fn denied(code: Code) -> bool {
    matches!(code, Code::PermissionDenied | Code::Unauthenticated)
}

/// Publishes, checks the file and unpublishes.
async fn served(node: &Node, request: &PublishRequest, model: &Model) {
    let volume = publish(node, request).await;
    assert_eq!(digest_of(&volume.target.join("model.bin")), model.file);
    node.plugin().unpublish(&volume).await.unwrap();
}

/// Nothing is mounted for this request, and its target is gone.
async fn refused(node: &Node, request: &PublishRequest) -> Status {
    let status = node.plugin().publish(request).await.unwrap_err();
    if is_uncertain(status.code()) {
        node.plugin().unpublish(&publication(request)).await.unwrap();
    }
    assert!(!request.target.exists(), "{status}: the target is there");
    assert!(node.mounts().is_empty(), "{status}: {:?}", node.mounts());
    status
}

fn blobs_asked(registry: &Registry, method: &str) -> usize {
    registry.traffic().count(|request| request.method.as_str() == method && request.path.contains("/blobs/"))
}

/// The digest of Ada's manifest.
fn manifest(registry: &Registry) -> Digest {
    registry.resolve(PRIVATE, "v1").unwrap()
}

#[test]
fn a_cached_private_artifact_is_served_to_those_with_access_only_and_fetched_once() {
    let bearer = |denial| Registry::builder().bearer(BearerOptions { denial, ..BearerOptions::default() });
    let kinds = [
        ("basic", Registry::builder().basic("root", "root")),
        ("bearer, 403", bearer(Denial::Forbidden)),
        ("bearer, 401", bearer(Denial::InsufficientScope)),
        ("bearer, 403 by the token endpoint", bearer(Denial::AtTokenEndpoint)),
    ];
    for (kind, builder) in kinds {
        scene(async move |scene| {
            let registry = with_tenants(builder).start().await.unwrap();
            let model = Model::push(&registry, PRIVATE, "v1", 1, 5 * MIB);
            let mut node = scene.node().registry(&registry).start().await;
            served(&node, &ADA.request(&node, &registry, &model.attributes()), &model).await;
            let once = registry.bytes_served(&model.file);
            assert_eq!(once, 5 * MIB, "{kind}");

            // From the warm cache, in every way to name it; also after a restart.
            let pinned = registry.pinned(PRIVATE, &manifest(&registry));
            for restarted in [false, true] {
                if restarted {
                    node.restart().await;
                }
                let wrong = Tenant { password: "wrong", ..ADA };
                for (tenant, only) in [(BOB, None), (NOBODY, None), (wrong, Some(Code::Unauthenticated))] {
                    for reference in [&model.reference, &pinned] {
                        for policy in ["IfNotPresent", "Always", "Never"] {
                            let attributes = [("reference", reference.as_str()), ("pullPolicy", policy)];
                            let request = tenant.request(&node, &registry, &attributes);
                            let status = refused(&node, &request).await;
                            let expected =
                                if policy == "Never" { Some(Code::PermissionDenied) } else { only };
                            assert!(denied(status.code()), "{kind}, {}, {policy}: {status}", tenant.name);
                            assert!(expected.is_none_or(|code| code == status.code()), "{kind}: {status}");
                        }
                    }
                }
            }
            assert_eq!(registry.bytes_served(&model.file), once, "{kind}");

            // The host has delivered these bytes to the node: its word is enough.
            let heads = blobs_asked(&registry, "HEAD");
            served(&node, &CAROL.request(&node, &registry, &model.attributes()), &model).await;
            assert_eq!(registry.bytes_served(&model.file), once, "{kind}: a second download");
            assert_eq!(blobs_asked(&registry, "HEAD"), heads + 1, "{kind}: the one proof");
            // Known from now on.
            served(&node, &CAROL.request(&node, &registry, &model.attributes()), &model).await;
            assert_eq!(blobs_asked(&registry, "HEAD"), heads + 1, "{kind}");
            node.nothing_left().await;
        });
    }
}

#[test]
fn another_host_proves_possession_by_a_few_ranges() {
    scene(async |scene| {
        let (first, second) = (private_registry().await, private_registry().await);
        let model = Model::push(&first, PRIVATE, "v1", 1, 20 * MIB);
        let copy = Model::push(&second, "carol/copy", "v1", 1, 20 * MIB);
        let small = Model::push(&first, "team/small", "v1", 2, MIB / 2);
        let small_copy = Model::push(&second, "carol/small", "v1", 2, MIB / 2);
        let node = scene.node().registry(&first).registry(&second).start().await;
        for (model, copy, most) in [(&model, &copy, PROOF), (&small, &small_copy, MIB / 2)] {
            served(&node, &ADA.request(&node, &first, &model.attributes()), model).await;
            served(&node, &CAROL.request(&node, &second, &copy.attributes()), copy).await;
            let proof = second.bytes_served(&copy.file);
            assert!((1..=most).contains(&proof), "the proof took {proof} bytes");
            served(&node, &CAROL.request(&node, &second, &copy.attributes()), copy).await;
            assert_eq!(second.bytes_served(&copy.file), proof, "a proof counts for good");
        }
        // Possession at one host is no access at the other.
        let status = refused(&node, &BOB.request(&node, &first, &model.attributes())).await;
        assert!(denied(status.code()), "{status}");
        node.nothing_left().await;
    });
}

#[test]
fn never_asks_no_registry_and_needs_a_grant() {
    scene(async |scene| {
        let registry = private_registry().await;
        let model = Model::push(&registry, PRIVATE, "v1", 1, 2 * MIB);
        let mut node = scene.node().registry(&registry).start().await;
        let never = [("reference", model.reference.as_str()), ("pullPolicy", "Never")];
        let status = refused(&node, &ADA.request(&node, &registry, &never)).await;
        assert_eq!(status.code(), Code::NotFound, "{status}");
        assert!(status.message().contains("Never"), "{status}");
        served(&node, &ADA.request(&node, &registry, &model.attributes()), &model).await;

        registry.go_offline().await;
        let asked = registry.traffic().requests().len();
        for restarted in [false, true] {
            if restarted {
                node.restart().await;
            }
            served(&node, &ADA.request(&node, &registry, &never), &model).await;
            for tenant in [CAROL, BOB, NOBODY] {
                let status = refused(&node, &tenant.request(&node, &registry, &never)).await;
                assert_eq!(status.code(), Code::PermissionDenied, "{}: {status}", tenant.name);
            }
        }
        assert_eq!(registry.traffic().requests().len(), asked, "the registry was asked");
        node.nothing_left().await;
    });
}

#[test]
fn an_anonymous_artifact_is_everybodys() {
    scene(async |scene| {
        let registry = private_registry().await;
        let model = Model::push(&registry, "public/model", "v1", 1, 2 * MIB);
        let node = scene.node().registry(&registry).start().await;
        served(&node, &NOBODY.request(&node, &registry, &model.attributes()), &model).await;
        registry.go_offline().await;
        for policy in ["IfNotPresent", "Never"] {
            for tenant in [NOBODY, ADA, BOB] {
                let attributes = [("reference", model.reference.as_str()), ("pullPolicy", policy)];
                served(&node, &tenant.request(&node, &registry, &attributes), &model).await;
            }
        }
        assert_eq!(registry.bytes_served(&model.file), 2 * MIB);
        node.nothing_left().await;
    });
}

#[test]
fn what_was_pulled_from_a_layout_is_served_offline() {
    scene(async |scene| {
        let artifact = oras_files([("model.bin", BlobData::generated(1, 2 * MIB))]).build().unwrap();
        let file = artifact.blobs().last().unwrap().0.clone();
        let directory = scene.root().join("layout");
        oci_layout::write(&directory, &artifact, "v1");
        let reference = "registry.example/team/model:v1";
        let mut node = scene.node().build();
        pull(&scene, &node, &directory, reference).await;
        node.start().await;

        let plugin = node.plugin();
        for (policy, namespace) in [("Never", "team"), ("IfNotPresent", "other")] {
            let attributes = [("reference", reference), ("pullPolicy", policy)];
            let request = plugin.inline(&Pod::new(namespace, "pod"), "model", &attributes);
            let volume = publish(&node, &request).await;
            assert_eq!(digest_of(&volume.target.join("model.bin")), file);
            plugin.unpublish(&volume).await.unwrap();
        }
        let other = [("reference", "registry.example/team/other:v1"), ("pullPolicy", "Never")];
        let status = refused(&node, &plugin.inline(&Pod::new("team", "pod"), "model", &other)).await;
        assert_eq!(status.code(), Code::NotFound, "{status}");
        // The same bytes under another name are another repository's.
        let pinned = format!("registry.example/evil/model@{}", artifact.digest());
        let other = [("reference", pinned.as_str()), ("pullPolicy", "Never")];
        let status = refused(&node, &plugin.inline(&Pod::new("evil", "pod"), "model", &other)).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        node.nothing_left().await;
    });
}

/// `stowage pull oci:DIR --as REF`, before the node has the store.
async fn pull(scene: &Scene, node: &Node, directory: &std::path::Path, reference: &str) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_stowage"))
        .env("STOWAGE_MIN_FREE", "1")
        .args(["pull", &format!("oci:{}", directory.display()), "--as", reference])
        .env("STOWAGE_STORE", node.store())
        .env("HOME", scene.root())
        .env_remove("DOCKER_CONFIG")
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

//! `docker-registry` as a pull-through mirror, before another `docker-registry` and before one with accounts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use stowage_artifact::{Algorithm, Digest};
use stowage_testkit::artifacts::Layer;
use stowage_testkit::docker_registry::{DockerRegistry, Logged, Remote};
use stowage_testkit::kubelet::{Pod, Publication, PublishRequest, RetryPolicy};
use stowage_testkit::registry::{BearerOptions, Registry};
use stowage_testkit::tools::Tool;
use stowage_testkit::{Artifact, BlobData, Fault, Target, artifacts};
use tonic::Code;

use super::{MIB, same_bytes, tool};
use crate::harness::{Node, Scene, scene, until};
use crate::oci_layout;

const REPOSITORY: &str = "team/model";

/// A large file of several parts, and a small one.
fn files() -> [(&'static str, BlobData); 2] {
    [("model.bin", BlobData::generated(11, 40 * MIB + 7)), ("README.md", BlobData::from("# model\n"))]
}

fn artifact() -> Artifact {
    artifacts::oras_files(files()).build().unwrap()
}

/// Writes the `hosts.toml` of a registry, and gives the directory of all of them.
fn write_hosts(scene: &Scene, registry: &str, text: &str) -> PathBuf {
    let root = scene.root().join("certs.d");
    let directory = root.join(format!("{}_", registry.replace(':', "_")));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("hosts.toml"), text).unwrap();
    root
}

fn request(node: &Node, reference: &str, secret: &str) -> PublishRequest {
    let mut request = node.plugin().inline(&Pod::new("team", "web-0"), "model", &[("reference", reference)]);
    request.secrets.insert(".dockerconfigjson".to_owned(), secret.to_owned());
    request
}

/// Publishes, compares every file with what was pushed, and unpublishes.
async fn mounted(node: &Node, request: &PublishRequest) {
    let policy = RetryPolicy::quick(Duration::from_mins(2));
    let volume: Publication = node
        .plugin()
        .publish_until(request, policy)
        .await
        .unwrap_or_else(|failure| panic!("{failure}\n{}", node.log()));
    for (name, data) in &files() {
        assert!(same_bytes(&volume.target.join(name), data), "{name} has other bytes than were pushed");
    }
    node.plugin().unpublish(&volume).await.unwrap();
}

/// The same plugin on a node that has nothing yet.
async fn with_an_empty_store(node: &mut Node) {
    node.nothing_left().await;
    node.stop().await;
    std::fs::remove_dir_all(node.store()).unwrap();
    node.start().await;
}

/// Requests for content, by whom they were made.
fn reads(requests: &[Logged], agent: &str) -> Vec<Logged> {
    let is_read = |request: &&Logged| {
        request.method == "GET"
            && request.agent.starts_with(agent)
            && ["/blobs/", "/manifests/"].iter().any(|part| request.path.contains(part))
    };
    requests.iter().filter(is_read).cloned().collect()
}

/// Copies the artifact into a registry without accounts.
async fn push(skopeo: &Tool, registry: &DockerRegistry, home: &Path) -> String {
    let directory = home.join("layout");
    oci_layout::write(&directory, &artifact(), "v1");
    let reference = registry.reference(REPOSITORY, "v1");
    let copy = [
        "copy".to_owned(),
        "--preserve-digests".to_owned(),
        format!("--dest-cert-dir={}", registry.cert_dir().unwrap().display()),
        format!("oci:{}:v1", directory.display()),
        format!("docker://{reference}"),
    ];
    skopeo.run(&copy).await.unwrap();
    std::fs::remove_dir_all(directory).unwrap();
    reference
}

#[test]
fn a_pull_through_mirror_before_another_registry_delivers_every_byte() {
    let (Some(_), Some(skopeo)) = (tool("interop", "docker-registry"), tool("interop", "skopeo")) else {
        return;
    };
    scene(async move |scene| {
        let mut upstream = DockerRegistry::open().await.unwrap();
        let remote = Remote {
            url: format!("https://{}", upstream.host()),
            ca_file: Some(upstream.ca_file()),
            account: None,
        };
        let mirror = DockerRegistry::mirror(&remote).await.unwrap();
        let reference = push(&skopeo, &upstream, scene.root()).await;
        let [asking, authoritative] = [false, true].map(|authoritative| {
            format!(
                "server = \"https://{}\"\nca = {:?}\n[host.\"https://{}\"]\nca = {:?}\nstowage_authoritative = {authoritative}\n",
                upstream.host(),
                upstream.ca_file(),
                mirror.host(),
                mirror.ca_file(),
            )
        });
        let root = write_hosts(&scene, upstream.host(), &asking);
        // Nothing but the file says how either of them is reached.
        let mut node = scene.node().arg("--hosts-dir", root).start().await;
        let request = request(&node, &reference, &upstream.docker_config());

        mounted(&node, &request).await;
        let all = upstream.requests().unwrap();
        assert_eq!(reads(&all, "stowage/"), [], "we read nothing from the registry itself");
        let asked = |request: &&Logged| request.agent.starts_with("stowage/") && request.method == "HEAD";
        assert!(all.iter().filter(asked).count() >= 3, "and asked it about the manifest and both blobs");
        let blobs: Vec<Digest> = artifact().blobs().iter().map(|(digest, _)| digest.clone()).collect();
        // A cold mirror streams a blob and stores it by a second request.
        until("the mirror has stored the blobs", || blobs.iter().skip(1).all(|blob| mirror.has_stored(blob)))
            .await;
        let by_mirror = reads(&upstream.requests().unwrap(), "Go-http-client").len();
        assert!(by_mirror >= 3, "the mirror read them");
        let namespace = format!("ns={}", upstream.host().replace(':', "%3A"));
        for request in reads(&mirror.requests().unwrap(), "stowage/") {
            assert!(request.path.ends_with(&namespace), "{request:?}");
        }

        // A second node costs the registry permissions alone, and gets the large blob in parts.
        let parts = |requests: &[Logged]| {
            reads(requests, "stowage/").into_iter().filter(|request| request.status == 206).count()
        };
        let before = parts(&mirror.requests().unwrap());
        with_an_empty_store(&mut node).await;
        mounted(&node, &request).await;
        let all = upstream.requests().unwrap();
        assert_eq!(reads(&all, "stowage/"), []);
        assert_eq!(
            reads(&all, "Go-http-client").len(),
            by_mirror,
            "everything came from the mirror's own copy"
        );
        assert!(parts(&mirror.requests().unwrap()) >= before + 3);
        let (fetched, size) = (node.metric("stowage_fetched_bytes_total").await, (40 * MIB + 15) as f64);
        assert!(fetched <= size * 1.001, "{fetched} bytes were fetched of {size}");

        // Without the registry nobody may read, unless the mirror is called an authority.
        with_an_empty_store(&mut node).await;
        upstream.stop().await.unwrap();
        let status = node.plugin().publish(&request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(status.message().contains(upstream.host()), "{status}");
        write_hosts(&scene, upstream.host(), &authoritative);
        mounted(&node, &request).await;
        node.nothing_left().await;
    });
}

#[test]
fn a_mirror_with_an_account_of_its_own_gives_nothing_to_a_pod_without_one() {
    let Some(_) = tool("interop", "docker-registry") else { return };
    scene(async move |scene| {
        let upstream = Registry::builder()
            .bearer(BearerOptions::default())
            .user("cache", "of its own")
            .user("ada", "open sesame")
            .start()
            .await
            .unwrap();
        upstream.push(REPOSITORY, Some("v1"), &artifact());
        let account = Some(("cache".to_owned(), "of its own".to_owned()));
        let remote = Remote { url: upstream.origin().to_owned(), ca_file: None, account };
        let mirror = DockerRegistry::mirror(&remote).await.unwrap();
        let hosts = format!(
            "server = \"{}\"\n[host.\"https://{}\"]\nca = {:?}\n",
            upstream.origin(),
            mirror.host(),
            mirror.ca_file()
        );
        let node =
            scene.node().arg("--hosts-dir", write_hosts(&scene, &upstream.host(), &hosts)).start().await;
        let reference = upstream.reference(REPOSITORY, "v1");
        let secret = |user: &str, password: &str| {
            let entry = serde_json::json!({ "username": user, "password": password });
            serde_json::json!({ "auths": { upstream.host(): entry } }).to_string()
        };
        let (right, wrong) = (secret("ada", "open sesame"), secret("ada", "open barley"));
        // Also when the mirror has it all.
        for warm in [false, true] {
            for refused in [&wrong, "{\"auths\":{}}"] {
                let status = node.plugin().publish(&request(&node, &reference, refused)).await.unwrap_err();
                assert_eq!(status.code(), Code::Unauthenticated, "warm: {warm}: {status}");
                assert!(!status.message().contains("barley"), "{status}");
            }
            mounted(&node, &request(&node, &reference, &right)).await;
        }
        let by_us = |request: &stowage_testkit::registry::RequestRecord| {
            request.header("user-agent").is_some_and(|agent| agent.starts_with("stowage/"))
        };
        let read = upstream
            .traffic()
            .count(|request| by_us(request) && request.method == "GET" && !request.path.contains("/token"));
        assert_eq!(read, 0, "the mirror delivered, with its own account");
        node.nothing_left().await;
    });
}

/// A mirror that goes by content stands before every registry. It must not hand a stranger's blob to whoever lists it.
#[test]
fn a_registry_of_a_tenants_own_gains_nothing_by_a_mirror_that_goes_by_content() {
    scene(async move |scene| {
        let [evil, honest, mirror] = [
            Registry::builder().start().await,
            Registry::builder().start().await,
            Registry::builder().start().await,
        ]
        .map(Result::unwrap);
        let stranger = BlobData::generated(21, 3 * MIB);
        let digest = stranger.digest(Algorithm::Sha256).unwrap();
        let listing = |layer: Layer| artifacts::oras_files::<&str, &str>([]).layer(layer).build().unwrap();
        let listed =
            Layer::titled("model.bin", "").declare_digest(digest.clone()).declare_size(3 * MIB).absent();
        evil.push("bob/own", Some("v1"), &listing(listed));
        evil.faults().always(Target::Digest(digest.clone()), Fault::YesToHead(3 * MIB));
        honest.push("ada/own", Some("v1"), &listing(Layer::titled("model.bin", stranger.clone())));
        for repository in ["bob/own", "ada/own"] {
            mirror.put_blob(repository, &digest, stranger.clone());
        }
        let root = scene.root().join("certs.d");
        std::fs::create_dir_all(root.join("_default")).unwrap();
        let hosts = format!("[host.\"{}\"]\n", mirror.origin());
        std::fs::write(root.join("_default/hosts.toml"), hosts).unwrap();
        let node = scene.node().registry(&evil).registry(&honest).arg("--hosts-dir", root).start().await;

        let bob = request(&node, &evil.reference("bob/own", "v1"), "{\"auths\":{}}");
        // The second time the bytes are in the store.
        for again in [false, true] {
            let status = node.plugin().publish(&bob).await.unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied, "again: {again}: {status}");
            assert!(status.message().contains(digest.hex()), "{status}");
            assert!(node.mounts().is_empty());
        }
        assert!(mirror.bytes_served(&digest) >= 3 * MIB, "the mirror would have given it away");
        // Whoever's registry can show the bytes gets them, by samples and without another download.
        let ada = request(&node, &honest.reference("ada/own", "v1"), "{\"auths\":{}}");
        let volume = node.plugin().publish(&ada).await.unwrap();
        assert!(same_bytes(&volume.target.join("model.bin"), &stranger));
        assert!(honest.bytes_served(&digest) < MIB);
        node.plugin().unpublish(&volume).await.unwrap();
        node.nothing_left().await;
    });
}

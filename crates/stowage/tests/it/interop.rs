//! Artifacts pushed by other people's clients into other people's registry: Debian's `docker-registry` with TLS and
//! a password.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use stowage_artifact::Digest;
use stowage_testkit::docker_registry::DockerRegistry;
use stowage_testkit::kubelet::{Pod, Publication, PublishRequest, RetryPolicy};
use stowage_testkit::tools::Tool;
pub(crate) use stowage_testkit::tools::needed_by as tool;
use stowage_testkit::{BlobData, artifacts};
use tonic::Code;

use crate::harness::{Node, Scene, digest_of, scene};
use crate::oci_layout;

mod charts;
mod erofs_mounts;
mod kept;
mod mirrors;
mod podman;
mod signatures;
mod trees;

const MIB: u64 = 1 << 20;
const USER: &str = "ada";
const PASSWORD: &str = "correct horse";
/// The programs of these tests.
const TOOLS: [&str; 9] =
    ["docker-registry", "htpasswd", "oras", "crane", "skopeo", "helm", "cosign", "podman", "tar"];

/// A registry with a password, a node that trusts its authority, and a directory for the clients.
struct Shop {
    registry: DockerRegistry,
    node: Node,
    home: PathBuf,
    tools: BTreeMap<&'static str, Tool>,
}

/// Runs a test with a [`Shop`], unless the programs are missing and may be.
fn shop(body: impl AsyncFnOnce(&Shop) + Send) {
    let tools = TOOLS.map(|name| Some((name, tool("interop", name)?)));
    let Some(tools) = tools.into_iter().collect::<Option<_>>() else { return };
    scene(async move |scene| {
        let shop = Shop::open(&scene, tools).await;
        body(&shop).await;
        shop.node.nothing_left().await;
    });
}

impl Shop {
    async fn open(scene: &Scene, tools: BTreeMap<&'static str, Tool>) -> Self {
        let registry = DockerRegistry::start(USER, PASSWORD).await.unwrap();
        let node = scene.node().arg("--ca", registry.ca_file()).arg("--allow-local", registry.host());
        let home = scene.root().join("home");
        std::fs::create_dir(&home).unwrap();
        std::fs::write(home.join("config.json"), registry.docker_config()).unwrap();
        Self { node: node.start().await, registry, home, tools }
    }

    /// Writes a file for a client to push.
    fn file(&self, name: &str, data: &BlobData) {
        let path = self.home.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::File::create(path).unwrap();
        for start in (0..data.size()).step_by(8 << 20) {
            file.write_all(&data.read_range(start..data.size().min(start + (8 << 20))).unwrap()).unwrap();
        }
    }

    /// `oras push` of these files, as they are named from the home directory.
    async fn oras(&self, repository: &str, files: &[&str]) -> String {
        self.oras_in(&self.home, repository, files).await
    }

    /// `oras push` of these files and directories, as they are named from this directory.
    async fn oras_in(&self, directory: &Path, repository: &str, files: &[&str]) -> String {
        let reference = self.registry.reference(repository, "v1");
        let (ca, config) = (self.registry.ca_file(), self.home.join("config.json"));
        let (ca, config) = (ca.to_str().unwrap(), config.to_str().unwrap());
        let mut arguments =
            vec!["push", "--no-tty", "--ca-file", ca, "--registry-config", config, reference.as_str()];
        arguments.extend(files);
        self.tools["oras"].clone().current_dir(directory).run(&arguments).await.unwrap();
        reference
    }

    fn crane(&self) -> Tool {
        let crane = self.tools["crane"].clone();
        crane.env("DOCKER_CONFIG", &self.home).env("SSL_CERT_FILE", self.registry.ca_file())
    }

    /// `skopeo copy` with these flags.
    async fn skopeo_copy(&self, how: &[&str], from: &str, to: &str) {
        let (account, certs) = (format!("{USER}:{PASSWORD}"), self.registry.cert_dir().unwrap());
        let mut arguments = vec!["copy".to_owned()];
        for side in ["src", "dest"] {
            arguments.push(format!("--{side}-creds={account}"));
            arguments.push(format!("--{side}-cert-dir={}", certs.display()));
        }
        arguments.extend(how.iter().copied().chain([from, to]).map(str::to_owned));
        self.tools["skopeo"].run(&arguments).await.unwrap();
    }

    /// A manifest as another client reads it.
    async fn manifest(&self, reference: &str) -> Value {
        let manifest = self.crane().run(&["manifest", reference]).await.unwrap();
        serde_json::from_str(&manifest).unwrap()
    }

    /// Name and digest of every layer, as another client reads them.
    async fn layers(&self, reference: &str) -> Vec<(String, Digest)> {
        let manifest = self.manifest(reference).await;
        let layers = manifest["layers"].as_array().unwrap().iter().map(|layer| {
            let title = layer["annotations"][artifacts::TITLE].as_str().unwrap();
            (title.to_owned(), layer["digest"].as_str().unwrap().parse().unwrap())
        });
        layers.collect()
    }

    /// A pod's volume, with the pull secret that kubelet hands over.
    fn request(&self, reference: &str, secret: &str) -> PublishRequest {
        let mut request =
            self.node.plugin().inline(&Pod::new("team", "web-0"), "model", &[("reference", reference)]);
        request.secrets.insert(".dockerconfigjson".to_owned(), secret.to_owned());
        request
    }

    /// Publishes with the right secret; says how long that took.
    async fn publish(&self, reference: &str) -> (Publication, Duration) {
        let started = Instant::now();
        let volume = self.publish_with(reference, &[]).await;
        (volume, started.elapsed())
    }

    /// Publishes a volume of these attributes besides the reference; two of one artifact may be there at once.
    async fn publish_with(&self, reference: &str, attributes: &[(&str, &str)]) -> Publication {
        let volume = attributes.first().map_or("model", |(key, _)| *key);
        let attributes = [&[("reference", reference)], attributes].concat();
        let mut request = self.node.plugin().inline(&Pod::new("team", "web-0"), volume, &attributes);
        request.secrets.insert(".dockerconfigjson".to_owned(), self.registry.docker_config());
        let policy = RetryPolicy::quick(Duration::from_secs(200));
        let volume = self.node.plugin().publish_until(&request, policy).await;
        volume.unwrap_or_else(|failure| panic!("{failure}\n{}", self.node.log()))
    }

    async fn unpublish(&self, volume: &Publication) {
        self.node.plugin().unpublish(volume).await.unwrap();
    }

    /// Compares every file with what was pushed and with its layer.
    async fn compare(&self, reference: &str, volume: &Publication, expected: &[(&str, &BlobData)]) {
        let layers = self.layers(reference).await;
        let names: Vec<&str> = layers.iter().map(|(name, _)| name.as_str()).collect();
        let wanted: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, wanted, "the client named the files otherwise");
        for ((name, digest), (_, data)) in layers.iter().zip(expected) {
            let path = volume.target.join(name);
            assert!(same_bytes(&path, data), "{name} has other bytes than were pushed");
            assert_eq!(digest_of(&path), *digest, "{name} has another digest than its layer");
            let blob = std::fs::metadata(self.node.blob(digest)).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().ino(), blob.ino(), "{name} is a copy");
        }
        let files = walk(&volume.target);
        assert_eq!(files.len(), expected.len(), "{files:?}");
    }

    /// The three of them.
    async fn mounted(&self, reference: &str, expected: &[(&str, &BlobData)]) {
        let (volume, _) = self.publish(reference).await;
        self.compare(reference, &volume, expected).await;
        self.unpublish(&volume).await;
    }
}

/// Compares a file with data, piece by piece.
fn same_bytes(path: &Path, data: &BlobData) -> bool {
    use std::os::unix::fs::FileExt as _;

    let file = std::fs::File::open(path).unwrap();
    let mut buffer = vec![0; 8 << 20];
    file.metadata().unwrap().len() == data.size()
        && (0..data.size()).step_by(8 << 20).all(|start| {
            let piece = data.read_range(start..data.size().min(start + (8 << 20))).unwrap();
            file.read_exact_at(&mut buffer[..piece.len()], start).unwrap();
            buffer[..piece.len()] == piece[..]
        })
}

/// Every file beneath a directory.
fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn files_pushed_by_oras_are_mounted_byte_for_byte() {
    shop(async |shop| {
        let model = BlobData::generated(1, 5 * MIB + 3);
        shop.file("model.gguf", &model);
        let single = shop.oras("team/single", &["model.gguf:application/vnd.example.weights"]).await;
        shop.mounted(&single, &[("model.gguf", &model)]).await;

        // Several files, in directories; one of them is the single file's blob again.
        let (text, empty) = (BlobData::from("hello\n"), BlobData::from(""));
        for (name, data) in [("dir/a.txt", &text), ("dir/sub/b.bin", &model), ("dir/empty", &empty)] {
            shop.file(name, data);
        }
        let several = shop.oras("team/several", &["dir/a.txt", "dir/sub/b.bin", "dir/empty"]).await;
        let expected = [("dir/a.txt", &text), ("dir/sub/b.bin", &model), ("dir/empty", &empty)];
        shop.mounted(&several, &expected).await;
    });
}

#[test]
fn a_gibibyte_pushed_by_oras_is_mounted_byte_for_byte() {
    shop(async |shop| {
        let size = 1024 * MIB;
        let model = BlobData::generated(7, size);
        shop.file("model.bin", &model);
        let reference = shop.oras("team/big", &["model.bin"]).await;
        std::fs::remove_file(shop.home.join("model.bin")).unwrap();
        let (volume, cold) = shop.publish(&reference).await;
        shop.compare(&reference, &volume, &[("model.bin", &model)]).await;
        shop.unpublish(&volume).await;
        let (volume, warm) = shop.publish(&reference).await;
        shop.unpublish(&volume).await;
        println!(
            "1 GiB from docker-registry over TLS: {:.0} MB/s cold ({:.1} s), published again in {} ms",
            size as f64 / cold.as_secs_f64() / 1e6,
            cold.as_secs_f64(),
            warm.as_millis()
        );
        let fetched = shop.node.metric("stowage_fetched_bytes_total").await;
        assert!(fetched <= size as f64 * 1.001, "{fetched} bytes were fetched");
    });
}

#[test]
fn a_layout_pushed_by_crane_or_copied_by_skopeo_is_mounted_byte_for_byte() {
    shop(async |shop| {
        let (weights, text) = (BlobData::generated(3, 3 * MIB + 1), BlobData::from("# model\n"));
        let files = [("weights/model.bin", &weights), ("README.md", &text)];
        let named = files.map(|(name, data)| (name, data.clone()));
        let artifact = artifacts::oras_files(named).build().unwrap();
        let directory = shop.home.join("layout");
        oci_layout::write(&directory, &artifact, "v1");

        let by_crane = shop.registry.reference("team/crane", "v1");
        shop.crane().run(&["push", directory.to_str().unwrap(), &by_crane]).await.unwrap();
        let by_skopeo = shop.registry.reference("team/skopeo", "v1");
        let source = format!("oci:{}:v1", directory.display());
        shop.skopeo_copy(&["--preserve-digests"], &source, &format!("docker://{by_skopeo}")).await;
        for reference in [by_crane, by_skopeo] {
            let digest = shop.crane().run(&["digest", &reference]).await.unwrap();
            assert_eq!(digest.trim(), artifact.digest().to_string(), "{reference} is another artifact");
            shop.mounted(&reference, &files).await;
        }
    });
}

#[test]
fn a_wrong_password_is_refused_and_leaves_nothing() {
    shop(async |shop| {
        let text = BlobData::from("secret weights");
        shop.file("model.bin", &text);
        let reference = shop.oras("team/private", &["model.bin"]).await;
        let wrong = serde_json::json!({
            "auths": { shop.registry.host(): { "username": USER, "password": "wrong battery" } }
        });
        // Also from a warm cache.
        for warm in [false, true] {
            for secret in [wrong.to_string(), "{\"auths\":{}}".to_owned()] {
                let request = shop.request(&reference, &secret);
                let status = shop.node.plugin().publish(&request).await.unwrap_err();
                assert_eq!(status.code(), Code::Unauthenticated, "warm: {warm}: {status}");
                assert!(status.message().contains(shop.registry.host()), "{status}");
                assert!(!status.message().contains("battery"), "{status}");
                assert!(shop.node.mounts().is_empty());
            }
            shop.mounted(&reference, &[("model.bin", &text)]).await;
        }
    });
}

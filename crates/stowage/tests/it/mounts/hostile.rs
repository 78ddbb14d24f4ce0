//! Artifacts, registries and requests that mean no good, or are just wrong.

mod canary;
mod local;
mod registries;
mod requests;

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures::future::join_all;
use serde_json::{Value, json};
use stowage_artifact::{Algorithm, Digest};
use stowage_testkit::artifacts::{
    ArtifactBuilder, Layer, ModelFile, OCI_INDEX, OCI_MANIFEST, modelpack, oras_files,
};
use stowage_testkit::kubelet::{Pod, PublishRequest, is_uncertain};
use stowage_testkit::registry::Registry;
use stowage_testkit::{Artifact, BlobData, Fault, Target};
use tonic::{Code, Status};

use super::{Model, publication, publish};
use crate::harness::{Node, digest_of, scene};

const MIB: u64 = 1 << 20;

/// One thing that must not become a volume.
struct Case {
    name: &'static str,
    attributes: Vec<(String, String)>,
    secrets: Vec<(String, String)>,
    code: Code,
    /// What the sentence must say.
    words: Vec<String>,
}

impl Case {
    fn of(name: &'static str, reference: &str, code: Code, words: &[&str]) -> Self {
        Self {
            name,
            attributes: vec![("reference".to_owned(), reference.to_owned())],
            secrets: Vec::new(),
            code,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    fn secret(mut self, registry: &Registry, user: &str, password: &str) -> Self {
        let pairs = [("registry", registry.host().as_str()), ("username", user), ("password", password)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.secrets.extend(pairs);
        self
    }

    fn request(&self, node: &Node) -> PublishRequest {
        let pairs: Vec<(&str, &str)> =
            self.attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let mut request = node.plugin().inline(&Pod::new("evil", "pod"), "model", &pairs);
        request.secrets.extend(self.secrets.iter().cloned());
        request
    }

    /// Publishes it; what is wrong with the answer or with what is there afterwards.
    async fn complaints(&self, node: &Node) -> Vec<String> {
        let request = self.request(node);
        let answer = node.plugin().publish(&request).await;
        let mut complaints = match answer {
            Ok(_) => vec!["it was published".to_owned()],
            Err(status) => {
                let complaints = complaints_about(&status, self.code, &self.words);
                if is_uncertain(status.code()) {
                    // Kubelet cleans up by itself after every other code.
                    node.plugin().unpublish(&publication(&request)).await.unwrap();
                }
                complaints
            }
        };
        if request.target.exists() || request.target.parent().unwrap().exists() {
            complaints.push("its target is still there".to_owned());
        }
        complaints.into_iter().map(|complaint| format!("{}: {complaint}", self.name)).collect()
    }
}

/// Whether a status is the right code with one clear sentence.
fn complaints_about(status: &Status, code: Code, words: &[String]) -> Vec<String> {
    let message = status.message();
    let mut complaints = Vec::new();
    let mut complain = |what: String| complaints.push(format!("{what}: {:?} {message:?}", status.code()));
    if status.code() != code {
        complain(format!("not {code:?}"));
    }
    for word in words.iter().filter(|word| !message.contains(word.as_str())) {
        complain(format!("no word of {word:?}"));
    }
    if message.chars().any(char::is_control) || message.trim() != message || message.ends_with('.') {
        complain("not one sentence on one line".to_owned());
    }
    if !(20..600).contains(&message.len()) {
        complain(format!("{} bytes long", message.len()));
    }
    if ["Error {", "Some(", "Err(", "kind:", "Os {"].iter().any(|debug| message.contains(debug)) {
        complain("written for programmers".to_owned());
    }
    complaints
}

/// Everything that was ever put up for a test, and what of it may be in the store afterwards.
struct Stall<'a> {
    registry: &'a Registry,
    cases: Vec<Case>,
    documents: BTreeSet<Digest>,
    quarantined: BTreeSet<Digest>,
}

impl<'a> Stall<'a> {
    fn new(registry: &'a Registry) -> Self {
        Self { registry, cases: Vec::new(), documents: BTreeSet::new(), quarantined: BTreeSet::new() }
    }

    /// Pushes an artifact of its own repository; adds the case and returns it.
    fn artifact(
        &mut self,
        name: &'static str,
        artifact: ArtifactBuilder,
        code: Code,
        words: &[&str],
    ) -> &mut Case {
        self.push(name, &artifact.build().unwrap(), code, words)
    }

    fn push(&mut self, name: &'static str, artifact: &Artifact, code: Code, words: &[&str]) -> &mut Case {
        let repository = format!("hostile/{}", self.cases.len());
        self.documents.insert(self.registry.push(&repository, Some("v1"), artifact));
        let reference = self.registry.reference(&repository, "v1");
        self.cases.push(Case::of(name, &reference, code, words));
        self.cases.last_mut().unwrap()
    }

    fn manifest(
        &mut self,
        name: &'static str,
        media_type: &str,
        document: &Value,
        code: Code,
        words: &[&str],
    ) {
        self.push(name, &Artifact::raw(media_type, document.to_string(), Vec::new()), code, words);
    }

    /// Runs every case at once and looks at the node afterwards.
    async fn run(self, node: &Node) {
        let found = join_all(self.cases.iter().map(|case| case.complaints(node))).await;
        let complaints: Vec<String> = found.into_iter().flatten().collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
        node.nothing_left().await;
        assert!(node.entries("views").is_empty(), "views: {:?}", node.entries("views"));
        let allowed: BTreeSet<PathBuf> = self.documents.iter().map(|digest| node.blob(digest)).collect();
        for file in node.files("blobs") {
            assert!(allowed.contains(&node.store().join(&file)), "bytes were kept: {}", file.display());
        }
        for file in node.files("quarantine") {
            let name = file.display().to_string();
            assert!(self.quarantined.iter().any(|digest| name.contains(digest.hex())), "kept: {name}");
        }
        for digest in &self.quarantined {
            let name = digest.hex();
            let there = node.files("quarantine").iter().any(|file| file.display().to_string().contains(name));
            assert!(there, "{digest} is not in quarantine");
        }
        println!("{} cases refused", self.cases.len());
    }
}

fn small(byte: u8) -> BlobData {
    BlobData::from(vec![byte; 1000])
}

fn digest(data: &BlobData) -> Digest {
    data.digest(Algorithm::Sha256).unwrap()
}

#[test]
fn names_and_shapes_that_attack_are_refused() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let node = scene.node().registry(&registry).start().await;
        let mut stall = Stall::new(&registry);
        let invalid = Code::InvalidArgument;
        let titles: [(&str, &str, &[&str]); 9] = [
            ("climbs out", "../../etc/cron.d/x", &["../../etc/cron.d/x", "`..`"]),
            ("climbs in the middle", "a/../../x", &["a/../../x"]),
            ("is absolute", "/etc/passwd", &["/etc/passwd", "absolute"]),
            ("is the directory itself", ".", &["title"]),
            ("has an empty component", "a//b", &["a//b"]),
            ("has a line break", "a\nb", &["title"]),
            ("has a NUL", "a\0b", &["title"]),
            ("is empty", "", &["title"]),
            ("is a terminal's escape", "\u{1b}[2Jx", &["title"]),
        ];
        for (name, title, words) in titles {
            stall.artifact(name, oras_files([(title, small(1))]), invalid, words);
        }
        let long = "x".repeat(300);
        stall.artifact("too long a name", oras_files([(long.as_str(), small(1))]), invalid, &["title"]);
        stall.artifact(
            "two equal paths with different blobs",
            oras_files([("same.bin", small(1)), ("same.bin", small(2))]),
            invalid,
            &["same.bin", "claimed by", "differ"],
        );
        stall.artifact(
            "a file that is also a directory",
            oras_files([("a", small(1)), ("a/b", small(2))]),
            invalid,
            &["`a`", "a/b", "directory"],
        );
        let file = ModelFile::new("weight", "w.bin", small(1));
        let symlink = modelpack("m", [file]).edit(|manifest| {
            let metadata = json!({
                "name": "w.bin", "mode": 0o777, "uid": 0, "gid": 0, "size": 1000,
                "mtime": "2026-01-02T03:04:05Z", "typeflag": b'2',
            });
            manifest["layers"][0]["annotations"]["org.cncf.model.file.metadata+json"] =
                json!(metadata.to_string());
        });
        stall.artifact("a symlink by its metadata", symlink, invalid, &["regular files only"]);
        stall.artifact("no layers", ArtifactBuilder::new(), invalid, &["no layer"]);

        let tar = |codec: &str| {
            let media_type = format!("application/vnd.oci.image.layer.v1.tar{codec}");
            ArtifactBuilder::new().layer(Layer::new(&media_type, small(1)))
        };
        let invalid = Code::InvalidArgument;
        stall.artifact("a tar that is none", tar(""), invalid, &["these bytes are no tar", "`tar: file`"]);
        stall.artifact("a gzip that is none", tar("+gzip"), invalid, &["cannot be decoded", "gzip header"]);
        // The bytes are right, whatever they are called: kept, so that the next try fetches nothing, until somebody needs the room.
        stall.documents.insert(digest(&small(1)));
        stall.run(&node).await;
    });
}

#[test]
fn manifests_that_lie_are_refused() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let node = scene.node().registry(&registry).start().await;
        let mut stall = Stall::new(&registry);
        let invalid = Code::InvalidArgument;
        let big = oras_files([("a", small(1))]).annotation("filler", &"x".repeat(5 << 20));
        stall.artifact("a manifest of 5 MiB", big, invalid, &["larger than the 4194304 bytes"]);

        let plain = |layers: Value| {
            json!({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers,
                "config": { "mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
                    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" },
            })
        };
        let layer = |digest: &str, size: Value| {
            json!([{
                "mediaType": "application/x", "digest": digest, "size": size,
                "annotations": { "org.opencontainers.image.title": "a" },
            }])
        };
        let some = digest(&small(1)).to_string();
        let good = plain(layer(&some, json!(1000)));
        stall.manifest("a content type that lies", OCI_INDEX, &good, invalid, &["served it as", "lies"]);
        let mut both = good.clone();
        both["manifests"] = json!([]);
        stall.manifest(
            "layers and manifests",
            OCI_MANIFEST,
            &both,
            invalid,
            &["layers", "manifests", "ambiguous"],
        );
        let mut foreign = good.clone();
        foreign["mediaType"] = json!("application/vnd.example.recipe+json");
        stall.manifest(
            "a document of another kind",
            "application/vnd.example.recipe+json",
            &foreign,
            invalid,
            &["application/vnd.example.recipe+json", "no manifest or index"],
        );
        for (name, digest, size, word) in [
            ("a digest that is a path", "sha256:../../../../etc/passwd", json!(1), "digest"),
            ("an unknown algorithm", "md5:d41d8cd98f00b204e9800998ecf8427e", json!(1), "md5"),
            ("a negative size", some.as_str(), json!(-1), "-1"),
            ("a size with a fraction", some.as_str(), json!(1.5), "1.5"),
            ("a size as text", some.as_str(), json!("1000"), "expected a JSON number"),
        ] {
            stall.manifest(name, OCI_MANIFEST, &plain(layer(digest, size)), invalid, &[word]);
        }
        let mut huge = layer(&some, json!(i64::MAX));
        huge.as_array_mut().unwrap().extend((0..3).map(|number| {
            json!({
                "mediaType": "application/x", "size": i64::MAX,
                "digest": Digest::of(Algorithm::Sha256, &[number]).to_string(),
            })
        }));
        stall.manifest("sizes that overflow", OCI_MANIFEST, &plain(huge), invalid, &["sizes"]);
        stall.manifest("schema 1", OCI_MANIFEST, &json!({ "schemaVersion": 1 }), invalid, &["schema"]);
        let text = Artifact::raw(OCI_MANIFEST, "<html>not found</html>", Vec::new());
        stall.push("a web page", &text, invalid, &["cannot be read"]);
        let empty = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
        stall.manifest("an index of nothing", OCI_INDEX, &empty, invalid, &["index"]);
        stall.run(&node).await;
    });
}

#[test]
fn blobs_that_are_not_what_was_declared_are_refused() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let node = scene.node().registry(&registry).start().await;
        let mut stall = Stall::new(&registry);
        let lost = Code::DataLoss;

        let other = digest(&small(9));
        let wrong =
            oras_files::<&str, &str>([]).layer(Layer::titled("a", small(1)).declare_digest(other.clone()));
        stall.artifact("a blob with a wrong digest", wrong, lost, &["other bytes", other.hex()]);
        stall.quarantined.insert(other);

        let (longer, shorter) = (BlobData::generated(1, 3 * MIB), BlobData::generated(2, 3 * MIB));
        let said = |data: &BlobData, size: u64| {
            oras_files::<&str, &str>([]).layer(Layer::titled("a", data.clone()).declare_size(size))
        };
        stall.artifact("a blob longer than declared", said(&longer, 2 * MIB), lost, &["2097152", "declare"]);
        stall.artifact(
            "a blob shorter than declared",
            said(&shorter, 4 * MIB),
            lost,
            &["4194304", "declare"],
        );

        let endless = BlobData::generated(3, 3 * MIB);
        let hex = digest(&endless).hex().to_owned();
        stall.artifact("a blob without an end", said(&endless, 2 * MIB), lost, &[&hex]);
        registry.faults().always(Target::Digest(digest(&endless)), Fault::Endless);
        stall.quarantined.insert(digest(&endless));
        stall.run(&node).await;
    });
}

#[test]
fn a_body_that_goes_on_after_the_right_bytes_is_cut_there() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let node = scene.node().registry(&registry).start().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        registry.faults().always(Target::Digest(model.file.clone()), Fault::Endless);
        let request = node.plugin().inline(&Pod::new("team", "pod"), "model", &model.attributes());
        let volume = publish(&node, &request).await;
        assert_eq!(digest_of(&volume.target.join("model.bin")), model.file);
        let sent = registry.bytes_served(&model.file);
        assert!(sent < 32 * MIB, "{sent} bytes were taken of a blob of {MIB}");
        node.plugin().unpublish(&volume).await.unwrap();
        node.nothing_left().await;
    });
}

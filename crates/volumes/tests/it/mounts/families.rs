//! Every family of artifacts, from a registry to the files of a mounted volume.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use stowage_artifact::VolumeAttributes;
use stowage_testkit::artifacts::{
    AiLayer, Artifact, ArtifactBuilder, KitPart, Layer, ModelFile, OllamaLayer, Packed, Tar, attestations,
    docker_ai, docker_image, helm_chart, image, kitops, modelpack, modelpack_archives, nameless, ollama,
    oras_directory, oras_files, raw_layer, sigstore_bundle, wasm,
};
use stowage_volumes::{Meaning, PublishRequest};

use crate::bench::{Bench, registry, scene};

/// Every file below a directory with its content, every symlink with ` -> ` and its target.
pub(super) fn shown(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let kind = path.symlink_metadata().unwrap().file_type();
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_symlink() {
                found.insert(name, format!("-> {}", path.read_link().unwrap().display()));
            } else {
                found.insert(name, String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned());
            }
        }
    }
    found
}

pub(super) fn with(mut request: PublishRequest, attributes: &[(&str, &str)]) -> PublishRequest {
    let mut all = request.attributes.canonical();
    all.extend(attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    request.attributes = VolumeAttributes::parse(&all).unwrap();
    request
}

/// What a family's artifact is to become: attributes, then the files.
struct Case {
    name: &'static str,
    artifact: ArtifactBuilder,
    attributes: &'static [(&'static str, &'static str)],
    files: Vec<(&'static str, &'static str)>,
}

fn case(
    name: &'static str,
    artifact: ArtifactBuilder,
    attributes: &'static [(&'static str, &'static str)],
    files: &[(&'static str, &'static str)],
) -> Case {
    Case { name, artifact, attributes, files: files.to_vec() }
}

fn two_layers() -> [Packed; 2] {
    let below = Tar::of([("etc/a", "below"), ("etc/b", "below"), ("opt/x/old", "below")])
        .symlink("bin/sh", "/bin/busybox")
        .fifo("run/pipe");
    let above = Tar::of([("etc/a", "above"), ("opt/x/new", "above")]).whiteout("etc", "b").opaque("opt/x");
    [Packed::gzip(&below.bytes()).unwrap(), Packed::zstd(&above.bytes()).unwrap()]
}

const ROOT_FILESYSTEM: [(&str, &str); 3] =
    [("bin/sh", "-> /bin/busybox"), ("etc/a", "above"), ("opt/x/new", "above")];

fn cases() -> Vec<Case> {
    let tar = || Tar::of([("data/a.txt", "one"), ("data/deep/b.txt", "two")]);
    let gzip = |bytes: &[u8]| Packed::gzip(bytes).unwrap();
    vec![
        case("oras", oras_files([("w/model.bin", "weights")]), &[], &[("w/model.bin", "weights")]),
        case(
            "oras-directory",
            ArtifactBuilder::new()
                .layer(oras_directory("data", &tar()).unwrap())
                .layer(Layer::titled("n", "x")),
            &[],
            &[("data/a.txt", "one"), ("data/deep/b.txt", "two"), ("n", "x")],
        ),
        case("raw-layer", raw_layer([("/models/a", "x")]), &[], &[("models/a", "x")]),
        case(
            "modelpack",
            modelpack("m", [ModelFile::new("weight", "w.safetensors", "w")]),
            &[],
            &[("w.safetensors", "w")],
        ),
        case(
            "modelpack-archives",
            modelpack_archives([("weight", "model", gzip(&Tar::of([("model/w", "w")]).bytes()))]),
            &[],
            &[("model/w", "w")],
        ),
        case(
            "docker-ai-1",
            docker_ai("v0.1", [AiLayer::new("gguf.v3", "g"), AiLayer::new("license", "l")]),
            &[],
            &[("LICENSE", "l"), ("model.gguf", "g")],
        ),
        case(
            "docker-ai-2",
            docker_ai("v0.2", [AiLayer::new("safetensors", "s").path("model/w.safetensors")]),
            &[],
            &[("model/w.safetensors", "s")],
        ),
        case(
            "ollama",
            ollama([OllamaLayer::new("model", "g"), OllamaLayer::new("template", "t")]),
            &[],
            &[("model.gguf", "g"), ("template", "t")],
        ),
        case(
            "kitops",
            kitops([KitPart::tar("model", "./model", gzip(&Tar::of([("model/w.gguf", "w")]).bytes()))]),
            &[],
            &[("model/w.gguf", "w")],
        ),
        case("image", image(two_layers()), &[], &ROOT_FILESYSTEM),
        case("docker-image", docker_image(two_layers()), &[], &ROOT_FILESYSTEM),
        case(
            "image-part",
            image(two_layers()),
            &[("subPath", "opt"), ("include", "opt/**")],
            &[("x/new", "above")],
        ),
        case(
            "helm-expanded",
            helm_chart("c", "1.2.3", &Tar::of([("c/Chart.yaml", "y")]), None).unwrap(),
            &[("tar", "expand")],
            &[("c/Chart.yaml", "y")],
        ),
        case("wasm", wasm("module").unwrap(), &[], &[("module.wasm", "module")]),
        case(
            "zstd",
            compressed("r.txt", &Packed::zstd(b"plain").unwrap(), "+zstd"),
            &[],
            &[("r.txt", "plain")],
        ),
        case("gzip", compressed("r.txt", &gzip(b"plain"), "+gzip"), &[], &[("r.txt", "plain")]),
        case("nameless", nameless("application/octet-stream", ["x"]), &[], &[("blob", "x")]),
    ]
}

/// A file that is compressed outside of a tar.
fn compressed(title: &str, packed: &Packed, suffix: &str) -> ArtifactBuilder {
    let layer = Layer::new(&format!("application/x-text{suffix}"), packed.clone().into_data());
    ArtifactBuilder::new().layer(layer.annotation("org.opencontainers.image.title", title))
}

#[test]
fn every_family_is_a_volume() {
    scene(async |root| {
        let registry = registry().await;
        let bench = Bench::new(root);
        for Case { name, artifact, attributes, files } in cases() {
            registry.push(name, Some("v1"), &artifact.build().unwrap());
            let request = with(bench.request(name, &registry.reference(name, "v1")), attributes);
            let published = bench.volumes.publish(request.clone()).await;
            published.unwrap_or_else(|error| panic!("{name}: {error}"));
            let target = bench.target(name);
            let expected: BTreeMap<_, _> = files.iter().map(|(p, c)| ((*p).into(), (*c).into())).collect();
            assert_eq!(shown(&target), expected, "{name}");
            let error = std::fs::write(target.join("new"), "x").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{name}");
            assert!(bench.volumes.publish(request).await.unwrap().already, "{name}");
            bench.unpublish(name).await;
            assert!(!target.exists(), "{name}");
        }
        assert_eq!(stowage_sys::mounts_beneath(root).unwrap(), []);
        assert_eq!(bench.store.usage().unwrap().ingests, 0);
        assert_eq!(bench.store.fsck(false).unwrap().problems, []);
    });
}

/// No ping, manifests by their tags and as Docker's only, blobs from elsewhere.
#[test]
fn a_model_of_ollamas_own_registry_is_a_volume_and_a_directory_for_its_server() {
    scene(async |root| {
        let registry =
            stowage_testkit::Registry::builder().ollama().manifests_by_tag_only().start().await.unwrap();
        let model = ollama([OllamaLayer::new("model", "gguf"), OllamaLayer::new("template", "t")]);
        let model = model.build().unwrap();
        registry.push("library/llama3.2", Some("3b"), &model);
        let bench = Bench::new(root);
        let reference = registry.reference("library/llama3.2", "3b");
        bench.volumes.publish(bench.request("files", &reference)).await.unwrap();
        assert_eq!(shown(&bench.target("files"))["model.gguf"], "gguf");
        let request = with(bench.request("server", &reference), &[("layout", "ollama")]);
        bench.volumes.publish(request).await.unwrap();
        let served = shown(&bench.target("server"));
        let manifest = served.keys().find(|path| path.starts_with("manifests/")).unwrap();
        assert!(manifest.ends_with("/library/llama3.2/3b"), "{manifest}");
        for (digest, _) in model.blobs() {
            assert!(served.contains_key(&format!("blobs/sha256-{}", digest.hex())), "{digest}");
        }
        for name in ["files", "server"] {
            bench.unpublish(name).await;
        }
    });
}

#[test]
fn attestations_and_bundles_are_json_files() {
    scene(async |root| {
        let registry = registry().await;
        let bench = Bench::new(root);
        for (name, artifact) in [
            ("attestations", attestations(["https://slsa.dev/provenance/v1"])),
            ("bundle", sigstore_bundle("https://sigstore.dev/cosign/sign/v1")),
        ] {
            registry.push(name, Some("v1"), &artifact.build().unwrap());
            bench.volumes.publish(bench.request(name, &registry.reference(name, "v1"))).await.unwrap();
            let files = shown(&bench.target(name));
            let is_json = |path: &String| Path::new(path).extension().is_some_and(|end| end == "json");
            assert!(files.len() == 1 && files.keys().all(is_json), "{files:?}");
            bench.unpublish(name).await;
        }
    });
}

#[test]
fn the_layout_of_an_oci_directory_holds_what_was_pushed_byte_for_byte() {
    scene(async |root| {
        let registry = registry().await;
        let bench = Bench::new(root);
        let layers = two_layers();
        let digests = layers.each_ref().map(Packed::digest);
        registry.push("image", Some("v1"), &image(layers).build().unwrap());
        let reference = registry.reference("image", "v1");
        // The plain form first: the compressed blobs are gone by then, and are fetched again for this one.
        bench.volumes.publish(bench.request("files", &reference)).await.unwrap();
        bench.volumes.publish(with(bench.request("oci", &reference), &[("layout", "oci")])).await.unwrap();
        for digest in digests {
            let file = bench.target("oci").join("blobs/sha256").join(digest.hex());
            let found = stowage_artifact::Digest::of(digest.algorithm(), &std::fs::read(file).unwrap());
            assert_eq!(found, digest);
        }
        assert!(bench.target("oci").join("oci-layout").exists());
        bench.unpublish("files").await;
        bench.unpublish("oci").await;
    });
}

#[test]
fn modes_owners_times_and_hard_links_come_from_the_tar() {
    scene(async |root| {
        let registry = registry().await;
        let bench = Bench::new(root);
        let tar = Tar::new()
            .file("run", "#!/bin/sh\n", 0o6711)
            .file("private", "x", 0o600)
            .hard_link("also", "private");
        registry.push("t", Some("v1"), &image([Packed::plain(tar.bytes())]).build().unwrap());
        bench.volumes.publish(bench.request("t", &registry.reference("t", "v1"))).await.unwrap();
        let found = |name: &str| std::fs::metadata(bench.target("t").join(name)).unwrap();
        assert_eq!(found("run").permissions().mode() & 0o7777, 0o755);
        assert_eq!(found("private").permissions().mode() & 0o7777, 0o644);
        assert_eq!((found("also").ino(), found("also").nlink()), (found("private").ino(), 2));
        bench.unpublish("t").await;
    });
}

/// Errors of the artifact's author, each with its code and a sentence that names the layer.
#[test]
fn what_cannot_be_shown_is_refused_and_leaves_nothing() {
    let evil = |name: &str| Tar::of([(name, "x")]).bytes();
    let twice = [Tar::of([("a", "1")]).bytes(), Tar::of([("a", "2")]).bytes()];
    let unpadded = {
        let mut tar = Tar::of([("a", "1")]).bytes();
        tar.truncate(513);
        tar
    };
    let tars_of = |tars: Vec<Vec<u8>>| -> Artifact {
        let layers = tars.into_iter().map(|tar| Layer::new("application/vnd.oci.image.layer.v1.tar", tar));
        layers.fold(ArtifactBuilder::new(), ArtifactBuilder::layer).build().unwrap()
    };
    let wrong_diff_id = image([Packed::gzip(&evil("a")).unwrap()])
        .config(
            "application/vnd.oci.image.config.v1+json",
            format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#, "0".repeat(64)),
        )
        .build()
        .unwrap();
    let bomb = {
        let zeros = vec![0; 70 << 20];
        compressed("zeros", &Packed::zstd(&zeros).unwrap(), "+zstd").build().unwrap()
    };
    let cases = [
        ("climbs", tars_of(vec![evil("../../etc/cron.d/x")]), "whose name is refused"),
        ("absolute", tars_of(vec![evil("/etc/x")]), "whose name is refused"),
        ("escapes", tars_of(vec![Tar::new().symlink("l", "../../etc").bytes()]), "points to `../../etc`"),
        ("pipe", tars_of(vec![Tar::new().fifo("p").bytes()]), "which a volume cannot hold"),
        ("twice", tars_of(twice.to_vec()), "`a` is in"),
        ("unpadded", tars_of(vec![unpadded]), "use `tar: file`"),
        (
            "no-tar",
            tars_of(vec![b"no tar at all".to_vec()]),
            "cannot be shown as files: these bytes are no tar",
        ),
        (
            "no-gzip",
            compressed("f", &Packed::plain(b"plain".to_vec()), "+gzip").build().unwrap(),
            "cannot be decoded",
        ),
        ("wrong-diff-id", wrong_diff_id, "is said to decode to"),
        ("bomb", bomb, "decodes to more than 67108864 bytes"),
    ];
    scene(async |root| {
        let registry = registry().await;
        let bench = Bench::new(root);
        for (name, artifact, sentence) in cases {
            registry.push(name, Some("v1"), &artifact);
            let error = bench
                .volumes
                .publish(bench.request(name, &registry.reference(name, "v1")))
                .await
                .unwrap_err();
            assert!(error.to_string().contains(sentence), "{name}: {error}");
            assert_eq!(error.meaning(), Meaning::Invalid, "{name}: {error}");
            assert!(!bench.has_record(name) && !bench.target(name).exists(), "{name}");
        }
        let usage = bench.store.usage().unwrap();
        assert_eq!((usage.volumes, usage.views, usage.ingests), (0, 0, 0));
    });
}

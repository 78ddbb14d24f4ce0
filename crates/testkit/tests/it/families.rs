//! Every builder of artifacts, planned: what the builders write is what the rules of the product read.

use std::io::Read;

use flate2::read::GzDecoder;
use stowage_artifact::{
    Algorithm, Codec, Digest, Document, Family, LayoutMode, Manifest, Plan, PlanOptions, TarMode,
    needs_config, plan,
};
use stowage_testkit::artifacts::{self, AiLayer, KitPart, ModelFile, OllamaLayer, Packed, Tar};
use stowage_testkit::{Artifact, ArtifactBuilder, BlobData, Registry};

use crate::{blob_url, client, manifest_url};

fn manifest(artifact: &Artifact) -> Manifest {
    match Document::parse(artifact.manifest(), Some(artifact.media_type())).unwrap() {
        Document::Manifest(manifest) => manifest,
        Document::Index(_) => panic!("an index"),
    }
}

fn bytes(data: &BlobData) -> Vec<u8> {
    data.read_range(0..data.size()).unwrap().to_vec()
}

/// The bytes of a blob that the artifact pushes.
fn blob(artifact: &Artifact, digest: &Digest) -> Vec<u8> {
    let (_, data) = artifact.blobs().iter().find(|(known, _)| known == digest).unwrap();
    bytes(data)
}

fn plan_with(builder: ArtifactBuilder, options: &PlanOptions) -> (Artifact, Plan) {
    let artifact = builder.build().unwrap();
    let manifest = manifest(&artifact);
    let config = needs_config(&manifest, options).then(|| blob(&artifact, &manifest.config.digest));
    let plan = plan(&manifest, config.as_deref(), options).unwrap();
    // All that the volume needs has been pushed, at the size that was said.
    for (digest, size) in plan.layout.blobs() {
        if !plan.layout.inline().contains_key(&digest) {
            assert_eq!(blob(&artifact, &digest).len() as u64, size);
        }
    }
    (artifact, plan)
}

fn planned(builder: ArtifactBuilder) -> (Artifact, Plan) {
    plan_with(builder, &PlanOptions::default())
}

fn paths(plan: &Plan) -> Vec<String> {
    plan.layout.entries().keys().map(ToString::to_string).collect()
}

/// The tars of a plan as their producers packed them, decoded and compared with the digest that the artifact claims.
fn tars(artifact: &Artifact, plan: &Plan) -> Vec<Vec<u8>> {
    let decoded = plan.layout.tars().iter().map(|tar| {
        let packed = blob(artifact, &tar.digest);
        let plain = match tar.codec {
            None => packed,
            Some(Codec::Gzip) => {
                let mut plain = Vec::new();
                GzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap();
                plain
            }
            Some(Codec::Zstd) => zstd::stream::decode_all(&packed[..]).unwrap(),
        };
        let claimed = tar.plain.as_ref().or(tar.codec.is_none().then_some(&tar.digest));
        assert_eq!(claimed, Some(&Digest::of(Algorithm::Sha256, &plain)));
        plain
    });
    decoded.collect()
}

fn some_tar() -> Tar {
    Tar::of([("docs/a.txt", "alpha"), ("docs/deep/b.txt", "beta")])
}

#[test]
fn oras_files_and_directories() {
    let directory = artifacts::oras_directory("docs", &some_tar()).unwrap();
    let (artifact, plan) = planned(artifacts::oras_files([("a.bin", "x")]).layer(directory));
    assert_eq!((plan.family, paths(&plan)), (Family::Oras, vec!["a.bin".to_owned()]));
    assert_eq!(tars(&artifact, &plan), [some_tar().bytes()]);
    assert_eq!(plan.layout.tars()[0].within.as_ref().unwrap().as_str(), "docs");
}

#[test]
fn nameless_blobs_and_raw_layers() {
    let (_, plan) = planned(artifacts::nameless("application/json", ["{}x"]));
    assert_eq!((plan.family, paths(&plan)), (Family::Oras, vec!["blob.json".to_owned()]));
    let (_, plan) = planned(artifacts::raw_layer([("/m/a.bin", "x"), ("b.bin", "y")]));
    assert_eq!((plan.family, paths(&plan)), (Family::RawLayer, vec!["b.bin".into(), "m/a.bin".into()]));
}

#[test]
fn modelpacks_of_files_and_of_archives() {
    let files =
        [ModelFile::new("weight", "w/a.gguf", "GGUF"), ModelFile::new("code", "run", "x").mode(0o755)];
    let (_, plan) = planned(artifacts::modelpack("tiny", files));
    assert_eq!((plan.family, paths(&plan)), (Family::ModelPack, vec!["run".into(), "w/a.gguf".into()]));
    let modes: Vec<u32> = plan.layout.entries().values().map(|entry| entry.mode).collect();
    assert_eq!(modes, [0o555, 0o444]);

    let tar = some_tar().bytes();
    let archives = [
        ("weight", "docs", Packed::plain(tar.clone())),
        ("dataset", "docs", Packed::gzip(&tar).unwrap()),
        ("code", "docs", Packed::zstd(&tar).unwrap()),
    ];
    let (artifact, plan) = planned(artifacts::modelpack_archives(archives));
    let codecs: Vec<Option<Codec>> = plan.layout.tars().iter().map(|tar| tar.codec).collect();
    assert_eq!(codecs, [None, Some(Codec::Gzip), Some(Codec::Zstd)]);
    assert_eq!(tars(&artifact, &plan), [tar.clone(), tar.clone(), tar]);
}

#[test]
fn docker_models_of_both_versions() {
    let layers = || {
        [
            AiLayer::new("gguf.v3", "g").path("Llama.gguf"),
            AiLayer::new("license", "l").path("LICENSE.txt"),
            AiLayer::new("dir.tar", some_tar().bytes()).path("docs"),
        ]
    };
    for (version, expected) in [("v0.1", ["LICENSE", "model.gguf"]), ("v0.2", ["LICENSE.txt", "Llama.gguf"])]
    {
        let (artifact, plan) = planned(artifacts::docker_ai(version, layers()));
        assert_eq!((plan.family, paths(&plan)), (Family::DockerAi, expected.map(str::to_owned).to_vec()));
        assert_eq!(tars(&artifact, &plan), [some_tar().bytes()]);
    }
}

#[test]
fn ollama_models_as_files_and_as_a_directory() {
    let model = || {
        artifacts::ollama([
            OllamaLayer::new("model", "GGUF"),
            OllamaLayer::new("params", "{}"),
            OllamaLayer::new("tensor", "t").name("blk.0/weight"),
        ])
    };
    let (_, plan) = planned(model());
    let expected = ["blk.0/weight", "model.gguf", "params.json"].map(str::to_owned).to_vec();
    assert_eq!((plan.family, paths(&plan)), (Family::Ollama, expected));
    let reference = Some("ollama://llama3.2:3b".parse().unwrap());
    let options = PlanOptions { layout: LayoutMode::Ollama, reference, ..PlanOptions::default() };
    let (artifact, plan) = plan_with(model(), &options);
    let own = "manifests/registry.ollama.ai/library/llama3.2/3b".parse().unwrap();
    let source = plan.layout.entries()[&own].source.blob().clone();
    assert_eq!((&source, plan.layout.entries().len()), (artifact.digest(), 5));
}

#[test]
fn kits() {
    let tar = some_tar().bytes();
    let (artifact, plan) = planned(artifacts::kitops([
        KitPart::tar("model", "docs", Packed::gzip(&tar).unwrap()),
        KitPart::tar("modelpart", "docs", Packed::zstd(&tar).unwrap()),
        KitPart::raw("dataset", "data.csv", Packed::gzip(b"1,2").unwrap()),
        KitPart::raw("docs", "README.md", Packed::plain(b"# kit".to_vec())),
    ]));
    assert_eq!((plan.family, paths(&plan)), (Family::KitOps, vec!["README.md".into(), "data.csv".into()]));
    assert_eq!(tars(&artifact, &plan), [tar.clone(), tar]);
    assert!(plan.notes.is_empty(), "{:?}", plan.notes);
}

#[test]
fn images_of_oci_and_docker() {
    let layers = || {
        let top = Tar::new().whiteout("docs", "a.txt").opaque("docs/deep").symlink("link", "/etc/passwd");
        [
            Packed::gzip(&some_tar().bytes()).unwrap(),
            Packed::zstd(&top.bytes()).unwrap(),
            Packed::plain(Tar::new().fifo("pipe").hard_link("docs/c", "docs/b").bytes()),
        ]
    };
    for builder in [artifacts::image(layers()), artifacts::docker_image(layers())] {
        let (artifact, plan) = planned(builder);
        assert_eq!((plan.family, plan.layout.entries().len()), (Family::Image, 0));
        assert!(plan.layout.tars().iter().all(|tar| tar.whiteouts));
        assert_eq!(tars(&artifact, &plan)[0], some_tar().bytes());
    }
}

#[test]
fn images_of_filesystem_layers() {
    let layers = [Packed::plain(b"erofs".to_vec()), Packed::zstd(b"more erofs").unwrap()];
    let options = PlanOptions { allow_filesystem_layers: true, ..PlanOptions::default() };
    let (_, plan) =
        plan_with(artifacts::filesystem_image("application/vnd.erofs.layer.v1", layers), &options);
    let codecs: Vec<Option<Codec>> = plan.layout.filesystems().iter().map(|layer| layer.codec).collect();
    assert_eq!((plan.family, codecs), (Family::Image, vec![None, Some(Codec::Zstd)]));
}

#[test]
fn charts_modules_and_documents() {
    let chart = || artifacts::helm_chart("nginx", "1.2.3", &some_tar(), Some("signed")).unwrap();
    let (_, plan) = planned(chart());
    let names = ["nginx-1.2.3.tgz", "nginx-1.2.3.tgz.prov"].map(str::to_owned).to_vec();
    assert_eq!((plan.family, paths(&plan)), (Family::Helm, names));
    let options = PlanOptions { tar: Some(TarMode::Expand), ..PlanOptions::default() };
    assert_eq!(plan_with(chart(), &options).1.layout.tars().len(), 1);

    let (_, plan) = planned(artifacts::wasm("\0asm").unwrap());
    assert_eq!((plan.family, paths(&plan)), (Family::Wasm, vec!["module.wasm".to_owned()]));

    let (_, plan) = planned(artifacts::attestations(["https://slsa.dev/provenance/v1"]));
    let names = vec!["slsa.dev-provenance-v1.json".to_owned()];
    assert_eq!((plan.family, paths(&plan)), (Family::Attestation, names));
    let (_, plan) = planned(artifacts::sigstore_bundle("https://spdx.dev/Document"));
    assert_eq!(paths(&plan), ["spdx.dev-Document.sigstore.json"]);
}

#[tokio::test]
async fn a_model_in_ollamas_registry_is_found_by_docker_manifests_and_redirects() {
    let registry = Registry::builder().ollama().manifests_by_tag_only().start().await.unwrap();
    let model = artifacts::ollama([OllamaLayer::new("model", "GGUF")]).build().unwrap();
    registry.push("library/llama3.2", Some("3b"), &model);
    let client = client(&registry);
    let url = manifest_url(&registry, "library/llama3.2", "3b");
    let answer = client.get(url).header("accept", artifacts::DOCKER_MANIFEST).send().await.unwrap();
    let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let document = Document::parse(&answer.bytes().await.unwrap(), Some(&content_type)).unwrap();
    let Document::Manifest(manifest) = document else { panic!("{document:?}") };
    let plan = plan(&manifest, None, &PlanOptions::default()).unwrap();
    assert_eq!((plan.family, paths(&plan)), (Family::Ollama, vec!["model.gguf".to_owned()]));
    for digest in plan.layout.blobs().into_keys() {
        let redirect = client.get(blob_url(&registry, "library/llama3.2", &digest)).send().await.unwrap();
        assert_eq!(redirect.status(), 307);
        let location = redirect.headers()["location"].to_str().unwrap().to_owned();
        let part = client.get(location).header("range", "bytes=2-").send().await.unwrap();
        assert_eq!((part.status().as_u16(), part.text().await.unwrap().as_str()), (206, "UF"));
    }
}

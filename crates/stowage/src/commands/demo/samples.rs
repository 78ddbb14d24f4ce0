//! The artifacts of the demo, built as their producers build them.

use stowage_artifact::{Algorithm, Digest};
use stowage_testkit::artifacts::{
    Artifact, BlobData, IndexEntry, ModelFile, Packed, Tar, image, index, modelpack, oras_files,
};

/// One artifact and the volumes that are made of it.
pub(crate) struct Sample {
    pub(crate) title: &'static str,
    pub(crate) repository: &'static str,
    pub(crate) artifact: Artifact,
    /// The attributes of each volume, besides the reference.
    pub(crate) volumes: Vec<Vec<(&'static str, &'static str)>>,
    /// Files that come out of tars, with their digests.
    pub(crate) members: Vec<(&'static str, Digest)>,
}

/// An ORAS artifact, a `ModelPack` model with a file of `size_mib`, an index with two variants, and an image.
pub(crate) fn all(size_mib: u64) -> std::io::Result<Vec<Sample>> {
    let large = size_mib << 20;
    let tokenizer = || BlobData::generated(3, 2 << 20);
    let variant = |name: &str, seed: u64, share: u64| {
        modelpack(
            name,
            [
                ModelFile::new("weight", "model.gguf", BlobData::generated(seed, (large / share).max(4096))),
                ModelFile::new("weight.config", "tokenizer.json", tokenizer()),
            ],
        )
        .build()
    };
    Ok(vec![
        Sample {
            title: "an ORAS artifact: plain files, named by their titles",
            repository: "demo/config",
            artifact: oras_files([
                (
                    "README.md",
                    BlobData::from("# Config\n\nMounted by Stowage, straight from the registry.\n"),
                ),
                ("conf/app.yaml", BlobData::from("listen: 0.0.0.0:8080\nmodel: /models/tiny\n")),
                ("conf/limits.json", BlobData::from("{\"requests\": 64}\n")),
                ("assets/vocabulary.bin", BlobData::generated(1, 8 << 20)),
            ])
            .build()?,
            volumes: vec![vec![]],
            members: Vec::new(),
        },
        Sample {
            title: "a ModelPack model: weights, config, code",
            repository: "demo/model",
            artifact: modelpack(
                "tiny",
                [
                    ModelFile::new("weight", "weights/model.safetensors", BlobData::generated(2, large)),
                    ModelFile::new("weight.config", "config.json", "{\"architectures\": [\"Tiny\"]}\n"),
                    ModelFile::new("weight.config", "tokenizer.json", tokenizer()),
                    ModelFile::new("code", "serve.sh", "#!/bin/sh\nexec llama-server -m model.gguf\n")
                        .mode(0o755),
                ],
            )
            .build()?,
            volumes: vec![vec![]],
            members: Vec::new(),
        },
        Sample {
            title: "an index with two variants: the volume says which, and what they share is stored once",
            repository: "demo/quantized",
            artifact: index([
                IndexEntry::new(variant("q4", 4, 4)?).annotation("quantization", "q4"),
                IndexEntry::new(variant("q8", 5, 2)?).annotation("quantization", "q8"),
            ]),
            volumes: vec![vec![("variant", "quantization=q4")], vec![("variant", "quantization=q8")]],
            members: Vec::new(),
        },
        image_of_tars()?,
    ])
}

/// Two compressed tars, the second of which hides a file of the first.
fn image_of_tars() -> std::io::Result<Sample> {
    let data = BlobData::generated(6, 4 << 20).read_range(0..4 << 20)?;
    let hello = "#!/bin/sh\necho hello\n";
    let below = Tar::new().file("usr/share/data.bin", &data, 0o644).file("etc/old.conf", "old\n", 0o644);
    let above = Tar::new()
        .file("usr/bin/hello", hello, 0o755)
        .file("etc/new.conf", "new\n", 0o644)
        .whiteout("etc", "old.conf");
    let digest = |bytes: &[u8]| Digest::of(Algorithm::Sha256, bytes);
    Ok(Sample {
        title: "a container image of gzip and zstd tars: its files, with nothing unpacked",
        repository: "demo/image",
        artifact: image([Packed::gzip(&below.bytes())?, Packed::zstd(&above.bytes())?]).build()?,
        volumes: vec![vec![]],
        members: vec![
            ("etc/new.conf", digest(b"new\n")),
            ("usr/bin/hello", digest(hello.as_bytes())),
            ("usr/share/data.bin", digest(&data)),
        ],
    })
}

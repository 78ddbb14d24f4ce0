//! An artifact of files, as ORAS and as `ModelPack`, over the same blobs.

use serde_json::{Value, json};
use stowage_artifact::{Algorithm, Digest};
use stowage_testkit::artifacts::{OCI_EMPTY, OCI_MANIFEST, TITLE};

/// The repository of every artifact here.
pub(crate) const REPOSITORY: &str = "bench/model";
/// The tag of the ORAS manifest.
const TAG: &str = "v1";
/// The tag of the `ModelPack` manifest.
const MODEL_TAG: &str = "modelpack";

/// One file: its name, and the blob that it is.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// Its title.
    pub(crate) name: String,
    /// The blob.
    pub(crate) digest: Digest,
    /// Its size in bytes.
    pub(crate) size: u64,
}

/// Files in a registry.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    host: String,
    files: Vec<File>,
}

/// A manifest with its config and the tag that it gets.
pub(crate) struct Manifest {
    /// Its tag.
    pub(crate) tag: &'static str,
    /// The document.
    pub(crate) bytes: Vec<u8>,
    /// The config blob.
    pub(crate) config: Vec<u8>,
}

impl Image {
    /// Files on the registry at `host`.
    pub(crate) fn new(host: impl Into<String>, files: Vec<File>) -> Self {
        Self { host: host.into(), files }
    }

    /// The same files behind another address, such as a proxy's.
    pub(crate) fn at(&self, host: impl Into<String>) -> Self {
        Self::new(host, self.files.clone())
    }

    /// `address:port` of the registry.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The files.
    pub(crate) fn files(&self) -> &[File] {
        &self.files
    }

    /// Bytes of all files.
    pub(crate) fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// How it is named as an ORAS artifact.
    pub(crate) fn reference(&self) -> String {
        format!("{}/{REPOSITORY}:{TAG}", self.host)
    }

    /// How it is named as a model.
    pub(crate) fn model_reference(&self) -> String {
        format!("{}/{REPOSITORY}:{MODEL_TAG}", self.host)
    }

    /// Where each blob can be had.
    pub(crate) fn blob_urls(&self) -> impl Iterator<Item = String> {
        self.files.iter().map(|file| format!("http://{}/v2/{REPOSITORY}/blobs/{}", self.host, file.digest))
    }

    /// Both manifests.
    pub(crate) fn manifests(&self) -> [Manifest; 2] {
        [self.oras(), self.modelpack()]
    }

    fn oras(&self) -> Manifest {
        let layer = |file: &File| {
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": file.digest.as_str(),
                "size": file.size, "annotations": { TITLE: file.name },
            })
        };
        let layers: Vec<Value> = self.files.iter().map(layer).collect();
        manifest(TAG, "application/vnd.stowage.bench.v1", OCI_EMPTY, b"{}".to_vec(), &layers)
    }

    fn modelpack(&self) -> Manifest {
        let layer = |file: &File| {
            json!({
                "mediaType": "application/vnd.cncf.model.weight.v1.raw", "digest": file.digest.as_str(),
                "size": file.size, "annotations": { "org.cncf.model.filepath": file.name },
            })
        };
        let diffs: Vec<&str> = self.files.iter().map(|file| file.digest.as_str()).collect();
        let config = json!({
            "descriptor": { "name": "bench" },
            "config": { "architecture": "none", "format": "raw" },
            "modelfs": { "type": "layers", "diffIds": diffs },
        });
        let layers: Vec<Value> = self.files.iter().map(layer).collect();
        manifest(
            MODEL_TAG,
            "application/vnd.cncf.model.manifest.v1+json",
            "application/vnd.cncf.model.config.v1+json",
            config.to_string().into_bytes(),
            &layers,
        )
    }
}

fn manifest(
    tag: &'static str,
    artifact_type: &str,
    config_type: &str,
    config: Vec<u8>,
    layers: &[Value],
) -> Manifest {
    let document = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": {
            "mediaType": config_type, "size": config.len(),
            "digest": Digest::of(Algorithm::Sha256, &config).as_str(),
        },
        "layers": layers,
    });
    Manifest { tag, bytes: document.to_string().into_bytes(), config }
}

#[cfg(test)]
impl Image {
    /// Files of these sizes that are nowhere.
    pub(crate) fn for_test(sizes: &[u64]) -> Self {
        let file = |(index, size): (usize, &u64)| File {
            name: format!("{index}.bin"),
            digest: Digest::of(Algorithm::Sha256, &index.to_le_bytes()),
            size: *size,
        };
        Self::new("127.0.0.1:5000", sizes.iter().enumerate().map(file).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_manifests_name_the_same_blobs() {
        let image = Image::for_test(&[10, 20]);
        assert_eq!(image.size(), 30);
        assert_eq!(image.at("127.0.0.1:9").reference(), "127.0.0.1:9/bench/model:v1");
        let documents =
            image.manifests().map(|manifest| serde_json::from_slice::<Value>(&manifest.bytes).unwrap());
        for (index, file) in image.files().iter().enumerate() {
            let digest = file.digest.as_str();
            assert_eq!(documents[0]["layers"][index]["digest"], digest);
            assert_eq!(documents[1]["layers"][index]["digest"], digest);
        }
        let [oras, model] = image.manifests();
        assert_eq!(documents[0]["config"]["digest"], Digest::of(Algorithm::Sha256, &oras.config).as_str());
        assert_eq!(documents[1]["config"]["size"], model.config.len());
    }
}

//! Artifacts that are made, not pushed: the same words and the same salt give the same bytes.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde_json::{Value, json};
use stowage_artifact::{Algorithm, Digest};

use crate::Registry;
use crate::artifacts::{Artifact, BlobData, ModelFile, Packed, Tar, image, modelpack, oras_files};

/// The largest sample that is held in memory, in bytes: a tar is written there as a whole.
const MAX_IMAGE_BYTES: u64 = 256 << 20;

/// As what a sample is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Files as ORAS uploads them.
    Oras,
    /// A model of raw files as the CNCF's `ModelPack` specifies.
    ModelPack,
    /// A container image of one gzipped tar.
    Image,
}

impl Family {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Oras => "oras",
            Self::ModelPack => "modelpack",
            Self::Image => "image",
        }
    }
}

/// One artifact to stock: `family:repository:bytes`, where the bytes are those of its largest file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// As what it is pushed.
    pub family: Family,
    /// Where it is pushed.
    pub repository: String,
    /// Bytes of its largest file.
    pub bytes: u64,
}

/// A text that describes no sample.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` describes no sample: write FAMILY:REPOSITORY:BYTES, where the family is `oras`, `modelpack` or `image` (an \
     image has at most 268435456 bytes)"
)]
pub struct ParseSampleError(String);

impl FromStr for Sample {
    type Err = ParseSampleError;

    fn from_str(text: &str) -> Result<Self, ParseSampleError> {
        let refuse = || ParseSampleError(text.to_owned());
        let (family, rest) = text.split_once(':').ok_or_else(refuse)?;
        let (repository, bytes) = rest.split_once(':').ok_or_else(refuse)?;
        let family = [Family::Oras, Family::ModelPack, Family::Image]
            .into_iter()
            .find(|known| known.as_str() == family)
            .ok_or_else(refuse)?;
        let bytes = bytes.parse().map_err(|_| refuse())?;
        if repository.is_empty() || bytes == 0 || (family == Family::Image && bytes > MAX_IMAGE_BYTES) {
            return Err(refuse());
        }
        Ok(Self { family, repository: repository.to_owned(), bytes })
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.family.as_str(), self.repository, self.bytes)
    }
}

/// A sample in a registry.
#[derive(Clone, Debug)]
pub struct Stocked {
    /// Where it was pushed.
    pub repository: String,
    /// The tag it was pushed with.
    pub tag: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The files that a volume of it holds.
    pub files: Vec<StockedFile>,
    /// Its blobs, config first.
    pub blobs: Vec<Digest>,
}

/// One file of a sample.
#[derive(Clone, Debug)]
pub struct StockedFile {
    /// Its path in the volume.
    pub path: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

impl StockedFile {
    fn of(path: &str, data: &BlobData) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), digest: data.digest(Algorithm::Sha256)?, size: data.size() })
    }
}

impl Sample {
    /// Makes the artifact and puts it into the registry. Another salt gives another artifact, so that nobody has it
    /// cached; another tag a name that nobody remembers. Blocks for as long as hashing takes.
    pub fn stock(&self, registry: &Registry, tag: &str, salt: &str) -> io::Result<Stocked> {
        let (artifact, files) = self.build(salt)?;
        let digest = registry.push(&self.repository, Some(tag), &artifact);
        let blobs = artifact.blobs().iter().map(|(digest, _)| digest.clone()).collect();
        Ok(Stocked { repository: self.repository.clone(), tag: tag.to_owned(), digest, files, blobs })
    }

    fn build(&self, salt: &str) -> io::Result<(Artifact, Vec<StockedFile>)> {
        let large = BlobData::generated(self.seed(salt), self.bytes);
        let about = BlobData::from(format!("# {}\n\nMade for the run `{salt}`.\n", self.repository));
        let settings = BlobData::from("{\"architectures\": [\"Sample\"]}\n");
        match self.family {
            Family::Oras => {
                let files = [("README.md", about), ("conf/app.json", settings), ("data/large.bin", large)];
                Ok((oras_files(files.clone()).build()?, stocked(&files)?))
            }
            Family::ModelPack => {
                let files = [("README.md", about), ("config.json", settings), ("weights/large.bin", large)];
                let kinds = ["doc", "weight.config", "weight"];
                let layers = files.iter().zip(kinds);
                let layers = layers.map(|((path, data), kind)| ModelFile::new(kind, path, data.clone()));
                Ok((modelpack("sample", layers).build()?, stocked(&files)?))
            }
            Family::Image => {
                let large = BlobData::from(large.read_range(0..self.bytes)?);
                let files = [("README.md", about), ("data/large.bin", large)];
                let tar = files.iter().try_fold(Tar::new(), |tar, (path, data)| {
                    Ok::<_, io::Error>(tar.file(path, data.read_range(0..data.size())?, 0o644))
                })?;
                Ok((image([Packed::gzip(&tar.bytes())?]).build()?, stocked(&files)?))
            }
        }
    }

    /// What the generated bytes follow from.
    fn seed(&self, salt: &str) -> u64 {
        let digest = Digest::of(Algorithm::Sha256, format!("{salt}\n{self}").as_bytes());
        u64::from_str_radix(&digest.hex()[..16], 16).unwrap_or_default()
    }
}

fn stocked(files: &[(&str, BlobData)]) -> io::Result<Vec<StockedFile>> {
    files.iter().map(|(path, data)| StockedFile::of(path, data)).collect()
}

impl Stocked {
    /// The sample as the books show it.
    pub(super) fn document(&self) -> Value {
        let files = self
            .files
            .iter()
            .map(|file| json!({ "path": file.path, "digest": file.digest.to_string(), "size": file.size }));
        json!({
            "repository": self.repository,
            "tag": self.tag,
            "digest": self.digest.to_string(),
            "files": files.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_written_as_family_repository_and_bytes() {
        let sample: Sample = "modelpack:team/model:4096".parse().unwrap();
        assert_eq!(sample.family, Family::ModelPack);
        assert_eq!((sample.repository.as_str(), sample.bytes), ("team/model", 4096));
        assert_eq!(sample.to_string(), "modelpack:team/model:4096");
        for wrong in
            ["oras", "oras:a", "oras:a:", "oras:a:0", "oras::1", "zip:a:1", "image:a:268435457", "oras:a:-1"]
        {
            let error = wrong.parse::<Sample>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{wrong}` describes no sample")), "{error}");
        }
    }

    #[test]
    fn the_same_salt_gives_the_same_artifact_and_another_one_shares_no_large_file() {
        for family in [Family::Oras, Family::ModelPack, Family::Image] {
            let sample = Sample { family, repository: "a/b".into(), bytes: 10_000 };
            let (first, files) = sample.build("one").unwrap();
            assert_eq!(first.digest(), sample.build("one").unwrap().0.digest());
            let (second, others) = sample.build("two").unwrap();
            assert_ne!(first.digest(), second.digest());
            let large = |files: &[StockedFile]| files.last().unwrap().clone();
            assert_eq!(large(&files).size, 10_000);
            assert_ne!(large(&files).digest, large(&others).digest);
        }
    }
}

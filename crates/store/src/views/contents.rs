//! What a layout comes to once its blobs are here: which file is which blob, and which tars have which members.

use stowage_artifact::digest::Digest;
use stowage_artifact::{Codec, FilesystemLayer, MemberFilter, RelativePath, Source, TarLayer};
use stowage_erofs::{Rules, TarError, TarIndex};

use super::{File, Filesystem, ViewError, ViewSpec};
use crate::decode::DecodedBlob;
use crate::error::StoreError;
use crate::names::Sibling;
use crate::store::{Inner, Store};
use crate::tars::ScanError;

/// The mode of the file that a layer becomes when it turns out to be no tar.
const FILE_MODE: u32 = stowage_artifact::FILE_MODE;

/// The files and the tars of a view.
pub(super) struct Contents {
    /// Sorted by path.
    pub(super) files: Vec<File>,
    pub(super) tars: Vec<Tar>,
    /// The lowest first.
    pub(super) filesystems: Vec<Filesystem>,
    pub(super) rules: Rules,
    /// Keeps plain blobs until the view does.
    pub(super) decoded: Vec<DecodedBlob>,
}

impl Contents {
    /// Every blob that the view will show, with its size.
    pub(super) fn blobs(&self) -> impl Iterator<Item = (&Digest, Option<u64>)> {
        let files = self.files.iter().map(|file| (&file.digest, Some(file.size)));
        let tars = self.tars.iter().map(|tar| (&tar.digest, Some(tar.size)));
        let filesystems = self.filesystems.iter().map(|layer| (&layer.digest, Some(layer.size)));
        files.chain(tars).chain(filesystems)
    }
}

/// A tar whose members the view shows.
pub(super) struct Tar {
    /// How messages call it.
    pub(super) name: String,
    /// The blob, not compressed.
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) index: TarIndex,
}

/// A compressed blob, with what the artifact claims of its plain bytes.
struct Claimed<'a> {
    digest: &'a Digest,
    size: u64,
    codec: Codec,
    plain: Option<&'a Digest>,
    plain_size: Option<u64>,
    origin: &'a str,
}

impl Store {
    /// Finds the blobs of a layout, decodes those that are compressed, and lists the members of its tars.
    pub(super) fn contents(&self, spec: &ViewSpec) -> Result<Contents, ViewError> {
        let layout = &spec.layout;
        let is_image = layout.tars().iter().any(|tar| tar.whiteouts);
        let rules = if is_image { Rules::RootFilesystem } else { Rules::Files };
        let mut contents = Contents {
            files: Vec::new(),
            tars: Vec::new(),
            filesystems: Vec::new(),
            rules,
            decoded: Vec::new(),
        };
        let mut missing: Vec<Digest> = Vec::new();
        for (path, entry) in layout.entries() {
            let (digest, size) = match &entry.source {
                Source::Raw(digest) => (digest.clone(), entry.size),
                Source::Decoded(decoded) => {
                    let claimed = Claimed {
                        digest: &decoded.digest,
                        size: entry.size,
                        codec: decoded.codec,
                        plain: decoded.plain.as_ref(),
                        plain_size: decoded.plain_size,
                        origin: path.as_str(),
                    };
                    match self.plain_blob(&claimed, &mut contents.decoded, &mut missing)? {
                        Some(plain) => plain,
                        None => continue,
                    }
                }
                _ => return Err(ViewError::Unsupported(path.to_string())),
            };
            contents.files.push(File { path: path.clone(), digest, size, mode: entry.mode });
        }
        for layer in layout.tars() {
            self.add_tar(&mut contents, layout.filter(), layer, &mut missing)?;
        }
        for layer in layout.filesystems() {
            self.add_filesystem(&mut contents, layer, &mut missing)?;
        }
        if !missing.is_empty() {
            return Err(ViewError::MissingBlobs(missing));
        }
        contents.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(contents)
    }

    fn add_tar(
        &self,
        contents: &mut Contents,
        filter: &MemberFilter,
        layer: &TarLayer,
        missing: &mut Vec<Digest>,
    ) -> Result<(), ViewError> {
        let plain = match layer.codec {
            None => Some((layer.digest.clone(), layer.size)),
            Some(codec) => {
                let claimed = Claimed {
                    digest: &layer.digest,
                    size: layer.size,
                    codec,
                    plain: layer.plain.as_ref(),
                    plain_size: None,
                    origin: &layer.origin,
                };
                self.plain_blob(&claimed, &mut contents.decoded, missing)?
            }
        };
        let Some((digest, size)) = plain else { return Ok(()) };
        let tar_error = |source| ViewError::Tar { layer: layer.origin.clone(), source };
        let index = match self.inner().tar_index(&digest) {
            Ok(index) => index,
            Err(ScanError::Tar(TarError::NotATar | TarError::Empty)) if layer.fallback.is_some() => {
                return fall_back(contents, filter, layer, digest, size);
            }
            Err(ScanError::Tar(error)) => return Err(tar_error(error)),
            Err(ScanError::Store(StoreError::NoSuchBlob(_))) => {
                missing.push(layer.digest.clone());
                return Ok(());
            }
            Err(ScanError::Store(error)) => return Err(error.into()),
        };
        let rules = contents.rules;
        if let Some(area) = &layer.within {
            index.check_within(area, rules, &layer.origin)?;
        }
        let index = match &layer.at {
            None => index,
            Some(at) => index.beneath(at, rules).map_err(tar_error)?,
        };
        contents.tars.push(Tar { name: layer.origin.clone(), digest, size, index });
        Ok(())
    }

    fn add_filesystem(
        &self,
        contents: &mut Contents,
        layer: &FilesystemLayer,
        missing: &mut Vec<Digest>,
    ) -> Result<(), ViewError> {
        let plain = match layer.codec {
            None => Some((layer.digest.clone(), layer.size)),
            Some(codec) => {
                let claimed = Claimed {
                    digest: &layer.digest,
                    size: layer.size,
                    codec,
                    plain: layer.plain.as_ref(),
                    plain_size: None,
                    origin: &layer.origin,
                };
                self.plain_blob(&claimed, &mut contents.decoded, missing)?
            }
        };
        let Some((digest, size)) = plain else { return Ok(()) };
        contents.filesystems.push(Filesystem { digest, size, kind: layer.kind });
        Ok(())
    }

    /// The plain blob of a compressed one and its size, decoded where that was not done before. None where neither is here.
    fn plain_blob(
        &self,
        claimed: &Claimed<'_>,
        kept: &mut Vec<DecodedBlob>,
        missing: &mut Vec<Digest>,
    ) -> Result<Option<(Digest, u64)>, ViewError> {
        let decoded = match self.decoded(claimed.digest)? {
            Some(decoded) => decoded,
            None if self.blob_size(claimed.digest).is_none() => {
                missing.push(claimed.digest.clone());
                return Ok(None);
            }
            None => self.decode_blob(claimed.digest, claimed.codec)?,
        };
        let declared = (claimed.size, decoded.size());
        if declared.0 != declared.1 {
            let digest = claimed.digest.clone();
            return Err(ViewError::WrongSize { digest, declared: declared.0, found: declared.1 });
        }
        self.inner().check_claim(claimed, &decoded)?;
        let plain = (decoded.plain().clone(), decoded.plain_size());
        kept.push(decoded);
        Ok(Some(plain))
    }
}

impl Inner {
    /// Compares what the artifact says of the plain bytes with what they are.
    fn check_claim(&self, claimed: &Claimed<'_>, decoded: &DecodedBlob) -> Result<(), ViewError> {
        let lie = |claim: String, found: String| {
            Err(ViewError::Claim { layer: claimed.origin.to_owned(), claim, found })
        };
        if let Some(size) = claimed.plain_size.filter(|size| *size != decoded.plain_size()) {
            return lie(format!("{size} bytes"), format!("{} bytes", decoded.plain_size()));
        }
        let Some(digest) = claimed.plain else { return Ok(()) };
        let found = if digest.algorithm() == decoded.plain().algorithm() {
            decoded.plain().clone()
        } else {
            self.hash_blob_as(decoded.plain(), Sibling::BASE, digest.algorithm())?
        };
        if found == *digest { Ok(()) } else { lie(digest.to_string(), found.to_string()) }
    }
}

/// A layer that is no tar is a file, where it has the name of one and the volume shows it.
fn fall_back(
    contents: &mut Contents,
    filter: &MemberFilter,
    layer: &TarLayer,
    digest: Digest,
    size: u64,
) -> Result<(), ViewError> {
    let placed = layer.fallback.as_ref().and_then(|path| filter.place(path.as_str()));
    let Some(path) = placed.and_then(|path| RelativePath::parse(path).ok()) else { return Ok(()) };
    let taken = |file: &File| file.path == path || file.path.is_beneath(&path) || path.is_beneath(&file.path);
    if let Some(other) = contents.files.iter().find(|file| taken(file)) {
        let (first, second) = (other.path.to_string(), layer.origin.clone());
        return Err(ViewError::Collision { path: path.to_string(), first, second });
    }
    contents.files.push(File { path, digest, size, mode: FILE_MODE });
    Ok(())
}

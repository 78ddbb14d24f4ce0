//! fsck: reads everything, compares it with what it should be, and repairs on request.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use stowage_artifact::digest::Digest;

use crate::error::StoreError;
use crate::io::{Dir, IoError, Kind};
use crate::names::{self, IMAGE, Sibling, TREE};
use crate::records;
use crate::store::{Inner, Store};
use crate::views::{Document, ImageDocument};

/// What is wrong with a part of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProblemKind {
    /// A blob's bytes are not those of its digest, or cannot be read. Repair: quarantine.
    BadBlob,
    /// A blob has another mode than it should. Repair: set.
    BlobMode,
    /// A further inode of a blob that is not there. Repair: removed.
    OrphanSibling,
    /// A file in `blobs/` that is none. Repair: removed.
    StrangeFile,
    /// A view's tree is not what `view.json` says, or that cannot be read. Repair: condemned, and removed if unused.
    BadView,
    /// A view names a blob that is not in the store. Repair: as for a bad view.
    MissingBlob,
    /// A volume record cannot be read. Repair: removed.
    BadRecord,
    /// A record names a view that is not there.
    MissingView,
    /// What an earlier process left behind. Repair: removed.
    Leftover,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// What kind of thing.
    pub kind: ProblemKind,
    /// The digest, view id or path.
    pub subject: String,
    /// What was found.
    pub detail: String,
    /// Whether it was repaired.
    pub repaired: bool,
}

/// What a check of the whole store found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FsckReport {
    /// Blobs that were read.
    pub blobs: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Views that were walked.
    pub views: u64,
    /// Volume records that were read.
    pub records: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl FsckReport {
    /// Whether nothing is wrong, or everything that was has been repaired.
    pub fn is_clean(&self) -> bool {
        self.problems.iter().all(|problem| problem.repaired)
    }
}

impl Store {
    /// Reads every blob, view and record, and repairs what is wrong where asked. Others may use the store meanwhile.
    pub fn fsck(&self, repair: bool) -> Result<FsckReport, StoreError> {
        let mut check = Check { store: self, repair, report: FsckReport::default() };
        check.leftovers()?;
        check.records()?;
        check.strange_files()?;
        check.blobs()?;
        check.views()?;
        Ok(check.report)
    }
}

struct Check<'a> {
    store: &'a Store,
    repair: bool,
    report: FsckReport,
}

impl Check<'_> {
    fn inner(&self) -> &Inner {
        self.store.inner()
    }

    /// Notes a problem; `fix` runs where a repair was asked for.
    fn problem(
        &mut self,
        kind: ProblemKind,
        subject: String,
        detail: String,
        fix: impl FnOnce(&Store) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let repaired = self.repair && fix(self.store)?;
        self.report.problems.push(Problem { kind, subject, detail, repaired });
        Ok(())
    }

    fn leftovers(&mut self) -> Result<(), StoreError> {
        for (dir, name) in self.inner().find_leftovers()?.names {
            let subject = dir.path().join(&name).display().to_string();
            self.problem(
                ProblemKind::Leftover,
                subject,
                "left behind by an earlier process".to_owned(),
                |_| {
                    dir.remove_all("leftover.remove", &name)?;
                    Ok(true)
                },
            )?;
        }
        Ok(())
    }

    fn records(&mut self) -> Result<(), StoreError> {
        let dir = self.inner().dirs.volumes.clone();
        for name in dir.names()? {
            let path = || dir.path().join(&name).display().to_string();
            match records::read(&dir, &name) {
                Ok(records::Found::Record(record)) => {
                    self.report.records += 1;
                    if let Some(view) = record.view.filter(|view| self.inner().refs().view(view).is_none()) {
                        let detail = format!("its view {view} is not in the store");
                        self.problem(ProblemKind::MissingView, path(), detail, |_| Ok(false))?;
                    }
                }
                Ok(records::Found::Temporary) => {}
                Err(error) if error.is_not_found() => {}
                Ok(records::Found::Unreadable(detail)) => {
                    self.problem(ProblemKind::BadRecord, path(), detail, |_| {
                        crate::io::gone_is_fine(dir.unlink("record.remove", &name))?;
                        Ok(true)
                    })?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn strange_files(&mut self) -> Result<(), StoreError> {
        let mut strange = Vec::new();
        self.inner().each_shard(|algorithm, shard| {
            for name in shard.names()? {
                let at_home = Sibling::parse(algorithm, &name)
                    .is_some_and(|(digest, _)| shard.path().ends_with(names::shard(&digest).1));
                let is_file = shard.stat(&name)?.is_none_or(|found| found.kind == Kind::File);
                if !at_home || !is_file {
                    strange.push((shard.clone(), name));
                }
            }
            Ok(())
        })?;
        for (shard, name) in strange {
            let subject = shard.path().join(&name).display().to_string();
            self.problem(ProblemKind::StrangeFile, subject, "no blob has this name".to_owned(), |_| {
                shard.remove_all("fsck.remove", &name)?;
                Ok(true)
            })?;
        }
        Ok(())
    }

    fn blobs(&mut self) -> Result<(), StoreError> {
        let mut found = Vec::new();
        self.inner().each_blob(|blob| {
            found.push((blob.digest.clone(), blob.siblings.clone()));
        })?;
        for (digest, siblings) in found {
            if siblings.iter().any(|(sibling, _)| *sibling == Sibling::BASE) {
                self.blob(&digest, &siblings)?;
            } else {
                self.orphans(&digest, &siblings)?;
            }
        }
        Ok(())
    }

    fn blob(
        &mut self,
        digest: &Digest,
        siblings: &[(Sibling, crate::io::Metadata)],
    ) -> Result<(), StoreError> {
        for (sibling, stat) in siblings {
            let detail = match self.inner().hash_blob(digest, *sibling) {
                Ok(found) if found == *digest => None,
                Ok(found) => Some(format!("its bytes have the digest {found}")),
                // Collected while this runs.
                Err(error) if error.is_not_found() => continue,
                Err(error) => Some(error.to_string()),
            };
            self.report.bytes += stat.len;
            if let Some(detail) = detail {
                let reason = detail.clone();
                return self.problem(ProblemKind::BadBlob, digest.to_string(), detail, |store| {
                    store.quarantine(digest, &reason)?;
                    Ok(true)
                });
            }
            if stat.mode != sibling.mode() {
                let path = crate::blobs::blob_path(digest, *sibling);
                let detail = format!("its mode is {:04o} instead of {:04o}", stat.mode, sibling.mode());
                self.problem(ProblemKind::BlobMode, digest.to_string(), detail, |store| {
                    store.inner().dirs.blobs.chmod("fsck.chmod", &path, sibling.mode())?;
                    Ok(true)
                })?;
            }
        }
        self.report.blobs += 1;
        Ok(())
    }

    fn orphans(
        &mut self,
        digest: &Digest,
        siblings: &[(Sibling, crate::io::Metadata)],
    ) -> Result<(), StoreError> {
        for (sibling, _) in siblings {
            let path = crate::blobs::blob_path(digest, *sibling);
            let detail = "the blob itself is not there".to_owned();
            self.problem(ProblemKind::OrphanSibling, path.clone(), detail, |store| {
                crate::io::gone_is_fine(store.inner().dirs.blobs.unlink("fsck.remove", &path))?;
                Ok(true)
            })?;
        }
        Ok(())
    }

    fn views(&mut self) -> Result<(), StoreError> {
        for id in self.store.views() {
            let checked = match self.inner().read_view(&id) {
                Ok(document) => check_view(self.inner(), &id, &document),
                Err(StoreError::NoSuchView(_)) if self.inner().refs().view(&id).is_none() => continue,
                Err(error) => Ok(Some((ProblemKind::BadView, error.to_string()))),
            };
            let wrong = match checked {
                Err(error) if error.is_not_found() && self.inner().refs().view(&id).is_none() => continue,
                Err(error) => Some((ProblemKind::BadView, error.to_string())),
                Ok(wrong) => wrong,
            };
            self.report.views += 1;
            if let Some((kind, detail)) = wrong {
                let reason = detail.clone();
                self.problem(kind, id.clone(), detail, |store| {
                    store.inner().condemn(&id, &reason)?;
                    store.inner().remove_unused_view(&id)?;
                    Ok(true)
                })?;
            }
        }
        Ok(())
    }
}

/// Compares a view's tree with its `view.json`. `None` where they agree.
fn check_view(
    store: &Inner,
    id: &str,
    document: &Document,
) -> Result<Option<(ProblemKind, String)>, IoError> {
    let mut inodes: HashMap<&Digest, HashSet<(u64, u64)>> = HashMap::new();
    let mut expected: BTreeMap<&str, &Digest> = BTreeMap::new();
    let mut directories: BTreeSet<&str> = BTreeSet::new();
    for file in &document.files {
        expected.insert(file.path.as_str(), &file.digest);
        directories.extend(file.path.ancestors());
        if inodes.contains_key(&file.digest) {
            continue;
        }
        let mut of_blob = HashSet::new();
        for sibling in store.siblings_of(&file.digest)? {
            of_blob.extend(store.blob_stat(&file.digest, sibling)?.map(|found| found.dev_ino));
        }
        if of_blob.is_empty() {
            return Ok(Some((ProblemKind::MissingBlob, format!("blob {} is not in the store", file.digest))));
        }
        inodes.insert(&file.digest, of_blob);
    }
    let view = store.dirs.views.open_dir(id)?;
    if let Some(image) = &document.image
        && let Some(wrong) = check_image(store, &view, image)?
    {
        return Ok(Some(wrong));
    }
    let tree = view.open_dir(TREE)?;
    let wrong = walk(&tree, "", &mut |path, found| match found.kind {
        Kind::Directory if found.mode != 0o555 => Some(format!("{path} has mode {:04o}", found.mode)),
        Kind::Directory if !directories.remove(path) => Some(format!("{path} should not be there")),
        Kind::Directory => None,
        Kind::File => match expected.remove(path) {
            None => Some(format!("{path} should not be there")),
            Some(digest) => {
                let same = inodes.get(digest).is_some_and(|of_blob| of_blob.contains(&found.dev_ino));
                (!same).then(|| format!("{path} is not blob {digest}"))
            }
        },
        Kind::Other => Some(format!("{path} is neither a file nor a directory")),
    })?;
    let lost = expected.keys().next().map(|path| format!("{path} is not there"));
    Ok(wrong.or(lost).map(|detail| (ProblemKind::BadView, detail)))
}

/// Compares a view's image with its digest, and looks for the tars that it points into.
fn check_image(
    store: &Inner,
    view: &Dir,
    image: &ImageDocument,
) -> Result<Option<(ProblemKind, String)>, IoError> {
    for digest in &image.devices {
        if store.blob_stat(digest, Sibling::BASE)?.is_none() {
            return Ok(Some((ProblemKind::MissingBlob, format!("blob {digest} is not in the store"))));
        }
    }
    let bytes = match view.read("fsck.read", IMAGE) {
        Err(error) if error.is_not_found() => {
            return Ok(Some((ProblemKind::BadView, format!("{IMAGE} is not there"))));
        }
        read => read?,
    };
    let found = Digest::of(image.digest.algorithm(), &bytes);
    let detail = format!("{IMAGE} has the digest {found} instead of {}", image.digest);
    Ok((found != image.digest).then_some((ProblemKind::BadView, detail)))
}

/// Goes through a tree; ends with the first thing that `judge` finds wrong.
fn walk(
    dir: &Dir,
    above: &str,
    judge: &mut impl FnMut(&str, &crate::io::Metadata) -> Option<String>,
) -> Result<Option<String>, IoError> {
    for name in dir.names()? {
        let path = if above.is_empty() { name.clone() } else { format!("{above}/{name}") };
        let Some(found) = dir.stat(&name)? else { continue };
        if let Some(wrong) = judge(&path, &found) {
            return Ok(Some(wrong));
        }
        if found.kind == Kind::Directory
            && let Some(wrong) = walk(&dir.open_dir(&name)?, &path, judge)?
        {
            return Ok(Some(wrong));
        }
    }
    Ok(None)
}

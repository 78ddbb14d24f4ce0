//! What the tests share: stores, bytes, layouts, records.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stowage_artifact::digest::{Algorithm, Digest};
use stowage_artifact::{Codec, Layout, LayoutBuilder, RelativePath, SpecialPolicy, SymlinkPolicy, TarLayer};
use stowage_store::io::Probe;
use stowage_store::{
    CollectOptions, IngestError, IngestWriter, MinFree, RecordState, Store, StoreOptions, Testing, ViewKey,
    ViewSpec, VolumeRecord,
};

pub(crate) const BOOT: &str = "boot-one";

/// Options under which operations come in a fixed order, however full the machine's disk is.
pub(crate) fn options() -> StoreOptions {
    let testing = Testing { boot_id: Some(BOOT.to_owned()), no_threads: true, ..Testing::default() };
    let min_free = MinFree { bytes_percent: 0, inodes_percent: 0 };
    StoreOptions { testing, min_free, ..StoreOptions::default() }
}

pub(crate) fn options_with(probe: &Arc<Probe>) -> StoreOptions {
    let mut options = options();
    options.testing.probe = Some(Arc::clone(probe));
    options
}

/// Options of the next boot. The probe spares the disk real syncs.
pub(crate) fn after_reboot() -> StoreOptions {
    let mut options = options_with(&Probe::new());
    options.testing.boot_id = Some("boot-two".to_owned());
    options
}

/// A store in a directory that goes with it.
pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) root: tempfile::TempDir,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self::with(options())
    }

    pub(crate) fn with(options: StoreOptions) -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { store: Store::open(root.path(), options).unwrap(), root }
    }

    /// As after the death of the process.
    pub(crate) fn reopen(self, options: StoreOptions) -> Self {
        let Self { store, root } = self;
        drop(store);
        Self { store: Store::open(root.path(), options).unwrap(), root }
    }

    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(relative)
    }
}

impl std::ops::Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// Bytes that look like nothing in particular and differ by seed.
pub(crate) fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

pub(crate) fn blob_file(digest: &Digest, suffix: &str) -> String {
    format!("blobs/{}/{}/{}{suffix}", digest.algorithm(), &digest.hex()[..2], digest.hex())
}

/// Writes and marks the part of `whole` that the writer misses.
pub(crate) fn fill(writer: &IngestWriter, whole: &[u8]) -> Result<(), IngestError> {
    for gap in writer.missing() {
        writer.write_at(gap.start, &whole[gap.start as usize..gap.end as usize])?;
        writer.mark(gap)?;
    }
    Ok(())
}

/// Stores a blob as a download.
pub(crate) fn download(store: &Store, whole: &[u8]) -> Digest {
    let digest = digest(whole);
    let writer = store.ingest(&digest, whole.len() as u64).unwrap();
    fill(&writer, whole).unwrap();
    writer.commit().unwrap();
    digest
}

/// A file of a layout: path, bytes, executable.
pub(crate) type File<'a> = (&'a str, &'a [u8], bool);

pub(crate) fn layout(files: &[File<'_>]) -> Layout {
    layout_builder(files).finish().unwrap()
}

pub(crate) fn layout_builder(files: &[File<'_>]) -> LayoutBuilder {
    let mut builder = Layout::builder();
    for (path, bytes, executable) in files {
        let path = RelativePath::parse(path).unwrap();
        builder.raw(path, digest(bytes), bytes.len() as u64, *executable, "test").unwrap();
    }
    builder
}

pub(crate) fn spec(files: &[File<'_>]) -> ViewSpec {
    ViewSpec { layout: layout(files), attributes: ViewKey::default(), source: None }
}

/// Stores the blobs of the files and the view of them.
pub(crate) fn put_files(store: &Store, files: &[File<'_>]) -> ViewSpec {
    for (_, bytes, _) in files {
        store.put_blob(&digest(bytes), bytes).unwrap();
    }
    spec(files)
}

pub(crate) fn record(volume: &str, blobs: &[Digest], view: Option<&str>) -> VolumeRecord {
    VolumeRecord {
        volume_id: volume.to_owned(),
        target: PathBuf::from(format!("/var/lib/kubelet/pods/{volume}/mount")),
        state: if view.is_some() { RecordState::Mounted } else { RecordState::Pending },
        readonly: true,
        capability: "mount/SINGLE_NODE_WRITER".to_owned(),
        attributes: BTreeMap::from([("reference".to_owned(), "registry.example/a:1".to_owned())]),
        reference: "registry.example/a:1".to_owned(),
        manifest_digest: None,
        view: view.map(str::to_owned),
        blobs: blobs.to_vec(),
        dev_ino: None,
        created: 1_700_000_000,
    }
}

/// Everything that nobody refers to, however new.
pub(crate) fn everything() -> CollectOptions {
    CollectOptions { force: true, min_age: Some(Duration::ZERO), ..CollectOptions::default() }
}

/// Names in a directory of the store.
pub(crate) fn names(root: &Path, directory: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(root.join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Every file in `blobs/`.
pub(crate) fn blob_files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.join("blobs")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// A tar of files: path and bytes, or a directory where the path ends in a slash.
pub(crate) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (path, bytes) in members {
        let mut header = [0; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, path);
        put(100, "0000644\0");
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{:011o}\0", bytes.len()));
        put(136, "00000000000\0");
        put(148, "        ");
        put(156, if path.ends_with('/') { "5" } else { "0" });
        put(257, "ustar\0");
        put(263, "00");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&header);
        tar.extend_from_slice(bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A tar layer of an artifact that is no image.
pub(crate) fn tar_layer(blob: &[u8], codec: Option<Codec>) -> TarLayer {
    TarLayer {
        digest: digest(blob),
        size: blob.len() as u64,
        codec,
        plain: None,
        at: None,
        within: None,
        fallback: None,
        whiteouts: false,
        symlinks: SymlinkPolicy::Inside,
        specials: SpecialPolicy::Refuse,
        origin: "layer 1".to_owned(),
    }
}

/// Stores a blob as a download that is decoded as it comes.
pub(crate) fn decoded_download(store: &Store, whole: &[u8], codec: Codec) -> Digest {
    let digest = digest(whole);
    let writer = store.ingest(&digest, whole.len() as u64).unwrap();
    writer.decode(codec).unwrap();
    fill(&writer, whole).unwrap();
    writer.advance().unwrap();
    writer.commit().unwrap();
    digest
}

//! The open store.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::OpenError;
use crate::format;
use crate::grants::Grants;
use crate::io::{Dir, Io, IoError};
use crate::keyed::KeyedLocks;
use crate::lock::NodeLock;
use crate::names;
use crate::options::StoreOptions;
use crate::records;
use crate::refs::Refs;
use crate::times::UseClock;
use crate::worker::Worker;

/// How often a waiting process asks for the lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// An open store. Clones share it; the lock goes with the last one.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

/// The open directories.
#[derive(Debug)]
pub(crate) struct Dirs {
    pub(crate) blobs: Dir,
    pub(crate) decoded: Dir,
    pub(crate) ingest: Dir,
    pub(crate) views: Dir,
    pub(crate) volumes: Dir,
    pub(crate) tags: Dir,
    pub(crate) quarantine: Dir,
    pub(crate) trash: Dir,
}

/// What the clones of a store share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) io: Io,
    pub(crate) dirs: Dirs,
    pub(crate) options: StoreOptions,
    pub(crate) boot_id: String,
    pub(crate) worker: Worker,
    pub(crate) grants: Grants,
    pub(crate) view_locks: KeyedLocks,
    /// Bytes that were admitted and are not on the disk yet.
    pub(crate) reserved: AtomicU64,
    /// One collection at a time.
    pub(crate) collecting: Mutex<()>,
    /// Shards of `blobs/` that this process has seen to be on the disk.
    pub(crate) synced_shards: Mutex<std::collections::HashSet<String>>,
    /// Records that are written and not synced yet, by key.
    pub(crate) unsynced_records: Arc<Mutex<crate::records::Unsynced>>,
    /// Whether what earlier processes decoded is known.
    pub(crate) decoded_known: AtomicBool,
    refs: Mutex<Refs>,
    clock: OnceLock<UseClock>,
    /// Goes last.
    _lock: NodeLock,
}

impl Store {
    /// Opens the store at `root`, or makes one of an empty or missing directory.
    ///
    /// Only records and names are read; committed blobs are trusted until fsck or a scrub. What an earlier process
    /// left behind is removed in the background.
    pub fn open(root: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let path = make_root(root)?;
        let io = Io::new(&path, options.testing.probe.clone());
        let dir = io.open_root()?;
        let found = dir.metadata()?;
        check_owner(&dir, &path)?;
        if found.mode != 0o700 {
            dir.chmod_self("format.chmod", 0o700)?;
        }
        let lock = NodeLock::take(&dir, &path)?;
        format::check_or_make(&dir, &path)?;
        let boot_id = match &options.testing.boot_id {
            Some(boot_id) => boot_id.clone(),
            None => boot_id()?,
        };
        let mut refs = Refs::default();
        let dirs = Dirs {
            blobs: dir.open_dir(names::BLOBS)?,
            decoded: dir.open_dir(names::DECODED)?,
            ingest: dir.open_dir(names::INGEST)?,
            views: dir.open_dir(names::VIEWS)?,
            volumes: dir.open_dir(names::VOLUMES)?,
            tags: dir.open_dir(names::TAGS)?,
            quarantine: dir.open_dir(names::QUARANTINE)?,
            trash: dir.open_dir(names::TRASH)?,
        };
        records::load(&dirs.volumes, &mut refs)?;
        for name in dirs.views.names()? {
            if names::parse_view(&name).is_some() {
                refs.add_view(&name, None);
            }
        }
        let worker = Worker::start(options.testing.no_threads)
            .map_err(|error| IoError::new("start a thread for", path.clone(), error))?;
        let grants = Grants::open(dir.open_dir(names::GRANTS)?)?;
        let store = Self {
            inner: Arc::new(Inner {
                io,
                dirs,
                options,
                boot_id,
                worker,
                grants,
                view_locks: KeyedLocks::default(),
                reserved: AtomicU64::new(0),
                collecting: Mutex::new(()),
                synced_shards: Mutex::default(),
                unsynced_records: Arc::default(),
                decoded_known: AtomicBool::new(false),
                refs: Mutex::new(refs),
                clock: OnceLock::new(),
                _lock: lock,
            }),
        };
        store.repair_leftovers()?;
        Ok(store)
    }

    /// As [`Store::open`], but waits while another process has the store: until `cancel` is set, or the deadline.
    pub fn wait_open(
        root: &Path,
        options: &StoreOptions,
        cancel: &AtomicBool,
        deadline: Option<Instant>,
    ) -> Result<Self, OpenError> {
        loop {
            match Self::open(root, options.clone()) {
                Err(OpenError::Locked { path, pid }) => {
                    let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                    if late || cancel.load(Ordering::Acquire) {
                        return Err(OpenError::GaveUp { path, pid });
                    }
                    std::thread::sleep(LOCK_INTERVAL);
                }
                outcome => return outcome,
            }
        }
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        self.inner.io.root()
    }

    /// A directory that is always empty, for the second layer of a read-only overlay.
    pub fn empty_dir(&self) -> PathBuf {
        self.root().join(names::EMPTY)
    }

    /// Where files may be made that go at once: what a crash leaves here is removed at the next start.
    pub fn scratch_dir(&self) -> PathBuf {
        self.root().join(names::TRASH)
    }

    /// How the store was opened.
    pub fn options(&self) -> &StoreOptions {
        &self.inner.options
    }

    /// Who may read what.
    pub fn grants(&self) -> &Grants {
        &self.inner.grants
    }

    /// Lets the clock of "last used" run ahead, for tests.
    pub fn let_time_pass(&self, by: Duration) {
        self.inner.clock().advance(by);
    }

    /// The store whose inside this is.
    pub(crate) fn of(inner: &Arc<Inner>) -> Self {
        Self { inner: Arc::clone(inner) }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl Inner {
    pub(crate) fn refs(&self) -> MutexGuard<'_, Refs> {
        self.refs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock of "last used", which starts behind everything on the disk.
    pub(crate) fn clock(&self) -> &UseClock {
        self.clock.get_or_init(|| {
            let views: Vec<String> = self.refs().view_ids().cloned().collect();
            let newest = views.iter().filter_map(|id| self.view_last_used(id)).max();
            UseClock::starting_after(newest.unwrap_or(0))
        })
    }

    /// Free and total space, as the filesystem or a test has it.
    pub(crate) fn space(&self) -> Result<stowage_sys::Space, IoError> {
        match &self.options.testing.space {
            Some(made_up) => {
                let usage = self.scan_usage()?;
                Ok(made_up.with_store(usage.bytes, usage.inodes))
            }
            None => stowage_sys::space(self.io.root())
                .map_err(|error| IoError::new("find the free space of", self.io.root().to_owned(), error)),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.worker.stop();
    }
}

/// The store's directory, made where it is missing, as a path that does not depend on the current directory.
fn make_root(root: &Path) -> Result<PathBuf, OpenError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let failed = |error| IoError::new("make the store's directory", root.to_owned(), error);
    if let Some(parent) = root.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(root) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(error).into()),
        _ => {}
    }
    Ok(std::fs::canonicalize(root).map_err(failed)?)
}

fn check_owner(dir: &Dir, path: &Path) -> Result<(), OpenError> {
    let owner = dir.owner()?;
    let user = nix::unistd::geteuid().as_raw();
    if owner == user {
        return Ok(());
    }
    Err(OpenError::Owner { path: path.to_owned(), owner, user })
}

fn boot_id() -> Result<String, OpenError> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    match std::fs::read_to_string(PATH) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(IoError::new("read", PathBuf::from(PATH), error).into()),
    }
}

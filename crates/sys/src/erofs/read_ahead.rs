//! How far the kernel reads ahead. A mount through files has an entry of its own in sysfs, which nothing links to the mount.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The kernel's list of what reads ahead, over all filesystems and block devices.
const LIST: &str = "/sys/class/bdi";

/// Makes a filesystem and sets the read-ahead of the one entry that came up with it.
///
/// Where another process mounts EROFS in the same moment there are two, and both stay as they are.
pub(super) fn set_for_new_filesystem<T, E>(
    kib: Option<u32>,
    make: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    /// Held by those who set nothing too: what they make would be a second new entry.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(kib) = kib else { return make() };
    let before = erofs_entries();
    let made = make()?;
    let after = erofs_entries();
    drop(guard);
    let new: Vec<_> = after.difference(&before).collect();
    match new.as_slice() {
        [one] => write(kib, &Path::new(LIST).join(one).join("read_ahead_kb")),
        other => tracing::debug!(new = other.len(), "the new filesystem's read-ahead stays as it is"),
    }
    Ok(made)
}

pub(crate) fn set_for_loop_device(kib: Option<u32>, number: u32) {
    if let Some(kib) = kib {
        write(kib, Path::new(&format!("/sys/block/loop{number}/queue/read_ahead_kb")));
    }
}

/// `erofs-7` and so on; none where sysfs is not mounted.
fn erofs_entries() -> BTreeSet<OsString> {
    let names = std::fs::read_dir(LIST).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().starts_with("erofs-")).collect()
}

fn write(kib: u32, path: &Path) {
    if let Err(error) = std::fs::write(path, kib.to_string()) {
        tracing::debug!(path = %path.display(), %error, "the read-ahead stays as it is");
    }
}

//! `format.json`, the directories of a store, and what a filesystem must offer.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::OpenError;
use crate::io::Dir;
use crate::names::{self, DIRECTORIES, FORMAT};

/// The version that this program writes.
pub(crate) const VERSION: u32 = 1;
const NAME: &str = "stowage-store";
/// Incompatible features that this program knows: none yet.
const INCOMPATIBLE: [&str; 0] = [];

/// The content of `format.json`. Fields that a later version adds are ignored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Format {
    #[serde(rename = "format")]
    name: String,
    version: u32,
    /// Features that a program may ignore.
    #[serde(default)]
    compatible: Vec<String>,
    /// Features that a program must know.
    #[serde(default)]
    incompatible: Vec<String>,
    #[serde(default)]
    written_by: String,
}

/// Checks the store in `root`, or makes one of an empty directory. The caller holds the lock.
pub(crate) fn check_or_make(root: &Dir, path: &Path) -> Result<(), OpenError> {
    let made = match root.read("format.read", FORMAT) {
        Ok(bytes) => {
            check(&bytes, path)?;
            false
        }
        Err(error) if error.is_not_found() => {
            refuse_strangers(root, path)?;
            true
        }
        Err(error) => return Err(error.into()),
    };
    check_filesystem(path, made)?;
    let device = root.metadata()?.dev_ino.0;
    for name in DIRECTORIES {
        let (dir, _) = root.ensure_dir("format.mkdir", name, 0o700)?;
        let found = dir.metadata()?;
        if found.dev_ino.0 != device {
            return Err(OpenError::CrossesFilesystems { path: path.to_owned(), part: path.join(name) });
        }
        if found.mode != 0o700 {
            dir.chmod_self("format.chmod", 0o700)?;
        }
    }
    if made {
        let format = Format {
            name: NAME.to_owned(),
            version: VERSION,
            compatible: Vec::new(),
            incompatible: Vec::new(),
            written_by: format!("stowage {}", env!("CARGO_PKG_VERSION")),
        };
        let bytes = serde_json::to_vec_pretty(&format).map_err(|error| bad(path, &error.to_string()))?;
        root.replace("format.write", FORMAT, &bytes, true)?;
    }
    Ok(())
}

/// Parses and judges the bytes of `format.json`.
fn check(bytes: &[u8], path: &Path) -> Result<(), OpenError> {
    let format: Format = serde_json::from_slice(bytes).map_err(|error| bad(path, &error.to_string()))?;
    if format.name != NAME {
        return Err(bad(path, &format!("its format is `{}`, not `{NAME}`", format.name)));
    }
    // Version N reads N-1; there is none before the first.
    if format.version != VERSION {
        return Err(OpenError::Version { path: path.to_owned(), found: format.version, known: VERSION });
    }
    match format.incompatible.into_iter().find(|flag| !INCOMPATIBLE.contains(&flag.as_str())) {
        Some(flag) => Err(OpenError::UnknownFeature { path: path.to_owned(), flag }),
        None => Ok(()),
    }
}

fn bad(path: &Path, reason: &str) -> OpenError {
    OpenError::BadFormat { path: path.join(FORMAT), reason: reason.to_owned() }
}

/// A directory without `format.json` may hold only what an interrupted first start leaves.
fn refuse_strangers(root: &Dir, path: &Path) -> Result<(), OpenError> {
    let ours = |name: &String| {
        DIRECTORIES.contains(&name.as_str())
            || [names::LOCK, names::ADMIN_SOCKET, "lost+found"].contains(&name.as_str())
            || names::is_temporary(name)
            || name.starts_with(".probe-")
    };
    match root.names()?.into_iter().find(|name| !ours(name)) {
        Some(entry) => Err(OpenError::NotAStore { path: path.to_owned(), entry }),
        None => Ok(()),
    }
}

fn check_filesystem(path: &Path, new: bool) -> Result<(), OpenError> {
    let support = match stowage_sys::probe_filesystem(path) {
        Ok(support) => support,
        // A store on a full disk must open, or nothing could be collected.
        Err(error) if !new && matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) => {
            return Ok(());
        }
        Err(error) => {
            return Err(crate::io::IoError::new("test the filesystem of", path.to_owned(), error).into());
        }
    };
    let needs =
        [(support.hard_links, "hard links"), (support.fallocate, "fallocate"), (support.flock, "flock")];
    match needs.into_iter().find(|(has, _)| !has) {
        Some((_, missing)) => Err(OpenError::Filesystem { path: path.to_owned(), missing }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str) -> Result<(), OpenError> {
        check(text.as_bytes(), Path::new("/store"))
    }

    #[test]
    fn only_a_known_format_is_opened() {
        assert!(judge(r#"{"format":"stowage-store","version":1}"#).is_ok());
        assert!(judge(r#"{"format":"stowage-store","version":1,"compatible":["new"],"later":7}"#).is_ok());
        assert!(matches!(judge(r#"{"format":"other","version":1}"#), Err(OpenError::BadFormat { .. })));
        assert!(matches!(judge("{"), Err(OpenError::BadFormat { .. })));
        assert!(matches!(
            judge(r#"{"format":"stowage-store","version":2}"#),
            Err(OpenError::Version { found: 2, known: 1, .. })
        ));
        let flagged = judge(r#"{"format":"stowage-store","version":1,"incompatible":["erofs-v9"]}"#);
        assert!(matches!(&flagged, Err(OpenError::UnknownFeature { flag, .. }) if flag == "erofs-v9"));
        assert!(flagged.unwrap_err().to_string().contains("erofs-v9"));
    }
}

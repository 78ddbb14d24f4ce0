//! Unix sockets at paths that an older or a newer process of ours may hold at the same time: those that kubelet
//! and external-provisioner call.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// A socket cannot be put at its path.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {path}: {source}; check that its directory exists and can be written")]
pub struct SocketError {
    path: PathBuf,
    source: io::Error,
}

/// A socket that knows which inode it made. Dropped, it removes its path only where that inode is still there.
#[derive(Debug)]
pub struct OwnedSocket {
    path: PathBuf,
    inode: (u64, u64),
}

impl OwnedSocket {
    /// Listens at `path` (mode 0600), taking the place of whatever socket is there in one step.
    ///
    /// The socket is made under a hidden name, which kubelet's plugin watcher ignores, and renamed.
    pub fn bind(path: &Path) -> Result<(Self, UnixListener), SocketError> {
        let failed = |source| SocketError { path: path.to_owned(), source };
        let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        // Short: a socket path has at most 107 bytes.
        let hidden = path.with_file_name(format!(".{}", std::process::id()));
        let _ = std::fs::remove_file(&hidden);
        let bound = (|| {
            let listener = UnixListener::bind(&hidden)?;
            std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))?;
            let metadata = std::fs::symlink_metadata(&hidden)?;
            std::fs::rename(&hidden, path)?;
            Ok((Self { path: path.to_owned(), inode: (metadata.dev(), metadata.ino()) }, listener))
        })();
        bound.map_err(|error: io::Error| {
            let _ = std::fs::remove_file(&hidden);
            tracing::debug!(name = ?name, %error, "socket not made");
            failed(error)
        })
    }

    /// Whether the path still leads to this socket.
    pub fn in_place(&self) -> bool {
        std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.inode)
    }
}

impl Drop for OwnedSocket {
    fn drop(&mut self) {
        if self.in_place() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_replaces_and_removes_only_what_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("csi.sock");
        let (old, _old_listener) = OwnedSocket::bind(&path).unwrap();
        assert!(old.in_place());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (new, _new_listener) = OwnedSocket::bind(&path).unwrap();
        assert!(!old.in_place() && new.in_place());
        drop(old);
        assert!(new.in_place(), "the old process removed the new one's socket");
        drop(new);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_missing_directory_is_named() {
        let error = OwnedSocket::bind(Path::new("/nonexistent/csi.sock")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/csi.sock"), "{error}");
    }
}

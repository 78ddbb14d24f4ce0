//! What a node has on its disk and in its mount table, and what of it should not be there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use stowage_artifact::Digest;
use stowage_sys::MountEntry;

use super::Node;

impl Node {
    /// Every mount beneath the test's directory.
    pub(crate) fn mounts(&self) -> Vec<MountEntry> {
        stowage_sys::mounts_beneath(&self.scene.root).unwrap()
    }

    /// The store's directory.
    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// The file of a blob, there or not.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let shard = &digest.hex()[..2];
        self.store.join("blobs").join(digest.algorithm().to_string()).join(shard).join(digest.hex())
    }

    /// Names directly in a directory of the store.
    pub(crate) fn entries(&self, directory: &str) -> Vec<String> {
        let listed = std::fs::read_dir(self.store.join(directory)).into_iter().flatten();
        let mut names: Vec<_> =
            listed.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Every file beneath a directory of the store (`""` is all of it), as paths in the store.
    pub(crate) fn files(&self, directory: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        walk(&self.store.join(directory), &mut |path| {
            if !path.is_dir() {
                files.push(path.strip_prefix(&self.store).unwrap().to_owned());
            }
        });
        files.sort();
        files
    }

    /// What no volume accounts for any more: mounts, targets, records, unfinished downloads, temporary files.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> =
            self.mounts().iter().map(|mount| format!("mounted: {}", mount.mount_point.display())).collect();
        for directory in ["volumes", "ingest", "trash"] {
            left.extend(
                self.entries(directory).iter().map(|name| format!("in the store: {directory}/{name}")),
            );
        }
        walk(&self.store, &mut |path| {
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp-")) {
                left.push(format!("temporary: {}", path.display()));
            }
        });
        walk(&self.scene.kubelet.root().join("pods"), &mut |path| {
            if path.file_name().is_some_and(|name| name == "mount") {
                left.push(format!("target: {}", path.display()));
            }
        });
        left
    }

    /// Waits until there are no [`Node::leftovers`].
    pub(crate) async fn nothing_left(&self) {
        self.nothing_left_but(&[]).await;
    }

    /// Waits until there are no [`Node::leftovers`] but in these directories of the store, such as `ingest`.
    pub(crate) async fn nothing_left_but(&self, directories: &[&str]) {
        let mut left = Vec::new();
        let met = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            loop {
                left = self.leftovers();
                left.retain(|left| {
                    !directories.iter().any(|name| left.starts_with(&format!("in the store: {name}/")))
                });
                if left.is_empty() {
                    return;
                }
                ticks.tick().await;
            }
        };
        let met = tokio::time::timeout(Duration::from_secs(20), met).await.is_ok();
        assert!(met, "left behind: {left:#?}");
    }
}

/// Every file and directory beneath, without following symlinks; what vanishes meanwhile is left out.
fn walk(directory: &Path, seen: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        seen(&path);
        // Never into a volume: it is the artifact's, not ours.
        let volume = stowage_sys::inspect(&path).is_ok_and(|point| point.is_some());
        if !volume && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, seen);
        }
    }
}

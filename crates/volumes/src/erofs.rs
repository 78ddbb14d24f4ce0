//! How this node shows the members of tars: the kernel's version, one trial mount, the administrator's choice.

use std::io;

use stowage_artifact::FilesystemKind;
use stowage_erofs::{Layer, Rules, Selection, TarIndexer, merge, write_image};
use stowage_store::{View, ViewFilesystem, ViewImage};
use stowage_sys::{
    Detached, ErofsBacking, ErofsOptions, ErofsProbe, ErofsSupport, ImageFilesystem, MountError,
};

use crate::{Inner, Volumes};

/// The default of [`crate::VolumesOptions::read_ahead_kib`]: near native speed in order, and a random read does not bring
/// whole files.
pub const READ_AHEAD_KIB: u32 = 1024;
/// What the tar of the trial mount holds: more than one block, and not a whole number of them.
const TRIAL_BYTES: usize = 513;

impl Volumes {
    /// How the members of tars are shown on this node. The first call mounts something small to find out, and takes it away.
    pub fn erofs_support(&self) -> &ErofsSupport {
        self.inner.erofs_support()
    }
}

impl Inner {
    pub(crate) fn erofs_support(&self) -> &ErofsSupport {
        self.erofs.get_or_init(|| {
            let support = self.probe().unwrap_or_else(|error| ErofsSupport {
                backing: None,
                direct_io: false,
                why: Some(format!("a trial image cannot be made: {error}")),
            });
            match (&support.backing, &support.why) {
                (None, why) => {
                    tracing::warn!(why = why.as_deref(), "the files in tars cannot be shown on this node");
                }
                (Some(backing), why) => {
                    tracing::info!(%backing, direct_io = support.direct_io, why = why.as_deref(), "EROFS works");
                }
            }
            support
        })
    }

    fn probe(&self) -> io::Result<ErofsSupport> {
        let tar = trial_tar();
        let mut indexer = TarIndexer::new();
        indexer.push(&tar).map_err(io::Error::other)?;
        let index = indexer.finish().map_err(io::Error::other)?;
        let layers = [Layer { name: "trial", blob: "trial", index: &index }];
        let tree = merge(&layers, Rules::Files, Selection::default()).map_err(io::Error::other)?;
        let mut image = Vec::new();
        write_image(&tree, &mut image).map_err(io::Error::other)?;
        let directory = self.store.scratch_dir();
        let probe = ErofsProbe { image: &image, devices: &[&tar], directory: &directory };
        Ok(self.mounter.probe_erofs(&probe, self.options.erofs))
    }

    /// Mounts a view's image where nobody sees it, with the view's own tree over it where there is one.
    pub(crate) fn mount_image(&self, view: &View, image: &ViewImage) -> Result<Detached, MountError> {
        let support = self.erofs_support();
        let Some(backing) = support.backing else {
            return Err(MountError::Unsupported {
                what: "EROFS, which files in tars need",
                path: image.path.clone(),
            });
        };
        let options = ErofsOptions {
            direct_io: support.direct_io,
            read_ahead_kib: Some(self.options.read_ahead_kib),
            // Of an overlay the label is the overlay's own.
            label: self.selinux_label.filter(|_| !view.has_tree),
            ..ErofsOptions::new(backing)
        };
        let below = self.mounter.erofs(&image.path, &image.devices, &options)?;
        if view.has_tree {
            self.mounter.joined_readonly(&view.tree, below, self.selinux_label)
        } else {
            Ok(below)
        }
    }
}

impl Inner {
    /// Mounts the filesystem images of a view over each other, with the view's own tree over them where there is one.
    pub(crate) fn mount_filesystems(&self, view: &View) -> Result<Detached, MountError> {
        let options = ErofsOptions {
            read_ahead_kib: Some(self.options.read_ahead_kib),
            // An overlay has its own label; a single image has nothing above it.
            label: self.selinux_label.filter(|_| view.filesystems.len() == 1 && !view.has_tree),
            ..ErofsOptions::new(self.erofs_support().backing.unwrap_or(ErofsBacking::Loop))
        };
        let mount = |layer: &ViewFilesystem| {
            let kind = match layer.kind {
                FilesystemKind::Squashfs => ImageFilesystem::Squashfs,
                FilesystemKind::Erofs => ImageFilesystem::Erofs,
            };
            self.mounter.filesystem_image(&layer.path, kind, &options)
        };
        let layers = view.filesystems.iter().map(mount).collect::<Result<Vec<_>, _>>()?;
        self.mounter.stacked_readonly(
            layers,
            view.has_tree.then_some(view.tree.as_path()),
            self.selinux_label,
        )
    }
}

/// A tar with one file.
fn trial_tar() -> Vec<u8> {
    let mut tar = vec![0; 512];
    let fields: [(usize, &str); 8] = [
        (0, "trial"),
        (100, "0000444\0"),
        (108, "0000000\0"),
        (116, "0000000\0"),
        (124, &format!("{TRIAL_BYTES:011o}\0")),
        (136, "00000000000\0"),
        (148, "        "),
        (257, "ustar\x0000"),
    ];
    for (at, text) in fields {
        tar[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    tar[156] = b'0';
    let sum: u32 = tar.iter().map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.resize(512 + TRIAL_BYTES, b't');
    tar.resize(512 + TRIAL_BYTES.next_multiple_of(512) + 1024, 0);
    tar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trial_tar_is_one() {
        let mut indexer = TarIndexer::new();
        indexer.push(&trial_tar()).unwrap();
        let index = indexer.finish().unwrap();
        let members: Vec<_> = index.members().map(|member| (member.path, member.size)).collect();
        assert_eq!(members, [(&b"trial"[..], TRIAL_BYTES as u64)]);
    }
}

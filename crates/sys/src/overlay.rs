//! Overlays of lower layers only, whose superblock is read-only whatever becomes of the mount's flags.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::detached::MountError;
use crate::file::descriptor_path;
use crate::fs_context::{FsContext, LONGEST_VALUE};
use crate::kernel::KernelVersion;

/// The text that stands as the device in the mount table; nothing reads it but people.
pub(crate) const SOURCE: &str = "stowage";

/// As many lower layers as overlayfs takes (`OVL_MAX_STACK`).
const MOST_LAYERS: usize = 500;

/// What an overlay is made of: open directories, so that their paths may have any length and any character.
pub(crate) struct Layers<'a> {
    /// What the topmost shows, for messages.
    top: &'a Path,
    /// The topmost first.
    open: Vec<OwnedFd>,
    label: Option<&'a str>,
}

impl<'a> Layers<'a> {
    /// A directory over an empty one.
    pub(crate) fn open(tree: &'a Path, empty: &'a Path, label: Option<&'a str>) -> Result<Self, MountError> {
        Ok(Self { top: tree, open: vec![open_layer(tree)?, open_layer(empty)?], label })
    }

    /// Open directories, among them roots of other mounts, the topmost first: a number that [`count_is_possible`] allows.
    pub(crate) fn stacked(top: &'a Path, open: Vec<OwnedFd>, label: Option<&'a str>) -> Self {
        Self { top, open, label }
    }

    pub(crate) fn top(&self) -> &Path {
        self.top
    }

    /// The options for mount(2).
    pub(crate) fn options(&self) -> String {
        let layers = self.joined();
        match self.label {
            Some(label) => format!("lowerdir={layers},context=\"{label}\""),
            None => format!("lowerdir={layers}"),
        }
    }

    /// Whether fsconfig(2) can name them so.
    pub(crate) fn fit(&self, naming: Naming) -> bool {
        naming > Naming::Joined || self.joined().len() <= LONGEST_VALUE
    }

    pub(crate) fn wrong_count(&self) -> MountError {
        MountError::LayerCount { layers: self.open.len(), path: self.top.to_owned() }
    }

    fn names(&self) -> impl Iterator<Item = String> {
        self.open.iter().map(descriptor_path)
    }

    fn joined(&self) -> String {
        self.names().collect::<Vec<_>>().join(":")
    }
}

/// Whether there can be an overlay of so many lower layers and no upper one.
pub(crate) fn count_is_possible(layers: usize) -> bool {
    (2..=MOST_LAYERS).contains(&layers)
}

pub(crate) fn open_layer(path: &Path) -> Result<OwnedFd, MountError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|error| MountError::kernel("open the overlay's layer", path, error))
}

/// How the layers are named to the kernel; each kernel takes what the ones before it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Naming {
    /// All in one `lowerdir`.
    Joined,
    /// One `lowerdir+` after the other (6.8).
    OneByOne,
    /// So too, and a layer may be the root of a detached mount (6.15).
    Detached,
}

impl Naming {
    pub(crate) fn of_this_kernel() -> Self {
        KernelVersion::running().map_or(Self::Joined, Self::of_kernel)
    }

    fn of_kernel(kernel: KernelVersion) -> Self {
        if kernel >= KernelVersion::OVERLAY_DETACHED_LAYER {
            Self::Detached
        } else if kernel >= KernelVersion::OVERLAY_APPEND {
            Self::OneByOne
        } else {
            Self::Joined
        }
    }
}

pub(crate) fn mount_detached(layers: &Layers<'_>, naming: Naming) -> Result<OwnedFd, MountError> {
    let context = FsContext::open("overlay", "overlayfs", layers.top)?;
    configure(&context, layers, naming)
        .and_then(|()| context.mount())
        .map_err(|error| context.explain("make a read-only overlay of", layers.top, error))
}

fn configure(context: &FsContext, layers: &Layers<'_>, naming: Naming) -> Result<(), Errno> {
    context.set("source", SOURCE)?;
    context.set_flag("ro")?;
    match naming {
        Naming::OneByOne | Naming::Detached => {
            for layer in layers.names() {
                context.set("lowerdir+", layer)?;
            }
        }
        Naming::Joined => context.set("lowerdir", layers.joined())?,
    }
    if let Some(label) = layers.label {
        context.set("context", label)?;
    }
    context.create()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let base = tempfile::tempdir().unwrap();
        let (tree, empty) = (base.path().join("tree: a,b\\c"), base.path().join("empty"));
        std::fs::create_dir(&tree).unwrap();
        std::fs::create_dir(&empty).unwrap();
        (base, tree, empty)
    }

    #[test]
    fn both_ways_to_name_the_layers_give_the_same_overlay() {
        let (_base, tree, empty) = directories();
        std::fs::write(tree.join("file"), "content").unwrap();
        let layers = Layers::open(&tree, &empty, None).unwrap();
        for naming in [Naming::OneByOne, Naming::Joined] {
            let mount =
                mount_detached(&layers, naming).expect("this test needs root (CAP_SYS_ADMIN) and overlayfs");
            let file = Path::new(&descriptor_path(&mount)).join("file");
            assert_eq!(std::fs::read(file).unwrap(), b"content", "{naming:?}");
        }
    }

    #[test]
    fn a_label_reaches_the_kernel() {
        let (_base, tree, empty) = directories();
        let layers = Layers::open(&tree, &empty, Some("system_u:object_r:container_file_t:s0")).unwrap();
        assert!(layers.options().ends_with(",context=\"system_u:object_r:container_file_t:s0\""));
        let outcome = mount_detached(&layers, Naming::OneByOne);
        if crate::kernel::selinux_enabled() {
            outcome.expect("SELinux is on, so the label is accepted");
        } else {
            let error = outcome.expect_err("SELinux is off, so nobody takes the option").to_string();
            // The kernel's own words, out of the context of the mount.
            assert!(error.contains("Unknown parameter 'context'"), "{error}");
        }
    }

    #[test]
    fn the_version_decides_how_layers_are_named() {
        for (release, naming) in [
            ("5.15.0", Naming::Joined),
            ("6.7.12", Naming::Joined),
            ("6.8.0", Naming::OneByOne),
            ("6.14.11", Naming::OneByOne),
            ("6.15.0", Naming::Detached),
            ("7.0.0", Naming::Detached),
        ] {
            assert_eq!(Naming::of_kernel(release.parse().unwrap()), naming, "{release}");
        }
    }
}

//! Overlays of lower layers only, whose superblock is read-only whatever becomes of the mount's flags.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::detached::MountError;
use crate::file::descriptor_path;
use crate::kernel::KernelVersion;

/// The text that stands as the device in the mount table; nothing reads it but people.
pub(crate) const SOURCE: &str = "stowage";

/// What an overlay is made of: two open directories, so that their paths may have any length and any character.
pub(crate) struct Layers<'a> {
    tree_path: &'a Path,
    tree: OwnedFd,
    empty: OwnedFd,
    label: Option<&'a str>,
}

impl<'a> Layers<'a> {
    pub(crate) fn open(
        tree_path: &'a Path,
        empty: &'a Path,
        label: Option<&'a str>,
    ) -> Result<Self, MountError> {
        Ok(Self { tree_path, tree: open_layer(tree_path)?, empty: open_layer(empty)?, label })
    }

    pub(crate) fn tree(&self) -> &Path {
        self.tree_path
    }

    /// The options for mount(2).
    pub(crate) fn options(&self) -> String {
        let layers = self.joined();
        match self.label {
            Some(label) => format!("lowerdir={layers},context=\"{label}\""),
            None => format!("lowerdir={layers}"),
        }
    }

    fn joined(&self) -> String {
        format!("{}:{}", descriptor_path(&self.tree), descriptor_path(&self.empty))
    }
}

fn open_layer(path: &Path) -> Result<OwnedFd, MountError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|error| MountError::kernel("open the overlay's layer", path, error))
}

/// How the layers are named to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// One `lowerdir+` after the other (6.8).
    OneByOne,
    /// All in one `lowerdir`.
    Joined,
}

pub(crate) fn mount_detached(layers: &Layers<'_>) -> Result<OwnedFd, MountError> {
    let one_by_one = KernelVersion::running().is_ok_and(|kernel| kernel >= KernelVersion::OVERLAY_APPEND);
    mount_named(layers, if one_by_one { Naming::OneByOne } else { Naming::Joined })
}

fn mount_named(layers: &Layers<'_>, naming: Naming) -> Result<OwnedFd, MountError> {
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| match error {
            Errno::NODEV => MountError::Unsupported { what: "overlayfs", path: layers.tree_path.to_owned() },
            other => MountError::kernel("open an overlay for", layers.tree_path, other),
        })?;
    configure(&context, layers, naming)
        .and_then(|()| {
            let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV;
            rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
        })
        .map_err(|error| match MountError::kernel("make a read-only overlay of", layers.tree_path, error) {
            MountError::Kernel { step, path, source, .. } => {
                MountError::Kernel { step, path, source, kernel: kernel_messages(context) }
            }
            other => other,
        })
}

fn configure(context: &OwnedFd, layers: &Layers<'_>, naming: Naming) -> Result<(), Errno> {
    use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string};
    fsconfig_set_string(context, "source", SOURCE)?;
    fsconfig_set_flag(context, "ro")?;
    match naming {
        Naming::OneByOne => {
            fsconfig_set_string(context, "lowerdir+", descriptor_path(&layers.tree))?;
            fsconfig_set_string(context, "lowerdir+", descriptor_path(&layers.empty))?;
        }
        Naming::Joined => fsconfig_set_string(context, "lowerdir", layers.joined())?,
    }
    if let Some(label) = layers.label {
        fsconfig_set_string(context, "context", label)?;
    }
    fsconfig_create(context)
}

/// What the kernel wrote into the context: one message a read, each with its level before it.
fn kernel_messages(context: OwnedFd) -> String {
    let mut log = std::fs::File::from(context);
    let mut messages = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(length @ 1..) = log.read(&mut buffer) {
        let message = String::from_utf8_lossy(&buffer[..length]).trim().to_owned();
        messages.push(message.split_once(' ').map_or(message.clone(), |(_, text)| text.to_owned()));
    }
    if messages.is_empty() { String::new() } else { format!(" ({})", messages.join("; ")) }
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
                mount_named(&layers, naming).expect("this test needs root (CAP_SYS_ADMIN) and overlayfs");
            let file = Path::new(&descriptor_path(&mount)).join("file");
            assert_eq!(std::fs::read(file).unwrap(), b"content", "{naming:?}");
        }
    }

    #[test]
    fn a_label_reaches_the_kernel() {
        let (_base, tree, empty) = directories();
        let layers = Layers::open(&tree, &empty, Some("system_u:object_r:container_file_t:s0")).unwrap();
        assert!(layers.options().ends_with(",context=\"system_u:object_r:container_file_t:s0\""));
        let outcome = mount_named(&layers, Naming::OneByOne);
        if crate::kernel::selinux_enabled() {
            outcome.expect("SELinux is on, so the label is accepted");
        } else {
            let error = outcome.expect_err("SELinux is off, so nobody takes the option").to_string();
            // The kernel's own words, out of the context of the mount.
            assert!(error.contains("Unknown parameter 'context'"), "{error}");
        }
    }
}

//! Mounting images with their blobs.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

/// An image that is mounted until this goes.
pub(crate) struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    /// Mounts an image straight from its file, with the blobs in order.
    pub(crate) fn files(image: &Path, blobs: &[&Path], target: &'a Path) -> Result<Self> {
        let open = |path: &Path| File::open(path).with_context(|| format!("cannot open {}", path.display()));
        let blobs = blobs.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
        let image = open(image)?;
        let link = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
        let links: Vec<String> = blobs.iter().map(link).collect();
        Self::mount(&link(&image), &links, target)
    }

    /// Mounts from paths, of files or of block devices.
    pub(crate) fn mount(image: &str, blobs: &[String], target: &'a Path) -> Result<Self> {
        let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).context(
            "EROFS cannot be mounted here: it takes a kernel with CONFIG_EROFS_FS, and root outside user namespaces",
        )?;
        let explain = |error| {
            let said = messages(&context);
            anyhow!("the kernel refuses the image: {error}{said}")
        };
        fsconfig_set_string(&context, "source", image).map_err(explain)?;
        for blob in blobs {
            fsconfig_set_string(&context, "device", blob).map_err(explain)?;
        }
        fsconfig_set_flag(&context, "ro").map_err(explain)?;
        fsconfig_create(&context).map_err(explain)?;
        let mount =
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(explain)?;
        move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(explain)?;
        Ok(Self(target))
    }
}

/// What the kernel has to say about a failed mount.
fn messages(context: &impl rustix::fd::AsFd) -> String {
    let mut said = String::new();
    let mut message = [0; 1024];
    while let Ok(bytes) = rustix::io::read(context, &mut message) {
        said.push_str("; ");
        said.push_str(String::from_utf8_lossy(&message[..bytes]).trim());
    }
    said
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // The namespace goes in any case.
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

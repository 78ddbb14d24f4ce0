//! Images that others made: layers of an artifact that are filesystems themselves (`formats.md`).
//!
//! The kernel parses what a stranger wrote, so whoever calls this has asked the administrator first.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::io::Errno;

use crate::detached::{Detached, MountError, Mounter};
use crate::erofs::loop_device::LoopDevice;
use crate::erofs::source::Source;
use crate::erofs::{self, ErofsOptions, read_ahead};
use crate::fs_context::FsContext;

/// The filesystem of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFilesystem {
    /// With blocks of any size that the kernel takes.
    Erofs,
    /// Always through a loop device: no kernel reads it from a file.
    Squashfs,
}

impl Mounter {
    /// An image that comes alone, without devices, mounted as it is.
    ///
    /// As with [`Self::erofs`], the superblock is read-only, and the file must stay as it is. Of the options, `squashfs` takes the
    /// label and the read-ahead. [`crate::ErofsSupport`] is about our own images: those of 4096-byte blocks are older than it
    /// says.
    pub fn filesystem_image(
        &self,
        image: &Path,
        kind: ImageFilesystem,
        options: &ErofsOptions<'_>,
    ) -> Result<Detached, MountError> {
        if self.is_legacy() {
            return Err(MountError::Unsupported {
                what: "detached mounts, which images need",
                path: image.to_owned(),
            });
        }
        let image = Source::open(image)?;
        match kind {
            ImageFilesystem::Erofs => {
                refuse_devices(&image)?;
                erofs::mount(&image, &[], options)
            }
            ImageFilesystem::Squashfs => squashfs(&image, options),
        }
    }
}

fn squashfs(image: &Source, options: &ErofsOptions<'_>) -> Result<Detached, MountError> {
    let context = FsContext::open("squashfs", "SquashFS", image.path())?;
    // Its own descriptor goes at the end, so that the last unmount frees the device; so does a failure.
    let device = LoopDevice::attach(image)?;
    let configure = || {
        context.set("source", device.node())?;
        context.set_flag("ro")?;
        if let Some(label) = options.label {
            context.set("context", label)?;
        }
        context.create()?;
        context.mount()
    };
    match configure() {
        Ok(mount) => {
            read_ahead::set_for_loop_device(options.read_ahead_kib, device.number());
            Detached::protected(mount, image.path())
        }
        Err(error) => Err(squashfs_refusal(context, image, error)),
    }
}

fn squashfs_refusal(context: FsContext, image: &Source, error: Errno) -> MountError {
    let hint = match rustix::fs::fstat(image.file()) {
        // `mksquashfs -nopad` makes such images.
        Ok(stat) if stat.st_size % 512 != 0 => {
            "its size is no multiple of 512 bytes, and a loop device does not show what lies behind the last whole block"
        }
        _ => "`dmesg | grep -i squashfs` says why",
    };
    context.explain_image("mount the SquashFS image", image.path(), error, hint)
}

/// Some kernels (around 5.19 to 6.3) would open the devices by the names that the image gives them: a stranger could name any disk.
/// The others mount the image and fail to read its files.
fn refuse_devices(image: &Source) -> Result<(), MountError> {
    let has_devices = names_devices(image.file()).map_err(|error| MountError::Kernel {
        step: "read",
        path: image.path().to_owned(),
        source: error,
        kernel: String::new(),
    })?;
    if has_devices { Err(MountError::NeedsDevices { path: image.path().to_owned() }) } else { Ok(()) }
}

/// Whether the superblock lists devices; what is no EROFS image lists none.
fn names_devices(image: BorrowedFd<'_>) -> io::Result<bool> {
    const AT: u64 = 1024;
    const MAGIC: [u8; 4] = 0xe0f5_e1e2_u32.to_le_bytes();
    /// Where `extra_devices` is. Kernels look at it only where a flag says so; nobody fills it without the flag.
    const EXTRA_DEVICES: usize = 86;
    let mut superblock = [0; 128];
    let mut filled = 0;
    while filled < superblock.len() {
        match rustix::io::pread(image, &mut superblock[filled..], AT + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(superblock.starts_with(&MAGIC) && superblock[EXTRA_DEVICES..EXTRA_DEVICES + 2] != [0, 0])
}

//! EROFS views: a metadata image, and the tars that its files point into as further devices (`store.md`, "EROFS views").

pub(crate) mod loop_device;
mod probe;
pub(crate) mod read_ahead;
pub(crate) mod source;
mod support;

use std::fmt;
use std::path::Path;

use rustix::io::Errno;

use crate::detached::{Detached, MountError, Mounter};
use crate::file::descriptor_path;
use crate::fs_context::FsContext;
use loop_device::LoopDevice;
use source::Source;

pub use probe::ErofsProbe;
pub use support::{ErofsBackingChoice, ErofsSupport};

/// How the kernel reads an image and its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErofsBacking {
    /// Straight from the files (6.12.2).
    File,
    /// Through read-only loop devices, which go with the last mount (6.4). They need the host's `/dev`.
    Loop,
}

impl fmt::Display for ErofsBacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Loop => "loop",
        })
    }
}

/// How an EROFS view is mounted.
#[derive(Debug, Clone, Copy)]
pub struct ErofsOptions<'a> {
    /// How the kernel reads the files.
    pub backing: ErofsBacking,
    /// Read the files without a second copy in the page cache. Only where this kernel and the filesystem of every file allow
    /// it, and never through loop devices; else it counts as not asked for.
    pub direct_io: bool,
    /// How far the kernel reads ahead in a file of the view, in KiB; `None` leaves its default. A failure to set it is no error.
    pub read_ahead_kib: Option<u32>,
    /// The SELinux label that every file carries.
    pub label: Option<&'a str>,
}

impl ErofsOptions<'_> {
    /// Buffered, without a label, with the kernel's read-ahead.
    pub fn new(backing: ErofsBacking) -> Self {
        Self { backing, direct_io: false, read_ahead_kib: None, label: None }
    }
}

impl Mounter {
    /// An image with its devices, in the order in which the image lists them.
    ///
    /// The superblock is read-only whatever becomes of the mount's flags. The files must stay as they are for as long as anything
    /// is mounted; they may lose their names.
    pub fn erofs(
        &self,
        image: &Path,
        devices: &[impl AsRef<Path>],
        options: &ErofsOptions<'_>,
    ) -> Result<Detached, MountError> {
        if self.is_legacy() {
            return Err(MountError::Unsupported {
                what: "detached mounts, which EROFS images need",
                path: image.to_owned(),
            });
        }
        let image = Source::open(image)?;
        let devices =
            devices.iter().map(|path| Source::open(path.as_ref())).collect::<Result<Vec<_>, _>>()?;
        mount(&image, &devices, options)
    }
}

pub(crate) fn mount(
    image: &Source,
    devices: &[Source],
    options: &ErofsOptions<'_>,
) -> Result<Detached, MountError> {
    let context = match options.backing {
        ErofsBacking::File => from_files(image, devices, options)?,
        ErofsBacking::Loop => from_loop_devices(image, devices, options)?,
    };
    match context.mount() {
        Ok(mount) => Detached::protected(mount, image.path()),
        Err(error) => Err(refusal(context, image, error)),
    }
}

fn from_files(
    image: &Source,
    devices: &[Source],
    options: &ErofsOptions<'_>,
) -> Result<FsContext, MountError> {
    let direct_io = options.direct_io && support::direct_io_is_sound_here(image, devices);
    let names: Vec<String> = devices.iter().map(|device| descriptor_path(device.file())).collect();
    read_ahead::set_for_new_filesystem(options.read_ahead_kib, || {
        superblock(image, &descriptor_path(image.file()), &names, direct_io, options.label)
    })
}

/// The loop devices' own descriptors go at the end, so that the last unmount frees the devices; so does a failure.
fn from_loop_devices(
    image: &Source,
    devices: &[Source],
    options: &ErofsOptions<'_>,
) -> Result<FsContext, MountError> {
    let image_device = LoopDevice::attach(image)?;
    let loop_devices = devices.iter().map(LoopDevice::attach).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = loop_devices.iter().map(LoopDevice::node).collect();
    let context = superblock(image, &image_device.node(), &names, false, options.label)?;
    // The window for every file of a filesystem is that of its first device.
    read_ahead::set_for_loop_device(options.read_ahead_kib, image_device.number());
    Ok(context)
}

/// Names are `/proc/thread-self/fd/N` or `/dev/loopN`: a value may have 255 bytes only.
fn superblock(
    image: &Source,
    source: &str,
    devices: &[String],
    direct_io: bool,
    label: Option<&str>,
) -> Result<FsContext, MountError> {
    let context = FsContext::open("erofs", "EROFS", image.path())?;
    let configure = || {
        context.set("source", source)?;
        for device in devices {
            context.set("device", device)?;
        }
        context.set_flag("ro")?;
        if direct_io {
            context.set_flag("directio")?;
        }
        if let Some(label) = label {
            context.set("context", label)?;
        }
        context.create()
    };
    match configure() {
        Ok(()) => Ok(context),
        Err(error) => Err(refusal(context, image, error)),
    }
}

/// EROFS tells what is wrong with an image to the kernel's log only.
fn refusal(context: FsContext, image: &Source, error: Errno) -> MountError {
    context.explain_image("mount the EROFS image", image.path(), error, "`dmesg | grep erofs` says why")
}

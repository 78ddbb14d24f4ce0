//! Loop devices that show a file read-only and go with their last user.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::source::Source;
use crate::detached::MountError;
use crate::raw;

const CONTROL: &str = "/dev/loop-control";
/// How often another process may be faster with a device that was free.
const TRIES: u32 = 64;

/// A file as a block device. Dropping it frees the device, unless a filesystem uses it by then.
pub(crate) struct LoopDevice {
    _device: OwnedFd,
    number: u32,
}

impl LoopDevice {
    /// Blocks of 512 bytes, never direct I/O; what is left over behind the last full block of the file cannot be read.
    pub(crate) fn attach(source: &Source) -> Result<Self, MountError> {
        // Not by way of `MountError::kernel`: ENOSPC says nothing of mounts here.
        let error = |source_error: io::Error| MountError::Kernel {
            step: "attach a loop device to",
            path: source.path().to_owned(),
            source: source_error,
            kernel: String::new(),
        };
        let control = match open(CONTROL, OFlags::RDWR) {
            Err(Errno::NOENT | Errno::NXIO | Errno::NODEV) => {
                return Err(MountError::NoLoopNode { node: CONTROL.into() });
            }
            other => other.map_err(|errno| error(errno.into()))?,
        };
        for _ in 0..TRIES {
            let number = raw::loop_get_free(control.as_fd()).map_err(error)?;
            let node = node(number);
            let device = match open(&node, OFlags::RDONLY) {
                Ok(device) => device,
                Err(Errno::NOENT) => return Err(MountError::NoLoopNode { node: node.into() }),
                // It was just removed.
                Err(Errno::NXIO | Errno::NODEV) => continue,
                Err(errno) => return Err(error(errno.into())),
            };
            match raw::loop_configure(device.as_fd(), source.file()) {
                Ok(()) => return Ok(Self { _device: device, number }),
                Err(other) => match other.raw_os_error() {
                    // Another process was faster, or its remains are still in the device's cache.
                    Some(libc::EBUSY | libc::EAGAIN | libc::ENXIO | libc::ENODEV) => {}
                    _ => return Err(error(other)),
                },
            }
        }
        Err(error(Errno::BUSY.into()))
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn node(&self) -> String {
        node(self.number)
    }
}

fn node(number: u32) -> String {
    format!("/dev/loop{number}")
}

fn open(path: impl AsRef<Path>, mode: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path.as_ref(), mode | OFlags::CLOEXEC, Mode::empty())
}

//! A filesystem that is being configured: options in, a detached mount or the kernel's own words out.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::detached::MountError;

/// In bytes, without the zero at the end.
pub(crate) const LONGEST_VALUE: usize = 255;

/// What the kernel answers when it does not like an image or its devices.
const ABOUT_THE_IMAGE: [Errno; 4] = [Errno::INVAL, Errno::BADMSG, Errno::UCLEAN, Errno::OPNOTSUPP];

/// What fsopen(2) opens; nothing is mounted until [`Self::mount`].
pub(crate) struct FsContext {
    context: OwnedFd,
}

impl FsContext {
    /// `name` is the kernel's, `what` the people's; `path` is what is to be mounted, for the message.
    pub(crate) fn open(name: &str, what: &'static str, path: &Path) -> Result<Self, MountError> {
        match rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(context) => Ok(Self { context }),
            Err(Errno::NODEV) => Err(MountError::Unsupported { what, path: path.to_owned() }),
            Err(error) => Err(MountError::kernel("open a filesystem context for", path, error)),
        }
    }

    /// The kernel takes values of at most [`LONGEST_VALUE`] bytes.
    pub(crate) fn set(&self, key: &str, value: impl AsRef<Path>) -> Result<(), Errno> {
        rustix::mount::fsconfig_set_string(&self.context, key, value.as_ref())
    }

    pub(crate) fn set_flag(&self, key: &str) -> Result<(), Errno> {
        rustix::mount::fsconfig_set_flag(&self.context, key)
    }

    /// Makes the superblock out of the options.
    pub(crate) fn create(&self) -> Result<(), Errno> {
        rustix::mount::fsconfig_create(&self.context)
    }

    /// A detached mount of the superblock.
    pub(crate) fn mount(&self) -> Result<OwnedFd, Errno> {
        let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV;
        rustix::mount::fsmount(&self.context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
    }

    /// The error of one of the calls above, with what the kernel wrote about it.
    pub(crate) fn explain(self, step: &'static str, path: &Path, error: Errno) -> MountError {
        match MountError::kernel(step, path, error) {
            MountError::Kernel { step, path, source, .. } => {
                MountError::Kernel { step, path, source, kernel: self.messages() }
            }
            other => other,
        }
    }

    /// As [`Self::explain`]; `hint` is said where the kernel dislikes the image and wrote nothing here.
    pub(crate) fn explain_image(
        self,
        step: &'static str,
        path: &Path,
        error: Errno,
        hint: &str,
    ) -> MountError {
        match self.explain(step, path, error) {
            MountError::Kernel { step, path, source, kernel }
                if kernel.is_empty() && ABOUT_THE_IMAGE.contains(&error) =>
            {
                MountError::Kernel { step, path, source, kernel: format!(" ({hint})") }
            }
            other => other,
        }
    }

    /// One message a read, each with its level before it.
    fn messages(self) -> String {
        let mut log = std::fs::File::from(self.context);
        let mut messages = Vec::new();
        let mut buffer = [0; 512];
        while let Ok(length @ 1..) = log.read(&mut buffer) {
            let message = String::from_utf8_lossy(&buffer[..length]).trim().to_owned();
            messages.push(message.split_once(' ').map_or(message.clone(), |(_, text)| text.to_owned()));
        }
        if messages.is_empty() { String::new() } else { format!(" ({})", messages.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_that_the_kernel_has_not_is_named() {
        let outcome = FsContext::open("no-such-filesystem", "SquashFS", Path::new("/blobs/layer"));
        let error = outcome.err().expect("no kernel has it");
        assert!(
            matches!(error, MountError::Unsupported { .. }),
            "this test needs root (CAP_SYS_ADMIN): {error:?}"
        );
        assert_eq!(error.to_string(), "cannot mount /blobs/layer: this kernel offers no SquashFS");
    }
}

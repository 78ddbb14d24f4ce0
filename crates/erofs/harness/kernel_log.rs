//! The lines that the kernel logs while something runs.

use std::io;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, SeekFrom};

/// The kernel's log from a moment on.
pub(crate) struct KernelLog(OwnedFd);

impl KernelLog {
    pub(crate) fn from_now_on() -> Result<Self> {
        let log =
            rustix::fs::open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
                .context("cannot read the kernel's log at /dev/kmsg")?;
        rustix::fs::seek(&log, SeekFrom::End(0))?;
        Ok(Self(log))
    }

    /// The new lines that tell of trouble: anything of EROFS but its mounts, and any sign of a broken kernel.
    pub(crate) fn trouble(&mut self) -> Result<Vec<String>> {
        Ok(self.lines()?.into_iter().filter(|line| is_trouble(line)).collect())
    }

    /// The new lines.
    pub(crate) fn lines(&mut self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut record = [0; 8192];
        loop {
            match rustix::io::read(&self.0, &mut record).map_err(io::Error::from) {
                Ok(bytes) => {
                    let text = String::from_utf8_lossy(&record[..bytes]);
                    let line = text.split_once(';').map_or(&*text, |(_, line)| line);
                    let line = line.lines().next().unwrap_or_default();
                    found.push(line.to_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(found),
                // Lines were lost because there were too many.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
                Err(error) => return Err(error).context("cannot read the kernel's log"),
            }
        }
    }
}

pub(crate) fn is_trouble(line: &str) -> bool {
    // Programs that crash are named in the log too, and some are called after it.
    let of_erofs = line.starts_with("erofs") && !line.contains("mounted with root inode");
    let broken =
        ["BUG:", "WARNING:", "Oops", "general protection fault", "kernel NULL pointer", "Call Trace"];
    of_erofs || broken.iter().any(|sign| line.contains(sign))
}

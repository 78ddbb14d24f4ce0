//! What a kernel can do with EROFS views, judged by its version alone.
//!
//! The version comes first because some kernels do not refuse what they cannot do: 6.12.0 and 6.12.1 panic on a file-backed
//! mount with small blocks, and vendors keep calling theirs 6.12.0.

use super::ErofsBacking;
use super::source::Source;
use crate::kernel::KernelVersion;

/// The first with blocks of 512 bytes, which is where the members of tars begin.
const SMALL_BLOCKS: KernelVersion = KernelVersion::new(6, 4, 0);
/// The first that mounts such images straight from files without harm.
const FILE_BACKED: KernelVersion = KernelVersion::new(6, 12, 2);

/// How EROFS views are mounted on a node, or why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErofsSupport {
    /// How; `None` where it cannot be done at all.
    pub backing: Option<ErofsBacking>,
    /// Whether [`crate::ErofsOptions::direct_io`] may be asked for on this kernel; each file's filesystem has its say later.
    pub direct_io: bool,
    /// Why there is nothing better, a sentence for people; `None` with [`ErofsBacking::File`].
    pub why: Option<String>,
}

/// The administrator's say in how EROFS views are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErofsBackingChoice {
    /// What the kernel's version allows and the probe finds to work.
    #[default]
    Auto,
    /// From files whatever the version says: for a kernel whose vendor has the fixes of 6.12.2 under an older number. Without
    /// them the probe itself can bring the node down.
    File,
    /// Through loop devices whatever the version says.
    Loop,
    /// Not at all.
    None,
}

impl ErofsSupport {
    /// What a kernel of this version offers, where it can be asked nothing more.
    pub fn of_kernel(kernel: KernelVersion, has_erofs: bool) -> Self {
        if !has_erofs {
            return Self::none(format!("this kernel ({kernel}) has no EROFS"));
        }
        if kernel < SMALL_BLOCKS {
            return Self::none(format!(
                "the EROFS of this kernel ({kernel}) has no blocks of 512 bytes, which came with Linux 6.4"
            ));
        }
        if kernel < FILE_BACKED {
            return Self::only_loop(format!(
                "this kernel ({kernel}) mounts EROFS through loop devices only; Linux 6.12.2 needs none"
            ));
        }
        Self { backing: Some(ErofsBacking::File), direct_io: direct_io_is_sound(kernel), why: None }
    }

    pub(super) fn none(why: String) -> Self {
        Self { backing: None, direct_io: false, why: Some(why) }
    }

    pub(super) fn only_loop(why: String) -> Self {
        Self { backing: Some(ErofsBacking::Loop), direct_io: false, why: Some(why) }
    }
}

/// Whether direct I/O of file-backed mounts has no use after free: mended in 6.19.1, and in these two stable series.
pub(super) fn direct_io_is_sound(kernel: KernelVersion) -> bool {
    match (kernel.major, kernel.minor) {
        (6, 12) => kernel.patch >= 72,
        (6, 18) => kernel.patch >= 11,
        _ => kernel >= KernelVersion::new(6, 19, 1),
    }
}

/// As above for the running kernel, and every file can be read so block by block.
pub(super) fn direct_io_is_sound_here(image: &Source, devices: &[Source]) -> bool {
    let sound = KernelVersion::running().is_ok_and(direct_io_is_sound)
        && std::iter::once(image).chain(devices).all(Source::takes_direct_blocks);
    if !sound {
        tracing::debug!(image = %image.path().display(), "no direct I/O: the kernel or the filesystem forbids it");
    }
    sound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_decides_what_is_tried() {
        use ErofsBacking::{File, Loop};
        for (release, backing, direct_io) in [
            ("4.18.0-553.el8_10.x86_64", None, false),
            ("5.15.0-91-generic", None, false),
            ("6.3.13", None, false),
            ("6.4.0", Some(Loop), false),
            ("6.4-rc1", Some(Loop), false),
            ("6.6.72", Some(Loop), false),
            ("6.11.11", Some(Loop), false),
            ("6.12.0", Some(Loop), false),
            // A vendor's: the number says nothing of the fixes.
            ("6.12.0-55.el10.x86_64", Some(Loop), false),
            ("6.12.1", Some(Loop), false),
            ("6.12.2", Some(File), false),
            ("6.12.71", Some(File), false),
            ("6.12.72", Some(File), true),
            ("6.12.100", Some(File), true),
            ("6.13.0", Some(File), false),
            ("6.17.80", Some(File), false),
            ("6.18.10", Some(File), false),
            ("6.18.11", Some(File), true),
            ("6.18.44-fc-v595", Some(File), true),
            ("6.19.0", Some(File), false),
            ("6.19.1", Some(File), true),
            ("6.20.0", Some(File), true),
            ("7.0.0", Some(File), true),
        ] {
            let support = ErofsSupport::of_kernel(release.parse().unwrap(), true);
            assert_eq!((support.backing, support.direct_io), (backing, direct_io), "{release}");
            assert_eq!(support.why.is_none(), backing == Some(File), "{release}");
        }
    }

    #[test]
    fn a_kernel_without_erofs_offers_nothing_whatever_its_version() {
        for kernel in [KernelVersion::new(5, 14, 0), KernelVersion::new(6, 18, 44)] {
            let support = ErofsSupport::of_kernel(kernel, false);
            assert_eq!((support.backing, support.direct_io), (None, false));
            assert!(support.why.unwrap().contains("no EROFS"));
        }
    }

    #[test]
    fn the_sentence_names_this_kernel_and_the_one_that_would_do() {
        let why = |release: &str| ErofsSupport::of_kernel(release.parse().unwrap(), true).why.unwrap();
        assert!(why("5.15.0").contains("5.15.0") && why("5.15.0").contains("Linux 6.4"));
        assert!(why("6.6.1").contains("6.6.1") && why("6.6.1").contains("Linux 6.12.2"));
    }
}

//! How files that come out of tars are mounted.

use clap::{Args, ValueEnum};
use stowage_sys::ErofsBackingChoice;
use stowage_volumes::{READ_AHEAD_KIB, VolumesOptions};

/// How files that come out of tars are mounted.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct TarArgs {
    /// How EROFS reads tars: through files, through loop devices, or not at all
    #[arg(long, env = "STOWAGE_EROFS", default_value = "auto", value_name = "HOW")]
    pub(crate) erofs: Erofs,
    /// Let the kernel mount EROFS and SquashFS images from registries: it then parses what a stranger wrote
    #[arg(long, env = "STOWAGE_ALLOW_FILESYSTEM_LAYERS")]
    pub(crate) allow_filesystem_layers: bool,
    /// How far the kernel reads ahead in a file out of a tar, in KiB
    #[arg(long, env = "STOWAGE_READ_AHEAD_KIB", default_value_t = READ_AHEAD_KIB, value_name = "KIB", value_parser = clap::value_parser!(u32).range(4..=65536))]
    pub(crate) read_ahead_kib: u32,
}

/// How EROFS reads tars.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Erofs {
    /// What the kernel's version and a trial mount say
    Auto,
    /// Through files, from Linux 6.12.2 on
    File,
    /// Through read-only loop devices, from Linux 6.4 on
    Loop,
    /// Tars are refused, unless they are mounted as files
    None,
}

impl TarArgs {
    /// The same options over those of volumes.
    pub(crate) fn options(self) -> VolumesOptions {
        let erofs = match self.erofs {
            Erofs::Auto => ErofsBackingChoice::Auto,
            Erofs::File => ErofsBackingChoice::File,
            Erofs::Loop => ErofsBackingChoice::Loop,
            Erofs::None => ErofsBackingChoice::None,
        };
        VolumesOptions {
            erofs,
            allow_filesystem_layers: self.allow_filesystem_layers,
            read_ahead_kib: self.read_ahead_kib,
            ..VolumesOptions::default()
        }
    }
}

impl Default for TarArgs {
    fn default() -> Self {
        Self { erofs: Erofs::Auto, allow_filesystem_layers: false, read_ahead_kib: READ_AHEAD_KIB }
    }
}

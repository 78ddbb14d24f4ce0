//! Programs that make tars of a directory.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use stowage_testkit::tools::Tool;

use super::model::Bounds;

/// A program and one of its formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Producer {
    GnuTar(&'static str),
    BsdTar(&'static str),
    /// A format of the module `tarfile`.
    Python(&'static str),
}

impl Producer {
    pub(crate) const GNU_TAR: [Self; 5] = [
        Self::GnuTar("v7"),
        Self::GnuTar("ustar"),
        Self::GnuTar("oldgnu"),
        Self::GnuTar("gnu"),
        Self::GnuTar("posix"),
    ];
    pub(crate) const BSD_TAR: [Self; 5] = [
        Self::BsdTar("v7"),
        Self::BsdTar("ustar"),
        Self::BsdTar("gnutar"),
        Self::BsdTar("pax"),
        Self::BsdTar("paxr"),
    ];
    pub(crate) const PYTHON: [Self; 3] =
        [Self::Python("USTAR_FORMAT"), Self::Python("GNU_FORMAT"), Self::Python("PAX_FORMAT")];

    /// What the trees may have that it is asked to pack.
    pub(crate) fn bounds(self) -> Bounds {
        match self {
            Self::GnuTar("v7") => Bounds::V7,
            Self::GnuTar("ustar") | Self::Python("USTAR_FORMAT") => Bounds::USTAR,
            Self::GnuTar("posix") => Bounds::PAX,
            // libarchive writes the fraction of times before 1970 with the wrong sign.
            Self::BsdTar("pax") => Bounds { before_1970: false, ..Bounds::PAX },
            // And leaves it away where nothing else needs a pax header.
            Self::BsdTar("paxr") => Bounds { before_1970: false, ..Bounds::GNU },
            // Its times are floating point.
            Self::Python("PAX_FORMAT") => Bounds { nanoseconds: false, ..Bounds::PAX },
            Self::BsdTar("v7" | "ustar") => Bounds { owner: 0o777_777, ..Bounds::V7 },
            // libarchive writes times before 1970 as 0 there.
            Self::BsdTar("gnutar") => Bounds { before_1970: false, owner: 0o7_777_777, ..Bounds::GNU },
            _ => Bounds::GNU,
        }
    }

    /// The program to look for.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::GnuTar(_) => "tar",
            Self::BsdTar(_) => "bsdtar",
            Self::Python(_) => "python3",
        }
    }

    /// Packs all that is in a directory, the directory itself as `.`.
    pub(crate) fn pack(self, directory: &Path, tar: &Path) -> Result<()> {
        const SCRIPT: &str = "
import sys, tarfile
root, out, kind = sys.argv[1:]
with tarfile.open(out, 'w', format=getattr(tarfile, kind)) as tar:
    tar.add(root, arcname='.')
";
        let mut command = Command::new(Tool::find(self.program())?.path());
        command.env("LC_ALL", "C.UTF-8");
        match self {
            Self::GnuTar(format) => {
                command.arg(format!("--format={format}")).arg("--numeric-owner").arg("-cf").arg(tar);
                command.arg("-C").arg(directory).arg(".");
            }
            Self::BsdTar(format) => {
                command.arg(format!("--format={format}")).arg("-cf").arg(tar);
                command.args(["--numeric-owner", "-C"]).arg(directory).arg(".");
            }
            Self::Python(format) => {
                command.args(["-c", SCRIPT]).arg(directory).arg(tar).arg(format);
            }
        }
        let output = command.output().with_context(|| format!("cannot start {}", self.program()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{self:?} ended with {}: {}", output.status, said.trim());
        }
        Ok(())
    }
}

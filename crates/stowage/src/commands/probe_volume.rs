//! `stowage probe-volume`: what the reader pods of the end-to-end tests run, since the image has no shell.
//!
//! It compares every file of a volume with its digest, tries to write, and reads on until it is told to stop.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use stowage_artifact::{Digest, Hasher, RelativePath};

use crate::cli::ProbeVolumeArgs;
use crate::{Failure, signals};

/// Between two readings of the whole volume.
const PAUSE: Duration = Duration::from_secs(1);

/// A file that the volume must hold: `PATH=DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectedFile {
    path: RelativePath,
    digest: Digest,
}

impl FromStr for ExpectedFile {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, anyhow::Error> {
        let (path, digest) =
            text.rsplit_once('=').ok_or_else(|| anyhow!("`{text}` has no `=`; write PATH=DIGEST"))?;
        Ok(Self { path: path.parse()?, digest: digest.parse()? })
    }
}

/// What one reading found.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    files: usize,
    bytes: u64,
}

pub(crate) async fn run(args: ProbeVolumeArgs) -> Result<(), Failure> {
    let mut round: u64 = 0;
    let mut pauses = tokio::time::interval(PAUSE);
    let stop = signals::told_to_stop()?;
    tokio::pin!(stop);
    loop {
        let (root, expected, exact) = (args.path.clone(), args.expect.clone(), args.exact);
        let reading = tokio::task::spawn_blocking(move || read(&root, &expected, exact));
        let Reading { files, bytes } = reading.await.context("the task that reads died")??;
        if round == 0 && args.write_must_fail {
            let root = args.path.clone();
            tokio::task::spawn_blocking(move || refuses_writes(&root))
                .await
                .context("the task that writes died")??;
        }
        round += 1;
        say!("{}", serde_json::json!({ "round": round, "files": files, "bytes": bytes }));
        if !args.hold {
            return Ok(());
        }
        tokio::select! {
            () = &mut stop => return Ok(()),
            _ = pauses.tick() => {}
        }
    }
}

/// Reads every expected file, past the page cache where the kernel agrees, and compares.
fn read(root: &Path, expected: &[ExpectedFile], exact: bool) -> anyhow::Result<Reading> {
    let found = files(root)?;
    if exact {
        let wanted: BTreeSet<PathBuf> = expected.iter().map(|file| file.path.as_str().into()).collect();
        let strangers: Vec<String> =
            found.difference(&wanted).map(|path| path.display().to_string()).collect();
        ensure!(
            strangers.is_empty(),
            "{} has files that nobody expects: {}",
            root.display(),
            strangers.join(", ")
        );
    }
    let mut bytes = 0;
    for ExpectedFile { path, digest } in expected {
        let (actual, size) = hash(&root.join(path.as_str()), digest)?;
        ensure!(
            actual == *digest,
            "{path} in {} has the digest {actual}, not {digest}: the volume holds other bytes",
            root.display()
        );
        bytes += size;
    }
    Ok(Reading { files: found.len(), bytes })
}

/// Every file beneath a directory, by its path from there. Symlinks count as files.
fn files(root: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let path = root.join(&directory);
        let entries = std::fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", path.display()))?;
            let below = directory.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                directories.push(below);
            } else {
                found.insert(below);
            }
        }
    }
    Ok(found)
}

fn hash(path: &Path, like: &Digest) -> anyhow::Result<(Digest, u64)> {
    let unread = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(unread)?;
    // Advice only: what another process has mapped stays cached.
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let (mut hasher, mut buffer, mut size) = (Hasher::new(like.algorithm()), vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer).with_context(unread)? {
            0 => return Ok((hasher.finish(), size)),
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

/// One way to change a volume: what it is called, and the attempt on a file that is there and on one that is not.
type Attempt = (&'static str, fn(&Path, &Path) -> io::Result<()>);

/// Those that a container has, the harmless ones first: the first that is possible is the last that is tried.
const ATTEMPTS: [Attempt; 8] = [
    ("opening a file for writing", |file, _| OpenOptions::new().append(true).open(file).map(drop)),
    ("creating a file", |_, new| File::create_new(new).map(drop)),
    ("making a directory", |_, new| std::fs::create_dir(new)),
    ("making a symlink", |_, new| std::os::unix::fs::symlink("x", new)),
    ("changing the mode of a file", |file, _| std::fs::set_permissions(file, Permissions::from_mode(0o777))),
    ("renaming a file", |file, new| std::fs::rename(file, new)),
    ("truncating a file", |file, _| OpenOptions::new().write(true).truncate(true).open(file).map(drop)),
    ("removing a file", |file, _| std::fs::remove_file(file)),
];

/// Tries to change the volume; each attempt must fail because the filesystem is read-only.
fn refuses_writes(root: &Path) -> anyhow::Result<()> {
    let first = files(root)?.into_iter().next();
    let Some(file) = first.map(|path| root.join(path)) else {
        bail!("{} has no file to write to", root.display())
    };
    let new = root.join(".stowage-probe");
    for (what, attempt) in ATTEMPTS {
        match attempt(&file, &new) {
            Ok(()) => bail!("{what} in {} was possible: the volume is not read-only", root.display()),
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {}
            Err(error) => bail!(
                "{what} in {} failed, but not because the filesystem is read-only: {error}",
                root.display()
            ),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use stowage_artifact::Algorithm;

    use super::*;

    fn volume(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<ExpectedFile>) {
        let directory = tempfile::tempdir().unwrap();
        let expected = files.iter().map(|(path, content)| {
            let file = directory.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
            let digest = Digest::of(Algorithm::Sha256, content.as_bytes());
            format!("{path}={digest}").parse().unwrap()
        });
        let expected = expected.collect();
        (directory, expected)
    }

    #[test]
    fn a_volume_with_the_expected_bytes_is_read_to_its_end() {
        let (directory, expected) = volume(&[("a.txt", "one"), ("sub/b.txt", "four")]);
        assert_eq!(read(directory.path(), &expected, true).unwrap(), Reading { files: 2, bytes: 7 });
    }

    #[test]
    fn other_bytes_a_missing_file_and_a_stranger_are_each_named() {
        let (directory, expected) = volume(&[("a.txt", "one"), ("sub/b.txt", "four")]);
        let stranger = read(directory.path(), &expected[..1], true).unwrap_err().to_string();
        assert!(stranger.ends_with("nobody expects: sub/b.txt"), "{stranger}");
        assert_eq!(read(directory.path(), &expected[..1], false).unwrap().bytes, 3);

        std::fs::write(directory.path().join("a.txt"), "two").unwrap();
        let other = read(directory.path(), &expected, true).unwrap_err().to_string();
        assert!(other.starts_with("a.txt in ") && other.ends_with("the volume holds other bytes"), "{other}");

        std::fs::remove_file(directory.path().join("a.txt")).unwrap();
        let missing = read(directory.path(), &expected, true).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read ") && missing.ends_with("a.txt"), "{missing}");
    }

    #[test]
    fn a_volume_that_can_be_written_to_is_found_out() {
        let (directory, _) = volume(&[("a.txt", "one")]);
        let error = refuses_writes(directory.path()).unwrap_err().to_string();
        assert!(error.starts_with("opening a file") && error.ends_with("not read-only"), "{error}");
        // Nothing was destroyed on the way.
        assert_eq!(std::fs::read(directory.path().join("a.txt")).unwrap(), b"one");
    }

    #[test]
    fn an_expectation_without_a_digest_is_refused() {
        assert!("a=b=sha256:00".parse::<ExpectedFile>().is_err());
        assert!("a".parse::<ExpectedFile>().is_err());
        let empty = Digest::of(Algorithm::Sha256, b"");
        let file: ExpectedFile = format!("a=b={empty}").parse().unwrap();
        assert_eq!(file.path.as_str(), "a=b");
    }
}

//! Seeing that the file has changed.
//!
//! By its content: a `ConfigMap`'s volume swaps a symlink above the file, so neither its inode nor a watch on it would tell.
//! What is being written may be seen in half, and half of a file can say something else, such as no policy at all. So a
//! content counts when two looks in a row have found it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stowage_artifact::{Algorithm, Digest};
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::NodeConfiguration;
use super::load::{ConfigurationError, LONGEST_FILE, read};
use crate::small_file;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// What a look has found, as far as it can be compared with the next one.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Content(Digest),
    Unreadable(io::ErrorKind),
}

/// What was found so far.
#[derive(Default)]
struct Looks {
    last: Option<Seen>,
    told: Option<Seen>,
}

impl Looks {
    /// Whether what was found now counts, and is something else than what counted before.
    fn news(&mut self, seen: Seen) -> bool {
        let seen = Some(seen);
        let counts = self.last == seen && self.told != seen;
        if counts {
            self.told.clone_from(&seen);
        }
        self.last = seen;
        counts
    }
}

/// Looks at a configuration file every few seconds.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
    every: Duration,
}

impl Watcher {
    /// A watcher of the file at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, every: EVERY }
    }

    /// Has `changed` hear of each new content once, a broken one too, until `stop`. What is there at first is told as well: it
    /// may have changed since it was read at the start.
    pub async fn run(
        self,
        stop: CancellationToken,
        changed: impl Fn(Result<NodeConfiguration, ConfigurationError>),
    ) {
        let mut looks = Looks::default();
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let path = self.path.clone();
            // What dies with the runtime has nobody to tell.
            let Ok((seen, content)) = spawn_blocking(move || look(&path)).await else { return };
            if looks.news(seen) {
                let path = self.path.clone();
                let Ok(read) = spawn_blocking(move || read(&path, content)).await else { return };
                changed(read);
            }
        }
    }
}

fn look(path: &Path) -> (Seen, io::Result<Vec<u8>>) {
    let content = small_file::read(path, LONGEST_FILE);
    let seen = match &content {
        Ok(bytes) => Seen::Content(Digest::of(Algorithm::Sha256, bytes)),
        Err(error) => Seen::Unreadable(error.kind()),
    };
    (seen, content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tokio::sync::mpsc;

    use super::*;

    fn write(directory: &Path, version: &str, rest: &str) {
        let directory = directory.join(version);
        std::fs::create_dir(&directory).unwrap();
        let text = format!("apiVersion: config.stowage.dev/v1alpha1\nkind: NodeConfiguration\n{rest}");
        std::fs::write(directory.join("node.yaml"), text).unwrap();
    }

    /// As kubelet updates the volume of a `ConfigMap`: `node.yaml -> ..data/node.yaml`, `..data -> <version>`.
    fn swap(directory: &Path, version: &str) {
        symlink(version, directory.join("..data_tmp")).unwrap();
        std::fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    }

    #[test]
    fn what_only_one_look_has_found_does_not_count() {
        let content = |text: &str| Seen::Content(Digest::of(Algorithm::Sha256, text.as_bytes()));
        let mut looks = Looks::default();
        for (seen, counts) in [
            (content("a"), false),
            (content("a"), true),
            (content("a"), false),
            // Written in two steps, and looked at in between.
            (content("half of b"), false),
            (content("b"), false),
            (content("b"), true),
            (Seen::Unreadable(io::ErrorKind::NotFound), false),
            // Back again: nothing has changed.
            (content("b"), false),
            (content("b"), false),
            (Seen::Unreadable(io::ErrorKind::NotFound), false),
            (Seen::Unreadable(io::ErrorKind::NotFound), true),
        ] {
            assert_eq!(looks.news(seen.clone()), counts, "{seen:?}");
        }
    }

    #[tokio::test]
    async fn every_change_of_a_config_map_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        symlink("..data/node.yaml", root.join("node.yaml")).unwrap();
        write(root, "..1", "policy: {requireDigest: true}");
        write(root, "..2", "policy: {requireDigest: perhaps}");
        write(root, "..3", "policy: {requireDigest: false}");
        swap(root, "..1");
        let (sender, mut told) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let watcher = Watcher { path: root.join("node.yaml"), every: Duration::from_millis(5) };
        let watching = tokio::spawn(watcher.run(stop.clone(), move |read| {
            let _ = sender.send(read.map(|new| new.policy.require_digest).map_err(|error| error.to_string()));
        }));
        let mut next =
            async || tokio::time::timeout(Duration::from_secs(30), told.recv()).await.unwrap().unwrap();
        assert_eq!(next().await, Ok(Some(true)));
        swap(root, "..2");
        let error = next().await.unwrap_err();
        assert!(error.contains("node.yaml") && error.contains("line 3"), "{error}");
        swap(root, "..3");
        assert_eq!(next().await, Ok(Some(false)));
        std::fs::remove_file(root.join("..data")).unwrap();
        assert!(next().await.unwrap_err().contains("cannot read"));
        swap(root, "..1");
        assert_eq!(next().await, Ok(Some(true)));
        stop.cancel();
        watching.await.unwrap();
        assert!(told.try_recv().is_err(), "told once");
    }
}

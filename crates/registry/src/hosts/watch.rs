//! Keeps what the directories say about each registry, and looks again when time has passed.
//!
//! A file that becomes unusable changes nothing: the last good one stays in use, and the log says why. One that was never
//! good makes requests to its registry fail. containerd goes on without it then; but the file may be what keeps a
//! node's traffic or a tenant's plain http in bounds, and a pod that does not start is noticed where a way around a
//! mirror is not.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stowage_artifact::{Algorithm, Digest};
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use super::directory::{Directory, HostsError, look};
use super::{HostSettings, HostsFile};
use crate::access::{Access, AccessMaker, Role};
use crate::clients::{Special, bundle, identity};

/// More registries are not kept: their names come from references.
const MOST_REGISTRIES: usize = 512;

/// What an administrator wrote about one registry, ready for use.
pub(crate) struct HostsConfig {
    /// For messages.
    pub(crate) file: PathBuf,
    /// Whether it was written for this registry, not for all that have nothing of their own.
    pub(crate) named: bool,
    /// In the order in which they are tried; the last one is the file's `server`, or the registry itself.
    pub(crate) hosts: Vec<LoadedHost>,
}

/// One host of it.
pub(crate) struct LoadedHost {
    /// Where its API is; `None` is the registry's own place.
    pub(crate) url: Option<Url>,
    pub(crate) role: Role,
    pub(crate) settings: HostSettings,
    pub(crate) access: Arc<Access>,
}

/// The directories, and what was last found in them.
pub(crate) struct Watch {
    roots: Arc<[PathBuf]>,
    every: Duration,
    maker: Arc<AccessMaker>,
    registries: Mutex<HashMap<String, (Instant, Arc<Seen>)>>,
}

/// What was found about one registry.
struct Seen {
    source: Result<Option<Directory>, HostsError>,
    /// Certificates and keys that it names.
    files: Vec<(PathBuf, Option<Stamp>)>,
    good: Option<Arc<HostsConfig>>,
    broken: Option<HostsError>,
}

/// Device, inode, size, and times of change.
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

impl Watch {
    /// Looks again after `every`.
    pub(crate) fn new(roots: &[PathBuf], every: Duration, maker: Arc<AccessMaker>) -> Self {
        Self { roots: roots.into(), every, maker, registries: Mutex::default() }
    }

    /// What stands about a registry whose API is at `api_host`.
    pub(crate) async fn config(
        &self,
        registry: &str,
        api_host: &str,
    ) -> Result<Option<Arc<HostsConfig>>, HostsError> {
        if self.roots.is_empty() {
            return Ok(None);
        }
        let before = {
            let mut registries = self.lock();
            match registries.get_mut(registry) {
                Some((checked, seen)) if checked.elapsed() < self.every => return seen.answer(),
                Some((checked, seen)) => {
                    // Whoever asks meanwhile gets the answer of before.
                    *checked = Instant::now();
                    Some(Arc::clone(seen))
                }
                None => None,
            }
        };
        let (roots, maker) = (Arc::clone(&self.roots), Arc::clone(&self.maker));
        let (name, api_host) = (registry.to_owned(), api_host.to_owned());
        let looked =
            tokio::task::spawn_blocking(move || again(before.as_ref(), &roots, &name, &api_host, &maker));
        let Ok(seen) = looked.await else {
            return Err(HostsError::new(Path::new("hosts.toml"), "its reader died"));
        };
        let answer = seen.answer();
        let mut registries = self.lock();
        if registries.len() >= MOST_REGISTRIES && !registries.contains_key(registry) {
            let oldest = registries.iter().min_by_key(|(_, (checked, _))| *checked);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                registries.remove(&oldest);
            }
        }
        registries.insert(registry.to_owned(), (Instant::now(), seen));
        answer
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Instant, Arc<Seen>)>> {
        self.registries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn answer(&self) -> Result<Option<Arc<HostsConfig>>, HostsError> {
        match (&self.broken, &self.good) {
            (Some(error), None) => Err(error.clone()),
            (_, good) => Ok(good.clone()),
        }
    }

    fn is_current(&self, source: &Result<Option<Directory>, HostsError>) -> bool {
        self.source == *source && self.files.iter().all(|(path, stamp)| stamp_of(path) == *stamp)
    }
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.size(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
    ))
}

/// Looks at the directories, and reads what has changed.
fn again(
    before: Option<&Arc<Seen>>,
    roots: &[PathBuf],
    registry: &str,
    api_host: &str,
    maker: &AccessMaker,
) -> Arc<Seen> {
    let source = look(roots, registry);
    if let Some(before) = before
        && before.is_current(&source)
    {
        return Arc::clone(before);
    }
    let last = before.and_then(|before| before.good.clone());
    let mut files = Vec::new();
    let loaded = match &source {
        Ok(None) => Ok(None),
        Ok(Some(directory)) => load(directory, registry, api_host, maker, &mut files).map(Some),
        Err(error) => Err(error.clone()),
    };
    let (good, broken) = match loaded {
        Ok(None) => {
            if let Some(last) = last {
                tracing::info!(registry, file = %last.file.display(), "the hosts of a registry were taken away");
            }
            (None, None)
        }
        Ok(Some(config)) => (Some(Arc::new(config)), None),
        Err(error) if last.is_some() => {
            tracing::error!(registry, %error, "a hosts file became unusable; the last good one stays in use");
            (last, Some(error))
        }
        Err(error) => {
            tracing::error!(registry, %error, "a hosts file is unusable; its registry is not asked until it is corrected");
            (None, Some(error))
        }
    };
    Arc::new(Seen { source, files, good, broken })
}

fn load(
    directory: &Directory,
    registry: &str,
    api_host: &str,
    maker: &AccessMaker,
    files: &mut Vec<(PathBuf, Option<Stamp>)>,
) -> Result<HostsConfig, HostsError> {
    let HostsFile { hosts, server, settings, notes } = directory.parse()?;
    let file = directory.file();
    let mut all: Vec<(Option<Url>, HostSettings)> =
        hosts.into_iter().map(|host| (Some(host.url), host.settings)).collect();
    all.push((server, settings));
    let named_files = all.iter().flat_map(|(_, settings)| {
        let pairs = settings.client.iter().flat_map(|(certificate, key)| [certificate, key]);
        settings.ca.iter().chain(pairs)
    });
    files.extend(named_files.map(|path| (path.clone(), stamp_of(path))));
    let mut loaded = Vec::new();
    for (url, settings) in all {
        let role = url.as_ref().map_or(Role::Registry, |url| Role::of(url, registry, api_host));
        // docker.io has several names and one place.
        let url = url.filter(|_| role != Role::Alias);
        let role = if role == Role::Alias { Role::Registry } else { role };
        let special = special(&settings)?;
        let access = maker
            .make(url.as_ref(), role, &settings, special, registry)
            .map_err(|error| HostsError::new(&file, &error))?;
        loaded.push(LoadedHost { url, role, settings, access });
    }
    for note in notes {
        tracing::warn!(registry, file = %file.display(), "{note}");
    }
    let mirrors = loaded.iter().filter(|host| host.role == Role::Mirror).count();
    tracing::info!(registry, file = %file.display(), mirrors, "the hosts of a registry were read");
    Ok(HostsConfig { file, named: directory.named, hosts: loaded })
}

/// Reads the certificates that a host's settings name.
fn special(settings: &HostSettings) -> Result<Special, HostsError> {
    let (mut certificates, mut files) = (Vec::new(), Vec::new());
    for path in &settings.ca {
        let pem = fs::read(path).map_err(|error| HostsError::new(path, &error))?;
        files.push(Digest::of(Algorithm::Sha256, &pem));
        certificates.extend(bundle(&pem).map_err(|reason| HostsError::new(path, &reason))?);
    }
    let mut own = None;
    if let Some((certificate, key)) = settings.client.first() {
        let read =
            |path: &Path| fs::read(path).map(Zeroizing::new).map_err(|error| HostsError::new(path, &error));
        let mut pem = read(certificate)?;
        if key != certificate {
            pem.push(b'\n');
            pem.extend_from_slice(&read(key)?);
        }
        files.push(Digest::of(Algorithm::Sha256, &pem));
        own = Some(identity(&pem).map_err(|reason| HostsError::new(certificate, &reason))?);
    }
    Ok(Special {
        certificates,
        identity: own,
        files,
        skip_verify: settings.skip_verify,
        connect_timeout: settings.dial_timeout,
        direct: false,
    })
}

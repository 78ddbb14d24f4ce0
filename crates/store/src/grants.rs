//! Who has proved access to what (`trust.md`, "Grants").
//!
//! `grants/key` is 32 random bytes; `grants/log` holds records of fixed length that say nothing without it: an
//! HMAC-SHA256 of what was granted to whom. No credential, name or reference is on the disk. A blob that leaves the
//! store takes its grants along. Losing the log costs proofs, nothing else, so it is not synced.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use stowage_artifact::digest::Digest;

use crate::error::StoreError;
use crate::io::{Dir, IoError, IoFile};

const KEY: &str = "key";
const LOG: &str = "log";
const KEY_BYTES: usize = 32;
/// Kind, three zero bytes, name of the blob, fingerprint, crc32c.
const RECORD_BYTES: usize = 56;
/// A log with fewer dead records than this is not worth writing anew.
const WORTH_COMPACTING: usize = 1024;

/// A service account of the cluster.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What tells it from an earlier one of the same name; empty where nobody said.
    pub uid: String,
}

/// Who asks for a blob.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Everyone: the registry asked for no credential.
    Anonymous,
    /// A user and a password, of which only a keyed fingerprint is ever stored.
    Secret(String, String),
    /// A Kubernetes service account, whose tokens rotate.
    ServiceAccount {
        /// Who takes its tokens, and for which audience.
        issuer: String,
        /// Whose they are.
        account: ServiceAccount,
    },
    /// An account of a kubelet credential provider.
    Provider {
        /// The plugin.
        plugin: String,
        /// The account.
        account: String,
    },
    /// A service account whose token a kubelet credential provider was given.
    ProviderServiceAccount {
        /// The plugin.
        plugin: String,
        /// Whose token it was given.
        account: ServiceAccount,
    },
    /// The administrator of the node.
    Administrator,
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Secret(..) => "Secret(…)",
            Self::ServiceAccount { .. } => "ServiceAccount(…)",
            Self::Provider { .. } => "Provider(…)",
            Self::ProviderServiceAccount { .. } => "ProviderServiceAccount(…)",
            Self::Administrator => "Administrator",
        })
    }
}

impl Principal {
    fn parts(&self) -> Vec<&str> {
        match self {
            Self::Anonymous => vec!["anonymous"],
            Self::Secret(user, password) => vec!["secret", user, password],
            Self::ServiceAccount { issuer, account } => {
                vec!["account", issuer, &account.namespace, &account.name, &account.uid]
            }
            Self::Provider { plugin, account } => vec!["provider", plugin, account],
            Self::ProviderServiceAccount { plugin, account } => {
                vec!["provider account", plugin, &account.namespace, &account.name, &account.uid]
            }
            Self::Administrator => vec!["administrator"],
        }
    }
}

type Name = [u8; 16];
type Fingerprint = [u8; 32];

/// The grants of a store.
#[derive(Debug)]
pub struct Grants {
    dir: Dir,
    key: Key,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    granted: HashMap<Name, HashSet<Fingerprint>>,
    /// The open log and where it ends.
    log: Option<(IoFile, u64)>,
    dead: usize,
}

struct Key([u8; KEY_BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// A keyed hash in which no two lists of parts run together.
    fn fingerprint(&self, parts: &[&str]) -> Fingerprint {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length is a key");
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }

    fn name(&self, digest: &Digest) -> Name {
        let whole = self.fingerprint(&["blob", digest.as_str()]);
        let mut name = Name::default();
        name.copy_from_slice(&whole[..16]);
        name
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RecordKind {
    Grant = 1,
    Forget = 2,
}

impl Grants {
    /// Reads the key and the log, making what is missing.
    pub(crate) fn open(dir: Dir) -> Result<Self, IoError> {
        let (key, fresh) = match dir.read("grants.key", KEY) {
            Ok(bytes) => match bytes.try_into() {
                Ok(key) => (Key(key), false),
                // Cut by a power cut: every grant is lost with it.
                Err(_) => (new_key(&dir)?, true),
            },
            Err(error) if error.is_not_found() => (new_key(&dir)?, true),
            Err(error) => return Err(error),
        };
        if fresh {
            crate::io::gone_is_fine(dir.unlink("grants.remove", LOG))?;
        }
        let mut state = State::default();
        match dir.open_write("grants.open", LOG) {
            Ok(file) => {
                let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(usize::MAX)];
                file.read_at("grants.read", 0, &mut bytes)?;
                let end = state.replay(&key, &bytes);
                state.log = Some((file, end));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(Self { dir, key, state: Mutex::new(state) })
    }

    /// Whether the principal has proved access to the blob in this repository.
    pub fn has(&self, host: &str, repository: &str, digest: &Digest, principal: &Principal) -> bool {
        let fingerprint = self.grant(host, repository, digest, principal);
        self.contains(digest, &fingerprint)
    }

    /// Records that the principal has proved access.
    pub fn put(
        &self,
        host: &str,
        repository: &str,
        digest: &Digest,
        principal: &Principal,
    ) -> Result<(), StoreError> {
        let fingerprint = self.grant(host, repository, digest, principal);
        self.add(digest, fingerprint)
    }

    /// An opaque value that is the same for all who would get the same grants.
    pub fn authority(&self, host: &str, repository: &str, principal: &Principal) -> [u8; 32] {
        let mut parts = vec!["authority", host, repository];
        parts.extend(principal.parts());
        self.key.fingerprint(&parts)
    }

    /// Whether this host has itself delivered every byte of the blob to this node.
    pub fn has_origin(&self, host: &str, digest: &Digest) -> bool {
        let fingerprint = self.key.fingerprint(&["origin", host, digest.as_str()]);
        self.contains(digest, &fingerprint)
    }

    /// Records that this host has delivered every byte of the blob.
    pub fn put_origin(&self, host: &str, digest: &Digest) -> Result<(), StoreError> {
        let fingerprint = self.key.fingerprint(&["origin", host, digest.as_str()]);
        self.add(digest, fingerprint)
    }

    /// Drops every grant of a blob that leaves the store.
    pub(crate) fn forget(&self, digest: &Digest) {
        let name = self.key.name(digest);
        let mut state = self.state();
        let Some(gone) = state.granted.remove(&name) else { return };
        state.dead += gone.len() + 1;
        let written = self.append(&mut state, &record(&self.key, RecordKind::Forget, &name, &[0; 32]));
        if let Err(error) = written {
            // After a restart the grants are back; they were proved once, and the bytes are still checked.
            tracing::warn!(%error, "the grants of a removed blob cannot be struck off");
        }
    }

    /// Writes the log anew when most of it is dead.
    pub(crate) fn compact_if_worth(&self) -> Result<(), IoError> {
        let mut state = self.state();
        let live: usize = state.granted.values().map(HashSet::len).sum();
        if state.dead < WORTH_COMPACTING || state.dead < live {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(live * RECORD_BYTES);
        for (name, fingerprints) in &state.granted {
            for fingerprint in fingerprints {
                bytes.extend(record(&self.key, RecordKind::Grant, name, fingerprint));
            }
        }
        self.dir.replace("grants.compact", LOG, &bytes, true)?;
        state.log = Some((self.dir.open_write("grants.open", LOG)?, bytes.len() as u64));
        state.dead = 0;
        Ok(())
    }

    fn grant(&self, host: &str, repository: &str, digest: &Digest, principal: &Principal) -> Fingerprint {
        let mut parts = vec!["grant", host, repository, digest.as_str()];
        parts.extend(principal.parts());
        self.key.fingerprint(&parts)
    }

    fn contains(&self, digest: &Digest, fingerprint: &Fingerprint) -> bool {
        let name = self.key.name(digest);
        self.state().granted.get(&name).is_some_and(|granted| granted.contains(fingerprint))
    }

    fn add(&self, digest: &Digest, fingerprint: Fingerprint) -> Result<(), StoreError> {
        let name = self.key.name(digest);
        let mut state = self.state();
        if !state.granted.get(&name).is_some_and(|granted| granted.contains(&fingerprint)) {
            self.append(&mut state, &record(&self.key, RecordKind::Grant, &name, &fingerprint))?;
            state.granted.entry(name).or_default().insert(fingerprint);
        }
        Ok(())
    }

    fn append(&self, state: &mut State, record: &[u8]) -> Result<(), IoError> {
        if state.log.is_none() {
            state.log = Some((self.dir.create("grants.create", LOG)?, 0));
        }
        if let Some((file, end)) = &mut state.log {
            file.write_at("grants.append", *end, record)?;
            *end += record.len() as u64;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes in the records of a log up to the first that is not whole; returns where that is.
    fn replay(&mut self, key: &Key, bytes: &[u8]) -> u64 {
        let mut end = 0;
        for chunk in bytes.chunks_exact(RECORD_BYTES) {
            let (mut name, mut fingerprint) = (Name::default(), Fingerprint::default());
            name.copy_from_slice(&chunk[4..20]);
            fingerprint.copy_from_slice(&chunk[20..52]);
            let kind = match chunk[0] {
                1 => RecordKind::Grant,
                2 => RecordKind::Forget,
                _ => break,
            };
            if chunk != record(key, kind, &name, &fingerprint) {
                break;
            }
            match kind {
                RecordKind::Grant => {
                    self.granted.entry(name).or_default().insert(fingerprint);
                }
                RecordKind::Forget => {
                    let gone = self.granted.remove(&name).map_or(0, |gone| gone.len());
                    self.dead += gone + 1;
                }
            }
            end += RECORD_BYTES as u64;
        }
        end
    }
}

/// The checksum is seeded from the key, so that the log of another key is not taken for this one's.
fn record(key: &Key, kind: RecordKind, name: &Name, fingerprint: &Fingerprint) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[0] = kind as u8;
    bytes[4..20].copy_from_slice(name);
    bytes[20..52].copy_from_slice(fingerprint);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&key.0), &bytes[..52]);
    bytes[52..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn new_key(dir: &Dir) -> Result<Key, IoError> {
    let key: [u8; KEY_BYTES] = rand::random();
    dir.replace("grants.key", KEY, &key, true)?;
    Ok(Key(key))
}

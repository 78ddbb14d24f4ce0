//! What a caller asks of a volume, already parsed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use stowage_artifact::{Digest, Reference, VolumeAttributes};
use stowage_registry::Credential;
use stowage_store::Principal;

use crate::error::{Meaning, PublishError};
use crate::progress::Progress;

/// With what a registry is asked, and who is thereby shown to have access.
#[derive(Clone)]
pub struct Access {
    pub(crate) credential: Option<Credential>,
    pub(crate) principal: Principal,
    failure: Option<Failure>,
}

/// Why there is no access.
#[derive(Clone)]
struct Failure {
    meaning: Meaning,
    reason: String,
    /// What the principal has been granted before can be read all the same.
    grants_count: bool,
}

impl Access {
    /// The access of whoever holds `credential`, or of everyone where there is none.
    pub fn of(credential: Option<Credential>) -> Self {
        let principal = credential.as_ref().map_or(Principal::Anonymous, principal_of);
        Self { credential, principal, failure: None }
    }

    /// The access of `principal`, whose credential changes from time to time. Without one only what the principal
    /// has been granted before can be read.
    pub fn of_principal(credential: Option<Credential>, principal: Principal) -> Self {
        Self { credential, principal, failure: None }
    }

    /// No access: a publish fails with these words, unless the volume is mounted already. What an earlier call has
    /// begun for it is rolled back, as after every other failure.
    pub fn failed(meaning: Meaning, reason: String) -> Self {
        Self { failure: Some(Failure { meaning, reason, grants_count: false }), ..Self::of(None) }
    }

    /// The access of `principal` while its credential cannot be had: what is on the node and granted is mounted, and
    /// where the registry would have to be asked, a publish fails with these words.
    pub fn grants_only(principal: Principal, meaning: Meaning, reason: String) -> Self {
        let failure = Some(Failure { meaning, reason, grants_count: true });
        Self { credential: None, principal, failure }
    }

    /// The failure that stands in place of an access.
    pub(crate) fn check(&self, reference: &Reference) -> Result<(), PublishError> {
        let failure = self.failure.as_ref().filter(|failure| !failure.grants_count);
        failure.map_or(Ok(()), |failure| Err(failure.error(reference)))
    }

    /// Why a publish failed: a registry that refuses whoever has no credential says less than why there is none.
    pub(crate) fn explain(&self, reference: &Reference, error: PublishError) -> PublishError {
        let asked = matches!(
            error,
            PublishError::Registry { .. } | PublishError::Fetch { .. } | PublishError::NoGrant { .. }
        );
        let refused =
            matches!(error.meaning(), Meaning::Unauthenticated | Meaning::Denied | Meaning::NotFound);
        match &self.failure {
            Some(failure) if asked && refused => failure.error(reference),
            _ => error,
        }
    }
}

impl Failure {
    fn error(&self, reference: &Reference) -> PublishError {
        PublishError::Credential {
            reference: reference.to_string(),
            reason: self.reason.clone(),
            meaning: self.meaning,
        }
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.credential.is_some() { "Access(credential)" } else { "Access(anonymous)" })
    }
}

/// Who holds a credential. The store keeps only a keyed fingerprint of it.
fn principal_of(credential: &Credential) -> Principal {
    match credential {
        Credential::Password { username, password } => {
            Principal::Secret(username.clone(), password.expose().to_owned())
        }
        // No user name can be empty, so this is no password's principal.
        Credential::IdentityToken(token) => Principal::Secret(String::new(), token.expose().to_owned()),
    }
}

/// One volume to publish at one target path.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// The CSI volume id; foreign text, never used as a path.
    pub volume_id: String,
    /// Where the volume is to appear.
    pub target: PathBuf,
    /// The CSI request's own `readonly`; volumes are read-only either way.
    pub readonly: bool,
    /// The CSI capability in words that can be compared, for example `mount/SINGLE_NODE_WRITER`.
    pub capability: String,
    /// What to mount and how.
    pub attributes: VolumeAttributes,
    /// The pod's namespace, by which downloads are queued fairly.
    pub namespace: String,
    /// How the registry is asked.
    pub access: Access,
    /// How long this call waits for a download before it answers [`crate::PublishError::InProgress`].
    pub wait: Duration,
    /// Where the caller watches how far the work has come.
    pub progress: Progress,
}

/// The part of a request that must not differ between two calls for one target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Arguments {
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) capability: String,
    pub(crate) readonly: bool,
}

impl PublishRequest {
    pub(crate) fn arguments(&self) -> Arguments {
        Arguments {
            attributes: self.attributes.canonical(),
            capability: self.capability.clone(),
            readonly: self.readonly,
        }
    }

    pub(crate) fn key(&self) -> VolumeKey {
        VolumeKey { volume_id: self.volume_id.clone(), target: self.target.clone() }
    }
}

/// One volume at one target: what locks, jobs and records are about.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct VolumeKey {
    pub(crate) volume_id: String,
    pub(crate) target: PathBuf,
}

/// A volume that is mounted.
#[derive(Clone, Debug)]
pub struct Published {
    /// The digest that the reference was resolved to; an index where it named one.
    pub digest: Digest,
    /// Bytes that this publish had to wait for.
    pub fetched: u64,
    /// Bytes that were in the store already.
    pub cached: u64,
    /// From the first publish call to the mount.
    pub elapsed: Duration,
    /// The volume was mounted before this call.
    pub already: bool,
}

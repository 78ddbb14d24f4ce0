//! When the registry is asked, with which secret, and what its answer means for an object.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use stowage_artifact::{Reference, VolumeAttributes};
use stowage_registry::{RegistryError, credential_from_secret};

use super::PrefetchOptions;
use super::daemon_set::Pin;
use super::status::{self, RESOLVED, Verdict};
use crate::crd::{CachedArtifact, CachedArtifactStatus};
use crate::resolve::ResolveError;

/// What is known of the reference now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Nothing new: the pin of the status stays.
    Kept,
    /// The registry has answered, or did not need to.
    Found { pin: Pin, size: Option<u64>, verdict: Verdict },
    /// No answer; what was pinned before stays.
    Failed(Verdict),
}

/// Which question there is for the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    None,
    /// What the reference stands for.
    Digest,
    /// How large the volume is now that it is made in another way; the digest stays.
    Size(Reference),
}

/// What an earlier step has left to ask.
pub(crate) fn question(
    artifact: &CachedArtifact,
    reference: &Reference,
    interval: Option<Duration>,
    now: Timestamp,
) -> Question {
    let status = artifact.status.clone().unwrap_or_default();
    let same = status.requested_reference.as_deref() == Some(&*reference.to_string());
    let pinned = status.resolved_reference.as_deref().and_then(|text| text.parse::<Reference>().ok());
    let Some(pinned) = pinned.filter(|_| same && status::holds(&status, RESOLVED)) else {
        return Question::Digest;
    };
    if until_due(&status, reference, interval, now) == Some(Duration::ZERO) {
        return Question::Digest;
    }
    if status.observed_generation == artifact.metadata.generation {
        Question::None
    } else {
        Question::Size(pinned)
    }
}

/// How long until a tag is to be resolved anew; `None` for never.
pub(crate) fn until_due(
    status: &CachedArtifactStatus,
    reference: &Reference,
    interval: Option<Duration>,
    now: Timestamp,
) -> Option<Duration> {
    let interval = interval.filter(|_| !reference.is_pinned())?;
    let Some(asked) = &status.resolved_at else { return Some(Duration::ZERO) };
    // A clock that went back must not put it off: what lies in the future counts as now.
    let past = now.duration_since(asked.0).max(SignedDuration::ZERO);
    Some(interval.saturating_sub(past.unsigned_abs()))
}

/// Whether the controller has the pull secret.
enum Access {
    /// There is none to have.
    Open,
    Secret(HashMap<String, String>),
    /// It may not read it.
    Denied,
    Missing,
}

/// Asks the registry.
pub(crate) async fn resolve(
    artifact: &CachedArtifact,
    attributes: &VolumeAttributes,
    options: &PrefetchOptions,
) -> Result<Resolution, kube::Error> {
    let namespace = artifact.metadata.namespace.as_deref().unwrap_or_default();
    let secret = artifact.spec.pull_secret_ref.as_ref().map(|secret| secret.name.as_str());
    let (credential, denied) = match (access(namespace, secret, options).await?, secret) {
        (Access::Missing, name) => {
            let name = name.unwrap_or_default();
            let message = format!("there is no secret {name} in the namespace {namespace}; make it");
            return Ok(Resolution::Failed(Verdict::no("SecretNotFound", message)));
        }
        (Access::Open, _) => (None, false),
        (Access::Denied, _) => (None, true),
        (Access::Secret(secret), _) => match credential_from_secret(secret, &attributes.reference) {
            Ok(credential) => (credential, false),
            Err(error) => return Ok(Resolution::Failed(Verdict::no("InvalidSecret", error.to_string()))),
        },
    };
    let found = options.resolver.resolve(attributes, credential).await;
    Ok(judge(
        &attributes.reference,
        found.map(|found| (Pin { reference: found.reference, digest: found.digest.to_string() }, found.size)),
        denied,
    ))
}

/// What the registry's answer means; `denied` where it was asked without the secret that nodes have.
fn judge(reference: &Reference, found: Result<(Pin, u64), ResolveError>, denied: bool) -> Resolution {
    let error = match found {
        Ok((pin, size)) => {
            let verdict = Verdict::yes("Resolved", format!("{reference} is {}", pin.digest));
            return Resolution::Found { pin, size: Some(size), verdict };
        }
        Err(error) => error,
    };
    let private = matches!(
        &error,
        ResolveError::Registry(
            RegistryError::Unauthenticated { .. }
                | RegistryError::Forbidden { .. }
                // So many registries say of what may not be seen.
                | RegistryError::NotFound { .. }
        )
    );
    match reference.digest() {
        Some(digest) if denied && private => Resolution::Found {
            pin: Pin { reference: reference.to_string(), digest: digest.to_string() },
            size: None,
            verdict: Verdict::yes(
                "DigestGiven",
                "the reference has a digest; its size is unknown, because the controller may not read the pull secret",
            ),
        },
        None if denied && private => Resolution::Failed(Verdict::no(
            "SecretAccessDenied",
            format!(
                "the registry wants a credential for {reference}, and the controller may not read the pull secret in this namespace; write the reference with its digest, or have an administrator add the namespace to controller.secretNamespaces"
            ),
        )),
        _ => Resolution::Failed(Verdict::no(reason(&error), error.to_string())),
    }
}

/// One word for what went wrong; exhaustive on purpose.
fn reason(error: &ResolveError) -> &'static str {
    match error {
        ResolveError::Policy { .. } => "RefusedByPolicy",
        ResolveError::Registry(error) => match error {
            RegistryError::Unauthenticated { .. } => "Unauthenticated",
            RegistryError::Forbidden { .. } | RegistryError::Refused { .. } => "AccessDenied",
            RegistryError::NotFound { .. } => "NotFound",
            RegistryError::RateLimited { .. }
            | RegistryError::Unavailable { .. }
            | RegistryError::Untrusted { .. }
            | RegistryError::RangeRefused { .. }
            | RegistryError::Protocol { .. } => "RegistryUnavailable",
            RegistryError::TooLarge { .. } => "InvalidArtifact",
            RegistryError::DigestMismatch { .. } => "DigestMismatch",
        },
        ResolveError::Manifest { .. }
        | ResolveError::NestedIndex { .. }
        | ResolveError::Select { .. }
        | ResolveError::Layout { .. } => "InvalidArtifact",
    }
}

async fn access(
    namespace: &str,
    secret: Option<&str>,
    options: &PrefetchOptions,
) -> Result<Access, kube::Error> {
    let Some(name) = secret else { return Ok(Access::Open) };
    if !options.secret_namespaces.contains(namespace) {
        return Ok(Access::Denied);
    }
    let secrets: Api<Secret> = Api::namespaced(options.client.clone(), namespace);
    match secrets.get_opt(name).await {
        Ok(Some(secret)) => Ok(Access::Secret(texts(secret))),
        Ok(None) => Ok(Access::Missing),
        // Listed, and the RoleBinding is missing.
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Access::Denied),
        Err(error) => Err(error),
    }
}

/// The secret's values that are text; no other is a credential.
fn texts(secret: Secret) -> HashMap<String, String> {
    let data = secret.data.unwrap_or_default().into_iter();
    data.filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use stowage_artifact::Digest;

    use super::*;
    use crate::crd::CachedArtifactSpec;

    const MINUTE: Option<Duration> = Some(Duration::from_mins(1));

    fn digest() -> Digest {
        format!("sha256:{}", "a".repeat(64)).parse().unwrap()
    }

    fn tag() -> Reference {
        "r.example/a:v1".parse().unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    /// An object whose tag was resolved some seconds ago.
    fn resolved(seconds: i64) -> CachedArtifact {
        let mut artifact = CachedArtifact::new("llama", CachedArtifactSpec::default());
        artifact.metadata.generation = Some(3);
        let mut status = CachedArtifactStatus {
            observed_generation: Some(3),
            requested_reference: Some(tag().to_string()),
            resolved_reference: Some(format!("r.example/a@{}", digest())),
            resolved_digest: Some(digest().to_string()),
            resolved_at: Some(Time(now() - SignedDuration::from_secs(seconds))),
            ..CachedArtifactStatus::default()
        };
        status::set(&mut status, RESOLVED, Verdict::yes("Resolved", "x"), Some(3), now());
        artifact.status = Some(status);
        artifact
    }

    #[test]
    fn a_registry_is_asked_once_unless_the_interval_is_over_or_the_object_has_changed() {
        assert_eq!(question(&resolved(59), &tag(), MINUTE, now()), Question::None);
        assert_eq!(question(&resolved(60), &tag(), MINUTE, now()), Question::Digest);
        assert_eq!(question(&resolved(99_999), &tag(), None, now()), Question::None);
        let other: Reference = "r.example/a:v2".parse().unwrap();
        assert_eq!(question(&resolved(1), &other, None, now()), Question::Digest);
        let mut changed = resolved(1);
        changed.metadata.generation = Some(4);
        let pin: Reference = format!("r.example/a@{}", digest()).parse().unwrap();
        assert_eq!(question(&changed, &tag(), None, now()), Question::Size(pin));
        let mut failed = resolved(1);
        let status = failed.status.as_mut().unwrap();
        status::set(status, RESOLVED, Verdict::no("NotFound", "x"), Some(3), now());
        assert_eq!(question(&failed, &tag(), None, now()), Question::Digest);
        let new = CachedArtifact::new("llama", CachedArtifactSpec::default());
        assert_eq!(question(&new, &tag(), None, now()), Question::Digest);
    }

    #[test]
    fn a_digest_is_never_due_and_a_clock_that_went_back_puts_nothing_off() {
        let status = resolved(30).status.unwrap();
        assert_eq!(until_due(&status, &tag(), MINUTE, now()), Some(Duration::from_secs(30)));
        let by_digest: Reference = format!("r.example/a@{}", digest()).parse().unwrap();
        assert_eq!(until_due(&status, &by_digest, MINUTE, now()), None);
        let ahead = resolved(-3600).status.unwrap();
        assert_eq!(until_due(&ahead, &tag(), MINUTE, now()), MINUTE);
    }

    fn private() -> Result<(Pin, u64), ResolveError> {
        let (what, reason) = ("read manifest".to_owned(), "it says 401".to_owned());
        Err(ResolveError::Registry(RegistryError::Unauthenticated { what, reason }))
    }

    #[test]
    fn without_the_secret_a_private_tag_is_denied_and_a_digest_goes_on() {
        let Resolution::Failed(verdict) = judge(&tag(), private(), true) else { panic!() };
        assert_eq!(verdict.reason, "SecretAccessDenied");
        let by_digest: Reference = format!("r.example/a@{}", digest()).parse().unwrap();
        let Resolution::Found { pin, size, verdict } = judge(&by_digest, private(), true) else { panic!() };
        assert_eq!((pin.digest, size, verdict.reason), (digest().to_string(), None, "DigestGiven"));
        let Resolution::Failed(verdict) = judge(&by_digest, private(), false) else { panic!() };
        assert_eq!(verdict.reason, "Unauthenticated");
        let down = RegistryError::Unavailable {
            what: "read manifest".to_owned(),
            reason: "it says 503".to_owned(),
            retry_after: None,
        };
        let Resolution::Failed(verdict) = judge(&tag(), Err(ResolveError::Registry(down)), true) else {
            panic!()
        };
        assert_eq!(verdict.reason, "RegistryUnavailable");
        assert!(verdict.message.contains("503"));
    }
}

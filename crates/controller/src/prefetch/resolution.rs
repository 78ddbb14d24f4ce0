//! When the registry is asked, with which secret, and what its answer means for an object.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::GetParams;
use kube::core::Request;
use stowage_artifact::{Reference, VolumeAttributes};
use stowage_registry::{RegistryError, credential_from_secret};

use super::PrefetchOptions;
use super::daemon_set::Pin;
use super::status::Verdict;
use crate::crd::{CachedArtifact, CachedArtifactStatus};
use crate::resolve::ResolveError;

/// What is known of the reference now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// The registry has answered, or did not need to.
    Found { pin: Pin, size: Option<u64>, verdict: Verdict },
    /// No answer; what was pinned before stays.
    Failed(Failure),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) verdict: Verdict,
    /// How long the registry asked to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl Resolution {
    fn failed(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Failed(Failure { verdict: Verdict::no(reason, message), retry_after: None })
    }
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
    // What the condition says is another matter: a spec that was broken for a while has lost nothing.
    let Some(pinned) = pinned.filter(|_| same) else { return Question::Digest };
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
    /// What the API server sent is no secret.
    Unreadable,
}

/// Asks the registry, which has `patience` to answer.
pub(crate) async fn resolve(
    artifact: &CachedArtifact,
    attributes: &VolumeAttributes,
    options: &PrefetchOptions,
    patience: Duration,
) -> Result<Resolution, kube::Error> {
    let namespace = artifact.metadata.namespace.as_deref().unwrap_or_default();
    let secret = artifact.spec.pull_secret_ref.as_ref().map(|secret| secret.name.as_str());
    let name = secret.unwrap_or_default();
    let (credential, denied) = match access(namespace, secret, options).await? {
        Access::Missing => {
            let message = format!("there is no secret {name} in the namespace {namespace}; make it");
            return Ok(Resolution::failed("SecretNotFound", message));
        }
        Access::Unreadable => {
            let message = format!("the secret {name} cannot be read as one; make it anew");
            return Ok(Resolution::failed("InvalidSecret", message));
        }
        Access::Open => (None, false),
        Access::Denied => (None, true),
        Access::Secret(secret) => match credential_from_secret(secret, &attributes.reference) {
            Ok(credential) => (credential, false),
            Err(error) => return Ok(Resolution::failed("InvalidSecret", error.to_string())),
        },
    };
    let asking = options.resolver.resolve(attributes, credential);
    let Ok(found) = tokio::time::timeout(patience, asking).await else {
        let (reference, seconds) = (&attributes.reference, patience.as_secs());
        let message = format!("the registry of {reference} did not answer within {seconds} s");
        return Ok(Resolution::failed("RegistryUnavailable", message));
    };
    let found =
        found.map(|found| (Pin { reference: found.reference, digest: found.digest.to_string() }, found.size));
    Ok(judge(&attributes.reference, found, denied))
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
        None if denied && private => Resolution::failed(
            "SecretAccessDenied",
            format!(
                "the registry wants a credential for {reference}, and the controller may not read the pull secret in this namespace; write the reference with its digest, or have an administrator add the namespace to controller.secretNamespaces"
            ),
        ),
        _ => {
            let retry_after = match &error {
                ResolveError::Registry(error) => error.retry_after(),
                _ => None,
            };
            let verdict = Verdict::no(reason(&error), without_countdown(error).to_string());
            Resolution::Failed(Failure { verdict, retry_after })
        }
    }
}

/// The same error in words that do not change with each try: a status that changes wakes us again.
fn without_countdown(mut error: ResolveError) -> ResolveError {
    if let ResolveError::Registry(
        RegistryError::RateLimited { retry_after, .. } | RegistryError::Unavailable { retry_after, .. },
    ) = &mut error
    {
        *retry_after = None;
    }
    error
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
        | ResolveError::TooManyDocuments { .. }
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
    let request = Request::new(secrets.resource_url()).get(name, &GetParams::default());
    // Not `get_opt`: it logs a whole answer that it cannot decode, and this one is a secret.
    match options.client.request_text(request.map_err(kube::Error::BuildRequest)?).await {
        // Nor is the error of the decoder told, which repeats what it stumbles over.
        Ok(text) => {
            Ok(serde_json::from_str(&text).map_or(Access::Unreadable, |secret| Access::Secret(texts(secret))))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Access::Missing),
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

    use super::super::status::{self, RESOLVED};
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
        let mut broken = resolved(1);
        let status = broken.status.as_mut().unwrap();
        status::set(status, RESOLVED, Verdict::no("InvalidSpec", "x"), Some(3), now());
        assert_eq!(
            question(&broken, &tag(), None, now()),
            Question::None,
            "what was answered stays answered"
        );
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
        let Resolution::Failed(failure) = judge(&tag(), private(), true) else { panic!() };
        assert_eq!(failure.verdict.reason, "SecretAccessDenied");
        let by_digest: Reference = format!("r.example/a@{}", digest()).parse().unwrap();
        let Resolution::Found { pin, size, verdict } = judge(&by_digest, private(), true) else { panic!() };
        assert_eq!((pin.digest, size, verdict.reason), (digest().to_string(), None, "DigestGiven"));
        let Resolution::Failed(failure) = judge(&by_digest, private(), false) else { panic!() };
        assert_eq!(failure.verdict.reason, "Unauthenticated");
    }

    #[test]
    fn what_a_busy_registry_says_is_the_same_sentence_each_time() {
        let failure_of = |seconds: Option<u64>| {
            let (what, reason) = ("read manifest".to_owned(), "it says 503".to_owned());
            let retry_after = seconds.map(Duration::from_secs);
            let down = RegistryError::Unavailable { what, reason, retry_after };
            let judged = judge(&tag(), Err(ResolveError::Registry(down)), true);
            let Resolution::Failed(failure) = judged else { panic!() };
            failure
        };
        let (soon, late) = (failure_of(Some(3)), failure_of(Some(200)));
        assert_eq!(
            (soon.verdict.reason, soon.retry_after),
            ("RegistryUnavailable", Some(Duration::from_secs(3)))
        );
        assert_eq!(late.retry_after, Some(Duration::from_secs(200)));
        assert!(soon.verdict.message.contains("503"));
        assert_eq!(soon.verdict, late.verdict);
        assert_eq!(soon.verdict, failure_of(None).verdict);
    }
}

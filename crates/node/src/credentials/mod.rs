//! With which credential a registry is asked for a pod. The first of these that has one counts (`csi.md`):
//!
//! ```text
//! secret      the pull secret of the volume                     whoever holds user and password
//! exchange    the pod's service account token, where a rule     (rule, namespace, service account)
//!             of the administrator's covers the image
//! providers   a kubelet credential provider plugin              (plugin, user), or (plugin, namespace,
//!                                                               service account) where it was given a token
//! node_file   the node's docker configuration                   whoever holds user and password
//! ```
//!
//! On the right: whose the grants are that come of it (`trust.md`). Files, plugins and endpoints are asked anew for each
//! publish; a plugin's answer is kept for as long as it says. Plugins and endpoints are asked in turns. What can be waited
//! for answers UNAVAILABLE, and kubelet comes again.

mod exchange;
mod node_file;
mod providers;
mod secret;
mod tokens;
mod turns;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use stowage_artifact::{Reference, VolumeAttributes};
use stowage_registry::{Credential, Registry, RegistryError, Secret};
use stowage_telemetry::Metrics;
use stowage_volumes::{Access, Meaning, PublishError};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

pub use exchange::{TOKEN_USERNAME, TokenMode, TokenRule};
pub use node_file::NodeCredentials;
pub use providers::ProviderSettings;
pub(crate) use providers::UsedAnswer;
pub(crate) use tokens::TOKENS_KEY;

use crate::context::Pod;
use providers::{ProviderError, Providers};
use secret::SecretError;
use tokens::{TokenError, Tokens};
use turns::{Queue, Turns};

/// What the administrator has set up besides the pods' own secrets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CredentialSettings {
    /// Rules for service account tokens; the first that covers an image counts.
    pub token_rules: Vec<TokenRule>,
    /// Kubelet credential provider plugins.
    pub providers: Option<ProviderSettings>,
    /// The node's own docker configuration.
    pub docker_config: Option<PathBuf>,
}

/// Finds credentials. Cheap to clone; all clones share the settings and what plugins have answered.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

struct Inner {
    registry: Registry,
    settings: RwLock<Arc<CredentialSettings>>,
    providers: Providers,
    turns: Turns,
    closed: CancellationToken,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("settings", &self.settings()).finish_non_exhaustive()
    }
}

/// Why there is no credential, though there should be one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Exchange(#[from] RegistryError),
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error("{0}")]
    NodeFile(String),
    #[error("a task of the node plugin died while it read credentials; see its log")]
    Died,
    #[error("its credential could not be had in time; the call is repeated by kubelet")]
    Late,
    #[error(
        "too many credentials are being asked for on this node (at most {at_once}, and {share} of one namespace); the call is repeated by kubelet"
    )]
    Busy { at_once: usize, share: usize },
    #[error("the node plugin is shutting down; the call is repeated by kubelet")]
    ShuttingDown,
}

impl CredentialError {
    /// What the failure means to the caller; exhaustive on purpose.
    pub(crate) fn meaning(&self) -> Meaning {
        match self {
            Self::Secret(_) => Meaning::Invalid,
            Self::Token(_) => Meaning::Unauthenticated,
            Self::Exchange(error) => Meaning::from(error),
            Self::Busy { .. } => Meaning::Exhausted,
            // The administrator's own programs and files: they are mended while kubelet goes on trying.
            Self::Provider(_) | Self::NodeFile(_) | Self::Died | Self::Late | Self::ShuttingDown => {
                Meaning::Unavailable
            }
        }
    }
}

/// What a credential is looked for with. It holds secrets, so it has no `Debug`.
pub(crate) struct Question {
    pub(crate) secrets: HashMap<String, String>,
    pub(crate) pod: Pod,
    /// What stands in the volume context under the tokens' key; see `tokens` for who may have written it.
    pub(crate) context_tokens: Option<Secret>,
    /// Filled where a plugin's answer is the credential.
    pub(crate) used: UsedAnswer,
}

impl Credentials {
    /// `registry` is whose rules hold for the endpoints of token exchanges; `metrics` hear of what is misconfigured.
    pub fn new(registry: Registry, settings: CredentialSettings, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            registry,
            settings: RwLock::new(Arc::new(settings)),
            providers: Providers::new(metrics),
            turns: Turns::default(),
            closed: CancellationToken::new(),
        }))
    }

    /// Takes other settings for all that is published from now on.
    pub fn replace(&self, settings: CredentialSettings) {
        if settings.providers.is_none() {
            self.0.providers.none();
        }
        *self.0.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    fn settings(&self) -> Arc<CredentialSettings> {
        Arc::clone(&self.0.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A publish has failed: an answer that the registry does not take is not kept, for a plugin's account can lose its
    /// rights long before.
    pub(crate) fn publish_failed(&self, used: &UsedAnswer, error: &PublishError) {
        if error.meaning() == Meaning::Unauthenticated {
            self.0.providers.refused(used);
        }
    }

    /// Ends all waiting for endpoints and plugins.
    pub(crate) fn close(&self) {
        self.0.closed.cancel();
    }

    /// Whether more than a look at the pod's own secret may be needed for this image: something that can be slow, or
    /// broken on this node.
    pub(crate) fn asks_others(&self, attributes: &VolumeAttributes) -> bool {
        let settings = self.settings();
        settings.providers.is_some()
            || settings.docker_config.is_some()
            || settings.token_rules.iter().any(|rule| rule.covers(&attributes.reference))
    }

    /// With which credential, and as whom, the registry of `attributes` is asked. Nobody is waited for beyond `until`.
    pub(crate) async fn access(
        &self,
        question: Question,
        attributes: &VolumeAttributes,
        until: Instant,
    ) -> Result<Access, CredentialError> {
        tokio::select! {
            biased;
            () = self.0.closed.cancelled() => Err(CredentialError::ShuttingDown),
            access = timeout_at(until, self.look(question, attributes, until)) => {
                access.unwrap_or(Err(CredentialError::Late))
            }
        }
    }

    async fn look(
        &self,
        question: Question,
        attributes: &VolumeAttributes,
        until: Instant,
    ) -> Result<Access, CredentialError> {
        let Question { mut secrets, pod, context_tokens, used } = question;
        let reference = &attributes.reference;
        let settings = self.settings();
        let tokens = secrets.remove(TOKENS_KEY).map(Secret::new).or(context_tokens);
        if !secrets.is_empty() {
            // Whoever wrote the secret chose how long it takes to parse.
            let reference = reference.clone();
            let found = tokio::task::spawn_blocking(move || secret::lookup(secrets, &reference));
            if let Some(credential) = found.await.map_err(|_| CredentialError::Died)?? {
                return Ok(Access::of(Some(credential)));
            }
        }
        let queue = Queue { turns: &self.0.turns, namespace: &pod.namespace, until };
        if let Some(rule) = settings.token_rules.iter().find(|rule| rule.covers(reference)) {
            let token = Tokens::parse(tokens.as_ref())?.bound(&rule.audience, &pod)?;
            return rule.access(&self.0.registry, token, attributes.pull_policy, queue).await;
        }
        let mut lacking = None;
        if let Some(providers) = &settings.providers {
            match self.0.providers.access(providers, reference, &pod, tokens.as_ref(), &used, queue).await {
                Ok(Some(access)) => return Ok(access),
                Ok(None) => {}
                // The token does not come by itself: what is left may do without.
                Err(error @ CredentialError::Token(_)) => lacking = Some(error),
                Err(error) => return Err(error),
            }
        }
        match (nodes_own(settings.docker_config.clone(), reference).await?, lacking) {
            (None, Some(error)) => Err(error),
            (credential, _) => Ok(Access::of(credential)),
        }
    }
}

/// What the node's docker configuration has for an image.
async fn nodes_own(
    path: Option<PathBuf>,
    reference: &Reference,
) -> Result<Option<Credential>, CredentialError> {
    let Some(path) = path else { return Ok(None) };
    let reference = reference.clone();
    let found = tokio::task::spawn_blocking(move || NodeCredentials::lookup(&path, &reference));
    found.await.map_err(|_| CredentialError::Died)?.map_err(CredentialError::NodeFile)
}

#[cfg(test)]
mod tests;

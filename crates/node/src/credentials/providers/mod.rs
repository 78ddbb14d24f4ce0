//! Kubelet credential provider plugins: programs that kubelet runs to get credentials for images, run here in the same
//! way. They are the administrator's, named by the administrator's configuration alone; a pod chooses none of them.
//!
//! What a plugin answers is kept in memory as it says (`cacheKeyType`, `cacheDuration`), also where it has nothing. Pods
//! that need the same answer at the same time wait for one run.

mod cache;
mod config;
mod in_force;
mod plugin;
mod process_group;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use stowage_artifact::{Algorithm, Digest, Reference};
use stowage_registry::{Credential, Secret};
use stowage_store::Principal;
use stowage_telemetry::Metrics;
use stowage_volumes::Access;

use super::CredentialError;
use super::tokens::BoundToken;
use super::turns::{Queue, Turn};
use crate::context::Pod;
use cache::{Asked, Cache};
use config::{CacheType, Provider, TokenWish};
use in_force::InForce;
use plugin::Answer;

/// Where the plugins are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderSettings {
    /// Kubelet's `CredentialProviderConfig`.
    pub config_file: PathBuf,
    /// The directory with the programs.
    pub bin_dir: PathBuf,
}

/// A plugin, or the file that names it, is of no use.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ProviderError {
    /// What is wrong concerns the administrator, and stands in the node's log.
    #[error("the node's credential providers are misconfigured; ask the administrator")]
    Misconfigured,
    #[error("credential provider `{provider}` failed for {image}: {reason}; run it by hand on the node")]
    Failed { provider: String, image: String, reason: String },
    #[error("the run of credential provider `{provider}` for {image} was stopped")]
    Stopped { provider: String, image: String },
}

/// Which plugin's answer a publish uses, once that is known; its clones know the same.
#[derive(Clone, Default)]
pub(crate) struct UsedAnswer(Arc<OnceLock<Asked>>);

impl UsedAnswer {
    fn set(&self, asked: Asked) {
        // One publish asks once.
        let _ = self.0.set(asked);
    }
}

/// One run of a plugin with everyone who waits for it.
type Flight = Shared<BoxFuture<'static, Result<Answer, ProviderError>>>;

/// What makes two questions to a plugin the same: its fingerprint, the image, the token.
type FlightKey = (Digest, String, Option<Digest>);

/// Runs plugins and keeps what they answer.
pub(super) struct Providers(Arc<Shelf>);

struct Shelf {
    file: InForce,
    cache: Cache,
    flights: Mutex<HashMap<FlightKey, Flight>>,
}

impl Providers {
    /// `metrics` hear of a file that cannot be used.
    pub(super) fn new(metrics: Metrics) -> Self {
        let (file, cache, flights) = (InForce::new(metrics), Cache::default(), Mutex::default());
        Self(Arc::new(Shelf { file, cache, flights }))
    }

    /// There are no plugins any more.
    pub(super) fn none(&self) {
        self.0.file.none();
    }

    /// The access that the first plugin with a credential for `reference` gives; none where no plugin has one.
    ///
    /// One that fails is passed over, and so is one that wants a token that the pod does not have: another one may have
    /// what is needed. Where none does, a failure that passes counts more than a token that does not come by itself.
    pub(super) async fn access(
        &self,
        settings: &ProviderSettings,
        reference: &Reference,
        pod: &Pod,
        tokens: Option<&Secret>,
        used: &UsedAnswer,
        queue: Queue<'_>,
    ) -> Result<Option<Access>, CredentialError> {
        let (shelf, file) = (Arc::clone(&self.0), settings.clone());
        let providers = tokio::task::spawn_blocking(move || shelf.file.read(&file))
            .await
            .map_err(|_| CredentialError::Died)??;
        let (mut failure, mut lacking) = (None, None);
        for provider in providers.iter().filter(|provider| provider.covers(reference)) {
            let token = provider.token.as_ref().map(|wish| wish.grant(tokens, pod)).transpose();
            let token = match token {
                Ok(token) => token.flatten(),
                Err(error) => {
                    tracing::debug!(%error, provider = provider.name, "a credential provider is passed over");
                    lacking = lacking.or(Some(error));
                    continue;
                }
            };
            let asked = Asked {
                provider: provider.fingerprint.clone(),
                owner: owner(provider, token.as_ref()),
                reference: reference.clone(),
                namespace: pod.namespace.clone(),
            };
            match self.ask(settings, provider, token.as_ref(), &asked, queue).await {
                Ok(Some(credential)) => {
                    used.set(asked);
                    let principal = principal(provider, &credential, token);
                    return Ok(Some(Access::of_principal(Some(credential), principal)));
                }
                Ok(None) => {}
                // Another one may have what is needed.
                Err(CredentialError::Provider(error)) => {
                    tracing::warn!(%error, "a credential provider failed");
                    failure = failure.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        match (failure, lacking) {
            (Some(error), _) => Err(error.into()),
            (None, Some(error)) => Err(error.into()),
            (None, None) => Ok(None),
        }
    }

    /// The registry does not take what a plugin has answered.
    pub(super) fn refused(&self, used: &UsedAnswer) {
        if let Some(asked) = used.0.get() {
            self.0.cache.refused(asked);
        }
    }

    async fn ask(
        &self,
        settings: &ProviderSettings,
        provider: &Provider,
        token: Option<&BoundToken>,
        asked: &Asked,
        queue: Queue<'_>,
    ) -> Result<Option<Credential>, CredentialError> {
        let kept = || self.0.cache.get(asked);
        if let Some(kept) = kept() {
            return Ok(kept.lookup(&asked.reference));
        }
        let key = flight_key(provider, &asked.reference, token);
        let flight = if let Some(flight) = self.0.running(&key) {
            flight
        } else {
            let turn = queue.turn().await?;
            // Whoever had a turn in the meantime may have asked the same.
            if let Some(kept) = kept() {
                return Ok(kept.lookup(&asked.reference));
            }
            self.fly(settings, provider, token, asked.clone(), key, turn)
        };
        Ok(flight.await?.credentials.lookup(&asked.reference))
    }

    /// Joins the run that has the same question, or starts one. It is a task of its own, so that it ends even when the
    /// first who wanted it goes, and has its turn until then.
    fn fly(
        &self,
        settings: &ProviderSettings,
        provider: &Provider,
        token: Option<&BoundToken>,
        asked: Asked,
        key: FlightKey,
        turn: Turn,
    ) -> Flight {
        let image = key.1.clone();
        let mut flights = self.0.flights();
        if let Some(flight) = flights.get(&key).filter(|flight| flight.peek().is_none()) {
            return flight.clone();
        }
        let (shelf, bin_dir) = (Arc::clone(&self.0), settings.bin_dir.clone());
        let (provider, token) = (provider.clone(), token.map(|token| token.token.clone()));
        let stopped = ProviderError::Stopped { provider: provider.name.clone(), image: image.clone() };
        let task = tokio::spawn({
            let key = key.clone();
            async move {
                let answer = plugin::run(&provider, &bin_dir, &image, token.as_ref()).await;
                if let Ok(answer) = &answer {
                    shelf.cache.put(&asked, answer);
                }
                shelf.flights().remove(&key);
                drop(turn);
                answer
            }
        });
        let flight = async move { task.await.unwrap_or(Err(stopped)) }.boxed().shared();
        flights.insert(key, flight.clone());
        flight
    }
}

impl Shelf {
    /// The run with this question.
    fn running(&self, key: &FlightKey) -> Option<Flight> {
        self.flights().get(key).filter(|flight| flight.peek().is_none()).cloned()
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<FlightKey, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn flight_key(provider: &Provider, reference: &Reference, token: Option<&BoundToken>) -> FlightKey {
    // As under kubelet: without tag and digest.
    let image = format!("{}/{}", reference.registry(), reference.repository());
    (provider.fingerprint.clone(), image, token.map(|token| fingerprint(&token.token)))
}

/// Whose the grants are. A plugin that is configured otherwise is another one: under the same user name it may speak for
/// another account, and what it reached before is not its own any more. Without a token a plugin speaks for the node, and gives the same to every pod; with one, for
/// the service account, whatever user name it returns. Passwords change from run to run and say nothing.
fn principal(provider: &Provider, credential: &Credential, token: Option<BoundToken>) -> Principal {
    let plugin = format!("{} {}", provider.name, provider.fingerprint);
    match (token, credential) {
        (Some(token), _) => Principal::ProviderServiceAccount { plugin, account: token.account },
        (None, Credential::Password { username, .. }) => {
            Principal::Provider { plugin, account: username.clone() }
        }
        // Plugins return pairs only.
        (None, Credential::IdentityToken(_)) => Principal::Provider { plugin, account: String::new() },
    }
}

/// For whom an answer is kept.
fn owner(provider: &Provider, token: Option<&BoundToken>) -> String {
    match (&provider.token, token) {
        (Some(TokenWish { cache: CacheType::ServiceAccount, .. }), Some(token)) => {
            let account = &token.account;
            format!("{:?}", (&account.namespace, &account.name, &account.uid))
        }
        (Some(TokenWish { cache: CacheType::Token, .. }), Some(token)) => {
            fingerprint(&token.token).to_string()
        }
        _ => String::new(),
    }
}

fn fingerprint(token: &Secret) -> Digest {
    Digest::of(Algorithm::Sha256, token.expose().as_bytes())
}

#[cfg(test)]
mod tests;

//! Kubelet credential provider plugins: programs that kubelet runs to get credentials for images, run here in the same
//! way. They are the administrator's, named by the administrator's configuration alone; a pod chooses none of them.
//!
//! What a plugin answers is kept in memory as it says (`cacheKeyType`, `cacheDuration`), also where it has nothing. Pods
//! that need the same answer at the same time wait for one run.

mod cache;
mod config;
mod plugin;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use stowage_artifact::{Algorithm, Digest, Reference};
use stowage_registry::{Credential, Secret};
use stowage_store::Principal;
use stowage_volumes::Access;

use super::CredentialError;
use super::tokens::{BoundToken, Tokens};
use super::turns::{Queue, Turn};
use crate::context::Pod;
use cache::Cache;
use config::{CacheType, Provider};
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
    #[error("the credential providers' configuration {} cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("the credential providers' configuration {} is invalid: {reason}; correct the file", path.display())]
    Invalid { path: PathBuf, reason: String },
    #[error("credential provider `{provider}` failed for {image}: {reason}; run it by hand on the node")]
    Failed { provider: String, image: String, reason: String },
    #[error("the run of credential provider `{provider}` for {image} was stopped")]
    Stopped { provider: String, image: String },
}

/// One run of a plugin with everyone who waits for it.
type Flight = Shared<BoxFuture<'static, Result<Answer, ProviderError>>>;

/// What makes two questions to a plugin the same: its fingerprint, the image, the token.
type FlightKey = (Digest, String, Option<Digest>);

/// Runs plugins and keeps what they answer.
#[derive(Default)]
pub(super) struct Providers(Arc<Shelf>);

#[derive(Default)]
struct Shelf {
    cache: Cache,
    flights: Mutex<HashMap<FlightKey, Flight>>,
}

impl Providers {
    /// The access that the first plugin with a credential for `reference` gives; none where no plugin has one.
    pub(super) async fn access(
        &self,
        settings: &ProviderSettings,
        reference: &Reference,
        pod: &Pod,
        tokens: Option<&Secret>,
        queue: Queue<'_>,
    ) -> Result<Option<Access>, CredentialError> {
        let file = settings.clone();
        let providers = tokio::task::spawn_blocking(move || config::read(&file))
            .await
            .map_err(|_| CredentialError::Died)??;
        let mut failure = None;
        for provider in providers.into_iter().filter(|provider| provider.covers(reference)) {
            let token = match &provider.token {
                None => None,
                Some((audience, _)) => Some(Tokens::parse(tokens)?.bound(audience, pod)?),
            };
            match self.ask(settings, &provider, reference, token.as_ref(), queue).await {
                Ok(Some(credential)) => {
                    let principal = principal(&provider, &credential, token);
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
        failure.map_or(Ok(None), |error| Err(error.into()))
    }

    async fn ask(
        &self,
        settings: &ProviderSettings,
        provider: &Provider,
        reference: &Reference,
        token: Option<&BoundToken>,
        queue: Queue<'_>,
    ) -> Result<Option<Credential>, CredentialError> {
        let owner = owner(provider, token);
        let kept = || self.0.cache.get(&provider.fingerprint, &owner, reference);
        if let Some(kept) = kept() {
            return Ok(kept.lookup(reference));
        }
        let key = flight_key(provider, reference, token);
        let flight = if let Some(flight) = self.0.running(&key) {
            flight
        } else {
            let turn = queue.turn().await?;
            // Whoever had a turn in the meantime may have asked the same.
            if let Some(kept) = kept() {
                return Ok(kept.lookup(reference));
            }
            self.fly(settings, provider, reference, token, owner, key, turn)
        };
        Ok(flight.await?.credentials.lookup(reference))
    }

    /// Joins the run that has the same question, or starts one. It is a task of its own, so that it ends even when the
    /// first who wanted it goes, and has its turn until then.
    #[expect(clippy::too_many_arguments, reason = "all of them make the one run")]
    fn fly(
        &self,
        settings: &ProviderSettings,
        provider: &Provider,
        reference: &Reference,
        token: Option<&BoundToken>,
        owner: String,
        key: FlightKey,
        turn: Turn,
    ) -> Flight {
        let image = key.1.clone();
        let mut flights = self.0.flights();
        if let Some(flight) = flights.get(&key).filter(|flight| flight.peek().is_none()) {
            return flight.clone();
        }
        let shelf = Arc::clone(&self.0);
        let (bin_dir, reference) = (settings.bin_dir.clone(), reference.clone());
        let (provider, token) = (provider.clone(), token.map(|token| token.token.clone()));
        let stopped = ProviderError::Stopped { provider: provider.name.clone(), image: image.clone() };
        let task = tokio::spawn({
            let key = key.clone();
            async move {
                let answer = plugin::run(&provider, &bin_dir, &image, token.as_ref()).await;
                if let Ok(answer) = &answer {
                    shelf.cache.put(&provider.fingerprint, &owner, &reference, answer);
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

/// Whose the grants are. Without a token a plugin speaks for the node, and gives the same to every pod; with one, for
/// the service account, whatever user name it returns. Passwords change from run to run and say nothing.
fn principal(provider: &Provider, credential: &Credential, token: Option<BoundToken>) -> Principal {
    let plugin = provider.name.clone();
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
        (Some((_, CacheType::ServiceAccount)), Some(token)) => {
            let account = &token.account;
            format!("{:?}", (&account.namespace, &account.name, &account.uid))
        }
        (Some((_, CacheType::Token)), Some(token)) => fingerprint(&token.token).to_string(),
        _ => String::new(),
    }
}

fn fingerprint(token: &Secret) -> Digest {
    Digest::of(Algorithm::Sha256, token.expose().as_bytes())
}

#[cfg(test)]
mod tests;

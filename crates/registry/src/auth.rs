//! Who we are to a repository: the pass that is shown, kept per (repository, credential), renewed once for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use reqwest::header::HeaderValue;
use stowage_artifact::{Algorithm, Digest};
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use crate::challenge::Challenge;
use crate::credential::Credential;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::response::unauthenticated;
use crate::secret::Secret;
use crate::shown::host_and_port;
use crate::token::{Realm, TokenAnswer, TokenRequest, sensitive};

/// More are kept only while somebody uses them.
const MOST_PASSES: usize = 1024;
/// A token is renewed this long before its end, or at three quarters of its life if that is later.
const RENEW_BEFORE: Duration = Duration::from_secs(30);

/// What a request shows, and which generation of it: a 401 to an old one needs no renewal.
pub(crate) struct Pass {
    pub(crate) header: Option<HeaderValue>,
    pub(crate) generation: u64,
}

/// All passes of the process. Keys are fingerprints, so no credential outlives its user here.
pub(crate) struct Passes {
    key: [u8; 32],
    slots: Mutex<HashMap<Digest, Arc<Slot>>>,
}

impl Passes {
    pub(crate) fn new() -> Self {
        Self { key: rand::random(), slots: Mutex::default() }
    }

    /// The slot of one repository and credential.
    pub(crate) fn slot(&self, host: &str, repository: &str, credential: Option<&Credential>) -> Arc<Slot> {
        let mut material = Zeroizing::new(self.key.to_vec());
        for text in [host, repository] {
            material.extend_from_slice(text.as_bytes());
            material.push(0);
        }
        if let Some(credential) = credential {
            material.extend_from_slice(&credential.material());
        }
        let fingerprint = Digest::of(Algorithm::Sha256, &material);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MOST_PASSES && !slots.contains_key(&fingerprint) {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(fingerprint).or_default())
    }
}

/// The pass of one (repository, credential).
#[derive(Default)]
pub(crate) struct Slot(Mutex<State>);

#[derive(Default)]
struct State {
    /// Counts every change of `proof`.
    generation: u64,
    proof: Proof,
    /// Where the token came from, so that it is renewed without another 401.
    realm: Option<Arc<Realm>>,
    flight: Option<Flight>,
}

#[derive(Default)]
enum Proof {
    /// Nothing was asked for yet.
    #[default]
    None,
    Basic,
    Bearer {
        header: HeaderValue,
        renew_at: Instant,
        ends_at: Instant,
    },
}

/// One running token request with everyone who waits for it.
type Flight = Shared<BoxFuture<'static, Result<(), RegistryError>>>;

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, realm: Arc<Realm>, answer: &TokenAnswer) -> bool {
        let value = Secret::new(format!("Bearer {}", answer.token.expose()));
        let Some(header) = sensitive(&value) else { return false };
        let now = Instant::now();
        let ends_at = now + answer.lifetime;
        let renew_at =
            (now + answer.lifetime.mul_f64(0.75)).max(ends_at.checked_sub(RENEW_BEFORE).unwrap_or(now));
        let mut state = self.lock();
        state.proof = Proof::Bearer { header, renew_at, ends_at };
        state.realm = Some(realm);
        state.generation += 1;
        true
    }
}

impl Endpoint {
    /// What the next request shows. A token near its end is renewed first.
    pub(crate) async fn authorization(&self, base: &Url) -> Result<Pass, RegistryError> {
        let (pass, due, dead) = self.current_pass();
        if !due {
            return Ok(pass);
        }
        match self.renew(base, pass.generation, &[]).await {
            Ok(()) => Ok(self.current_pass().0),
            // It is still good for this request, and there may be a better moment.
            Err(_) if !dead => Ok(pass),
            Err(error) => Err(error),
        }
    }

    /// The pass, whether it should be renewed, and whether it is of no use any more.
    fn current_pass(&self) -> (Pass, bool, bool) {
        let state = self.slot().lock();
        let generation = state.generation;
        match &state.proof {
            Proof::None => (Pass { header: None, generation }, false, false),
            Proof::Basic => {
                let header = self.credential().and_then(Credential::basic).as_ref().and_then(sensitive);
                (Pass { header, generation }, false, false)
            }
            Proof::Bearer { header, renew_at, ends_at } => {
                let now = Instant::now();
                (Pass { header: Some(header.clone()), generation }, now >= *renew_at, now >= *ends_at)
            }
        }
    }

    /// Shows the password to a registry that denies what it did not ask a credential for. Once per slot;
    /// says whether another try makes sense.
    pub(crate) fn introduce(&self, seen: u64) -> bool {
        if seen != 0 || self.credential().and_then(Credential::basic).is_none() {
            return false;
        }
        let mut state = self.slot().lock();
        if state.generation == 0 {
            state.proof = Proof::Basic;
            state.generation = 1;
        }
        true
    }

    /// Gets a new pass in place of the one of generation `seen`, by the challenges of a 401, or, without
    /// any, from where the last token came from. All who need it wait for the same request.
    pub(crate) async fn renew(
        &self,
        base: &Url,
        seen: u64,
        challenges: &[Challenge],
    ) -> Result<(), RegistryError> {
        let flight = {
            let mut state = self.slot().lock();
            if state.generation != seen {
                return Ok(());
            }
            // One that ended and is still here was torn down with its runtime: it would fail everyone for ever.
            let running = state.flight.as_ref().filter(|flight| flight.peek().is_none());
            if let Some(flight) = running {
                flight.clone()
            } else if let Some(realm) = self.realm(base, challenges, &state)? {
                let flight = self.depart(base, realm);
                state.flight = Some(flight.clone());
                flight
            } else {
                return self.settle_for_basic(base, challenges, &mut state);
            }
        };
        flight.await
    }

    /// Where a token is to be had, if one is asked for.
    fn realm(
        &self,
        base: &Url,
        challenges: &[Challenge],
        state: &State,
    ) -> Result<Option<Arc<Realm>>, RegistryError> {
        let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") else {
            let known = if challenges.is_empty() { state.realm.clone() } else { None };
            return Ok(known);
        };
        // A fresh token that reaches not far enough is no matter of renewal.
        if bearer.parameter("error") == Some("insufficient_scope")
            && matches!(state.proof, Proof::Bearer { .. })
            && self.credential().is_some()
        {
            let reason = format!(
                "{} says that the given credential has no access to it; ask its owner for it",
                host_and_port(base)
            );
            return Err(RegistryError::Forbidden { what: self.sign_in_text(), reason });
        }
        let realm = Realm::new(bearer, base).map_err(|error| RegistryError::Refused {
            what: self.sign_in_text(),
            reason: error.to_string(),
        })?;
        Ok(Some(Arc::new(realm)))
    }

    fn settle_for_basic(
        &self,
        base: &Url,
        challenges: &[Challenge],
        state: &mut State,
    ) -> Result<(), RegistryError> {
        let asked = challenges.iter().any(|challenge| challenge.scheme == "basic");
        let able = self.credential().and_then(Credential::basic).is_some();
        if asked && able && !matches!(state.proof, Proof::Basic) {
            state.proof = Proof::Basic;
            state.generation += 1;
            return Ok(());
        }
        let host = host_and_port(base);
        let reason = if asked && !able && self.credential().is_some() {
            format!(
                "{host} takes user names with passwords only and an identity token was given; correct the pull secret"
            )
        } else {
            unauthenticated(&host, self.credential().is_some())
        };
        Err(RegistryError::Unauthenticated { what: self.sign_in_text(), reason })
    }

    /// Starts a token request as a task of its own, so that it ends even when the first who wanted it goes.
    fn depart(&self, base: &Url, realm: Arc<Realm>) -> Flight {
        let slot = Arc::clone(self.slot());
        let request = TokenRequest {
            inner: Arc::clone(self.inner()),
            realm: Arc::clone(&realm),
            base: base.clone(),
            access: Arc::clone(self.access()),
            repository: self.name().to_owned(),
            credential: self.shared_credential(),
            what: self.sign_in_text(),
        };
        let what = request.what.clone();
        let unusable = {
            let what = what.clone();
            move || RegistryError::Protocol { what, reason: "the token cannot stand in a header".to_owned() }
        };
        let task = tokio::spawn(async move {
            let result = request.ask().await;
            let result =
                result.and_then(|answer| slot.store(realm, &answer).then_some(()).ok_or_else(unusable));
            slot.lock().flight = None;
            result
        });
        let failed = move || RegistryError::Unavailable {
            what,
            reason: "the token request was stopped".to_owned(),
            retry_after: None,
        };
        async move { task.await.unwrap_or_else(|_| Err(failed())) }.boxed().shared()
    }
}

//! Who may do what: anonymous, basic, or bearer tokens from the registry's own endpoint.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// The grant type of RFC 8693.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// How clients sign in.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// Everybody may do everything.
    #[default]
    None,
    /// A user and a password with every request.
    Basic,
    /// A token from the registry's own endpoint.
    Bearer(BearerOptions),
}

/// How the token endpoint behaves.
#[derive(Clone, Debug)]
pub struct BearerOptions {
    /// How long a token holds.
    pub lifetime: Duration,
    /// Whether the answer says how long a token holds.
    pub says_expiry: bool,
    /// Whether the answer's key is `access_token` and not `token`.
    pub access_token_key: bool,
    /// The realm of the challenge, where it is not the registry's own endpoint.
    pub realm: Option<String>,
    /// The service of the challenge.
    pub service: String,
    /// What a user without access to a repository is told.
    pub denial: Denial,
}

impl Default for BearerOptions {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_mins(5),
            says_expiry: true,
            access_token_key: false,
            realm: None,
            service: "stowage-testkit".into(),
            denial: Denial::Forbidden,
        }
    }
}

/// How registries say no to a user whom they know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The token is given, the request answers 403.
    Forbidden,
    /// The token is given, the request answers 401 `insufficient_scope`, as distribution does.
    InsufficientScope,
    /// The token endpoint answers 403, as GitHub does.
    AtTokenEndpoint,
}

/// What may be done in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

#[derive(Clone, Debug)]
struct User {
    password: String,
    /// Patterns and what they allow; `None` allows everything.
    repositories: Option<Vec<(String, Access)>>,
}

#[derive(Clone)]
struct Token {
    user: Option<String>,
    scopes: Vec<(String, Access)>,
    expires: Instant,
}

#[derive(Default)]
struct Accounts {
    users: HashMap<String, User>,
    public: Vec<String>,
    tokens: HashMap<String, Token>,
    identity_tokens: HashMap<String, String>,
    /// Tokens of somebody else's that are exchanged, and for whom.
    subjects: HashMap<String, String>,
    /// What they were exchanged for: a password of that user's.
    exchanged: HashMap<String, String>,
    issued: u64,
}

impl Accounts {
    fn allows(&self, user: Option<&str>, repository: &str, access: Access) -> bool {
        if access == Access::Pull && self.public.iter().any(|pattern| matches(pattern, repository)) {
            return true;
        }
        let Some(user) = user.and_then(|name| self.users.get(name)) else { return false };
        user.repositories.as_ref().is_none_or(|list| {
            list.iter().any(|(pattern, allowed)| *allowed >= access && matches(pattern, repository))
        })
    }

    fn signs_in(&self, user: &str, password: &str) -> bool {
        self.users.get(user).is_some_and(|known| {
            known.password == password || self.exchanged.get(password).is_some_and(|owner| owner == user)
        })
    }
}

/// `team/*` is everything beneath, `*` everything.
fn matches(pattern: &str, repository: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => repository.starts_with(prefix),
        None => pattern == repository,
    }
}

/// Why a request was not let through.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) challenge: Option<String>,
    pub(super) code: &'static str,
}

/// The accounts and tokens of one registry.
pub(super) struct Gate {
    auth: Auth,
    accounts: Mutex<Accounts>,
}

impl Gate {
    pub(super) fn new(auth: Auth) -> Self {
        Self { auth, accounts: Mutex::default() }
    }

    pub(super) fn set_user(&self, name: &str, password: &str, repositories: Option<Vec<(String, Access)>>) {
        self.accounts().users.insert(name.into(), User { password: password.into(), repositories });
    }

    pub(super) fn set_password(&self, name: &str, password: &str) {
        let mut accounts = self.accounts();
        if let Some(user) = accounts.users.get_mut(name) {
            user.password = password.into();
        }
        accounts.tokens.retain(|_, token| token.user.as_deref() != Some(name));
    }

    pub(super) fn remove_user(&self, name: &str) {
        let mut accounts = self.accounts();
        accounts.users.remove(name);
        accounts.tokens.retain(|_, token| token.user.as_deref() != Some(name));
    }

    pub(super) fn make_public(&self, pattern: &str) {
        self.accounts().public.push(pattern.into());
    }

    pub(super) fn expire_tokens(&self) {
        self.accounts().tokens.clear();
    }

    pub(super) fn tokens_issued(&self) -> u64 {
        self.accounts().issued
    }

    pub(super) fn identity_token(&self, user: &str) -> String {
        let token = format!("identity-{:032x}", rand::random::<u128>());
        self.accounts().identity_tokens.insert(token.clone(), user.into());
        token
    }

    pub(super) fn trust_token(&self, token: &str, user: &str) {
        self.accounts().subjects.insert(token.into(), user.into());
    }

    pub(super) fn distrust_token(&self, token: &str) {
        self.accounts().subjects.remove(token);
    }

    /// Exchanges a trusted token for a password of its user's (RFC 8693); a fresh one each time.
    fn exchange(&self, token: Option<&str>) -> Result<Value, Refusal> {
        let mut accounts = self.accounts();
        let user = token.and_then(|token| accounts.subjects.get(token).cloned());
        let user =
            user.ok_or(Refusal { status: StatusCode::BAD_REQUEST, challenge: None, code: "INVALID" })?;
        let password = format!("exchanged-{:032x}", rand::random::<u128>());
        accounts.exchanged.insert(password.clone(), user);
        Ok(json!({
            "access_token": password,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": 300,
        }))
    }

    /// Whether a request may go on.
    pub(super) fn check(
        &self,
        headers: &HeaderMap,
        repository: Option<&str>,
        access: Access,
        origin: &str,
    ) -> Result<(), Refusal> {
        match &self.auth {
            Auth::None => Ok(()),
            Auth::Basic => self.check_basic(headers, repository, access),
            Auth::Bearer(options) => self.check_bearer(headers, repository, access, options, origin),
        }
    }

    /// The refusal that asks an anonymous client to sign in.
    pub(super) fn challenge(&self, repository: Option<&str>, access: Access, origin: &str) -> Refusal {
        let challenge = match &self.auth {
            Auth::None => None,
            Auth::Basic => Some(r#"Basic realm="stowage-testkit""#.into()),
            Auth::Bearer(options) => Some(bearer_challenge(options, origin, repository, access, None)),
        };
        Refusal { status: StatusCode::UNAUTHORIZED, challenge, code: "UNAUTHORIZED" }
    }

    fn check_basic(
        &self,
        headers: &HeaderMap,
        repository: Option<&str>,
        access: Access,
    ) -> Result<(), Refusal> {
        let accounts = self.accounts();
        let user = match basic_credentials(headers) {
            Some((user, password)) if accounts.signs_in(&user, &password) => Some(user),
            Some(_) => {
                drop(accounts);
                return Err(self.challenge(repository, access, ""));
            }
            None => None,
        };
        let Some(repository) = repository else {
            return if user.is_some() { Ok(()) } else { Err(self.challenge(None, access, "")) };
        };
        if accounts.allows(user.as_deref(), repository, access) {
            return Ok(());
        }
        if user.is_some() {
            return Err(denied());
        }
        Err(self.challenge(Some(repository), access, ""))
    }

    fn check_bearer(
        &self,
        headers: &HeaderMap,
        repository: Option<&str>,
        access: Access,
        options: &BearerOptions,
        origin: &str,
    ) -> Result<(), Refusal> {
        let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let known = sent
            .and_then(|value| value.strip_prefix("Bearer "))
            .and_then(|token| self.accounts().tokens.get(token).cloned())
            .filter(|token| token.expires > Instant::now());
        let refuse = |error: Option<&str>| Refusal {
            status: StatusCode::UNAUTHORIZED,
            challenge: Some(bearer_challenge(options, origin, repository, access, error)),
            code: "UNAUTHORIZED",
        };
        let Some(token) = known else {
            return Err(refuse(sent.map(|_| "invalid_token")));
        };
        let Some(repository) = repository else { return Ok(()) };
        let in_scope = token.scopes.iter().any(|(name, allowed)| name == repository && *allowed >= access);
        // Permission is looked up again: it may have been taken away since the token was issued.
        if in_scope && self.accounts().allows(token.user.as_deref(), repository, access) {
            return Ok(());
        }
        match options.denial {
            Denial::Forbidden | Denial::AtTokenEndpoint if token.user.is_some() => Err(denied()),
            // An anonymous client may do better by signing in.
            Denial::Forbidden | Denial::AtTokenEndpoint | Denial::InsufficientScope => {
                Err(refuse(Some("insufficient_scope")))
            }
        }
    }

    /// Answers the token endpoint; `parameters` are those of the query and of a form.
    pub(super) fn issue(
        &self,
        headers: &HeaderMap,
        parameters: &[(String, String)],
    ) -> Result<Value, Refusal> {
        let value =
            |key: &str| parameters.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        if value("grant_type") == Some(TOKEN_EXCHANGE) {
            return self.exchange(value("subject_token"));
        }
        let Auth::Bearer(options) = &self.auth else {
            return Err(Refusal { status: StatusCode::NOT_FOUND, challenge: None, code: "UNSUPPORTED" });
        };
        let wrong = Refusal { status: StatusCode::UNAUTHORIZED, challenge: None, code: "UNAUTHORIZED" };
        let mut accounts = self.accounts();
        let form = value("grant_type").is_some();
        let user = match (value("grant_type"), basic_credentials(headers)) {
            (Some("refresh_token"), _) => {
                let known = value("refresh_token").and_then(|token| accounts.identity_tokens.get(token));
                Some(known.cloned().ok_or(wrong)?)
            }
            (Some(_), _) => {
                let (user, password) = (value("username").unwrap_or(""), value("password").unwrap_or(""));
                Some(accounts.signs_in(user, password).then(|| user.to_owned()).ok_or(wrong)?)
            }
            (None, Some((user, password))) => {
                Some(accounts.signs_in(&user, &password).then_some(user).ok_or(wrong)?)
            }
            (None, None) => None,
        };
        let asked: Vec<(String, Access)> = parameters
            .iter()
            .filter(|(name, _)| name == "scope")
            .flat_map(|(_, scopes)| scopes.split(' '))
            .filter_map(parse_scope)
            .collect();
        let scopes: Vec<(String, Access)> = asked
            .iter()
            .filter_map(|(name, access)| {
                let pull = accounts.allows(user.as_deref(), name, Access::Pull).then_some(Access::Pull);
                let push = accounts.allows(user.as_deref(), name, Access::Push).then_some(Access::Push);
                push.or(pull).map(|allowed| (name.clone(), allowed.min(*access)))
            })
            .collect();
        if options.denial == Denial::AtTokenEndpoint && user.is_some() && scopes.len() < asked.len() {
            return Err(denied());
        }
        let token = format!("token-{:032x}", rand::random::<u128>());
        let expires = Instant::now() + options.lifetime;
        accounts.tokens.insert(token.clone(), Token { user, scopes, expires });
        accounts.issued += 1;
        let key = if options.access_token_key || form { "access_token" } else { "token" };
        let mut answer = json!({ key: token });
        if options.says_expiry {
            answer["expires_in"] = json!(options.lifetime.as_secs());
        }
        Ok(answer)
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn denied() -> Refusal {
    Refusal { status: StatusCode::FORBIDDEN, challenge: None, code: "DENIED" }
}

fn bearer_challenge(
    options: &BearerOptions,
    origin: &str,
    repository: Option<&str>,
    access: Access,
    error: Option<&str>,
) -> String {
    let realm = options.realm.clone().unwrap_or_else(|| format!("{origin}/token"));
    let mut parts = vec![format!(r#"Bearer realm="{realm}",service="{}""#, options.service)];
    if let Some(repository) = repository {
        let actions = if access == Access::Push { "pull,push" } else { "pull" };
        parts.push(format!(r#"scope="repository:{repository}:{actions}""#));
    }
    parts.extend(error.map(|error| format!(r#"error="{error}""#)));
    parts.join(",")
}

fn basic_credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.into(), password.into()))
}

fn parse_scope(scope: &str) -> Option<(String, Access)> {
    let rest = scope.strip_prefix("repository:")?;
    let (name, actions) = rest.rsplit_once(':')?;
    let push = actions.split(',').any(|action| action == "push" || action == "*");
    Some((name.into(), if push { Access::Push } else { Access::Pull }))
}

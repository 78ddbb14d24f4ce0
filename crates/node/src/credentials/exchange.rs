//! The pod's service account token in place of a password, or exchanged for one.

use stowage_artifact::{PullPolicy, Reference};
use stowage_registry::{Credential, ImagePattern, Registry, TokenExchange};
use stowage_store::Principal;
use stowage_volumes::{Access, Meaning};

use super::CredentialError;
use super::tokens::BoundToken;
use super::turns::Queue;

/// The user name that registries want with a token, where nothing else is written.
pub const TOKEN_USERNAME: &str = "oauth2accesstoken";

/// For which registries a service account's token is used, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRule {
    /// Which images.
    pub registries: Vec<ImagePattern>,
    /// The audience that the token must be for, as in `tokenRequests` of the `CSIDriver`.
    pub audience: String,
    /// What is done with it.
    pub mode: TokenMode,
    /// The user name for the registry.
    pub username: String,
}

/// What is done with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenMode {
    /// It is the password itself.
    Direct,
    /// It is exchanged for one (RFC 8693).
    Exchange(TokenExchange),
}

impl TokenRule {
    pub(super) fn covers(&self, reference: &Reference) -> bool {
        self.registries.iter().any(|pattern| pattern.covers(reference))
    }

    /// Whose the grants are that come of this: the service account's, as far as whoever takes the token here knows it.
    /// A rule with another audience or endpoint is another authority, and its grants are others.
    fn principal(&self, token: &BoundToken) -> Principal {
        let mode = match &self.mode {
            TokenMode::Direct => "direct".to_owned(),
            TokenMode::Exchange(TokenExchange { endpoint, audience, scope }) => {
                format!("exchange {endpoint} {audience:?} {scope:?}")
            }
        };
        let issuer = format!("{mode} {:?} {:?}", self.audience, self.username);
        Principal::ServiceAccount { issuer, account: token.account.clone() }
    }

    /// The access that the token gives. A volume that is never pulled needs none of it: grants say who the pod is. Nor
    /// does one that is pulled where it is missing, while the endpoint is away and everything is here.
    pub(super) async fn access(
        &self,
        registry: &Registry,
        token: BoundToken,
        policy: PullPolicy,
        queue: Queue<'_>,
    ) -> Result<Access, CredentialError> {
        let principal = self.principal(&token);
        if policy == PullPolicy::Never {
            return Ok(Access::of_principal(None, principal));
        }
        let password = match &self.mode {
            TokenMode::Direct => token.token,
            TokenMode::Exchange(exchange) => {
                let _turn = queue.turn().await?;
                match registry.exchange_token(exchange, &token.token).await {
                    Ok(password) => password,
                    Err(error)
                        if policy != PullPolicy::Always && Meaning::from(&error) == Meaning::Unavailable =>
                    {
                        return Ok(Access::grants_only(principal, Meaning::Unavailable, error.to_string()));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let credential = Credential::Password { username: self.username.clone(), password };
        Ok(Access::of_principal(Some(credential), principal))
    }
}

//! Service account tokens, as kubelet sends them (`tokenRequests` of the `CSIDriver`).
//!
//! Who has written the tokens? Kubelet puts them under [`TOKENS_KEY`] into the request's secrets where the `CSIDriver` says
//! `serviceAccountTokenInSecrets`, else into the volume context; it overwrites what stands there. No key of a Secret
//! object can hold a `/`, so what is under this key among the secrets is always kubelet's, and it comes first. In the
//! context the key may be a pod author's own words: where tokens come in secrets, and where the `CSIDriver` asks for none.
//!
//! So a token proves nothing here, and nothing is decided by it. Three things keep a forged one from being of use:
//!
//! - Who a pod is for grants follows from its namespace and service account, which kubelet overwrites in every request
//!   (`podInfoOnMount`), never from the token. Whatever stands in the token, the pod reaches its own grants alone.
//! - The token's claims must name that same service account. Nobody has checked them yet; whoever takes the token does, by
//!   its signature. A stranger's token, however come by, is therefore never sent, and one with claims to fit is refused by
//!   the endpoint or the registry. A grant is recorded only after the registry has served the bytes for it.
//! - The uid of the service account is part of the principal. It is a claim too, and can only make the principal narrower:
//!   a namespace that is removed and made again does not inherit what its predecessor was granted.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use stowage_registry::Secret;
use stowage_store::ServiceAccount;

use crate::context::Pod;

/// The key of the tokens, in the secrets and in the volume context.
pub(crate) const TOKENS_KEY: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// Why a pod has no token to show. Tokens are never repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("kubelet does not say whose pod it is; set podInfoOnMount in the CSIDriver")]
    NoPodInfo,
    #[error(
        "kubelet sent no service account token for the audience `{audience}`; add it to tokenRequests of the CSIDriver"
    )]
    Missing { audience: String },
    #[error("the service account tokens are not the JSON that kubelet sends; leave {TOKENS_KEY} to kubelet")]
    Malformed,
    #[error(
        "the service account token for the audience `{audience}` is not one of the pod's service account {namespace}/{name}; leave {TOKENS_KEY} to kubelet"
    )]
    Foreign { audience: String, namespace: String, name: String },
}

/// The tokens of one request, by audience. Like the secrets that they are, they have no `Debug`.
pub(crate) struct Tokens(HashMap<String, Entry>);

#[derive(Deserialize)]
struct Entry {
    token: String,
}

/// A token whose claims name the pod's own service account.
pub(crate) struct BoundToken {
    pub(crate) token: Secret,
    pub(crate) account: ServiceAccount,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audiences,
    #[serde(default, rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

#[derive(Default, Deserialize)]
struct Kubernetes {
    #[serde(default)]
    serviceaccount: Account,
}

#[derive(Default, Deserialize)]
struct Account {
    #[serde(default)]
    uid: String,
}

impl Audiences {
    fn hold(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(all) => all.iter().any(|one| one == audience),
        }
    }
}

impl Tokens {
    /// Reads what kubelet sent; none where it sent nothing.
    pub(crate) fn parse(text: Option<&Secret>) -> Result<Self, TokenError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Self(HashMap::new())) };
        serde_json::from_str(text.expose()).map(Self).map_err(|_| TokenError::Malformed)
    }

    /// The token for `audience`, if its claims name the pod's own service account.
    pub(crate) fn bound(mut self, audience: &str, pod: &Pod) -> Result<BoundToken, TokenError> {
        if pod.namespace.is_empty() || pod.service_account.is_empty() {
            return Err(TokenError::NoPodInfo);
        }
        let missing = || TokenError::Missing { audience: audience.to_owned() };
        let token = Secret::new(self.0.remove(audience).ok_or_else(missing)?.token);
        let uid = claims(&token)
            .filter(|claims| {
                let own = format!("system:serviceaccount:{}:{}", pod.namespace, pod.service_account);
                claims.sub == own && claims.aud.hold(audience)
            })
            .map(|claims| claims.kubernetes.serviceaccount.uid)
            .ok_or_else(|| TokenError::Foreign {
                audience: audience.to_owned(),
                namespace: pod.namespace.clone(),
                name: pod.service_account.clone(),
            })?;
        let account =
            ServiceAccount { namespace: pod.namespace.clone(), name: pod.service_account.clone(), uid };
        Ok(BoundToken { token, account })
    }
}

/// The claims of a JWT, unverified (RFC 7519, section 3).
fn claims(token: &Secret) -> Option<Claims> {
    let payload = token.expose().split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod() -> Pod {
        Pod { namespace: "team".to_owned(), service_account: "default".to_owned(), ..Pod::default() }
    }

    fn jwt(claims: &Value) -> String {
        format!("e30.{}.canary", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn bound(tokens: &Value, pod: &Pod) -> Result<String, String> {
        Tokens::parse(Some(&Secret::new(tokens.to_string())))
            .and_then(|tokens| tokens.bound("stowage", pod))
            .map(|bound| bound.account.uid)
            .map_err(|error| error.to_string())
    }

    fn sent(claims: &Value) -> Value {
        json!({ "stowage": { "token": jwt(claims), "expirationTimestamp": "2030-01-01T00:00:00Z" } })
    }

    #[test]
    fn a_token_is_taken_where_its_claims_name_the_pods_own_service_account() {
        let sub = "system:serviceaccount:team:default";
        let account = json!({ "serviceaccount": { "name": "default", "uid": "u-1" } });
        let good = json!({ "sub": sub, "aud": ["stowage", "x"], "kubernetes.io": account });
        assert_eq!(bound(&sent(&good), &pod()), Ok("u-1".to_owned()));
        assert_eq!(bound(&sent(&json!({ "sub": sub, "aud": "stowage" })), &pod()), Ok(String::new()));
        for bad in [
            json!({ "sub": "system:serviceaccount:other:default", "aud": ["stowage"] }),
            json!({ "sub": "system:serviceaccount:team:other", "aud": ["stowage"] }),
            json!({ "sub": "team:default", "aud": ["stowage"] }),
            json!({ "sub": sub, "aud": ["vault"] }),
            json!({ "aud": ["stowage"] }),
            json!([]),
        ] {
            let error = bound(&sent(&bad), &pod()).unwrap_err();
            assert!(error.contains("team/default") && !error.contains("canary"), "{bad}: {error}");
        }
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_is_repeated() {
        let table = [
            (json!({}), pod(), "tokenRequests"),
            (json!({ "": { "token": "canary" } }), pod(), "`stowage`"),
            (json!({ "stowage": { "token": "canary" } }), pod(), "team/default"),
            (json!({ "stowage": { "token": "a.canary.b" } }), pod(), "team/default"),
            (json!({ "stowage": "canary" }), pod(), "not the JSON"),
            (json!("canary"), pod(), "not the JSON"),
            (json!({ "stowage": { "token": "canary" } }), Pod::default(), "podInfoOnMount"),
        ];
        for (tokens, pod, expected) in table {
            let error = bound(&tokens, &pod).unwrap_err();
            assert!(error.contains(expected) && !error.contains("canary"), "{tokens}: {error}");
        }
        assert!(Tokens::parse(None).and_then(|tokens| tokens.bound("a", &pod())).is_err());
    }
}

//! What a reader proves itself with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// A credential for one registry. Like [`Secret`] it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user name with its password.
    Password {
        /// The user name; not secret by itself, but not shown either.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token that the token server exchanges (Docker's `identitytoken`).
    IdentityToken(Secret),
}

impl Credential {
    /// A user name with its password.
    pub fn password(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Password { username: username.into(), password: Secret::new(password) }
    }

    /// An identity token.
    pub fn identity_token(token: impl Into<String>) -> Self {
        Self::IdentityToken(Secret::new(token))
    }

    /// The value of an `Authorization: Basic` header, where the credential can make one.
    pub(crate) fn basic(&self) -> Option<Secret> {
        match self {
            Self::Password { username, password } => {
                let pair = Zeroizing::new(format!("{username}:{}", password.expose()));
                Some(Secret::new(format!("Basic {}", STANDARD.encode(pair.as_bytes()))))
            }
            Self::IdentityToken(_) => None,
        }
    }

    /// Everything that tells this credential from another, without ambiguity; for fingerprints.
    pub(crate) fn material(&self) -> Zeroizing<Vec<u8>> {
        let (kind, first, second) = match self {
            Self::Password { username, password } => (b'p', username.as_str(), password.expose()),
            Self::IdentityToken(token) => (b'i', "", token.expose()),
        };
        let mut material = Zeroizing::new(Vec::with_capacity(16 + first.len() + second.len()));
        material.push(kind);
        material.extend_from_slice(&(first.len() as u64).to_be_bytes());
        material.extend_from_slice(first.as_bytes());
        material.extend_from_slice(second.as_bytes());
        material
    }
}

#[cfg(test)]
mod tests {
    use super::Credential;

    #[test]
    fn basic_is_the_pair_in_base64() {
        let header = Credential::password("alice", "open sesame").basic().unwrap();
        assert_eq!(header.expose(), "Basic YWxpY2U6b3BlbiBzZXNhbWU=");
        assert!(Credential::identity_token("x").basic().is_none());
    }

    #[test]
    fn material_tells_shifted_pairs_apart() {
        let one = Credential::password("ab", "c").material();
        let other = Credential::password("a", "bc").material();
        assert!(one != other);
        assert!(Credential::password("", "t").material() != Credential::identity_token("t").material());
    }
}

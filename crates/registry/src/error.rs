//! What can go wrong between us and a registry.

use std::time::Duration;

use stowage_artifact::Digest;
use stowage_store::{SourceError, SourceErrorKind};

/// Why a [`crate::Registry`] cannot be made of its options.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A CA bundle that is not PEM, or holds no certificate.
    #[error("CA bundle {number} is not a list of PEM certificates ({reason}): correct the file")]
    CaBundle {
        /// Which of the bundles, from 1.
        number: usize,
        /// What the parser says.
        reason: String,
    },
    /// A proxy URL that is none. The URL is not repeated: it can hold a password.
    #[error("{variable} is not the URL of a proxy: write it as http://host:port")]
    Proxy {
        /// The environment variable that the value stands for.
        variable: &'static str,
    },
    /// The HTTP client could not be made.
    #[error("cannot set up the HTTP client: {reason}")]
    Client {
        /// What it says.
        reason: String,
    },
}

/// Why a read from a registry failed. Each message is one sentence without secrets; `what` says what was
/// being done on what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// 401: a credential is missing or unknown.
    #[error("cannot {what}: {reason}")]
    Unauthenticated {
        /// The operation and its object.
        what: String,
        /// Which credential, asked by whom, and what to do.
        reason: String,
    },
    /// 403: the credential is known and has no access.
    #[error("cannot {what}: {reason}")]
    Forbidden {
        /// The operation and its object.
        what: String,
        /// Who said so, and what to do.
        reason: String,
    },
    /// 404.
    #[error("cannot {what}: {host} does not have it; check the reference")]
    NotFound {
        /// The operation and its object.
        what: String,
        /// Who said so.
        host: String,
    },
    /// 429, or a pause that is still running.
    #[error("cannot {what}: {host} limits the rate of requests{}", retry_text(*retry_after))]
    RateLimited {
        /// The operation and its object.
        what: String,
        /// Who limits.
        host: String,
        /// When to come back, if it was said; at most 5 minutes.
        retry_after: Option<Duration>,
    },
    /// Network, DNS, TLS, 5xx, a body that ended early: may pass.
    #[error("cannot {what}: {reason}{}", retry_text(*retry_after))]
    Unavailable {
        /// The operation and its object.
        what: String,
        /// What happened, and where.
        reason: String,
        /// When to come back, if it was said.
        retry_after: Option<Duration>,
    },
    /// TLS: the server's certificate is not one we trust. Another try does not help.
    #[error(
        "cannot {what}: the certificate of {host} is not trusted ({reason}); if a private authority signed it, give that as a CA bundle"
    )]
    Untrusted {
        /// The operation and its object.
        what: String,
        /// Whose certificate.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Our own policy says no: address, scheme, realm or redirect.
    #[error("cannot {what}: {reason}")]
    Refused {
        /// The operation and its object.
        what: String,
        /// Which rule, and who can change it.
        reason: String,
    },
    /// The answer makes no sense or breaks the protocol.
    #[error("cannot {what}: {reason}")]
    Protocol {
        /// The operation and its object.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// 416, or a range other than the one asked for.
    #[error("cannot {what}: {reason}")]
    RangeRefused {
        /// The operation and its object.
        what: String,
        /// What came instead.
        reason: String,
    },
    /// The bytes are not those of the digest.
    #[error("cannot {what}: {host} sent bytes with the digest {found} for {expected}")]
    DigestMismatch {
        /// The operation and its object.
        what: String,
        /// Who sent them.
        host: String,
        /// The digest asked for, or announced.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// More bytes than are allowed.
    #[error("cannot {what}: it is larger than the {limit} bytes that are allowed")]
    TooLarge {
        /// The operation and its object.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
}

fn retry_text(after: Option<Duration>) -> String {
    match after {
        Some(after) => format!("; retry after {} s", after.as_secs_f64().ceil()),
        None => "; try again later".to_owned(),
    }
}

impl RegistryError {
    /// Whether another try of the same request can help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unavailable { .. })
    }

    /// How long the registry asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What a failed read of a blob means to the download engine.
    pub fn source_kind(&self) -> SourceErrorKind {
        match self {
            Self::Unauthenticated { .. } => SourceErrorKind::Unauthenticated,
            Self::Forbidden { .. } => SourceErrorKind::Forbidden,
            Self::NotFound { .. } => SourceErrorKind::NotFound,
            Self::RateLimited { .. } => SourceErrorKind::RateLimited,
            // An administrator may be about to add the authority, so a volume keeps trying.
            Self::Unavailable { .. } | Self::Untrusted { .. } => SourceErrorKind::Unavailable,
            Self::RangeRefused { .. } => SourceErrorKind::RangeRefused,
            Self::Refused { .. }
            | Self::Protocol { .. }
            | Self::DigestMismatch { .. }
            | Self::TooLarge { .. } => SourceErrorKind::Protocol,
        }
    }
}

impl From<RegistryError> for SourceError {
    fn from(error: RegistryError) -> Self {
        Self::new(error.source_kind(), error.to_string()).with_retry_after(error.retry_after())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stowage_store::{SourceError, SourceErrorKind};

    use super::RegistryError;

    #[test]
    fn a_pause_is_in_the_sentence_and_in_the_source_error() {
        let error = RegistryError::RateLimited {
            what: "read blob x".into(),
            host: "ghcr.io".into(),
            retry_after: Some(Duration::from_millis(2100)),
        };
        assert_eq!(
            error.to_string(),
            "cannot read blob x: ghcr.io limits the rate of requests; retry after 3 s"
        );
        let source = SourceError::from(error);
        assert_eq!(source.kind, SourceErrorKind::RateLimited);
        assert_eq!(source.retry_after, Some(Duration::from_millis(2100)));
    }
}

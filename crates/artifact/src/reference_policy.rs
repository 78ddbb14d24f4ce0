//! What only an administrator decides: which registries, and whether tags are allowed at all.

use crate::name_glob::covers_repository;
use crate::reference::Reference;

/// The administrator's rules for references. The default allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferencePolicy {
    /// Globs over `registry/repository` (`ghcr.io/acme/*`), or over hosts alone (`ghcr.io`); empty allows all.
    pub allowed_registries: Vec<String>,
    /// Refuse references without a digest.
    pub require_digest: bool,
}

/// Which rule a reference breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It has no digest.
    #[error("a digest is required; write it as repository@sha256:…")]
    NoDigest,
    /// No glob covers it.
    #[error("{name} matches none of the allowed registries")]
    NotAllowed {
        /// `registry/repository`.
        name: String,
    },
}

impl ReferencePolicy {
    /// Refuses a reference that the rules do not allow.
    pub fn check(&self, reference: &Reference) -> Result<(), PolicyError> {
        if self.require_digest && reference.digest().is_none() {
            return Err(PolicyError::NoDigest);
        }
        let globs = &self.allowed_registries;
        if globs.is_empty() || globs.iter().any(|glob| covers_repository(glob, reference)) {
            return Ok(());
        }
        Err(PolicyError::NotAllowed { name: format!("{}/{}", reference.registry(), reference.repository()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_refuse_with_a_reason() {
        let policy =
            ReferencePolicy { allowed_registries: vec!["r.example/ok/*".to_owned()], require_digest: true };
        let digest = format!("sha256:{}", "a".repeat(64));
        let check = |text: &str| policy.check(&text.parse().unwrap());
        assert_eq!(check(&format!("r.example/ok/a@{digest}")), Ok(()));
        assert_eq!(check("r.example/ok/a:v1"), Err(PolicyError::NoDigest));
        let name = "r.example/no/a".to_owned();
        assert_eq!(check(&format!("r.example/no/a@{digest}")), Err(PolicyError::NotAllowed { name }));
        let everything = ReferencePolicy::default();
        assert_eq!(everything.check(&"r.example/no/a:v1".parse().unwrap()), Ok(()));
    }
}

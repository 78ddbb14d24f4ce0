//! What only an administrator decides: which registries, and whether tags are allowed at all.

use stowage_artifact::{Reference, matches_name};

use crate::PublishError;

/// The administrator's rules for references. The default allows everything.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Globs over `registry/repository` (`ghcr.io/acme/*`); empty allows all. `*` matches across `/`.
    pub allowed_registries: Vec<String>,
    /// Refuse references without a digest.
    pub require_digest: bool,
}

impl Policy {
    /// Refuses a reference that the rules do not allow.
    pub(crate) fn check(&self, reference: &Reference) -> Result<(), PublishError> {
        let refuse = |reason: String| Err(PublishError::Policy { reference: reference.to_string(), reason });
        if self.require_digest && reference.digest().is_none() {
            return refuse("a digest is required; write it as repository@sha256:…".to_owned());
        }
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let allowed = self.allowed_registries.is_empty()
            || self.allowed_registries.iter().any(|glob| matches_name(glob, &name));
        if !allowed {
            return refuse(format!("{name} matches none of the allowed registries"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_refuse_with_a_reason() {
        let policy = Policy { allowed_registries: vec!["r.example/ok/*".to_owned()], require_digest: true };
        let digest = "sha256:".to_owned() + &"a".repeat(64);
        let check = |text: &str| policy.check(&text.parse().unwrap()).map_err(|error| error.to_string());
        assert_eq!(check(&format!("r.example/ok/a@{digest}")), Ok(()));
        assert!(check("r.example/ok/a:v1").unwrap_err().contains("a digest is required"));
        assert!(check(&format!("r.example/no/a@{digest}")).unwrap_err().contains("allowed registries"));
    }
}

//! The administrator's rules, as a publish tells of them.

use stowage_artifact::{Reference, ReferencePolicy};

use crate::PublishError;

/// Refuses a reference that the rules do not allow.
pub(crate) fn check(policy: &ReferencePolicy, reference: &Reference) -> Result<(), PublishError> {
    policy
        .check(reference)
        .map_err(|rule| PublishError::Policy { reference: reference.to_string(), reason: rule.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_reference_and_the_rule() {
        let policy = ReferencePolicy { require_digest: true, ..ReferencePolicy::default() };
        let error = check(&policy, &"r.example/a:v1".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("r.example/a:v1") && error.contains("a digest is required"), "{error}");
    }
}

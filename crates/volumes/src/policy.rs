//! What only an administrator decides: which registries, and whether tags are allowed at all.

use stowage_artifact::Reference;

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
            || self.allowed_registries.iter().any(|glob| matches(glob.as_bytes(), name.as_bytes()));
        if !allowed {
            return refuse(format!("{name} matches none of the allowed registries"));
        }
        Ok(())
    }
}

/// `*` stands for any run of characters; everything else for itself. Linear in the product of both lengths.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut star, mut resume) = (0, None, 0);
    let mut index = 0;
    while index < text.len() {
        if glob.get(at) == Some(&b'*') {
            star = Some(at);
            resume = index;
            at += 1;
        } else if glob.get(at) == Some(&text[index]) {
            at += 1;
            index += 1;
        } else if let Some(star) = star {
            resume += 1;
            index = resume;
            at = star + 1;
        } else {
            return false;
        }
    }
    glob[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        for (glob, text, expected) in [
            ("ghcr.io/acme/*", "ghcr.io/acme/a/b", true),
            ("ghcr.io/acme/*", "ghcr.io/acme2/a", false),
            ("ghcr.io/acme", "ghcr.io/acme/a", false),
            ("*/models/*", "r.example/models/x", true),
            ("*", "anything", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
        ] {
            assert_eq!(matches(glob.as_bytes(), text.as_bytes()), expected, "{glob} {text}");
        }
    }

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

//! The parameters of a StorageClass: volume attributes, in which the claim can be named, and who may name what.

use std::collections::{BTreeMap, HashMap};

use stowage_artifact::{AttributeError, Reference, VolumeAttributes, covers_reference, covers_repository};

const REFERENCE: &str = "reference";
const ALLOWED_REFERENCES: &str = "allowedReferences";
const CLAIM_NAME: &str = "csi.storage.k8s.io/pvc/name";
const CLAIM_NAMESPACE: &str = "csi.storage.k8s.io/pvc/namespace";
const VOLUME_NAME: &str = "csi.storage.k8s.io/pv/name";

/// Why parameters make no volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParameterError {
    #[error(
        "the StorageClass parameter `{key}` has `{part}`, which is nothing that is known; write ${{pvc.name}}, ${{pvc.namespace}} or ${{pvc.annotations['key']}}"
    )]
    Syntax { key: String, part: String },
    #[error(
        "the StorageClass parameter `{key}` names the claim, and the request does not say which one it is for; run external-provisioner with --extra-create-metadata"
    )]
    NoClaim { key: String },
    #[error(
        "the claim {claim} has no annotation `{annotation}`, which the StorageClass parameter `{key}` asks for; annotate the claim"
    )]
    NoAnnotation { key: String, claim: String, annotation: String },
    #[error(
        "the StorageClass lets claims choose the reference and does not say which ones; give it the parameter allowedReferences, a list of globs such as `registry.example/models/*`"
    )]
    Unbounded,
    #[error("the StorageClass does not allow {reference}; its allowedReferences are {allowed}")]
    NotAllowed { reference: String, allowed: String },
    #[error(transparent)]
    Attributes(#[from] AttributeError),
}

/// Which claim a volume is for, as the provisioner says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl std::fmt::Display for ClaimName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A piece of a parameter's value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Name,
    Namespace,
    Annotation(String),
}

/// The parameters of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    values: BTreeMap<String, Vec<Part>>,
    allowed: Vec<String>,
    claim: Option<ClaimName>,
}

impl Parameters {
    pub(crate) fn parse(mut parameters: HashMap<String, String>) -> Result<Self, ParameterError> {
        let claim = match (parameters.remove(CLAIM_NAMESPACE), parameters.remove(CLAIM_NAME)) {
            (Some(namespace), Some(name)) => Some(ClaimName { namespace, name }),
            _ => None,
        };
        parameters.remove(VOLUME_NAME);
        let allowed: Vec<String> = parameters
            .remove(ALLOWED_REFERENCES)
            .unwrap_or_default()
            .split([',', ' ', '\n', '\t'])
            .filter(|glob| !glob.is_empty())
            .map(str::to_owned)
            .collect();
        let values = parameters
            .into_iter()
            .map(|(key, value)| split(&key, &value).map(|parts| (key, parts)))
            .collect::<Result<BTreeMap<_, _>, _>>()?;
        if allowed.is_empty() && values.get(REFERENCE).is_some_and(|parts| claim_chooses_the_host(parts)) {
            return Err(ParameterError::Unbounded);
        }
        Ok(Self { values, allowed, claim })
    }

    /// The claim whose annotations are needed; none where no parameter names one.
    pub(crate) fn annotations_of(&self) -> Result<Option<&ClaimName>, ParameterError> {
        let annotated = self
            .values
            .iter()
            .find(|(_, parts)| parts.iter().any(|part| matches!(part, Part::Annotation(_))));
        match (annotated, &self.claim) {
            (None, _) => Ok(None),
            (Some(_), Some(claim)) => Ok(Some(claim)),
            (Some((key, _)), None) => Err(ParameterError::NoClaim { key: key.clone() }),
        }
    }

    /// The volume that is asked for, with what the claim says in it.
    pub(crate) fn expand(
        &self,
        annotations: &BTreeMap<String, String>,
    ) -> Result<VolumeAttributes, ParameterError> {
        let attributes = self
            .values
            .iter()
            .map(|(key, parts)| self.value(key, parts, annotations).map(|value| (key.clone(), value)))
            .collect::<Result<BTreeMap<_, _>, _>>()?;
        let attributes = VolumeAttributes::parse(&attributes)?;
        self.check(&attributes.reference)?;
        Ok(attributes)
    }

    fn value(
        &self,
        key: &str,
        parts: &[Part],
        annotations: &BTreeMap<String, String>,
    ) -> Result<String, ParameterError> {
        let claim = || self.claim.as_ref().ok_or_else(|| ParameterError::NoClaim { key: key.to_owned() });
        let mut value = String::new();
        for part in parts {
            match part {
                Part::Text(text) => value.push_str(text),
                Part::Name => value.push_str(&claim()?.name),
                Part::Namespace => value.push_str(&claim()?.namespace),
                Part::Annotation(annotation) => match annotations.get(annotation) {
                    Some(text) => value.push_str(text),
                    None => {
                        return Err(ParameterError::NoAnnotation {
                            key: key.to_owned(),
                            claim: claim()?.to_string(),
                            annotation: annotation.clone(),
                        });
                    }
                },
            }
        }
        Ok(value)
    }

    /// A claim must not aim the class's credentials at a host of its own.
    fn check(&self, reference: &Reference) -> Result<(), ParameterError> {
        let covers = |glob: &String| covers_repository(glob, reference) || covers_reference(glob, reference);
        if self.allowed.is_empty() || self.allowed.iter().any(covers) {
            return Ok(());
        }
        Err(ParameterError::NotAllowed { reference: reference.to_string(), allowed: self.allowed.join(", ") })
    }
}

/// Whether the claim's author can say which host is asked: anything by an annotation, and the beginning by a name. After
/// the host a claim's name or namespace has no character that could lead elsewhere.
fn claim_chooses_the_host(parts: &[Part]) -> bool {
    // The slashes of a scheme, as in `ollama://`, stand before the host.
    let after_scheme = |text: &str| text.split_once("://").map_or(text, |(_, rest)| rest).contains('/');
    let host_is_written = matches!(parts.first(), Some(Part::Text(text)) if after_scheme(text));
    let annotated = parts.iter().any(|part| matches!(part, Part::Annotation(_)));
    let named = parts.iter().any(|part| matches!(part, Part::Name | Part::Namespace));
    annotated || (named && !host_is_written)
}

/// Splits a value at its `${…}`.
fn split(key: &str, value: &str) -> Result<Vec<Part>, ParameterError> {
    let mut parts = Vec::new();
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        let (text, tail) = rest.split_at(start);
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        let refused = |part: &str| ParameterError::Syntax {
            key: key.to_owned(),
            part: part.chars().take(80).collect(),
        };
        let end = tail.find('}').ok_or_else(|| refused(tail))?;
        parts.push(named(&tail[2..end]).ok_or_else(|| refused(&tail[..=end]))?);
        rest = &tail[end + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

fn named(expression: &str) -> Option<Part> {
    match expression {
        "pvc.name" => return Some(Part::Name),
        "pvc.namespace" => return Some(Part::Namespace),
        _ => {}
    }
    let key = expression.strip_prefix("pvc.annotations[")?.strip_suffix(']')?;
    let quoted = |quote: char| key.strip_prefix(quote).and_then(|key| key.strip_suffix(quote));
    let key = quoted('\'').or_else(|| quoted('"'))?;
    (!key.is_empty() && !key.contains(['\'', '"'])).then(|| Part::Annotation(key.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parameters: &[(&str, &str)]) -> Result<Parameters, ParameterError> {
        Parameters::parse(parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    fn reference(
        parameters: &[(&str, &str)],
        annotations: &[(&str, &str)],
    ) -> Result<String, ParameterError> {
        let annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        parse(parameters)?.expand(&annotations).map(|attributes| attributes.reference.to_string())
    }

    const CLAIM: [(&str, &str); 3] =
        [(CLAIM_NAME, "llama"), (CLAIM_NAMESPACE, "team"), (VOLUME_NAME, "pvc-1")];

    #[test]
    fn a_claims_name_namespace_and_annotations_are_put_in() {
        let class = [("reference", "r.example/${pvc.namespace}/${pvc.name}:v1")];
        assert_eq!(reference(&[&CLAIM[..], &class].concat(), &[]).unwrap(), "r.example/team/llama:v1");
        let class = [
            ("reference", "${pvc.annotations['stowage.dev/reference']}"),
            ("allowedReferences", "r.example/models/*, r.example/other:*"),
            ("include", "${pvc.annotations[\"files\"]}"),
        ];
        let with_claim = [&CLAIM[..], &class].concat();
        let parsed = parse(&with_claim).unwrap();
        assert_eq!(parsed.annotations_of().unwrap().unwrap().to_string(), "team/llama");
        let annotations = [("stowage.dev/reference", "r.example/models/x:v2"), ("files", "*.gguf")];
        assert_eq!(reference(&with_claim, &annotations).unwrap(), "r.example/models/x:v2");
    }

    #[test]
    fn a_reference_that_the_class_does_not_allow_is_refused() {
        let class = [
            ("reference", "${pvc.annotations['a']}"),
            ("allowedReferences", "r.example/models/*\nr.example/one:v1 *.corp.example/models/*"),
        ];
        let with_claim = [&CLAIM[..], &class].concat();
        for (chosen, allowed) in [
            ("r.example/models/x:v1", true),
            ("r.example/one:v1", true),
            ("eu.corp.example/models/x:v1", true),
            ("evil.example/eu.corp.example/models/x:v1", false),
            ("r.example/one:v2", false),
            ("evil.example/models/x:v1", false),
            ("r.example.evil.example/models/x", false),
            ("evil.example/r.example/models/x:v1", false),
            ("evil.example/r.example/one:v1", false),
        ] {
            let found = reference(&with_claim, &[("a", chosen)]);
            assert_eq!(found.is_ok(), allowed, "{chosen}");
            assert!(allowed || matches!(found, Err(ParameterError::NotAllowed { .. })), "{chosen}");
        }
    }

    #[test]
    fn a_claim_chooses_the_host_only_where_the_class_bounds_it() {
        for (template, bounded) in [
            ("r.example/m/${pvc.name}", true),
            ("r.example/m:${pvc.namespace}", true),
            ("${pvc.name}/m", false),
            ("r.example${pvc.name}/m", false),
            ("r.example/${pvc.annotations['a']}", false),
            ("ollama://r.example/m/${pvc.name}", true),
            ("ollama://${pvc.name}/a/b", false),
            ("ollama://r.example${pvc.name}/a/b", false),
        ] {
            let found = parse(&[("reference", template)]);
            assert_eq!(found.is_ok(), bounded, "{template}");
            assert!(bounded || found == Err(ParameterError::Unbounded), "{template}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let of = |parameters: &[(&str, &str)]| reference(parameters, &[]).unwrap_err().to_string();
        assert!(of(&[("reference", "r.example/${pvc.name}")]).contains("--extra-create-metadata"));
        let asks = [("reference", "r.example/a"), ("include", "${pvc.annotations['files']}")];
        assert!(parse(&asks).unwrap().annotations_of().unwrap_err().to_string().contains("`include`"));
        let missing = of(&[&CLAIM[..], &asks].concat());
        assert!(missing.contains("team/llama") && missing.contains("`files`"), "{missing}");
        assert!(of(&[]).contains("`reference` is missing"));
        assert!(of(&[("reference", "r.example/a"), ("refrence", "x")]).contains("refrence"));
        for bad in ["${pvc.uid}", "${pvc.name", "${}", "${pvc.annotations[a]}", "${pvc.annotations['']}"] {
            let error = parse(&[("include", bad)]).unwrap_err();
            assert!(matches!(error, ParameterError::Syntax { .. }), "{bad}: {error}");
        }
    }
}

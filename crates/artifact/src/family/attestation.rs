//! In-toto statements, SBOMs, signatures and Sigstore bundles: small documents about another artifact.
//!
//! A document is called after its predicate, where it has one.

use std::collections::BTreeMap;

use super::{Context, Family, Member, Members, Rules, member, real_layers};
use crate::descriptor::Descriptor;
use crate::document::Manifest;
use crate::layout::LayoutError;
use crate::naming;

/// Documents by how their media type starts: the name of one without a predicate, and the ending of the file.
const KINDS: [(&str, &str, &str); 11] = [
    // in-toto/attestation spec/v1/bundle.md; moby/buildkit docs/attestations/attestation-storage.md.
    ("application/vnd.in-toto", "statement", ".json"),
    // secure-systems-lab/dsse envelope.md.
    ("application/vnd.dsse.envelope", "envelope", ".json"),
    // sigstore/sigstore-go pkg/bundle/bundle.go, `MediaTypeString`.
    ("application/vnd.dev.sigstore.bundle", "bundle", ".sigstore.json"),
    // These, and `text/spdx`: sigstore/cosign pkg/types/media.go.
    ("application/vnd.dev.cosign.simplesigning", "signature", ".json"),
    ("application/vnd.cyclonedx+xml", "sbom", ".cdx.xml"),
    ("application/vnd.cyclonedx", "sbom", ".cdx.json"),
    ("application/vnd.syft", "sbom", ".syft.json"),
    ("application/spdx+json", "sbom", ".spdx.json"),
    ("text/spdx+json", "sbom", ".spdx.json"),
    ("text/spdx", "sbom", ".spdx"),
    // notaryproject/specifications specs/signature-envelope-jws.md.
    ("application/jose+json", "signature", ".jws.json"),
];

/// Where producers write the predicate of a statement: `BuildKit` and cosign.
const PREDICATES: [&str; 2] = ["in-toto.io/predicate-type", "predicateType"];
/// The same for the bundle that is the manifest's only layer (sigstore/cosign pkg/oci/remote, `BundlePredicateType`).
const BUNDLE_PREDICATE: &str = "dev.sigstore.bundle.predicateType";

/// Keeps a name with its ending and a number within 255 bytes.
const MAX_STEM_BYTES: usize = 200;

pub(super) const RULES: Rules = Rules::new(Family::Attestation, claims, members);

fn claims(manifest: &Manifest) -> bool {
    let mut layers = real_layers(manifest).peekable();
    layers.peek().is_some() && layers.all(|(_, layer)| kind_of(layer).is_some())
}

/// The name and the ending of a document without a predicate.
fn kind_of(layer: &Descriptor) -> Option<(&'static str, &'static str)> {
    let media_type = layer.parsed_type();
    let kind = KINDS.iter().find(|(start, ..)| media_type.essence().starts_with(start))?;
    Some((kind.1, kind.2))
}

fn members(context: &Context<'_>) -> Result<Members, LayoutError> {
    let mut found = member::any_members(context)?;
    let manifest = context.manifest;
    let mut alike: BTreeMap<(String, &str), Vec<&mut Member>> = BTreeMap::new();
    for member in found.members.iter_mut().filter(|member| member.name.is_none()) {
        let layer = &manifest.layers[member.number];
        if let Some((stem, ending)) = kind_of(layer) {
            let stem = predicate(manifest, layer).and_then(as_stem).unwrap_or_else(|| stem.to_owned());
            alike.entry((stem, ending)).or_default().push(member);
        }
    }
    for ((stem, ending), members) in alike {
        let count = members.len();
        for (index, member) in members.into_iter().enumerate() {
            let name = naming::numbered(&stem, ending, index, count);
            let layer = &manifest.layers[member.number];
            member.name = Some(name.map_err(|source| naming::unnameable(member.number, layer, source))?);
        }
    }
    Ok(found)
}

fn predicate<'a>(manifest: &'a Manifest, layer: &'a Descriptor) -> Option<&'a str> {
    let own = PREDICATES.iter().find_map(|key| layer.annotation(key));
    own.or_else(|| manifest.annotations.get(BUNDLE_PREDICATE).map(String::as_str))
}

/// A predicate type, which is a URI, as part of a file name: `https://slsa.dev/provenance/v1` is
/// `slsa.dev-provenance-v1`.
fn as_stem(uri: &str) -> Option<String> {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let harmless =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    let stem: String = rest
        .chars()
        .take(MAX_STEM_BYTES)
        .map(|character| if harmless(character) { character } else { '-' })
        .collect();
    let stem = stem.trim_matches(['-', '.']);
    (!stem.is_empty()).then(|| stem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::as_stem;

    #[test]
    fn a_predicate_type_becomes_part_of_a_name() {
        let table = [
            ("https://slsa.dev/provenance/v1", Some("slsa.dev-provenance-v1")),
            ("https://spdx.dev/Document", Some("spdx.dev-Document")),
            ("cosign.sigstore.dev/attestation/v1", Some("cosign.sigstore.dev-attestation-v1")),
            ("https://example.com/a?b=c#d", Some("example.com-a-b-c-d")),
            ("../../etc/passwd", Some("etc-passwd")),
            ("https://", None),
            ("", None),
            ("///..//", None),
        ];
        for (uri, stem) in table {
            assert_eq!(as_stem(uri).as_deref(), stem, "{uri}");
        }
        assert_eq!(as_stem(&"a".repeat(10_000)).map(|stem| stem.len()), Some(200));
    }
}

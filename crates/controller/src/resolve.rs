//! From a reference to a digest and a size, with nothing fetched but documents.

use std::collections::HashSet;

use stowage_artifact::{
    Descriptor, Digest, Document, IndexDepth, LayoutError, LayoutMode, MAX_CONFIG_BYTES, Manifest,
    ManifestError, PlanOptions, Platform, PolicyError, Reference, ReferencePolicy, SelectError, TooDeep,
    VolumeAttributes, needs_config, plan,
};
use stowage_registry::{Credential, RawManifest, Registry, RegistryError, Repository};

/// How many manifests of one index are looked at where none is for this machine's platform.
const MAX_CANDIDATES: usize = 16;
/// How many manifests and indexes are read for one reference.
const MAX_DOCUMENTS: usize = 32;

/// Why a reference has no digest, or its artifact no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The administrator's policy says no.
    #[error("{reference} is refused by this controller's policy: {rule}")]
    Policy {
        /// What was asked for.
        reference: String,
        /// Which rule.
        rule: PolicyError,
    },
    /// The registry, while something was asked of it.
    #[error("{0}")]
    Registry(RegistryError),
    /// The document at the reference is not one that can be read.
    #[error("{reference} cannot be mounted: {source}")]
    Manifest {
        /// What was asked for.
        reference: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// Indexes within indexes without an end.
    #[error(
        "{reference} cannot be mounted: it leads through {depth} indexes to yet another one; name a manifest"
    )]
    NestedIndex {
        /// What was asked for.
        reference: String,
        /// Indexes on the way.
        depth: usize,
    },
    /// Indexes with so many entries that no size was found among the first of them.
    #[error(
        "{reference} cannot be mounted: none of the first {read} documents behind its indexes is a manifest that can be read; choose one with `platform` or `variant`"
    )]
    TooManyDocuments {
        /// What was asked for.
        reference: String,
        /// Documents that were read.
        read: usize,
    },
    /// No entry of the index fits.
    #[error("{reference} cannot be mounted: {source}")]
    Select {
        /// What was asked for.
        reference: String,
        /// Which choices there are.
        source: SelectError,
    },
    /// The artifact cannot become a tree.
    #[error("{reference} cannot be mounted: {source}")]
    Layout {
        /// What was asked for.
        reference: String,
        /// Which layer, and why.
        source: LayoutError,
    },
}

/// A reference that is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// `repository@digest`; the tag stays in it only where the volume needs it.
    pub reference: String,
    /// What the reference named: a manifest or an index.
    pub digest: Digest,
    /// Bytes of the volume's files, so far as the documents tell. Of an index that has nothing for this machine, those of
    /// the largest of its manifests, among the first 32 documents.
    pub size: u64,
}

/// Resolves references by the administrator's rules.
#[derive(Clone, Debug)]
pub struct Resolver {
    registry: Registry,
    policy: ReferencePolicy,
    platform: Platform,
}

impl Resolver {
    /// Asks through `registry`.
    pub fn new(registry: Registry, policy: ReferencePolicy) -> Self {
        Self { registry, policy, platform: Platform::current() }
    }

    /// Refuses what the rules do not allow, without asking anybody.
    pub(crate) fn check(&self, reference: &Reference) -> Result<(), ResolveError> {
        self.policy
            .check(reference)
            .map_err(|rule| ResolveError::Policy { reference: reference.to_string(), rule })
    }

    /// The digest that the reference stands for now, and the size of the volume that the attributes make of it.
    pub async fn resolve(
        &self,
        attributes: &VolumeAttributes,
        credential: Option<Credential>,
    ) -> Result<Resolved, ResolveError> {
        self.check(&attributes.reference)?;
        let repository = self.registry.repository(&attributes.reference, credential);
        let digest = repository.resolve(&attributes.reference).await.map_err(ResolveError::Registry)?;
        let mut reader = Reader { repository, attributes, platform: &self.platform, by_tag: false };
        let size = reader.size(&digest).await?;
        let keep_tag = reader.by_tag || attributes.layout == LayoutMode::Ollama;
        Ok(Resolved { reference: pinned(&attributes.reference, &digest, keep_tag), digest, size })
    }
}

/// The reference by its digest. A model's directory for Ollama has the tag in it, and some registries know manifests by
/// their tags only: for these the tag stays before the digest, which counts.
pub(crate) fn pinned(reference: &Reference, digest: &Digest, keep_tag: bool) -> String {
    let by_digest = reference.with_digest(digest.clone());
    match reference.tag() {
        Some(tag) if keep_tag => {
            format!("{}/{}:{tag}@{digest}", by_digest.registry(), by_digest.repository())
        }
        _ => by_digest.to_string(),
    }
}

/// Reads the documents of one reference.
struct Reader<'a> {
    repository: Repository,
    attributes: &'a VolumeAttributes,
    platform: &'a Platform,
    /// Whether the registry knew a manifest by its tag only.
    by_tag: bool,
}

impl Reader<'_> {
    /// The size of the volume; the largest where an index leaves the choice to the node.
    async fn size(&mut self, digest: &Digest) -> Result<u64, ResolveError> {
        let mut left: Vec<(Digest, Option<Descriptor>, IndexDepth)> =
            vec![(digest.clone(), None, IndexDepth::default())];
        let (mut largest, mut first_error) = (None, None);
        let mut seen = HashSet::new();
        let mut forked = false;
        while let Some((digest, entry, depth)) = left.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            if seen.len() > MAX_DOCUMENTS {
                let error = ResolveError::TooManyDocuments { reference: self.name(), read: MAX_DOCUMENTS };
                first_error.get_or_insert(error);
                break;
            }
            match self.one(&digest, entry, depth).await {
                Ok(Found::Size(size)) => largest = largest.max(Some(size)),
                Ok(Found::Entries(entries, depth)) => {
                    forked |= entries.len() > 1;
                    // The first of them comes next.
                    left.extend(
                        entries.into_iter().rev().map(|entry| (entry.digest.clone(), Some(entry), depth)),
                    );
                }
                // One manifest of several that cannot be mounted is a matter of the nodes that choose it.
                Err(error) if forked && is_of_one_entry(&error) => {
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match (largest, first_error) {
            (Some(size), _) => Ok(size),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(0),
        }
    }

    async fn one(
        &mut self,
        digest: &Digest,
        index_entry: Option<Descriptor>,
        depth: IndexDepth,
    ) -> Result<Found, ResolveError> {
        let index = match self.document(digest).await? {
            Document::Manifest(manifest) => return self.plan(&manifest, index_entry).await.map(Found::Size),
            Document::Index(index) => index,
        };
        let too_deep =
            |error: TooDeep| ResolveError::NestedIndex { reference: self.name(), depth: error.indexes };
        let depth = depth.enter().map_err(too_deep)?;
        let (platform, variant) = (&self.attributes.platform, &self.attributes.variant);
        let entries = match index.select(platform.as_ref(), variant.as_ref(), self.platform) {
            Ok(chosen) => vec![chosen.clone()],
            // What this machine would take says nothing of the nodes, where nobody has asked for anything.
            Err(SelectError::NoMatch { .. } | SelectError::Ambiguous { .. })
                if platform.is_none() && variant.is_none() =>
            {
                index.candidates().take(MAX_CANDIDATES).cloned().collect()
            }
            Err(source) => return Err(ResolveError::Select { reference: self.name(), source }),
        };
        Ok(Found::Entries(entries, depth))
    }

    async fn plan(&self, manifest: &Manifest, index_entry: Option<Descriptor>) -> Result<u64, ResolveError> {
        // Whether the kernel may mount a stranger's filesystem is for each node to say.
        let options =
            PlanOptions { index_entry, allow_filesystem_layers: true, ..PlanOptions::from(self.attributes) };
        let config = match &manifest.config.data {
            _ if !needs_config(manifest, &options) => None,
            Some(data) => Some(data.clone()),
            None => {
                let blob = self.repository.small_blob(&manifest.config, MAX_CONFIG_BYTES).await;
                Some(blob.map_err(ResolveError::Registry)?.to_vec())
            }
        };
        let plan = plan(manifest, config.as_deref(), &options)
            .map_err(|source| ResolveError::Layout { reference: self.name(), source })?;
        Ok(plan.layout.apparent_bytes())
    }

    async fn document(&mut self, digest: &Digest) -> Result<Document, ResolveError> {
        let raw = match self.repository.manifest_by_digest(digest).await {
            // So answers a registry that knows manifests by their tags only, as Ollama's has been seen to do.
            Err(error @ (RegistryError::NotFound { .. } | RegistryError::Unavailable { .. })) => {
                match self.tagged(digest).await {
                    Some(raw) => {
                        self.by_tag = true;
                        raw
                    }
                    None => return Err(ResolveError::Registry(error)),
                }
            }
            answer => answer.map_err(ResolveError::Registry)?,
        };
        Document::parse(&raw.bytes, raw.media_type.as_deref())
            .map_err(|source| ResolveError::Manifest { reference: self.name(), source })
    }

    async fn tagged(&self, digest: &Digest) -> Option<RawManifest> {
        let tag = self.attributes.reference.without_digest()?;
        self.repository.manifest(&tag).await.ok().filter(|raw| raw.digest == *digest)
    }

    fn name(&self) -> String {
        self.attributes.reference.to_string()
    }
}

enum Found {
    Size(u64),
    /// Those of an index, and where they are.
    Entries(Vec<Descriptor>, IndexDepth),
}

/// Whether an error says something of one entry of an index, and nothing of the registry.
fn is_of_one_entry(error: &ResolveError) -> bool {
    match error {
        // Of one entry that a registry does not have: a mirror that was filled for some platforms only.
        ResolveError::Registry(RegistryError::NotFound { .. })
        | ResolveError::Manifest { .. }
        | ResolveError::NestedIndex { .. }
        | ResolveError::Select { .. }
        | ResolveError::Layout { .. } => true,
        ResolveError::Registry(_) | ResolveError::Policy { .. } | ResolveError::TooManyDocuments { .. } => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_has_the_digest_and_only_where_it_must_the_tag() {
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let reference: Reference = "r.example/a/b:v1".parse().unwrap();
        assert_eq!(pinned(&reference, &digest, false), format!("r.example/a/b@{digest}"));
        assert_eq!(pinned(&reference, &digest, true), format!("r.example/a/b:v1@{digest}"));
        let bare: Reference = "r.example/a/b".parse().unwrap();
        assert_eq!(pinned(&bare, &digest, true), format!("r.example/a/b@{digest}"));
        for text in [pinned(&reference, &digest, true), pinned(&reference, &digest, false)] {
            assert_eq!(text.parse::<Reference>().unwrap().digest(), Some(&digest), "{text}");
        }
    }
}

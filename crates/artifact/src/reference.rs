//! References: `registry/repository[:tag][@digest]` (distribution-spec, "Pulling manifests").

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};
use crate::excerpt::excerpt;

/// Registry host and repository together, the limit that the distribution-spec advises.
const MAX_NAME_BYTES: usize = 255;
const MAX_TAG_BYTES: usize = 128;
const MAX_LABEL_BYTES: usize = 63;

const DOCKER: &str = "docker.io";
const DOCKER_API: &str = "registry-1.docker.io";
const DOCKER_INDEX: &str = "index.docker.io";
const OLLAMA: &str = "registry.ollama.ai";
const OLLAMA_SCHEME: &str = "ollama://";
const DEFAULT_TAG: &str = "latest";

/// Why a text is not a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was given.
    #[error("the reference is empty: write it as `registry/repository:tag`")]
    Empty,
    /// The text starts with a scheme that is not part of a reference.
    #[error(
        "the reference `{reference}` starts with `{scheme}://`: leave that away (only `ollama://` is known)"
    )]
    Scheme {
        /// The text, shortened.
        reference: String,
        /// What stood in front of `://`.
        scheme: String,
    },
    /// The registry is not a host name or address with an optional port.
    #[error(
        "the reference `{reference}` has the registry `{registry}`, which is not a host name or address: {why}"
    )]
    Registry {
        /// The text, shortened.
        reference: String,
        /// The registry part, shortened.
        registry: String,
        /// The rule that is broken.
        why: &'static str,
    },
    /// The repository breaks the grammar.
    #[error(
        "the reference `{reference}` has the repository `{repository}`, which is not valid: use lower-case letters, digits, and single `.`, `_`, `__` or dashes between them"
    )]
    Repository {
        /// The text, shortened.
        reference: String,
        /// The repository part, shortened.
        repository: String,
    },
    /// The tag breaks the grammar.
    #[error(
        "the reference `{reference}` has the tag `{tag}`, which is not valid: use at most 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`"
    )]
    Tag {
        /// The text, shortened.
        reference: String,
        /// The tag, shortened.
        tag: String,
    },
    /// The digest is none.
    #[error("the reference `{reference}` has no valid digest: {source}")]
    Digest {
        /// The text, shortened.
        reference: String,
        /// What is wrong with the digest.
        source: DigestError,
    },
    /// Registry and repository are too long.
    #[error(
        "the reference `{reference}` has a registry and repository of {bytes} bytes, and at most 255 are allowed"
    )]
    Long {
        /// The text, shortened.
        reference: String,
        /// Their length in bytes.
        bytes: usize,
    },
}

/// What to fetch from where. Where a tag and a digest are both given, the digest wins.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry as it is named in references: a host and maybe a port, `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The host and maybe port that answer the registry's API.
    pub fn api_host(&self) -> &str {
        if self.registry == DOCKER { DOCKER_API } else { &self.registry }
    }

    /// The repository inside the registry, with `library/` where Docker Hub or Ollama imply it.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag as it was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest as it was written.
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The tag, or `latest` where none was written.
    pub fn tag_or_latest(&self) -> &str {
        self.tag().unwrap_or(DEFAULT_TAG)
    }

    /// What stands behind `/manifests/` in a request: the digest if there is one, else the tag or `latest`.
    pub fn manifest_name(&self) -> Cow<'_, str> {
        match &self.digest {
            Some(digest) => Cow::Borrowed(digest.as_str()),
            None => Cow::Borrowed(self.tag_or_latest()),
        }
    }

    /// Whether this names one manifest for ever.
    pub const fn is_pinned(&self) -> bool {
        self.digest.is_some()
    }

    /// The same repository at `digest`, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            tag: None,
            digest: Some(digest),
        }
    }

    /// The same repository at the tag, or at `latest`; nothing where a digest alone was written.
    #[must_use]
    pub fn without_digest(&self) -> Option<Self> {
        (self.tag.is_some() || self.digest.is_none()).then(|| Self { digest: None, ..self.clone() })
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (ollama, rest) = match text.split_once("://") {
            None => (false, text),
            Some(_) if text.starts_with(OLLAMA_SCHEME) => (true, &text[OLLAMA_SCHEME.len()..]),
            Some((scheme, _)) => {
                return Err(ReferenceError::Scheme { reference: excerpt(text), scheme: excerpt(scheme) });
            }
        };
        let (rest, digest) = split_digest(text, rest)?;
        let (name, tag) = split_tag(text, rest)?;
        let (registry, repository) = if ollama { split_ollama(name) } else { split_registry(name) };
        let registry = match registry {
            None => (if ollama { OLLAMA } else { DOCKER }).to_owned(),
            Some(registry) => normal_registry(text, registry)?,
        };
        let single = matches!(&*registry, DOCKER | OLLAMA) && !repository.contains('/');
        let repository = if single { format!("library/{repository}") } else { repository.to_owned() };
        if !repository.split('/').all(is_repository_component) {
            return Err(ReferenceError::Repository {
                reference: excerpt(text),
                repository: excerpt(&repository),
            });
        }
        let bytes = registry.len() + 1 + repository.len();
        if bytes > MAX_NAME_BYTES {
            return Err(ReferenceError::Long { reference: excerpt(text), bytes });
        }
        Ok(Self { registry, repository, tag, digest })
    }
}

fn split_digest<'a>(text: &str, rest: &'a str) -> Result<(&'a str, Option<Digest>), ReferenceError> {
    let Some((rest, digest)) = rest.split_once('@') else { return Ok((rest, None)) };
    match digest.parse() {
        Ok(digest) => Ok((rest, Some(digest))),
        Err(source) => Err(ReferenceError::Digest { reference: excerpt(text), source }),
    }
}

fn split_tag<'a>(text: &str, rest: &'a str) -> Result<(&'a str, Option<String>), ReferenceError> {
    let path_start = rest.rfind('/').map_or(0, |slash| slash + 1);
    let Some(colon) = rest[path_start..].find(':').map(|colon| path_start + colon) else {
        return Ok((rest, None));
    };
    let (name, tag) = (&rest[..colon], &rest[colon + 1..]);
    if !is_tag(tag) {
        return Err(ReferenceError::Tag { reference: excerpt(text), tag: excerpt(tag) });
    }
    Ok((name, Some(tag.to_owned())))
}

/// The first component is a registry when it could not be part of a Docker Hub name.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':', '['])
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

/// Ollama reads names from the end: `[[host/]namespace/]model`.
fn split_ollama(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest)) if rest.contains('/') => (Some(first), rest),
        _ => (None, name),
    }
}

/// The registry in one spelling: lower case, shortest IPv6, and Docker Hub under its short name.
fn normal_registry(text: &str, registry: &str) -> Result<String, ReferenceError> {
    let refuse =
        |why| ReferenceError::Registry { reference: excerpt(text), registry: excerpt(registry), why };
    let (host, port) =
        split_port(registry).ok_or_else(|| refuse("the brackets or the port are misplaced"))?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => {
            let address: Ipv6Addr =
                address.parse().map_err(|_| refuse("the brackets hold no IPv6 address"))?;
            format!("[{address}]")
        }
        None => normal_host(host).map_err(refuse)?,
    };
    if port.is_none() && host != "localhost" && !host.contains(['.', ':']) {
        return Err(refuse("it has neither a dot nor a port, so add a domain or a port"));
    }
    let host = if host == DOCKER_INDEX { DOCKER.to_owned() } else { host };
    match port {
        None => Ok(host),
        Some(port) => {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let port = if digits { port.parse::<u16>().ok().filter(|port| *port > 0) } else { None };
            let port = port.ok_or_else(|| refuse("the port is not a number from 1 to 65535"))?;
            Ok(format!("{host}:{port}"))
        }
    }
}

fn split_port(registry: &str) -> Option<(&str, Option<&str>)> {
    if registry.starts_with('[') {
        let end = registry.find(']')? + 1;
        let (host, rest) = registry.split_at(end);
        return if rest.is_empty() {
            Some((host, None))
        } else {
            Some((host, Some(rest.strip_prefix(':')?)))
        };
    }
    Some(registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port))))
}

fn normal_host(host: &str) -> Result<String, &'static str> {
    let is_label = |label: &str| {
        let legal = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        legal && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    if !host.split('.').all(is_label) {
        return Err("its labels may have letters, digits and inner dashes only");
    }
    if host.split('.').any(|label| label.len() > MAX_LABEL_BYTES) {
        return Err("a label is longer than 63 bytes");
    }
    // URL parsers read `0x7f.1` and `2130706433` as addresses; a host that looks like one must be one.
    let last = host.rsplit('.').next().unwrap_or(host);
    let numeric =
        last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err("it ends in a number and is no IPv4 address");
    }
    Ok(host.to_ascii_lowercase())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_repository_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separator = String::new();
    let mut after_word = false;
    for byte in component.bytes() {
        if is_word(byte) {
            let legal = separator.is_empty()
                || matches!(&*separator, "." | "_" | "__")
                || separator.bytes().all(|byte| byte == b'-');
            if !legal {
                return false;
            }
            separator.clear();
            after_word = true;
        } else if after_word && matches!(byte, b'.' | b'_' | b'-') {
            separator.push(byte as char);
        } else {
            return false;
        }
    }
    after_word && separator.is_empty()
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=MAX_TAG_BYTES).contains(&tag.len()) && tag.bytes().all(legal) && !tag.starts_with(['.', '-'])
}

impl TryFrom<&str> for Reference {
    type Error = ReferenceError;

    fn try_from(text: &str) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

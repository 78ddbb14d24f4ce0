//! Kubelet's `CredentialProviderConfig` (kubelet.config.k8s.io/v1), the file that the administrator has for kubelet anyway.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use stowage_artifact::{Algorithm, Digest, Reference};
use stowage_registry::parse::parse_go_duration;
use stowage_registry::{ImagePattern, Secret};

use super::ProviderSettings;
use crate::context::Pod;
use crate::credentials::tokens::{BoundToken, TokenError, Tokens};
use crate::small_file;

const API_VERSION: &str = "kubelet.config.k8s.io/v1";
const KIND: &str = "CredentialProviderConfig";
/// The only version of the plugins' protocol that is spoken.
pub(super) const PLUGIN_API_VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";
/// The longest file that is read.
const LONGEST_FILE: u64 = 1 << 20;

/// The file is of no use. For the node's log: it names files and plugins of the node, which concern no pod's owner. No
/// value of the file is repeated, for the environment of a plugin may be secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("the credential providers' configuration {} cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("the credential providers' configuration {} is invalid: {reason}; correct the file", path.display())]
    Invalid { path: PathBuf, reason: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    providers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: String,
    match_images: Vec<String>,
    default_cache_duration: String,
    api_version: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
    token_attributes: Option<TokenAttributes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TokenAttributes {
    service_account_token_audience: String,
    cache_type: CacheType,
    require_service_account: bool,
    #[serde(default)]
    required_service_account_annotation_keys: Vec<String>,
    #[serde(default, rename = "optionalServiceAccountAnnotationKeys")]
    _optional_service_account_annotation_keys: Vec<String>,
}

/// For whom a plugin's answer is kept, where it was given a token.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(super) enum CacheType {
    /// For the service account.
    ServiceAccount,
    /// For this very token.
    Token,
}

/// One plugin. It has no `Debug`: its environment may hold secrets.
#[derive(Clone)]
pub(super) struct Provider {
    pub(super) name: String,
    pub(super) patterns: Vec<ImagePattern>,
    pub(super) default_cache: Duration,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    /// The token that it is given.
    pub(super) token: Option<TokenWish>,
    /// Tells it from what it was before the file changed.
    pub(super) fingerprint: Digest,
}

/// The token that a plugin wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenWish {
    pub(super) audience: String,
    /// For whom its answer is kept then.
    pub(super) cache: CacheType,
    /// Whether it is not run without one.
    pub(super) required: bool,
}

impl TokenWish {
    /// The pod's token; none where there is none, and the plugin is run all the same.
    pub(super) fn grant(&self, tokens: Option<&Secret>, pod: &Pod) -> Result<Option<BoundToken>, TokenError> {
        match Tokens::parse(tokens).and_then(|tokens| tokens.bound(&self.audience, pod)) {
            Ok(token) => Ok(Some(token)),
            Err(TokenError::Missing { .. } | TokenError::NoPodInfo) if !self.required => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Provider {
    pub(super) fn covers(&self, reference: &Reference) -> bool {
        self.patterns.iter().any(|pattern| pattern.covers(reference))
    }
}

/// Reads the file; blocks for a moment.
pub(super) fn read(settings: &ProviderSettings) -> Result<Vec<Provider>, FileError> {
    let path = &settings.config_file;
    let unreadable = |reason: String| FileError::Unreadable { path: path.clone(), reason };
    let text = small_file::read(path, LONGEST_FILE).map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8(text).map_err(|_| unreadable("it is not UTF-8".to_owned()))?;
    parse(&text, &settings.bin_dir).map_err(|reason| FileError::Invalid { path: path.clone(), reason })
}

fn parse(text: &str, bin_dir: &Path) -> Result<Vec<Provider>, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    let file: File =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| without_values(&error))?;
    if file.api_version != API_VERSION || file.kind != KIND {
        return Err(format!("it is not a {KIND} of {API_VERSION}"));
    }
    let mut providers: Vec<Provider> = Vec::new();
    for entry in file.providers {
        let provider = entry.check(bin_dir)?;
        if providers.iter().any(|other| other.name == provider.name) {
            return Err(format!("provider `{}` is there twice", provider.name));
        }
        providers.push(provider);
    }
    Ok(providers)
}

/// What the parser says, but for values.
fn without_values(error: &serde_saphyr::Error) -> String {
    let what = match error.without_snippet() {
        serde_saphyr::Error::SerdeUnknownField { field, .. } => {
            format!("`{}` is not one of its keys", before_value(field))
        }
        serde_saphyr::Error::SerdeMissingField { field, .. } => format!("`{field}` is missing"),
        _ => "it is not what kubelet reads".to_owned(),
    };
    error
        .location()
        .map_or_else(|| what.clone(), |at| format!("{what} (line {}, column {})", at.line(), at.column()))
}

/// Who writes `NAME=value` into a name has a value there.
fn before_value(name: &str) -> &str {
    name.split(['=', '\0']).next().unwrap_or_default()
}

impl Entry {
    fn check(self, bin_dir: &Path) -> Result<Provider, String> {
        let name = self.name;
        // Kubelet's rule: the name is that of a file directly in the directory.
        let plain = !name.is_empty()
            && name != "."
            && name != ".."
            && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
        if !plain {
            return Err(format!("`{name}` is not the name of a file in the plugins' directory"));
        }
        let wrong = |reason: String| format!("provider `{name}`: {reason}");
        if self.api_version != PLUGIN_API_VERSION {
            return Err(wrong(format!("only apiVersion {PLUGIN_API_VERSION} is spoken")));
        }
        let patterns: Vec<ImagePattern> = self
            .match_images
            .iter()
            .map(|pattern| pattern.parse().map_err(|error| wrong(format!("{error}"))))
            .collect::<Result<_, _>>()?;
        if patterns.is_empty() {
            return Err(wrong("matchImages is empty".to_owned()));
        }
        let default_cache = parse_go_duration(&self.default_cache_duration)
            .ok_or_else(|| wrong("defaultCacheDuration is not a duration such as 10m".to_owned()))?;
        let token = self.token_attributes.map(TokenAttributes::check).transpose().map_err(wrong)?;
        let env: Vec<(String, String)> = self.env.into_iter().map(|v| (v.name, v.value)).collect();
        if let Some((bad, _)) = env.iter().find(|(name, _)| name.is_empty() || name.contains(['=', '\0'])) {
            let bad = before_value(bad);
            return Err(wrong(format!(
                "the variable `{bad}` has a name that is empty, or one with `=` in it"
            )));
        }
        let identity = format!("{} {name:?} {:?} {env:?} {token:?}", bin_dir.display(), self.args);
        let fingerprint = Digest::of(Algorithm::Sha256, identity.as_bytes());
        Ok(Provider { name, patterns, default_cache, args: self.args, env, token, fingerprint })
    }
}

impl TokenAttributes {
    fn check(self) -> Result<TokenWish, String> {
        if self.service_account_token_audience.is_empty() {
            return Err("serviceAccountTokenAudience is empty".to_owned());
        }
        // They stand in an object that a node has no right to read here.
        if !self.required_service_account_annotation_keys.is_empty() {
            return Err("annotations of service accounts cannot be given to it".to_owned());
        }
        Ok(TokenWish {
            audience: self.service_account_token_audience,
            cache: self.cache_type,
            required: self.require_service_account,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
  - name: ecr
    matchImages: ["*.dkr.ecr.*.amazonaws.com", "r.example:5000/team"]
    defaultCacheDuration: 12h0m0s
    apiVersion: credentialprovider.kubelet.k8s.io/v1
    args: [get-credentials]
    env: [{name: AWS_PROFILE, value: x}]
  - name: sa
    matchImages: [r.example]
    defaultCacheDuration: "0"
    apiVersion: credentialprovider.kubelet.k8s.io/v1
    tokenAttributes: {serviceAccountTokenAudience: r, cacheType: Token, requireServiceAccount: true}
"#;

    #[test]
    fn kubelets_file_is_read_as_yaml_or_json() {
        let providers = parse(GOOD, Path::new("/bin")).unwrap();
        let names: Vec<&str> = providers.iter().map(|provider| provider.name.as_str()).collect();
        assert_eq!(names, ["ecr", "sa"]);
        assert_eq!(providers[0].default_cache, Duration::from_hours(12));
        assert!(providers[0].covers(&"1.dkr.ecr.eu.amazonaws.com/a:v1".parse().unwrap()));
        assert!(providers[0].covers(&"r.example:5000/team/a:v1".parse().unwrap()));
        assert!(!providers[0].covers(&"r.example:5000/other/a:v1".parse().unwrap()));
        let wish = TokenWish { audience: "r".to_owned(), cache: CacheType::Token, required: true };
        assert_eq!(providers[1].token, Some(wish));
        let json = serde_json::json!({
            "apiVersion": API_VERSION, "kind": KIND,
            "providers": [{ "name": "p", "matchImages": ["a.io"], "defaultCacheDuration": "10m",
                "apiVersion": PLUGIN_API_VERSION }],
        });
        assert_eq!(parse(&json.to_string(), Path::new("/bin")).unwrap().len(), 1);
        // The same plugin elsewhere is another one.
        let moved = parse(GOOD, Path::new("/other")).unwrap();
        assert!(moved[0].fingerprint != providers[0].fingerprint);
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_without_values() {
        for (from, to, expected) in [
            ("name: ecr", "name: ../sh", "`../sh`"),
            ("name: ecr", "name: sa", "`sa` is there twice"),
            ("kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1", API_VERSION),
            (
                "credentialprovider.kubelet.k8s.io/v1\n    args",
                "credentialprovider.kubelet.k8s.io/v1beta1\n    args",
                "`ecr`",
            ),
            ("12h0m0s", "soon", "defaultCacheDuration"),
            ("matchImages: [r.example]", "matchImages: []", "matchImages is empty"),
            ("matchImages: [r.example]", "matchImages: [r.example/*]", "r.example/*"),
            (
                "cacheType: Token",
                "cacheType: Token, requiredServiceAccountAnnotationKeys: [a]",
                "annotations",
            ),
            ("cacheType: Token", "cacheType: Canary", "line 15"),
            ("cacheType: Token, ", "", "`cacheType` is missing"),
            ("args:", "arguments:", "`arguments`"),
            ("args:", "{arguments: canary}:", "line"),
            ("name: AWS_PROFILE", "name: AWS_PROFILE=canary", "`AWS_PROFILE`"),
            ("value: x", "AWS_PROFILE=canary: x", "`AWS_PROFILE`"),
            ("value: x", "value: [canary]", "line"),
            ("[{name: AWS_PROFILE, value: x}]", "canary", "line"),
            ("[get-credentials]", "canary", "line"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let error = parse(&text, Path::new("/bin")).err().unwrap_or_else(|| panic!("accepted: {to}"));
            assert!(error.contains(expected) && !error.contains('\n'), "{expected} not in: {error}");
            assert!(!error.to_lowercase().contains("canary"), "{error}");
        }
    }
}

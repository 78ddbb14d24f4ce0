//! Kubelet's `CredentialProviderConfig` (kubelet.config.k8s.io/v1), the file that the administrator has for kubelet anyway.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use stowage_artifact::{Algorithm, Digest, Reference};
use stowage_registry::ImagePattern;
use stowage_registry::parse::parse_go_duration;

use super::{ProviderError, ProviderSettings};

const API_VERSION: &str = "kubelet.config.k8s.io/v1";
const KIND: &str = "CredentialProviderConfig";
/// The only version of the plugins' protocol that is spoken.
pub(super) const PLUGIN_API_VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";
/// The longest file that is read.
const LONGEST_FILE: u64 = 1 << 20;

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
    #[serde(rename = "requireServiceAccount")]
    _require_service_account: bool,
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
    /// The audience of the token that it is given, and for whom its answer is kept then.
    pub(super) token: Option<(String, CacheType)>,
    /// Tells it from what it was before the file changed.
    pub(super) fingerprint: Digest,
}

impl Provider {
    pub(super) fn covers(&self, reference: &Reference) -> bool {
        self.patterns.iter().any(|pattern| pattern.covers(reference))
    }
}

/// Reads the file; blocks for a moment.
pub(super) fn read(settings: &ProviderSettings) -> Result<Vec<Provider>, ProviderError> {
    let path = &settings.config_file;
    let unreadable = |reason: String| ProviderError::Unreadable { path: path.clone(), reason };
    let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if length > LONGEST_FILE {
        return Err(unreadable(format!("it has more than {LONGEST_FILE} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    parse(&text, &settings.bin_dir).map_err(|reason| ProviderError::Invalid { path: path.clone(), reason })
}

fn parse(text: &str, bin_dir: &Path) -> Result<Vec<Provider>, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
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
            return Err(format!("provider `{name}`: `{bad}` is not the name of a variable"));
        }
        let identity = format!("{} {name:?} {:?} {env:?} {token:?}", bin_dir.display(), self.args);
        let fingerprint = Digest::of(Algorithm::Sha256, identity.as_bytes());
        Ok(Provider { name, patterns, default_cache, args: self.args, env, token, fingerprint })
    }
}

impl TokenAttributes {
    fn check(self) -> Result<(String, CacheType), String> {
        if self.service_account_token_audience.is_empty() {
            return Err("serviceAccountTokenAudience is empty".to_owned());
        }
        // They stand in an object that a node has no right to read here.
        if !self.required_service_account_annotation_keys.is_empty() {
            return Err("annotations of service accounts cannot be given to it".to_owned());
        }
        Ok((self.service_account_token_audience, self.cache_type))
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
        assert_eq!(providers[1].token, Some(("r".to_owned(), CacheType::Token)));
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
    fn what_is_wrong_is_said_in_one_line() {
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
            ("cacheType: Token", "cacheType: Other", "Other"),
            ("args:", "arguments:", "arguments"),
            ("AWS_PROFILE", "A=B", "`A=B`"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let error = parse(&text, Path::new("/bin")).err().unwrap_or_else(|| panic!("accepted: {to}"));
            assert!(error.contains(expected) && !error.contains('\n'), "{expected} not in: {error}");
        }
    }
}

//! `ControllerConfiguration`: the controller's settings as a file. A flag or variable that is given beats the file.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// The version of the format.
const API_VERSION: &str = "config.stowage.dev/v1alpha1";
const KIND: &str = "ControllerConfiguration";
/// The largest file that is parsed, in bytes.
const LONGEST_FILE: usize = 1 << 20;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}; check --config", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The text is not such a configuration.
    #[error("the configuration {path} is refused: {reason}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong.
        reason: String,
    },
}

/// Everything that the file can say. Nothing in it is read again while the controller runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControllerConfiguration {
    /// `config.stowage.dev/v1alpha1`.
    pub api_version: String,
    /// `ControllerConfiguration`.
    pub kind: String,
    /// How registries are reached.
    #[serde(default)]
    pub registries: Registries,
    /// Which hosts are asked before a registry.
    #[serde(default)]
    pub mirrors: Mirrors,
    /// Which references are allowed.
    #[serde(default)]
    pub policy: PolicySection,
    /// What is logged.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// How registries are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Registries {
    /// Certificate authorities to trust besides the system's, as PEM files.
    pub ca_files: Vec<PathBuf>,
    /// Registries that speak plain http, as `host[:port]`.
    pub plain_http: Vec<String>,
    /// Hosts that may resolve to loopback or link-local addresses, as `host[:port]`.
    pub allow_local: Vec<String>,
}

/// Which hosts are asked before a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mirrors {
    /// Directories with containerd's `hosts.toml` files; absent for the usual ones, empty for none.
    pub hosts_dirs: Option<Vec<PathBuf>>,
}

/// Which references are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicySection {
    /// Globs over `registry/repository`, or over hosts alone; absent allows all, an empty list is refused. `*` in the host does
    /// not match across `/`.
    #[serde(deserialize_with = "some_globs")]
    #[schemars(length(min = 1))]
    pub allowed_registries: Vec<String>,
    /// Refuse references without a digest.
    pub require_digest: bool,
}

/// At least one glob: a template that renders an empty list means none of them, and the rules would allow all.
fn some_globs<'de, D: Deserializer<'de>>(globs: D) -> Result<Vec<String>, D::Error> {
    let globs = Vec::deserialize(globs)?;
    if globs.is_empty() {
        let reason = "policy.allowedRegistries is empty; leave it out to allow every registry";
        return Err(serde::de::Error::custom(reason));
    }
    Ok(globs)
}

/// What is logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Telemetry {
    /// A level, or directives such as `stowage_controller=debug,info`.
    pub log: Option<String>,
    /// `auto`, `human` or `json`.
    pub log_format: Option<String>,
}

impl ControllerConfiguration {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigurationError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigurationError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|reason| ConfigurationError::Parse { path: path.to_owned(), reason })
    }

    /// Reads a text; the answer to one that is refused is where and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST_FILE {
            return Err(format!("it has {} bytes, and at most {LONGEST_FILE} are read", text.len()));
        }
        let options = serde_saphyr::options! { with_snippet: false };
        let parsed: Self =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
        for (key, found, expected) in
            [("apiVersion", &parsed.api_version, API_VERSION), ("kind", &parsed.kind, KIND)]
        {
            if found != expected {
                return Err(format!("its {key} is `{found}`; write {expected}"));
            }
        }
        Ok(parsed)
    }

    /// The JSON schema of the file.
    pub fn schema() -> serde_json::Value {
        let mut schema = schemars::schema_for!(Self).to_value();
        schema["properties"]["apiVersion"]["const"] = API_VERSION.into();
        schema["properties"]["kind"]["const"] = KIND.into();
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: config.stowage.dev/v1alpha1\nkind: ControllerConfiguration\n";

    #[test]
    fn a_whole_file_is_read_and_an_empty_one_has_the_defaults() {
        let text = format!(
            "{HEAD}registries:\n  caFiles: [/etc/ca.pem]\n  plainHttp: ['r.lan:5000']\nmirrors:\n  hostsDirs: []\n\
             policy:\n  allowedRegistries: [ghcr.io/acme/*]\n  requireDigest: true\ntelemetry:\n  log: debug\n  logFormat: json\n"
        );
        let parsed = ControllerConfiguration::parse(&text).unwrap();
        assert_eq!(parsed.registries.ca_files, [PathBuf::from("/etc/ca.pem")]);
        assert_eq!(parsed.registries.plain_http, ["r.lan:5000"]);
        assert_eq!(parsed.mirrors.hosts_dirs, Some(Vec::new()));
        assert!(parsed.policy.require_digest);
        assert_eq!(parsed.telemetry.log_format.as_deref(), Some("json"));
        let empty = ControllerConfiguration::parse(HEAD).unwrap();
        assert_eq!(empty.mirrors.hosts_dirs, None);
        assert_eq!(empty.policy, PolicySection::default());
    }

    #[test]
    fn what_is_unknown_or_of_another_kind_is_refused_by_name() {
        for (text, expected) in [
            (format!("{HEAD}registry: {{}}\n"), "registry"),
            (format!("{HEAD}policy:\n  requiredDigest: true\n"), "requiredDigest"),
            (format!("{HEAD}limits: {{}}\n"), "limits"),
            (
                format!("{HEAD}policy:\n  allowedRegistries: []\n"),
                "policy.allowedRegistries is empty; leave it out to allow every registry",
            ),
            ("kind: ControllerConfiguration\n".to_owned(), "apiVersion"),
            (HEAD.replace("Controller", "Node"), "NodeConfiguration"),
            (HEAD.replace("v1alpha1", "v9"), "v9"),
            ("[".to_owned(), ""),
        ] {
            let reason = ControllerConfiguration::parse(&text).unwrap_err();
            assert!(reason.contains(expected), "{expected} not in: {reason}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = ControllerConfiguration::read(Path::new("/nonexistent/controller.yaml")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/controller.yaml"), "{error}");
    }

    #[test]
    fn the_schema_refuses_unknown_keys_too() {
        let schema = ControllerConfiguration::schema();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["kind"]["const"], KIND);
    }
}

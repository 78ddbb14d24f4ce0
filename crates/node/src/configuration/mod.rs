//! The node's configuration file: what it may say, and its changes while the plugin runs.
//!
//! Every key is optional, and a flag or variable that is given beats it. Keys with `x-reloadable: true` in the schema
//! take effect within seconds of a change; the others are read at the start.

mod changes;
mod load;
mod schema;
mod watch;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stowage_registry::{ExchangeEndpoint, TokenExchange};

pub use changes::restart_needed;
pub use load::ConfigurationError;
pub use schema::node_schema;
pub use watch::Watcher;

use crate::credentials::{CredentialSettings, ProviderSettings, TOKEN_USERNAME, TokenMode, TokenRule};

/// The configuration file of `stowage node`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfiguration {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// What the file configures.
    pub kind: Kind,
    /// How registries are reached.
    #[serde(default)]
    pub registries: RegistriesSection,
    /// Where mirrors are written down.
    #[serde(default)]
    pub mirrors: MirrorsSection,
    /// Where credentials come from besides the pods' own pull secrets.
    #[serde(default)]
    pub credentials: CredentialsSection,
    /// How much of the network and of the node downloads take.
    #[serde(default)]
    pub limits: LimitsSection,
    /// How much of the disk the store takes.
    #[serde(default)]
    pub store: StoreSection,
    /// How files that come out of tars are mounted.
    #[serde(default)]
    pub tars: TarsSection,
    /// What pods may mount.
    #[serde(default)]
    pub policy: PolicySection,
    /// What is logged.
    #[serde(default)]
    pub telemetry: TelemetrySection,
}

/// Versions of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The first.
    #[serde(rename = "config.stowage.dev/v1alpha1")]
    V1Alpha1,
}

/// What a file configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// `stowage node`.
    NodeConfiguration,
}

/// How registries are reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RegistriesSection {
    /// Certificate authorities to trust besides the system's, as PEM files.
    #[schemars(extend("x-reloadable" = false))]
    pub ca_files: Option<Vec<PathBuf>>,
    /// Registries that speak plain http, as `host[:port]`.
    #[schemars(extend("x-reloadable" = false))]
    pub plain_http: Option<Vec<String>>,
    /// Hosts that may resolve to loopback, link-local and metadata addresses, as `host[:port]`.
    #[schemars(extend("x-reloadable" = false))]
    pub allow_local: Option<Vec<String>>,
}

/// Where mirrors are written down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MirrorsSection {
    /// Directories with containerd's `hosts.toml` files. Without the key those of containerd, k3s, RKE2 and Talos; an
    /// empty list means no mirrors. The files in them are read again when they change.
    #[schemars(extend("x-reloadable" = false))]
    pub hosts_dirs: Option<Vec<PathBuf>>,
}

/// Where credentials come from besides the pods' own pull secrets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CredentialsSection {
    /// A docker configuration that every pod on the node may use. Read anew for each publish.
    #[schemars(extend("x-reloadable" = true))]
    pub docker_config: Option<PathBuf>,
    /// Kubelet credential provider plugins.
    #[schemars(extend("x-reloadable" = true))]
    pub providers: Option<ProvidersSection>,
    /// Rules for the pods' service account tokens. The first that covers an image counts.
    #[schemars(extend("x-reloadable" = true))]
    pub token_exchange: Option<Vec<TokenExchangeEntry>>,
}

/// Kubelet credential provider plugins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProvidersSection {
    /// Kubelet's `CredentialProviderConfig`, as this process sees it. Read anew for each publish.
    pub config_file: PathBuf,
    /// The directory with the plugins, as this process sees it.
    pub bin_dir: PathBuf,
}

/// For which images a service account's token is used, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenExchangeEntry {
    /// Images as `host[:port][/path]`, with `*` in the parts of the host, as in kubelet's `matchImages`.
    #[schemars(length(min = 1))]
    pub registries: Vec<String>,
    /// The audience of the token; it must be in `tokenRequests` of the `CSIDriver`.
    #[schemars(length(min = 1))]
    pub audience: String,
    /// What is done with the token.
    #[serde(default)]
    pub mode: TokenExchangeMode,
    /// Where it is exchanged: an https URL. For mode `exchange`.
    pub endpoint: Option<String>,
    /// The parameter `audience` of the exchange, where the endpoint wants one.
    pub endpoint_audience: Option<String>,
    /// The parameter `scope` of the exchange, where the endpoint wants one.
    pub scope: Option<String>,
    /// The user name for the registry. `oauth2accesstoken` by default.
    pub username: Option<String>,
}

/// What is done with a service account's token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TokenExchangeMode {
    /// It is exchanged for a password (RFC 8693).
    #[default]
    Exchange,
    /// It is the password.
    Direct,
}

/// How much of the network and of the node downloads take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitsSection {
    /// Connections that one blob is read over at a time. 12 by default.
    #[schemars(range(min = 1, max = 1024), extend("x-reloadable" = false))]
    pub connections_per_blob: Option<u64>,
    /// Connections of all downloads together; each takes up to 2 MiB of memory. 24 by default.
    #[schemars(range(min = 1, max = 1024), extend("x-reloadable" = false))]
    pub max_connections: Option<u64>,
    /// Connections to one registry. As many as in all by default.
    #[schemars(range(min = 1, max = 1024), extend("x-reloadable" = false))]
    pub max_connections_per_registry: Option<u64>,
    /// Blobs that are downloaded at a time; small ones are not counted. 16 by default.
    #[schemars(range(min = 1, max = 1024), extend("x-reloadable" = false))]
    pub max_concurrent_blobs: Option<u64>,
    /// Bytes a second of all downloads together. No limit by default.
    #[schemars(range(min = 1), extend("x-reloadable" = false))]
    pub max_bytes_per_second: Option<u64>,
    /// Volumes that may be on their way at the same time. 1000 by default.
    #[schemars(range(min = 1, max = 100_000), extend("x-reloadable" = false))]
    pub max_pending_volumes: Option<u64>,
}

/// How much of the disk the store takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StoreSection {
    /// Most bytes that the store may hold. By free space only by default.
    #[schemars(extend("x-reloadable" = false))]
    pub max_bytes: Option<u64>,
    /// Per cent of the filesystem's bytes that are kept free for others. 20 by default.
    #[schemars(range(max = 95), extend("x-reloadable" = false))]
    pub min_free_percent: Option<u8>,
}

/// How files that come out of tars are mounted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TarsSection {
    /// How EROFS reads tars. `auto` by default.
    #[schemars(extend("x-reloadable" = false))]
    pub erofs: Option<ErofsBacking>,
    /// How far the kernel reads ahead in a file out of a tar, in KiB.
    #[schemars(range(min = 4, max = 65_536), extend("x-reloadable" = false))]
    pub read_ahead_kib: Option<u32>,
    /// Whether the kernel may mount EROFS and `SquashFS` images from registries: it then parses what a stranger wrote.
    #[schemars(extend("x-reloadable" = false))]
    pub allow_filesystem_layers: Option<bool>,
}

/// How EROFS reads tars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ErofsBacking {
    /// What the kernel's version and a trial mount say.
    Auto,
    /// Through files.
    File,
    /// Through read-only loop devices.
    Loop,
    /// Not at all.
    None,
}

/// What pods may mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicySection {
    /// Only references whose `registry/repository` one of these globs covers. The part up to the first `/` is for the
    /// registry's host; in what follows `*` matches across `/`; without a `/` a glob is for hosts alone. All by default;
    /// an empty list is refused.
    #[schemars(length(min = 1), extend("x-reloadable" = true))]
    pub allowed_registries: Option<Vec<String>>,
    /// Whether references without a digest are refused. `false` by default.
    #[schemars(extend("x-reloadable" = true))]
    pub require_digest: Option<bool>,
}

/// What is logged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TelemetrySection {
    /// A level, or directives such as `stowage_engine=debug,info`. `info` by default.
    #[schemars(extend("x-reloadable" = false))]
    pub log: Option<String>,
    /// How log lines look. `auto` by default.
    #[schemars(extend("x-reloadable" = false))]
    pub log_format: Option<LogLines>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogLines {
    /// Readable on a terminal, JSON elsewhere.
    Auto,
    /// One readable line an event.
    Human,
    /// One JSON object an event.
    Json,
}

impl CredentialsSection {
    /// The settings that the section spells, or what is wrong with it.
    pub fn settings(&self) -> Result<CredentialSettings, String> {
        let entries = self.token_exchange.iter().flatten().enumerate();
        Ok(CredentialSettings {
            token_rules: entries
                .map(|(at, entry)| {
                    entry.rule().map_err(|reason| format!("credentials.tokenExchange[{at}]: {reason}"))
                })
                .collect::<Result<_, _>>()?,
            providers: self.providers.as_ref().map(|providers| ProviderSettings {
                config_file: providers.config_file.clone(),
                bin_dir: providers.bin_dir.clone(),
            }),
            docker_config: self.docker_config.clone(),
        })
    }
}

impl TokenExchangeEntry {
    fn rule(&self) -> Result<TokenRule, String> {
        if self.registries.is_empty() {
            return Err("`registries` is empty; name the images that the token is for".to_owned());
        }
        // A token without an audience of its own is good for the API server: no registry is to have it.
        if self.audience.is_empty() {
            return Err("`audience` is empty; name one that only the registry takes".to_owned());
        }
        let patterns = self.registries.iter().map(|pattern| pattern.parse().map_err(|e| format!("{e}")));
        let mode = match (self.mode, &self.endpoint) {
            (TokenExchangeMode::Exchange, Some(endpoint)) => TokenMode::Exchange(TokenExchange {
                endpoint: endpoint
                    .parse::<ExchangeEndpoint>()
                    .map_err(|error| format!("`endpoint`: {error}"))?,
                audience: self.endpoint_audience.clone(),
                scope: self.scope.clone(),
            }),
            (TokenExchangeMode::Exchange, None) => {
                return Err("`endpoint` is missing; mode `exchange` needs one".to_owned());
            }
            (TokenExchangeMode::Direct, None) if self.endpoint_audience.is_none() && self.scope.is_none() => {
                TokenMode::Direct
            }
            (TokenExchangeMode::Direct, _) => {
                return Err("mode `direct` takes no `endpoint`, `endpointAudience` or `scope`".to_owned());
            }
        };
        Ok(TokenRule {
            registries: patterns.collect::<Result<_, String>>()?,
            audience: self.audience.clone(),
            mode,
            username: self.username.clone().unwrap_or_else(|| TOKEN_USERNAME.to_owned()),
        })
    }
}

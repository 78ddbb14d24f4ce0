//! Reading the file.

use std::io;
use std::path::{Path, PathBuf};

use stowage_registry::HostPattern;
use stowage_telemetry::check_log_filter;

use super::NodeConfiguration;
use crate::small_file;

/// The longest file that is read; a `ConfigMap` holds no more.
pub(super) const LONGEST_FILE: u64 = 1 << 20;

/// A configuration file that is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// It is not there, or may not be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It does not say what a configuration may say.
    #[error("the configuration {} is invalid: {reason}; correct the file", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
}

impl NodeConfiguration {
    /// Reads the file at `path`; blocks for a moment.
    ///
    /// # Errors
    /// One sentence that names the file and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigurationError> {
        read(path, small_file::read(path, LONGEST_FILE))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
        let options = serde_saphyr::options! { with_snippet: false };
        let configuration: Self =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
        configuration.check()?;
        Ok(configuration)
    }

    /// What types cannot say.
    fn check(&self) -> Result<(), String> {
        let registries = &self.registries;
        for (key, hosts) in [("plainHttp", &registries.plain_http), ("allowLocal", &registries.allow_local)] {
            for host in hosts.iter().flatten() {
                host.parse::<HostPattern>().map_err(|error| format!("registries.{key}: {error}"))?;
            }
        }
        // A template that renders an empty list means none of them, and the rules would allow all.
        if self.policy.allowed_registries.as_ref().is_some_and(Vec::is_empty) {
            let reason = "policy.allowedRegistries is empty; leave it out to allow every registry";
            return Err(reason.to_owned());
        }
        self.credentials.settings()?;
        if let Some(filter) = &self.telemetry.log {
            check_log_filter(filter).map_err(|error| format!("telemetry.log: {error}"))?;
        }
        let limits = &self.limits;
        let connections = 1..=1024;
        let ranges = [
            ("limits.connectionsPerBlob", limits.connections_per_blob, &connections),
            ("limits.maxConnections", limits.max_connections, &connections),
            ("limits.maxConnectionsPerRegistry", limits.max_connections_per_registry, &connections),
            ("limits.maxConcurrentBlobs", limits.max_concurrent_blobs, &connections),
            ("limits.maxBytesPerSecond", limits.max_bytes_per_second, &(1..=u64::MAX)),
            ("limits.maxPendingVolumes", limits.max_pending_volumes, &(1..=100_000)),
            ("store.minFreePercent", self.store.min_free_percent.map(u64::from), &(0..=95)),
            ("tars.readAheadKib", self.tars.read_ahead_kib.map(u64::from), &(4..=65_536)),
        ];
        for (key, value, range) in ranges {
            if let Some(value) = value.filter(|value| !range.contains(value)) {
                return Err(format!("{key} is {value}, and may be {} to {}", range.start(), range.end()));
            }
        }
        Ok(())
    }
}

/// What was read of a file, as a configuration.
pub(super) fn read(
    path: &Path,
    content: io::Result<Vec<u8>>,
) -> Result<NodeConfiguration, ConfigurationError> {
    let text = content.map_err(|source| ConfigurationError::Unreadable { path: path.to_owned(), source })?;
    NodeConfiguration::parse(&text)
        .map_err(|reason| ConfigurationError::Invalid { path: path.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::{ErofsBacking, LogLines};
    use crate::credentials::TokenMode;

    const HEAD: &str = "apiVersion: config.stowage.dev/v1alpha1\nkind: NodeConfiguration\n";

    fn parse(rest: &str) -> Result<NodeConfiguration, String> {
        NodeConfiguration::parse(format!("{HEAD}{rest}").as_bytes())
    }

    #[test]
    fn every_key_is_read() {
        let all = parse(
            "registries: {caFiles: [/ca.pem], plainHttp: ['r.lan:5000'], allowLocal: [127.0.0.1]}
mirrors: {hostsDirs: []}
credentials:
  dockerConfig: /config.json
  providers: {configFile: /p.yaml, binDir: /bin}
  tokenExchange:
    - {registries: ['*.r.example'], audience: r, endpoint: 'https://sts.example/token', scope: pull}
    - {registries: [r.example/team], audience: r, mode: direct, username: robot}
limits: {connectionsPerBlob: 1, maxConnections: 2, maxConnectionsPerRegistry: 3, maxConcurrentBlobs: 4,
  maxBytesPerSecond: 5, maxPendingVolumes: 6}
store: {maxBytes: 7, minFreePercent: 8}
tars: {erofs: loop, readAheadKib: 9, allowFilesystemLayers: true}
policy: {allowedRegistries: ['r.example/*'], requireDigest: true}
telemetry: {log: debug, logFormat: json}
",
        )
        .unwrap();
        assert_eq!(all.mirrors.hosts_dirs, Some(Vec::new()));
        assert_eq!(all.limits.max_pending_volumes, Some(6));
        assert_eq!((all.store.max_bytes, all.store.min_free_percent), (Some(7), Some(8)));
        assert_eq!((all.tars.erofs, all.tars.read_ahead_kib), (Some(ErofsBacking::Loop), Some(9)));
        assert_eq!(all.telemetry.log_format, Some(LogLines::Json));
        let settings = all.credentials.settings().unwrap();
        assert!(matches!(settings.token_rules[0].mode, TokenMode::Exchange(_)));
        assert_eq!(settings.token_rules[0].username, "oauth2accesstoken");
        assert_eq!(settings.token_rules[1].mode, TokenMode::Direct);
        assert_eq!(settings.token_rules[1].username, "robot");
    }

    #[test]
    fn nothing_but_the_head_is_needed_and_an_empty_section_is_none() {
        let bare = parse("").unwrap();
        assert_eq!(parse("policy: {}\nlimits: {}\n").unwrap(), bare);
        assert_eq!(bare.credentials.settings().unwrap(), crate::CredentialSettings::default());
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (rest, expected) in [
            ("policies: {}", "policies"),
            ("policy: {requireDigests: true}", "requireDigests"),
            ("policy: {requireDigest: perhaps}", "line 3"),
            ("limits: {maxConnections: 0}", "limits.maxConnections is 0, and may be 1 to 1024"),
            ("limits: {maxConnections: -1}", "line 3"),
            ("store: {minFreePercent: 96}", "store.minFreePercent is 96"),
            (
                "policy: {allowedRegistries: []}",
                "policy.allowedRegistries is empty; leave it out to allow every registry",
            ),
            ("tars: {erofs: maybe}", "maybe"),
            ("registries: {plainHttp: ['http://x']}", "registries.plainHttp: `http://x`"),
            (
                "credentials: {tokenExchange: [{registries: [a], audience: x}]}",
                "tokenExchange[0]: `endpoint` is missing",
            ),
            (
                "credentials: {tokenExchange: [{registries: [a], audience: x, endpoint: 'http://sts'}]}",
                "`http://sts`",
            ),
            (
                "credentials: {tokenExchange: [{registries: [a], audience: '', mode: direct}]}",
                "`audience` is empty",
            ),
            (
                "credentials: {tokenExchange: [{registries: [], audience: x, mode: direct}]}",
                "`registries` is empty",
            ),
            ("credentials: {tokenExchange: [{registries: [a/*], audience: x, mode: direct}]}", "`a/*`"),
            (
                "credentials: {tokenExchange: [{registries: [a], audience: x, mode: direct, scope: y}]}",
                "mode `direct` takes no",
            ),
            ("credentials: {providers: {configFile: /x}}", "binDir"),
            ("telemetry: {log: 'stowage=loud'}", "telemetry.log: log filter `stowage=loud` is invalid"),
        ] {
            let error = parse(rest).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{expected} not in: {error}");
        }
        for (text, expected) in [
            ("", "line 1"),
            ("kind: NodeConfiguration\n", "apiVersion"),
            ("apiVersion: config.stowage.dev/v1\nkind: NodeConfiguration\n", "config.stowage.dev/v1alpha1"),
            ("apiVersion: config.stowage.dev/v1alpha1\nkind: ControllerConfiguration\n", "NodeConfiguration"),
            ("{", "line"),
        ] {
            let error = NodeConfiguration::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{expected} not in: {error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = NodeConfiguration::load(Path::new("/nowhere/node.yaml")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/node.yaml"), "{error}");
        let error = NodeConfiguration::load(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.contains("/dev/zero: it has more than 1048576 bytes"), "{error}");
    }
}

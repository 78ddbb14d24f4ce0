//! What the node plugin is started with: flags and variables, then the configuration file, then defaults.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::anyhow;
use clap::ArgMatches;
use clap::parser::ValueSource;
use stowage_node::{
    ConfigurationError, CredentialSettings, Credentials, ErofsBacking, LogLines, NodeConfiguration,
    restart_needed,
};
use stowage_telemetry::{LogFormat, Metrics};
use stowage_volumes::{Policy, Volumes};

use crate::cli::{Erofs, LogArgs, NO_HOSTS, NodeArgs, StoreArgs};
use crate::{Failure, wiring};

/// Everything that `stowage node` was told.
#[derive(Debug)]
pub(crate) struct NodeSetup {
    pub(crate) store: StoreArgs,
    pub(crate) log: LogArgs,
    pub(crate) args: NodeArgs,
    pub(crate) credentials: CredentialSettings,
    /// The file, where there is one.
    pub(crate) file: Option<ConfigurationFile>,
}

/// The configuration file that is in force, and what beats it.
#[derive(Debug)]
pub(crate) struct ConfigurationFile {
    pub(crate) path: PathBuf,
    given: Given,
    /// The arguments without the file.
    typed: NodeArgs,
    /// What was read at the start.
    started: NodeConfiguration,
    current: Mutex<NodeConfiguration>,
}

/// The arguments that were typed or set in the environment, by their names.
#[derive(Clone, Debug, Default)]
struct Given(BTreeSet<String>);

impl Given {
    fn of(matches: &ArgMatches) -> Self {
        let node = matches.subcommand_matches("node").unwrap_or(matches);
        let given = |id: &&str| {
            matches!(node.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
        };
        Self(node.ids().map(clap::Id::as_str).filter(given).map(str::to_owned).collect())
    }

    /// Puts the file's value, where it has one, in the place of one that was not given.
    fn unless<T>(&self, id: &str, place: &mut T, value: Option<T>) {
        if let Some(value) = value.filter(|_| !self.0.contains(id)) {
            *place = value;
        }
    }
}

impl NodeSetup {
    /// Reads the configuration file, if one is named, under the arguments.
    pub(crate) fn read(
        matches: &ArgMatches,
        mut store: StoreArgs,
        mut log: LogArgs,
        mut args: NodeArgs,
    ) -> Result<Self, Failure> {
        let Some(path) = args.config.clone() else { return Ok(Self::without_file(store, log, args)) };
        let file = NodeConfiguration::load(&path).map_err(wiring::configuration)?;
        let (given, typed) = (Given::of(matches), args.clone());
        fill_node(&file, &given, &mut args);
        fill_store(&file, &given, &mut store);
        fill_log(&file, &given, &mut log);
        let credentials = credentials(&file, &args).map_err(|reason| {
            wiring::configuration(ConfigurationError::Invalid { path: path.clone(), reason })
        })?;
        let current = Mutex::new(file.clone());
        let file = ConfigurationFile { path, given, typed, started: file, current };
        Ok(Self { store, log, args, credentials, file: Some(file) })
    }

    /// The arguments alone.
    pub(crate) fn without_file(store: StoreArgs, log: LogArgs, args: NodeArgs) -> Self {
        let docker_config = args.registry.docker_config.clone();
        let credentials = CredentialSettings { docker_config, ..CredentialSettings::default() };
        Self { store, log, args, credentials, file: None }
    }
}

impl ConfigurationFile {
    /// Takes what a changed file says, as far as it can be taken while the plugin runs. A broken one changes nothing.
    pub(crate) fn apply(
        &self,
        read: Result<NodeConfiguration, ConfigurationError>,
        metrics: &Metrics,
        volumes: &Volumes,
        credentials: &Credentials,
    ) {
        let settled = read.map_err(|error| anyhow!(error)).and_then(|new| {
            let (policy, settings) = self.reloadable(&new)?;
            Ok((new, policy, settings))
        });
        metrics.configuration_valid(settled.is_ok());
        let (new, policy, settings) = match settled {
            Ok(settled) => settled,
            Err(error) => {
                tracing::error!(%error, "the changed configuration is not used; the one before stays in force");
                return;
            }
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == new {
            return;
        }
        volumes.set_policy(policy);
        credentials.replace(settings);
        let later = restart_needed(&self.started, &new);
        if later.is_empty() {
            tracing::info!(file = %self.path.display(), "the configuration was read again");
        } else {
            tracing::warn!(
                file = %self.path.display(),
                "the configuration was read again; these keys take effect at the next start: {}",
                later.join(", ")
            );
        }
        *current = new;
    }

    fn reloadable(&self, file: &NodeConfiguration) -> anyhow::Result<(Policy, CredentialSettings)> {
        let mut args = self.typed.clone();
        fill_node(file, &self.given, &mut args);
        let settings = credentials(file, &args).map_err(|reason| invalid(&self.path, reason))?;
        Ok((policy(&args), settings))
    }
}

fn invalid(path: &Path, reason: String) -> ConfigurationError {
    ConfigurationError::Invalid { path: path.to_owned(), reason }
}

/// The administrator's rules for references.
pub(crate) fn policy(args: &NodeArgs) -> Policy {
    Policy { allowed_registries: args.allowed_registries.clone(), require_digest: args.require_digest }
}

/// The file's credentials, with the arguments' docker configuration.
fn credentials(file: &NodeConfiguration, args: &NodeArgs) -> Result<CredentialSettings, String> {
    let docker_config = args.registry.docker_config.clone();
    Ok(CredentialSettings { docker_config, ..file.credentials.settings()? })
}

fn fill_node(file: &NodeConfiguration, given: &Given, args: &mut NodeArgs) {
    let registries = file.registries.clone();
    given.unless("ca", &mut args.registry.ca, registries.ca_files);
    given.unless("plain_http", &mut args.registry.plain_http, registries.plain_http);
    given.unless("allow_local", &mut args.registry.allow_local, registries.allow_local);
    let hosts_dirs = file
        .mirrors
        .hosts_dirs
        .clone()
        .map(|directories| if directories.is_empty() { vec![NO_HOSTS.into()] } else { directories });
    given.unless("hosts_dir", &mut args.registry.hosts_dir, hosts_dirs);
    let docker_config = file.credentials.docker_config.clone().map(Some);
    given.unless("docker_config", &mut args.registry.docker_config, docker_config);

    let (limits, downloads) = (&file.limits, &mut args.downloads);
    given.unless("connections_per_blob", &mut downloads.connections_per_blob, limits.connections_per_blob);
    given.unless("max_connections", &mut downloads.max_connections, limits.max_connections);
    given.unless(
        "max_connections_per_registry",
        &mut downloads.max_connections_per_registry,
        limits.max_connections_per_registry.map(Some),
    );
    given.unless("max_concurrent_blobs", &mut downloads.max_concurrent_blobs, limits.max_concurrent_blobs);
    given.unless(
        "max_bytes_per_second",
        &mut downloads.max_bytes_per_second,
        limits.max_bytes_per_second.map(Some),
    );
    given.unless("max_pending_volumes", &mut args.max_pending_volumes, limits.max_pending_volumes);

    let tars = &file.tars;
    given.unless("erofs", &mut args.tars.erofs, tars.erofs.map(erofs));
    given.unless("read_ahead_kib", &mut args.tars.read_ahead_kib, tars.read_ahead_kib);
    given.unless(
        "allow_filesystem_layers",
        &mut args.tars.allow_filesystem_layers,
        tars.allow_filesystem_layers,
    );

    let policy = file.policy.clone();
    given.unless("allowed_registries", &mut args.allowed_registries, policy.allowed_registries);
    given.unless("require_digest", &mut args.require_digest, policy.require_digest);
}

fn fill_store(file: &NodeConfiguration, given: &Given, store: &mut StoreArgs) {
    given.unless("max_bytes", &mut store.max_bytes, file.store.max_bytes.map(Some));
    given.unless("min_free", &mut store.min_free, file.store.min_free_percent);
}

fn fill_log(file: &NodeConfiguration, given: &Given, log: &mut LogArgs) {
    given.unless("filter", &mut log.filter, file.telemetry.log.clone().map(Some));
    let format = file.telemetry.log_format.map(|format| match format {
        LogLines::Auto => LogFormat::Auto,
        LogLines::Human => LogFormat::Human,
        LogLines::Json => LogFormat::Json,
    });
    given.unless("log_format", &mut log.log_format, format);
}

fn erofs(backing: ErofsBacking) -> Erofs {
    match backing {
        ErofsBacking::Auto => Erofs::Auto,
        ErofsBacking::File => Erofs::File,
        ErofsBacking::Loop => Erofs::Loop,
        ErofsBacking::None => Erofs::None,
    }
}

#[cfg(test)]
mod tests;

//! Puts the crates together for a command: registry client, store, engine, volumes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use stowage_artifact::VolumeAttributes;
use stowage_engine::{Engine, EngineOptions};
use stowage_node::NodeCredentials;
use stowage_registry::{HostPattern, MirrorOptions, PlainHttp, ProxySettings, Registry, RegistryOptions};
use stowage_store::Store;
use stowage_sys::TargetRoot;
use stowage_volumes::{Access, Volumes};

use crate::Failure;
use crate::cli::{LogArgs, RegistryArgs, StoreArgs, TarArgs, VolumeArgs};

/// Where CRI-O and podman keep their mirrors, in a format of their own.
const CRIO_MIRRORS: &str = "/etc/containers/registries.conf";

/// Turns an error about what was typed or configured into exit code 64.
pub(crate) fn configuration<E: Into<anyhow::Error>>(error: E) -> Failure {
    Failure::Configuration(error.into())
}

/// What a command says after Ctrl-C.
pub(crate) fn interrupted() -> Failure {
    Failure::Failed(anyhow!("interrupted; run the same command again, it goes on where it was"))
}

/// Logs as was asked for, or by the filter that is usual for the command.
pub(crate) fn init_logging(log: &LogArgs, usual: &str) -> Result<(), Failure> {
    stowage_telemetry::init_logging(log.log_format, log.filter.as_deref().unwrap_or(usual))
        .map_err(configuration)
}

/// The registry client. A command at a terminal may speak plain http to loopback; the node plugin may not.
pub(crate) fn registry(args: &RegistryArgs, at_terminal: bool) -> Result<Registry, Failure> {
    let ca_pem = args
        .ca
        .iter()
        .map(|path| {
            std::fs::read(path).with_context(|| format!("cannot read the CA file {}", path.display()))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(configuration)?;
    let hosts = |names: &[String]| {
        names
            .iter()
            .map(|name| name.parse::<HostPattern>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(configuration)
    };
    let options = RegistryOptions {
        ca_pem,
        plain_http: PlainHttp { hosts: hosts(&args.plain_http)?, loopback: at_terminal },
        local_hosts: hosts(&args.allow_local)?,
        proxy: ProxySettings::from_env(),
        mirrors: MirrorOptions { roots: args.hosts_roots(), ..MirrorOptions::default() },
        ..RegistryOptions::default()
    };
    say_what_is_not_read(&options.mirrors.roots, Path::new(CRIO_MIRRORS));
    Registry::new(options).map_err(configuration)
}

/// Says that CRI-O's mirrors have no effect, where there are no others.
fn say_what_is_not_read(roots: &[PathBuf], crio: &Path) {
    if !roots.is_empty() && !roots.iter().any(|root| root.exists()) && crio.exists() {
        tracing::info!(
            "mirrors in {} are not read; write containerd's hosts.toml files and name their directory with --hosts-dir",
            crio.display()
        );
    }
}

/// The attributes that the flags of a command spell.
pub(crate) fn attributes(args: &VolumeArgs) -> Result<VolumeAttributes, Failure> {
    let mut attributes = BTreeMap::from([("reference".to_owned(), args.reference.clone())]);
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            attributes.insert(key.to_owned(), value);
        }
    };
    let lines = |globs: &[String]| (!globs.is_empty()).then(|| globs.join("\n"));
    set("pullPolicy", args.pull_policy.clone());
    set("include", lines(&args.include));
    set("exclude", lines(&args.exclude));
    set("subPath", args.sub_path.clone());
    set("platform", args.platform.clone());
    set("variant", args.variant.clone());
    for pair in &args.attributes {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| configuration(anyhow!("attribute `{pair}` has no `=`; write KEY=VALUE")))?;
        if attributes.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(configuration(anyhow!("attribute `{key}` is given twice; give it once")));
        }
    }
    VolumeAttributes::parse(&attributes).map_err(configuration)
}

/// The caller's own credential for what the attributes name.
pub(crate) fn access(args: &RegistryArgs, attributes: &VolumeAttributes) -> Result<Access, Failure> {
    let path = args.docker_config.clone().or_else(|| {
        let directory = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
        Some(directory.or_else(home)?.join("config.json"))
    });
    let credential = match path {
        Some(path) => NodeCredentials::lookup(&path, &attributes.reference)
            .map_err(|sentence| configuration(anyhow!(sentence)))?,
        None => None,
    };
    Ok(Access::of(credential))
}

/// Opens the store for a command of its own, without waiting for a plugin that has it.
pub(crate) fn open_store(args: &StoreArgs) -> Result<Store, Failure> {
    Ok(Store::open(&args.path, args.options())?)
}

/// Volumes for a command at a terminal: anything beneath `/` can be a target.
pub(crate) async fn volumes(
    store: Store,
    registry: Registry,
    downloads: EngineOptions,
    tars: TarArgs,
) -> Result<Volumes, Failure> {
    // One caller: nobody else is to be left room.
    let engine = Engine::new(
        store.clone(),
        EngineOptions {
            max_connections_per_namespace: downloads.max_connections,
            max_blobs_per_namespace: downloads.max_blobs,
            ..downloads
        },
    );
    let root = TargetRoot::open(Path::new("/"))?;
    let volumes = Volumes::new(store, engine, registry, root, tars.options());
    volumes.recover().await?;
    Ok(volumes)
}

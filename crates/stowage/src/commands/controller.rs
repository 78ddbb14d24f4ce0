//! `stowage controller`: volumes for claims, and artifacts on nodes before they are asked for.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures::FutureExt as _;
use kube::{Client, Config};
use stowage_controller::csi::{ControllerService, IdentityService, serve};
use stowage_controller::{
    ControllerConfiguration, LeaderElection, LeaseOptions, Memory, Policy, PrefetchOptions, Provisioner,
    ProvisionerOptions, Resolver, prefetch,
};
use stowage_telemetry::{ControllerMetrics, Health, LogFormat};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::{ControllerArgs, LogArgs, NO_HOSTS, RegistryArgs};
use crate::signals::stop_on_signals;
use crate::{Failure, wiring};

/// How long everything may take to end once the process is told to stop.
const GRACE: Duration = Duration::from_secs(20);
/// How long the API server may be silent: longer than a watch without news.
const SILENCE: Duration = Duration::from_mins(5);

pub(crate) async fn run(args: ControllerArgs) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    stowage_node::check_driver_name(&args.driver_name)
        .map_err(|sentence| wiring::configuration(anyhow!(sentence)))?;
    let args = args.with_file()?;
    let resolver = Resolver::new(wiring::registry(&args.registry, false)?, policy(&args));
    let (metrics, health) = (ControllerMetrics::new(), Health::new());
    let http = TcpListener::bind(args.http)
        .await
        .with_context(|| format!("cannot listen on {} for /livez, /readyz and /metrics", args.http))?;
    let admin = tokio::spawn(stowage_telemetry::serve(http, health.clone(), metrics.clone(), stop.clone()));
    let client = client(&args).await?;

    let mut parts: Vec<JoinHandle<Result<(), Failure>>> = Vec::new();
    if args.csi {
        health.waiting("csi", "the CSI socket is not served yet");
        parts.push(csi(&args, resolver.clone(), client.clone(), &metrics, &health, &stop)?);
    }
    match client {
        Some(client) if args.prefetch => parts.push(reconciler(&args, resolver, client, &metrics, &stop)?),
        None if args.prefetch => {
            tracing::info!("without an API server there are no CachedArtifacts to look at");
        }
        _ => {}
    }
    if parts.is_empty() {
        return Err(wiring::configuration(anyhow!(
            "nothing is left to do with --csi=false and no CachedArtifacts; leave one of the flags out"
        )));
    }
    until_ended(parts, async { drop(admin.await) }, &stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Waits for the stop, or for a part that cannot go on; then for all others, so long as they may take.
async fn until_ended(
    parts: Vec<JoinHandle<Result<(), Failure>>>,
    admin: impl Future<Output = ()>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut working = futures::future::select_all(parts);
    let (first, others) = tokio::select! {
        (ended, _, others) = &mut working => (Some(ended), others),
        () = stop.cancelled() => (None, working.into_inner()),
    };
    stop.cancel();
    let rest = async {
        for other in others {
            other.await.context("a part of the controller died")??;
        }
        admin.await;
        Ok(())
    };
    let rest: Result<Result<(), Failure>, _> = tokio::time::timeout(GRACE, rest).await;
    if let Some(first) = first {
        first.context("a part of the controller died")??;
    }
    if let Ok(ended) = rest {
        ended?;
    } else {
        tracing::warn!("some work did not end within {} s of the stop", GRACE.as_secs());
    }
    Ok(())
}

/// The CSI services on their socket.
fn csi(
    args: &ControllerArgs,
    resolver: Resolver,
    client: Option<Client>,
    metrics: &ControllerMetrics,
    health: &Health,
    stop: &CancellationToken,
) -> Result<JoinHandle<Result<(), Failure>>, Failure> {
    let memory = match &args.memory {
        Some(path) => Memory::open(path).map_err(wiring::configuration)?,
        None => Memory::volatile(),
    };
    let options = ProvisionerOptions {
        memory,
        docker_config: args.registry.docker_config.clone(),
        ..ProvisionerOptions::new(args.driver_name.clone(), resolver, client)
    };
    let provisioner = Provisioner::new(options, stop.clone());
    let identity = IdentityService::new(provisioner.clone());
    let controller = ControllerService::new(provisioner, metrics.clone());
    let (socket, health, stop) = (args.csi_socket.clone(), health.clone(), stop.clone());
    Ok(tokio::spawn(async move { Ok(serve(identity, controller, &socket, &health, stop).await?) }))
}

/// The reconciler, in whichever replica has the lease.
fn reconciler(
    args: &ControllerArgs,
    resolver: Resolver,
    client: Client,
    metrics: &ControllerMetrics,
    stop: &CancellationToken,
) -> Result<JoinHandle<Result<(), Failure>>, Failure> {
    let image = args.prefetch_image.clone().ok_or_else(|| {
        wiring::configuration(anyhow!(
            "CachedArtifacts need the image of their pods; give --prefetch-image, or --prefetch=false"
        ))
    })?;
    let options = PrefetchOptions {
        client: client.clone(),
        resolver,
        driver_name: args.driver_name.clone(),
        image,
        secret_namespaces: args.secret_namespaces.iter().cloned().collect(),
    };
    let (metrics, stop) = (metrics.clone(), stop.clone());
    if !args.leader_election {
        return Ok(tokio::spawn(async move {
            metrics.leads(true);
            prefetch::run(options, metrics, stop).await;
            Ok(())
        }));
    }
    let namespace = args.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let lease = LeaseOptions::new(namespace, args.lease_name.clone(), identity(args)?);
    let election = LeaderElection::new(client, lease, metrics.clone());
    Ok(tokio::spawn(async move {
        let work = |term| prefetch::run(options.clone(), metrics.clone(), term).boxed();
        election.run(stop, work).await;
        Ok(())
    }))
}

async fn client(args: &ControllerArgs) -> Result<Option<Client>, Failure> {
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if !args.kubernetes.unwrap_or(in_cluster) {
        return Ok(None);
    }
    let mut config = Config::infer().await.map_err(anyhow::Error::from).context(
        "cannot find the API server: run in a pod with a service account, set KUBECONFIG, or say --kubernetes=false",
    ).map_err(wiring::configuration)?;
    config.read_timeout = Some(SILENCE);
    Client::try_from(config).map(Some).map_err(wiring::configuration)
}

/// This replica's name: its pod's, which is its host's.
fn identity(args: &ControllerArgs) -> Result<String, Failure> {
    if let Some(identity) = &args.identity {
        return Ok(identity.clone());
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("cannot read this host's name; give --identity")
        .map_err(wiring::configuration)?;
    Ok(name.trim().to_owned())
}

fn policy(args: &ControllerArgs) -> Policy {
    Policy {
        allowed_registries: args.allowed_registries.clone(),
        require_digest: args.require_digest.unwrap_or_default(),
    }
}

impl ControllerArgs {
    /// The configuration file, where one is named.
    pub(crate) fn file(&self) -> Result<ControllerConfiguration, Failure> {
        self.config.as_deref().map_or_else(
            || Ok(ControllerConfiguration::default()),
            |path| ControllerConfiguration::read(path).map_err(wiring::configuration),
        )
    }

    /// How to log: as was typed, else as the file says.
    pub(crate) fn log(&self, given: &LogArgs) -> Result<LogArgs, Failure> {
        let file = self.file()?.telemetry;
        let log_format = match (given.log_format, file.log_format) {
            (LogFormat::Auto, Some(format)) => {
                format.parse().map_err(|why: String| wiring::configuration(anyhow!(why)))?
            }
            (given, _) => given,
        };
        Ok(LogArgs { filter: given.filter.clone().or(file.log), log_format })
    }

    /// The same with what the file says where no flag or variable does.
    fn with_file(self) -> Result<Self, Failure> {
        let file = self.file()?;
        let or = |given: Vec<String>, file: Vec<String>| if given.is_empty() { file } else { given };
        let given = self.registry;
        let hosts_dir = match file.mirrors.hosts_dirs {
            Some(roots) if given.hosts_dir.is_empty() && roots.is_empty() => vec![NO_HOSTS.into()],
            Some(roots) if given.hosts_dir.is_empty() => roots,
            _ => given.hosts_dir,
        };
        Ok(Self {
            registry: RegistryArgs {
                ca: if given.ca.is_empty() { file.registries.ca_files } else { given.ca },
                plain_http: or(given.plain_http, file.registries.plain_http),
                allow_local: or(given.allow_local, file.registries.allow_local),
                hosts_dir,
                docker_config: given.docker_config,
            },
            allowed_registries: or(self.allowed_registries, file.policy.allowed_registries),
            require_digest: self.require_digest.or(Some(file.policy.require_digest)),
            ..self
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(arguments: &[&str]) -> ControllerArgs {
        let line = ["stowage", "controller"].iter().chain(arguments);
        let Command::Controller(args) = Cli::try_parse_from(line).unwrap().command else { panic!() };
        *args
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("controller.yaml");
        let text = "apiVersion: config.stowage.dev/v1alpha1\nkind: ControllerConfiguration\n\
                    registries: {caFiles: [/file.pem], plainHttp: [file.lan]}\nmirrors: {hostsDirs: []}\n\
                    policy: {requireDigest: true}\n";
        std::fs::write(&path, text).unwrap();
        let config = path.to_str().unwrap();
        let merged = args(&["--config", config, "--plain-http", "flag.lan"]).with_file().unwrap();
        assert_eq!(merged.registry.plain_http, ["flag.lan"]);
        assert_eq!(merged.registry.ca, [std::path::PathBuf::from("/file.pem")]);
        assert!(merged.registry.hosts_roots().is_empty());
        assert!(policy(&merged).require_digest);
        let merged = args(&["--config", config, "--require-digest=false", "--hosts-dir", "/a"]).with_file();
        let merged = merged.unwrap();
        assert!(!policy(&merged).require_digest);
        assert_eq!(merged.registry.hosts_roots(), [std::path::PathBuf::from("/a")]);
        assert!(!policy(&args(&[]).with_file().unwrap()).require_digest);
        assert!(policy(&args(&["--require-digest"])).require_digest);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_end_holds_the_stop_up_for_twenty_seconds() {
        let endless = || tokio::spawn(std::future::pending());
        for parts in [vec![endless()], vec![endless(), endless()]] {
            let stop = CancellationToken::new();
            stop.cancel();
            let began = tokio::time::Instant::now();
            let ended = tokio::time::timeout(GRACE * 2, until_ended(parts, async {}, &stop)).await;
            assert!(matches!(ended, Ok(Ok(()))));
            assert!(began.elapsed() >= GRACE && began.elapsed() < GRACE * 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_fails_stops_the_others_and_is_the_answer() {
        let stop = CancellationToken::new();
        let told = stop.clone();
        let parts = vec![
            tokio::spawn(async { Err(wiring::configuration(anyhow!("no"))) }),
            tokio::spawn(async move {
                told.cancelled().await;
                Ok(())
            }),
        ];
        let ended = until_ended(parts, async {}, &stop).await;
        assert!(matches!(ended, Err(Failure::Configuration(_))) && stop.is_cancelled());
    }

    #[test]
    fn a_broken_file_is_bad_configuration() {
        let failed = args(&["--config", "/nonexistent/c.yaml"]).with_file();
        assert!(matches!(failed, Err(Failure::Configuration(_))));
    }
}

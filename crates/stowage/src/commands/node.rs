//! `stowage node`: the plugin that kubelet talks to.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use stowage_engine::Engine;
use stowage_node::{
    Credentials, NodeOptions, Plugin, Registration, RegistrationOptions, Watcher, kubernetes,
};
use stowage_registry::Registry;
use stowage_store::{Store, Usage};
use stowage_sys::TargetRoot;
use stowage_telemetry::metrics::StoreNumbers;
use stowage_telemetry::{Health, Metrics};
use stowage_volumes::{Volumes, VolumesOptions};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::{NodeArgs, StoreArgs};
use crate::node_setup::{self, ConfigurationFile, NodeSetup};
use crate::signals::stop_on_signals;
use crate::{Failure, wiring};

/// Between two rounds of housekeeping, unless interest in a download lasts shorter than that.
const HOUSEKEEPING: Duration = Duration::from_secs(15);

/// How long housekeeping may take to end, once the server has.
const CLOSING: Duration = Duration::from_secs(5);

pub(crate) async fn run(setup: NodeSetup) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    run_until(setup, stop).await
}

/// Runs the plugin until `stop`.
pub(crate) async fn run_until(setup: NodeSetup, stop: CancellationToken) -> Result<(), Failure> {
    let NodeSetup { store: store_args, args, credentials, file, .. } = setup;
    stowage_node::check_driver_name(&args.driver_name)
        .map_err(|sentence| wiring::configuration(anyhow!(sentence)))?;
    let registry = wiring::registry(&args.registry, false)?;
    let (metrics, health) = (Metrics::new(), Health::new());
    let http = TcpListener::bind(args.http)
        .await
        .with_context(|| format!("cannot listen on {} for /livez, /readyz and /metrics", args.http))?;
    let admin = tokio::spawn(stowage_telemetry::serve(http, health.clone(), metrics.clone(), stop.clone()));
    let credentials = Credentials::new(registry.clone(), credentials, metrics.clone());
    let options = NodeOptions {
        driver_name: args.driver_name.clone(),
        node_id: args.node_id.clone(),
        publish_wait: Duration::from_secs(args.publish_wait),
        credentials: credentials.clone(),
    };
    let plugin = Plugin::new(options, metrics.clone(), health.clone());
    let plugin = if args.kubernetes.unwrap_or_else(kubernetes::in_cluster) {
        plugin.with_events(kubernetes::connect(&args.node_id, &metrics, &health, &stop).await)
    } else {
        plugin
    };

    // In a rollout the old process still has the store, its sockets and its volumes: nothing is touched before.
    let Some(store) = wait_for_store(&store_args, &stop).await? else { return Ok(()) };
    let serving = tokio::spawn({
        let (plugin, socket, stop) = (plugin.clone(), args.csi_socket.clone(), stop.clone());
        async move {
            let ended = stowage_node::serve(plugin, &socket, stop.clone()).await;
            // Without its socket nobody calls: all the rest ends too, also before the volumes are open.
            stop.cancel();
            ended
        }
    });
    let opening = open(&store, registry, &args);
    let running = match stop.run_until_cancelled(opening).await {
        // Its blocking steps may still be at work; they are cut short as by a crash.
        None => None,
        Some(opened) => {
            let (volumes, backing) = opened?;
            metrics.erofs(&backing);
            watch(&metrics, &volumes);
            if let Some(file) = file {
                follow(file, &stop, metrics.clone(), volumes.clone(), credentials);
            }
            let admin_socket = stowage_store::admin::serve(&store)?;
            // Before the store counts as ready, so that the plugin never looks ready without being registered.
            let registration =
                args.registration.then(|| Registration::new(registration_options(&args), health.clone()));
            plugin.open(volumes.clone());
            let housekeeping = keep_house(&volumes, metrics, args.interest);
            let registration = registration.map(|registration| register(registration, &stop));
            Some((volumes, housekeeping, registration, admin_socket))
        }
    };

    // The first to end: told to stop, or a server that cannot go on.
    let ended = serving.await.context("the CSI server died")?;
    if let Some((volumes, housekeeping, registration, admin_socket)) = running {
        // The server has shut them down, unless it ended by itself or before they were open.
        let closing = async {
            volumes.shutdown().await;
            housekeeping.await
        };
        if tokio::time::timeout(CLOSING, closing).await.is_err() {
            tracing::warn!("housekeeping did not end within {} s of the stop", CLOSING.as_secs());
        }
        if let Some(registration) = registration {
            registration.await.context("the registration died")??;
        }
        drop(admin_socket);
    }
    let _ = admin.await;
    ended?;
    tracing::info!("stopped; mounts stay, downloads can be resumed");
    Ok(())
}

/// The volumes of the store, compared with the mount table, and in words how the kernel reads tars.
async fn open(store: &Store, registry: Registry, args: &NodeArgs) -> Result<(Volumes, String), Failure> {
    let engine = Engine::new(store.clone(), args.downloads.options());
    let root = TargetRoot::open(&args.kubelet_dir).map_err(wiring::configuration)?;
    let volumes = Volumes::new(store.clone(), engine, registry, root, volumes_options(args));
    let recovered = volumes.recover().await?;
    tracing::info!(
        healthy = recovered.healthy,
        waiting = recovered.waiting,
        unmounted = recovered.unmounted,
        "the store is open"
    );
    // Once at start, where its outcome is easily found in the log: a volume would only be refused.
    let trial = volumes.clone();
    let erofs = tokio::task::spawn_blocking(move || trial.erofs_support().backing);
    let backing = erofs.await.context("the trial mount died")?;
    Ok((volumes, backing.map_or_else(|| "none".to_owned(), |backing| backing.to_string())))
}

/// Starts housekeeping, which ends with the volumes.
fn keep_house(volumes: &Volumes, metrics: Metrics, interest: u64) -> JoinHandle<()> {
    let volumes = volumes.clone();
    let every = HOUSEKEEPING.min(Duration::from_secs(interest.max(1)));
    tokio::spawn(async move { volumes.housekeeping(every, move |bytes| metrics.collected(bytes)).await })
}

/// Starts the registration with kubelet, until `stop`.
fn register(
    registration: Registration,
    stop: &CancellationToken,
) -> JoinHandle<Result<(), stowage_node::SocketError>> {
    let stop = stop.clone();
    tokio::spawn(async move {
        let ended = registration.run(stop.clone()).await;
        // Without it kubelet never calls: better to end with the reason than to look alive.
        stop.cancel();
        ended
    })
}

/// Opens the store as soon as no other process has it; `None` where the process is told to stop before.
async fn wait_for_store(store_args: &StoreArgs, stop: &CancellationToken) -> Result<Option<Store>, Failure> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let options = store_args.options();
    let opening = tokio::task::spawn_blocking({
        let (path, cancelled) = (store_args.path.clone(), Arc::clone(&cancelled));
        move || Store::wait_open(&path, &options, &cancelled, None)
    });
    tokio::pin!(opening);
    let opened = tokio::select! {
        opened = &mut opening => opened,
        () = stop.cancelled() => {
            cancelled.store(true, Ordering::Release);
            opening.await
        }
    };
    match opened.context("the task that opens the store died")? {
        Ok(store) => Ok(Some(store)),
        Err(_) if stop.is_cancelled() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn volumes_options(args: &NodeArgs) -> VolumesOptions {
    VolumesOptions {
        interest: Duration::from_secs(args.interest),
        max_pending_volumes: usize::try_from(args.max_pending_volumes).unwrap_or(usize::MAX),
        policy: node_setup::policy(args),
        ..args.tars.options()
    }
}

fn registration_options(args: &NodeArgs) -> RegistrationOptions {
    let endpoint: PathBuf = args
        .kubelet_endpoint
        .clone()
        .unwrap_or_else(|| args.kubelet_dir.join("plugins").join(&args.driver_name).join("csi.sock"));
    let directory =
        args.registration_dir.clone().unwrap_or_else(|| args.kubelet_dir.join("plugins_registry"));
    RegistrationOptions::new(args.driver_name.clone(), endpoint.display().to_string(), directory)
}

/// Takes what changes in the configuration file, until `stop`.
fn follow(
    file: ConfigurationFile,
    stop: &CancellationToken,
    metrics: Metrics,
    volumes: Volumes,
    credentials: Credentials,
) {
    let (watcher, stop) = (Watcher::new(file.path.clone()), stop.clone());
    tokio::spawn(watcher.run(stop, move |read| file.apply(read, &metrics, &volumes, &credentials)));
}

/// Metrics ask the store and the engine at each scrape.
fn watch(metrics: &Metrics, volumes: &Volumes) {
    let volumes = volumes.clone();
    metrics.watch_store(move || {
        let engine = volumes.engine().stats();
        let usage = volumes.store().usage().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the numbers of the store");
            Usage::default()
        });
        StoreNumbers {
            blobs: usage.blobs,
            bytes: usage.bytes,
            ingests: usage.ingests,
            views: usage.views,
            volumes: usage.volumes,
            free: usage.free,
            flights: engine.flights_running,
            fetched: engine.bytes_fetched,
        }
    });
}

//! `stowage mount` and `stowage unmount`: the node plugin's work, by hand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use stowage_engine::EngineOptions;
use stowage_volumes::{Progress, PublishRequest, Published, human_bytes};

use crate::cli::{MountArgs, StoreArgs, TarArgs, UnmountArgs};
use crate::{Failure, progress, wiring};

/// Longer than any download: the person at the terminal decides when to give up.
const FOREVER: Duration = Duration::from_hours(365 * 24);

pub(crate) async fn mount(store: &StoreArgs, args: MountArgs) -> Result<(), Failure> {
    let attributes = wiring::attributes(&args.volume)?;
    let access = wiring::access(&args.registry, &attributes)?;
    let registry = wiring::registry(&args.registry, true)?;
    let target = absolute(&args.target)?;
    let store = wiring::open_store(store)?;
    let volumes = wiring::volumes(store, registry, args.downloads.options(), args.tars).await?;
    let progress = Progress::default();
    let request = PublishRequest {
        volume_id: volume_id(&target),
        target: target.clone(),
        readonly: false,
        capability: "mount".to_owned(),
        attributes,
        namespace: String::new(),
        access,
        wait: FOREVER,
        progress: progress.clone(),
    };
    let name = request.attributes.reference.to_string();
    let result = tokio::select! {
        result = progress::shown(&name, progress, volumes.publish(request)) => result.map_err(Failure::from),
        _ = tokio::signal::ctrl_c() => Err(wiring::interrupted()),
    };
    volumes.shutdown().await;
    report(&name, &target, &result?, args.json);
    Ok(())
}

fn report(name: &str, target: &Path, published: &Published, json: bool) {
    if json {
        let object = serde_json::json!({
            "reference": name,
            "digest": published.digest.to_string(),
            "target": target,
            "fetchedBytes": published.fetched,
            "cachedBytes": published.cached,
            "milliseconds": published.elapsed.as_millis(),
            "alreadyMounted": published.already,
        });
        say!("{object}");
    } else if published.already {
        say!("{name} is already mounted at {}", target.display());
    } else {
        say!(
            "{name} ({}) is mounted at {}: {} fetched, {} from the store, {} ms",
            published.digest,
            target.display(),
            human_bytes(published.fetched),
            human_bytes(published.cached),
            published.elapsed.as_millis()
        );
    }
}

pub(crate) async fn unmount(store: &StoreArgs, args: UnmountArgs) -> Result<(), Failure> {
    let target = absolute(&args.target)?;
    let registry = wiring::registry(&crate::cli::RegistryArgs::none(), true)?;
    let store = wiring::open_store(store)?;
    let id = volume_id(&target);
    if store.record(&id, &target)?.is_none() {
        return Err(Failure::Failed(anyhow::anyhow!(
            "nothing of this store is mounted at {}; give the same --store as to `stowage mount`",
            target.display()
        )));
    }
    let volumes = wiring::volumes(store, registry, EngineOptions::default(), TarArgs::default()).await?;
    volumes.unpublish(&id, &target).await?;
    volumes.shutdown().await;
    say!("{} is unmounted", target.display());
    Ok(())
}

/// The target with its symlinks resolved, so that mount and unmount name the same directory.
fn absolute(target: &Path) -> Result<PathBuf, Failure> {
    if let Ok(path) = std::fs::canonicalize(target) {
        return Ok(path);
    }
    let path = std::path::absolute(target).map_err(wiring::configuration)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path) };
    let parent = std::fs::canonicalize(parent).map_err(|error| {
        wiring::configuration(anyhow::anyhow!(
            "cannot mount at {}: its parent directory: {error}",
            path.display()
        ))
    })?;
    Ok(parent.join(name))
}

fn volume_id(target: &Path) -> String {
    format!("cli:{}", target.display())
}

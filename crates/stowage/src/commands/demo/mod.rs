//! `stowage demo`: the main job on one machine, without a cluster.
//!
//! A registry in this process, the node plugin behind its real socket, and a kubelet that registers it and
//! publishes volumes over CSI. Everything happens in a mount namespace of its own and beneath one temporary
//! directory, so nothing of it outlives the process.

mod samples;
mod show;
mod stage;

use anyhow::{Context as _, anyhow};
use stowage_sys::namespace;

use self::samples::Sample;
use self::stage::Stage;
use crate::Failure;
use crate::cli::{DemoArgs, LogArgs};

/// Runs the demo. Called before any thread exists: a namespace is entered by one thread.
pub(crate) fn run(args: &DemoArgs, log: &LogArgs) -> Result<(), Failure> {
    let usual = log.filter.as_deref().unwrap_or("error");
    stowage_telemetry::init_logging(log.log_format, usual).map_err(crate::wiring::configuration)?;
    let place = isolate()?;
    let runtime = crate::runtime()?;
    let result = runtime.block_on(play(args, place));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    result.map_err(Failure::Failed)
}

/// Enters the namespaces in which the demo mounts; says which.
fn isolate() -> Result<&'static str, Failure> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if uid.is_root() && namespace::enter_private_mount_namespace().is_ok() {
        return Ok("a mount namespace of its own");
    }
    // Root of a container without CAP_SYS_ADMIN is as plain a user here as anyone.
    namespace::enter_user_and_mount_namespaces(uid.as_raw(), gid.as_raw())
        .map(
            |()| "a user and a mount namespace of its own (no tar samples: the kernel mounts no EROFS there)",
        )
        .map_err(Failure::from)
}

async fn play(args: &DemoArgs, place: &str) -> anyhow::Result<()> {
    let stage = Stage::set(place).await?;
    let result = tokio::select! {
        result = scenes(&stage, args) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted; everything was removed")),
    };
    // Also after a failure: nothing may stay behind.
    let cleaned = stage.clear().await;
    result?;
    cleaned
}

async fn scenes(stage: &Stage, args: &DemoArgs) -> anyhow::Result<()> {
    show::opening(stage);
    for (number, sample) in samples::all(args.size_mib)?.into_iter().enumerate() {
        stage.push(&sample).await.with_context(|| format!("cannot push {}", sample.repository))?;
        scene(stage, number + 1, &sample).await.with_context(|| format!("{} failed", sample.title))?;
    }
    show::closing(stage.disk_bytes()?, stage.blob_bytes()?);
    Ok(())
}

/// One artifact: cold, warm, every digest, and an attempt to write.
async fn scene(stage: &Stage, number: usize, sample: &Sample) -> anyhow::Result<()> {
    say!("\n{number}. {}", sample.title);
    for attributes in &sample.volumes {
        let expected = stage.inspect(sample, attributes).await?;
        let before = stage.disk_bytes()?;
        let cold = match stage.publish(sample, attributes, "cold").await {
            // Nothing is wrong with the demo where the kernel does not let this user mount EROFS.
            Err(error) if !sample.members.is_empty() && stage::mounts_no_tars() => {
                say!("  not shown  {error}");
                continue;
            }
            cold => cold?,
        };
        let warm = stage.publish(sample, attributes, "warm").await?;
        show::resolved(&expected, attributes);
        show::tree(&cold.target, &expected, sample)?;
        show::read_only(&cold.target)?;
        let bytes = show::bytes_of(&cold.target)?;
        show::timing(&cold, &warm, stage.disk_bytes()? - before, bytes);
        stage.unpublish(&cold).await?;
        stage.unpublish(&warm).await?;
    }
    Ok(())
}

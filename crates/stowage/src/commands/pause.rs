//! `stowage pause`: the whole job of a prefetch pod's container, which only holds its volume.

use tokio::signal::unix::{SignalKind, signal};

use crate::Failure;

/// Waits until it is told to end. One thread: there is one of it for every cached artifact on every node.
pub(crate) fn run() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

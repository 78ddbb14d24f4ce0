//! Being told to end: SIGTERM and SIGINT.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::Failure;

/// Listens for SIGTERM and SIGINT from now on; what it returns ends with the first of them. The first process of a
/// container is ended by neither unless it listens.
pub(crate) fn told_to_stop() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Cancels `stop` when the process is told to end.
pub(crate) fn stop_on_signals(stop: &CancellationToken) -> Result<(), Failure> {
    let (told, stop) = (told_to_stop()?, stop.clone());
    tokio::spawn(async move {
        told.await;
        tracing::info!("told to stop");
        stop.cancel();
    });
    Ok(())
}

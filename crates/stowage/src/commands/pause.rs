//! `stowage pause`: the whole job of a prefetch pod's container, which only holds its volume.

use crate::{Failure, signals};

/// Waits until it is told to end. One thread: there is one of it for every cached artifact on every node.
pub(crate) fn run() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        signals::told_to_stop()?.await;
        Ok(())
    })
}

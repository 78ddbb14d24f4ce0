//! Downloads that stop at a byte until they are told to go on, so that it is known what was served when something else
//! happens.

use stowage_artifact::Digest;
use stowage_testkit::registry::{At, Fault, Registry, Target};

use crate::harness::LIMIT;

/// Lets each download of a blob stop at a byte: also the one in whose favour the first one is given up, because it has
/// brought nothing for seconds.
pub(super) fn stall_at(registry: &Registry, blob: &Digest, byte: u64) {
    registry.faults().always(Target::Digest(blob.clone()), Fault::Stall(At::Blob(byte)));
}

/// Lets what stalls go on.
pub(super) fn go_on(registry: &Registry) {
    registry.faults().clear();
    registry.faults().release();
}

/// Waits until the registry has noticed that nobody reads: what it sends nevertheless would count as served.
pub(super) async fn nobody_reads(registry: &Registry) {
    assert!(registry.traffic().until(LIMIT, |traffic| traffic.open_downloads() == 0).await);
}

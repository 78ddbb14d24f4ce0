//! A download that takes longer than kubelet waits.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::FutureExt as _;

use super::Scenario;
use crate::events::Reason;
use crate::reader::Reader;
use crate::stage::Stage;
use crate::verdict::Verdict;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "slow-download",
    shows: "an artifact of 2 GiB that takes longer than kubelet's two minutes is mounted, with progress in events",
    play: |stage| play(stage).boxed_local(),
};

/// How long kubelet waits for one call.
const KUBELET: Duration = Duration::from_mins(2);
const LIMIT: Duration = Duration::from_mins(20);

async fn play(stage: &Stage) -> Result<Verdict> {
    let sample = stage.sample("samples/large")?;
    let large = sample.largest()?;
    let node = stage.node().await?;
    let begun = Instant::now();
    let pod = stage.start(&Reader::inline("patient", &sample.reference).expects(&sample).on(&node)).await?;
    stage.event(&pod, Reason::Progress, &["%"]).await?;
    stage.event_within(&pod, Reason::Mounted, &[&sample.digest], LIMIT).await?;
    let took = begun.elapsed();
    ensure!(
        took > KUBELET,
        "the download took only {} s, so kubelet's time-out was not met: raise the number of bytes or lower the rate",
        took.as_secs()
    );
    stage.succeeds("patient", LIMIT).await?;
    let served = stage.registry.bytes_served("samples/large", &large.digest).await?;
    ensure!(
        served < large.size + large.size / 8,
        "the registry sent {served} bytes of a file of {} bytes: a time-out of kubelet began the download anew",
        large.size
    );
    Ok(Verdict::Passed)
}

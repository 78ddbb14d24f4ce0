//! A pod that is deleted while its artifact is on its way, and the plugin with it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::FutureExt as _;

use super::Scenario;
use crate::events::Reason;
use crate::reader::Reader;
use crate::stage::Stage;
use crate::verdict::Verdict;
use crate::wait::{Look, Wait};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "deleted-in-download",
    shows: "a pod goes at once although its download runs, and after a restart the next one goes on with its bytes",
    play: |stage| play(stage).boxed_local(),
};

/// For 768 MiB from the slow registry.
const LIMIT: Duration = Duration::from_mins(8);
/// How long the deletion may take: kubelet's own pace, with nothing of the download in it.
const DELETION: Duration = Duration::from_secs(30);

async fn play(stage: &Stage) -> Result<Verdict> {
    let sample = stage.sample("samples/cut")?;
    let large = sample.largest()?;
    let node = stage.node().await?;
    let first = stage.start(&Reader::inline("first", &sample.reference).expects(&sample).on(&node)).await?;
    stage.event(&first, Reason::Pulling, &["samples/cut"]).await?;
    // More than what may be sent twice, or a download that begins anew would pass.
    let (wanted, twice) = (large.size / 6, large.size / 12);
    Wait::new(format!("the registry has sent {wanted} bytes"), LIMIT)
        .until(async || {
            let served = stage.registry.bytes_served("samples/cut", &large.digest).await?;
            Ok(match served {
                done if done >= large.size => Look::Never("the download was over too soon".into()),
                some if some >= wanted => Look::Found(()),
                few => Look::NotYet(format!("{few} bytes")),
            })
        })
        .await?;

    let begun = Instant::now();
    stage.ends("first").await?;
    let took = begun.elapsed();
    ensure!(took < DELETION, "the pod's deletion took {} s while its download ran", took.as_secs());
    // The download goes on for minutes without a pod, since kubelet may come back. A plugin that stops ends it.
    stage.plugin.restart_on(&node).await?;
    let served = stage.registry.bytes_served("samples/cut", &large.digest).await?;
    ensure!(served < large.size, "the download was over when the plugin was gone, so nothing was shown");

    stage
        .reads_within(&Reader::inline("second", &sample.reference).expects(&sample).on(&node), LIMIT)
        .await?;
    let served = stage.registry.bytes_served("samples/cut", &large.digest).await?;
    // What was in flight when the plugin went may be sent again.
    ensure!(
        served < large.size + twice,
        "the registry sent {served} bytes of a file of {} bytes: the second pod began anew",
        large.size
    );
    Ok(Verdict::Passed)
}

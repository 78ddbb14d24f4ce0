//! Two pods on one node that want the same artifact at the same time.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt as _;

use super::Scenario;
use crate::reader::Reader;
use crate::stage::Stage;
use crate::verdict::Verdict;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "shared-download",
    shows: "two pods of one node share one download: the registry sends each byte once",
    play: |stage| play(stage).boxed_local(),
};

/// For 128 MiB from the slow registry.
const LIMIT: Duration = Duration::from_mins(6);

async fn play(stage: &Stage) -> Result<Verdict> {
    let sample = stage.sample("samples/shared")?;
    let node = stage.node().await?;
    let readers =
        ["first", "second"].map(|name| Reader::inline(name, &sample.reference).expects(&sample).on(&node));
    for reader in &readers {
        stage.start(reader).await?;
    }
    for reader in &readers {
        stage.succeeds(reader.name(), LIMIT).await?;
    }
    let large = sample.largest()?;
    let served = stage.registry.bytes_served("samples/shared", &large.digest).await?;
    // Work that moves from one connection to another may be sent twice, a little of it.
    ensure!(
        served >= large.size && served < large.size + large.size / 2,
        "the registry sent {served} bytes of a file of {} bytes to two pods of one node",
        large.size
    );
    Ok(Verdict::Passed)
}

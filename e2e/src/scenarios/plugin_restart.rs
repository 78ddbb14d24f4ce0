//! The plugin's pod is deleted while a reader reads.

use anyhow::{Result, ensure};
use futures::FutureExt as _;

use super::Scenario;
use crate::reader::Reader;
use crate::stage::Stage;
use crate::verdict::Verdict;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "plugin-restart",
    shows: "a reader reads on while the plugin of its node is deleted, and its volume is taken away by the next one",
    play: |stage| play(stage).boxed_local(),
};

async fn play(stage: &Stage) -> Result<Verdict> {
    let sample = stage.sample("samples/plugin-restart")?;
    let node = stage.node().await?;
    let reader = |name: &str| Reader::inline(name, &sample.reference).expects(&sample).on(&node);
    stage.start(&reader("reads-on").holds()).await?;
    let before = stage.rounds("reads-on", 2).await?;
    let life = stage.life("reads-on").await?;

    stage.plugin.restart_on(&node).await?;

    stage.rounds("reads-on", before + 3).await?;
    ensure!(stage.life("reads-on").await? == life, "the reader is another one than before");
    // The new plugin serves new volumes, and takes away what the old one has mounted.
    stage.reads(&reader("comes-after")).await?;
    stage.ends("reads-on").await?;
    Ok(Verdict::Passed)
}

//! The DaemonSet is changed, and every node gets a new plugin.

use anyhow::{Result, ensure};
use futures::FutureExt as _;

use super::Scenario;
use crate::reader::Reader;
use crate::stage::Stage;
use crate::verdict::Verdict;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "rolling-upgrade",
    shows: "readers on every node read on while the DaemonSet rolls over all of them",
    play: |stage| play(stage).boxed_local(),
};

async fn play(stage: &Stage) -> Result<Verdict> {
    let sample = stage.sample("samples/rolling-upgrade")?;
    let nodes = stage.nodes().await?;
    let names: Vec<String> = (0..nodes.len()).map(|index| format!("reader-{index}")).collect();
    for (name, node) in names.iter().zip(&nodes) {
        let reader = Reader::inline(name, &sample.reference).expects(&sample).holds().on(node);
        stage.start(&reader).await?;
    }
    let mut before = Vec::new();
    for name in &names {
        before.push((stage.rounds(name, 2).await?, stage.life(name).await?));
    }

    stage.plugin.roll(&stage.run).await?;
    stage.plugin.rolled_out().await?;

    for (name, (rounds, life)) in names.iter().zip(before) {
        stage.rounds(name, rounds + 3).await?;
        ensure!(stage.life(name).await? == life, "the reader {name} is another one than before");
        stage.ends(name).await?;
    }
    Ok(Verdict::Passed)
}

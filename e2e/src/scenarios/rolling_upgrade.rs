//! The DaemonSet is changed, and every node gets a new plugin.

use anyhow::{Result, ensure};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;

use super::Scenario;
use crate::pods;
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
    let mut rounds = Vec::new();
    for name in &names {
        rounds.push(stage.rounds(name, 2).await?);
    }

    stage.plugin.roll(&stage.run).await?;
    stage.plugin.rolled_out().await?;

    for (name, before) in names.iter().zip(rounds) {
        stage.rounds(name, before + 3).await?;
        let pod = stage.api::<Pod>().get(name).await?;
        ensure!(pods::restarts(&pod) == 0, "the reader was restarted: {}", pods::state(&pod));
        stage.ends(name).await?;
    }
    Ok(Verdict::Passed)
}

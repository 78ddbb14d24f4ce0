//! A tag that does not exist.

use anyhow::Result;
use futures::FutureExt as _;

use super::Scenario;
use crate::events::Reason;
use crate::reader::Reader;
use crate::registry::House;
use crate::stage::Stage;
use crate::verdict::Verdict;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "missing-tag",
    shows: "a tag that does not exist is named in an event, and the pod can be deleted",
    play: |stage| play(stage).boxed_local(),
};

async fn play(stage: &Stage) -> Result<Verdict> {
    let reference = format!("{}/samples/oras:nowhere", stage.registry.host(House::Open));
    let pod = stage.start(&Reader::inline("misled", &reference)).await?;
    stage.event(&pod, Reason::NotFound, &["samples/oras:nowhere"]).await?;
    stage.ends("misled").await?;
    Ok(Verdict::Passed)
}

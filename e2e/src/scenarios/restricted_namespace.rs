//! A namespace in which the restricted Pod Security standard is enforced.

use anyhow::Result;
use futures::FutureExt as _;

use super::Scenario;
use crate::reader::Reader;
use crate::stage::Stage;
use crate::verdict::Verdict;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "restricted-namespace",
    shows: "a namespace that enforces the restricted Pod Security standard lets pods use inline volumes",
    play: |stage| play(stage).boxed_local(),
};

async fn play(stage: &Stage) -> Result<Verdict> {
    let sample = stage.sample("samples/restricted")?;
    let there = Stage { namespace: stage.restricted.clone(), ..stage.clone() };
    there.reads(&Reader::inline("restricted", &sample.reference).expects(&sample)).await?;
    there.ends("restricted").await?;
    Ok(Verdict::Passed)
}

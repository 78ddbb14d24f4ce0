//! Root in a container that tries to write.

use anyhow::Result;
use futures::FutureExt as _;

use super::Scenario;
use crate::reader::Reader;
use crate::stage::Stage;
use crate::verdict::Verdict;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "read-only",
    shows: "root in a container cannot change a volume, with readOnly in the pod and without, and the bytes stay",
    play: |stage| play(stage).boxed_local(),
};

async fn play(stage: &Stage) -> Result<Verdict> {
    let sample = stage.sample("samples/read-only")?;
    let node = stage.node().await?;
    let reader = |name: &str| Reader::inline(name, &sample.reference).expects(&sample).on(&node);
    stage.reads(&reader("says-read-only").fails_to_write_as_root()).await?;
    stage.reads(&reader("says-nothing").fails_to_write_as_root().without_read_only()).await?;
    // Whoever comes next on this node finds the same bytes.
    stage.reads(&reader("comes-after")).await?;
    Ok(Verdict::Passed)
}

//! An inline volume of an ORAS artifact, and one of a `ModelPack` artifact.

use anyhow::Result;
use futures::FutureExt as _;

use super::Scenario;
use crate::events::Reason;
use crate::reader::Reader;
use crate::stage::Stage;
use crate::verdict::Verdict;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "inline-volume",
    shows: "inline volumes of an ORAS and a ModelPack artifact hold exactly their files, and an event names the digest",
    play: |stage| play(stage).boxed_local(),
};

async fn play(stage: &Stage) -> Result<Verdict> {
    for (name, repository) in [("oras", "samples/oras"), ("modelpack", "samples/modelpack")] {
        let sample = stage.sample(repository)?;
        let pod = stage.reads(&Reader::inline(name, &sample.reference).expects(&sample)).await?;
        stage.event(&pod, Reason::Mounted, &[&sample.digest]).await?;
        stage.ends(name).await?;
    }
    Ok(Verdict::Passed)
}

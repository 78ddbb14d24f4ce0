//! A private registry, with the pod's own pull secret.

use anyhow::Result;
use futures::FutureExt as _;

use super::Scenario;
use crate::reader::Reader;
use crate::registry::{PASSWORD, USER};
use crate::stage::Stage;
use crate::verdict::Verdict;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "pull-secret",
    shows: "an artifact in a private registry is mounted with the pull secret that the volume names",
    play: |stage| play(stage).boxed_local(),
};

async fn play(stage: &Stage) -> Result<Verdict> {
    let sample = stage.sample("samples/pull-secret")?;
    stage.secret("right", USER, PASSWORD).await?;
    stage.reads(&Reader::inline("with-secret", &sample.reference).secret("right").expects(&sample)).await?;
    Ok(Verdict::Passed)
}

//! Wrong credentials, and none, also for what the node has already.

use anyhow::Result;
use futures::FutureExt as _;

use super::Scenario;
use crate::events::Reason;
use crate::reader::Reader;
use crate::registry::{PASSWORD, USER};
use crate::stage::Stage;
use crate::verdict::Verdict;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "wrong-secret",
    shows: "a wrong secret and a missing one are refused with an event, although the node has the artifact cached",
    play: |stage| play(stage).boxed_local(),
};

async fn play(stage: &Stage) -> Result<Verdict> {
    let sample = stage.sample("samples/wrong-secret")?;
    let node = stage.node().await?;
    stage.secret("right", USER, PASSWORD).await?;
    stage.secret("wrong", USER, "guessed").await?;
    let reader = |name: &str| Reader::inline(name, &sample.reference).expects(&sample).on(&node);

    stage.reads(&reader("allowed").secret("right")).await?;
    for refused in [reader("guesses").secret("wrong"), reader("has-none")] {
        let pod = stage.start(&refused).await?;
        stage.event(&pod, Reason::AccessDenied, &["samples/wrong-secret"]).await?;
        // Not only the first time: kubelet asks again and again.
        stage.stays_refused(&pod, Reason::AccessDenied, &["samples/wrong-secret"]).await?;
        stage.ends(refused.name()).await?;
    }
    Ok(Verdict::Passed)
}

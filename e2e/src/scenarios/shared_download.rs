//! Two pods on one node that want the same artifact at the same time.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;

use super::Scenario;
use crate::events::{self, Reason};
use crate::reader::Reader;
use crate::stage::Stage;
use crate::verdict::Verdict;
use crate::wait::{Look, Wait};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "shared-download",
    shows: "two pods of one node share one download: the registry sends each byte once",
    play: |stage| play(stage).boxed_local(),
};

/// For 256 MiB from the slow registry.
const LIMIT: Duration = Duration::from_mins(6);

async fn play(stage: &Stage) -> Result<Verdict> {
    let sample = stage.sample("samples/shared")?;
    let node = stage.node().await?;
    let readers =
        ["first", "second"].map(|name| Reader::inline(name, &sample.reference).expects(&sample).on(&node));
    let [first, second] = &readers;
    let pods = [stage.start(first).await?, stage.start(second).await?];
    overlap(stage, &pods).await?;
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

/// Waits until both pods wait for the download and neither has its volume: else there was nothing to share.
async fn overlap(stage: &Stage, pods: &[Pod]) -> Result<()> {
    Wait::new("the download runs for both pods", LIMIT)
        .until(async || {
            let mut pulling = 0;
            for pod in pods {
                let events = stage.events(pod).await?;
                if let Some(why) = events::fatal(&events, None) {
                    return Ok(Look::Never(why));
                }
                if events::matching(&events, Reason::Mounted, &[]).is_some() {
                    return Ok(Look::Never("one pod had its volume before the other waited for it".into()));
                }
                pulling += usize::from(events::matching(&events, Reason::Pulling, &[]).is_some());
            }
            let all = pulling == pods.len();
            Ok(if all { Look::Found(()) } else { Look::NotYet(format!("it runs for {pulling}")) })
        })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api_server::{ApiServer, list};
    use crate::stage::tests::stage;

    fn event(reason: &str) -> Value {
        json!({
            "metadata": { "name": "e" }, "involvedObject": {}, "source": { "component": "stowage" },
            "reason": reason, "message": "a:v1",
        })
    }

    #[tokio::test(start_paused = true)]
    async fn two_pods_share_a_download_only_while_both_wait_for_it() {
        for (second, holds) in [("ArtifactPulling", true), ("ArtifactMounted", false)] {
            let server = ApiServer::new();
            let stage = stage(&server);
            let pod: Pod =
                serde_json::from_value(json!({ "metadata": { "name": "p", "uid": "u" } })).unwrap();
            let pods = [pod.clone(), pod];
            let (overlapped, ()) = tokio::join!(overlap(&stage, &pods), async {
                let pulling = event("ArtifactPulling");
                for events in [vec![pulling.clone()], vec![], vec![pulling], vec![event(second)]] {
                    let call = server.expect("GET", "/api/v1/namespaces/ns/events").await;
                    call.answer(200, &list("EventList", &events));
                }
            });
            assert_eq!(overlapped.is_ok(), holds, "{overlapped:?}");
            server.nothing_more();
        }
    }
}

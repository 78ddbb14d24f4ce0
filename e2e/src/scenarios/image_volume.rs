//! A container image as an `image` volume of Kubernetes, and as a volume of Stowage: the same files.

use std::time::Duration;

use anyhow::Result;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Event, Pod};

use super::Scenario;
use crate::events::{self, Reason};
use crate::reader::Reader;
use crate::stage::Stage;
use crate::verdict::Verdict;
use crate::wait::{Look, Wait};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "image-volume",
    shows: "a container image has the same files as an image volume of Kubernetes and as a volume of Stowage",
    play: |stage| play(stage).boxed_local(),
};

const LIMIT: Duration = Duration::from_mins(3);
/// The first version in which the field is more than an alpha.
const SINCE: (u32, u32) = (1, 33);

async fn play(stage: &Stage) -> Result<Verdict> {
    let sample = stage.sample("samples/image")?;
    let ours = Reader::inline("ours", &sample.reference).expects(&sample);
    let pod = stage.start(&ours).await?;
    if let Some(why) = unless(stage, &pod, reason_of_kernel).await? {
        return Ok(Verdict::Skipped(why));
    }
    if stage.version < SINCE {
        return Ok(Verdict::Skipped(format!(
            "Kubernetes {}.{} has no image volumes",
            stage.version.0, stage.version.1
        )));
    }
    let theirs = stage.start(&Reader::image("theirs", &sample.reference).expects(&sample)).await?;
    if !has_image_volume(&theirs) {
        return Ok(Verdict::Skipped("the feature gate ImageVolume is off in this cluster".into()));
    }
    let why = unless(stage, &theirs, reason_of_runtime).await?;
    Ok(why.map_or(Verdict::Passed, Verdict::Skipped))
}

/// Waits until the reader has read its volume; ends with a reason not to, as soon as an event is one.
async fn unless(
    stage: &Stage,
    pod: &Pod,
    reason: impl Fn(&[Event]) -> Option<String>,
) -> Result<Option<String>> {
    let pods = stage.api::<Pod>();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let read = Wait::new(format!("the reader {name} has read the whole image"), LIMIT)
        .until(async || {
            if let Some(why) = reason(&stage.events(pod).await?) {
                return Ok(Look::Found(Some(why)));
            }
            let now = pods.get(name).await?;
            Ok(match stage.explained(&now, crate::pods::succeeded(&now)).await? {
                Look::Found(()) => Look::Found(None),
                Look::NotYet(seen) => Look::NotYet(seen),
                Look::Never(why) => Look::Never(why),
            })
        })
        .await?;
    Ok(read)
}

/// What we say where the node's kernel cannot mount the files of a tar.
fn reason_of_kernel(events: &[Event]) -> Option<String> {
    events::matching(events, Reason::Rejected, &["EROFS"]).and_then(|event| event.message.clone())
}

/// An API server whose gate is off drops the field.
fn has_image_volume(pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes.into_iter().flatten().any(|volume| volume.image.is_some())
}

/// What container runtimes say that mean "not here", not "broken": they do not speak plain http to our registry, or know
/// no image volumes.
fn reason_of_runtime(events: &[Event]) -> Option<String> {
    let here = |message: &str| {
        let unknown = message.contains("image volume")
            && ["not supported", "unsupported"].iter().any(|word| message.contains(word));
        let words = ["server gave HTTP response to HTTPS client", "failed to mkdir \"\""];
        unknown || words.iter().any(|word| message.contains(word))
    };
    let message = events.iter().filter_map(|event| event.message.as_deref()).find(|message| here(message))?;
    Some(format!("the container runtime cannot: {message}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api_server::{ApiServer, list};
    use crate::stage::tests::stage;

    #[test]
    fn a_pod_whose_image_volume_was_dropped_is_recognised() {
        let with =
            |volume| serde_json::from_value(json!({ "spec": { "containers": [], "volumes": [volume] } }));
        let kept: Pod = with(json!({ "name": "v", "image": { "reference": "a" } })).unwrap();
        let dropped: Pod = with(json!({ "name": "v" })).unwrap();
        assert!(has_image_volume(&kept) && !has_image_volume(&dropped));
    }

    fn event(message: &str) -> Event {
        let event = json!({ "metadata": {}, "involvedObject": {}, "message": message });
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn only_what_the_runtime_cannot_do_is_skipped() {
        let https = "failed to pull image: http: server gave HTTP response to HTTPS client";
        let mkdir = "failed to generate spec: failed to mkdir \"\": mkdir : no such file or directory";
        for cannot in [https, mkdir, "image volumes are not supported by this runtime"] {
            assert!(reason_of_runtime(&[event("Scheduled"), event(cannot)]).unwrap().contains(cannot));
        }
        for broken in ["other bytes", "failed to pull and unpack image: not found", "image volume: EIO"] {
            assert_eq!(reason_of_runtime(&[event(broken)]), None, "{broken}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_at_the_event_that_says_why_not() {
        let server = ApiServer::new();
        let stage = stage(&server);
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "p", "uid": "u" } })).unwrap();
        let (why, ()) = tokio::join!(unless(&stage, &pod, reason_of_runtime), async {
            let events = list(
                "EventList",
                &[json!({
                    "metadata": { "name": "e" }, "involvedObject": {},
                    "message": "server gave HTTP response to HTTPS client",
                })],
            );
            server.expect("GET", "/api/v1/namespaces/ns/events").await.answer(200, &events);
        });
        assert!(why.unwrap().unwrap().contains("HTTPS client"));
        server.nothing_more();
    }
}

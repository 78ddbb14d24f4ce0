//! A container image as an `image` volume of Kubernetes, and as a volume of Stowage: the same files.

use std::time::Duration;

use anyhow::Result;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;

use super::Scenario;
use crate::events::{self, Reason};
use crate::reader::Reader;
use crate::stage::Stage;
use crate::verdict::Verdict;
use crate::wait::{GaveUp, Look, Wait};

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
    if let Some(why) = refused(stage, &pod).await? {
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
    match stage.succeeds("theirs", LIMIT).await {
        Ok(()) => Ok(Verdict::Passed),
        Err(error) => match unsupported(stage, &theirs, &error).await? {
            Some(why) => Ok(Verdict::Skipped(why)),
            None => Err(error),
        },
    }
}

/// Waits for our own volume; says so where the nodes' kernels cannot mount the files of a tar.
async fn refused(stage: &Stage, pod: &Pod) -> Result<Option<String>> {
    let pods = stage.api::<Pod>();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let waited = Wait::new("the image is read through Stowage", LIMIT)
        .until(async || {
            let events = stage.events(pod).await?;
            if let Some(event) = events::matching(&events, Reason::Rejected, &["EROFS"]) {
                return Ok(Look::Found(event.message.clone()));
            }
            Ok(match crate::pods::succeeded(&pods.get(name).await?) {
                Look::Found(()) => Look::Found(None),
                Look::NotYet(seen) => Look::NotYet(seen),
                Look::Never(why) => Look::Never(why),
            })
        })
        .await?;
    Ok(waited)
}

/// An API server whose gate is off drops the field.
fn has_image_volume(pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes.into_iter().flatten().any(|volume| volume.image.is_some())
}

/// Why the runtime could not even fetch the image: it has no image volumes, or does not speak plain http to our registry.
async fn unsupported(stage: &Stage, pod: &Pod, error: &anyhow::Error) -> Result<Option<String>> {
    if error.downcast_ref::<GaveUp>().is_none_or(|gave_up| gave_up.hopeless) {
        return Ok(None);
    }
    let events = stage.events(pod).await?;
    Ok(events.iter().filter_map(|event| event.message.as_deref()).find_map(reason_of_runtime))
}

/// The words of container runtimes that mean "not here", not "broken".
fn reason_of_runtime(message: &str) -> Option<String> {
    let words =
        ["server gave HTTP response to HTTPS client", "image volume", "failed to pull and unpack image"];
    words
        .iter()
        .any(|word| message.contains(word))
        .then(|| format!("the container runtime cannot: {message}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_whose_image_volume_was_dropped_is_recognised() {
        let with =
            |volume| serde_json::from_value(json!({ "spec": { "containers": [], "volumes": [volume] } }));
        let kept: Pod = with(json!({ "name": "v", "image": { "reference": "a" } })).unwrap();
        let dropped: Pod = with(json!({ "name": "v" })).unwrap();
        assert!(has_image_volume(&kept) && !has_image_volume(&dropped));
    }

    #[test]
    fn only_what_the_runtime_cannot_do_is_skipped() {
        let https = "failed to pull image: http: server gave HTTP response to HTTPS client";
        assert!(reason_of_runtime(https).unwrap().contains(https));
        assert_eq!(reason_of_runtime("other bytes"), None);
    }
}

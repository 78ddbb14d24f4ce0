//! A `CachedArtifact`, on all nodes before any pod asks.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt as _;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::Scenario;
use crate::artifacts;
use crate::controller::Controller;
use crate::labels;
use crate::reader::Reader;
use crate::registry::Sample;
use crate::stage::Stage;
use crate::verdict::Verdict;
use crate::wait::{Look, Wait};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "cached-artifact",
    shows: "a CachedArtifact reports every node as ready, and pods of each node then mount without the registry",
    play: |stage| play(stage).boxed_local(),
};

const LIMIT: Duration = Duration::from_mins(5);

async fn play(stage: &Stage) -> Result<Verdict> {
    if artifacts::definition(&stage.client).await?.is_none() {
        return Ok(Verdict::Skipped("this cluster has no CachedArtifacts".into()));
    }
    if !Controller::find(&stage.client, &stage.driver).await?.prefetches {
        return Ok(Verdict::Skipped("no controller that prefetches runs in this cluster".into()));
    }
    let sample = stage.sample("samples/cached-artifact")?;
    let (artifacts, name) = (artifacts::api(&stage.client, &stage.namespace), stage.name("prefetched"));
    let mut manifest = manifest(&name, &sample.reference);
    labels::mark(&mut manifest, &stage.run, stage.scenario);
    artifacts.create(&PostParams::default(), &serde_json::from_value(manifest)?).await?;

    let nodes = stage.nodes().await?;
    Wait::new(format!("the CachedArtifact is ready on {} nodes", nodes.len()), LIMIT)
        .until(async || Ok(cached(&artifacts.get(&name).await?.data, &sample, nodes.len())))
        .await?;

    let large = sample.largest()?;
    let before = stage.registry.bytes_served("samples/cached-artifact", &large.digest).await?;
    // By the digest, which the nodes have; and by the tag, which the registry confirmed to them.
    for (way, reference) in [("digest", sample.pinned()), ("tag", sample.reference.clone())] {
        for (index, node) in nodes.iter().enumerate() {
            let reader =
                Reader::inline(&format!("by-{way}-{index}"), &reference).attribute("pullPolicy", "Never");
            let read = stage.reads(&reader.expects(&sample).on(node)).await;
            read.with_context(|| format!("a reader by {way} on the node {node}"))?;
        }
    }
    let after = stage.registry.bytes_served("samples/cached-artifact", &large.digest).await?;
    ensure!(
        before == after,
        "the registry sent {} bytes again, although the nodes had them",
        after.abs_diff(before)
    );

    artifacts.delete(&name, &DeleteParams::default()).await?;
    Wait::new("the CachedArtifact is gone", LIMIT)
        .until(async || {
            let there = artifacts.get_opt(&name).await?;
            Ok(there.map_or(Look::Found(()), |_| Look::NotYet("it is there".into())))
        })
        .await?;
    Ok(Verdict::Passed)
}

fn manifest(name: &str, reference: &str) -> Value {
    json!({
        "apiVersion": "stowage.dev/v1alpha1", "kind": "CachedArtifact",
        "metadata": { "name": name },
        "spec": {
            "volumeAttributes": { "reference": reference },
            "tolerations": [{ "operator": "Exists" }],
        },
    })
}

/// How far an object with this `status` is.
fn cached(object: &Value, sample: &Sample, nodes: usize) -> Look<()> {
    let status = &object["status"];
    let condition = |name: &str| {
        let all = status["conditions"].as_array();
        all.into_iter().flatten().find(|condition| condition["type"] == name).cloned().unwrap_or(Value::Null)
    };
    let count = |key: &str| status["nodes"][key].as_u64().unwrap_or(0);
    let digest = status["resolvedDigest"].as_str().unwrap_or_default();
    if !digest.is_empty() && digest != sample.digest {
        return Look::Never(format!("it resolved to {digest}, not to {}", sample.digest));
    }
    let ready = count("ready") == nodes as u64 && count("desired") == nodes as u64;
    if ready && condition("Cached")["status"] == "True" && digest == sample.digest {
        return Look::Found(());
    }
    Look::NotYet(format!(
        "{} of {} nodes are ready, {} failed; Resolved: {}; Cached: {}; failures: {}",
        count("ready"),
        count("desired"),
        count("failed"),
        condition("Resolved")["message"],
        condition("Cached")["message"],
        status["failures"],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        Sample { reference: "h/a:v1".into(), digest: "sha256:a".into(), files: Vec::new() }
    }

    fn object(digest: &str, ready: u64, cached: &str) -> Value {
        json!({ "status": {
            "resolvedDigest": digest,
            "nodes": { "desired": 2, "updated": 2, "ready": ready, "failed": 0 },
            "conditions": [
                { "type": "Resolved", "status": "True", "message": "sha256:a" },
                { "type": "Cached", "status": cached, "message": "1 of 2" },
            ],
        }})
    }

    #[test]
    fn it_counts_when_all_nodes_are_ready_with_the_digest_of_the_tag() {
        assert!(matches!(cached(&object("sha256:a", 2, "True"), &sample(), 2), Look::Found(())));
        for early in [object("sha256:a", 1, "False"), object("", 2, "True"), object("sha256:a", 2, "False")] {
            assert!(matches!(cached(&early, &sample(), 2), Look::NotYet(_)), "{early}");
        }
        assert!(matches!(cached(&object("sha256:a", 2, "True"), &sample(), 3), Look::NotYet(_)));
        assert!(matches!(cached(&object("sha256:b", 2, "True"), &sample(), 2), Look::Never(_)));
        let Look::NotYet(seen) = cached(&json!({}), &sample(), 2) else { panic!() };
        assert!(seen.starts_with("0 of 0 nodes are ready"), "{seen}");
    }
}

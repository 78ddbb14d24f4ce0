//! A PersistentVolume that somebody wrote, and two pods that share its claim.

use anyhow::Result;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::{Value, json};

use super::Scenario;
use crate::reader::Reader;
use crate::stage::Stage;
use crate::verdict::Verdict;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "static-pv",
    shows: "a PersistentVolume written by hand is bound to its claim and read by two pods at once",
    play: |stage| play(stage).boxed_local(),
};

async fn play(stage: &Stage) -> Result<Verdict> {
    let sample = stage.sample("samples/static-pv")?;
    // Volumes belong to the cluster: another run must not meet this one's.
    let name = stage.global_name("volume");
    stage.make_global::<PersistentVolume>(volume(&name, &stage.driver, &sample.reference)).await?;
    stage.make::<PersistentVolumeClaim>(claim(&stage.name("claim"), &name)).await?;
    let node = stage.node().await?;
    for reader in ["one", "two"] {
        stage.start(&Reader::claim(reader, "claim").expects(&sample).holds().on(&node)).await?;
    }
    stage.rounds("one", 1).await?;
    stage.rounds("two", 1).await?;
    stage.ends("one").await?;
    // The other target of the same volume is left alone.
    let rounds = stage.rounds("two", 1).await?;
    stage.rounds("two", rounds + 2).await?;
    stage.ends("two").await?;
    Ok(Verdict::Passed)
}

fn volume(name: &str, driver: &str, reference: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": { "name": name },
        "spec": {
            "capacity": { "storage": "1Gi" },
            "accessModes": ["ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "csi": {
                "driver": driver,
                "volumeHandle": name,
                "readOnly": true,
                "volumeAttributes": { "reference": reference },
            },
        },
    })
}

fn claim(name: &str, volume: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": name },
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "volumeName": volume,
            "resources": { "requests": { "storage": "1Gi" } },
        },
    })
}

//! A claim of a StorageClass, from the call for a volume to its removal.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use super::Scenario;
use crate::controller::Controller;
use crate::reader::Reader;
use crate::stage::Stage;
use crate::verdict::Verdict;
use crate::wait::{Look, Wait};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "storage-class",
    shows: "a claim of a StorageClass gets a volume pinned to the tag's digest, is read, and goes when it is deleted",
    play: |stage| play(stage).boxed_local(),
};

const LIMIT: Duration = Duration::from_mins(3);

async fn play(stage: &Stage) -> Result<Verdict> {
    if !Controller::find(&stage.client, &stage.driver).await?.provisions {
        return Ok(Verdict::Skipped("no controller with a provisioner runs in this cluster".into()));
    }
    let sample = stage.sample("samples/storage-class")?;
    let class = stage.global_name("class");
    let claim = stage.name("claimed");
    stage
        .make_global::<StorageClass>(json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": { "name": class },
            "provisioner": stage.driver,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate",
            "parameters": { "reference": sample.reference },
        }))
        .await?;
    stage
        .make::<PersistentVolumeClaim>(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": claim },
            "spec": {
                "accessModes": ["ReadOnlyMany"],
                "storageClassName": class,
                "resources": { "requests": { "storage": "1Mi" } },
            },
        }))
        .await?;
    let volume = bound(stage, &claim).await?;
    pinned(stage, &volume, &sample.digest).await?;

    stage.reads(&Reader::claim("reader", "claimed").expects(&sample)).await?;
    stage.ends("reader").await?;
    let claims = stage.api::<PersistentVolumeClaim>();
    claims.delete(&claim, &DeleteParams::default()).await.context("cannot delete the claim")?;
    let volumes = Api::<PersistentVolume>::all(stage.client.clone());
    Wait::new(format!("the volume {volume} is gone"), LIMIT)
        .until(async || {
            let there = volumes.get_opt(&volume).await?;
            let phase = |volume: PersistentVolume| volume.status.and_then(|status| status.phase);
            Ok(match there {
                None => Look::Found(()),
                Some(volume) => Look::NotYet(format!("it is {}", phase(volume).unwrap_or_default())),
            })
        })
        .await?;
    Ok(Verdict::Passed)
}

/// The name of the volume that the claim is bound to.
async fn bound(stage: &Stage, claim: &str) -> Result<String> {
    let claims = stage.api::<PersistentVolumeClaim>();
    let volume = Wait::new(format!("the claim {claim} is bound"), LIMIT)
        .until(async || {
            let claim = claims.get(claim).await?;
            let phase = claim.status.and_then(|status| status.phase).unwrap_or_default();
            let volume = claim.spec.and_then(|spec| spec.volume_name).unwrap_or_default();
            Ok(match phase.as_str() {
                "Bound" => Look::Found(volume),
                _ => Look::NotYet(format!("it is {phase}")),
            })
        })
        .await?;
    Ok(volume)
}

/// The volume names the digest, so that it stays the same when the tag moves.
async fn pinned(stage: &Stage, volume: &str, digest: &str) -> Result<()> {
    let volumes = Api::<PersistentVolume>::all(stage.client.clone());
    let csi =
        volumes.get(volume).await?.spec.and_then(|spec| spec.csi).context("the volume is not of CSI")?;
    let reference = csi.volume_attributes.and_then(|mut all| all.remove("reference")).unwrap_or_default();
    ensure!(
        reference.ends_with(&format!("@{digest}")),
        "the volume {volume} has the reference {reference}, which does not end in @{digest}"
    );
    Ok(())
}

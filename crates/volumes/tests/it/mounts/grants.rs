//! Every way that a principal might get bytes without having shown access to them.

use stowage_artifact::Digest;
use stowage_testkit::artifacts::{Artifact, ArtifactBuilder};
use stowage_testkit::registry::Access as Right;
use stowage_testkit::{BlobData, Fault, Layer, Registry, Target};
use stowage_volumes::{Meaning, PublishError};

use crate::bench::{Bench, by, model, registry, scene};

/// More than what is read whole as a proof.
const LARGE: u64 = 2 << 20;

fn file_of(artifact: &Artifact) -> Digest {
    artifact.blobs().last().unwrap().0.clone()
}

/// A manifest that lists a blob which its author does not have.
fn listing(stranger: &Digest, size: u64, layer: impl FnOnce(Layer) -> Layer) -> Artifact {
    let claimed = Layer::titled("stolen.bin", BlobData::generated(666, 1))
        .declare_digest(stranger.clone())
        .declare_size(size);
    ArtifactBuilder::new().layer(layer(claimed)).build().unwrap()
}

fn meaning<T>(answer: Result<T, PublishError>) -> Meaning {
    answer.map(drop).unwrap_err().meaning()
}

#[test]
fn a_size_that_lies_proves_nothing() {
    scene(async |root| {
        let (good, evil) = (registry().await, registry().await);
        let bench = Bench::new(root);
        let private = model(1, LARGE);
        good.push("private/model", Some("v1"), &private);
        let reference = good.reference("private/model", "v1");
        bench.volumes.publish(bench.request("owner", &reference)).await.unwrap();

        // Nothing or one guessed byte would have to be shown, were the declared size believed.
        let first = private.blobs().last().unwrap().1.read_range(0..1).unwrap();
        for (tag, size) in [("empty", 0), ("one", 1)] {
            let lie = listing(&file_of(&private), size, |layer| layer);
            evil.push("x", Some(tag), &lie);
            evil.put_blob("x", &file_of(&private), BlobData::from(first.slice(..size as usize)));
            let name = format!("thief-{tag}");
            let error =
                bench.volumes.publish(bench.request(&name, &evil.reference("x", tag))).await.unwrap_err();
            assert_eq!(error.meaning(), Meaning::DataLoss, "{error}");
            assert!(!bench.has_record(&name) && !bench.is_mounted(&name));
        }
        // And nothing was gained for a manifest with the right size.
        let truth = listing(&file_of(&private), LARGE, Layer::absent);
        evil.push("x", Some("truth"), &truth);
        evil.delete_blob("x", &file_of(&private));
        evil.faults().always(Target::Blobs, Fault::YesToHead(LARGE));
        let answer = bench.volumes.publish(bench.request("thief", &evil.reference("x", "truth"))).await;
        assert_eq!(meaning(answer), Meaning::Denied);
    });
}

/// Two tenants on one registry host, each with a repository of its own.
async fn shared_registry() -> Registry {
    Registry::builder()
        .basic("admin", "admin-password")
        .user_of("owner", "owner-password", &[("private/model", Right::Pull)])
        .user_of("friend", "friend-password", &[("private/model", Right::Pull)])
        .user_of("thief", "thief-password", &[("thief/model", Right::Push)])
        .start()
        .await
        .unwrap()
}

#[test]
fn a_host_that_delivered_the_bytes_and_says_404_is_believed_too() {
    scene(async |root| {
        let registry = shared_registry().await;
        let bench = Bench::new(root);
        let private = model(1, LARGE);
        registry.push("private/model", Some("v1"), &private);
        registry.push("thief/model", Some("v1"), &listing(&file_of(&private), LARGE, Layer::absent));
        let reference = registry.reference("private/model", "v1");
        bench.volumes.publish(by("owner", bench.request("owner", &reference))).await.unwrap();

        let stolen = registry.reference("thief/model", "v1");
        for name in ["thief-1", "thief-2"] {
            let answer = bench.volumes.publish(by("thief", bench.request(name, &stolen))).await;
            assert_eq!(meaning(answer), Meaning::Denied);
            assert!(!bench.has_record(name) && !bench.is_mounted(name));
        }
        // The other side of the same coin: a HEAD is all that whoever has access needs.
        let served = registry.bytes_served(&file_of(&private));
        bench.volumes.publish(by("friend", bench.request("friend", &reference))).await.unwrap();
        assert_eq!(registry.bytes_served(&file_of(&private)), served);
    });
}

#[test]
fn a_tag_or_a_digest_that_somebody_else_resolved_opens_nothing() {
    scene(async |root| {
        let registry = shared_registry().await;
        let bench = Bench::new(root);
        let private = model(1, 1000);
        let digest = registry.push("private/model", Some("v1"), &private);
        let reference = registry.reference("private/model", "v1");
        bench.volumes.publish(by("owner", bench.request("owner", &reference))).await.unwrap();
        for (name, reference) in
            [("by-tag", reference), ("by-digest", registry.pinned("private/model", &digest))]
        {
            let denied = bench.volumes.publish(by("thief", bench.request(name, &reference))).await;
            assert_eq!(meaning(denied), Meaning::Denied);
            let anonymous = bench.volumes.publish(bench.request(name, &reference)).await;
            assert_eq!(meaning(anonymous), Meaning::Unauthenticated);
            let mut never = by("thief", bench.request(name, &reference));
            never.attributes.pull_policy = stowage_artifact::PullPolicy::Never;
            assert_eq!(meaning(bench.volumes.publish(never).await), Meaning::Denied);
            assert!(!bench.has_record(name));
        }
        let mut never = by("owner", bench.request("again", &registry.pinned("private/model", &digest)));
        never.attributes.pull_policy = stowage_artifact::PullPolicy::Never;
        bench.volumes.publish(never).await.unwrap();
    });
}

#[test]
fn access_to_some_layers_is_no_access_to_all_of_them() {
    scene(async |root| {
        let (good, evil) = (registry().await, registry().await);
        let bench = Bench::new(root);
        let private = model(1, LARGE);
        good.push("private/model", Some("v1"), &private);
        let reference = good.reference("private/model", "v1");
        bench.volumes.publish(bench.request("owner", &reference)).await.unwrap();

        let own = Layer::titled("own.bin", BlobData::generated(2, 100));
        let stolen = Layer::titled("stolen.bin", BlobData::generated(666, 1))
            .declare_digest(file_of(&private))
            .declare_size(LARGE)
            .absent();
        let mixed = ArtifactBuilder::new().layer(own).layer(stolen).build().unwrap();
        evil.push("x", Some("v1"), &mixed);
        let reference = evil.reference("x", "v1");
        // Without the stranger's layer it is the tenant's own, and can be had.
        for (name, include) in [("include", true), ("exclude", false)] {
            let mut part = bench.request(name, &reference);
            let (globs, glob) = if include {
                (&mut part.attributes.include, "own.bin")
            } else {
                (&mut part.attributes.exclude, "stolen.bin")
            };
            globs.push(glob.parse().unwrap());
            bench.volumes.publish(part).await.unwrap();
        }
        assert_eq!(meaning(bench.volumes.publish(bench.request("all", &reference)).await), Meaning::Denied);
    });
}

#[test]
fn a_wrong_secret_gains_nothing_from_a_download_that_another_pays_for() {
    scene(async |root| {
        let registry = shared_registry().await;
        let bench = Bench::new(root);
        let private = model(1, LARGE);
        registry.push("private/model", Some("v1"), &private);
        registry.push("thief/model", Some("v1"), &listing(&file_of(&private), LARGE, Layer::absent));
        let reference = registry.reference("private/model", "v1");
        let stall = registry.faults().always(
            Target::Repository("private/model".to_owned()),
            Fault::Stall(stowage_testkit::registry::At::Blob(LARGE / 2)),
        );
        let owner = tokio::spawn({
            let (volumes, request) = (bench.volumes.clone(), by("owner", bench.request("owner", &reference)));
            async move { volumes.publish(request).await }
        });
        crate::bench::until("the download stalls", || registry.faults().stalled() > 0).await;
        let thief = tokio::spawn({
            let stolen = registry.reference("thief/model", "v1");
            let (volumes, request) = (bench.volumes.clone(), by("thief", bench.request("thief", &stolen)));
            async move { volumes.publish(request).await }
        });
        crate::bench::until("the thief waits for the blob", || bench.has_record("thief")).await;
        registry.faults().remove(stall);
        registry.faults().release();
        owner.await.unwrap().unwrap();
        let error = thief.await.unwrap().unwrap_err();
        assert!(matches!(error.meaning(), Meaning::Denied | Meaning::NotFound), "{error}");
        assert!(!bench.is_mounted("thief") && !bench.has_record("thief"));
    });
}

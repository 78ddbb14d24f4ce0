//! One download, several tenants: each with a credential, or none, of its own.

use stowage_testkit::artifacts::{Layer, oras_files};
use stowage_testkit::registry::{At, Registry, RequestRecord};
use stowage_testkit::{BlobData, Fault, Target};
use tonic::Code;

use super::{
    ADA, BOB, CAROL, MIB, NOBODY, PRIVATE, PROOF, Tenant, denied, manifest, private_registry, refused, served,
};
use crate::harness::{LIMIT, digest_of, scene};
use crate::mounts::{Model, code, in_background, publication};

/// Stops the download of a model half way until it is released.
fn stall_half_way(registry: &Registry, model: &Model, size: u64) {
    registry.faults().next(1, Target::Digest(model.file.clone()), Fault::Stall(At::Blob(size / 2)));
}

#[test]
fn a_wrong_secret_beside_a_shared_download_fails_only_its_owner() {
    scene(async |scene| {
        let registry = private_registry().await;
        let size = 12 * MIB;
        let model = Model::push(&registry, PRIVATE, "v1", 1, size);
        let node = scene.node().registry(&registry).one_connection().start().await;
        stall_half_way(&registry, &model, size);
        let ada = ADA.request(&node, &registry, &model.attributes());
        let publishing = in_background(&node.plugin(), &ada);
        assert!(registry.faults().until_stalled(1, LIMIT).await);

        let wrong = Tenant { password: "wrong", ..CAROL };
        for tenant in [wrong, BOB, NOBODY] {
            let status = refused(&node, &tenant.request(&node, &registry, &model.attributes())).await;
            assert!(denied(status.code()), "{status}");
        }
        registry.faults().release();
        let volume = publishing.await.unwrap().unwrap();
        assert_eq!(digest_of(&volume.target.join("model.bin")), model.file);
        assert_eq!(registry.bytes_served(&model.file), size, "one download");
        node.plugin().unpublish(&volume).await.unwrap();
        node.nothing_left().await;
    });
}

#[test]
fn access_taken_away_in_a_shared_download_fails_only_its_owner() {
    scene(async |scene| {
        let registry = private_registry().await;
        let size = 12 * MIB;
        let model = Model::push(&registry, PRIVATE, "v1", 1, size);
        let node = scene.node().registry(&registry).one_connection().start().await;
        stall_half_way(&registry, &model, size);
        let ada = in_background(&node.plugin(), &ADA.request(&node, &registry, &model.attributes()));
        assert!(registry.faults().until_stalled(1, LIMIT).await);
        // What is still on its way when its owner leaves is fetched again.
        node.fetched(size / 2 - MIB).await;
        let carols = CAROL.request(&node, &registry, &model.attributes());
        let carol = in_background(&node.plugin(), &carols);
        joined(&registry, CAROL).await;

        // The flight has both sources; hers is the freshest, and is refused when the download goes on.
        // What the socket still held when the connection broke would be fetched again: first it is read.
        node.fetched(size / 2 - MIB).await;
        registry.remove_user(CAROL.name);
        // The stalled connection ends by this alone. Released in the same moment it would first send what it held back.
        registry.reset_connections();
        let volume = ada.await.unwrap().unwrap();
        assert_eq!(digest_of(&volume.target.join("model.bin")), model.file);
        let refused = carol.await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        assert!(!carols.target.exists());
        let sent = registry.bytes_served(&model.file);
        let blobs: Vec<_> = registry
            .traffic()
            .requests()
            .into_iter()
            .filter(|request| request.path.contains("/blobs/"))
            .collect();
        assert!(sent <= size + 2 * MIB, "{sent} bytes: one download, resumed: {blobs:#?}");
        node.plugin().unpublish(&volume).await.unwrap();
        node.nothing_left().await;
    });
}

/// Waits until a tenant has read the manifest, after which the tenant's volume waits for the blob.
async fn joined(registry: &Registry, tenant: Tenant) {
    let manifest = format!("/manifests/{}", manifest(registry));
    let read = |request: &RequestRecord| {
        tenant.asked(request)
            && request.path.ends_with(&manifest)
            && request.status == 200
            && request.sent > 0
    };
    assert!(
        registry.traffic().until(LIMIT, |traffic| traffic.count(read) > 0).await,
        "the manifest was not read"
    );
}

#[test]
fn the_owner_of_the_first_source_leaves_and_the_other_finishes_alone() {
    scene(async |scene| {
        let registry = private_registry().await;
        let size = 12 * MIB;
        let model = Model::push(&registry, PRIVATE, "v1", 1, size);
        let node = scene.node().registry(&registry).one_connection().start().await;
        stall_half_way(&registry, &model, size);
        let adas = ADA.request(&node, &registry, &model.attributes());
        let ada = in_background(&node.plugin(), &adas);
        assert!(registry.faults().until_stalled(1, LIMIT).await);
        // What is still on its way when its owner leaves is fetched again.
        node.fetched(size / 2 - MIB).await;
        let carol = in_background(&node.plugin(), &CAROL.request(&node, &registry, &model.attributes()));
        joined(&registry, CAROL).await;
        let before = registry.traffic().requests().len();

        node.plugin().unpublish(&publication(&adas)).await.unwrap();
        assert_eq!(code(ada.await.unwrap()), Code::Aborted);
        let volume = carol.await.unwrap().unwrap_or_else(|status| panic!("{status}\n{}", node.log()));
        assert_eq!(digest_of(&volume.target.join("model.bin")), model.file);
        let later = registry.traffic().requests().split_off(before);
        let blobs: Vec<_> = later.iter().filter(|request| request.path.contains("/blobs/")).collect();
        assert!(!blobs.is_empty() && blobs.iter().all(|request| CAROL.asked(request)), "{blobs:#?}");
        let sent = registry.bytes_served(&model.file);
        assert!(sent <= size + 2 * MIB + PROOF, "{sent} bytes: what had come was fetched again");
        node.plugin().unpublish(&volume).await.unwrap();
        node.nothing_left().await;
    });
}

#[test]
fn a_changed_secret_works_at_the_next_call() {
    scene(async |scene| {
        let registry = private_registry().await;
        let size = 12 * MIB;
        let model = Model::push(&registry, PRIVATE, "v1", 1, size);
        let node = scene.node().registry(&registry).start().await;
        let wrong = Tenant { password: "old", ..ADA };
        let mut request = wrong.request(&node, &registry, &model.attributes());
        for _ in 0..2 {
            assert_eq!(refused(&node, &request).await.code(), Code::Unauthenticated);
        }
        // While a call of the same volume waits with the other secret.
        request.secrets.extend(CAROL.secret(&registry));
        stall_half_way(&registry, &model, size);
        let waiting = in_background(&node.plugin(), &request);
        assert!(registry.faults().until_stalled(1, LIMIT).await);
        request.secrets.extend(ADA.secret(&registry));
        served(&node, &request, &model).await;
        assert_eq!(code(waiting.await.unwrap()), Code::Aborted);
        node.nothing_left().await;
    });
}

#[test]
fn wrong_bytes_in_a_shared_download_hurt_only_who_brought_them() {
    scene(async |scene| {
        let honest = private_registry().await;
        let evil = Registry::builder().start().await.unwrap();
        let node = scene.node().registry(&honest).registry(&evil).start().await;
        let size = 12 * MIB;
        let model = Model::push(&honest, PRIVATE, "v1", 1, size);
        stall_half_way(&honest, &model, size);
        let ada = in_background(&node.plugin(), &ADA.request(&node, &honest, &model.attributes()));
        assert!(honest.faults().until_stalled(1, LIMIT).await);

        // Bob's registry lists the same digest and has other bytes of the same size; his source is the freshest.
        let layer =
            Layer::titled("model.bin", BlobData::generated(66, size)).declare_digest(model.file.clone());
        let artifact = oras_files::<&str, &str>([]).layer(layer).build().unwrap();
        evil.push("bob/own", Some("v1"), &artifact);
        let reference = evil.reference("bob/own", "v1");
        let bobs = BOB.request(&node, &evil, &[("reference", &reference)]);
        let bob = in_background(&node.plugin(), &bobs);
        let read = |request: &RequestRecord| request.path.contains("/manifests/sha256:") && request.sent > 0;
        assert!(evil.traffic().until(LIMIT, |traffic| traffic.count(read) > 0).await);
        honest.reset_connections();
        honest.faults().release();

        let volume = ada.await.unwrap().unwrap_or_else(|status| panic!("{status}\n{}", node.log()));
        assert_eq!(digest_of(&volume.target.join("model.bin")), model.file, "a wrong byte is visible");
        let status = bob.await.unwrap().unwrap_err();
        assert!(matches!(status.code(), Code::PermissionDenied | Code::DataLoss), "{status}");
        assert!(!bobs.target.exists());
        // And he has no grant now.
        let status = node.plugin().publish(&bobs).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        node.plugin().unpublish(&volume).await.unwrap();
        node.nothing_left().await;
    });
}

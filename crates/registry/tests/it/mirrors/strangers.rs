//! `_default`: mirrors before registries that nobody vouches for, a tenant's own among them.

use stowage_registry::RegistryError;
use stowage_testkit::{Fault, Target};

use super::{LARGE, Scene, digest_of};
use crate::stage::{NAME, failure, within};

#[tokio::test]
async fn documents_and_small_blobs_come_from_the_registry_and_large_blobs_from_the_mirror() {
    let scene = Scene::new(1).await;
    scene.write_default(&scene.table(0, ""));
    let repository = scene.repository(None);
    scene.read_all(&repository).await.unwrap();
    assert_eq!(Scene::delivered(&scene.upstream), 2, "the manifest and the small blob");
    assert_eq!(Scene::delivered(&scene.mirrors[0]), 1, "the large blob");
    assert!(!repository.vouches_for(&digest_of(&scene.large)), "samples must be shown");
}

#[tokio::test]
async fn a_registry_that_lies_about_a_strangers_blob_cannot_show_it() {
    let scene = Scene::new(1).await;
    scene.write_default(&scene.table(0, ""));
    // The tenant's registry has nothing of it; the mirror goes by content, as Spegel does.
    for blob in [&scene.small, &scene.large] {
        scene.upstream.delete_blob(NAME, &digest_of(blob));
    }
    scene.upstream.delete_manifest(NAME, scene.document.as_str());
    let repository = scene.repository(None);
    let yes = scene.upstream.faults().always(Target::Everything, Fault::YesToHead(LARGE));
    let error = failure(repository.manifest_by_digest(&scene.document)).await;
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
    let error = failure(repository.small_blob(&scene.descriptor(), 1 << 20)).await;
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
    assert_eq!(Scene::gets(&scene.mirrors[0]), 0, "documents are not asked of it");

    // The bytes of a large blob reach the node, and nobody gets a grant for them.
    scene.read(&repository, 0..100).await.unwrap();
    let digest = digest_of(&scene.large);
    assert!(!repository.vouches_for(&digest));
    let error = failure(repository.read_range(&digest, 0..100)).await;
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
    assert!(scene.upstream.faults().struck(yes) > 0);
}

#[tokio::test]
async fn a_directory_of_its_own_takes_a_registry_out_of_the_default() {
    let scene = Scene::new(1).await;
    scene.write_default(&scene.table(0, ""));
    scene.write("");
    scene.read_all(&scene.repository(None)).await.unwrap();
    assert_eq!(Scene::asked(&scene.mirrors[0]), 0);
}

#[tokio::test]
async fn a_default_server_still_needs_the_registry_to_show_documents() {
    let scene = Scene::new(1).await;
    scene.write_default(&format!("server = \"{}\"", scene.mirrors[0].origin()));
    let repository = scene.repository(None);
    scene.read_all(&repository).await.unwrap();
    assert_eq!((Scene::delivered(&scene.upstream), Scene::delivered(&scene.mirrors[0])), (2, 1));
    scene.upstream.go_offline().await;
    let error = failure(scene.repository(None).manifest_by_digest(&scene.document)).await;
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
    within(repository.resolve(&scene.reference())).await.unwrap();
}

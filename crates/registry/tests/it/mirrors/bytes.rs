//! Mirrors that deliver something else.

use std::time::Duration;

use stowage_store::BlobSource as _;
use stowage_testkit::artifacts::BlobData;
use stowage_testkit::registry::At;
use stowage_testkit::{Fault, Target};

use super::{LARGE, Scene, digest_of};
use crate::stage::{NAME, drain, within};

#[tokio::test]
async fn a_manifest_with_another_digest_is_not_taken_and_its_mirror_is_left_alone() {
    let scene = Scene::new(2).await;
    scene.write_all();
    scene.mirrors[0].faults().next(1, Target::Manifests, Fault::Corrupt(At::Blob(0)));
    let repository = scene.repository(None);
    let manifest = within(repository.manifest_by_digest(&scene.document)).await.unwrap();
    assert_eq!(manifest.bytes, "{}");
    scene.read_all(&scene.repository(None)).await.unwrap();
    assert_eq!(Scene::asked(&scene.mirrors[0]), 1);
    assert_eq!(Scene::gets(&scene.upstream), 0, "the other mirror delivered");
}

#[tokio::test]
async fn a_small_blob_with_another_digest_is_not_taken() {
    let scene = Scene::new(1).await;
    scene.write_all();
    scene.mirrors[0].faults().always(Target::Blobs, Fault::Corrupt(At::Blob(7)));
    let small = within(scene.repository(None).small_blob(&scene.descriptor(), 1 << 20)).await.unwrap();
    assert!(small == scene.small.read_range(0..scene.small.size()).unwrap());
    assert_eq!((Scene::gets(&scene.mirrors[0]), Scene::gets(&scene.upstream)), (1, 1));
}

#[tokio::test]
async fn a_mirror_that_is_not_trusted_any_more_is_avoided_by_everybody() {
    let scene = Scene::new(1).await;
    scene.write_all();
    scene.mirrors[0].faults().always(Target::Blobs, Fault::Corrupt(At::Blob(7)));
    let (repository, digest) = (scene.repository(None), digest_of(&scene.large));
    let body = within(repository.read(&digest, Some(0..100))).await.unwrap();
    let mirror = body.mirror.clone().expect("a mirror delivers");
    let (bytes, end) = drain(body).await;
    assert!(end.is_ok() && bytes != scene.large.read_range(0..100).unwrap());

    repository.distrust(&digest, &mirror);
    let body = within(repository.read(&digest, Some(0..100))).await.unwrap();
    assert_eq!(body.mirror, None, "the registry itself");
    scene.read(&scene.repository(None), 0..100).await.unwrap();
    assert_eq!(Scene::gets(&scene.mirrors[0]), 1);
}

#[tokio::test]
async fn a_mirror_with_a_blob_of_another_size_is_passed_over() {
    let scene = Scene::new(1).await;
    scene.write_all();
    scene.mirrors[0].put_blob(NAME, &digest_of(&scene.large), BlobData::generated(3, LARGE + 1));
    let repository = scene.repository(None);
    scene.read(&repository, 0..100).await.unwrap();
    scene.read(&repository, 100..200).await.unwrap();
    assert_eq!((Scene::gets(&scene.mirrors[0]), Scene::delivered(&scene.upstream)), (1, 2));
}

#[tokio::test]
async fn a_mirror_without_ranges_delivers_whole_blobs() {
    let scene = Scene::new(1).await;
    scene.write_all();
    scene.mirrors[0].faults().always(Target::Blobs, Fault::IgnoreRange);
    let (repository, digest) = (scene.repository(None), digest_of(&scene.large));
    for _ in 0..2 {
        let body = within(repository.read(&digest, Some(10..20))).await.unwrap();
        assert_eq!((body.start, body.end, body.ranged), (0, Some(LARGE), false));
        let (bytes, end) = drain(body).await;
        assert!(end.is_ok() && bytes.len() as u64 == LARGE);
    }
    assert_eq!(Scene::gets(&scene.upstream), 0);
}

#[tokio::test]
async fn a_mirror_without_ranges_does_not_join_a_blob_that_comes_in_parts() {
    let mirrors = vec![stowage_testkit::Registry::builder(); 2];
    let restless = |options: &mut stowage_registry::RegistryOptions| options.mirrors.rest = Duration::ZERO;
    let scene = Scene::with(stowage_testkit::Registry::builder(), mirrors, restless).await;
    scene.write_all();
    scene.mirrors[0].faults().next(1, Target::Blobs, Fault::status(500));
    let repository = scene.repository(None);
    scene.read(&repository, 0..10).await.unwrap();
    assert_eq!(Scene::delivered(&scene.mirrors[1]), 1);
    scene.mirrors[0].faults().always(Target::Blobs, Fault::IgnoreRange);
    for part in 1..4 {
        scene.read(&repository, part * 10..part * 10 + 10).await.unwrap();
    }
    assert_eq!((Scene::gets(&scene.mirrors[0]), Scene::delivered(&scene.mirrors[1])), (2, 4));
}

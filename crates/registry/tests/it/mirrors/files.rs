//! The files are read again when they change, and a broken one does no harm.

use std::fs;

use stowage_registry::RegistryError;
use stowage_store::SourceErrorKind;

use super::{LONG, Scene};
use crate::stage::failure;

#[tokio::test]
async fn a_file_that_changes_is_read_again() {
    let scene = Scene::new(2).await;
    let repository = scene.repository(None);
    scene.read(&repository, 0..10).await.unwrap();
    assert_eq!(Scene::gets(&scene.upstream), 1, "nothing is written yet");
    for mirror in [0, 1, 0] {
        scene.write(&scene.table(mirror, ""));
        let before = Scene::gets(&scene.mirrors[mirror]);
        scene.read(&repository, 0..10).await.unwrap();
        assert_eq!(Scene::gets(&scene.mirrors[mirror]), before + 1);
    }
    let file = scene.write("");
    fs::remove_dir_all(file.parent().unwrap()).unwrap();
    scene.read(&repository, 0..10).await.unwrap();
    assert_eq!(Scene::gets(&scene.upstream), 2);
}

#[tokio::test]
async fn what_was_read_a_moment_ago_is_not_read_again() {
    let slow = |options: &mut stowage_registry::RegistryOptions| options.mirrors.check_every = LONG;
    let mirrors = vec![stowage_testkit::Registry::builder()];
    let scene = Scene::with(stowage_testkit::Registry::builder(), mirrors, slow).await;
    scene.write_all();
    let repository = scene.repository(None);
    scene.read(&repository, 0..10).await.unwrap();
    scene.write("this is broken");
    scene.read(&repository, 0..10).await.unwrap();
    assert_eq!(Scene::gets(&scene.mirrors[0]), 2);
}

#[tokio::test]
async fn a_file_that_breaks_leaves_the_last_good_one_in_use() {
    let scene = Scene::new(2).await;
    scene.write(&scene.table(0, ""));
    let repository = scene.repository(None);
    scene.read(&repository, 0..10).await.unwrap();
    let broken = ["[host", "capabilities = [\"pul\"]", "ca = \"missing.crt\"", "[host.\"ftp://x\"]"];
    for (count, text) in broken.into_iter().enumerate() {
        scene.write(text);
        scene.read(&repository, 0..10).await.unwrap();
        assert_eq!(Scene::gets(&scene.mirrors[0]), count + 2, "{text}");
    }
    scene.write(&scene.table(1, ""));
    scene.read(&repository, 0..10).await.unwrap();
    assert_eq!(Scene::gets(&scene.mirrors[1]), 1, "corrected");
    assert_eq!(Scene::gets(&scene.upstream), 0);
}

#[tokio::test]
async fn a_file_that_was_never_good_stops_its_registry_and_says_where_and_why() {
    let scene = Scene::new(1).await;
    let file = scene.write("\n[host.\"https://mirror.example\"]\ncapabilities = \"all\"\n");
    let repository = scene.repository(None);
    let errors = [
        failure(repository.resolve(&scene.reference())).await,
        failure(repository.manifest(&scene.reference())).await,
        failure(repository.small_blob(&scene.descriptor(), 1 << 20)).await,
        failure(repository.head_blob(&scene.document)).await,
    ];
    for error in errors {
        assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
        let shown = error.to_string();
        assert!(shown.contains(file.to_str().unwrap()) && shown.contains("line 3"), "{shown}");
        assert!(shown.contains("`all`") && shown.contains("correct it"), "{shown}");
    }
    let error = scene.read(&repository, 0..10).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
    assert_eq!(Scene::asked(&scene.upstream), 0, "no way around the file");

    scene.write_all();
    scene.read_all(&repository).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_changes_is_read_again() {
    let secure = vec![stowage_testkit::Registry::builder().tls(); 2];
    let scene = Scene::with(stowage_testkit::Registry::builder(), secure, |options| {
        options.mirrors.rest = std::time::Duration::ZERO;
    })
    .await;
    let file = scene.write(&scene.table(0, "ca = \"ca.crt\""));
    let authority = file.with_file_name("ca.crt");
    let repository = scene.repository(None);
    let error = scene.read(&repository, 0..10).await.unwrap_err();
    assert!(error.message.contains("ca.crt"), "{error}");
    fs::write(&authority, "no certificate").unwrap();
    let error = scene.read(&repository, 0..10).await.unwrap_err();
    assert!(error.message.contains("ca.crt"), "{error}");

    fs::write(&authority, scene.mirrors[1].ca_pem().unwrap()).unwrap();
    scene.read(&repository, 0..10).await.unwrap();
    assert_eq!((Scene::gets(&scene.mirrors[0]), Scene::gets(&scene.upstream)), (0, 1), "the wrong one");
    fs::write(&authority, scene.mirrors[0].ca_pem().unwrap()).unwrap();
    scene.read(&repository, 0..10).await.unwrap();
    assert_eq!((Scene::gets(&scene.mirrors[0]), Scene::gets(&scene.upstream)), (1, 1));
}

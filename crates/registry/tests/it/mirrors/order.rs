//! Who is asked, in which order, and what happens when somebody fails.

use std::time::Duration;

use http::Method;
use stowage_registry::RegistryError;
use stowage_store::{BlobSource as _, SourceErrorKind};
use stowage_testkit::registry::{At, RetryAfter, Rule, WrongRange};
use stowage_testkit::{Fault, Target};

use super::{Scene, digest_of};
use crate::stage::{NAME, drain, failure, within};

#[tokio::test]
async fn hosts_are_asked_in_the_order_of_the_file_and_hear_whose_content_is_meant() {
    let scene = Scene::new(2).await;
    scene.write(&[scene.table(1, ""), scene.table(0, "")].concat());
    scene.read_all(&scene.repository(None)).await.unwrap();
    assert_eq!(Scene::asked(&scene.mirrors[0]), 0, "the first one had everything");
    assert_eq!(Scene::delivered(&scene.mirrors[1]), 3, "the manifest and two blobs");
    assert_eq!(Scene::gets(&scene.upstream), 0, "the registry gave its permission and no byte");
    let namespace = format!("ns={}", scene.upstream.host().replace(':', "%3A"));
    for request in scene.mirrors[1].traffic().requests() {
        assert_eq!(request.query.as_deref(), Some(namespace.as_str()), "{}", request.path);
    }
    for request in scene.upstream.traffic().requests() {
        assert_eq!(request.query, None, "{}", request.path);
    }
}

#[tokio::test]
async fn a_mirror_that_fails_falls_through_to_the_next_and_to_the_registry() {
    let faults = [
        Fault::status(400),
        Fault::status(401),
        Fault::status(403),
        Fault::status(404),
        Fault::status(405),
        Fault::status(418),
        Fault::Status(429, RetryAfter::Seconds(200)),
        Fault::status(500),
        Fault::Status(503, RetryAfter::Silent),
        Fault::Challenge("Bearer realm=\"http://169.254.169.254/\"".to_owned()),
        Fault::Redirect("http://127.0.0.2:1/".to_owned()),
        Fault::Redirect("https://169.254.169.254/".to_owned()),
        Fault::RedirectLoop,
        Fault::ContentRange(WrongRange::Starts(1)),
        Fault::ContentRange(WrongRange::Total(1)),
        Fault::Header("content-encoding".to_owned(), "gzip".to_owned()),
    ];
    let mut scene = Scene::new(0).await;
    for fault in faults {
        scene.replace_mirrors(2).await;
        scene.write_all();
        let repository = scene.repository(None);
        scene.mirrors[0].faults().always(Target::Blobs, fault.clone());
        scene.read(&repository, 0..100).await.unwrap();
        assert_eq!(Scene::delivered(&scene.mirrors[1]), 1, "{fault:?}");
        assert_eq!(Scene::gets(&scene.upstream), 0, "{fault:?}");

        let before = Scene::asked(&scene.mirrors[0]);
        scene.mirrors[1].faults().always(Target::Blobs, fault.clone());
        for part in 1..20 {
            scene.read(&repository, part * 100..part * 100 + 100).await.unwrap();
        }
        assert_eq!(Scene::asked(&scene.mirrors[0]), before, "{fault:?}: it is left alone");
        assert_eq!(Scene::delivered(&scene.upstream), 19, "{fault:?}");
        assert_eq!(Scene::heads(&scene.upstream), 1, "{fault:?}: permission is asked once");
    }
}

#[tokio::test]
async fn a_silent_mirror_is_given_up_before_its_reader_gives_up() {
    // A mirror has a third of this.
    let inactivity = Duration::from_secs(9);
    let mirrors = vec![stowage_testkit::Registry::builder()];
    let scene = Scene::with(stowage_testkit::Registry::builder(), mirrors, |options| {
        options.inactivity = inactivity;
    })
    .await;
    scene.write_all();
    scene.mirrors[0].faults().always(Target::Blobs, Fault::Silence);
    let repository = scene.repository(None);
    for part in 0..3 {
        tokio::time::timeout(inactivity, scene.read(&repository, part * 10..part * 10 + 10))
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!((Scene::gets(&scene.mirrors[0]), Scene::delivered(&scene.upstream)), (1, 3));
}

#[tokio::test]
async fn a_mirror_that_is_away_is_left_alone_by_all_and_the_registry_delivers() {
    let scene = Scene::new(1).await;
    scene.write_all();
    scene.mirrors[0].go_offline().await;
    let repository = scene.repository(None);
    scene.read_all(&repository).await.unwrap();
    scene.mirrors[0].go_online().await;
    // Another pod's repository does not try it either.
    scene.read_all(&scene.repository(None)).await.unwrap();
    assert_eq!(Scene::asked(&scene.mirrors[0]), 0);
}

#[tokio::test]
async fn a_mirror_is_asked_again_after_its_rest() {
    let brief =
        |options: &mut stowage_registry::RegistryOptions| options.mirrors.rest = Duration::from_millis(1);
    let mirrors = vec![stowage_testkit::Registry::builder()];
    let scene = Scene::with(stowage_testkit::Registry::builder(), mirrors, brief).await;
    scene.write_all();
    scene.mirrors[0].faults().next(1, Target::Blobs, Fault::status(500));
    let repository = scene.repository(None);
    let back = async {
        loop {
            scene.read(&repository, 0..100).await.unwrap();
            if Scene::delivered(&scene.mirrors[0]) > 0 {
                break;
            }
        }
    };
    within(back).await;
}

#[tokio::test]
async fn a_mirror_without_the_blob_is_asked_for_the_next_one() {
    let scene = Scene::new(1).await;
    scene.write_all();
    scene.mirrors[0].delete_blob(NAME, &digest_of(&scene.large));
    let repository = scene.repository(None);
    for part in 0..10 {
        scene.read(&repository, part * 100..part * 100 + 100).await.unwrap();
    }
    assert_eq!(Scene::gets(&scene.mirrors[0]), 1, "one part asked for all of them");
    within(repository.small_blob(&scene.descriptor(), 1 << 20)).await.unwrap();
    assert_eq!(Scene::delivered(&scene.mirrors[0]), 1);
}

#[tokio::test]
async fn a_limit_of_a_mirror_pauses_the_mirror_and_not_the_registry() {
    let scene = Scene::new(1).await;
    scene.write_all();
    scene.mirrors[0].faults().next(1, Target::Everything, Fault::Status(429, RetryAfter::Seconds(100)));
    let started = std::time::Instant::now();
    scene.read_all(&scene.repository(None)).await.unwrap();
    assert!(started.elapsed() < Duration::from_mins(1), "nobody waited for the mirror");
    assert_eq!(Scene::asked(&scene.mirrors[0]), 1);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_taken_up_at_another_host() {
    let scene = Scene::new(1).await;
    scene.write_all();
    scene.mirrors[0].faults().always(Target::Blobs, Fault::Truncate(At::Blob(50)));
    let (repository, digest) = (scene.repository(None), digest_of(&scene.large));
    let body = within(repository.read(&digest, Some(0..100))).await.unwrap();
    let (bytes, end) = drain(body).await;
    assert_eq!((bytes.len(), end.unwrap_err().kind), (50, SourceErrorKind::Unavailable));
    scene.read(&repository, 50..100).await.unwrap();
    assert_eq!((Scene::gets(&scene.mirrors[0]), Scene::delivered(&scene.upstream)), (1, 1));
}

#[tokio::test]
async fn tags_and_content_are_asked_of_those_alone_who_may_answer() {
    let scene = Scene::new(2).await;
    let (pull, resolve) = ("capabilities = [\"pull\"]", "capabilities = [\"resolve\", \"push\"]");
    scene.write(&[scene.table(0, pull), scene.table(1, resolve)].concat());
    scene.read_all(&scene.repository(None)).await.unwrap();
    let tags = |server: &stowage_testkit::Registry| {
        server.traffic().count(|request| request.path.ends_with("/manifests/v1"))
    };
    assert_eq!((tags(&scene.mirrors[0]), Scene::delivered(&scene.mirrors[0])), (0, 3));
    assert_eq!((tags(&scene.mirrors[1]), Scene::gets(&scene.mirrors[1])), (1, 0));
    assert_eq!(tags(&scene.upstream), 0);

    scene.write(&format!("server = \"{}\"\n{pull}", scene.upstream.origin()));
    let error = failure(scene.repository(None).resolve(&scene.reference())).await;
    let shown = error.to_string();
    assert!(shown.contains("capability `resolve`") && shown.contains("hosts.toml"), "{shown}");
}

#[tokio::test]
async fn a_mirror_decides_what_a_tag_means_unless_the_registry_does_not_have_that() {
    let scene = Scene::new(1).await;
    scene.write_all();
    let older = scene.upstream.put_manifest(NAME, None, super::MANIFEST, "{\"older\":1}".into());
    scene.mirrors[0].put_manifest(NAME, Some("v1"), super::MANIFEST, "{\"older\":1}".into());
    let repository = scene.repository(None);
    assert_eq!(within(repository.resolve(&scene.reference())).await.unwrap(), older);
    let manifest = within(repository.manifest(&scene.reference())).await.unwrap();
    assert_eq!((manifest.digest, manifest.media_type.as_deref()), (older, Some(super::MANIFEST)));

    // A manifest that the registry never had, or has no more, is nobody's answer.
    scene.mirrors[0].put_manifest(NAME, Some("v1"), super::MANIFEST, "{\"alien\":1}".into());
    assert_eq!(within(repository.resolve(&scene.reference())).await.unwrap(), scene.document);
}

#[tokio::test]
async fn a_mirror_in_the_upstreams_place_keeps_the_registry_free_of_reads() {
    let scene = Scene::new(1).await;
    scene.write(&format!("server = \"{}\"", scene.mirrors[0].origin()));
    scene.read_all(&scene.repository(None)).await.unwrap();
    assert_eq!((Scene::gets(&scene.upstream), Scene::delivered(&scene.mirrors[0])), (0, 3));

    scene.mirrors[0].go_offline().await;
    let repository = scene.repository(None);
    let error = failure(repository.manifest_by_digest(&scene.document)).await;
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("hosts.toml"), "{error}");
    assert_eq!(scene.read(&repository, 0..10).await.unwrap_err().kind, SourceErrorKind::Unavailable);
    assert_eq!(Scene::gets(&scene.upstream), 0);
}

#[tokio::test]
async fn a_mirror_may_stand_behind_the_registry() {
    let scene = Scene::new(1).await;
    scene.write(&[format!("[host.\"{}\"]\n", scene.upstream.origin()), scene.table(0, "")].concat());
    let repository = scene.repository(None);
    scene.read_all(&repository).await.unwrap();
    assert_eq!(Scene::asked(&scene.mirrors[0]), 0);
    let broken = Rule::new(Target::Blobs, Fault::status(500)).method(Method::GET);
    scene.upstream.faults().add(broken);
    scene.read(&repository, 0..10).await.unwrap();
    assert_eq!(Scene::delivered(&scene.mirrors[0]), 1);
}

#[tokio::test]
async fn mirrors_are_reached_without_the_proxy() {
    let proxy = stowage_testkit::Registry::builder().start().await.unwrap();
    let settings = stowage_registry::ProxySettings {
        http: Some(format!("http://{}", proxy.host())),
        ..stowage_registry::ProxySettings::default()
    };
    let scene =
        Scene::with(stowage_testkit::Registry::builder(), vec![], |options| options.proxy = settings).await;
    scene.write("[host.\"http://mirror.stowage.invalid\"]");
    scene.read_all(&scene.repository(None)).await.unwrap();
    assert!(proxy.traffic().connections().is_empty());
}

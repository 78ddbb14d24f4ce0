//! The life of jobs and records: calls that come, go, collide and are never repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use stowage_store::{CollectOptions, MadeUpSpace, Testing};
use stowage_testkit::registry::At;
use stowage_testkit::{Fault, Target};
use stowage_volumes::{Meaning, PublishError, VolumesOptions};

use crate::bench::{Bench, by, model, registry, scene, store_options, until};

#[test]
fn each_call_keeps_the_record_for_another_while() {
    scene(async |root| {
        let registry = registry().await;
        registry.push("m", Some("v1"), &model(1, 4 << 20));
        let interest = Duration::from_millis(50);
        let mut options = store_options();
        options.testing = Testing { space: Some(MadeUpSpace::new(1 << 20, 0)), ..Testing::default() };
        let bench = Bench::with(root, options, VolumesOptions { interest, ..VolumesOptions::default() });
        let request = bench.request("v", &registry.reference("m", "v1"));
        for _ in 0..3 {
            let error = bench.volumes.publish(request.clone()).await.unwrap_err();
            assert_eq!(error.meaning(), Meaning::Exhausted, "{error}");
            // The code is uncertain, kubelet comes again: what was resolved stays pinned.
            bench.volumes.tidy().await.unwrap();
            assert!(bench.has_record("v"));
            let seen = Instant::now();
            until("interest is over", || seen.elapsed() > interest).await;
        }
        bench.volumes.tidy().await.unwrap();
        assert!(!bench.has_record("v"), "nobody has asked for a while");
    });
}

#[test]
fn an_unpublish_is_done_even_when_its_caller_goes_away() {
    scene(async |root| {
        let registry = registry().await;
        let artifact = model(1, 4 << 20);
        registry.push("m", Some("v1"), &artifact);
        registry.faults().always(Target::Blobs, Fault::Stall(At::Blob(2 << 20)));
        let bench = Bench::new(root);
        let mut request = bench.request("v", &registry.reference("m", "v1"));
        request.wait = Duration::ZERO;
        let error = bench.volumes.publish(request).await.unwrap_err();
        assert_eq!(error.meaning(), Meaning::InProgress, "{error}");
        until("the record is written", || bench.has_record("v")).await;

        let target = bench.target("v");
        assert!(bench.volumes.unpublish("v", &target).now_or_never().is_none(), "it has to wait for the job");
        until("the record is gone", || !bench.has_record("v")).await;
        registry.faults().release();
    });
}

#[test]
fn another_volume_at_the_target_is_in_the_way_and_stays() {
    scene(async |root| {
        let registry = registry().await;
        registry.push("m", Some("v1"), &model(1, 1000));
        let bench = Bench::new(root);
        let reference = registry.reference("m", "v1");
        bench.volumes.publish(bench.request("first", &reference)).await.unwrap();

        let mut second = bench.request("first", &reference);
        second.volume_id = "second".to_owned();
        let target = bench.target("first");
        let error = bench.volumes.publish(second.clone()).await.unwrap_err();
        assert!(
            matches!(&error, PublishError::Conflict { volume_id, .. } if volume_id == "first"),
            "{error}"
        );
        assert!(bench.store.record("second", &target).unwrap().is_none());
        bench.volumes.unpublish("second", &target).await.unwrap();
        assert!(bench.is_mounted("first") && bench.has_record("first"));

        bench.unpublish("first").await;
        bench.volumes.publish(second).await.unwrap();
    });
}

#[test]
fn a_volume_is_counted_once_whether_or_not_somebody_waits() {
    scene(async |root| {
        let registry = registry().await;
        registry.push("m", Some("v1"), &model(1, 4 << 20));
        let stall = registry.faults().always(Target::Blobs, Fault::Stall(At::Blob(2 << 20)));
        let bench = Bench::new(root);
        let mounted = Arc::new(AtomicUsize::new(0));
        bench.volumes.on_published({
            let mounted = Arc::clone(&mounted);
            move |published| {
                assert!(!published.already && published.fetched == 4 << 20);
                mounted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut request = bench.request("v", &registry.reference("m", "v1"));
        request.wait = Duration::ZERO;
        for _ in 0..2 {
            let error = bench.volumes.publish(request.clone()).await.unwrap_err();
            assert_eq!(error.meaning(), Meaning::InProgress, "{error}");
        }
        until("the download stalls", || registry.faults().stalled() > 0).await;
        registry.faults().remove(stall);
        registry.faults().release();
        until("the volume is mounted", || mounted.load(Ordering::SeqCst) > 0).await;
        request.wait = crate::bench::LIMIT;
        let joined = futures::future::join_all((0..4).map(|_| bench.volumes.publish(request.clone()))).await;
        assert!(joined.iter().all(Result::is_ok), "{joined:?}");
        assert_eq!(mounted.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_collection_of_everything_unused_never_fails_a_publish_for_good() {
    scene(async |root| {
        let registry = registry().await;
        registry.push("m", Some("v1"), &model(1, 1000));
        let bench = Bench::new(root);
        let stop = Arc::new(AtomicBool::new(false));
        let collector = std::thread::spawn({
            let (store, stop) = (bench.store.clone(), Arc::clone(&stop));
            let everything =
                CollectOptions { force: true, min_age: Some(Duration::ZERO), ..CollectOptions::default() };
            move || {
                while !stop.load(Ordering::SeqCst) {
                    store.collect(&everything).unwrap();
                }
            }
        });
        let reference = registry.reference("m", "v1");
        let mut refused = Vec::new();
        for _ in 0..100 {
            let request = bench.request("v", &reference);
            // As kubelet: again after an uncertain code, never after a final one.
            let last = loop {
                match bench.volumes.publish(request.clone()).await {
                    Err(error) if !error.meaning().is_final() => {}
                    last => break last,
                }
            };
            match last {
                Ok(_) => {
                    assert_eq!(std::fs::read(bench.target("v").join("model.bin")).unwrap().len(), 1000);
                }
                Err(error) => refused.push(error.to_string()),
            }
            bench.unpublish("v").await;
        }
        stop.store(true, Ordering::SeqCst);
        collector.join().unwrap();
        assert!(refused.is_empty(), "{refused:?}");
    });
}

#[test]
fn a_changed_credential_ends_the_job_and_starts_another() {
    scene(async |root| {
        let registry =
            stowage_testkit::Registry::builder().basic("new", "new-password").start().await.unwrap();
        registry.push("m", Some("v1"), &model(1, 4 << 20));
        let bench = Bench::new(root);
        let reference = registry.reference("m", "v1");
        registry.set_user("old", "old-password", None);
        let stall = registry.faults().always(Target::Blobs, Fault::Stall(At::Blob(2 << 20)));
        let old = tokio::spawn({
            let (volumes, request) = (bench.volumes.clone(), by("old", bench.request("v", &reference)));
            async move { volumes.publish(request).await }
        });
        until("the download stalls", || registry.faults().stalled() > 0).await;
        registry.faults().remove(stall);
        let new = bench.volumes.publish(by("new", bench.request("v", &reference))).await;
        new.unwrap();
        let ended = old.await.unwrap().unwrap_err();
        assert_eq!(ended.meaning(), Meaning::Aborted, "{ended}");
        registry.faults().release();
    });
}

#[test]
fn a_final_failure_leaves_no_record_no_directory_and_no_view() {
    scene(async |root| {
        let registry = registry().await;
        let artifact = model(1, 4 << 20);
        registry.push("m", Some("v1"), &artifact);
        registry.delete_blob("m", &artifact.blobs().last().unwrap().0);
        let bench = Bench::new(root);
        let error =
            bench.volumes.publish(bench.request("v", &registry.reference("m", "v1"))).await.unwrap_err();
        assert_eq!(error.meaning(), Meaning::NotFound, "{error}");
        assert!(!bench.has_record("v") && !bench.target("v").exists());
        let usage = bench.store.usage().unwrap();
        assert_eq!((usage.volumes, usage.views), (0, 0));
    });
}

#[test]
fn a_shutdown_answers_waiting_calls_and_keeps_mounts_and_bytes() {
    scene(async |root| {
        let registry = registry().await;
        registry.push("m", Some("v1"), &model(1, 1000));
        registry.push("large", Some("v1"), &model(2, 8 << 20));
        let bench = Bench::new(root);
        bench.volumes.publish(bench.request("mounted", &registry.reference("m", "v1"))).await.unwrap();
        registry.faults().always(Target::Blobs, Fault::Stall(At::Blob(4 << 20)));
        let request = bench.request("waiting", &registry.reference("large", "v1"));
        let progress = request.progress.clone();
        let waiting = tokio::spawn({
            let volumes = bench.volumes.clone();
            async move { volumes.publish(request).await }
        });
        // A download without a byte leaves nothing behind.
        until("bytes are on the disk", || progress.read().done > 1 << 20).await;
        bench.volumes.shutdown().await;
        let error = waiting.await.unwrap().unwrap_err();
        assert!(matches!(error, PublishError::ShuttingDown), "{error}");
        assert!(bench.is_mounted("mounted") && bench.has_record("waiting"));
        assert_eq!(bench.store.usage().unwrap().ingests, 1);
        let late = bench.volumes.publish(bench.request("late", &registry.reference("m", "v1"))).await;
        assert!(matches!(late.unwrap_err(), PublishError::ShuttingDown));
        registry.faults().release();
    });
}

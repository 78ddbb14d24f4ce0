//! Calls whose credential is still being looked for.

use std::future::pending;
use std::time::{Duration, Instant};

use stowage_registry::Credential;
use stowage_store::{MadeUpSpace, Principal, Testing};
use stowage_testkit::registry::At;
use stowage_testkit::{Fault, Registry, Target};
use stowage_volumes::{Access, Look, Meaning, Policy, PublishError, VolumesOptions};

use crate::bench::{Bench, LIMIT, model, registry, scene, store_options, until};

#[test]
fn an_unpublish_ends_a_call_that_still_looks_for_its_credential() {
    scene(async |root| {
        let registry = registry().await;
        registry.push("m", Some("v1"), &model(1, 1000));
        let bench = Bench::new(root);
        let request = bench.request("v", &registry.reference("m", "v1"));
        let call = bench.volumes.announce(request.clone());
        assert_eq!(call.look().await.unwrap(), Look::Open);
        let looking = call.unless_ended(pending::<()>());
        let (ended, ()) = tokio::join!(looking, bench.unpublish("v"));
        assert!(matches!(ended, Err(PublishError::Aborted { .. })), "{ended:?}");
        // Also where the credential came at the same moment.
        let begun = call.begin(Access::of(None), LIMIT).await.map(drop);
        assert!(matches!(begun, Err(PublishError::Aborted { .. })), "{begun:?}");
        assert!(!bench.is_mounted("v") && !bench.has_record("v"));
        // Kubelet may publish the volume again.
        bench.volumes.publish(request).await.unwrap();
    });
}

#[test]
fn a_shutdown_ends_a_call_that_still_looks_for_its_credential() {
    scene(async |root| {
        let bench = Bench::new(root);
        let call = bench.volumes.announce(bench.request("v", "r.example/m:v1"));
        let looking = call.unless_ended(pending::<()>());
        let (ended, ()) = tokio::join!(looking, bench.volumes.shutdown());
        assert!(matches!(ended, Err(PublishError::ShuttingDown)), "{ended:?}");
    });
}

#[test]
fn what_is_mounted_refused_or_too_much_needs_no_credential() {
    scene(async |root| {
        let registry = registry().await;
        registry.push("m", Some("v1"), &model(1, 1000));
        let options = VolumesOptions { max_pending_volumes: 1, ..VolumesOptions::default() };
        let bench = Bench::with(root, store_options(), options);
        let reference = registry.reference("m", "v1");
        let mounted = bench.request("mounted", &reference);
        bench.volumes.publish(mounted.clone()).await.unwrap();

        let first = bench.volumes.announce(bench.request("first", &reference));
        assert_eq!(first.look().await.unwrap(), Look::Open);
        let second = bench.volumes.announce(bench.request("second", &reference));
        let full = second.look().await.unwrap_err();
        assert_eq!(full.meaning(), Meaning::Exhausted, "{full}");
        assert_eq!(bench.volumes.announce(mounted.clone()).look().await.unwrap(), Look::Mounted);
        // The place of a call that came to nothing is free again.
        drop(first);
        assert_eq!(second.look().await.unwrap(), Look::Open);

        let allowed_registries = vec!["other.example/*".to_owned()];
        bench.volumes.set_policy(Policy { allowed_registries, ..Policy::default() });
        assert_eq!(second.look().await.unwrap(), Look::Refused);
        let refused = second.begin(Access::of(None), LIMIT).await.unwrap().wait().await.unwrap_err();
        assert!(matches!(refused, PublishError::Policy { .. }), "{refused}");
        assert_eq!(bench.volumes.announce(mounted).look().await.unwrap(), Look::Mounted);
    });
}

#[test]
fn calls_without_a_credential_keep_the_download_and_can_join_it() {
    scene(async |root| {
        let registry = registry().await;
        registry.push("m", Some("v1"), &model(1, 4 << 20));
        registry.faults().always(Target::Blobs, Fault::Stall(At::Blob(2 << 20)));
        let interest = Duration::from_millis(50);
        let bench =
            Bench::with(root, store_options(), VolumesOptions { interest, ..VolumesOptions::default() });
        let request = bench.request("v", &registry.reference("m", "v1"));
        let work = bench.volumes.begin(request.clone()).await.unwrap();
        until("the download stalls", || registry.faults().stalled() > 0).await;
        for _ in 0..3 {
            let call = bench.volumes.announce(request.clone());
            passes(interest).await;
            bench.volumes.tidy().await.unwrap();
            assert!(!call.join(Duration::ZERO).unwrap().started(), "the download was given up");
            drop(call);
            bench.volumes.tidy().await.unwrap();
        }
        let other = bench.request("v", &registry.reference("m", "v2"));
        assert!(bench.volumes.announce(other).join(LIMIT).is_none(), "it asks for something else");
        passes(interest).await;
        bench.volumes.tidy().await.unwrap();
        let ended = work.ended().await.unwrap_err();
        assert_eq!(ended.meaning(), Meaning::Aborted, "{ended}");
        registry.faults().release();
    });
}

#[test]
fn calls_without_a_credential_keep_what_was_resolved() {
    scene(async |root| {
        let registry = registry().await;
        registry.push("m", Some("v1"), &model(1, 4 << 20));
        let interest = Duration::from_millis(50);
        let mut options = store_options();
        options.testing = Testing { space: Some(MadeUpSpace::new(1 << 20, 0)), ..Testing::default() };
        let bench = Bench::with(root, options, VolumesOptions { interest, ..VolumesOptions::default() });
        let request = bench.request("v", &registry.reference("m", "v1"));
        bench.volumes.publish(request.clone()).await.unwrap_err();
        for _ in 0..3 {
            drop(bench.volumes.announce(request.clone()));
            bench.volumes.tidy().await.unwrap();
            assert!(bench.has_record("v"));
            passes(interest).await;
        }
        bench.volumes.tidy().await.unwrap();
        assert!(!bench.has_record("v"), "nobody has asked for a while");
    });
}

#[test]
fn a_joined_call_brings_its_credential_to_the_download() {
    scene(async |root| {
        let registry = Registry::builder().basic("robot", "first").start().await.unwrap();
        let digest = registry.push("m", Some("v1"), &model(1, 4 << 20));
        let bench = Bench::new(root);
        let by = |password: &str| {
            let mut request = bench.request("v", &format!("{}/m@{digest}", registry.host()));
            let principal = Principal::Provider { plugin: "p".to_owned(), account: "robot".to_owned() };
            request.access = Access::of_principal(Some(Credential::password("robot", password)), principal);
            request
        };
        let stall = registry.faults().always(Target::Manifests, Fault::Stall(At::Body(1)));
        let began = bench.volumes.begin(by("first")).await.unwrap();
        until("the manifest stalls", || registry.faults().stalled() > 0).await;
        // An exchanged password ends before the pull does; kubelet's next call brings another one.
        registry.set_password("robot", "second");
        let joined = bench.volumes.begin(by("second")).await.unwrap();
        assert!(began.started() && !joined.started());
        registry.faults().remove(stall);
        registry.faults().release();
        joined.wait().await.unwrap();
        assert!(bench.is_mounted("v"));
    });
}

async fn passes(time: Duration) {
    let seen = Instant::now();
    until("interest is over", || seen.elapsed() > time).await;
}

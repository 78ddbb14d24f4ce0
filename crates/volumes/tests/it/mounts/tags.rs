//! Tags that stand beside a digest, as a prefetch names them: they are remembered only where the registry agrees.

use std::collections::BTreeMap;

use stowage_artifact::{Digest, VolumeAttributes};
use stowage_testkit::registry::RetryAfter;
use stowage_testkit::{Fault, Registry, Target};
use stowage_volumes::{Meaning, PublishRequest};

use crate::bench::{Bench, model, registry, scene};

fn request(bench: &Bench, name: &str, reference: &str, policy: &str) -> PublishRequest {
    let attributes = BTreeMap::from([
        ("reference".to_owned(), reference.to_owned()),
        ("pullPolicy".to_owned(), policy.to_owned()),
    ]);
    let attributes = VolumeAttributes::parse(&attributes).unwrap();
    PublishRequest { attributes, ..bench.request(name, reference) }
}

fn with_digest(registry: &Registry, tag: &str, digest: &Digest) -> String {
    format!("{}@{digest}", registry.reference("m", tag))
}

fn asked(registry: &Registry) -> usize {
    registry.traffic().requests().len()
}

#[test]
fn what_came_by_tag_and_digest_is_there_by_its_tag_alone_without_the_registry() {
    scene(async |root| {
        let registry = registry().await;
        let digest = registry.push("m", Some("v1"), &model(1, 1000));
        let bench = Bench::new(root);
        let both = with_digest(&registry, "v1", &digest);
        bench.volumes.publish(request(&bench, "prefetch", &both, "IfNotPresent")).await.unwrap();
        // What is here is asked of nobody.
        let before = asked(&registry);
        bench.volumes.publish(request(&bench, "warm", &both, "IfNotPresent")).await.unwrap();
        assert_eq!(asked(&registry), before);
        registry.go_offline().await;
        let tag = registry.reference("m", "v1");
        for policy in ["Never", "IfNotPresent"] {
            let published = bench.volumes.publish(request(&bench, policy, &tag, policy)).await.unwrap();
            assert_eq!(published.digest, digest);
        }
    });
}

#[test]
fn a_tag_that_stands_for_something_else_is_not_remembered() {
    scene(async |root| {
        let registry = registry().await;
        let claimed = registry.push("m", Some("other"), &model(1, 1000));
        let real = registry.push("m", Some("v1"), &model(2, 1000));
        let bench = Bench::new(root);
        let both = with_digest(&registry, "v1", &claimed);
        let published = bench.volumes.publish(request(&bench, "liar", &both, "IfNotPresent")).await.unwrap();
        assert_eq!(published.digest, claimed, "the digest wins");
        let tag = registry.reference("m", "v1");
        let refused = bench.volumes.publish(request(&bench, "never", &tag, "Never")).await.unwrap_err();
        assert_eq!(refused.meaning(), Meaning::NotFound, "{refused}");
        let published = bench.volumes.publish(request(&bench, "tag", &tag, "IfNotPresent")).await.unwrap();
        assert_eq!(published.digest, real);
    });
}

#[test]
fn a_registry_that_does_not_say_what_a_tag_stands_for_holds_up_nothing() {
    scene(async |root| {
        let registry = registry().await;
        let digest = registry.push("m", Some("v1"), &model(1, 1000));
        let bench = Bench::new(root);
        let both = with_digest(&registry, "gone", &digest);
        bench.volumes.publish(request(&bench, "gone", &both, "IfNotPresent")).await.unwrap();
        let tag = registry.reference("m", "gone");
        let refused = bench.volumes.publish(request(&bench, "never", &tag, "Never")).await.unwrap_err();
        assert_eq!(refused.meaning(), Meaning::NotFound, "{refused}");
        // An author who asks for nothing but what is here asks no registry either.
        registry.faults().always(Target::Everything, Fault::Status(500, RetryAfter::Silent));
        let both = with_digest(&registry, "v1", &digest);
        bench.volumes.publish(request(&bench, "both", &both, "Never")).await.unwrap();
    });
}

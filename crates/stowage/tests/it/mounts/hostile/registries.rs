//! What a registry refuses, or fails to give.

use stowage_testkit::artifacts::{Layer, oras_files};
use stowage_testkit::registry::{Access, Registry};
use stowage_testkit::{BlobData, Fault, Target};
use tonic::Code;

use super::{Case, MIB, Stall, digest, small};
use crate::harness::scene;

#[test]
fn what_a_registry_does_not_give_is_refused_with_its_own_code() {
    scene(async |scene| {
        let registry = Registry::builder()
            .basic("ada", "right")
            .user_of("bob", "right", &[("others/*", Access::Pull)])
            .public("hostile/*")
            .start()
            .await
            .unwrap();
        let node = scene.node().registry(&registry).start().await;
        let mut stall = Stall::new(&registry);
        let host = registry.host();

        let missing = registry.reference("hostile/nothing", "v1");
        stall.cases.push(Case::of(
            "no repository",
            &missing,
            Code::NotFound,
            &[&missing, "check the reference"],
        ));
        stall.artifact("a missing tag", oras_files([("a", small(1))]), Code::NotFound, &["v2"]).attributes
            [0]
        .1 = registry.reference("hostile/1", "v2");
        let absent = oras_files::<&str, &str>([]).layer(Layer::titled("a", small(2)).absent());
        let hex = digest(&small(2)).hex().to_owned();
        stall.artifact("a missing blob", absent, Code::NotFound, &[&hex]);

        let private = oras_files([("a", BlobData::generated(8, 2 * MIB))]).build().unwrap();
        registry.push("team/private", Some("v1"), &private);
        stall.documents.insert(private.digest().clone());
        let private = registry.reference("team/private", "v1");
        let case = |name, code, words: &[&str]| Case::of(name, &private, code, words);
        stall.cases.push(case("no secret", Code::Unauthenticated, &[&host, "team/private"]));
        let wrong = case("a wrong password", Code::Unauthenticated, &[&host]);
        stall.cases.push(wrong.secret(&registry, "ada", "wrong"));
        let stranger = case("a stranger", Code::PermissionDenied, &[&host, "team/private"]);
        stall.cases.push(stranger.secret(&registry, "bob", "right"));

        let faults = registry.faults();
        let failing = [
            ("a registry that fails", Fault::status(503), Code::Unavailable, "503"),
            ("a registry with a secret of its own", Fault::status(500), Code::Unavailable, "500"),
            (
                "a redirect to the metadata service",
                metadata_service(),
                Code::PermissionDenied,
                "169.254.169.254",
            ),
        ];
        for (name, fault, code, word) in failing {
            let artifact = oras_files([(name, small(3))]);
            let number = stall.cases.len();
            stall.artifact(name, artifact, code, &[word]);
            faults.always(Target::Repository(format!("hostile/{number}")), fault);
        }
        let failing = BlobData::generated(9, MIB);
        stall.artifact(
            "blobs that fail",
            oras_files([("a", failing.clone())]),
            Code::Unavailable,
            &["502", "tries"],
        );
        faults.always(Target::Digest(digest(&failing)), Fault::status(502));
        stall.run(&node).await;
    });
}

/// Where a cloud hands out the node's own credentials.
fn metadata_service() -> Fault {
    Fault::Redirect("http://169.254.169.254/latest/meta-data/iam".to_owned())
}

//! Real clients against our registry, our client against a real registry.

use stowage_artifact::{Algorithm, Digest};
use stowage_testkit::Registry;
use stowage_testkit::artifacts::{self, BlobData, WirePush};
use stowage_testkit::docker_registry::DockerRegistry;
use stowage_testkit::registry::BearerOptions;
use stowage_testkit::tools::Tool;

#[tokio::test]
async fn an_artifact_pushed_to_docker_registry_is_copied_by_skopeo_to_ours() {
    let docker = DockerRegistry::start("ada", "secret").await.unwrap();
    let artifact =
        artifacts::oras_files([("big", BlobData::generated(8, 3_000_000)), ("small", "tiny".into())])
            .build()
            .unwrap();
    let from = docker.reference("team/model", "v1");
    WirePush::to(&from).basic("ada", "secret").ca_pem(docker.ca_pem()).push(&artifact).await.unwrap();

    let ours =
        Registry::builder().bearer(BearerOptions::default()).user("bob", "hidden").start().await.unwrap();
    let skopeo = Tool::find("skopeo").unwrap();
    let certs = docker.cert_dir().unwrap();
    skopeo
        .run(&[
            "copy",
            "--preserve-digests",
            "--src-creds=ada:secret",
            &format!("--src-cert-dir={}", certs.display()),
            "--dest-creds=bob:hidden",
            "--dest-tls-verify=false",
            &format!("docker://{from}"),
            &format!("docker://{}", ours.reference("copy/model", "v1")),
        ])
        .await
        .unwrap();
    assert_eq!(ours.resolve("copy/model", "v1").as_ref(), Some(artifact.digest()));
    for (digest, _) in artifact.blobs() {
        let stored = ours.blob("copy/model", digest).expect("skopeo copied every blob");
        assert_eq!(stored.digest(Algorithm::Sha256).unwrap(), *digest);
    }
}

#[tokio::test]
async fn docker_registry_wants_the_password() {
    let docker = DockerRegistry::start("ada", "secret").await.unwrap();
    let artifact = artifacts::oras_files([("small", "tiny")]).build().unwrap();
    let push = WirePush::to(&docker.reference("m", "v1")).ca_pem(docker.ca_pem());
    push.basic("ada", "wrong").push(&artifact).await.unwrap_err();
    assert!(docker.docker_config().contains("YWRhOnNlY3JldA=="));
    assert_eq!(Digest::of(Algorithm::Sha256, b"tiny"), artifact.blobs()[1].0);
}

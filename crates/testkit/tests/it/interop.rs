//! Real clients against our registry, our client against a real registry.

use serde_json::json;
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
async fn oras_pushes_to_our_registry_and_crane_reads_it() {
    let registry = Registry::builder()
        .tls()
        .bearer(BearerOptions::default())
        .user("ada", "secret")
        .start()
        .await
        .unwrap();
    let home = tempfile::tempdir().unwrap();
    let ca = home.path().join("ca.crt");
    std::fs::write(&ca, registry.ca_pem().unwrap()).unwrap();
    let big = BlobData::generated(2, 5_000_000);
    std::fs::write(home.path().join("big.bin"), big.read_range(0..5_000_000).unwrap()).unwrap();
    std::fs::create_dir(home.path().join("docs")).unwrap();
    std::fs::write(home.path().join("docs/readme.md"), "# hello").unwrap();
    let oras = Tool::find("oras").unwrap().current_dir(home.path());
    let reference = registry.reference("team/pushed", "v1");
    let ca_file = ca.display().to_string();
    oras.run_with_input(
        &[
            "push",
            "--ca-file",
            &ca_file,
            "-u",
            "ada",
            "--password-stdin",
            &reference,
            "big.bin:application/x-weights",
            "docs/readme.md",
        ],
        "secret",
    )
    .await
    .unwrap();
    let digest = big.digest(Algorithm::Sha256).unwrap();
    assert_eq!(registry.blob("team/pushed", &digest).unwrap().size(), 5_000_000);

    let config = json!({ "auths": { registry.host(): { "auth": "YWRhOnNlY3JldA==" } } });
    std::fs::write(home.path().join("config.json"), config.to_string()).unwrap();
    let crane = Tool::find("crane").unwrap().env("DOCKER_CONFIG", home.path()).env("SSL_CERT_FILE", &ca);
    let printed = crane.run(&["digest", &reference]).await.unwrap();
    assert_eq!(printed.trim(), registry.resolve("team/pushed", "v1").unwrap().to_string());
    let copy = registry.reference("team/copied", "v2");
    crane.run(&["copy", &reference, &copy]).await.unwrap();
    assert_eq!(registry.resolve("team/copied", "v2"), registry.resolve("team/pushed", "v1"));
    assert!(registry.blob("team/copied", &digest).is_some());
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

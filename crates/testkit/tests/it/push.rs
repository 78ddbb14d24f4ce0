use stowage_artifact::{Algorithm, Digest};
use stowage_testkit::artifacts::{self, BlobData, IndexEntry, WirePush};
use stowage_testkit::registry::{Access, BearerOptions};
use stowage_testkit::{Artifact, Registry};

use crate::client;

const BIG: u64 = 3_000_000;

fn sample() -> Artifact {
    let one = artifacts::oras_files([("big", BlobData::generated(4, BIG)), ("small", "tiny".into())])
        .build()
        .unwrap();
    let two = artifacts::oras_files([("empty", ""), ("small", "tiny")]).build().unwrap();
    artifacts::index([IndexEntry::new(one).annotation("v", "1"), IndexEntry::new(two).annotation("v", "2")])
}

fn assert_holds(registry: &Registry, repository: &str, artifact: &Artifact) {
    for child in artifact.children() {
        assert_eq!(registry.resolve(repository, &child.digest().to_string()).as_ref(), Some(child.digest()));
        for (digest, data) in child.blobs() {
            let stored = registry.blob(repository, digest).expect("the blob was pushed");
            assert_eq!(
                (stored.size(), stored.digest(Algorithm::Sha256).unwrap()),
                (data.size(), digest.clone())
            );
        }
    }
    assert_eq!(registry.resolve(repository, "v1").as_ref(), Some(artifact.digest()));
}

#[tokio::test]
async fn an_index_pushed_by_oci_client_arrives_whole() {
    let registry = Registry::builder().start().await.unwrap();
    let artifact = sample();
    WirePush::to(&registry.reference("team/model", "v1")).plain_http().push(&artifact).await.unwrap();
    assert_holds(&registry, "team/model", &artifact);
    assert!(matches!(
        registry.blob("team/model", &artifact.children()[0].blobs()[1].0),
        Some(BlobData::File { size: BIG, .. })
    ));
}

#[tokio::test]
async fn a_push_with_tls_and_a_token_needs_the_right_to_push() {
    let registry = Registry::builder()
        .tls()
        .bearer(BearerOptions::default())
        .user("ada", "secret")
        .user_of("bob", "secret", &[("*", Access::Pull)])
        .start()
        .await
        .unwrap();
    let artifact = sample();
    let push = WirePush::to(&registry.reference("m", "v1")).ca_pem(registry.ca_pem().unwrap());
    push.clone().basic("ada", "secret").push(&artifact).await.unwrap();
    assert_holds(&registry, "m", &artifact);
    let other = artifacts::oras_files([("new", "new")]).build().unwrap();
    let error = push.basic("bob", "secret").push(&other).await.unwrap_err();
    assert!(error.to_string().contains(&registry.host()), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn an_upload_in_chunks_is_checked_against_its_digest() {
    let registry = Registry::builder().start().await.unwrap();
    let client = client(&registry);
    let begin = client.post(format!("{}/v2/a/blobs/uploads/", registry.origin())).send().await.unwrap();
    assert_eq!(begin.status(), 202);
    let session = format!("{}{}", registry.origin(), begin.headers()["location"].to_str().unwrap());
    let patch = client.patch(&session).header("content-range", "0-4").body("hello").send().await.unwrap();
    assert_eq!((patch.status().as_u16(), patch.headers()["range"].to_str().unwrap()), (202, "0-4"));
    let gap = client.patch(&session).header("content-range", "9-10").body("xx").send().await.unwrap();
    assert_eq!(gap.status(), 416);
    let digest = Digest::of(Algorithm::Sha256, b"hello world");
    let done = client.put(format!("{session}?digest={digest}")).body(" world").send().await.unwrap();
    assert_eq!(done.status(), 201);
    assert_eq!(registry.blob("a", &digest).unwrap().size(), 11);

    let mounted = format!("{}/v2/b/blobs/uploads/?mount={digest}&from=a", registry.origin());
    assert_eq!(client.post(mounted).send().await.unwrap().status(), 201);
    let lying = format!("{}/v2/b/blobs/uploads/?digest={digest}", registry.origin());
    assert_eq!(client.post(lying).body("something else").send().await.unwrap().status(), 400);
    let url = crate::blob_url(&registry, "b", &digest);
    assert_eq!(client.delete(&url).send().await.unwrap().status(), 202);
    assert_eq!(client.get(&url).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_manifest_must_be_json_and_have_its_digest() {
    let registry = Registry::builder().start().await.unwrap();
    let client = client(&registry);
    let put = |name: String, body: &'static str| {
        client.put(crate::manifest_url(&registry, "a", &name)).body(body).send()
    };
    assert_eq!(put("v1".into(), "not json").await.unwrap().status(), 400);
    let wrong = Digest::of(Algorithm::Sha256, b"other").to_string();
    assert_eq!(put(wrong.clone(), "{}").await.unwrap().status(), 400);
    let with_subject =
        r#"{"subject":{"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}}"#;
    let response = put("v1".into(), with_subject).await.unwrap();
    assert_eq!(response.status(), 201);
    assert!(response.headers().contains_key("oci-subject"));
    assert!(registry.resolve("a", "v1").is_some());
}

use std::time::{Duration, Instant};

use stowage_artifact::{Algorithm, Digest};
use stowage_testkit::artifacts::{self, BlobData};
use stowage_testkit::registry::Place;
use stowage_testkit::{ArtifactBuilder, Layer, Registry};

use crate::{blob_url, client, manifest_url};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn manifests_come_by_tag_and_by_digest_over_tls() {
    let registry = Registry::builder().tls().start().await.unwrap();
    let artifact = artifacts::oras_files([("a", "alpha")]).build().unwrap();
    let digest = registry.push("team/a", Some("v1"), &artifact);
    let client = client(&registry);
    for name in ["v1".to_owned(), digest.to_string()] {
        let response = client.get(manifest_url(&registry, "team/a", &name)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["docker-content-digest"], digest.to_string());
        assert_eq!(response.headers()["content-type"], artifacts::OCI_MANIFEST);
        assert_eq!(response.bytes().await.unwrap(), artifact.manifest());
    }
    let head = client.head(manifest_url(&registry, "team/a", "v1")).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], artifact.manifest().len().to_string());
    let missing = client.get(manifest_url(&registry, "team/a", "v2")).send().await.unwrap();
    assert_eq!(missing.status(), 404);
    assert!(missing.text().await.unwrap().contains("MANIFEST_UNKNOWN"));
}

#[tokio::test]
async fn ranges_of_every_kind_of_blob_are_exact_and_counted() {
    let registry = Registry::builder().start().await.unwrap();
    let bytes = BlobData::generated(5, 1_000_000);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes.read_range(0..1_000_000).unwrap()).unwrap();
    let digest = bytes.digest(Algorithm::Sha256).unwrap();
    let memory = BlobData::from(bytes.read_range(0..1_000_000).unwrap());
    for (repository, data) in
        [("generated", bytes.clone()), ("memory", memory), ("file", BlobData::file(file.path()).unwrap())]
    {
        registry.traffic().reset();
        registry.put_blob(repository, &digest, data);
        let url = blob_url(&registry, repository, &digest);
        let client = client(&registry);
        let whole = client.get(&url).send().await.unwrap();
        assert_eq!((whole.status().as_u16(), whole.content_length()), (200, Some(1_000_000)));
        assert_eq!(Digest::of(Algorithm::Sha256, &whole.bytes().await.unwrap()), digest, "{repository}");
        let part = client.get(&url).header("range", "bytes=123456-654320").send().await.unwrap();
        assert_eq!(part.status(), 206);
        assert_eq!(part.headers()["content-range"], "bytes 123456-654320/1000000");
        assert_eq!(part.bytes().await.unwrap(), bytes.read_range(123_456..654_321).unwrap(), "{repository}");
        let beyond = client.get(&url).header("range", "bytes=1000000-").send().await.unwrap();
        assert_eq!(beyond.status(), 416);
        assert_eq!(beyond.headers()["content-range"], "bytes */1000000");
        assert_eq!(registry.bytes_served(&digest), 1_000_000 + (654_321 - 123_456));
    }
}

#[tokio::test]
async fn a_digest_of_sha512_is_served_too() {
    let registry = Registry::builder().start().await.unwrap();
    let layer = Layer::titled("a", "long hash").algorithm(Algorithm::Sha512);
    let artifact = ArtifactBuilder::new().layer(layer).build().unwrap();
    registry.push("a", Some("v1"), &artifact);
    let digest = Digest::of(Algorithm::Sha512, b"long hash");
    let response = client(&registry).get(blob_url(&registry, "a", &digest)).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "long hash");
}

#[tokio::test]
async fn the_books_show_headers_statuses_and_connections() {
    let registry = Registry::builder().start().await.unwrap();
    let digest = Digest::of(Algorithm::Sha256, b"x");
    let url = blob_url(&registry, "a", &digest);
    client(&registry)
        .get(format!("{url}?q=1"))
        .header("authorization", "Bearer canary")
        .send()
        .await
        .unwrap();
    registry.put_blob("a", &digest, "x");
    client(&registry).get(&url).send().await.unwrap().bytes().await.unwrap();
    let requests = registry.traffic().requests();
    assert_eq!(requests.len(), 2);
    assert_eq!((requests[0].status, requests[0].header("authorization")), (404, Some("Bearer canary")));
    assert_eq!((requests[0].place, requests[0].query.as_deref()), (Place::Registry, Some("q=1")));
    assert_eq!((requests[1].status, requests[1].sent, requests[1].range.clone()), (200, 1, Some(0..1)));
    assert_eq!(requests[1].digest.as_ref(), Some(&digest));
    let connections = registry.traffic().connections();
    assert_eq!(connections.len(), 2);
    assert_eq!((connections[1].requests, connections[1].bytes), (1, 1));
}

#[tokio::test]
async fn the_rate_holds_for_each_connection_by_itself() {
    let registry = Registry::builder().rate(2_000_000).start().await.unwrap();
    let blob = BlobData::generated(1, 600_000);
    let digest = blob.digest(Algorithm::Sha256).unwrap();
    registry.put_blob("a", &digest, blob);
    let started = Instant::now();
    let fetches = (0..8).map(|_| {
        // A client each, so a connection each.
        let request = client(&registry).get(blob_url(&registry, "a", &digest));
        async move { request.send().await.unwrap().bytes().await.unwrap().len() }
    });
    let lengths = futures::future::join_all(fetches).await;
    let elapsed = started.elapsed();
    assert_eq!(lengths, [600_000; 8]);
    // One connection needs 0.3 s; one limit for all of them would need 2.4 s.
    assert!(elapsed >= Duration::from_millis(240), "{elapsed:?}");
    assert!(elapsed < Duration::from_millis(2100), "{elapsed:?}");
    assert_eq!(registry.traffic().peak_downloads(), 8);
    assert!(registry.traffic().until(LIMIT, |traffic| traffic.open_downloads() == 0).await);
}

#[tokio::test]
async fn a_registry_goes_offline_and_comes_back_at_the_same_address() {
    let registry = Registry::builder().start().await.unwrap();
    let client = client(&registry);
    let ping = format!("{}/v2/", registry.origin());
    assert_eq!(client.get(&ping).send().await.unwrap().status(), 200);
    registry.go_offline().await;
    assert!(client.get(&ping).send().await.unwrap_err().is_connect());
    registry.go_online().await;
    assert_eq!(client.get(&ping).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn dropping_a_registry_ends_it() {
    let registry = Registry::builder().start().await.unwrap();
    let address = registry.addr();
    drop(registry);
    let gone = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("the registry still listens");
}

#[test]
fn a_blocking_caller_gets_a_registry_on_threads_of_its_own() {
    let registry = Registry::builder().start_blocking().unwrap();
    let mut stream = std::net::TcpStream::connect(registry.addr()).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /v2/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let answer = std::io::read_to_string(&mut stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn tags_and_referrers_are_listed() {
    let registry = Registry::builder().start().await.unwrap();
    let subject = artifacts::oras_files([("a", "alpha")]).build().unwrap();
    let digest = registry.push("a", Some("v1"), &subject);
    registry.tag("a", "v2", &digest);
    registry.tag("a", "v3", &digest);
    let signature =
        ArtifactBuilder::new().artifact_type("application/x-signature").subject(&subject).build().unwrap();
    let signature_digest = registry.push("a", None, &signature);
    let client = client(&registry);
    let list = |query: &str| client.get(format!("{}/v2/a/tags/list{query}", registry.origin())).send();
    assert!(list("").await.unwrap().text().await.unwrap().contains(r#"["v1","v2","v3"]"#));
    let page = list("?n=2").await.unwrap();
    assert_eq!(page.headers()["link"], "</v2/a/tags/list?n=2&last=v2>; rel=\"next\"");
    assert!(list("?n=2&last=v2").await.unwrap().text().await.unwrap().contains(r#"["v3"]"#));
    let referrers =
        |query: &str| client.get(format!("{}/v2/a/referrers/{digest}{query}", registry.origin())).send();
    assert!(referrers("").await.unwrap().text().await.unwrap().contains(&signature_digest.to_string()));
    let filtered = referrers("?artifactType=application/x-other").await.unwrap();
    assert_eq!(filtered.headers()["oci-filters-applied"], "artifactType");
    assert!(filtered.text().await.unwrap().contains(r#""manifests":[]"#));
}

#[tokio::test]
async fn ollama_mode_has_no_ping_and_sends_blobs_elsewhere() {
    let registry = Registry::builder().ollama().start().await.unwrap();
    let artifact = ArtifactBuilder::new()
        .media_type(artifacts::DOCKER_MANIFEST)
        .layer(Layer::new("application/vnd.ollama.image.model", "GGUF"))
        .build()
        .unwrap();
    registry.push("library/tiny", Some("latest"), &artifact);
    let client = client(&registry);
    assert_eq!(client.get(format!("{}/v2/", registry.origin())).send().await.unwrap().status(), 404);
    for page in
        ["_catalog", "library/tiny/tags/list", &format!("library/tiny/referrers/{}", artifact.digest())]
    {
        let url = format!("{}/v2/{page}", registry.origin());
        assert_eq!(client.get(url).send().await.unwrap().status(), 404, "{page}");
    }
    let manifest = client.get(manifest_url(&registry, "library/tiny", "latest")).send().await.unwrap();
    assert_eq!(manifest.headers()["content-type"], artifacts::DOCKER_MANIFEST);
    for (accept, status) in [
        (artifacts::OCI_MANIFEST, 404),
        (
            "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json",
            200,
        ),
        ("*/*", 200),
    ] {
        let asked = client.get(manifest_url(&registry, "library/tiny", "latest")).header("accept", accept);
        assert_eq!(asked.send().await.unwrap().status(), status, "{accept}");
    }
    let digest = Digest::of(Algorithm::Sha256, b"GGUF");
    let redirect = client.get(blob_url(&registry, "library/tiny", &digest)).send().await.unwrap();
    assert_eq!(redirect.status(), 307);
    let location = redirect.headers()["location"].to_str().unwrap().to_owned();
    assert!(location.starts_with(&format!("http://{}/", registry.storage_host())), "{location}");
    let part = client.get(&location).header("range", "bytes=1-2").send().await.unwrap();
    assert_eq!(part.text().await.unwrap(), "GU");
    let leaking = client.get(&location).header("authorization", "Bearer canary").send().await.unwrap();
    assert_eq!(leaking.status(), 400);
}

#[tokio::test]
async fn ollama_mode_calls_every_manifest_dockers() {
    let registry = Registry::builder().ollama().start().await.unwrap();
    let artifact = artifacts::oras_files([("a", "alpha")]).build().unwrap();
    registry.push("library/a", Some("latest"), &artifact);
    let found = client(&registry).get(manifest_url(&registry, "library/a", "latest")).send().await.unwrap();
    assert_eq!(found.headers()["content-type"], artifacts::DOCKER_MANIFEST);
    assert_eq!(found.bytes().await.unwrap(), *artifact.manifest());
}

#[tokio::test]
async fn a_registry_may_know_manifests_by_tag_only() {
    let registry = Registry::builder().ollama().manifests_by_tag_only().start().await.unwrap();
    let artifact = artifacts::oras_files([("a", "alpha")]).build().unwrap();
    let digest = registry.push("library/a", Some("latest"), &artifact);
    let client = client(&registry);
    let status = async |name: &str| {
        client.get(manifest_url(&registry, "library/a", name)).send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("latest").await, 200);
    assert_eq!(status(digest.as_str()).await, 500);
}

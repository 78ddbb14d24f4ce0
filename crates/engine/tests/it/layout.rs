//! An OCI image layout directory as a source.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt as _;
use stowage_engine::{FetchError, FetchRequest, OciLayoutError, OciLayoutSource};
use stowage_store::{BlobSource as _, SourceErrorKind};

use crate::scripted::*;

fn layout(dir: &Path, blobs: &[&Blob]) -> OciLayoutSource {
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(dir.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    for blob in blobs {
        fs::write(dir.join("blobs/sha256").join(blob.digest.hex()), &blob.bytes).unwrap();
    }
    OciLayoutSource::open(dir).unwrap()
}

fn request(blob: &Blob, source: &OciLayoutSource) -> FetchRequest {
    FetchRequest {
        digest: blob.digest.clone(),
        size: blob.size(),
        source: Arc::new(source.clone()),
        namespace: String::new(),
        authority: None,
        decode: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_a_directory_reach_the_store() {
    let bench = Bench::new(options());
    let (large, small) = (Blob::new(3_000_000, 300), Blob::new(10, 301));
    let source = layout(&bench.dir.path().join("layout"), &[&large, &small]);
    for blob in [&large, &small] {
        assert!(end(bench.engine.join(request(blob, &source))).await.unwrap().whole_by_me);
        bench.assert_has(blob);
    }
    assert_eq!(source.small_blob(&small.digest, 10).unwrap(), small.bytes);
    assert!(matches!(source.small_blob(&small.digest, 9), Err(OciLayoutError::TooLarge { size: 10, .. })));
    assert!(source.index(1 << 20).unwrap().starts_with(b"{"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_exactly_that_range() {
    let dir = tempfile::tempdir().unwrap();
    let blob = Blob::new(1_000_000, 302);
    let source = layout(dir.path(), &[&blob]);
    for range in [0..1, 5..700_000, 999_999..1_000_000] {
        let mut body = source.read(&blob.digest, Some(range.clone())).await.unwrap();
        assert_eq!(
            (body.start, body.end, body.total, body.ranged),
            (range.start, Some(range.end), Some(1_000_000), true)
        );
        let mut bytes = Vec::new();
        while let Some(chunk) = body.stream.next().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        assert!(bytes == blob.bytes[range.start as usize..range.end as usize]);
    }
    let beyond = source.read(&blob.digest, Some(1_000_000..1_000_001)).await.unwrap_err();
    assert_eq!(beyond.kind, SourceErrorKind::RangeRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_special_files_are_not_followed() {
    let bench = Bench::new(options());
    let dir = bench.dir.path().join("layout");
    let secret = Blob::new(1000, 303);
    let outside = bench.dir.path().join("secret");
    fs::write(&outside, &secret.bytes).unwrap();
    let source = layout(&dir, &[]);
    let name = dir.join("blobs/sha256").join(secret.digest.hex());

    symlink(&outside, &name).unwrap();
    let error = end(bench.engine.join(request(&secret, &source))).await.unwrap_err();
    assert!(matches!(&error, FetchError::Source(e) if e.kind == SourceErrorKind::Protocol), "{error}");

    fs::remove_file(&name).unwrap();
    fs::create_dir(&name).unwrap();
    let error = source.read(&secret.digest, None).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Protocol);

    fs::remove_dir(&name).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &name,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let error = source.read(&secret.digest, None).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Protocol);

    fs::remove_dir_all(dir.join("blobs")).unwrap();
    let elsewhere = bench.dir.path().join("elsewhere");
    fs::create_dir_all(elsewhere.join("sha256")).unwrap();
    fs::write(elsewhere.join("sha256").join(secret.digest.hex()), &secret.bytes).unwrap();
    symlink(&elsewhere, dir.join("blobs")).unwrap();
    let error = source.read(&secret.digest, None).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Protocol);
    assert!(bench.store.blob_size(&secret.digest).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_blob_and_a_wrong_one_are_told_apart() {
    let bench = Bench::new(options());
    let (missing, mut wrong) = (Blob::new(1000, 304), Blob::new(1000, 305));
    wrong.digest = Blob::new(1000, 306).digest;
    let source = layout(&bench.dir.path().join("layout"), &[&wrong]);
    let error = end(bench.engine.join(request(&missing, &source))).await.unwrap_err();
    assert!(matches!(&error, FetchError::Source(e) if e.kind == SourceErrorKind::NotFound), "{error}");
    let error = end(bench.engine.join(request(&wrong, &source))).await.unwrap_err();
    assert!(matches!(error, FetchError::DigestMismatch { .. }), "{error}");
    assert!(matches!(source.small_blob(&wrong.digest, 1000), Err(OciLayoutError::DigestMismatch { .. })));
}

#[test]
fn only_a_layout_of_version_1_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(OciLayoutSource::open(dir.path()), Err(OciLayoutError::Io { .. })));
    for text in ["", "{}", r#"{"imageLayoutVersion":"2.0.0"}"#, r#"{"imageLayoutVersion":1}"#] {
        fs::write(dir.path().join("oci-layout"), text).unwrap();
        let opened = OciLayoutSource::open(dir.path());
        assert!(matches!(opened, Err(OciLayoutError::NotALayout { .. })), "{text}");
    }
}

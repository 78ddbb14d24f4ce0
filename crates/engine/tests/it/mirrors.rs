//! Bytes that a mirror delivers in a source's place.

use crate::scripted::*;

const SIZES: [usize; 2] = [40_000, 1_000_000];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mirror_delivers_shows_nobodys_access() {
    for size in SIZES {
        let (bench, blob) = (Bench::new(options()), Blob::new(size, 400));
        let source = Scripted::new("a", &blob, |_, _| Reply { mirror: Some("mirror"), ..Reply::default() });
        let fetched = end(bench.join(&blob, &source)).await.unwrap();
        assert_eq!((fetched.bytes_from_my_source, fetched.whole_by_me), (0, false));
        bench.assert_has(&blob);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_with_wrong_bytes_is_avoided_and_costs_its_registry_nothing() {
    for size in SIZES {
        let (bench, blob) = (Bench::new(options()), Blob::new(size, 401));
        let source = Scripted::new("a", &blob, |_, _| Reply {
            mirror: Some("liar"),
            corrupt: Some(7),
            heeds: true,
            ..Reply::default()
        });
        let fetched = end(bench.join(&blob, &source)).await.unwrap();
        assert!(fetched.whole_by_me, "{fetched:?}");
        assert_eq!(source.distrusted(), ["liar"]);
        bench.assert_has(&blob);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_goes_on_with_a_lying_mirror_fails_in_the_end() {
    for size in SIZES {
        let (bench, blob) = (Bench::new(options()), Blob::new(size, 402));
        let source = Scripted::new("a", &blob, |_, _| Reply {
            mirror: Some("liar"),
            corrupt: Some(7),
            ..Reply::default()
        });
        assert!(end(bench.join(&blob, &source)).await.is_err());
        assert!(source.distrusted().len() > 2, "{:?}", source.distrusted());
        assert_eq!(bench.store.blob_size(&blob.digest), None);
    }
}

//! Compressed blobs: decoded as they pass or from the disk, kept while somebody needs them, refused where they are bombs.

use std::sync::Arc;

use stowage_artifact::Codec;
use stowage_artifact::digest::Digest;
use stowage_store::io::{Outcome, Probe, When};
use stowage_store::{CommitError, DecodeError, MadeUpSpace, StoreOptions, Testing};

use crate::support::*;

fn codecs(plain: &[u8]) -> [(Codec, Vec<u8>); 2] {
    [(Codec::Gzip, gzip(plain)), (Codec::Zstd, zstd(plain))]
}

#[test]
fn a_compressed_download_becomes_its_plain_bytes_and_leaves_nothing_else() {
    let plain = bytes(3_000_000, 1);
    for (codec, blob) in codecs(&plain) {
        let at = TestStore::new();
        let encoded = decoded_download(&at.store, &blob, codec);
        let decoded = at.store.decoded(&encoded).unwrap().unwrap();
        assert_eq!(decoded.plain(), &digest(&plain));
        assert_eq!((decoded.plain_size(), decoded.size()), (3_000_000, blob.len() as u64));
        assert_eq!(at.store.blob_size(&encoded), None, "the compressed blob went");
        assert_eq!(at.store.blob_size(&digest(&plain)), Some(3_000_000));
        assert_eq!(names(at.root.path(), "ingest"), [""; 0]);
        for sample in decoded.samples() {
            let range = sample.range();
            assert!(sample.is(&blob[range.start as usize..range.end as usize]));
        }
        assert!(!decoded.samples().is_empty());
        assert_eq!(at.store.fsck(false).unwrap().problems, []);
    }
}

#[test]
fn the_blob_stays_where_somebody_wants_it_as_it_is() {
    let plain = bytes(100_000, 2);
    for (codec, blob) in codecs(&plain) {
        let at = TestStore::new();
        let encoded = digest(&blob);
        let writer = at.store.ingest(&encoded, blob.len() as u64).unwrap();
        writer.decode(codec).unwrap();
        fill(&writer, &blob).unwrap();
        writer.keep_encoded();
        writer.commit().unwrap();
        assert_eq!(at.store.blob_size(&encoded), Some(blob.len() as u64));
        assert_eq!(at.store.decoded(&encoded).unwrap().unwrap().plain(), &digest(&plain));
    }
}

#[test]
fn a_stored_blob_is_decoded_once() {
    let plain = bytes(500_000, 3);
    for (codec, blob) in codecs(&plain) {
        let at = TestStore::new();
        let encoded = download(&at.store, &blob);
        let first = at.store.decode_blob(&encoded, codec).unwrap();
        assert_eq!(first.plain(), &digest(&plain));
        let inode = inode(&at, first.plain());
        assert_eq!(self::inode(&at, at.store.decode_blob(&encoded, codec).unwrap().plain()), inode);
    }
}

fn inode(at: &TestStore, digest: &Digest) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(at.path(blob_file(digest, ""))).unwrap().ino()
}

#[test]
fn several_members_and_frames_are_one_blob() {
    let (one, two) = (bytes(10_000, 4), bytes(20_000, 5));
    let whole = [one.clone(), two.clone()].concat();
    for (codec, blob) in
        [(Codec::Gzip, [gzip(&one), gzip(&two)].concat()), (Codec::Zstd, [zstd(&one), zstd(&two)].concat())]
    {
        let at = TestStore::new();
        let encoded = decoded_download(&at.store, &blob, codec);
        assert_eq!(at.store.decoded(&encoded).unwrap().unwrap().plain(), &digest(&whole), "{codec}");
    }
}

#[test]
fn what_is_not_compressed_as_it_says_stays_as_it_is_and_is_named() {
    let plain = bytes(200_000, 6);
    for (codec, blob) in codecs(&plain) {
        let cut_off = blob[..blob.len() - 20].to_vec();
        let mut flipped = blob.clone();
        flipped[150_000] ^= 0x10;
        for (what, blob) in [("plain", plain.clone()), ("cut off", cut_off), ("flipped", flipped)] {
            // A flipped bit of a frame without a checksum is what its author pushed.
            let at = TestStore::new();
            let encoded = decoded_download(&at.store, &blob, codec);
            if what == "flipped" && codec == Codec::Zstd {
                continue;
            }
            assert!(at.store.decoded(&encoded).unwrap().is_none(), "{codec} {what}");
            assert_eq!(at.store.blob_size(&encoded), Some(blob.len() as u64), "nothing is fetched again");
            let error = at.store.decode_blob(&encoded, codec).unwrap_err();
            let said = error.to_string();
            let expected =
                format!("blob {encoded} is said to be compressed with {codec} and cannot be decoded");
            assert!(error.is_final() && said.starts_with(&expected), "{what}: {said}");
            assert_eq!(names(at.root.path(), "ingest"), [""; 0]);
        }
    }
}

#[test]
fn wrong_bytes_are_a_fault_of_the_registry_whatever_they_decode_to() {
    let at = TestStore::new();
    let (promised, lie) = (gzip(&bytes(50_000, 7)), bytes(40_000, 8));
    let mut lie = lie;
    lie.resize(promised.len(), 0);
    let writer = at.store.ingest(&digest(&promised), promised.len() as u64).unwrap();
    writer.decode(Codec::Gzip).unwrap();
    fill(&writer, &lie).unwrap();
    assert!(matches!(writer.commit(), Err(CommitError::DigestMismatch { .. })));
    drop(writer);
    assert!(at.store.decoded(&digest(&promised)).unwrap().is_none());
    assert_eq!(names(at.root.path(), "ingest"), [""; 0]);
}

#[test]
fn a_bomb_stops_at_its_limit() {
    let zeros = vec![0; 80 << 20];
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, &zeros).unwrap();
    for (codec, blob) in [(Codec::Gzip, encoder.finish().unwrap()), (Codec::Zstd, zstd(&zeros))] {
        let at = TestStore::new();
        let encoded = decoded_download(&at.store, &blob, codec);
        let error = at.store.decode_blob(&encoded, codec).unwrap_err();
        assert!(matches!(error, DecodeError::TooLarge { limit: 0x400_0000, .. }), "{codec}: {error}");
        assert!(at.store.decoded(&encoded).unwrap().is_none());
        assert_eq!(names(at.root.path(), "ingest"), [""; 0], "nothing half-done");
    }
}

/// What `zstd --long=28` writes; the decoder would take as much memory as the window has.
#[test]
fn a_window_above_the_limit_is_refused() {
    let plain = bytes(1 << 20, 4);
    for (window_log, fits) in [(27, true), (28, false)] {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        std::io::Write::write_all(&mut encoder, &plain).unwrap();
        let blob = encoder.finish().unwrap();
        let at = TestStore::new();
        let encoded = download(&at.store, &blob);
        match at.store.decode_blob(&encoded, Codec::Zstd) {
            Ok(decoded) => assert!(fits && decoded.plain() == &digest(&plain), "{window_log}"),
            Err(error) => assert!(!fits && matches!(error, DecodeError::Malformed { .. }), "{error}"),
        }
        assert_eq!(names(at.root.path(), "ingest"), [""; 0]);
    }
}

#[test]
fn a_full_disk_keeps_what_has_arrived() {
    let plain = bytes(40 << 20, 9);
    let blob = zstd(&plain);
    let options = StoreOptions {
        testing: Testing { space: Some(MadeUpSpace::new(50 << 20, 0)), ..Testing::default() },
        ..options()
    };
    let at = TestStore::with(options);
    let encoded = digest(&blob);
    let writer = at.store.ingest(&encoded, blob.len() as u64).unwrap();
    writer.decode(Codec::Zstd).unwrap();
    fill(&writer, &blob).unwrap();
    let error = writer.commit().unwrap_err();
    assert!(error.to_string().starts_with(&format!("no space to decode blob {encoded}: ")), "{error}");
    drop(writer);
    let again = at.store.ingest(&encoded, blob.len() as u64).unwrap();
    assert_eq!(again.missing(), []);
    drop(again);
    // With more room it goes on without a byte from outside.
    let at = at.reopen(options_with(&Probe::new()));
    let writer = at.store.ingest(&encoded, blob.len() as u64).unwrap();
    assert_eq!(writer.missing(), []);
    writer.decode(Codec::Zstd).unwrap();
    writer.commit().unwrap();
    assert_eq!(at.store.decoded(&encoded).unwrap().unwrap().plain(), &digest(&plain));
}

#[test]
fn a_killed_process_decodes_again_from_the_disk() {
    let plain = bytes(2 << 20, 10);
    for (codec, blob) in codecs(&plain) {
        let at = TestStore::new();
        let encoded = digest(&blob);
        let writer = at.store.ingest(&encoded, blob.len() as u64).unwrap();
        writer.decode(codec).unwrap();
        let half = blob.len() as u64 / 2;
        writer.write_at(0, &blob[..half as usize]).unwrap();
        writer.mark(0..half).unwrap();
        writer.flush().unwrap();
        writer.advance().unwrap();
        drop(writer);
        let at = at.reopen(options());
        let writer = at.store.ingest(&encoded, blob.len() as u64).unwrap();
        assert_eq!(writer.missing().first().unwrap().start, half, "nothing twice");
        writer.decode(codec).unwrap();
        fill(&writer, &blob).unwrap();
        writer.commit().unwrap();
        assert_eq!(at.store.decoded(&encoded).unwrap().unwrap().plain(), &digest(&plain));
    }
}

#[test]
fn a_reset_decodes_from_the_start() {
    let plain = bytes(300_000, 11);
    let blob = gzip(&plain);
    let at = TestStore::new();
    let writer = at.store.ingest(&digest(&blob), blob.len() as u64).unwrap();
    writer.decode(Codec::Gzip).unwrap();
    let wrong = bytes(100_000, 12);
    writer.write_at(0, &wrong).unwrap();
    writer.mark(0..wrong.len() as u64).unwrap();
    writer.advance().unwrap();
    writer.reset().unwrap();
    fill(&writer, &blob).unwrap();
    writer.commit().unwrap();
    assert_eq!(at.store.decoded(&digest(&blob)).unwrap().unwrap().plain(), &digest(&plain));
}

#[test]
fn a_record_that_names_the_compressed_blob_keeps_the_plain_one() {
    let plain = bytes(60_000, 13);
    let blob = zstd(&plain);
    let at = TestStore::new();
    at.store.pin(&record("v", &[digest(&blob)], None)).unwrap();
    decoded_download(&at.store, &blob, Codec::Zstd);
    // What this process knows, another one has to find out.
    let at = at.reopen(options());
    at.store.collect(&everything()).unwrap();
    let removed = at.store.remove_blob(&digest(&plain)).unwrap_err().to_string();
    assert!(removed.contains("is in use by volume v"), "{removed}");
    let held = at.store.decoded(&digest(&blob)).unwrap().unwrap();
    at.store.remove_record("v", &record("v", &[], None).target).unwrap();
    at.store.collect(&everything()).unwrap();
    assert_eq!(at.store.blob_size(held.plain()), Some(60_000), "held");
    drop(held);
    at.store.collect(&everything()).unwrap();
    assert!(at.store.decoded(&digest(&blob)).unwrap().is_none());
    assert_eq!(names(at.root.path(), "decoded"), [""; 0], "forgotten with its blob");
}

#[test]
fn a_failed_sync_of_the_plain_bytes_makes_no_blob() {
    let plain = bytes(60_000, 14);
    let blob = gzip(&plain);
    let probe = Probe::with_fault(When::Every("decode.sync"), Outcome::Errno(libc::EIO));
    let at = TestStore::with(options_with(&Arc::clone(&probe)));
    let writer = at.store.ingest(&digest(&blob), blob.len() as u64).unwrap();
    writer.decode(Codec::Gzip).unwrap();
    fill(&writer, &blob).unwrap();
    writer.commit().unwrap_err();
    drop(writer);
    assert_eq!(at.store.blob_size(&digest(&plain)), None);
    assert!(at.store.decoded(&digest(&blob)).unwrap().is_none());
}

//! Threads that publish, unpublish and collect at the same time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use stowage_store::{IngestError, Store, StoreError, StoreOptions, Testing, ViewError};

use crate::support::{digest, everything, fill, names, record, spec};

const ROUNDS: usize = 40;

/// Ends the thread that collects, also when another thread has failed.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Publishes as the volumes crate does, and reads the volume. Says whether it came to a mount.
fn publish(store: &Store, volume: &str, files: &[(&str, &[u8], bool)]) -> bool {
    let blobs: Vec<_> = files.iter().map(|(_, bytes, _)| digest(bytes)).collect();
    for missing in store.pin(&record(volume, &blobs, None)).unwrap() {
        let (_, whole, _) = files.iter().find(|(_, bytes, _)| digest(bytes) == missing).unwrap();
        loop {
            match store.ingest(&missing, whole.len() as u64) {
                Ok(writer) => {
                    fill(&writer, whole).unwrap();
                    writer.commit().unwrap();
                    break;
                }
                Err(IngestError::AlreadyStored(_)) => break,
                Err(IngestError::Busy(_)) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }
    let view = match store.build_view(&spec(files)) {
        Ok(view) => view,
        Err(ViewError::MissingBlobs(missing)) => panic!("{missing:?} were pinned and are gone"),
        Err(error) => panic!("{error}"),
    };
    match store.put_record(&record(volume, &blobs, Some(&view.id))) {
        Ok(()) => {}
        Err(StoreError::NoSuchView(_)) => return false,
        Err(error) => panic!("{error}"),
    }
    for (path, bytes, _) in files {
        assert_eq!(&std::fs::read(view.tree.join(path)).unwrap(), bytes, "{path} of {volume}");
    }
    true
}

#[test]
fn collection_beside_publish_and_unpublish_removes_nothing_in_use() {
    let root = tempfile::tempdir().unwrap();
    let testing = Testing { probe: Some(stowage_store::io::Probe::new()), ..Testing::default() };
    let store = Store::open(root.path(), StoreOptions { testing, ..StoreOptions::default() }).unwrap();
    let artifacts: [&[(&str, &[u8], bool)]; 2] =
        [&[("a", b"one", false), ("b/c", b"two", false)], &[("x", b"two", false), ("y", b"#!three", true)]];
    let (done, collected, mounted) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..3_usize)
            .map(|publisher| {
                let (store, mounted, artifacts) = (&store, &mounted, &artifacts);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let volume = format!("volume-{publisher}");
                        let files = artifacts[(publisher + round) % 2];
                        if publish(store, &volume, files) {
                            mounted.fetch_add(1, Ordering::Relaxed);
                        }
                        store.remove_record(&volume, &record(&volume, &[], None).target).unwrap();
                    }
                })
            })
            .collect();
        let collector = scope.spawn(|| {
            // Without a pause a slow machine may collect every view before its record is written.
            for pause in (0..3000).step_by(70).cycle() {
                if done.load(Ordering::Acquire) {
                    break;
                }
                collected.fetch_add(store.collect(&everything()).unwrap().views, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(pause));
            }
        });
        let all_done = Done(&done);
        for publisher in publishers {
            publisher.join().unwrap();
        }
        drop(all_done);
        collector.join().unwrap();
    });
    assert!(mounted.load(Ordering::Relaxed) > 0 && collected.load(Ordering::Relaxed) > 0);
    store.collect(&everything()).unwrap();
    assert_eq!(store.fsck(false).unwrap().problems, []);
    assert_eq!(names(root.path(), "views"), [""; 0]);
    let usage = store.usage().unwrap();
    assert_eq!((usage.blobs, usage.ingests, usage.volumes), (0, 0, 0));
}

#[test]
fn a_hundred_publishes_of_one_view_build_it_once() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), StoreOptions::default()).unwrap();
    let files: [(&str, &[u8], bool); 2] = [("a", b"one", false), ("b", b"two", false)];
    std::thread::scope(|scope| {
        for volume in 0..110 {
            let (store, files) = (&store, &files);
            scope.spawn(move || assert!(publish(store, &format!("v{volume}"), files)));
        }
    });
    assert_eq!(store.views().len(), 1);
    assert_eq!(store.records_of_view(&store.views()[0]).unwrap().len(), 110);
    assert_eq!(names(root.path(), "volumes").len(), 110);
    assert_eq!(store.usage().unwrap().blobs, 2);
}

/// Nobody has written a record here, so a blob may go before the build, but never during it.
#[test]
fn a_view_is_built_of_blobs_that_stay_until_it_is_there() {
    let root = tempfile::tempdir().unwrap();
    let testing = Testing { probe: Some(stowage_store::io::Probe::new()), ..Testing::default() };
    let store = Store::open(root.path(), StoreOptions { testing, ..StoreOptions::default() }).unwrap();
    let contents: Vec<(String, Vec<u8>)> = (0..120_u8).map(|n| (format!("f{n}"), vec![n])).collect();
    let files: Vec<(&str, &[u8], bool)> =
        contents.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice(), false)).collect();
    let blobs: Vec<_> =
        contents.iter().map(|(_, bytes)| (digest(bytes), bytes::Bytes::copy_from_slice(bytes))).collect();
    // One build alone tells how long a build takes here: collections then begin at every moment of one.
    store.put_blobs(&blobs).unwrap();
    let begun = Instant::now();
    store.build_view(&spec(&files)).unwrap();
    let alone = begun.elapsed();
    store.collect(&everything()).unwrap();

    let (mut built, mut missed) = (0, 0);
    std::thread::scope(|scope| {
        let (delays, begin) = mpsc::channel::<Duration>();
        let (tell, collected) = mpsc::channel();
        let store = &store;
        scope.spawn(move || {
            for delay in begin {
                std::thread::sleep(delay);
                tell.send(store.collect(&everything()).unwrap().views).unwrap();
            }
        });
        for round in 0..80 {
            store.put_blobs(&blobs).unwrap();
            delays.send(alone * round / 40).unwrap();
            match store.build_view(&spec(&files)) {
                Ok(_) => built += 1,
                Err(ViewError::MissingBlobs(_)) => missed += 1,
                Err(error) => panic!("a blob went during the build: {error}"),
            }
            collected.recv().unwrap();
            store.collect(&everything()).unwrap();
        }
    });
    assert_eq!((built + missed, store.views().len()), (80, 0));
    assert!(built > 0, "no build in 80 was faster than a collection that began up to twice its time later");
    assert_eq!(store.fsck(false).unwrap().problems, []);
}

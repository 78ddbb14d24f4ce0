//! Collection and admission.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use stowage_store::io::Probe;
use stowage_store::{
    AdmitError, CollectOptions, MadeUpSpace, MinFree, Store, StoreError, StoreOptions, ViewError, ViewSpec,
};

use crate::support::{
    TestStore, bytes, digest, download, everything, fill, names, options, options_with, put_files, record,
    spec,
};

const KIB: u64 = 1 << 10;
const MINUTE: Duration = Duration::from_mins(1);

/// A disk of 1000 KiB, and a store on it.
fn small_disk(change: impl FnOnce(&mut StoreOptions)) -> (TestStore, std::sync::Arc<MadeUpSpace>) {
    let space = MadeUpSpace::new(1000 * KIB, 1000);
    let mut options = options();
    options.testing.space = Some(std::sync::Arc::clone(&space));
    options.min_free = MinFree::default();
    options.min_age = Duration::ZERO;
    change(&mut options);
    (TestStore::with(options), space)
}

/// A view of one file of 100 KiB, which nobody uses.
fn view_of(store: &Store, seed: u64) -> (String, ViewSpec) {
    let content = bytes(100 * KIB as usize, seed);
    let spec = put_files(store, &[("a", &content, false)]);
    (store.build_view(&spec).unwrap().id, spec)
}

#[test]
fn the_least_recently_used_go_first_until_the_low_watermark() {
    let (store, _) = small_disk(|_| {});
    let views: Vec<_> = (0..7).map(|seed| view_of(&store, seed)).collect();
    assert_eq!(store.collect(&CollectOptions::default()).unwrap().views, 0, "70 % is below the start");
    // The oldest is used again; the second is in a volume.
    store.touch_view(&views[0].0).unwrap();
    store.put_record(&record("v", &[], Some(&views[1].0))).unwrap();
    view_of(&store, 7);
    let report = store.collect(&CollectOptions::default()).unwrap();
    assert_eq!((report.views, report.blobs, report.bytes), (1, 1, 100 * KIB));
    assert!(store.view(&views[2].0).unwrap().is_none());
    assert!(store.view(&views[0].0).unwrap().is_some());
    assert!(store.find_view(&views[1].1).unwrap().is_some());
}

#[test]
fn what_was_used_a_moment_ago_stays() {
    let (store, _) = small_disk(|options| options.min_age = 10 * MINUTE);
    let (view, _) = view_of(&store, 1);
    let force = CollectOptions { force: true, ..CollectOptions::default() };
    store.let_time_pass(9 * MINUTE);
    assert_eq!(store.collect(&force).unwrap().views, 0);
    store.touch_view(&view).unwrap();
    store.let_time_pass(9 * MINUTE);
    assert_eq!(store.collect(&force).unwrap().views, 0);
    store.let_time_pass(2 * MINUTE);
    assert_eq!(store.collect(&force).unwrap().views, 1);
}

#[test]
fn a_clock_that_was_ahead_does_not_stop_collection() {
    let (store, _) = small_disk(|options| options.min_age = 10 * MINUTE);
    let (view, _) = view_of(&store, 1);
    // The wall clock was a day ahead when the view was last used.
    store.let_time_pass(24 * 60 * MINUTE);
    store.touch_view(&view).unwrap();
    let mut options = store.options().clone();
    options.testing.space = None;
    let store = store.reopen(options);
    let force = CollectOptions { force: true, ..CollectOptions::default() };
    assert_eq!(store.collect(&force).unwrap().views, 0);
    store.let_time_pass(11 * MINUTE);
    assert_eq!(store.collect(&force).unwrap().views, 1);
}

#[test]
fn a_shared_blob_stays_with_the_view_that_needs_it() {
    let store = TestStore::new();
    let gone =
        store.build_view(&put_files(&store, &[("a", b"shared", false), ("b", b"own", false)])).unwrap();
    let kept = store.build_view(&put_files(&store, &[("a", b"shared", false)])).unwrap();
    store.put_record(&record("v", &[], Some(&kept.id))).unwrap();
    let report = store.collect(&everything()).unwrap();
    assert_eq!((report.views, report.blobs), (1, 1));
    assert!(store.view(&gone.id).unwrap().is_none());
    assert!(store.blob_size(&digest(b"shared")).is_some());
}

#[test]
fn a_running_download_is_not_collected_and_an_idle_one_is() {
    let (store, _) = small_disk(|_| {});
    let whole = bytes(100_000, 1);
    let writer = store.ingest(&digest(&whole), 100_000).unwrap();
    writer.preallocate().unwrap();
    assert_eq!(store.collect(&everything()).unwrap().ingests, 0);
    fill(&writer, &whole).unwrap();
    drop(writer);
    let report = store.collect(&everything()).unwrap();
    assert_eq!(report.ingests, 1);
    assert!(report.bytes >= 100_000);
    assert_eq!(names(store.root.path(), "ingest"), [""; 0]);
}

#[test]
fn a_blob_stays_while_its_writer_lives() {
    let store = TestStore::new();
    let writer = store.ingest(&digest(b"just committed"), 14).unwrap();
    fill(&writer, b"just committed").unwrap();
    writer.commit().unwrap();
    store.collect(&everything()).unwrap();
    assert!(store.blob_size(writer.digest()).is_some());
    drop(writer);
    assert_eq!(store.collect(&everything()).unwrap().blobs, 1);
}

#[test]
fn a_download_that_nobody_wants_goes_after_a_day() {
    let (store, _) = small_disk(|options| options.min_age = 10 * MINUTE);
    let whole = bytes(100_000, 1);
    let writer = store.ingest(&digest(&whole), 100_000).unwrap();
    writer.write_at(0, &whole[..500]).unwrap();
    writer.mark(0..500).unwrap();
    drop(writer);
    store.let_time_pass(23 * 60 * MINUTE);
    assert_eq!(store.collect(&CollectOptions::default()).unwrap().ingests, 0);
    store.let_time_pass(2 * 60 * MINUTE);
    assert_eq!(store.collect(&CollectOptions::default()).unwrap().ingests, 1, "without any need for room");
}

#[test]
fn a_full_neighbour_does_not_empty_the_cache_for_ever() {
    let (store, space) = small_disk(|_| {});
    view_of(&store, 1);
    view_of(&store, 2);
    space.bytes_of_others.store(790 * KIB, Ordering::Relaxed);
    let report = store.collect(&CollectOptions::default()).unwrap();
    assert_eq!(report.views, 2, "99 % full: the watermarks want everything above the floor of 5 %");
    let small = bytes(40 * KIB as usize, 3);
    store.build_view(&put_files(&store, &[("a", &small, false)])).unwrap();
    space.bytes_of_others.store(950 * KIB, Ordering::Relaxed);
    assert_eq!(store.collect(&CollectOptions::default()).unwrap().views, 0, "below the floor nothing goes");
}

#[test]
fn the_stores_own_limit_is_kept() {
    let (store, _) = small_disk(|options| options.max_bytes = Some(250 * KIB));
    for seed in 0..4 {
        view_of(&store, seed);
    }
    let report = store.collect(&CollectOptions::default()).unwrap();
    assert_eq!(report.views, 2);
    assert!(store.usage().unwrap().bytes <= 250 * KIB);
}

#[test]
fn admission_evicts_before_it_refuses() {
    let (store, _) = small_disk(|_| {});
    let (idle, _) = view_of(&store, 1);
    let (used, _) = view_of(&store, 2);
    store.put_record(&record("v", &[], Some(&used))).unwrap();
    // 1000 - 200 - 200 kept free: 600 fit as things are.
    drop(store.admit(600 * KIB, 1).unwrap());
    assert!(store.view(&idle).unwrap().is_some());
    drop(store.admit(650 * KIB, 1).unwrap());
    assert!(store.view(&idle).unwrap().is_none());
    assert!(store.view(&used).unwrap().is_some());
    match store.admit(701 * KIB, 1) {
        Err(AdmitError::NoSpace { needed, free, keep }) => {
            assert_eq!((needed, free, keep), (701 * KIB, 900 * KIB, 200 * KIB));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(store.admit(KIB, 1000), Err(AdmitError::NoInodes { .. })));
}

#[test]
fn who_asks_for_too_much_does_not_empty_the_cache() {
    let (store, _) = small_disk(|_| {});
    let (first, _) = view_of(&store, 1);
    view_of(&store, 2);
    assert!(matches!(store.admit(801 * KIB, 1), Err(AdmitError::NoSpace { .. })));
    assert_eq!(store.views().len(), 2, "even without both there would be no room");
    drop(store.admit(800 * KIB, 1).unwrap());
    assert!(store.view(&first).unwrap().is_none());
}

#[test]
fn what_was_admitted_is_refused_to_others() {
    let (store, _) = small_disk(|_| {});
    let first = store.admit(500 * KIB, 1).unwrap();
    assert!(matches!(store.admit(400 * KIB, 1), Err(AdmitError::NoSpace { .. })));
    first.written(200 * KIB);
    drop(store.admit(400 * KIB, 1).unwrap());
    assert!(matches!(store.admit(600 * KIB, 1), Err(AdmitError::NoSpace { .. })));
    drop(first);
    drop(store.admit(600 * KIB, 1).unwrap());
}

#[test]
fn a_limit_of_the_store_is_named() {
    let (store, _) = small_disk(|options| options.max_bytes = Some(100 * KIB));
    let refused = store.admit(101 * KIB, 1).unwrap_err();
    assert!(matches!(refused, AdmitError::OverLimit { limit, .. } if limit == 100 * KIB), "{refused}");
    assert!(refused.to_string().contains("maxBytes"));
}

#[test]
fn a_refusal_writes_nothing() {
    let probe = Probe::new();
    let mut options = options_with(&probe);
    options.testing.space = Some(MadeUpSpace::new(80 << 30, 1 << 20));
    let store = TestStore::with(options);
    let before = probe.log();
    assert!(store.admit(100 << 30, 4).is_err());
    assert_eq!(probe.log(), before);
    assert_eq!(names(store.root.path(), "ingest"), [""; 0]);
}

/// Three artifacts that share blobs.
const ARTIFACTS: [&[(&str, &[u8])]; 3] =
    [&[("a", b"one"), ("b", b"two")], &[("a", b"two"), ("c/d", b"three")], &[("only", b"one")]];

fn artifact_spec(artifact: usize) -> ViewSpec {
    let files: Vec<_> = ARTIFACTS[artifact].iter().map(|(path, bytes)| (*path, *bytes, false)).collect();
    spec(&files)
}

fn artifact_blobs(artifact: usize) -> Vec<stowage_artifact::Digest> {
    ARTIFACTS[artifact].iter().map(|(_, bytes)| digest(bytes)).collect()
}

/// One step of somebody. A publish is four steps, so that collection comes between any two.
#[derive(Clone, Debug)]
enum Step {
    Pin { volume: usize, artifact: usize },
    Fetch { volume: usize },
    Build { volume: usize },
    Mount { volume: usize },
    Unpublish { volume: usize },
    Collect,
    RemoveByHand { artifact: usize },
    Quarantine { artifact: usize, blob: usize },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let volume = 0..4_usize;
    let artifact = 0..ARTIFACTS.len();
    prop_oneof![
        4 => (volume.clone(), artifact.clone()).prop_map(|(volume, artifact)| Step::Pin { volume, artifact }),
        4 => volume.clone().prop_map(|volume| Step::Fetch { volume }),
        4 => volume.clone().prop_map(|volume| Step::Build { volume }),
        4 => volume.clone().prop_map(|volume| Step::Mount { volume }),
        3 => volume.prop_map(|volume| Step::Unpublish { volume }),
        6 => Just(Step::Collect),
        1 => artifact.clone().prop_map(|artifact| Step::RemoveByHand { artifact }),
        1 => (artifact, 0..2_usize).prop_map(|(artifact, blob)| Step::Quarantine { artifact, blob }),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Debug, Default)]
struct Volume {
    artifact: usize,
    fetched: bool,
    view: Option<String>,
    mounted: bool,
}

/// What the volumes were promised.
struct World {
    /// Taken out for a moment by a restart.
    store: Option<TestStore>,
    volumes: BTreeMap<usize, Volume>,
    /// Blobs that were taken away as bad and not fetched again.
    bad: BTreeSet<stowage_artifact::Digest>,
}

fn volume_name(volume: usize) -> String {
    format!("volume-{volume}")
}

fn open(store: Option<&TestStore>) -> &TestStore {
    store.expect("the store is open between steps")
}

impl World {
    fn store(&self) -> &TestStore {
        open(self.store.as_ref())
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Pin { volume, artifact } => {
                if self.volumes.contains_key(&volume) {
                    return;
                }
                let blobs = artifact_blobs(artifact);
                self.store().pin(&record(&volume_name(volume), &blobs, None)).unwrap();
                self.volumes.insert(volume, Volume { artifact, ..Volume::default() });
            }
            Step::Fetch { volume } => {
                let store = open(self.store.as_ref());
                let Some(state) = self.volumes.get_mut(&volume) else { return };
                for (_, bytes) in ARTIFACTS[state.artifact] {
                    if store.blob_size(&digest(bytes)).is_none() {
                        download(store, bytes);
                        self.bad.remove(&digest(bytes));
                    }
                }
                state.fetched = true;
            }
            Step::Build { volume } => {
                let store = open(self.store.as_ref());
                let Some(state) =
                    self.volumes.get_mut(&volume).filter(|state| state.fetched && !state.mounted)
                else {
                    return;
                };
                match store.build_view(&artifact_spec(state.artifact)) {
                    Ok(view) => state.view = Some(view.id),
                    Err(ViewError::MissingBlobs(missing)) => {
                        assert!(
                            missing.iter().all(|digest| self.bad.contains(digest)),
                            "{missing:?} was pinned"
                        );
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Mount { volume } => {
                let store = open(self.store.as_ref());
                let Some(state) = self.volumes.get_mut(&volume) else { return };
                let Some(view) = state.view.clone() else { return };
                let blobs = artifact_blobs(state.artifact);
                match store.put_record(&record(&volume_name(volume), &blobs, Some(&view))) {
                    Ok(()) => state.mounted = true,
                    // Collected between the build and the mount, which the caller sees before it mounts.
                    Err(StoreError::NoSuchView(_)) if !state.mounted => state.view = None,
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Unpublish { volume } => {
                let target = record(&volume_name(volume), &[], None).target;
                self.store().remove_record(&volume_name(volume), &target).unwrap();
                self.volumes.remove(&volume);
            }
            Step::Collect => {
                self.store().collect(&everything()).unwrap();
            }
            Step::RemoveByHand { artifact } => {
                for blob in artifact_blobs(artifact) {
                    let _ = self.store().remove(blob.as_str());
                }
                for view in self.store().views() {
                    let _ = self.store().remove(&view);
                }
            }
            Step::Quarantine { artifact, blob } => {
                let blobs = artifact_blobs(artifact);
                let blob = &blobs[blob % blobs.len()];
                self.store().quarantine(blob, "a test said so").unwrap();
                self.bad.insert(blob.clone());
            }
            Step::Restart => {
                let store = self.store.take().expect("the store is open between steps");
                let options = store.options().clone();
                self.store = Some(store.reopen(options));
            }
        }
    }

    /// Nothing that is referred to is ever removed.
    fn check(&self) {
        for (volume, state) in &self.volumes {
            for blob in artifact_blobs(state.artifact) {
                let there = self.store().blob_size(&blob).is_some();
                let may_lack = !state.fetched || self.bad.contains(&blob);
                assert!(there || may_lack, "{blob} of volume {volume} was removed");
            }
            if state.mounted {
                let view = state.view.as_ref().unwrap();
                let tree = self.store().view(view).unwrap().expect("the view of a mounted volume").tree;
                for (path, bytes) in ARTIFACTS[state.artifact] {
                    assert_eq!(&std::fs::read(tree.join(path)).unwrap(), bytes, "{path} of volume {volume}");
                }
            }
        }
    }

    fn finish(mut self) {
        for volume in 0..4 {
            self.apply(&Step::Unpublish { volume });
        }
        self.store().collect(&everything()).unwrap();
        assert_eq!(
            crate::support::blob_files(self.store().root.path()),
            [""; 0].map(std::path::PathBuf::from)
        );
        for directory in ["views", "ingest", "volumes", "trash", "quarantine"] {
            assert_eq!(names(self.store().root.path(), directory), [""; 0], "{directory}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_steps_removes_what_is_referred_to(steps in prop::collection::vec(step(), 1..60)) {
        let store = TestStore::with(options_with(&Probe::new()));
        let mut world = World { store: Some(store), volumes: BTreeMap::new(), bad: BTreeSet::new() };
        for step in &steps {
            world.apply(step);
            world.check();
        }
        world.finish();
    }
}

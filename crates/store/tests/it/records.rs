//! Volume records and tags.

use stowage_store::{RecordState, Store, StoreError};

use crate::support::{TestStore, digest, names, options, put_files, record};

#[test]
fn records_outlive_the_process() {
    let store = TestStore::new();
    let mut first = record("one", &[digest(b"a")], None);
    let second = record("two", &[], None);
    store.put_record(&first).unwrap();
    store.put_record(&second).unwrap();
    first.dev_ino = Some((1, 2));
    store.put_record(&first).unwrap();
    let store = store.reopen(options());
    assert_eq!(store.record("one", &first.target).unwrap(), Some(first.clone()));
    assert_eq!(store.records().unwrap().len(), 2);
    store.remove_record("one", &first.target).unwrap();
    store.remove_record("one", &first.target).unwrap();
    let store = store.reopen(options());
    assert_eq!(store.records().unwrap(), [second]);
}

#[test]
fn a_volume_may_have_several_targets_and_hostile_names() {
    let store = TestStore::new();
    let mut here = record("../../etc/passwd", &[], None);
    here.target = "/a".into();
    let mut there = here.clone();
    there.target = "/b".into();
    store.put_record(&here).unwrap();
    store.put_record(&there).unwrap();
    assert_eq!(store.records_of("../../etc/passwd").unwrap().len(), 2);
    assert_eq!(store.record("../../etc/passwd", "/b".as_ref()).unwrap(), Some(there));
    let files = names(store.root.path(), "volumes");
    assert_eq!(files.len(), 2);
    assert!(files.iter().all(|name| name.len() == 69 && name.strip_suffix(".json").is_some()), "{files:?}");
}

#[test]
fn an_unreadable_record_counts_as_absent() {
    let store = TestStore::new();
    let good = record("good", &[], None);
    store.put_record(&good).unwrap();
    let bad = record("bad", &[], None);
    store.put_record(&bad).unwrap();
    let good_file = names(store.root.path(), "volumes")
        .into_iter()
        .find(|name| {
            std::fs::read_to_string(store.path(format!("volumes/{name}"))).unwrap().contains("\"good\"")
        })
        .unwrap();
    for name in names(store.root.path(), "volumes").iter().filter(|name| **name != good_file) {
        std::fs::write(store.path(format!("volumes/{name}")), "{\"volumeId\":").unwrap();
    }
    // A whole record under another's name is none either.
    let stray = format!("volumes/{}.json", "0".repeat(64));
    std::fs::copy(store.path(format!("volumes/{good_file}")), store.path(stray)).unwrap();
    let store = store.reopen(options());
    assert_eq!(store.records().unwrap(), [good]);
    assert_eq!(store.record("bad", &bad.target).unwrap(), None);
}

#[test]
fn a_pin_says_what_is_missing_and_keeps_the_rest() {
    let store = TestStore::new();
    store.put_blob(&digest(b"here"), b"here").unwrap();
    let missing = store.pin(&record("v", &[digest(b"here"), digest(b"absent")], None)).unwrap();
    assert_eq!(missing, [digest(b"absent")]);
    store.collect(&crate::support::everything()).unwrap();
    assert!(store.blob_size(&digest(b"here")).is_some());
}

#[test]
fn a_record_cannot_name_a_view_that_was_collected() {
    let store = TestStore::new();
    let spec = put_files(&store, &[("a", b"a", false)]);
    let view = store.build_view(&spec).unwrap();
    let mounted = record("v", &[], Some(&view.id));
    assert_eq!(mounted.state, RecordState::Mounted);
    store.put_record(&mounted).unwrap();
    assert_eq!(store.records_of_view(&view.id).unwrap(), std::slice::from_ref(&mounted));
    store.remove_record("v", &mounted.target).unwrap();
    store.collect(&crate::support::everything()).unwrap();
    assert!(matches!(store.put_record(&mounted), Err(StoreError::NoSuchView(_))));
    assert_eq!(names(store.root.path(), "volumes"), [""; 0]);
}

#[test]
fn a_tag_is_remembered_as_long_as_its_manifest() {
    let store = TestStore::new();
    let reader: &Store = &store;
    assert_eq!(reader.tag("registry.example/a:1").unwrap(), None);
    store.put_blob(&digest(b"manifest"), b"manifest").unwrap();
    store.put_tag("registry.example/a:1", &digest(b"manifest")).unwrap();
    let store = store.reopen(options());
    assert_eq!(store.tag("registry.example/a:1").unwrap(), Some(digest(b"manifest")));
    store.collect(&crate::support::everything()).unwrap();
    assert_eq!(store.tag("registry.example/a:1").unwrap(), None);
    assert_eq!(names(store.root.path(), "tags"), [""; 0]);
}

//! The rows that mount tars.

use std::fs;

use crate::mounts::{bench, entries};

#[test]
fn tars_are_mounted_and_read_and_nothing_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let (dir, json) = (directory.path().join("dir"), directory.path().join("out.json"));
    let output = bench(&dir, "tiny", &["tar"]).arg("--json").arg(&json).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let figures: serde_json::Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let tar = &figures["sections"][0];
    for row in tar["rows"].as_array().unwrap() {
        // Unpacking by a program that may not be here is the one thing that may be missing.
        let by_umoci = row["what"].as_str().unwrap().contains("umoci");
        assert!(by_umoci || row["verdict"] != "not-measured", "{row}\n{errors}");
    }
    assert_eq!(tar["raw"]["mountable"]["files"], 20);
    assert_eq!(tar["raw"]["image"]["seconds"].as_array().unwrap().len(), 1);
    let read = tar["raw"]["reading"].as_array().unwrap();
    for place in read.iter().flat_map(|read| read["places"].as_array().unwrap()) {
        let failed = place["failed"].is_string();
        assert_eq!(place["cold"].as_array().unwrap().len(), usize::from(!failed), "{place}");
    }
    assert!(entries(&dir).is_empty(), "{:?}", entries(&dir));
}

//! Whole runs, which mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take on a slow machine.
const LIMIT: Duration = Duration::from_mins(3);

/// The program that is measured; cargo puts it beside ours.
fn stowage() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_stowage-bench")).with_file_name("stowage");
    assert!(path.exists(), "{} is not there: run `cargo build -p stowage` first", path.display());
    path
}

pub(crate) fn bench(directory: &Path, scale: &str, rows: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stowage-bench"));
    command.arg("run").arg("--stowage").arg(stowage()).arg("--dir").arg(directory).args(["--scale", scale]);
    command.args(rows.iter().flat_map(|row| ["--row", row]));
    command.args(["--missing", "modctl=for a reason"]);
    command
}

pub(crate) fn entries(directory: &Path) -> Vec<String> {
    let listed = fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<_> =
        listed.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn every_row_that_needs_no_other_program_is_measured_and_nothing_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let (dir, docs, json) =
        (directory.path().join("dir"), directory.path().join("docs"), directory.path().join("out.json"));
    let rows = ["publish", "refetch", "digest", "engine"];
    let mut command = bench(&dir, "tiny", &rows);
    let output = command.arg("--json").arg(&json).arg("--docs").arg(&docs).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.lines().any(|line| line.contains("what") && line.contains("reached")), "{said}");
    assert!(!said.contains('\x1b'), "{said}");

    let figures: serde_json::Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let sections = figures["sections"].as_array().unwrap();
    let names: Vec<&str> = sections.iter().map(|section| section["name"].as_str().unwrap()).collect();
    assert_eq!(names, rows);
    for section in sections {
        for row in section["rows"].as_array().unwrap() {
            assert_ne!(row["verdict"], "not-measured", "{row}\n{errors}");
            assert!(!row["measured"].as_str().unwrap().is_empty(), "{row}");
        }
    }
    assert_eq!(sections[0]["raw"]["crowd"].as_array().unwrap().len(), 1);
    assert!(figures["machine"]["memory"].as_u64().unwrap() > 0);

    assert_eq!(entries(&docs), ["README.md", "digest.svg", "engine-memory.svg", "figures.json"]);
    assert!(fs::read_to_string(docs.join("README.md")).unwrap().contains("quick run"));
    assert!(entries(&dir).is_empty(), "{:?}", entries(&dir));
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let temporary = directory.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    // Its rate limit alone makes this row last for seconds.
    let mut command = bench(directory.path(), "quick", &["refetch"]);
    command.env("TMPDIR", &temporary).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = command.spawn().unwrap();
    until(&mut run, || store(directory.path()).is_some_and(|store| store.exists()));
    let pid = nix::unistd::Pid::from_raw(run.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert_eq!(entries(directory.path()), ["tmp"]);
    assert!(entries(&temporary).iter().all(|name| !name.starts_with("stw-bench")));
}

/// The store of a running `refetch`.
fn store(directory: &Path) -> Option<PathBuf> {
    let run = entries(directory).into_iter().find(|name| name.starts_with("run-"))?;
    Some(directory.join(run).join("store-refetch"))
}

fn until(run: &mut Child, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        let ended = run.try_wait().unwrap();
        assert!(ended.is_none(), "it ended too early: {ended:?}");
        assert!(started.elapsed() < LIMIT, "it does not get that far");
        std::thread::yield_now();
    }
}

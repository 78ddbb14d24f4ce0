//! What the end-to-end tests run in a cluster, on this machine: the registry that stocks itself, and the reader.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{LIMIT, scene};

fn stowage() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stowage"));
    // The machine's disk may be nearly full.
    command.env("STOWAGE_MIN_FREE", "1");
    command
}

/// A child that does not outlive the test, and the lines that it prints.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts the command and reads its first line, which it prints when it is ready.
    fn start(command: &mut Command) -> (Self, Value) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // Reading has no limit, waiting for what was read has one.
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let running = Self { child, lines };
        let first = running.line();
        (running, first)
    }

    /// The next line.
    fn line(&self) -> Value {
        let line = self.lines.recv_timeout(LIMIT).expect("no line within the limit");
        serde_json::from_str(&line).unwrap()
    }

    /// How it ends by itself: its output ends first.
    fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            match self.lines.recv_timeout(LIMIT.saturating_sub(started.elapsed())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => panic!("it does not end"),
            }
        }
    }
}

fn probe(volume: &Path, sample: &Value, more: &[&str]) -> Command {
    let mut command = stowage();
    command.arg("probe-volume").arg("--path").arg(volume).args(more);
    for file in sample["files"].as_array().unwrap() {
        let text = |key: &str| file[key].as_str().unwrap().to_owned();
        command.arg(format!("--expect={}={}", text("path"), text("digest")));
    }
    command
}

fn sentence(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_stocked_registry_serves_what_its_books_say_and_the_reader_finds_it_in_a_volume() {
    scene(async |scene| {
        let mut registry = stowage();
        registry.args(["test-registry", "--listen=127.0.0.1:0", "--books=127.0.0.1:0", "--salt=this run"]);
        registry.args(["--sample=oras:samples/oras:300000", "--sample=modelpack:samples/model:5000"]);
        registry.args(["--user", "ada:secret", "--tag", "run-1"]);
        let (_registry, ready) = Running::start(&mut registry);
        assert_eq!(ready["samples"], 2);
        let host = ready["registry"].as_str().unwrap().to_owned();
        let book = async |page: &str| -> Value {
            let url = format!("http://{}{page}", ready["books"].as_str().unwrap());
            serde_json::from_str(&reqwest::get(url).await.unwrap().text().await.unwrap()).unwrap()
        };
        let config = scene.root().join("docker.json");
        // ada:secret
        let auths = serde_json::json!({ "auths": { &host: { "auth": "YWRhOnNlY3JldA==" } } });
        std::fs::write(&config, auths.to_string()).unwrap();

        for sample in book("/samples").await.as_array().unwrap() {
            assert_eq!(sample["tag"], "run-1");
            let reference = format!("{host}/{}:run-1", sample["repository"].as_str().unwrap());
            let volume = scene.root().join("volume");
            let mut mount = stowage();
            mount.arg("mount").arg(&reference).arg(&volume).arg("--docker-config").arg(&config);
            mount.arg("--store").arg(scene.root().join("store"));
            let mounted = mount.output().unwrap();
            assert!(mounted.status.success(), "{}", sentence(&mounted));

            let fine = probe(&volume, sample, &["--exact", "--write-must-fail"]).output().unwrap();
            assert!(fine.status.success(), "{}", sentence(&fine));
            let reading: Value = serde_json::from_slice(&fine.stdout).unwrap();
            assert_eq!((&reading["round"], &reading["files"]), (&1.into(), &3.into()));

            let zeros = format!("--expect=README.md=sha256:{}", "0".repeat(64));
            let wrong = probe(&volume, sample, &[&zeros]).output().unwrap();
            assert_eq!(wrong.status.code(), Some(1));
            assert!(sentence(&wrong).contains("the volume holds other bytes"), "{}", sentence(&wrong));

            let mut unmount = stowage();
            unmount.arg("unmount").arg(&volume).arg("--store").arg(scene.root().join("store"));
            assert!(unmount.status().unwrap().success());

            let large = sample["files"][2]["digest"].as_str().unwrap().to_owned();
            let served = book("/traffic").await["bytesServed"][&large].as_u64().unwrap();
            assert_eq!(served, sample["files"][2]["size"].as_u64().unwrap());
        }
    });
}

#[test]
fn a_reader_that_holds_on_reads_again_and_ends_when_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a"), "").unwrap();
    let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let sample = serde_json::json!({ "files": [{ "path": "a", "digest": empty }] });
    let (mut reader, first) = Running::start(&mut probe(directory.path(), &sample, &["--hold"]));
    assert_eq!((&first["round"], &first["bytes"]), (&1.into(), &0.into()));
    assert_eq!(reader.line()["round"], 2);
    kill(Pid::from_raw(reader.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(reader.ended().success());
    // What changes is seen in a later round.
    let (mut reader, _) = Running::start(&mut probe(directory.path(), &sample, &["--hold"]));
    std::fs::write(directory.path().join("a"), "x").unwrap();
    assert_eq!(reader.ended().code(), Some(1));
}

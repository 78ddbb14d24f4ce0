//! The commands that a person types.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use stowage_testkit::artifacts::{BlobData, Layer, oras_files};
use stowage_testkit::{Fault, Registry, Target};

use crate::harness::{Scene, digest_of, scene};

/// The commands on one store, against one registry.
struct Shell {
    store: PathBuf,
    root: PathBuf,
}

impl Shell {
    fn new(scene: &Scene) -> Self {
        Self { store: scene.root().join("s"), root: scene.root().to_owned() }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_stowage"))
            .args(arguments)
            .env("STOWAGE_STORE", &self.store)
            // The machine's disk may be nearly full.
            .env("STOWAGE_MIN_FREE", "1")
            .env("HOME", &self.root)
            .env_remove("DOCKER_CONFIG")
            .output()
            .unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// The exit code and the one sentence of a command that fails.
    fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap_or_else(|| panic!("{arguments:?} was killed")), errors)
    }
}

fn small() -> stowage_testkit::artifacts::ArtifactBuilder {
    oras_files([("a.txt", BlobData::from("hello\n")), ("sub/b.bin", BlobData::generated(1, 3 << 20))])
}

async fn pushed(scene: &Scene) -> (Registry, String) {
    let registry = scene.registry().await;
    registry.push("t/x", Some("v1"), &small().build().unwrap());
    let reference = registry.reference("t/x", "v1");
    (registry, reference)
}

/// Runs blocking commands beside the registry that answers them.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[test]
fn mount_and_unmount_by_hand() {
    scene(async |scene| {
        let (_registry, reference) = pushed(&scene).await;
        let (shell, target) = (Shell::new(&scene), scene.root().join("m"));
        beside(move || {
            let path = target.to_str().unwrap();
            let mounted = shell.json(&["mount", "--json", &reference, path]);
            assert_eq!(mounted["fetchedBytes"], 6 + (3 << 20));
            assert_eq!(std::fs::read(target.join("a.txt")).unwrap(), b"hello\n");
            // The process has ended; the mount and what it needs stay.
            let again = shell.json(&["mount", "--json", &reference, path]);
            assert_eq!(again["alreadyMounted"], true);
            let freed = shell.json(&["store", "gc", "--json"]);
            assert_eq!((&freed["views"], &freed["blobs"]), (&0.into(), &0.into()));
            let write = std::fs::write(target.join("x"), "").unwrap_err();
            assert_eq!(write.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
            assert!(shell.ok(&["unmount", path]).contains("is unmounted"));
            assert!(!target.exists());
            let (code, sentence) = shell.fails(&["unmount", path]);
            assert_eq!(code, 1);
            assert!(sentence.contains("nothing of this store is mounted"), "{sentence}");
        })
        .await;
    });
}

#[test]
fn inspect_fetches_the_manifest_only() {
    scene(async |scene| {
        let (registry, reference) = pushed(&scene).await;
        let shell = Shell::new(&scene);
        let (text, json) = beside(move || {
            let filtered = ["inspect", &reference, "--exclude", "sub/**"];
            (shell.ok(&filtered), shell.json(&["inspect", "--json", &reference]))
        })
        .await;
        assert!(text.contains("a.txt") && text.contains("excluded   sub/b.bin"), "{text}");
        let files = json["files"].as_array().unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!(files[1]["path"], "sub/b.bin");
        assert_eq!(json["bytes"], 6 + (3 << 20));
        let blobs = registry.traffic().count(|request| request.path.contains("/blobs/"));
        assert_eq!(blobs, 0, "inspect fetched a blob");
    });
}

#[test]
fn the_store_is_listed_checked_and_emptied() {
    scene(async |scene| {
        let (_registry, reference) = pushed(&scene).await;
        let shell = Shell::new(&scene);
        beside(move || {
            let pulled = shell.json(&["pull", "--json", &reference]);
            assert_eq!((&pulled["files"], &pulled["cachedBytes"]), (&2.into(), &0.into()));
            assert_eq!(shell.json(&["pull", "--json", &reference])["fetchedBytes"], 0);
            let entries = shell.json(&["store", "ls", "--json"]);
            let of_kind = |kind: &str| -> Vec<String> {
                let entries = entries.as_array().unwrap().iter();
                entries
                    .filter(|entry| entry["kind"] == kind)
                    .map(|entry| entry["name"].as_str().unwrap().to_owned())
                    .collect()
            };
            // Two files and the manifest.
            assert_eq!((of_kind("view").len(), of_kind("blob").len()), (1, 3));
            assert_eq!(shell.json(&["store", "fsck", "--json"])["problems"].as_array().unwrap().len(), 0);

            damage(&shell.store, &of_kind("blob"));
            let (code, sentence) = shell.fails(&["store", "fsck"]);
            assert_eq!(code, 1);
            assert!(sentence.contains("fsck --repair"), "{sentence}");
            shell.ok(&["store", "fsck", "--repair"]);
            shell.ok(&["store", "fsck"]);
            assert!(shell.json(&["pull", "--json", &reference])["fetchedBytes"].as_u64().unwrap() > 0);

            let (code, sentence) = shell.fails(&["store", "rm", &of_kind("blob")[0]]);
            assert_eq!(code, 1);
            assert!(sentence.contains("in use by view"), "{sentence}");
            shell.ok(&["store", "gc"]);
            assert_eq!(shell.ok(&["store", "ls"]), "the store is empty\n");
        })
        .await;
    });
}

/// Flips a byte of the largest blob, as a failing disk would.
fn damage(store: &Path, digests: &[String]) {
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
    let path = |digest: &String| {
        let (algorithm, hex) = digest.split_once(':').unwrap();
        store.join("blobs").join(algorithm).join(&hex[..2]).join(hex)
    };
    let largest = digests.iter().map(path).max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    std::fs::set_permissions(&largest, std::fs::Permissions::from_mode(0o644)).unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&largest).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096).unwrap();
    file.write_all_at(&[!byte[0]], 4096).unwrap();
    std::fs::set_permissions(&largest, std::fs::Permissions::from_mode(0o444)).unwrap();
}

#[test]
fn a_running_plugin_answers_for_its_store_and_keeps_others_out() {
    scene(async |scene| {
        let (registry, reference) = pushed(&scene).await;
        let node = scene.node().registry(&registry).start().await;
        let shell = Shell::new(&scene);
        let (entries, (code, sentence)) =
            beside(move || (shell.json(&["store", "ls", "--json"]), shell.fails(&["pull", &reference])))
                .await;
        assert_eq!(entries.as_array().unwrap().len(), 0);
        assert_eq!(code, 1);
        assert!(sentence.contains("in use") || sentence.contains("has the store"), "{sentence}");
        drop(node);
    });
}

#[test]
fn an_interrupted_pull_goes_on_where_it_was() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let size: u64 = 24 << 20;
        let artifact = oras_files([("big.bin", BlobData::generated(9, size))]).build().unwrap();
        let digest = artifact.blobs().iter().max_by_key(|(_, data)| data.size()).unwrap().0.clone();
        registry.push("t/big", Some("v1"), &artifact);
        let reference = registry.reference("t/big", "v1");
        registry.set_rate(Some(2 << 20));
        let first = Command::new(env!("CARGO_BIN_EXE_stowage"))
            .env("STOWAGE_MIN_FREE", "1")
            .args(["pull", &reference])
            .env("STOWAGE_STORE", scene.root().join("s"))
            .env("HOME", scene.root())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let limit = crate::harness::LIMIT;
        assert!(registry.traffic().until(limit, |traffic| traffic.bytes_served(&digest) > 12 << 20).await);
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(first.id().try_into().unwrap()),
            nix::sys::signal::Signal::SIGINT,
        )
        .unwrap();
        let ended = beside(move || first.wait_with_output().unwrap()).await;
        assert_eq!(ended.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&ended.stderr).contains("goes on where it was"));
        registry.set_rate(None);
        let shell = Shell::new(&scene);
        let target = scene.root().join("m");
        let found = beside(move || {
            shell.ok(&["mount", &reference, target.to_str().unwrap()]);
            digest_of(&target.join("big.bin"))
        })
        .await;
        assert_eq!(found, digest);
        let served = registry.bytes_served(&digest);
        assert!(served < size + (10 << 20), "{served} bytes were served of a blob of {size}");
    });
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    scene(async |scene| {
        let (_registry, reference) = pushed(&scene).await;
        let shell = Shell::new(&scene);
        beside(move || {
            shell.ok(&["pull", &reference]);
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let output = Command::new(env!("CARGO_BIN_EXE_stowage"))
                .args(["store", "ls"])
                .env("STOWAGE_STORE", &shell.store)
                .stdout(writer)
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
                .wait_with_output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        })
        .await;
    });
}

#[test]
fn mistakes_have_their_exit_code_and_one_sentence() {
    scene(async |scene| {
        let (registry, reference) = pushed(&scene).await;
        let named = small().layer(Layer::titled("../up", "x")).build().unwrap();
        registry.push("t/bad", Some("v1"), &named);
        let bad = registry.reference("t/bad", "v1");
        let missing = registry.reference("t/none", "v1");
        registry.push("t/broken", Some("v1"), &small().build().unwrap());
        registry.faults().always(Target::Repository("t/broken".to_owned()), Fault::status(403));
        let broken = registry.reference("t/broken", "v1");
        let shell = Shell::new(&scene);
        let target = scene.root().join("m").display().to_string();
        beside(move || {
            let unknown = ["mount", &reference, &target, "-a", "foo=bar"];
            let cases: [(&[&str], i32, &str); 9] = [
                (&["frobnicate"], 2, "frobnicate"),
                (&["mount"], 2, "required"),
                (&unknown, 64, "`foo` is unknown"),
                (&["pull", "r.example/BAD"], 64, "r.example/BAD"),
                (&["pull", "oci:/nowhere"], 64, "--as"),
                (&["inspect", &missing], 1, "t/none:v1"),
                (&["inspect", &bad], 1, "../up"),
                (&["pull", &broken], 1, "t/broken:v1"),
                (&["--store", "/nonexistent/store", "store", "ls"], 64, "/nonexistent/store"),
            ];
            for (arguments, code, part) in cases {
                let (found, sentence) = shell.fails(arguments);
                assert_eq!(found, code, "{arguments:?}: {sentence}");
                assert!(sentence.contains(part), "{arguments:?}: {sentence}");
                if code != 2 {
                    assert_eq!(sentence.lines().count(), 1, "{arguments:?}: {sentence}");
                    assert!(sentence.starts_with("stowage: "), "{sentence}");
                }
            }
        })
        .await;
    });
}

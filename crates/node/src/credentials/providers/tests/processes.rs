//! What becomes of the processes that plugins start.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, test_kill_process, waitpid};
use serde_json::Value;

use super::{Stage, answering, pair};
use crate::credentials::providers::{config, plugin};

/// What is there after a while.
async fn found<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        loop {
            looks.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect("it does not come")
}

/// The process whose id a script has written into a file.
async fn pid(file: &Path) -> Pid {
    let written = || std::fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'));
    Pid::from_raw(found(written).await.trim().parse().unwrap()).unwrap()
}

/// Whether there is such a process, be it only its entry in the table of processes.
async fn runs(file: &Path) -> bool {
    test_kill_process(pid(file).await).is_ok()
}

/// As in a container, where the first process adopts orphans.
fn adopt_orphans() {
    set_child_subreaper(Some(getpid())).unwrap();
}

#[tokio::test]
async fn a_plugin_that_hangs_is_ended_with_all_that_it_has_started() {
    adopt_orphans();
    let stage = Stage::new("");
    let (child, own) = (stage.path("child"), stage.path("own"));
    let script = format!("sleep 600 & echo $! > {}; echo $$ > {}; wait", child.display(), own.display());
    stage.script(&script, &Value::Null);
    let hung = async {
        assert!(runs(&child).await && runs(&own).await);
        // Past the minute that it has, and on with the real clock.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(61)).await;
        tokio::time::resume();
    };
    let (answer, ()) = tokio::join!(stage.ask("r.example/a:v1"), hung);
    assert!(answer.unwrap_err().contains("within 60 s"));
    assert!(!runs(&child).await && !runs(&own).await);
}

#[tokio::test]
async fn what_a_plugin_leaves_behind_is_ended_when_it_has_answered_or_nobody_waits_any_more() {
    adopt_orphans();
    let stage = Stage::new("");
    let child = stage.path("child");
    let left = format!("sleep 600 > /dev/null & echo $! > {}", child.display());
    stage.script(&format!("{left}; {}", answering("Image", None)), &Value::Null);
    assert_eq!(stage.ask("r.example/a:v1").await, pair("pw"));
    assert!(!runs(&child).await);

    std::fs::remove_file(&child).unwrap();
    stage.script(&format!("{left}; wait"), &Value::Null);
    let provider = config::read(&stage.settings).unwrap().remove(0);
    {
        let run = plugin::run(&provider, &stage.settings.bin_dir, "r.example/a", None);
        tokio::pin!(run);
        tokio::select! {
            _ = &mut run => panic!("it waits"),
            running = runs(&child) => assert!(running),
        }
    }
    // Nobody is there to reap it then: the process is about to end.
    let pid = pid(&child).await;
    let ended = found(|| waitpid(Some(pid), WaitOptions::NOHANG).ok().flatten()).await;
    assert!(ended.1.terminating_signal().is_some(), "killed when the run was dropped");
}

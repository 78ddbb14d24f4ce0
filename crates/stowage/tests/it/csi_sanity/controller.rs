//! The real controller as a child process, without an API server.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stowage_csi_proto::csi::v1::ProbeRequest;
use stowage_csi_proto::csi::v1::identity_client::IdentityClient;
use stowage_testkit::Registry;

use super::front;
use crate::harness::{LIMIT, Scene, until};

/// A controller in a process of its own. Dropped, it is killed.
pub(super) struct Controller {
    child: Option<Child>,
    socket: PathBuf,
    memory: PathBuf,
    log: PathBuf,
}

impl Controller {
    /// Starts it, and waits until it answers.
    pub(super) async fn start(scene: &Scene, registry: &Registry) -> Self {
        let in_scene = |name: &str| scene.root().join(name);
        let (socket, memory, log) =
            (in_scene("controller.sock"), in_scene("volumes.json"), in_scene("controller.log"));
        let (output, host) = (File::create(&log).unwrap(), registry.host());
        let child = Command::new(env!("CARGO_BIN_EXE_stowage"))
            .args(["controller", "--kubernetes=false", "--prefetch=false", "--log-format", "json"])
            // Port 0: no test asks it, and none may be taken from another.
            .args(["--http", "127.0.0.1:0", "--hosts-dir", "none"])
            .args(["--plain-http", host.as_str(), "--allow-local", host.as_str()])
            .arg("--csi-socket")
            .arg(&socket)
            .arg("--memory")
            .arg(&memory)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let this = Self { child: Some(child), socket, memory, log };
        until("the controller makes its socket", || this.socket.exists()).await;
        let probe = async { IdentityClient::new(front::channel(&this.socket)).probe(ProbeRequest {}).await };
        let answer = tokio::time::timeout(LIMIT, probe).await.expect("the controller does not answer");
        assert_eq!(answer.unwrap().into_inner().ready, Some(true));
        this
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it remembers, as it stands in its file.
    pub(super) fn memory(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(&self.memory).unwrap()).unwrap()
    }

    /// Says SIGTERM and waits for the end, after which its socket is gone.
    pub(super) async fn stop(mut self) {
        let mut child = self.child.take().unwrap();
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let mut status = None;
        until("the controller ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        let log = std::fs::read_to_string(&self.log).unwrap();
        assert!(status.unwrap().success(), "{log}");
        assert!(!self.socket.exists(), "the socket is left");
        for line in log.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "not JSON: {line}");
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

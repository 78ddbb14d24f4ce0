//! `stowage node` as a process of its own, and the kubelet that speaks with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stowage_csi_proto::csi::v1::NodeUnpublishVolumeRequest;
use stowage_csi_proto::csi::v1::node_client::NodeClient;
use stowage_testkit::FakeKubelet;
use stowage_testkit::kubelet::{Plugin, Pod, PublishRequest, is_uncertain};
use tonic::transport::Channel;

use crate::bench::Bench;
use crate::cgroup::Cgroup;
use crate::disk;
use crate::process::last_words;

const DRIVER: &str = "csi.stowage.dev";
/// How long it may take to start, and to stop.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a volume may take to be published, with all tries.
const PUBLISH: Duration = Duration::from_mins(15);

/// A running plugin; dropping it kills it.
pub(crate) struct Node {
    child: Child,
    plugin: Plugin,
    log: PathBuf,
}

impl Node {
    /// Starts a plugin over a new store, with a registry on loopback that it may speak plain http with.
    pub(crate) async fn start(
        bench: &Bench,
        name: &str,
        registry: &str,
        cgroup: Option<&Cgroup>,
    ) -> Result<Self> {
        disk::fresh(&bench.dir(&format!("store-{name}")))?;
        Self::again(bench, name, registry, cgroup).await
    }

    /// Starts a plugin over the store that an earlier one of this name has left, which has stopped.
    pub(crate) async fn again(
        bench: &Bench,
        name: &str,
        registry: &str,
        cgroup: Option<&Cgroup>,
    ) -> Result<Self> {
        let (store, home) = (bench.dir(&format!("store-{name}")), bench.short_dir(name));
        let kubelet = FakeKubelet::new(&home).context("cannot make kubelet's directories")?;
        let endpoint = kubelet.plugin_dir(DRIVER);
        fs::create_dir_all(&endpoint)?;
        let log = home.join("node.log");
        let output = File::create(&log)?;
        let mut command = match cgroup {
            None => bench.stowage(),
            Some(cgroup) => within(bench, cgroup),
        };
        command
            .arg("node")
            .arg("--store")
            .arg(&store)
            .arg("--csi-socket")
            .arg(endpoint.join("csi.sock"))
            .arg("--kubelet-dir")
            .arg(kubelet.root())
            .args(["--node-id", "bench", "--min-free", "1", "--http", "127.0.0.1:0", "--log", "warn"])
            .args(["--plain-http", registry, "--allow-local", registry])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut child = command.spawn().context("cannot start stowage node")?;
        match registered(&kubelet, &mut child, &log).await {
            Ok(plugin) => Ok(Self { child, plugin, log }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The plugin as kubelet knows it.
    pub(crate) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// A volume of a new pod; kubelet's part of the work is done already.
    pub(crate) fn request(&self, reference: &str, readonly: bool) -> Result<PublishRequest> {
        self.request_with(&[("reference", reference)], readonly)
    }

    /// The same with any attributes.
    pub(crate) fn request_with(&self, attributes: &[(&str, &str)], readonly: bool) -> Result<PublishRequest> {
        let pod = Pod::new("bench", "pod");
        let request = PublishRequest { readonly, ..self.plugin.inline(&pod, "model", attributes) };
        let parent = request.target.parent().context("a target lies in a directory")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        Ok(request)
    }

    /// Publishes, as often as it takes; the seconds from the first call to the last answer.
    pub(crate) async fn publish(&self, request: &PublishRequest) -> Result<f64> {
        let started = Instant::now();
        loop {
            match publish(&mut self.plugin.node(), request).await {
                Ok(_) => return Ok(started.elapsed().as_secs_f64()),
                Err(status) if is_uncertain(status.code()) && started.elapsed() < PUBLISH => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(status) => {
                    bail!("publishing failed: {status}; the plugin said: {}", last_words(&self.log))
                }
            }
        }
    }

    /// Unpublishes; the seconds that took.
    pub(crate) async fn unpublish(&self, request: &PublishRequest) -> Result<f64> {
        unpublish(&mut self.plugin.node(), request).await.map_err(|status| {
            anyhow::anyhow!("unpublishing failed: {status}; the plugin said: {}", last_words(&self.log))
        })
    }

    /// Ends it as kubelet does.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.pid().cast_signed()), Signal::SIGTERM).context("cannot end stowage node")?;
        let started = Instant::now();
        while self.child.try_wait().context("cannot wait for stowage node")?.is_none() {
            if started.elapsed() > LIMIT {
                bail!("stowage node does not end within {LIMIT:?}: {}", last_words(&self.log));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Stopped already, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One call; the seconds until its answer.
pub(crate) async fn publish(
    client: &mut NodeClient<Channel>,
    request: &PublishRequest,
) -> Result<f64, Box<tonic::Status>> {
    let message = request.message();
    let started = Instant::now();
    client.node_publish_volume(message).await?;
    Ok(started.elapsed().as_secs_f64())
}

/// One call; the seconds until its answer. Removes the pod's directory as kubelet does.
pub(crate) async fn unpublish(
    client: &mut NodeClient<Channel>,
    request: &PublishRequest,
) -> Result<f64, Box<tonic::Status>> {
    let message = NodeUnpublishVolumeRequest {
        volume_id: request.volume_id.clone(),
        target_path: request.target.display().to_string(),
    };
    let started = Instant::now();
    client.node_unpublish_volume(message).await?;
    let took = started.elapsed().as_secs_f64();
    if let Some(parent) = request.target.parent() {
        // Only when nothing is left in it.
        let _ = fs::remove_dir(parent);
    }
    Ok(took)
}

/// The program as a command that first enters the cgroup.
fn within(bench: &Bench, cgroup: &Cgroup) -> Command {
    let stowage = bench.stowage();
    let mut command = bench.clean(Command::new("sh"));
    command
        .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
        .arg(cgroup.processes())
        .arg(stowage.get_program());
    command
}

async fn registered(kubelet: &FakeKubelet, child: &mut Child, log: &Path) -> Result<Plugin> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for stowage node")? {
            bail!("stowage node ended with {status}: {}", last_words(log));
        }
        match kubelet.register(DRIVER, Duration::from_millis(200)).await {
            Ok(plugin) => return Ok(plugin),
            Err(error) if started.elapsed() > LIMIT => {
                bail!("kubelet did not register the plugin: {error}; it said: {}", last_words(log));
            }
            Err(_) => {}
        }
    }
}

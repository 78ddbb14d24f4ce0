//! The real plugin as a child process, in the same private mount namespace as the test.
//!
//! ```no_run
//! #[test]
//! fn a_file_can_be_read() {
//!     scene(async |scene| {
//!         let registry = scene.registry().await;
//!         let node = scene.node().registry(&registry).start().await;
//!         // node.plugin().publish_inline(...).await, node.mounts(), node.kill9(), node.start().await
//!         node.nothing_left().await;
//!     });
//! }
//! ```

mod leftovers;

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stowage_artifact::{Algorithm, Digest, Hasher};
use stowage_testkit::kubelet::Plugin;
use stowage_testkit::namespace::private_mounts;
use stowage_testkit::{ApiServer, FakeKubelet, Registry};

/// The driver's name.
pub(crate) const DRIVER: &str = "csi.stowage.dev";
/// How long anything may take on a slow machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// Runs a test in a private mount namespace, with a runtime whose threads are all in it.
///
/// The directory of the scene is made and removed outside of that namespace: there nothing is mounted in it.
pub(crate) fn scene(body: impl AsyncFnOnce(Scene) + Send) {
    let directory = tempfile::Builder::new().prefix("stw-").tempdir_in("/tmp").unwrap();
    let root = directory.path().to_owned();
    private_mounts(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let kubelet = FakeKubelet::new(root.join("k")).unwrap();
            body(Scene { root, kubelet }).await;
        });
    });
}

/// Waits until `holds`, looking every few milliseconds.
///
/// # Panics
/// When it does not hold within [`LIMIT`].
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let met = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while !holds() {
            ticks.tick().await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, met).await.is_ok(), "not within {LIMIT:?}: {what}");
}

/// The digest of a file, read through whatever it is mounted by.
pub(crate) fn digest_of(path: &Path) -> Digest {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut hasher, mut buffer) = (Hasher::new(Algorithm::Sha256), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hasher.finish(),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// The id of the mount at `target`.
pub(crate) fn mount_id(target: &Path) -> u64 {
    let point = stowage_sys::inspect(target).unwrap();
    point.unwrap_or_else(|| panic!("nothing is mounted at {}", target.display())).mount_id
}

/// One test's directory and kubelet.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    root: PathBuf,
    kubelet: FakeKubelet,
}

impl Scene {
    /// The directory in which everything happens; short, because socket paths end at 107 bytes.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn kubelet(&self) -> &FakeKubelet {
        &self.kubelet
    }

    /// A registry without accounts that speaks plain http.
    pub(crate) async fn registry(&self) -> Registry {
        Registry::builder().start().await.unwrap()
    }

    /// A plugin that is not started yet.
    pub(crate) fn node(&self) -> NodeBuilder {
        NodeBuilder { scene: self.clone(), arguments: Vec::new(), environment: Vec::new(), exactly: None }
    }
}

/// The flags of a plugin.
#[derive(Debug)]
pub(crate) struct NodeBuilder {
    scene: Scene,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    exactly: Option<Exactly>,
}

/// A command line that somebody else has written.
#[derive(Debug)]
pub(crate) struct Exactly {
    /// What follows the program's name.
    pub(crate) arguments: Vec<String>,
    /// The store that it names.
    pub(crate) store: PathBuf,
    /// The admin endpoint that it names.
    pub(crate) http: SocketAddr,
}

impl NodeBuilder {
    /// Downloads over one connection a blob: none that helps where one is slow, so that what is under way when bytes are
    /// counted is known.
    pub(crate) fn one_connection(self) -> Self {
        self.arg("--connections-per-blob", "1")
    }

    /// Any flag.
    pub(crate) fn arg(mut self, flag: &str, value: impl Into<OsString>) -> Self {
        self.arguments.extend([flag.into(), value.into()]);
        self
    }

    /// This command line and nothing of ours.
    pub(crate) fn exactly(self, exactly: Exactly) -> Self {
        Self { exactly: Some(exactly), ..self }
    }

    /// Lets the plugin talk to a registry on loopback: plain http, or TLS by the registry's own authority.
    pub(crate) fn registry(self, registry: &Registry) -> Self {
        let this = self.arg("--allow-local", registry.host()).arg("--allow-local", registry.storage_host());
        let Some(pem) = registry.ca_pem() else {
            return this.arg("--plain-http", registry.host()).arg("--plain-http", registry.storage_host());
        };
        let path = this.scene.root.join(format!("ca-{}.pem", registry.addr().port()));
        std::fs::write(&path, pem).unwrap();
        this.arg("--ca", path)
    }

    /// Lets the plugin write events to this API server, which it finds as a person's kubectl does.
    pub(crate) fn kubernetes(mut self, api: &ApiServer) -> Self {
        let path = self.scene.root.join("kubeconfig");
        api.write_kubeconfig(&path).unwrap();
        self.environment.push(("KUBECONFIG", path.into()));
        self.arg("--kubernetes", "true")
    }

    pub(crate) fn publish_wait(self, seconds: u64) -> Self {
        self.arg("--publish-wait", seconds.to_string())
    }

    pub(crate) fn interest(self, seconds: u64) -> Self {
        self.arg("--interest", seconds.to_string())
    }

    /// Starts the plugin and has kubelet register it.
    pub(crate) async fn start(self) -> Node {
        let mut node = self.build();
        node.start().await;
        node
    }

    /// Makes ready what the plugin needs; it does not run yet.
    pub(crate) fn build(self) -> Node {
        let plugin_dir = self.scene.kubelet.plugin_dir(DRIVER);
        std::fs::create_dir_all(&plugin_dir).unwrap();
        Node {
            log: self.scene.root.join("node.log"),
            store: self
                .exactly
                .as_ref()
                .map_or_else(|| self.scene.root.join("s"), |given| given.store.clone()),
            http: self.exactly.as_ref().map_or_else(free_port, |given| given.http),
            scene: self.scene,
            arguments: self.arguments,
            environment: self.environment,
            exactly: self.exactly.map(|given| given.arguments),
            child: None,
            plugin: None,
            log_start: 0,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }
}

pub(crate) fn free_port() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A plugin in a process of its own. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Node {
    scene: Scene,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    exactly: Option<Vec<String>>,
    store: PathBuf,
    log: PathBuf,
    /// Where the running process' part of the log begins.
    log_start: usize,
    http: SocketAddr,
    child: Option<Child>,
    plugin: Option<Plugin>,
    client: reqwest::Client,
}

impl Node {
    /// Starts the plugin again, with the same flags and store, and has kubelet register it.
    pub(crate) async fn start(&mut self) {
        for _ in 0..5 {
            self.spawn();
            if self.registered().await {
                return;
            }
            // Somebody else took the free port in the meantime.
            self.http = free_port();
        }
        panic!("no free port for the plugin was found:\n{}", self.log());
    }

    /// Starts the process; kubelet does not know of it yet.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "the plugin runs already");
        self.log_start = self.whole_log().len();
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stowage"));
        // Neither proxies nor settings of the machine are the test's.
        command.env_clear();
        if let Some(exactly) = &self.exactly {
            command.args(exactly);
        } else {
            command
                .arg("node")
                .arg("--store")
                .arg(&self.store)
                .arg("--csi-socket")
                .arg(self.socket())
                .arg("--kubelet-dir")
                .arg(self.scene.kubelet.root())
                .args(["--node-id", "node-1", "--min-free", "1", "--log-format", "json"])
                .arg("--http")
                .arg(self.http.to_string())
                .args(&self.arguments)
                // Not the mirrors of whoever runs the tests.
                .env("STOWAGE_HOSTS_DIR", "none");
        }
        command
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until kubelet has registered the plugin; false where its port was taken.
    pub(crate) async fn registered(&mut self) -> bool {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                let log = self.log();
                if log.contains("cannot listen on") {
                    return false;
                }
                panic!("the plugin ended with {status}:\n{log}");
            }
            match self.scene.kubelet.register(DRIVER, Duration::from_millis(200)).await {
                Ok(plugin) => {
                    self.plugin = Some(plugin);
                    return true;
                }
                Err(error) => {
                    assert!(
                        started.elapsed() < LIMIT,
                        "kubelet did not register it: {error}\n{}",
                        self.log()
                    );
                }
            }
        }
    }

    /// Says SIGTERM, without waiting for what comes of it.
    pub(crate) fn terminate(&self) {
        let pid = Pid::from_raw(self.pid().cast_signed());
        kill(pid, Signal::SIGTERM).unwrap();
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the plugin does not run");
        let mut status = None;
        until("the plugin ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        self.plugin = None;
        status.unwrap()
    }

    /// Stops the plugin as kubelet does when the DaemonSet is rolled.
    pub(crate) async fn stop(&mut self) {
        self.terminate();
        let status = self.ended().await;
        assert!(status.success(), "the plugin ended with {status}:\n{}", self.log());
    }

    /// Stops the plugin and starts it again.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    /// SIGKILL; returns when the process is gone.
    pub(crate) fn kill9(&mut self) {
        self.plugin = None;
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The plugin as kubelet knows it since the last start.
    pub(crate) fn plugin(&self) -> Plugin {
        self.plugin.clone().expect("the plugin does not run")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the plugin does not run").id()
    }

    /// The CSI socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.scene.kubelet.plugin_dir(DRIVER).join("csi.sock")
    }

    /// `GET` at the admin endpoint: status and body; waits until the endpoint is there.
    pub(crate) async fn http(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.http);
        let started = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        loop {
            ticks.tick().await;
            match self.client.get(&url).send().await {
                Ok(answer) => return (answer.status().as_u16(), answer.text().await.unwrap()),
                Err(error) if error.is_connect() && started.elapsed() < LIMIT => {}
                Err(error) => panic!("{url}: {error}\n{}", self.log()),
            }
        }
    }

    /// One series by its full name with labels, such as `stowage_publishes_total{result="ok"}`; 0 where there is none.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let (status, text) = self.http("/metrics").await;
        assert_eq!(status, 200, "{text}");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The same for a series that counts something.
    #[expect(clippy::cast_sign_loss, reason = "what is counted is not negative")]
    pub(crate) async fn count(&self, series: &str) -> u64 {
        self.metric(series).await as u64
    }

    /// Waits until a series that counts something is at a value.
    pub(crate) async fn until_count(&self, series: &str, met: impl Fn(u64) -> bool) {
        let started = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        loop {
            let count = self.count(series).await;
            if met(count) {
                return;
            }
            assert!(started.elapsed() < LIMIT, "{series} stays at {count}:\n{}", self.log());
            ticks.tick().await;
        }
    }

    /// Waits until the running process has this many bytes of blobs on its disk.
    pub(crate) async fn fetched(&self, bytes: u64) {
        self.until_count("stowage_fetched_bytes_total", |count| count >= bytes).await;
    }

    /// What the running process has logged.
    pub(crate) fn log(&self) -> String {
        self.whole_log().split_off(self.log_start)
    }

    /// What every process with this store has logged.
    pub(crate) fn whole_log(&self) -> String {
        std::fs::read(&self.log).map_or_else(|_| String::new(), |log| String::from_utf8_lossy(&log).into())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let log = self.whole_log();
            let from = log.len().saturating_sub(16 << 10);
            let from = (from..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
            // The end of the log tells more than any assertion.
            let _ = writeln!(std::io::stderr(), "--- end of {}\n{}", self.log.display(), &log[from..]);
        }
    }
}

//! The program at work in a root that stands for the image.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::chart;
use crate::command;
use crate::image::{beneath, mount, names};
use crate::tools::{Tool, Toolbox};
use crate::workspace::Workspace;

/// A name that only our own name server knows (RFC 2606).
const REGISTRY: &str = "registry.proof.test";
/// How long anything may take on a slow machine.
const LIMIT: Duration = Duration::from_mins(2);

/// Shows everything; the root is left as a container would leave it.
pub(super) fn run(workspace: &Workspace, toolbox: &Toolbox, root: &Path) -> Result<()> {
    // A file system of its own, as an image is; and what a container engine mounts into it.
    mount(&["--bind", &root.display().to_string()], root)?;
    for kernels in ["/proc", "/sys", "/dev"] {
        mount(&["--rbind", kernels], &beneath(root, Path::new(kernels)))?;
    }
    let chroot = command::find_program("chroot").context("there is no chroot")?;
    let image = Image { root, chroot };
    println!("==> stowage --version");
    image.succeeds(&["--version"])?;
    println!("==> stowage demo");
    image.succeeds(&["demo"])?;
    println!("==> names and TLS");
    registry(workspace, toolbox, &image)?;
    println!("==> stowage node, as the chart starts it");
    node(workspace, toolbox, &image)
}

/// The root, and programs in it.
struct Image<'a> {
    root: &'a Path,
    /// The program, found while there is a PATH.
    chroot: PathBuf,
}

impl Image<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.chroot);
        command.arg(self.root).arg("/usr/bin/stowage").args(arguments).env_clear();
        command.env("PATH", "/usr/bin").stdin(Stdio::null());
        command
    }

    fn succeeds(&self, arguments: &[&str]) -> Result<()> {
        let said = command::capture(&mut self.command(arguments))?;
        println!("{}", said.trim());
        Ok(())
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = beneath(self.root, Path::new(path));
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// A process that goes when the proof does.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start `{}`", command::line(command)))?;
        Ok(Self(child))
    }

    /// Asks it to stop, as kubelet does, and says whether it did so in order.
    fn stops(mut self) -> Result<()> {
        command::quiet(Command::new("kill").args(["-TERM", &self.0.id().to_string()]))?;
        let status = self.0.wait().context("cannot wait for a process")?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An artifact is read from a registry that is known by name only, and trusted by the image's bundle only.
fn registry(workspace: &Workspace, toolbox: &Toolbox, image: &Image<'_>) -> Result<()> {
    let folder = workspace.target().join("image-proof/registry");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let program = |tool| toolbox.program(tool).map_err(anyhow::Error::msg);
    certificates(&program(Tool::OpenSsl)?, &folder)?;
    let address = free_address()?;
    let configuration = serde_json::json!({
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": folder.join("data")}},
        "http": {
            "addr": address.to_string(),
            "tls": {"certificate": folder.join("registry.crt"), "key": folder.join("registry.key")},
        },
    });
    let file = folder.join("config.yml");
    fs::write(&file, configuration.to_string())
        .with_context(|| format!("cannot write {}", file.display()))?;
    let mut serve = Command::new(program(Tool::DockerRegistry)?);
    serve.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _registry = Running::start(&mut serve)?;
    until("the registry listens", || TcpStream::connect(address).is_ok())?;

    let reference = format!("{REGISTRY}:{}/proof/file:1", address.port());
    fs::write(folder.join("weights.bin"), "bytes").context("cannot write the artifact")?;
    let mut push = Command::new(program(Tool::Oras)?);
    push.current_dir(&folder).args(["push", "--ca-file", "ca.crt", "--resolve"]);
    push.arg(format!("{REGISTRY}:{0}:{1}:{0}", address.port(), address.ip()));
    command::quiet(push.args([&reference, "weights.bin"]))?;

    names::serve(REGISTRY)?;
    image.write("/etc/resolv.conf", &format!("nameserver {}\n", names::SERVER))?;
    let host = format!("{REGISTRY}:{}", address.port());
    let inspect = ["inspect", "--allow-local", &host, &reference];
    let Err(refused) = command::capture(&mut image.command(&inspect)) else {
        bail!("a registry with a certificate that nobody knows is trusted");
    };
    let refused = format!("{refused:#}");
    ensure!(refused.contains("certificate"), "not the certificate is refused, but: {refused}");
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    let authorities = command::read(&beneath(image.root, Path::new(bundle)))?;
    image.write(bundle, &(authorities.clone() + &command::read(&folder.join("ca.crt"))?))?;
    image.succeeds(&inspect)?;
    image.write(bundle, &authorities)
}

/// A certificate authority, and a certificate of the registry's name.
fn certificates(openssl: &Path, folder: &Path) -> Result<()> {
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let openssl = |words: &[&str]| command::quiet(Command::new(openssl).current_dir(folder).args(words));
    let authority = ["req", "-x509", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=proof"];
    openssl(&[&authority[..], &curve[..]].concat())?;
    let request = ["req", "-keyout", "registry.key", "-out", "registry.csr", "-subj", "/CN=registry"];
    openssl(&[&request[..], &curve[..5]].concat())?;
    fs::write(folder.join("names"), format!("subjectAltName=DNS:{REGISTRY}\n"))
        .context("cannot write names")?;
    let sign = [
        "x509",
        "-req",
        "-in",
        "registry.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
    ];
    openssl(&[&sign[..], &["-extfile", "names", "-out", "registry.crt"]].concat())
}

/// The node plugin with the flags and the file of the chart becomes ready, and stops when it is told to.
fn node(workspace: &Workspace, toolbox: &Toolbox, image: &Image<'_>) -> Result<()> {
    let address = free_address()?;
    let mut render = Command::new(toolbox.program(Tool::Helm).map_err(anyhow::Error::msg)?);
    render
        .args(["template", "--kube-version", chart::NEWEST, "stowage"])
        .arg(workspace.root().join("charts/stowage"));
    // No kubelet here, and no cluster.
    render.args(["--set", &format!("node.http.address=127.0.0.1,node.http.port={}", address.port())]);
    render.args(["--set", "node.kubernetes=false,node.extraArgs={--registration=false}"]);
    let rendered: Vec<Value> =
        serde_saphyr::from_multiple(&command::capture(&mut render)?).context("helm printed no YAML")?;
    let of = |kind: &str| {
        rendered.iter().find(|object| object["kind"] == kind).with_context(|| format!("there is no {kind}"))
    };
    let container = &of("DaemonSet")?["spec"]["template"]["spec"]["containers"][0];
    let arguments: Vec<String> = container["args"]
        .as_array()
        .context("the plugin has no arguments")?
        .iter()
        .filter_map(Value::as_str)
        .map(|argument| argument.replace("$(NODE_NAME)", "proof"))
        .collect();
    let configuration = rendered.iter().find_map(|object| object["data"]["node.yaml"].as_str());
    image.write("/etc/stowage/node.yaml", configuration.context("the chart has no node.yaml")?)?;
    for shared in container["volumeMounts"].as_array().into_iter().flatten() {
        let path = shared["mountPath"].as_str().context("a mount has a path")?;
        if shared["mountPropagation"] == "Bidirectional" {
            let path: PathBuf = beneath(image.root, Path::new(path));
            fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
            mount(&["--bind", &path.display().to_string()], &path)?;
            command::quiet(Command::new("mount").arg("--make-rshared").arg(&path))?;
        }
    }
    println!("stowage {}", arguments.join(" "));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut plugin = Running::start(&mut image.command(&arguments))?;
    let ready = until("the plugin is ready", || answers(address, "/readyz"));
    if let Some(status) = plugin.0.try_wait().context("cannot look at the plugin")? {
        bail!("the plugin ended with {status}");
    }
    ready?;
    ensure!(answers(address, "/livez"), "the plugin is ready and does not live");
    plugin.stops()
}

/// Whether this path is answered with 200.
fn answers(address: SocketAddr, path: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: proof\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on 127.0.0.1")?;
    listener.local_addr().context("a listener has an address")
}

/// Waits until it holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !holds() {
        ensure!(start.elapsed() < LIMIT, "not within {} s: {what}", LIMIT.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

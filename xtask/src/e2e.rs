//! `cargo xtask e2e`: the end-to-end tests in a cluster made for them, or in one that is there.

mod engine;
mod kind;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::command;
use crate::e2e::engine::Engine;
use crate::e2e::kind::Kind;
use crate::tools::{Tool, Toolbox};
use crate::workspace::Workspace;

/// The image that is built.
const IMAGE: &str = "localhost/stowage:e2e";
/// What containerd in the nodes of kind knows the registry by; `e2e/kind/certs.d` has it too.
const REGISTRY_IP: &str = "10.96.200.50";

/// Where the tests run, and which of them.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Where the cluster comes from.
    #[arg(long, value_enum, default_value = "kind")]
    provider: Provider,
    /// The cluster, with `--provider existing`.
    #[arg(long, value_name = "FILE", required_if_eq("provider", "existing"))]
    kubeconfig: Option<PathBuf>,
    /// An image that the cluster can pull; with kind, one that is here, in place of a new one.
    #[arg(long, value_name = "REF", required_if_eq("provider", "existing"))]
    image: Option<String>,
    /// With `--provider existing`: install the chart, and take it away again; without it, `-- --registry-ip` is needed.
    #[arg(long)]
    install: bool,
    /// An image of a kind node, and so a version of Kubernetes.
    #[arg(long, value_name = "REF")]
    node_image: Option<String>,
    /// Only this scenario; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The scenarios, and what each shows; nothing runs.
    #[arg(long)]
    list: bool,
    /// Leave the cluster and everything in it as it is at the end.
    #[arg(long)]
    keep: bool,
    /// Where the logs of failures and junit.xml go (default: e2e under the build directory).
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Further arguments of stowage-e2e, such as `--provisioner-image REF` or `--without-provisioner`.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Where a cluster comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Provider {
    /// It is made on this machine, in containers, and removed at the end.
    Kind,
    /// It is there; nothing is made in it but namespaces of the run.
    Existing,
}

/// Runs the tests; false says that they ran and something in them failed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let program = build(workspace)?;
    if options.list {
        command::run(Command::new(&program).arg("--list"))?;
        return Ok(true);
    }
    let output = match &options.output {
        Some(directory) => std::path::absolute(directory).context("there is no current directory")?,
        None => workspace.target().join("e2e"),
    };
    std::fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    match options.provider {
        Provider::Existing => {
            let mut tests = tests(workspace, &program, options, &output);
            // The tests run at the top of the repository, we may not.
            let kubeconfig = options.kubeconfig.as_ref().map(std::path::absolute).transpose();
            tests.arg("--kubeconfig").args(kubeconfig.context("there is no current directory")?);
            tests.arg("--image").args(&options.image);
            if options.install {
                tests.arg("--install").arg("--helm").arg(helm(workspace)?);
            }
            finished(&mut tests)
        }
        Provider::Kind => in_kind(workspace, &program, options, &output),
    }
}

fn in_kind(workspace: &Workspace, program: &Path, options: &Options, output: &Path) -> Result<bool> {
    let engine = Engine::find()?;
    let kind = Kind::find(engine, output)?;
    let helm = helm(workspace)?;
    let image = if let Some(image) = &options.image {
        image.as_str()
    } else {
        engine.build(workspace.root(), IMAGE)?;
        IMAGE
    };
    kind.create(workspace.root(), options.node_image.as_deref())?;
    let played = kind.load(engine, image, output).and_then(|()| {
        let mut tests = tests(workspace, program, options, output);
        tests.arg("--kubeconfig").arg(kind.kubeconfig()).arg("--image").arg(image);
        tests.arg("--install").arg("--helm").arg(&helm).args(["--registry-ip", REGISTRY_IP]);
        finished(&mut tests)
    });
    // The nodes' own logs explain what the API server does not know.
    if !matches!(played, Ok(true)) {
        kind.export_logs(&output.join("kind"));
    }
    if options.keep {
        println!("the cluster is left: KUBECONFIG={}", kind.kubeconfig().display());
    } else {
        kind.delete();
    }
    played
}

/// Builds the program that drives a cluster.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut build = workspace.cargo();
    command::run(build.args(["build", "--locked", "--package", "stowage-e2e"]))?;
    Ok(workspace.target().join("debug/stowage-e2e"))
}

fn tests(workspace: &Workspace, program: &Path, options: &Options, output: &Path) -> Command {
    let mut tests = Command::new(program);
    tests.current_dir(workspace.root()).arg("--output").arg(output);
    tests.args(options.only.iter().flat_map(|name| ["--only", name]));
    if options.keep {
        tests.arg("--keep");
    }
    tests.args(&options.more);
    tests
}

/// Runs the tests to their end. Ctrl-C ends us at once and lets them clean up; a cluster of kind then stays.
fn finished(tests: &mut Command) -> Result<bool> {
    let status = tests.status().with_context(|| format!("cannot start `{}`", command::line(tests)))?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => bail!("`{}` ended with {status}", command::line(tests)),
    }
}

/// The helm of this machine, or else the one that the tests of charts use.
fn helm(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(found) = command::find_program("helm") {
        return Ok(found);
    }
    match Toolbox::provide(workspace, &[Tool::Helm]).program(Tool::Helm) {
        Ok(program) => Ok(program),
        Err(reason) => bail!("helm is needed to install the chart: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(words: &[&str]) -> Result<Options, String> {
        let line = Line::try_parse_from(std::iter::once(&"e2e").chain(words));
        line.map(|line| line.options).map_err(|error| error.to_string())
    }

    #[test]
    fn a_cluster_that_is_there_needs_a_kubeconfig_and_an_image() {
        assert!(parse(&[]).is_ok());
        let error = parse(&["--provider", "existing"]).unwrap_err();
        assert!(error.contains("--kubeconfig") && error.contains("--image"), "{error}");
        assert!(parse(&["--provider", "existing", "--kubeconfig", "k", "--image", "i"]).is_ok());
    }

    #[test]
    fn what_follows_two_dashes_goes_to_the_tests() {
        let options = parse(&["--only", "static-pv", "--", "--namespace", "mine"]).unwrap();
        assert_eq!(options.only, ["static-pv"]);
        assert_eq!(options.more, ["--namespace", "mine"]);
    }

    #[test]
    fn the_address_of_the_registry_is_the_one_that_containerd_is_told() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let hosts = root.join(format!("e2e/kind/certs.d/{REGISTRY_IP}_5000_/hosts.toml"));
        let text = std::fs::read_to_string(hosts).unwrap();
        assert!(text.contains(&format!("server = \"http://{REGISTRY_IP}:5000\"")), "{text}");
    }
}

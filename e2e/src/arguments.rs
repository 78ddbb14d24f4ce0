//! The command line of `stowage-e2e`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;

/// Drives a cluster through a kubeconfig and shows that Stowage does there what it promises.
#[derive(Clone, Debug, Parser)]
#[command(name = "stowage-e2e", version)]
pub(crate) struct Arguments {
    /// The scenarios, and what each shows; nothing runs
    #[arg(long)]
    pub(crate) list: bool,
    /// The cluster [default: as for kubectl]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The image of Stowage: readers and the registry run it, and --install installs it
    #[arg(long, value_name = "REF", required_unless_present = "list")]
    pub(crate) image: Option<String>,
    /// Only this scenario; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// The namespace that is made for the run; NAME-restricted is made beside it
    #[arg(long, value_name = "NAME", default_value = "stowage-e2e")]
    pub(crate) namespace: String,
    /// The address that the registry's Service shall have, where the node configuration already names it
    #[arg(long, value_name = "IP")]
    pub(crate) registry_ip: Option<IpAddr>,
    /// Install the chart first, and take it away at the end
    #[arg(long)]
    pub(crate) install: bool,
    /// The chart
    #[arg(long, value_name = "DIR", default_value = "charts/stowage")]
    pub(crate) chart: PathBuf,
    /// More values for the chart; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) values: Vec<PathBuf>,
    /// The program `helm`
    #[arg(long, value_name = "FILE", default_value = "helm")]
    pub(crate) helm: PathBuf,
    /// Where the chart is installed with --install
    #[arg(long, value_name = "NAME", default_value = "stowage-system")]
    pub(crate) plugin_namespace: String,
    /// The driver's name in the cluster
    #[arg(long, value_name = "NAME", default_value = "csi.stowage.dev")]
    pub(crate) driver: String,
    /// Where the logs of failures and junit.xml go
    #[arg(long, value_name = "DIR", default_value = "target/e2e")]
    pub(crate) output: PathBuf,
    /// Leave everything in the cluster as it is at the end
    #[arg(long)]
    pub(crate) keep: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_list_needs_no_image_and_a_run_does() {
        assert!(Arguments::try_parse_from(["stowage-e2e", "--list"]).is_ok());
        let error = Arguments::try_parse_from(["stowage-e2e"]).unwrap_err();
        assert!(error.to_string().contains("--image"), "{error}");
    }
}

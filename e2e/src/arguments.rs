//! The command line of `stowage-e2e`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Drives a cluster through a kubeconfig and shows that Stowage does there what it promises.
#[derive(Clone, Debug, Parser)]
#[command(name = "stowage-e2e", version)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
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
    /// This scenario must not be skipped; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) must_play: Vec<String>,
    /// How long the scenarios may take altogether, such as 90m; what they made is taken away after it
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,
    /// The namespace that is made for the run; NAME-restricted is made beside it
    #[arg(long, value_name = "NAME", default_value = "stowage-e2e")]
    pub(crate) namespace: String,
    /// The address that the registry's Service shall have; without --install the configuration has to name it already
    #[arg(long, value_name = "IP", required_unless_present_any = ["install", "list"])]
    pub(crate) registry_ip: Option<IpAddr>,
    /// Install the chart first, and take it away at the end; the store stays on the nodes
    #[arg(long)]
    pub(crate) install: bool,
    /// The image of external-provisioner that --install takes [default: the chart's]
    #[arg(long, value_name = "REF", requires = "install", conflicts_with = "without_provisioner")]
    pub(crate) provisioner_image: Option<String>,
    /// Install without external-provisioner: no other image is pulled, and storage-class is skipped
    #[arg(long, requires = "install")]
    pub(crate) without_provisioner: bool,
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

/// A number of seconds, minutes or hours: `45s`, `90m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("`{text}` is no duration: write a number and s, m or h, such as 90m");
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        _ => return Err(refuse()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| refuse())?;
    number.checked_mul(unit).filter(|&seconds| seconds > 0).map(Duration::from_secs).ok_or_else(refuse)
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
    fn a_duration_is_a_number_and_a_unit() {
        for (text, seconds) in [("45s", 45), ("90m", 5400), ("2h", 7200)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for wrong in ["", "90", "m", "-1m", "0s", "1.5h", "1d", "9999999999999999999h"] {
            assert!(duration(wrong).unwrap_err().contains("no duration"), "{wrong}");
        }
    }

    #[test]
    fn who_does_not_install_names_the_address_that_is_configured() {
        let run = |more: &[&str]| {
            let words = ["stowage-e2e", "--image=a:b"].iter().chain(more).copied();
            Arguments::try_parse_from(words).map_err(|error| error.to_string())
        };
        assert!(run(&[]).unwrap_err().contains("--registry-ip"));
        assert!(run(&["--registry-ip=10.96.0.9"]).is_ok() && run(&["--install"]).is_ok());
        assert!(
            run(&["--registry-ip=10.96.0.9", "--without-provisioner"]).unwrap_err().contains("--install")
        );
        let both = ["--install", "--without-provisioner", "--provisioner-image=a:b"];
        assert!(run(&both).unwrap_err().contains("cannot be used with"));
    }

    #[test]
    fn the_list_needs_no_image_and_a_run_does() {
        assert!(Arguments::try_parse_from(["stowage-e2e", "--list"]).is_ok());
        let error = Arguments::try_parse_from(["stowage-e2e"]).unwrap_err();
        assert!(error.to_string().contains("--image"), "{error}");
    }
}

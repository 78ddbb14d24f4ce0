//! The Debian mirror that this machine's apt is set up with.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// Names of suites that a mirror of Debian's has besides code names.
const SUITES: [&str; 5] = ["oldstable", "stable", "testing", "unstable", "sid"];

/// The mirror's address, as a line of `sources.list` has it.
pub(super) fn of_this_machine() -> Result<String> {
    let system = std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--no-release-info", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)"]);
    find(&system, &command::capture(targets.arg("Created-By: Packages"))?)
}

/// The first source of the system's own release.
fn find(system: &str, targets: &str) -> Result<String> {
    let value = |key: &str| {
        let line = system.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches(['"', '\''])
    };
    if value("ID") != "debian" {
        bail!("this is {}, not Debian", value("PRETTY_NAME"));
    }
    let codename = value("VERSION_CODENAME");
    let mirror = targets.lines().find_map(|line| {
        let (suite, rest) = line.split_once(' ')?;
        let (component, address) = rest.split_once(' ')?;
        let its_own = (suite == codename || SUITES.contains(&suite)) && component == "main";
        (its_own && !address.starts_with("cdrom:")).then(|| address.trim_end_matches('/').to_owned())
    });
    mirror.with_context(|| format!("the sources of apt have no mirror with the release {codename}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: &str = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\nVERSION_CODENAME=bookworm\n";

    #[test]
    fn the_mirror_is_the_one_with_the_systems_own_release() {
        let targets = "bookworm-security main http://security.example/debian-security/\n\
                       bookworm contrib http://contrib.example/debian/\n\
                       bookworm main cdrom:[Debian GNU/Linux 12.1.0]/\n\
                       bookworm main http://mirror.example/debian/\n\
                       bookworm main http://later.example/debian/\n";
        assert_eq!(find(SYSTEM, targets).unwrap(), "http://mirror.example/debian");
        let listed = "stable main mirror+file:/etc/apt/mirrors/debian.list/\n";
        assert_eq!(find(SYSTEM, listed).unwrap(), "mirror+file:/etc/apt/mirrors/debian.list");
    }

    #[test]
    fn a_machine_without_one_is_told_so() {
        let none = find(SYSTEM, "bookworm-updates main http://mirror.example/debian/\n").unwrap_err();
        assert!(none.to_string().contains("no mirror with the release bookworm"), "{none}");
        let other = find("ID=other\nPRETTY_NAME='Other 1'\n", "stable main http://mirror.example/\n");
        assert_eq!(other.unwrap_err().to_string(), "this is Other 1, not Debian");
    }
}

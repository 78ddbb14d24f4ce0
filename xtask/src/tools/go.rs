//! Programs of Go modules, built at the versions and checksums of `xtask/tools/go.mod` and `go.sum`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::tools::debian::Debian;

/// What decides how a program comes out: the pins and the Go release.
pub(super) fn recipe(module: &Path, package: &str, debian: &mut Debian) -> Result<String> {
    let read = |name: &str| {
        let file = module.join(name);
        std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    };
    let pins = read("go.mod")?;
    let release = release(debian)?;
    let needed = needed_release(&pins).context("xtask/tools/go.mod has no `go` line")?;
    if parse(&release) < parse(needed) {
        bail!(
            "Go {release} is here, the tools need Go {needed} or newer: install one from Go's own downloads"
        );
    }
    Ok(format!("{package}\ngo {release}\n{pins}\n{}", read("go.sum")?))
}

/// Builds the program into `bin`.
pub(super) fn install(module: &Path, package: &str, bin: &Path) -> Result<()> {
    println!("tools: go install {package}");
    let mut command = Command::new("go");
    // Two at a time: cargo is at work beside it.
    command.args(["install", "-mod=readonly", "-p=2", package]).current_dir(module);
    command::quiet(command.env("GOBIN", bin).env("GOWORK", "off"))
}

/// The Go release on this machine, such as `1.26.8`.
fn release(debian: &mut Debian) -> Result<String> {
    let program = debian.program("go", "golang-go").context("there is no Go toolchain")?;
    let said = command::capture(Command::new(program).args(["env", "GOVERSION"]))?;
    Ok(said.trim().trim_start_matches("go").to_owned())
}

fn needed_release(pins: &str) -> Option<&str> {
    pins.lines().find_map(|line| line.strip_prefix("go ")).map(str::trim)
}

/// The leading numbers of a release; `1.26rc1` counts as 1.26.
fn parse(release: &str) -> Vec<u32> {
    let number = |part: &str| {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        part[..digits].parse().unwrap_or(0)
    };
    release.split('.').map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        assert!(parse("1.19") < parse("1.25.0"));
        assert!(parse("1.26.8") > parse("1.25.0"));
        assert!(parse("1.9") < parse("1.10"));
        assert!(parse("1.26rc1") > parse("1.25.0"));
    }

    #[test]
    fn the_pins_of_this_repository_name_a_release_and_every_tool() {
        let pins = include_str!("../../tools/go.mod");
        assert!(needed_release(pins).is_some());
        for tool in crate::tools::Tool::ALL {
            if let crate::tools::Source::Go(package) = tool.source() {
                assert!(pins.contains(&format!("\t{package}\n")), "{package} is no `tool` of go.mod");
            }
        }
    }
}

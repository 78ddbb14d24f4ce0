//! Groups of tests that need more than Rust, and leaving them out.
//!
//! A group is left out in two ways at once. Tests whose path contains a name of the group's are not run. `STOWAGE_SKIP` names
//! the groups to the tests that are run: only a group named there may be missing what it needs.

use std::env;
use std::fmt;

use anyhow::{Result, bail};

use crate::tools::Tool;

/// The variable that lists the groups left out, with commas.
pub(crate) const VARIABLE: &str = "STOWAGE_SKIP";

/// Tests that need the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Against Debian's registry, with artifacts that other clients made and pushed.
    Interop,
    /// The sanity suite for CSI drivers.
    CsiSanity,
    /// Mounting: root, or user namespaces.
    Mounts,
    /// Mounting EROFS: root outside user namespaces, and a kernel that reads images from files.
    Erofs,
    /// The same, with tars and images that other programs make and check.
    ErofsTools,
}

impl Group {
    pub(crate) const ALL: [Self; 5] =
        [Self::Interop, Self::CsiSanity, Self::Mounts, Self::Erofs, Self::ErofsTools];

    /// The name in `STOWAGE_SKIP`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Interop => "interop",
            Self::CsiSanity => "csi-sanity",
            Self::Mounts => "mounts",
            Self::Erofs => "erofs",
            Self::ErofsTools => "erofs-tools",
        }
    }

    /// What the paths of its tests contain. Nobody else may use these words in the name of a test.
    pub(crate) fn in_test_paths(self) -> &'static [&'static str] {
        match self {
            Self::Interop => &["interop"],
            Self::CsiSanity => &["csi_sanity"],
            Self::Mounts => &["mounts::", "interop", "csi_sanity", "erofs", "squashfs_tools"],
            Self::Erofs => &[
                "erofs",
                "joined",
                "stacked",
                "filesystem_image",
                "squashfs_tools",
                "mounts::tars",
                "mounts::families",
            ],
            Self::ErofsTools => &["erofs_tools", "squashfs_tools"],
        }
    }

    /// The programs its tests start.
    pub(crate) fn tools(self) -> &'static [Tool] {
        match self {
            Self::Interop => &[
                Tool::DockerRegistry,
                Tool::Htpasswd,
                Tool::Skopeo,
                Tool::Oras,
                Tool::Crane,
                Tool::Helm,
                Tool::Cosign,
                Tool::Podman,
                Tool::GnuTar,
            ],
            Self::CsiSanity => &[Tool::CsiSanity],
            Self::ErofsTools => &[
                Tool::GnuTar,
                Tool::BsdTar,
                Tool::Python3,
                Tool::FsckErofs,
                Tool::DumpErofs,
                Tool::MkfsErofs,
                Tool::MkSquashfs,
            ],
            Self::Mounts | Self::Erofs => &[],
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The groups left out, each with the reason.
#[derive(Debug, Default)]
pub(crate) struct Skips {
    groups: Vec<(Group, String)>,
}

impl Skips {
    /// What the caller asked to leave out.
    pub(crate) fn asked_for() -> Result<Self> {
        Self::parse(&env::var(VARIABLE).unwrap_or_default())
    }

    fn parse(list: &str) -> Result<Self> {
        let mut skips = Self::default();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let Some(group) = Group::ALL.into_iter().find(|group| group.name() == name) else {
                let known = Group::ALL.map(Group::name).join(", ");
                bail!("{VARIABLE} names the unknown group `{name}`: the groups are {known}");
            };
            skips.add(group, format!("{VARIABLE} asks for it"));
        }
        Ok(skips)
    }

    /// Leaves a group out; the first reason stays.
    pub(crate) fn add(&mut self, group: Group, reason: String) {
        if !self.contains(group) {
            self.groups.push((group, reason));
        }
    }

    pub(crate) fn contains(&self, group: Group) -> bool {
        self.groups.iter().any(|(skipped, _)| *skipped == group)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Group, &str)> {
        self.groups.iter().map(|(group, reason)| (*group, reason.as_str()))
    }

    /// The value of `STOWAGE_SKIP` for the tests.
    pub(crate) fn value(&self) -> String {
        self.groups.iter().map(|(group, _)| group.name()).collect::<Vec<_>>().join(",")
    }

    /// The arguments that keep the test programs from running them.
    pub(crate) fn arguments(&self) -> Vec<&'static str> {
        let names = self.groups.iter().flat_map(|(group, _)| group.in_test_paths());
        names.flat_map(|name| ["--skip", name]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_groups_becomes_a_variable_and_arguments() {
        let skips = Skips::parse(" csi-sanity ,interop,csi-sanity").unwrap();
        assert_eq!(skips.value(), "csi-sanity,interop");
        assert_eq!(skips.arguments(), ["--skip", "csi_sanity", "--skip", "interop"]);
        assert!(!skips.contains(Group::Mounts));
    }

    #[test]
    fn nothing_is_left_out_unasked() {
        let skips = Skips::parse("").unwrap();
        assert_eq!(skips.value(), "");
        assert!(skips.arguments().is_empty());
    }

    #[test]
    fn an_unknown_group_is_refused_by_name() {
        let text = Skips::parse("interop,sanity").unwrap_err().to_string();
        assert!(
            text.contains("`sanity`") && text.contains("interop, csi-sanity, mounts, erofs, erofs-tools"),
            "{text}"
        );
    }
}

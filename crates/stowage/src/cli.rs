//! The command line. Every option is a flag with an environment variable. One file for each command, and for each group of
//! options that several commands have.

#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help text, which shows backticks as they are"
)]
#![allow(rustdoc::broken_intra_doc_links, reason = "brackets in the help text are what may be left out")]

mod config;
mod controller;
mod demo;
mod downloads;
mod in_use;
mod inspect;
mod log;
mod mount;
mod node;
mod probe_volume;
mod pull;
mod registry;
mod store;
mod tars;
mod test_registry;
mod volume;

use clap::{Parser, Subcommand};

pub(crate) use config::{ConfigArgs, ConfigCommand, ConfigKind};
pub(crate) use controller::ControllerArgs;
pub(crate) use demo::DemoArgs;
pub(crate) use downloads::DownloadArgs;
pub(crate) use in_use::InUseArgs;
pub(crate) use inspect::InspectArgs;
pub(crate) use log::LogArgs;
pub(crate) use mount::{MountArgs, UnmountArgs};
pub(crate) use node::{MAX_PENDING_VOLUMES, NodeArgs};
pub(crate) use probe_volume::ProbeVolumeArgs;
pub(crate) use pull::PullArgs;
pub(crate) use registry::{NO_HOSTS, RegistryArgs};
pub(crate) use store::{StoreArgs, StoreCommand, StoreCommandArgs};
pub(crate) use tars::{Erofs, TarArgs};
pub(crate) use test_registry::TestRegistryArgs;
pub(crate) use volume::VolumeArgs;

/// Mounts OCI artifacts as read-only volumes, without unpacking.
#[derive(Debug, Parser)]
#[command(name = "stowage", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the main job on this machine: embedded registry, node plugin, volumes; no cluster needed
    Demo(DemoArgs),
    /// Mount an artifact at a directory
    Mount(MountArgs),
    /// Unmount what `stowage mount` has mounted, and remove the empty directory
    Unmount(UnmountArgs),
    /// Bring an artifact into the store, from a registry or an OCI layout directory (oci:DIR)
    Pull(PullArgs),
    /// Show what volume a reference would become, fetching only its manifest
    Inspect(InspectArgs),
    /// Look after the store
    Store(StoreCommandArgs),
    /// Run the node plugin: CSI on a unix socket, registered with kubelet
    Node(Box<NodeArgs>),
    /// Run the controller: CSI for external-provisioner, and CachedArtifacts
    Controller(Box<ControllerArgs>),
    /// Print the definition of CachedArtifact as YAML, for kubectl apply
    Crd,
    /// Wait for SIGTERM: the container of a pod that only holds a volume
    Pause,
    /// Name the pods and PersistentVolumes of a cluster that use the driver; fail if there are any
    InUse(InUseArgs),
    /// Show what a configuration file may say
    Config(ConfigArgs),
    /// For the end-to-end tests: a registry that stocks itself, and forgets everything when it ends
    #[command(hide = true)]
    TestRegistry(TestRegistryArgs),
    /// For the end-to-end tests: compare the files of a volume with their digests
    #[command(hide = true)]
    ProbeVolume(ProbeVolumeArgs),
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::CommandFactory as _;
    use stowage_registry::DEFAULT_HOSTS_DIRS;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mirrors_are_looked_for_where_container_runtimes_look_unless_told_otherwise() {
        let roots = |arguments: &[&str]| {
            let line = ["stowage", "inspect", "a.io/b"].iter().chain(arguments);
            let Command::Inspect(args) = Cli::try_parse_from(line).unwrap().command else { panic!() };
            args.registry.hosts_roots()
        };
        assert_eq!(roots(&[]), DEFAULT_HOSTS_DIRS.map(PathBuf::from));
        assert_eq!(
            roots(&["--hosts-dir", "/a", "--hosts-dir", "/b,/c"]),
            ["/a", "/b", "/c"].map(PathBuf::from)
        );
        assert!(roots(&["--hosts-dir", "none"]).is_empty());
        assert!(RegistryArgs::none().hosts_roots().is_empty());
    }

    /// `architecture.md`: all options are flags with an environment variable each; those of a single
    /// artifact are its words, not settings.
    #[test]
    fn every_setting_of_the_long_running_parts_has_an_environment_variable() {
        let command = Cli::command();
        for part in ["node", "controller"] {
            let part = command.find_subcommand(part).unwrap();
            for argument in part.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let builtin = matches!(argument.get_id().as_str(), "help" | "version");
                assert!(builtin || argument.get_env().is_some(), "{}", argument.get_id());
            }
        }
    }
}

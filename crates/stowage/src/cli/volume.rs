//! What volume an artifact becomes.

use clap::Args;

/// What volume an artifact becomes; the same words as a pod's volumeAttributes.
#[derive(Clone, Debug, Args)]
pub(crate) struct VolumeArgs {
    /// The artifact: registry/repository[:tag][@digest]
    #[arg(value_name = "REF")]
    pub(crate) reference: String,
    /// IfNotPresent, Always or Never
    #[arg(long, env = "STOWAGE_PULL_POLICY", value_name = "POLICY")]
    pub(crate) pull_policy: Option<String>,
    /// Only files that match this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// No files that match this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Only this directory of the artifact, as the root of the volume
    #[arg(long, value_name = "PATH")]
    pub(crate) sub_path: Option<String>,
    /// Which manifest of an index: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Which manifest of an index: key=value on its annotations or artifactType
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) variant: Option<String>,
    /// Any other volume attribute; may be repeated
    #[arg(long = "attribute", short = 'a', value_name = "KEY=VALUE")]
    pub(crate) attributes: Vec<String>,
}

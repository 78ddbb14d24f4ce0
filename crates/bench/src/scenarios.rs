//! One file for each group of rows.

mod digest;
mod engine;
mod many;
mod memory;
mod publish;
mod pull;
mod refetch;
mod tar;
mod throttled;

use anyhow::Result;
use clap::ValueEnum;

use crate::bench::Bench;
use crate::figures::Section;

/// A group of rows that is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// A cold pull over loopback: wall and processor time against other programs, bytes on the disk
    #[value(alias = "disk")]
    Pull,
    /// One blob with a limit of bytes a second for each connection
    Throttled,
    /// Memory while artifacts of different sizes are pulled, and under a limit
    Memory,
    /// Publishing what is cached: one volume, and 110 at once
    Publish,
    /// Ten thousand small blobs
    Many,
    /// Bytes that are fetched again after a kill and after a power cut
    Refetch,
    /// Digest code, on its own
    Digest,
    /// The engine without network
    Engine,
    /// Tars as volumes: from the bytes to the files, the image of many members, reading
    Tar,
}

impl Scenario {
    /// All of them, in the order of the report.
    pub(crate) const ALL: [Self; 9] = [
        Self::Pull,
        Self::Throttled,
        Self::Memory,
        Self::Publish,
        Self::Many,
        Self::Refetch,
        Self::Digest,
        Self::Engine,
        Self::Tar,
    ];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Throttled => "throttled",
            Self::Memory => "memory",
            Self::Publish => "publish",
            Self::Many => "many",
            Self::Refetch => "refetch",
            Self::Digest => "digest",
            Self::Engine => "engine",
            Self::Tar => "tar",
        }
    }

    /// Measures it.
    pub(crate) fn run(self, bench: &Bench) -> Result<Section> {
        match self {
            Self::Pull => pull::run(bench),
            Self::Throttled => throttled::run(bench),
            Self::Memory => memory::run(bench),
            Self::Publish => publish::run(bench),
            Self::Many => many::run(bench),
            Self::Refetch => refetch::run(bench),
            Self::Digest => Ok(digest::run(bench)),
            Self::Engine => engine::run(bench),
            Self::Tar => tar::run(bench),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_goes_by_the_same_name_everywhere() {
        assert_eq!(Scenario::ALL.len(), Scenario::value_variants().len());
        for scenario in Scenario::ALL {
            assert_eq!(Scenario::from_str(scenario.name(), false), Ok(scenario));
        }
        assert_eq!(Scenario::from_str("disk", false), Ok(Scenario::Pull));
    }
}

//! The machine that the figures belong to.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::quantity;

/// Instructions that decide how fast digests and copies are.
const FLAGS: [&str; 9] = ["sha_ni", "avx2", "avx512f", "vaes", "sha1", "sha2", "sha3", "sha512", "asimd"];

/// What is known of it. Nothing here names the machine or whose it is.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Machine {
    /// The processor.
    pub(crate) processor: String,
    /// Processors that the system shows.
    pub(crate) cores: usize,
    /// Those of its instructions that matter here.
    pub(crate) flags: Vec<String>,
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The filesystem below the benchmark's directory.
    pub(crate) filesystem: String,
    /// What the benchmark compares with, and where it gets the bytes: name and version.
    pub(crate) programs: Vec<(String, String)>,
    /// What is not installed, and why.
    pub(crate) missing: Vec<(String, String)>,
    /// The commit that was measured.
    pub(crate) commit: String,
    /// When, in UTC.
    pub(crate) date: String,
}

impl Machine {
    /// Looks at this machine and at the filesystem of `directory`.
    pub(crate) fn describe(directory: &Path, commit: &str) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        Self {
            processor: field(&cpuinfo, &["model name", "Model", "CPU part"]).unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            flags: flags(&cpuinfo),
            memory: memory(&read("/proc/meminfo")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            filesystem: filesystem(directory),
            programs: Vec::new(),
            missing: Vec::new(),
            commit: commit.to_owned(),
            date: date(),
        }
    }

    /// Whether the processor has instructions for SHA-256.
    pub(crate) fn has_sha(&self) -> bool {
        self.flags.iter().any(|flag| flag == "sha_ni" || flag == "sha2")
    }

    /// Its description, a line for each property.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let sha = if self.has_sha() { "with SHA instructions" } else { "no SHA instructions" };
        let pairs = |list: &[(String, String)]| {
            list.iter().map(|(name, what)| format!("{name} {what}")).collect::<Vec<_>>().join(", ")
        };
        let mut lines = vec![
            (
                "processor",
                format!("{}, {} cores, {sha} ({})", self.processor, self.cores, self.flags.join(" ")),
            ),
            ("memory", quantity::bytes(self.memory)),
            ("kernel", self.kernel.clone()),
            ("filesystem", self.filesystem.clone()),
            ("programs", pairs(&self.programs)),
        ];
        for (name, why) in &self.missing {
            lines.push(("not installed", format!("{name}: {why}")));
        }
        lines.push(("commit", self.commit.clone()));
        lines.push(("date", self.date.clone()));
        lines
    }
}

fn field<'a>(text: &'a str, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == *name).then(|| value.trim())
        })
    })
}

fn flags(cpuinfo: &str) -> Vec<String> {
    let line = field(cpuinfo, &["flags", "Features"]).unwrap_or_default();
    line.split(' ').filter(|flag| FLAGS.contains(flag)).map(str::to_owned).collect()
}

fn memory(meminfo: &str) -> u64 {
    let total = field(meminfo, &["MemTotal"]).and_then(|value| value.strip_suffix(" kB"));
    total.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

/// The kind of filesystem that holds `directory`, by the longest mount point above it.
fn filesystem(directory: &Path) -> String {
    let table = stowage_sys::mount_table().unwrap_or_default();
    let holding = table.iter().filter(|mount| directory.starts_with(&mount.mount_point));
    holding
        .max_by_key(|mount| mount.mount_point.as_os_str().len())
        .map_or_else(|| "unknown".to_owned(), |mount| mount.fs_type.clone())
}

fn date() -> String {
    let said = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_read_on_both_architectures() {
        let x86 =
            "processor\t: 0\nmodel name\t: Some Xeon @ 2.50GHz\nflags\t\t: fpu sse2 avx2 sha_ni avx512f\n";
        assert_eq!(field(x86, &["model name", "Model"]), Some("Some Xeon @ 2.50GHz"));
        assert_eq!(flags(x86), ["avx2", "sha_ni", "avx512f"]);
        let arm = "processor\t: 0\nFeatures\t: fp asimd aes sha1 sha2 crc32\nCPU part\t: 0xd0c\n";
        assert_eq!(flags(arm), ["asimd", "sha1", "sha2"]);
        assert_eq!(field(arm, &["model name", "Model", "CPU part"]), Some("0xd0c"));
    }

    #[test]
    fn memory_is_counted_in_bytes() {
        assert_eq!(memory("MemTotal:       24000000 kB\nMemFree: 1 kB\n"), 24_000_000 << 10);
        assert_eq!(memory(""), 0);
    }

    #[test]
    fn the_description_says_what_is_missing() {
        let machine = Machine {
            flags: vec!["avx2".into()],
            missing: vec![("modctl".into(), "no network".into())],
            ..Machine::default()
        };
        let lines = machine.lines();
        assert!(lines[0].1.contains("no SHA instructions"), "{lines:?}");
        assert!(lines.contains(&("not installed", "modctl: no network".to_owned())), "{lines:?}");
        assert!(filesystem(Path::new("/proc/self")) == "proc");
    }
}

//! The memory of a process, by `/proc/<pid>/status` (proc(5)).

use std::fs;

/// What one reading says, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The most that was resident so far, file pages too.
    pub(crate) peak_rss: u64,
    /// Anonymous and shared memory that is resident now.
    pub(crate) anonymous: u64,
}

impl Memory {
    /// Reads it; nothing once the process has ended.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kib << 10)
        };
        let (anonymous, shared) = (field("RssAnon")?, field("RssShmem")?);
        Some(Self { peak_rss: field("VmHWM")?, anonymous: anonymous + shared })
    }
}

/// From now on the most memory of this process counts anew: what is resident now, in bytes (proc(5), `clear_refs`).
pub(crate) fn forget_own_peak() -> Option<u64> {
    fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(Memory::of(std::process::id())?.peak_rss)
}

/// Processor time of each thread of a running process so far: id, name, seconds (`/proc/<pid>/task/<tid>/schedstat`).
pub(crate) fn threads(pid: u32) -> Vec<(u64, String, f64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let thread = |task: fs::DirEntry| {
        let id = task.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned();
        let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let nanoseconds: u64 = schedstat.split(' ').next()?.parse().ok()?;
        Some((id, name, nanoseconds as f64 / 1e9))
    };
    tasks.filter_map(thread).collect()
}

/// Processor time of a running process in seconds, user and system, by `/proc/<pid>/stat`.
pub(crate) fn processor_seconds(pid: u32) -> Option<(f64, f64)> {
    // USER_HZ is 100 on every architecture that Linux has kept.
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
        .map(|(user, system)| (user as f64 / 100.0, system as f64 / 100.0))
}

fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    // The name of the program may hold spaces and brackets: fields count from the last bracket.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_and_added() {
        let status = "Name:\tstowage\nVmPeak:\t  900000 kB\nVmHWM:\t   53248 kB\nVmRSS:\t   50000 kB\n\
                      RssAnon:\t   20480 kB\nRssFile:\t   30000 kB\nRssShmem:\t    1024 kB\n";
        let expected = Memory { peak_rss: 53248 << 10, anonymous: 21504 << 10 };
        assert_eq!(Memory::parse(status), Some(expected));
    }

    #[test]
    fn a_process_that_has_ended_has_no_memory() {
        assert_eq!(Memory::parse("Name:\tstowage\nState:\tZ (zombie)\n"), None);
        assert_eq!(Memory::of(u32::MAX), None);
    }

    #[test]
    fn this_very_process_has_some() {
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.peak_rss >= memory.anonymous && memory.anonymous > 0, "{memory:?}");
        assert!(forget_own_peak().is_some_and(|now| now > 0));
        assert!(processor_seconds(std::process::id()).is_some());
        assert!(!threads(std::process::id()).is_empty());
        assert!(threads(u32::MAX).is_empty());
    }

    #[test]
    fn names_with_brackets_do_not_move_the_fields() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 500 0 0 0 123 45 0 0 20 0 1 0 100 0 0";
        assert_eq!(parse_stat(stat), Some((123, 45)));
    }
}

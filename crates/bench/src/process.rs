//! Runs programs to their end and measures what they took.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;
use serde::Serialize;

use crate::proc_status::{self, Memory};

/// Between two looks at a process' memory.
const SAMPLE: Duration = Duration::from_millis(20);
/// Every n-th look is at the threads too, which costs more.
const THREADS: usize = 5;

/// What a run took.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Usage {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// Processor seconds in the programs themselves, their children included.
    pub(crate) user: f64,
    /// Processor seconds in the kernel for them.
    pub(crate) system: f64,
    /// The most resident memory (`VmHWM`), in bytes.
    pub(crate) peak_rss: u64,
    /// The most anonymous and shared memory (`RssAnon` + `RssShmem`) at any sample, in bytes.
    pub(crate) peak_anonymous: u64,
    /// Anonymous and shared memory over time: seconds since the start, bytes.
    #[serde(skip)]
    pub(crate) timeline: Vec<(f64, u64)>,
    /// Processor seconds by the names of threads, but for the last moments of each.
    pub(crate) threads: BTreeMap<String, f64>,
}

impl Usage {
    /// Processor seconds, user and system.
    pub(crate) fn cpu(&self) -> f64 {
        self.user + self.system
    }
}

/// Runs the commands side by side until all have ended; `log` takes what they say. A failure is an error that quotes them.
/// After the limit they are killed.
///
/// No other child of this process may end meanwhile: processor time is that of all children that did.
pub(crate) fn measure(commands: Vec<Command>, log: &Path, limit: Duration) -> Result<Usage> {
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let (user, system) = children()?;
    let started = Instant::now();
    let mut running = Vec::with_capacity(commands.len());
    for mut command in commands {
        let name = Path::new(command.get_program()).display().to_string();
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        running.push(Killed { child, name });
    }
    let sampler = Sampler::start(running.iter().map(|running| running.child.id()).collect(), Some(limit))?;
    let mut failed = None;
    for running in &mut running {
        let status = running.child.wait().with_context(|| format!("cannot wait for {}", running.name))?;
        if !status.success() {
            failed.get_or_insert_with(|| format!("{} ended with {status}", running.name));
        }
    }
    let wall = started.elapsed().as_secs_f64();
    let peaks = sampler.stop();
    if let Some(failed) = failed {
        if wall >= limit.as_secs_f64() {
            bail!("it was ended after {limit:?}");
        }
        bail!("{failed}: {}", last_words(log));
    }
    let (user_after, system_after) = children()?;
    Ok(Usage {
        wall,
        user: user_after - user,
        system: system_after - system,
        peak_rss: peaks.rss,
        peak_anonymous: peaks.anonymous,
        timeline: peaks.timeline,
        threads: peaks.threads,
    })
}

/// The end of what programs wrote, in one line.
pub(crate) fn last_words(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let words = lines[lines.len().saturating_sub(2)..].join(" / ");
    let mut short: String = words.chars().take(300).collect();
    if short.is_empty() {
        short.push_str("it said nothing");
    }
    short
}

/// A child that does not outlive an error of ours.
struct Killed {
    child: Child,
    name: String,
}

impl Drop for Killed {
    fn drop(&mut self) {
        // Ended already, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn children() -> Result<(f64, f64)> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot read the usage of children")?;
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    Ok((seconds(usage.user_time()), seconds(usage.system_time())))
}

/// The most memory that was seen, in bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peaks {
    /// Resident at most.
    pub(crate) rss: u64,
    /// Anonymous and shared at most.
    pub(crate) anonymous: u64,
    /// Anonymous and shared memory over time: seconds since the start, bytes.
    pub(crate) timeline: Vec<(f64, u64)>,
    /// Processor seconds by the names of threads.
    pub(crate) threads: BTreeMap<String, f64>,
}

/// Watches the memory of processes from a thread of its own.
pub(crate) struct Sampler {
    shared: Arc<Watch>,
    thread: JoinHandle<Peaks>,
}

#[derive(Default)]
struct Watch {
    over: Mutex<bool>,
    changed: Condvar,
}

impl Watch {
    fn over(&self) -> MutexGuard<'_, bool> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sampler {
    /// Watches these processes together; kills them after the limit.
    pub(crate) fn start(pids: Vec<u32>, limit: Option<Duration>) -> Result<Self> {
        let shared = Arc::<Watch>::default();
        let watch = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("sampler".into())
            .spawn(move || sample(&watch, &pids, limit))
            .context("cannot start a thread")?;
        Ok(Self { shared, thread })
    }

    /// Ends it: the peaks of the sum over all processes.
    pub(crate) fn stop(self) -> Peaks {
        *self.shared.over() = true;
        self.shared.changed.notify_all();
        self.thread.join().unwrap_or_default()
    }
}

fn sample(watch: &Watch, pids: &[u32], limit: Option<Duration>) -> Peaks {
    let started = Instant::now();
    let mut peaks = Peaks::default();
    let mut threads = BTreeMap::new();
    let mut looks = 0;
    let mut over = watch.over();
    while !*over {
        let now: Vec<Memory> = pids.iter().filter_map(|pid| Memory::of(*pid)).collect();
        let anonymous = now.iter().map(|memory| memory.anonymous).sum();
        peaks.rss = peaks.rss.max(now.iter().map(|memory| memory.peak_rss).sum());
        peaks.anonymous = peaks.anonymous.max(anonymous);
        if !now.is_empty() {
            peaks.timeline.push((started.elapsed().as_secs_f64(), anonymous));
        }
        if looks % THREADS == 0 {
            for (id, name, seconds) in pids.iter().flat_map(|pid| proc_status::threads(*pid)) {
                threads.insert(id, (name, seconds));
            }
        }
        looks += 1;
        if limit.is_some_and(|limit| started.elapsed() > limit) {
            for pid in pids {
                // Under the lock, so that the caller has not gone on yet; it may have ended by itself.
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
        }
        let waited = watch.changed.wait_timeout(over, SAMPLE);
        over = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(over, _)| over);
    }
    for (name, seconds) in threads.into_values() {
        *peaks.threads.entry(family(&name).to_owned()).or_default() += seconds;
    }
    peaks
}

/// The name of a thread without its number.
fn family(name: &str) -> &str {
    name.trim_end_matches(|last: char| last.is_ascii_digit() || last == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_mins(1);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn several_programs_are_measured_as_one() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let usage = measure(vec![shell("echo one"), shell("echo two")], &log, LIMIT).unwrap();
        assert!(usage.wall > 0.0);
        let said = fs::read_to_string(&log).unwrap();
        assert!(said.contains("one\n") && said.contains("two\n"), "{said}");
    }

    #[test]
    fn numbered_threads_are_one_family() {
        assert_eq!(family("writer-12"), "writer");
        assert_eq!(family("tokio-rt-worker"), "tokio-rt-worker");
    }

    #[test]
    fn a_failure_is_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let commands = vec![shell("true"), shell("echo first; echo no space >&2; exit 7")];
        let error = measure(commands, &directory.path().join("log"), LIMIT).unwrap_err().to_string();
        assert!(error.contains("sh ended with exit status: 7: first / no space"), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let commands = vec![shell("exec sleep 1000")];
        let limit = Duration::from_millis(50);
        let error = measure(commands, &directory.path().join("log"), limit).unwrap_err().to_string();
        assert_eq!(error, "it was ended after 50ms");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let commands = vec![Command::new("/no/such/program")];
        let error = measure(commands, &directory.path().join("log"), LIMIT).unwrap_err();
        assert!(format!("{error:#}").contains("cannot start /no/such/program"), "{error:#}");
    }
}

//! How far a pull has come, in bytes and in words.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// The progress of one blob, asked when somebody wants to know.
pub(crate) type BlobProgress = Box<dyn Fn() -> BlobReading + Send + Sync>;

/// How far one blob is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BlobReading {
    /// Its bytes that are on the node.
    pub(crate) done: u64,
    /// Of these, the bytes that this pull found there.
    pub(crate) resumed: u64,
}

/// The progress of one publish; cheap to clone, shared by the job and by whoever shows it.
#[derive(Clone, Default)]
pub struct Progress(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    stage: watch::Sender<Stage>,
}

#[derive(Default)]
struct State {
    phase: &'static str,
    total: u64,
    present: u64,
    settled: u64,
    resumed: u64,
    started: Option<Instant>,
    ended: Option<Instant>,
    running: Vec<BlobProgress>,
}

impl State {
    /// All blobs that are on their way.
    fn running(&self) -> BlobReading {
        self.running.iter().map(|read| read()).fold(BlobReading::default(), |sum, blob| BlobReading {
            done: sum.done + blob.done,
            resumed: sum.resumed + blob.resumed,
        })
    }
}

/// How far a publish has come; it only goes forward. One that finds a healthy mount stays at the first.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// What there is to do is being found out.
    #[default]
    Asking,
    /// What the artifact holds is known; missing bytes arrive.
    Bringing,
    /// All bytes are on the node.
    Mounting,
}

/// A reading of [`Progress`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reading {
    /// Bytes of the artifact that are on the node.
    pub done: u64,
    /// Bytes of the artifact; 0 while they are not known.
    pub total: u64,
    /// Bytes of blobs that were on the node before this pull.
    pub present: u64,
    /// Bytes of the others that an earlier pull had left, or that another one has brought already.
    pub resumed: u64,
    /// From the first byte that could arrive until now, or until all were there.
    pub elapsed: Duration,
    /// Mean rate of this pull in bytes a second.
    pub rate: u64,
    /// Time left at that rate.
    pub left: Option<Duration>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Progress({})", self.describe())
    }
}

impl Progress {
    /// Names what is being done before bytes can be counted.
    pub(crate) fn phase(&self, phase: &'static str) {
        self.lock().phase = phase;
    }

    /// Bytes begin to arrive: `total` in all, `present` of them on the node already.
    pub(crate) fn begin(&self, total: u64, present: u64, running: Vec<BlobProgress>) {
        let mut state = self.lock();
        state.phase = "pulling";
        state.total = total;
        state.present = present;
        state.settled = present;
        state.started = Some(Instant::now());
        state.running = running;
        drop(state);
        self.reach(Stage::Bringing);
    }

    /// All bytes are there.
    pub(crate) fn complete(&self) {
        let mut state = self.lock();
        state.phase = "mounting";
        state.settled = state.total;
        state.ended = Some(Instant::now());
        state.resumed = state.running().resumed;
        state.running.clear();
        drop(state);
        self.reach(Stage::Mounting);
    }

    fn reach(&self, stage: Stage) {
        self.0.stage.send_replace(stage);
    }

    /// Waits until the publish is past `stage`, and says where it is then. A publish that ends before never is.
    pub async fn past(&self, stage: Stage) -> Stage {
        let mut stages = self.0.stage.subscribe();
        let past = stages.wait_for(|now| *now > stage).await.map(|now| *now);
        match past {
            Ok(now) => now,
            // `self` holds the sender, so the channel cannot be closed here.
            Err(_) => std::future::pending().await,
        }
    }

    /// The numbers now.
    pub fn read(&self) -> Reading {
        let state = self.lock();
        let running = state.running();
        let done = state.settled + running.done;
        let until = state.ended.unwrap_or_else(Instant::now);
        let elapsed = state.started.map_or(Duration::ZERO, |started| until.duration_since(started));
        let seconds = elapsed.as_secs_f64();
        let State { total, present, .. } = *state;
        let resumed = state.resumed + running.resumed;
        let here = present + resumed;
        #[expect(clippy::cast_sign_loss, reason = "a byte count over a positive time")]
        let rate = if seconds > 0.0 { (done.saturating_sub(here) as f64 / seconds) as u64 } else { 0 };
        let left = (rate > 0).then(|| Duration::from_secs(total.saturating_sub(done) / rate));
        Reading { done, total, present, resumed, elapsed, rate, left }
    }

    /// One line for a person.
    pub fn describe(&self) -> String {
        let reading = self.read();
        if reading.total == 0 {
            let phase = self.lock().phase;
            return if phase.is_empty() { "waiting".to_owned() } else { phase.to_owned() };
        }
        let percent = reading.done.saturating_mul(100) / reading.total;
        let mut line =
            format!("{} of {} ({percent} %)", human_bytes(reading.done), human_bytes(reading.total));
        if let Some(left) = reading.left {
            let _ = write!(line, ", {}/s, about {} s left", human_bytes(reading.rate), left.as_secs());
        }
        line
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `bytes` with a binary unit and one decimal.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1024), "1.0 KiB");
        assert_eq!(human_bytes(5 << 30), "5.0 GiB");
    }

    #[test]
    fn settled_and_running_bytes_add_up() {
        let progress = Progress::default();
        assert_eq!(progress.describe(), "waiting");
        progress.phase("resolving");
        assert_eq!(progress.describe(), "resolving");
        let blob = || BlobReading { done: 50, resumed: 20 };
        progress.begin(400, 100, vec![Box::new(blob), Box::new(blob)]);
        let reading = progress.read();
        assert_eq!((reading.done, reading.resumed), (200, 40));
        assert!(progress.describe().starts_with("200 B of 400 B (50 %)"), "{}", progress.describe());
        progress.complete();
        let reading = progress.read();
        assert_eq!((reading.done, reading.present, reading.resumed), (400, 100, 40));
        assert_eq!(progress.read().elapsed, reading.elapsed, "the clock stops when all is there");
    }

    #[tokio::test]
    async fn stages_are_waited_for_and_one_that_was_passed_is_not_missed() {
        let progress = Progress::default();
        let waiting = tokio::spawn({
            let progress = progress.clone();
            async move { progress.past(Stage::Asking).await }
        });
        progress.begin(4, 0, Vec::new());
        assert!(waiting.await.unwrap() >= Stage::Bringing);
        progress.complete();
        assert_eq!(progress.past(Stage::Asking).await, Stage::Mounting);
    }
}

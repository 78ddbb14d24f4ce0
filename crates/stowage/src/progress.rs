//! How far a pull has come: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use stowage_volumes::Progress;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Between two moves of the bar.
const BAR_EVERY: Duration = Duration::from_millis(100);

/// Runs `work` and shows `progress` on standard error while it lasts.
pub(crate) async fn shown<T>(name: &str, progress: Progress, work: impl Future<Output = T>) -> T {
    let terminal = std::io::stderr().is_terminal();
    tokio::select! {
        result = work => result,
        () = async {
            if terminal { bar(name, progress).await } else { lines(name, progress).await }
        } => unreachable!("progress is shown until the work is done"),
    }
}

async fn bar(name: &str, progress: Progress) {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {bytes}/{total_bytes} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = Clear(ProgressBar::new(0).with_style(style).with_prefix(name.to_owned()));
    let mut ticks = tokio::time::interval(BAR_EVERY);
    loop {
        ticks.tick().await;
        let reading = progress.read();
        bar.0.set_length(reading.total);
        bar.0.set_position(reading.done);
        bar.0.set_message(reading.left.map_or_else(
            || progress.describe(),
            |left| format!("{}/s, {} s left", stowage_volumes::human_bytes(reading.rate), left.as_secs()),
        ));
    }
}

/// Clears the bar when the work is done, whatever it came to.
struct Clear(ProgressBar);

impl Drop for Clear {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[expect(clippy::print_stderr, reason = "progress is for the person, the result is for standard output")]
async fn lines(name: &str, progress: Progress) {
    loop {
        tokio::time::sleep(LINE_EVERY).await;
        eprintln!("{name}: {}", progress.describe());
    }
}

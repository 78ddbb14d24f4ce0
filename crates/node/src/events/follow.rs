//! Tells of one publish from its start to its end, whether or not a call still waits for it.

use std::time::Duration;

use stowage_volumes::{Stage, Work};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Events, Reason, Subject, message};

/// The first figures are of use early; most pulls are over by then.
const FIRST: Duration = Duration::from_secs(10);
/// Between two reports of the figures.
const EVERY: Duration = Duration::from_secs(30);

/// Follows `work` until it ends: done, failed, unpublished or given up.
pub(super) async fn follow(events: Events, subject: Subject, work: Work) {
    let mut figures = interval_at(Instant::now() + FIRST, EVERY);
    figures.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stage = Stage::Asking;
    let outcome = loop {
        tokio::select! {
            // In the order in which things happen.
            biased;
            next = work.progress().past(stage) => {
                tell_of_stages(&events, &subject, &work, stage, next);
                stage = next;
            }
            outcome = work.ended() => break outcome,
            _ = figures.tick(), if stage < Stage::Mounting => {
                let line = format!("{}: {}", work.reference(), work.progress().describe());
                events.report(&subject, Reason::Progress, line);
            }
        }
    };
    match outcome {
        // It was mounted before, and that was told then.
        Ok(published) if published.already => {}
        Ok(published) => {
            events.report(&subject, Reason::Mounted, message::mounted(work.reference(), &published));
        }
        Err(error) => events.failed(&subject, &error),
    }
}

/// A quick pull may be past two stages at once.
fn tell_of_stages(events: &Events, subject: &Subject, work: &Work, from: Stage, to: Stage) {
    let (reference, reading) = (work.reference(), work.progress().read());
    if from < Stage::Bringing && message::fetches(&reading) {
        events.report(subject, Reason::Pulling, message::pulling(reference, &reading));
    }
    if to == Stage::Mounting {
        events.report(subject, Reason::Pulled, message::pulled(reference, &reading));
    }
}

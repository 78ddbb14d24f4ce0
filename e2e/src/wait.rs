//! Waiting for a condition, with a limit, and saying what was waited for.

use std::fmt;
use std::time::Duration;

use anyhow::Error;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// What one look found.
#[derive(Debug)]
pub(crate) enum Look<T> {
    /// It is there.
    Found(T),
    /// Not yet; the text says what is there instead.
    NotYet(String),
    /// It can never come; the text says why.
    Never(String),
}

/// Something that is waited for.
#[derive(Debug)]
pub(crate) struct Wait {
    what: String,
    limit: Duration,
}

/// A wait that ended without what it was for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct GaveUp {
    /// What was waited for.
    pub(crate) what: String,
    /// How long.
    pub(crate) after: Duration,
    /// What was seen instead, the last time.
    pub(crate) seen: String,
    /// Whether waiting longer might have helped.
    pub(crate) hopeless: bool,
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.after.as_secs();
        if self.hopeless {
            write!(f, "gave up after {seconds} s on: {}; it cannot come any more: {}", self.what, self.seen)
        } else {
            write!(f, "waited {seconds} s in vain for: {}; last seen: {}", self.what, self.seen)
        }
    }
}

impl Wait {
    /// A wait of at most `limit`.
    pub(crate) fn new(what: impl Into<String>, limit: Duration) -> Self {
        Self { what: what.into(), limit }
    }

    /// Looks once a second. An error of the look counts as "not yet", except for a refusal by the API server, which
    /// no waiting mends.
    pub(crate) async fn until<T>(
        self,
        mut look: impl AsyncFnMut() -> Result<Look<T>, Error>,
    ) -> Result<T, GaveUp> {
        let begun = Instant::now();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = "nothing".to_owned();
        loop {
            ticks.tick().await;
            // A look that hangs must not outlast the wait.
            let left = self.limit.saturating_sub(begun.elapsed());
            let hopeless = match tokio::time::timeout(left.max(EVERY), look()).await {
                Ok(Ok(Look::Found(found))) => return Ok(found),
                Ok(Ok(Look::NotYet(instead))) => {
                    seen = instead;
                    false
                }
                Ok(Ok(Look::Never(why))) => {
                    seen = why;
                    true
                }
                Ok(Err(error)) => {
                    seen = format!("{error:#}");
                    refused(&error)
                }
                Err(_) => {
                    seen = format!("no answer; before that: {seen}");
                    false
                }
            };
            if hopeless || begun.elapsed() >= self.limit {
                return Err(GaveUp { what: self.what, after: begun.elapsed(), seen, hopeless });
            }
        }
    }
}

/// Whether the API server understood and said no. What is absent may come, and a conflict or a crowd may go.
fn refused(error: &Error) -> bool {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => matches!(status.code, 400 | 401 | 403 | 405 | 422),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use kube::core::Status;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn what_comes_in_time_is_returned() {
        let looks = Cell::new(0);
        let found = Wait::new("three", LIMIT).until(async || {
            looks.set(looks.get() + 1);
            Ok(if looks.get() == 3 { Look::Found(looks.get()) } else { Look::NotYet("few".into()) })
        });
        assert_eq!(found.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_says_what_was_waited_for_and_what_was_there_instead() {
        let begun = Instant::now();
        let gave_up = Wait::new("the pod runs", LIMIT)
            .until(async || Ok(Look::<()>::NotYet("it is Pending".into())))
            .await
            .unwrap_err();
        assert_eq!(begun.elapsed().as_secs(), 10);
        assert_eq!(gave_up.to_string(), "waited 10 s in vain for: the pod runs; last seen: it is Pending");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_come_any_more_is_not_waited_for() {
        let begun = Instant::now();
        let gave_up = Wait::new("the pod succeeds", LIMIT)
            .until(async || Ok(Look::<()>::Never("it failed".into())))
            .await
            .unwrap_err();
        assert_eq!(begun.elapsed().as_secs(), 0);
        assert!(gave_up.to_string().ends_with("it cannot come any more: it failed"), "{gave_up}");
    }

    fn api(code: u16) -> Error {
        Error::new(kube::Error::Api(Status { code, message: "no".into(), ..Status::default() }.boxed()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_ends_the_wait_and_a_passing_error_does_not() {
        let forbidden = Wait::new("x", LIMIT).until(async || Err::<Look<()>, _>(api(403))).await.unwrap_err();
        assert!(forbidden.hopeless);
        for passing in [404, 409, 429, 500, 503] {
            let first = Cell::new(true);
            let found = Wait::new("x", LIMIT)
                .until(async || if first.replace(false) { Err(api(passing)) } else { Ok(Look::Found(7)) })
                .await;
            assert_eq!(found, Ok(7), "{passing}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_does_not_outlast_the_wait() {
        let begun = Instant::now();
        let gave_up =
            Wait::new("x", LIMIT).until(async || std::future::pending::<Result<Look<()>, Error>>().await);
        let gave_up = gave_up.await.unwrap_err();
        assert!(begun.elapsed() <= LIMIT + EVERY);
        assert!(gave_up.seen.starts_with("no answer"), "{gave_up}");
    }
}

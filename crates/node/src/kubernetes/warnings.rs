//! Warnings that do not fill the log while the API server is away.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::CallError;

/// How long the same trouble stays unmentioned.
const QUIET: Duration = Duration::from_mins(10);

/// Says each kind of trouble once in ten minutes; in between it is for whoever debugs.
#[derive(Debug)]
pub(crate) struct Warnings {
    doing: &'static str,
    said: HashMap<&'static str, Instant>,
}

impl Warnings {
    /// Warnings about one thing that is tried, such as `write a pod event`.
    pub(crate) fn about(doing: &'static str) -> Self {
        Self { doing, said: HashMap::new() }
    }

    /// One try has failed.
    pub(crate) fn warn(&mut self, error: &CallError, next: &'static str) {
        if self.is_new(error.kind(), Instant::now()) {
            tracing::warn!(%error, "cannot {}; {next}", self.doing);
        } else {
            tracing::debug!(%error, "cannot {}; {next}", self.doing);
        }
    }

    fn is_new(&mut self, kind: &'static str, now: Instant) -> bool {
        if self.said.get(kind).is_some_and(|said| now.duration_since(*said) < QUIET) {
            return false;
        }
        self.said.insert(kind, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_trouble_is_said_once_in_ten_minutes() {
        let (mut warnings, start) = (Warnings::about("x"), Instant::now());
        assert!(warnings.is_new("busy", start));
        assert!(!warnings.is_new("busy", start + QUIET / 2));
        assert!(warnings.is_new("forbidden", start + QUIET / 2));
        assert!(warnings.is_new("busy", start + QUIET));
    }
}

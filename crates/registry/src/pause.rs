//! Pauses that registries ask for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use tokio::time::Instant;

/// The longest pause that is believed.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Reads a `Retry-After` value (RFC 9110 section 10.2.3): seconds, or a date. At most 5 minutes; a date in
/// the past is no wait at all.
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits for a u64 still mean a long time.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)).min(LONGEST_PAUSE));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(LONGEST_PAUSE))
}

/// The pause that an answer asks for.
pub(crate) fn asked_pause(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    parse_retry_after(value, SystemTime::now())
}

/// Which hosts are left alone, and until when.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<HashMap<String, Instant>>);

impl Pauses {
    /// Leaves a host alone from now on. A shorter pause does not cut a longer one.
    pub(crate) fn begin(&self, host: &str, pause: Duration) {
        let now = Instant::now();
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|_, until| *until > now);
        let until = hosts.entry(host.to_owned()).or_insert(now);
        *until = (*until).max(now + pause);
    }

    /// How long the host must still be left alone.
    pub(crate) fn remaining(&self, host: &str) -> Option<Duration> {
        let hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = hosts.get(host)?.saturating_duration_since(Instant::now());
        (left > Duration::ZERO).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::{LONGEST_PAUSE, Pauses, parse_retry_after};

    #[test]
    fn seconds_and_dates_are_read_and_capped() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:00 GMT").unwrap();
        let table = [
            ("0", Some(0)),
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("301", Some(300)),
            ("99999999999999999999999999", Some(300)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(37)),
            ("Sun Nov  6 08:49:37 1994", Some(37)),
            ("Sun, 06 Nov 1994 08:48:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(300)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ];
        for (value, seconds) in table {
            assert_eq!(parse_retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn a_host_is_left_alone_and_others_are_not() {
        let pauses = Pauses::default();
        pauses.begin("a.io", Duration::from_mins(1));
        pauses.begin("a.io", Duration::from_secs(1));
        assert!(pauses.remaining("a.io").unwrap() > Duration::from_secs(50));
        assert_eq!(pauses.remaining("b.io"), None);
        pauses.begin("c.io", Duration::ZERO);
        assert_eq!(pauses.remaining("c.io"), None);
    }

    proptest! {
        #[test]
        fn any_text_gives_a_bounded_pause_or_none(value in ".{0,60}") {
            if let Some(pause) = parse_retry_after(&value, SystemTime::now()) {
                prop_assert!(pause <= LONGEST_PAUSE);
            }
        }
    }
}

//! Durations as Go writes them: `300ms`, `1.5s`, `1m30s`.

use std::time::Duration;

/// The longest that makes sense for a connection; longer ones are cut.
const LONGEST: Duration = Duration::from_mins(10);

/// Reads a duration, `None` where it is none or negative. Longer than ten minutes counts as ten minutes.
pub(super) fn parse(text: &str) -> Option<Duration> {
    parse_go_duration(text).map(|duration| duration.min(LONGEST))
}

/// Reads a duration of any length as Go's `time.ParseDuration` does, `None` where it is none or negative.
pub fn parse_go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = tail;
        parts += 1;
    }
    if parts == 0 {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{LONGEST, parse};

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let table = [
            ("1s", Some(1_000)),
            ("300ms", Some(300)),
            ("1.5s", Some(1_500)),
            (".5s", Some(500)),
            ("1m30s", Some(90_000)),
            ("+2s", Some(2_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("2000us", Some(2)),
            ("2000µs", Some(2)),
            ("1h", Some(600_000)),
            ("99999999999999999999h", Some(600_000)),
            ("", None),
            ("5", None),
            ("-1s", None),
            ("1 s", None),
            ("s", None),
            ("1..5s", None),
            ("1d", None),
            ("1s2", None),
        ];
        for (text, milliseconds) in table {
            assert_eq!(parse(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_bounded_or_refused(text in "[0-9.hmsuµn+-]{0,20}|.{0,20}") {
            prop_assert!(parse(&text).is_none_or(|duration| duration <= LONGEST));
        }
    }
}

//! The caller's deadline, as gRPC sends it (`grpc-timeout`, PROTOCOL-HTTP2).

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// How long the caller waits, where it says so.
pub(crate) fn of(metadata: &MetadataMap) -> Option<Duration> {
    parse(metadata.get("grpc-timeout")?.to_str().ok()?)
}

/// At most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_nonsense_is_no_deadline() {
        for (text, expected) in [
            ("2M", Some(Duration::from_mins(2))),
            ("119999886u", None),
            ("11999988u", Some(Duration::from_micros(11_999_988))),
            ("1H", Some(Duration::from_hours(1))),
            ("30S", Some(Duration::from_secs(30))),
            ("5m", Some(Duration::from_millis(5))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("-1S", None),
            ("1ü", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}

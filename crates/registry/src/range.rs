//! Ranges: what an answer to a read promises (RFC 9110 section 14).

use std::ops::Range;

use reqwest::StatusCode;

/// The value of a `Content-Range` header in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentRange {
    /// `bytes first-last/total`, as an exclusive range.
    Part {
        /// The bytes that follow.
        range: Range<u64>,
        /// The size of the whole, where it was said.
        total: Option<u64>,
    },
    /// `bytes */total`: no such bytes.
    Unsatisfied {
        /// The size of the whole.
        total: u64,
    },
}

/// A `Content-Range` that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a Content-Range that is not of the form `bytes first-last/total`")]
pub struct ContentRangeError;

/// Reads a `Content-Range` value.
pub fn parse_content_range(value: &str) -> Result<ContentRange, ContentRangeError> {
    let (unit, rest) = value.trim().split_once(' ').ok_or(ContentRangeError)?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return Err(ContentRangeError);
    }
    let (range, total) = rest.trim().split_once('/').ok_or(ContentRangeError)?;
    let total = if total == "*" { None } else { Some(number(total)?) };
    if range == "*" {
        return Ok(ContentRange::Unsatisfied { total: total.ok_or(ContentRangeError)? });
    }
    let (first, last) = range.split_once('-').ok_or(ContentRangeError)?;
    let (first, last) = (number(first)?, number(last)?);
    let end = last.checked_add(1).ok_or(ContentRangeError)?;
    if first > last || total.is_some_and(|total| end > total) {
        return Err(ContentRangeError);
    }
    Ok(ContentRange::Part { range: first..end, total })
}

/// Digits only: `str::parse` would take a sign.
fn number(text: &str) -> Result<u64, ContentRangeError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ContentRangeError);
    }
    text.parse().map_err(|_| ContentRangeError)
}

/// What the body of an answer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Promise {
    pub(crate) start: u64,
    pub(crate) end: Option<u64>,
    pub(crate) total: Option<u64>,
    pub(crate) ranged: bool,
}

/// Why an answer with a body cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BrokenPromise {
    /// Not the range asked for; a read of the whole blob may work.
    Range(String),
    /// Not even that.
    Protocol(String),
}

/// Compares an answer with what was asked. `status` is 200, 206 or 416.
pub(crate) fn judge(
    status: StatusCode,
    content_range: Option<&str>,
    content_length: Option<u64>,
    asked: Option<&Range<u64>>,
) -> Result<Promise, BrokenPromise> {
    let Some(asked) = asked else {
        return match status {
            StatusCode::OK => Ok(whole(content_length)),
            _ => Err(BrokenPromise::Protocol(format!(
                "it answered {} to a request without a range",
                status.as_u16()
            ))),
        };
    };
    match status {
        StatusCode::OK => Ok(whole(content_length)),
        StatusCode::PARTIAL_CONTENT => judge_part(content_range, content_length, asked),
        _ => Err(BrokenPromise::Range(format!(
            "it refused the range of bytes {}-{}",
            asked.start,
            asked.end - 1
        ))),
    }
}

fn whole(content_length: Option<u64>) -> Promise {
    Promise { start: 0, end: content_length, total: content_length, ranged: false }
}

fn judge_part(
    content_range: Option<&str>,
    content_length: Option<u64>,
    asked: &Range<u64>,
) -> Result<Promise, BrokenPromise> {
    let asked_text = format!("{}-{}", asked.start, asked.end - 1);
    let Some(value) = content_range else {
        return Err(BrokenPromise::Range(format!(
            "it answered 206 for bytes {asked_text} without a Content-Range"
        )));
    };
    let (range, total) = match parse_content_range(value) {
        Ok(ContentRange::Part { range, total }) => (range, total),
        Ok(ContentRange::Unsatisfied { .. }) | Err(_) => {
            return Err(BrokenPromise::Range(format!(
                "it answered 206 for bytes {asked_text} with a Content-Range of no sense"
            )));
        }
    };
    if range.start != asked.start || range.end > asked.end {
        let (first, last) = (range.start, range.end - 1);
        return Err(BrokenPromise::Range(format!(
            "it sent bytes {first}-{last} when {asked_text} was asked for"
        )));
    }
    let length = range.end - range.start;
    if content_length.is_some_and(|said| said != length) {
        return Err(BrokenPromise::Protocol(format!(
            "its Content-Length differs from its Content-Range for bytes {asked_text}"
        )));
    }
    Ok(Promise { start: range.start, end: Some(range.end), total, ranged: true })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::StatusCode;

    use super::{BrokenPromise, ContentRange, Promise, judge, parse_content_range};

    #[test]
    fn content_ranges_are_read() {
        let part = |first: u64, end: u64, total| Ok(ContentRange::Part { range: first..end, total });
        let table = [
            ("bytes 0-0/1", part(0, 1, Some(1))),
            ("Bytes 5-9/10", part(5, 10, Some(10))),
            (" bytes  5-9/* ", part(5, 10, None)),
            ("bytes */10", Ok(ContentRange::Unsatisfied { total: 10 })),
        ];
        for (text, expected) in table {
            assert_eq!(parse_content_range(text), expected, "{text}");
        }
        let broken = [
            "",
            "bytes",
            "bytes ",
            "bytes 1-2",
            "bytes 2-1/9",
            "bytes 0-9/9",
            "bytes -1-2/9",
            "bytes +1-2/9",
            "items 0-1/2",
            "bytes */*",
            "bytes 0-18446744073709551615/*",
            "bytes 0-99999999999999999999/*",
            "bytes 0x1-2/3",
            "bytes 1 - 2/3",
        ];
        for text in broken {
            assert!(parse_content_range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn answers_are_judged() {
        let whole = |length| Ok(Promise { start: 0, end: length, total: length, ranged: false });
        let asked = 100..200;
        let partial =
            |range: Option<&str>, length| judge(StatusCode::PARTIAL_CONTENT, range, length, Some(&asked));
        assert_eq!(judge(StatusCode::OK, None, Some(5), None), whole(Some(5)));
        assert_eq!(judge(StatusCode::OK, None, None, Some(&asked)), whole(None));
        assert_eq!(
            partial(Some("bytes 100-199/1000"), Some(100)),
            Ok(Promise { start: 100, end: Some(200), total: Some(1000), ranged: true })
        );
        assert_eq!(
            partial(Some("bytes 100-149/*"), None),
            Ok(Promise { start: 100, end: Some(150), total: None, ranged: true })
        );
        for refused in ["bytes 0-99/1000", "bytes 101-199/1000", "bytes 100-200/1000", "bytes */1000", "x"] {
            assert!(matches!(partial(Some(refused), None), Err(BrokenPromise::Range(_))), "{refused}");
        }
        assert!(matches!(partial(None, Some(100)), Err(BrokenPromise::Range(_))));
        assert!(matches!(partial(Some("bytes 100-199/1000"), Some(99)), Err(BrokenPromise::Protocol(_))));
        let unsatisfied = judge(StatusCode::RANGE_NOT_SATISFIABLE, Some("bytes */10"), None, Some(&asked));
        assert!(matches!(unsatisfied, Err(BrokenPromise::Range(_))));
        assert!(matches!(
            judge(StatusCode::PARTIAL_CONTENT, None, None, None),
            Err(BrokenPromise::Protocol(_))
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_makes_sense(text in ".{0,60}") {
            if let Ok(ContentRange::Part { range, total }) = parse_content_range(&text) {
                prop_assert!(range.start < range.end);
                prop_assert!(total.is_none_or(|total| range.end <= total));
            }
        }

        #[test]
        fn an_accepted_part_lies_inside_what_was_asked(
            asked in (0_u64..1000, 1_u64..1000).prop_map(|(start, length)| start..start + length),
            first in 0_u64..2000, last in 0_u64..2000, total in prop::option::of(0_u64..3000),
        ) {
            let total_text = total.map_or("*".to_owned(), |total| total.to_string());
            let header = format!("bytes {first}-{last}/{total_text}");
            if let Ok(promise) = judge(StatusCode::PARTIAL_CONTENT, Some(&header), None, Some(&asked)) {
                prop_assert!(promise.ranged);
                prop_assert_eq!(promise.start, asked.start);
                prop_assert!(promise.end.unwrap() > asked.start && promise.end.unwrap() <= asked.end);
            }
        }
    }
}

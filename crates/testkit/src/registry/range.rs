//! The `Range` header.

use std::ops::Range;

/// What part of a blob a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it; also where the header is of a form that may be ignored.
    Whole,
    /// One part, cut to what there is.
    Part(Range<u64>),
    /// A part that is not there.
    Unsatisfiable,
}

impl Asked {
    /// Reads a header for a blob of `total` bytes (RFC 9110, section 14).
    pub(super) fn parse(header: Option<&str>, total: u64) -> Self {
        let Some(set) = header.and_then(|header| header.strip_prefix("bytes=")) else { return Self::Whole };
        let Some((first, last)) = set.split_once('-') else { return Self::Whole };
        let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
            (Ok(first), Ok(last)) if first <= last => first..total.min(last.saturating_add(1)),
            (Ok(first), Err(_)) if last.trim().is_empty() => first..total,
            (Err(_), Ok(suffix)) if first.trim().is_empty() => total.saturating_sub(suffix)..total,
            _ => return Self::Whole,
        };
        if range.start < range.end { Self::Part(range) } else { Self::Unsatisfiable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_rfc() {
        let cases = [
            (None, Asked::Whole),
            (Some("bytes=0-9"), Asked::Part(0..10)),
            (Some("bytes=5-"), Asked::Part(5..100)),
            (Some("bytes=-10"), Asked::Part(90..100)),
            (Some("bytes=-1000"), Asked::Part(0..100)),
            (Some("bytes=90-500"), Asked::Part(90..100)),
            (Some("bytes=100-"), Asked::Unsatisfiable),
            (Some("bytes=-0"), Asked::Unsatisfiable),
            (Some("bytes=9-5"), Asked::Whole),
            (Some("bytes=0-1,5-6"), Asked::Whole),
            (Some("items=0-1"), Asked::Whole),
        ];
        for (header, expected) in cases {
            assert_eq!(Asked::parse(header, 100), expected, "{header:?}");
        }
    }
}

//! Numbers as a person reads them.

/// One mebibyte.
pub(crate) const MIB: u64 = 1 << 20;
/// One gibibyte.
pub(crate) const GIB: u64 = 1 << 30;

/// Bytes in the largest binary unit that keeps at least one digit before the point.
pub(crate) fn bytes(bytes: u64) -> String {
    about_bytes(bytes as f64)
}

/// The same of a mean.
pub(crate) fn about_bytes(bytes: f64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024.0 {
        return format!("{bytes:.0} B");
    }
    let mut value = bytes / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", significant(value), UNITS[unit])
}

/// A time in seconds, in the unit that suits it.
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{} s", significant(s)),
        s if s >= 1e-3 => format!("{} ms", significant(s * 1e3)),
        s => format!("{} µs", significant(s * 1e6)),
    }
}

/// A rate in MB/s, of 10^6 bytes.
pub(crate) fn rate(bytes: u64, seconds: f64) -> String {
    format!("{} MB/s", significant(megabytes_per_second(bytes, seconds)))
}

/// 10^6 bytes a second.
pub(crate) fn megabytes_per_second(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 / 1e6 / seconds
}

/// Three digits, as far as they are behind the point.
pub(crate) fn significant(value: f64) -> String {
    let text = match value.abs() {
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_unit_that_fits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(10 << 10), "10 KiB");
        assert_eq!(bytes(512 * MIB), "512 MiB");
        assert_eq!(bytes(2 * GIB + GIB / 2), "2.5 GiB");
        assert_eq!(bytes(5000 << 40), "5000 TiB");
    }

    #[test]
    fn times_and_rates_keep_three_digits() {
        assert_eq!(seconds(12.345), "12.3 s");
        assert_eq!(seconds(1.0), "1 s");
        assert_eq!(seconds(0.004_56), "4.56 ms");
        assert_eq!(seconds(0.000_012), "12 µs");
        assert_eq!(rate(2_000_000_000, 4.0), "500 MB/s");
        assert_eq!(significant(0.876_5), "0.88");
        assert_eq!(significant(99.97), "100");
    }
}

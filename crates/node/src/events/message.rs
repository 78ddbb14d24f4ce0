//! What our events say.

use stowage_volumes::{Published, Reading, human_bytes};

/// The longest message that Kubernetes keeps in every version of its API.
const MAX_BYTES: usize = 1024;
/// Ends a message that was cut.
const CUT: &str = "…";

/// `message` in at most 1024 bytes, cut between two characters.
pub(super) fn cut(mut message: String) -> String {
    if message.len() > MAX_BYTES {
        message.truncate(message.floor_char_boundary(MAX_BYTES - CUT.len()));
        message.push_str(CUT);
    }
    message
}

/// Bytes begin to arrive.
pub(super) fn pulling(reference: &str, reading: &Reading) -> String {
    format!("pulling {reference}: {} of {}", human_bytes(fetched(reading)), human_bytes(reading.total))
        + &present(reading)
}

/// All bytes are on the node.
pub(super) fn pulled(reference: &str, reading: &Reading) -> String {
    match fetched(reading) {
        0 if reading.total == 0 => format!("{reference} is on the node already, nothing was fetched"),
        0 => format!(
            "{reference} is on the node already ({}), nothing was fetched",
            human_bytes(reading.total)
        ),
        fetched => {
            let seconds = reading.elapsed.as_secs_f64();
            format!(
                "pulled {} of {reference} in {seconds:.1} s ({}/s)",
                human_bytes(fetched),
                human_bytes(reading.rate)
            ) + &present(reading)
        }
    }
}

/// The volume is there.
pub(super) fn mounted(reference: &str, published: &Published) -> String {
    format!("mounted {reference}, digest {}", published.digest)
}

/// The bytes over which the rate is.
fn fetched(reading: &Reading) -> u64 {
    reading.total.saturating_sub(here(reading))
}

/// Whole blobs, and what an earlier pull left of others.
fn here(reading: &Reading) -> u64 {
    reading.present.saturating_add(reading.resumed)
}

fn present(reading: &Reading) -> String {
    match here(reading) {
        0 => String::new(),
        bytes => format!("; {} were on the node already", human_bytes(bytes)),
    }
}

/// Whether anything has to come for it.
pub(super) fn fetches(reading: &Reading) -> bool {
    fetched(reading) > 0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn long_messages_are_cut_between_two_characters() {
        assert_eq!(cut("a".repeat(1024)).len(), 1024);
        for message in ["a".repeat(1025), "ä".repeat(600), format!("a{}", "😀".repeat(300))] {
            let short = cut(message.clone());
            assert!(short.len() <= 1024 && short.len() > 1024 - 8, "{}", short.len());
            assert!(message.starts_with(short.strip_suffix("…").unwrap()));
        }
    }

    #[test]
    fn a_pull_is_told_with_its_duration_its_rate_and_what_was_there() {
        let (total, elapsed) = (4 << 30, Duration::from_millis(40_250));
        let reading = Reading { done: total, total, elapsed, rate: 80 << 20, ..Reading::default() };
        assert_eq!(pulled("r.io/a:v1", &reading), "pulled 4.0 GiB of r.io/a:v1 in 40.2 s (80.0 MiB/s)");
        let half = Reading { present: 2 << 30, ..reading };
        assert_eq!(
            pulled("r.io/a:v1", &half),
            "pulled 2.0 GiB of r.io/a:v1 in 40.2 s (80.0 MiB/s); 2.0 GiB were on the node already"
        );
        assert_eq!(
            pulling("r.io/a:v1", &half),
            "pulling r.io/a:v1: 2.0 GiB of 4.0 GiB; 2.0 GiB were on the node already"
        );
        let rest = Reading { present: 1 << 30, resumed: 2 << 30, ..reading };
        assert_eq!(
            pulled("r.io/a:v1", &rest),
            "pulled 1.0 GiB of r.io/a:v1 in 40.2 s (80.0 MiB/s); 3.0 GiB were on the node already"
        );
        assert_eq!(
            pulling("r.io/a:v1", &rest),
            "pulling r.io/a:v1: 1.0 GiB of 4.0 GiB; 3.0 GiB were on the node already"
        );
        let all = Reading { present: total, ..reading };
        assert_eq!(
            pulled("r.io/a:v1", &all),
            "r.io/a:v1 is on the node already (4.0 GiB), nothing was fetched"
        );
        assert!(!fetches(&all) && fetches(&half));
    }
}

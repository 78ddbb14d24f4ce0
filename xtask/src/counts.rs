//! Counting tests in what `cargo test` prints.

use std::ops::AddAssign;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Ran and held.
    pub(crate) passed: u64,
    /// Ran and did not hold, or ended their program.
    pub(crate) failed: u64,
    /// Marked `#[ignore]`, or left out by name.
    pub(crate) skipped: u64,
}

impl Counts {
    /// Reads the line a test program closes with, or nothing from any other line.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let numbers = line.strip_prefix("test result: ")?;
        let (_, numbers) = numbers.split_once(". ")?;
        let mut counts = Self::default();
        for part in numbers.split(';') {
            let Some((number, what)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => counts.passed += number,
                "failed" => counts.failed += number,
                "ignored" | "filtered out" => counts.skipped += number,
                _ => {}
            }
        }
        Some(counts)
    }

    /// The closing line: `N passed, N failed`, and what was skipped when anything was.
    pub(crate) fn closing_line(self) -> String {
        let Self { passed, failed, skipped } = self;
        if skipped == 0 {
            format!("{passed} passed, {failed} failed")
        } else {
            format!("{passed} passed, {failed} failed, {skipped} skipped")
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// The name in a line that reports a failed test.
pub(crate) fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_test_programs_are_counted() {
        let table = [
            (
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.05s",
                Some(Counts { passed: 12, failed: 0, skipped: 4 }),
            ),
            (
                "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
                Some(Counts { passed: 3, failed: 2, skipped: 0 }),
            ),
            ("test result: ok", None),
            ("running 12 tests", None),
            ("    test result: ok. 1 passed; 0 failed", None),
            ("test journal::a_torn_tail_is_cut ... ok", None),
        ];
        for (line, expected) in table {
            assert_eq!(Counts::from_line(line), expected, "{line}");
        }
    }

    #[test]
    fn counts_add_up_and_close_in_one_line() {
        let mut sum = Counts { passed: 1, failed: 0, skipped: 0 };
        assert_eq!(sum.closing_line(), "1 passed, 0 failed");
        sum += Counts { passed: 2, failed: 3, skipped: 4 };
        assert_eq!(sum.closing_line(), "3 passed, 3 failed, 4 skipped");
    }

    #[test]
    fn failed_tests_are_named() {
        assert_eq!(failed_test("test a::b ... FAILED"), Some("a::b"));
        assert_eq!(failed_test("test a::b ... ok"), None);
        assert_eq!(failed_test("a::b ... FAILED"), None);
    }
}

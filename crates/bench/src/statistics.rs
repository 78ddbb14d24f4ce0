//! Medians, percentiles and ratios.

/// The median; the mean of the middle two where their number is even. Nothing of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The smallest value that at least `percent` per cent of the values do not exceed (nearest rank).
pub(crate) fn percentile(values: &[f64], percent: u8) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (sorted.len() * usize::from(percent)).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// The largest value.
pub(crate) fn most(values: &[f64]) -> Option<f64> {
    values.iter().copied().reduce(f64::max)
}

/// The median of `ours[n] / theirs[n]`: each pair was measured side by side, so what slows the machine down cancels out.
pub(crate) fn median_ratio(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    median(&ratios)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 50), Some(500.0));
        assert_eq!(percentile(&values, 99), Some(990.0));
        assert_eq!(percentile(&values, 100), Some(1000.0));
        assert_eq!(percentile(&[5.0, 6.0], 0), Some(5.0));
        assert_eq!(percentile(&[], 99), None);
    }

    #[test]
    fn ratios_are_taken_within_pairs() {
        // A machine that is ten times slower in the second round changes nothing.
        assert_eq!(median_ratio(&[1.0, 10.0, 1.5], &[2.0, 20.0, 3.0]), Some(0.5));
        assert_eq!(median_ratio(&[], &[]), None);
        assert_eq!(most(&[1.0, 7.0, 3.0]), Some(7.0));
    }
}

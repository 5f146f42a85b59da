//! What is told of many measurements.

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = ascending(values);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

/// The nearest-rank percentile, 1..=100.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    ascending(values)[(values.len() * percent).div_ceil(100) - 1]
}

fn ascending(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values
}

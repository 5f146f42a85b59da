//! What changes cost.

use std::time::Duration;

use nestling::RowCounts;

/// The transactions that made changes of one kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cost {
    changes: usize,
    /// For each transaction: microseconds per change, in the calls and in the commit.
    times: Vec<(f64, f64)>,
    read: u64,
    touched: u64,
}

impl Cost {
    pub(crate) fn add(&mut self, changes: usize, calls: Duration, commit: Duration, rows: RowCounts) {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / changes as f64;
        self.changes += changes;
        self.times.push((each(calls), each(commit)));
        self.read += rows.read;
        self.touched += rows.touched;
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.changes += other.changes;
        self.times.extend_from_slice(&other.times);
        self.read += other.read;
        self.touched += other.touched;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes == 0
    }

    pub(crate) fn changes(&self) -> usize {
        self.changes
    }

    /// Microseconds per change in a usual transaction: in the calls, and in the commit.
    pub(crate) fn calls(&self) -> f64 {
        median(self.times.iter().map(|times| times.0))
    }

    pub(crate) fn commit(&self) -> f64 {
        median(self.times.iter().map(|times| times.1))
    }

    pub(crate) fn total(&self) -> f64 {
        median(self.times.iter().map(|times| times.0 + times.1))
    }

    /// Link rows read per change.
    pub(crate) fn read(&self) -> f64 {
        self.read as f64 / self.changes as f64
    }

    /// Link rows written per change.
    pub(crate) fn touched(&self) -> f64 {
        self.touched as f64 / self.changes as f64
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

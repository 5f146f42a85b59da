//! Recall, with ties counted: a result is right when it is no further away than the k-th true neighbor.

use crate::data::Matrix;
use crate::{Metric, Result};

/// How far a result may be from each query: as far as the k-th true neighbor, and the rounding of an f32 more.
pub(crate) struct Bounds {
    metric: Metric,
    k: usize,
    bounds: Vec<f64>,
}

impl Bounds {
    pub(crate) fn new(
        truth: &[Vec<usize>],
        k: usize,
        metric: Metric,
        queries: &Matrix,
        base: &Matrix,
    ) -> Result<Self> {
        if truth.len() != queries.len() {
            return Err(format!("true neighbors of {} queries, but {}", truth.len(), queries.len()).into());
        }
        let bound = |(query, nearest): (&[f32], &Vec<usize>)| -> Result<f64> {
            let kth = nearest.get(k - 1).filter(|&&row| row < base.len());
            let &kth = kth.ok_or("a query without k true neighbors in the base")?;
            let distance = distance(metric, query, base.row(kth));
            Ok(distance + distance.abs() * 1e-5 + 1e-5)
        };
        let bounds = queries.rows().zip(truth).map(bound).collect::<Result<_>>()?;
        Ok(Self { metric, k, bounds })
    }

    /// The part of the results that is right, where keys are base rows. A key that is found twice counts once.
    pub(crate) fn recall(&self, found: &[Vec<u64>], queries: &Matrix, base: &Matrix) -> f64 {
        let mut right = 0;
        for ((keys, query), &bound) in found.iter().zip(queries.rows()).zip(&self.bounds) {
            let mut keys = keys.clone();
            keys.sort_unstable();
            keys.dedup();
            let near = |&&key: &&u64| distance(self.metric, query, base.row(key as usize)) <= bound;
            right += keys.iter().filter(near).count();
        }
        right as f64 / (self.k * self.bounds.len()) as f64
    }
}

/// Vectors are normalised where the metric is cosine.
pub(crate) fn distance(metric: Metric, x: &[f32], y: &[f32]) -> f64 {
    let pairs = x.iter().zip(y).map(|(&x, &y)| (f64::from(x), f64::from(y)));
    match metric {
        Metric::Cosine => 1.0 - pairs.map(|(x, y)| x * y).sum::<f64>(),
        Metric::L2 => pairs.map(|(x, y)| (x - y).powi(2)).sum(),
    }
}

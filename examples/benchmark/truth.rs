//! The true neighbours, and how many of them a search has found. By plain loops: nothing here shares code with what is measured.

use nestling::{Hits, Metric};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::matrix::Matrix;
use crate::{Result, failure};

/// Base rows compared with all queries before the next ones come to the cache.
const BLOCK: usize = 256;

/// For each query the nearest base rows so far, and how far they are. Rows may come in several parts.
pub(crate) struct Truth {
    metric: Metric,
    k: usize,
    /// Ascending by distance, then by row.
    nearest: Vec<Vec<(f32, usize)>>,
}

impl Truth {
    pub(crate) fn new(queries: usize, k: usize, metric: Metric) -> Self {
        Self { metric, k, nearest: vec![Vec::new(); queries] }
    }

    /// Compares all queries with further rows, of which the first has the number `first`.
    pub(crate) fn extend(&mut self, queries: &Matrix, base: &Matrix, first: usize) {
        let (metric, k) = (self.metric, self.k);
        let norms: Vec<f32> = base.rows().map(|row| dot(row, row).sqrt()).collect();
        // Each thread takes a share of the queries through all blocks.
        let share = queries.len().div_ceil(4 * rayon::current_num_threads()).max(1);
        let nearest = std::mem::take(&mut self.nearest);
        let shares: Vec<_> = (0..queries.len()).step_by(share).zip(into_shares(nearest, share)).collect();
        let done = shares.into_par_iter().map(|(from, mut lists)| {
            for start in (0..base.len()).step_by(BLOCK) {
                let rows = start..base.len().min(start + BLOCK);
                for (query, list) in (from..).zip(&mut lists) {
                    let query = queries.row(query);
                    let norm = dot(query, query).sqrt();
                    for row in rows.clone() {
                        let distance = match metric {
                            Metric::L2 => squared_l2(query, base.row(row)),
                            Metric::Cosine => 1.0 - dot(query, base.row(row)) / (norm * norms[row]),
                            _ => -dot(query, base.row(row)),
                        };
                        keep(list, k, (distance, first + row));
                    }
                }
            }
            lists
        });
        self.nearest = done.collect::<Vec<_>>().into_iter().flatten().collect();
    }

    /// The nearest rows of each query, nearest first.
    pub(crate) fn rows(&self) -> Vec<Vec<usize>> {
        self.nearest.iter().map(|list| list.iter().map(|&(_, row)| row).collect()).collect()
    }
}

fn into_shares<T>(lists: Vec<T>, share: usize) -> Vec<Vec<T>> {
    let mut lists = lists.into_iter();
    std::iter::from_fn(|| Some(lists.by_ref().take(share).collect::<Vec<T>>()).filter(|s| !s.is_empty()))
        .collect()
}

fn keep(list: &mut Vec<(f32, usize)>, k: usize, candidate: (f32, usize)) {
    if list.len() == k && list.last().is_some_and(|last| candidate.0 >= last.0) {
        return;
    }
    let at = list.partition_point(|kept| kept.0 <= candidate.0);
    list.insert(at, candidate);
    list.truncate(k);
}

/// How far a result may be from each query to count as right: as far as the k-th true neighbour, and the rounding of an f32 more.
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
            return failure(format!(
                "true neighbours of {} queries, but {} queries",
                truth.len(),
                queries.len()
            ));
        }
        let bound = |(number, nearest): (usize, &Vec<usize>)| -> Result<f64> {
            let kth = nearest.get(k - 1).filter(|&&row| row < base.len());
            let &kth = kth.ok_or_else(|| format!("query {number} has no {k} true neighbours in the base"))?;
            let distance = distance(metric, queries.row(number), base.row(kth));
            Ok(distance + distance.abs() * 1e-5 + 1e-5)
        };
        let bounds = truth.iter().enumerate().map(bound).collect::<Result<_>>()?;
        Ok(Self { metric, k, bounds })
    }

    /// The part of the results that is right, where keys are base rows. A key that is found twice counts once.
    pub(crate) fn recall(&self, found: &[Hits], queries: &Matrix, base: &Matrix) -> f64 {
        let mut right = 0;
        for ((hits, query), &bound) in found.iter().zip(queries.rows()).zip(&self.bounds) {
            let mut keys: Vec<usize> = hits.iter().map(|hit| hit.key as usize).collect();
            keys.sort_unstable();
            keys.dedup();
            right += keys.iter().filter(|&&key| distance(self.metric, query, base.row(key)) <= bound).count();
        }
        right as f64 / (self.k * found.len()) as f64
    }
}

fn distance(metric: Metric, x: &[f32], y: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    match metric {
        Metric::L2 => x.iter().zip(y).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum(),
        Metric::Cosine => 1.0 - dot(x, y) / (dot(x, x) * dot(y, y)).sqrt(),
        _ => -dot(x, y),
    }
}

fn dot(x: &[f32], y: &[f32]) -> f32 {
    sum(x, y, |x, y| x * y)
}

fn squared_l2(x: &[f32], y: &[f32]) -> f32 {
    sum(x, y, |x, y| (x - y) * (x - y))
}

/// In sixteen sums, which the compiler keeps in vector registers.
#[inline(always)]
fn sum(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<16>(), y.as_chunks::<16>());
    let mut sums = [0.0; 16];
    for (x, y) in x.iter().zip(y) {
        for lane in 0..16 {
            sums[lane] += term(x[lane], y[lane]);
        }
    }
    sums.iter().sum::<f32>() + x_rest.iter().zip(y_rest).map(|(&x, &y)| term(x, y)).sum::<f32>()
}

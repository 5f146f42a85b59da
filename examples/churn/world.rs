//! All vectors that there are, live or not, and how far each is from each query. By plain loops: nothing here shares code with what
//! is measured.

use std::path::Path;

use nestling::{Hits, Metric};
use rayon::prelude::*;

use crate::matrix::Matrix;
use crate::options::Options;
use crate::{Result, failure, words};

/// How many neighbours are asked for.
pub(crate) const K: usize = 10;

pub(crate) struct World {
    pub(crate) name: String,
    pub(crate) metric: Metric,
    pub(crate) base: Matrix,
    pub(crate) queries: Matrix,
    /// The rows of the base, by topic if the data are so ordered.
    pub(crate) order: Vec<usize>,
    /// For each query the distance of every row.
    distances: Vec<Vec<f32>>,
}

impl World {
    /// What the command line names.
    pub(crate) fn load(options: &Options) -> Result<Self> {
        let (name, base, queries) = match (&options.base, &options.queries) {
            (Some(base), Some(queries)) => {
                (base.display().to_string(), Matrix::read(base)?, Matrix::read(queries)?)
            }
            _ => shipped(),
        };
        if base.width() != queries.width() {
            let (base, queries) = (base.width(), queries.width());
            return failure(format!("the base has {base} dimensions, the queries {queries}"));
        }
        let order = match &options.order {
            Some(path) => read_order(path, base.len())?,
            None => (0..base.len()).collect(),
        };
        let rows = base.len();
        let world = Self::new(name, options.metric(), base, queries, order);
        if options.share.of(options.live.of(rows)) < K {
            return failure(format!("a round must replace {K} vectors or more"));
        }
        Ok(world)
    }

    pub(crate) fn new(
        name: String,
        metric: Metric,
        base: Matrix,
        queries: Matrix,
        order: Vec<usize>,
    ) -> Self {
        let norms: Vec<f32> = base.rows().map(|row| dot(row, row).sqrt()).collect();
        let distances = (0..queries.len()).into_par_iter().map(|query| {
            let query = queries.row(query);
            let norm = dot(query, query).sqrt();
            let distance = |(row, row_norm): (&[f32], f32)| match metric {
                Metric::Cosine => 1.0 - dot(query, row) / (norm * row_norm),
                _ => squared_l2(query, row),
            };
            base.rows().zip(norms.iter().copied()).map(distance).collect()
        });
        let distances = distances.collect();
        Self { name, metric, base, queries, order, distances }
    }

    /// The part of the `K` nearest among `rows` that was found, over all queries. What ties with the last of them is right too, and a
    /// key that is found twice counts once.
    pub(crate) fn recall(&self, found: &[Hits], rows: &[usize], row_of: impl Fn(u64) -> usize + Sync) -> f64 {
        let right = found.par_iter().zip(&self.distances).map(|(hits, distances)| {
            let mut nearest: Vec<f32> = rows.iter().map(|&row| distances[row]).collect();
            let (_, &mut kth, _) = nearest.select_nth_unstable_by(K - 1, f32::total_cmp);
            let bound = kth + kth.abs() * 1e-5 + 1e-5;
            let mut keys: Vec<u64> = hits.iter().map(|hit| hit.key).collect();
            keys.sort_unstable();
            keys.dedup();
            keys.into_iter().filter(|&key| distances[row_of(key)] <= bound).count()
        });
        right.sum::<usize>() as f64 / (K * found.len()) as f64
    }
}

/// Every fifth of the shipped words is a query, the others are the base. They are in WordNet's order, which goes by topic.
fn shipped() -> (String, Matrix, Matrix) {
    let vectors = words::words().vectors;
    let part = |wanted: fn(usize) -> bool| {
        let rows = vectors.iter().enumerate().filter(|(row, _)| wanted(*row));
        Matrix::new(rows.flat_map(|(_, vector)| vector).copied().collect(), words::DIMENSION)
    };
    ("examples/data".to_owned(), part(|row| row % 5 != 0), part(|row| row % 5 == 0))
}

/// Reads row numbers, each once.
fn read_order(path: &Path, rows: usize) -> Result<Vec<usize>> {
    let wrong = |e: &dyn std::fmt::Display| format!("{} is no order of {rows} rows: {e}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| wrong(&e))?;
    let order: Vec<usize> =
        text.lines().map(|line| line.trim().parse()).collect::<Result<_, _>>().map_err(|e| wrong(&e))?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rows) {
        return failure(wrong(&"each row must be there once"));
    }
    Ok(order)
}

fn dot(x: &[f32], y: &[f32]) -> f32 {
    sum(x, y, |x, y| x * y)
}

pub(crate) fn squared_l2(x: &[f32], y: &[f32]) -> f32 {
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

//! What is stored and searched for.

use std::path::Path;

use nestling::Metric;

use crate::matrix::{Matrix, read_ivecs};
use crate::options::Options;
use crate::synthetic::Synthetic;
use crate::truth::{Bounds, Truth};
use crate::{Result, failure, words};

/// Queries on synthetic vectors.
pub(crate) const QUERIES: usize = 1_000;

pub(crate) struct Data {
    /// What is told of it.
    pub(crate) name: String,
    pub(crate) metric: Metric,
    /// What is stored, under row numbers as keys.
    pub(crate) base: Matrix,
    /// What is searched for: of the same kind, and not among the stored.
    pub(crate) queries: Matrix,
}

impl Data {
    /// What the command line names.
    pub(crate) fn load(options: &Options) -> Result<Self> {
        let (name, base, queries) = match (&options.base, &options.queries, options.synthetic) {
            (Some(base), Some(queries), _) => (short_name(base), Matrix::read(base)?, Matrix::read(queries)?),
            (_, _, Some(count)) => {
                let synthetic = synthetic(options);
                ("synthetic".to_owned(), synthetic.base(0, count as usize), synthetic.queries(QUERIES))
            }
            _ => shipped(),
        };
        if base.width() != queries.width() {
            return failure(format!(
                "the base has {} dimensions, the queries {}",
                base.width(),
                queries.width()
            ));
        }
        if base.len() < options.k() {
            return failure(format!("the base has {} vectors, fewer than k = {}", base.len(), options.k()));
        }
        Ok(Self { name, metric: options.metric(), base, queries })
    }

    /// What counts as found, by the truth that the command line names or by comparing everything with everything.
    pub(crate) fn bounds(&self, options: &Options) -> Result<Bounds> {
        let Self { metric, base, queries, .. } = self;
        let k = options.k();
        let truth = match &options.truth {
            Some(path) => read_ivecs(path)?,
            None => {
                let mut truth = Truth::new(queries.len(), k, *metric);
                truth.extend(queries, base, 0);
                truth.rows()
            }
        };
        Bounds::new(&truth, k, *metric, queries, base)
    }
}

/// The last two components of a path: file names alone are often the same.
fn short_name(path: &Path) -> String {
    let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
    names[names.len().saturating_sub(2)..].join("/")
}

/// The generator that the command line describes.
pub(crate) fn synthetic(options: &Options) -> Synthetic {
    Synthetic::new(options.dimension.into(), options.intrinsic.into(), options.noise, options.seed)
}

/// Every fifth of the shipped words is a query, the others are stored.
fn shipped() -> (String, Matrix, Matrix) {
    let vectors = words::words().vectors;
    let part = |wanted: fn(usize) -> bool| {
        let rows = vectors.iter().enumerate().filter(|(row, _)| wanted(*row));
        Matrix::new(rows.flat_map(|(_, vector)| vector).copied().collect(), words::DIMENSION)
    };
    ("examples/data".to_owned(), part(|row| row % 5 != 0), part(|row| row % 5 == 0))
}

/// The `number`-th vector to be inserted into a filled store: the queries in turn, and in later laps each of them a part of the way
/// towards another one.
pub(crate) fn newcomer(queries: &Matrix, number: usize) -> Vec<f32> {
    let (lap, row) = (number / queries.len(), number % queries.len());
    let other = queries.row((row * 7 + lap) % queries.len());
    let part = (lap as f32 * 0.618).fract() / 4.0;
    queries.row(row).iter().zip(other).map(|(x, y)| x + part * (y - x)).collect()
}

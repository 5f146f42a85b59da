//! Vectors and true neighbors in the TEXMEX formats: per row a little-endian i32 width, then as many f32 (.fvecs) or i32 (.ivecs).

use std::fs;
use std::path::Path;

use crate::recall::Bounds;
use crate::{K, Metric, Result, Setup};

/// What is inserted and searched for.
pub(crate) struct Data {
    /// In the order in which rows are inserted, under their positions in it as keys.
    pub(crate) base: Matrix,
    pub(crate) queries: Matrix,
    pub(crate) bounds: Bounds,
}

impl Data {
    pub(crate) fn load(setup: &Setup, base: &Path, truth: &Path, order: Option<&Path>) -> Result<Self> {
        let queries = queries(setup)?;
        let mut base = Matrix::read(base)?;
        if base.width() != queries.width() {
            return Err(format!("rows of {} and queries of {}", base.width(), queries.width()).into());
        }
        if setup.metric == Metric::Cosine {
            base.normalize();
        }
        // The truth tells rows of the file. What is kept of it are distances, and these do not depend on the order.
        let bounds = Bounds::new(&read_ivecs(truth)?, K, setup.metric, &queries, &base)?;
        if let Some(order) = order {
            base = base.permuted(order)?;
        }
        Ok(Self { base, queries, bounds })
    }
}

/// The queries, ready for the metric.
pub(crate) fn queries(setup: &Setup) -> Result<Matrix> {
    let mut queries = Matrix::read(&setup.query)?;
    if setup.metric == Metric::Cosine {
        queries.normalize();
    }
    Ok(queries)
}

/// Rows of equal width.
pub(crate) struct Matrix {
    values: Vec<f32>,
    width: usize,
}

impl Matrix {
    pub(crate) fn new(values: Vec<f32>, width: usize) -> Self {
        Self { values, width }
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let (words, width) = read_rows(path)?;
        let values: Vec<f32> = words.into_iter().map(f32::from_le_bytes).collect();
        if !values.iter().all(|value| value.is_finite()) {
            return Err(format!("{} has components that are not finite", path.display()).into());
        }
        Ok(Self { values, width })
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let rows: Vec<Vec<[u8; 4]>> =
            self.rows().map(|row| row.iter().map(|value| value.to_le_bytes()).collect()).collect();
        write_rows(path, &rows)
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len() / self.width
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..][..self.width]
    }

    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }

    /// The first row alone.
    pub(crate) fn first(&self) -> Self {
        Self::new(self.row(0).to_vec(), self.width)
    }

    fn normalize(&mut self) {
        for row in self.values.chunks_exact_mut(self.width) {
            let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
        }
    }

    /// The rows in the order that a file tells, a row number per line.
    fn permuted(&self, path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let order = text.lines().map(|line| line.trim().parse()).collect::<Result<Vec<usize>, _>>()?;
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..self.len()) {
            return Err(format!("{} is no order of {} rows", path.display(), self.len()).into());
        }
        let values = order.iter().flat_map(|&row| self.row(row)).copied().collect();
        Ok(Self::new(values, self.width))
    }
}

/// Row numbers of the base for each query, nearest first.
fn read_ivecs(path: &Path) -> Result<Vec<Vec<usize>>> {
    let (words, width) = read_rows(path)?;
    let rows =
        words.into_iter().map(i32::from_le_bytes).map(usize::try_from).collect::<Result<Vec<_>, _>>()?;
    Ok(rows.chunks_exact(width).map(<[usize]>::to_vec).collect())
}

pub(crate) fn write_ivecs(path: &Path, rows: &[Vec<usize>]) -> Result<()> {
    let bytes = |&number: &usize| Ok(i32::try_from(number)?.to_le_bytes());
    let rows = rows.iter().map(|row| row.iter().map(bytes).collect()).collect::<Result<Vec<_>>>()?;
    write_rows(path, &rows)
}

/// All components of a file, and how many of them a row has.
fn read_rows(path: &Path) -> Result<(Vec<[u8; 4]>, usize)> {
    let bytes = fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let (words, rest) = bytes.as_chunks::<4>();
    let first = words.first().ok_or_else(|| format!("{} is empty", path.display()))?;
    let width = usize::try_from(i32::from_le_bytes(*first))?;
    let mut rows = words.chunks_exact(width + 1);
    if width == 0 || !rest.is_empty() || !rows.remainder().is_empty() || !rows.all(|row| row[0] == *first) {
        return Err(format!("{} has no rows of equal width", path.display()).into());
    }
    Ok((words.chunks_exact(width + 1).flat_map(|row| &row[1..]).copied().collect(), width))
}

fn write_rows(path: &Path, rows: &[Vec<[u8; 4]>]) -> Result<()> {
    let mut bytes = Vec::new();
    for row in rows {
        bytes.extend(i32::try_from(row.len())?.to_le_bytes());
        bytes.extend(row.as_flattened());
    }
    fs::write(path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()).into())
}

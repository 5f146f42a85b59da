//! The shipped words as files, for those who have no data at hand.

use std::fs;
use std::path::Path;

use crate::data::{Matrix, write_ivecs};
use crate::recall::distance;
use crate::{Metric, Result};

/// `examples/data/README.md` tells of the format.
const DIMENSION: usize = 384;
/// Every so many-th word is a query.
const STEP: usize = 5;
const NEIGHBORS: usize = 100;

/// Writes what `Data::load` reads. The base is in a fixed random order, and `order.txt` is WordNet's.
pub(crate) fn write(directory: &Path) -> Result<()> {
    let words = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/words.vectors"))?;
    let part = |rows: &[usize]| {
        Matrix::new(rows.iter().flat_map(|&row| words.row(row)).copied().collect(), DIMENSION)
    };
    let (query_rows, mut base_rows): (Vec<usize>, Vec<usize>) =
        (0..words.len()).partition(|row| row % STEP == 0);
    base_rows.sort_by_key(|&row| scrambled(row as u64));
    let (base, queries) = (part(&base_rows), part(&query_rows));

    let mut order: Vec<usize> = (0..base_rows.len()).collect();
    order.sort_by_key(|&position| base_rows[position]);
    let order: String = order.iter().map(|position| format!("{position}\n")).collect();
    let truth: Vec<Vec<usize>> = queries.rows().map(|query| nearest(query, &base)).collect();

    fs::create_dir_all(directory)?;
    base.write(&directory.join("base.fvecs"))?;
    queries.write(&directory.join("query.fvecs"))?;
    write_ivecs(&directory.join("truth.ivecs"), &truth)?;
    Ok(fs::write(directory.join("order.txt"), order)?)
}

/// A row is a little-endian f32 scale and, per component, the i8 that it scales; made unit length here.
fn read(path: &Path) -> Result<Matrix> {
    let bytes = fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let mut values = Vec::with_capacity(bytes.len());
    for row in bytes.chunks_exact(4 + DIMENSION) {
        let components = row[4..].iter().map(|&byte| f32::from(byte.cast_signed()));
        // The scale is the length's as well.
        let length = components.clone().map(|x| x * x).sum::<f32>().sqrt();
        values.extend(components.map(|x| x / length));
    }
    Ok(Matrix::new(values, DIMENSION))
}

fn nearest(query: &[f32], base: &Matrix) -> Vec<usize> {
    let distances: Vec<f64> = base.rows().map(|row| distance(Metric::Cosine, query, row)).collect();
    let mut rows: Vec<usize> = (0..base.len()).collect();
    rows.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]));
    rows.truncate(NEIGHBORS);
    rows
}

/// A bijection without order, the finish of splitmix64.
fn scrambled(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

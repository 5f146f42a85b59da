//! What storing vectors as f16 or i8 costs and saves: bytes, recall and queries per second beside f32, in turn, in one run.
//!
//! ```text
//! cargo run --release --example elements -- [--base B.fvecs --queries Q.fvecs] [--rounds 3]
//! ```
//!
//! Without files, the shipped words but for 500, which are searched for. Recall is against the exact order of the vectors as given; cosine.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use nestling::{Collection, CollectionDefinition, Element, Metric, Store};

#[path = "benchmark/matrix.rs"]
#[expect(dead_code, reason = "other examples use the rest")]
mod matrix;
#[path = "../tests/common/words.rs"]
mod words;

use matrix::Matrix;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::I8];
const EFS: [usize; 4] = [16, 32, 64, 128];
const K: usize = 10;

#[derive(Parser)]
struct Options {
    /// Vectors to be stored.
    #[arg(long, requires = "queries")]
    base: Option<PathBuf>,
    /// Vectors to be searched for.
    #[arg(long, requires = "base")]
    queries: Option<PathBuf>,
    /// Speeds are medians of so many rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let (base, queries) = match (&options.base, &options.queries) {
        (Some(base), Some(queries)) => (Matrix::read(base)?, Matrix::read(queries)?),
        _ => shipped(),
    };
    let directory = tempfile::tempdir()?;
    let mut collections = Vec::new();
    println!("| stored as | bytes a vector | of them vector, code |\n|---|---:|---|");
    for element in ELEMENTS {
        let store = Store::open(directory.path().join(element.to_string()))?;
        let definition = CollectionDefinition::new("vectors", base.width(), Metric::Cosine).element(element);
        let tx = store.begin_write()?;
        tx.open_collection(definition)?.insert_many((0..).zip(base.rows()))?;
        tx.commit()?;
        let bytes = store.bytes_on_disk()? / base.len() as u64;
        let vector = match element {
            Element::F32 => 4 * base.width(),
            Element::F16 => 2 * base.width(),
            _ => base.width() + 1,
        };
        let code = base.width().next_multiple_of(8) + 56;
        println!("| {element} | {bytes} | {}, {} |", vector.next_multiple_of(64), code.next_multiple_of(64));
        collections.push((element, store.begin_read()?.open_collection(definition)?));
    }
    let queries: Vec<&[f32]> = queries.rows().collect();
    let exact = |collection: &Collection| keys(collection, &queries, None);
    let (_, plain) = collections.first().ok_or("no collections")?;
    let truth = exact(plain)?;

    println!("\n| ef | stored as | recall@{K} | queries/s |\n|---:|---|---:|---:|");
    for ef in EFS {
        let mut rates: Vec<Vec<f64>> = vec![Vec::new(); collections.len()];
        for _ in 0..options.rounds.max(1) {
            for ((_, collection), rates) in collections.iter().zip(&mut rates) {
                let start = Instant::now();
                keys(collection, &queries, Some(ef))?;
                rates.push(queries.len() as f64 / start.elapsed().as_secs_f64());
            }
        }
        for ((element, collection), rates) in collections.iter().zip(&mut rates) {
            rates.sort_by(f64::total_cmp);
            let recall = recall(&keys(collection, &queries, Some(ef))?, &truth);
            println!("| {ef} | {element} | {recall:.4} | {:.0} |", rates[rates.len() / 2]);
        }
    }
    for (element, collection) in &collections {
        println!("| exact | {element} | {:.4} | |", recall(&exact(collection)?, &truth));
    }
    Ok(())
}

/// What is found for each query; by exact search unless an `ef` is given.
fn keys(collection: &Collection, queries: &[&[f32]], ef: Option<usize>) -> Result<Vec<Vec<u64>>> {
    let find = |query: &&[f32]| {
        let query = collection.query(query).k(K);
        let hits = match ef {
            Some(ef) => query.ef(ef).run()?,
            None => query.exact().run()?,
        };
        Ok(hits.iter().map(|hit| hit.key).collect())
    };
    queries.iter().map(find).collect()
}

fn recall(found: &[Vec<u64>], truth: &[Vec<u64>]) -> f64 {
    let right =
        found.iter().zip(truth).map(|(found, truth)| found.iter().filter(|key| truth.contains(key)).count());
    right.sum::<usize>() as f64 / (K * truth.len()) as f64
}

/// The shipped words, the last of them as queries.
fn shipped() -> (Matrix, Matrix) {
    let mut vectors = words::words().vectors;
    let queries = vectors.split_off(vectors.len() - 500);
    let matrix = |rows: Vec<Vec<f32>>| Matrix::new(rows.into_iter().flatten().collect(), words::DIMENSION);
    (matrix(vectors), matrix(queries))
}

fn failure<T>(message: String) -> Result<T> {
    Err(message.into())
}

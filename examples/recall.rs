//! What `recall(r)` delivers: a table of the recall asked for, the recall found, the `ef` that was chosen, and queries per second.
//!
//! ```text
//! cargo run --release --example recall -- [--base B.fvecs --queries Q.fvecs] [--churn] [--metric cosine]
//! ```
//!
//! Without files, four fifths of the shipped words are stored and the others are searched for. With `--churn`, half of the base is stored
//! and replaced by the other half, a twentieth at a time.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use nestling::{Collection, CollectionDefinition, Hits, Store};

#[path = "benchmark/matrix.rs"]
#[expect(dead_code, reason = "other examples use the rest")]
mod matrix;
#[path = "../tests/common/words.rs"]
mod words;

use matrix::Matrix;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const ASKED: [f64; 5] = [0.8, 0.9, 0.95, 0.99, 0.995];
const KS: [usize; 3] = [1, 10, 100];
const ROUNDS: usize = 20;

#[derive(Parser)]
struct Options {
    /// Vectors to be stored.
    #[arg(long, requires = "queries")]
    base: Option<PathBuf>,
    /// Vectors to be searched for.
    #[arg(long, requires = "base")]
    queries: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Metric::Cosine)]
    metric: Metric,
    /// Replace everything first.
    #[arg(long)]
    churn: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Metric {
    L2,
    Cosine,
    Dot,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let metric = match options.metric {
        Metric::L2 => nestling::Metric::L2,
        Metric::Cosine => nestling::Metric::Cosine,
        Metric::Dot => nestling::Metric::Dot,
    };
    let (base, queries) = match (&options.base, &options.queries) {
        (Some(base), Some(queries)) => (Matrix::read(base)?, Matrix::read(queries)?),
        _ => shipped(),
    };
    let definition = CollectionDefinition::new("vectors", base.width(), metric);
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("recall.nestling"))?;

    let start = Instant::now();
    if options.churn {
        churn(&store, definition, &base)?
    } else {
        replace(&store, definition, &base, 0..0, 0..base.len())?
    }
    let collection = store.begin_read()?.open_collection(definition)?;
    println!("{} vectors, written in {:.2} s", collection.len(), start.elapsed().as_secs_f64());
    table(&collection, &queries)
}

fn churn(store: &Store, definition: CollectionDefinition<'_>, base: &Matrix) -> Result<()> {
    let half = base.len() / 2;
    replace(store, definition, base, 0..0, 0..half)?;
    for round in 0..ROUNDS {
        let old = round * half / ROUNDS..(round + 1) * half / ROUNDS;
        let new = old.start + half..old.end + half;
        replace(store, definition, base, old, new)?;
    }
    Ok(())
}

fn replace(
    store: &Store,
    definition: CollectionDefinition<'_>,
    base: &Matrix,
    old: std::ops::Range<usize>,
    new: std::ops::Range<usize>,
) -> Result<()> {
    let tx = store.begin_write()?;
    {
        let mut collection = tx.open_collection(definition)?;
        for row in old {
            collection.remove(row as u64)?;
        }
        collection.insert_many(new.map(|row| (row as u64, base.row(row))))?;
    }
    Ok(tx.commit()?)
}

fn table(collection: &Collection, queries: &Matrix) -> Result<()> {
    let queries: Vec<&[f32]> = queries.rows().collect();
    let most = KS.iter().fold(0, |most, &k| most.max(k));
    let truth = collection.search_many(&queries, |query| query.k(most).exact())?;
    println!("|   k | asked | delivered |  ef | queries/s |\n|----:|------:|----------:|----:|----------:|");
    for k in KS {
        for asked in ASKED {
            let start = Instant::now();
            let found: Vec<Hits> = queries
                .iter()
                .map(|query| collection.query(query).k(k).recall(asked).run())
                .collect::<Result<_, _>>()?;
            let rate = queries.len() as f64 / start.elapsed().as_secs_f64();
            let ef = found.first().map_or(0, |hits| hits.statistics().ef);
            println!("| {k:3} | {asked:5} | {:9.4} | {ef:3} | {rate:9.0} |", mean_recall(&found, &truth, k));
        }
    }
    Ok(())
}

/// Hits no farther than the `k`-th of the truth, per query and `k`.
fn mean_recall(found: &[Hits], truth: &[Hits], k: usize) -> f64 {
    let hits = found.iter().zip(truth).map(|(found, truth)| {
        let farthest = truth.get(k - 1).map_or(f32::INFINITY, |hit| hit.distance);
        found.iter().filter(|hit| hit.distance <= farthest).count()
    });
    hits.sum::<usize>() as f64 / (k * found.len()) as f64
}

/// Every fifth of the shipped words is a query, the others are stored.
fn shipped() -> (Matrix, Matrix) {
    let vectors = words::words().vectors;
    let part = |wanted: fn(usize) -> bool| {
        let rows = vectors.iter().enumerate().filter(|(row, _)| wanted(*row));
        Matrix::new(rows.flat_map(|(_, vector)| vector).copied().collect(), words::DIMENSION)
    };
    (part(|row| row % 5 != 0), part(|row| row % 5 == 0))
}

fn failure<T>(message: String) -> Result<T> {
    Err(message.into())
}

//! What a small durable commit costs: one vector at a time into a filled collection, beside a bare redb commit of 4 KB.
//!
//! ```text
//! cargo run --release --example commits [FILE.fvecs [DIRECTORY]]
//! ```
//!
//! All rows of the file but the last 1,000 are inserted at once, the last 1,000 one by one; without a file, the shipped words are
//! taken. The store goes into a temporary directory under DIRECTORY: choose a disk whose syncs you want to measure.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use nestling::redb::{Database, TableDefinition};
use nestling::{CollectionDefinition, Metric, Store};

#[path = "../tests/common/words.rs"]
mod words;

const COMMITS: usize = 1_000;
const VALUES: TableDefinition<u64, &[u8]> = TableDefinition::new("values");

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let vectors = match arguments.next() {
        Some(file) => read_fvecs(Path::new(&file))?,
        None => words::words().vectors,
    };
    let directory = match arguments.next() {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let filled = vectors.len().checked_sub(COMMITS).ok_or("the file has fewer than 1,000 rows")?;
    let (bulk, singles) = vectors.split_at(filled);
    let width = bulk.first().ok_or("the file has no more than 1,000 rows")?.len();
    let definition = CollectionDefinition::new("vectors", width, Metric::Cosine);

    let store = Store::open(directory.path().join("store"))?;
    let tx = store.begin_write()?;
    tx.open_collection(definition)?.insert_many((0..).zip(bulk))?;
    tx.commit()?;

    println!("{COMMITS} inserts of one vector into {filled} x {width}, each committed durably:");
    let before = store.counters();
    let mut times = Vec::with_capacity(COMMITS);
    for (key, vector) in (filled as u64..).zip(singles) {
        let started = Instant::now();
        let tx = store.begin_write()?;
        tx.open_collection(definition)?.insert(key, vector)?;
        tx.commit()?;
        times.push(started.elapsed());
    }
    let written = store.counters().bytes_written - before.bytes_written;
    let ours = print("nestling", times, written as f64 / COMMITS as f64);

    println!(
        "{COMMITS} bare redb commits of one 4 KB value, with quick repair, into a file of the same number of rows:"
    );
    let theirs = bare_redb(&directory.path().join("bare.redb"), filled as u64)?;
    println!("ratio of the medians: {:.2}", ours.as_secs_f64() / theirs.as_secs_f64());
    Ok(())
}

/// The floor: what redb itself needs to make 4 KB durable the way every commit of ours does.
fn bare_redb(path: &Path, rows: u64) -> Result<Duration, Box<dyn Error>> {
    let database = Database::create(path)?;
    let tx = database.begin_write()?;
    {
        let mut table = tx.open_table(VALUES)?;
        for key in 0..rows {
            table.insert(key, [1; 250].as_slice())?;
        }
    }
    tx.commit()?;
    let mut times = Vec::with_capacity(COMMITS);
    for key in (rows..).take(COMMITS) {
        let started = Instant::now();
        let mut tx = database.begin_write()?;
        tx.set_quick_repair(true);
        tx.open_table(VALUES)?.insert(key, [7; 4096].as_slice())?;
        tx.commit()?;
        times.push(started.elapsed());
    }
    Ok(print("redb", times, f64::NAN))
}

fn print(name: &str, mut times: Vec<Duration>, bytes: f64) -> Duration {
    times.sort_unstable();
    let percentile = |p: usize| times[(times.len() - 1) * p / 100];
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    print!(
        "  {name}: median {:.3} ms, p90 {:.3} ms, p99 {:.3} ms, longest {:.3} ms",
        milliseconds(percentile(50)),
        milliseconds(percentile(90)),
        milliseconds(percentile(99)),
        milliseconds(percentile(100)),
    );
    if bytes.is_finite() {
        print!(", {:.1} KB written each", bytes / 1e3);
    }
    println!();
    percentile(50)
}

/// All rows of a TEXMEX file: per row its width as a little-endian i32, then the values.
fn read_fvecs(path: &Path) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let mut rows = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((width, values)) = rest.split_first_chunk() {
        let width = usize::try_from(i32::from_le_bytes(*width))?;
        let (row, later) = values.split_at_checked(width * 4).ok_or("the file ends inside of a row")?;
        rows.push(row.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect());
        rest = later;
    }
    Ok(rows)
}

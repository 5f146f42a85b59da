//! Measures searches within a radius and paging: what they find, and what they cost beside comparing with every vector.
//!
//! ```text
//! cargo run --release --example radius_and_pages                                    # on the shipped words
//! cargo run --release --example radius_and_pages -- base.fvecs query.fvecs [queries]
//! ```
//!
//! A radius is chosen for each query so that so many vectors lie within it. Truth is what an exact search says. Times are the best of
//! three rounds over all queries, one thread.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use nestling::{Collection, CollectionDefinition, Hit, Metric, Store};

#[path = "../tests/common/words.rs"]
mod words;

const WITHIN: [usize; 8] = [1, 10, 100, 500, 1_000, 2_000, 5_000, 10_000];
const PAGE: usize = 10;
const PAGES_TOLD: [usize; 5] = [1, 2, 10, 100, 1_000];
const ROUNDS: usize = 3;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (base, mut queries) = match arguments.as_slice() {
        [] => shipped(),
        [base, queries, ..] => (fvecs(base.as_ref())?, fvecs(queries.as_ref())?),
        _ => return Err("give both files, or none".into()),
    };
    if let Some(count) = arguments.get(2) {
        queries.truncate(count.parse()?);
    }
    let temporary = tempfile::tempdir()?;
    let store = Store::open(temporary.path().join("radius.nestling"))?;
    let definition = CollectionDefinition::new("vectors", base[0].len(), Metric::Cosine);
    let tx = store.begin_write()?;
    tx.open_collection(definition)?.insert_many((0..).zip(&base))?;
    tx.commit()?;

    let collection = store.begin_read()?.open_collection(definition)?;
    println!("{} vectors, {} queries", collection.len(), queries.len());
    measure_radius(&collection, &queries)?;
    measure_pages(&collection, &queries)
}

/// The words, every fifth of them a query.
fn shipped() -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let (queries, base): (Vec<_>, Vec<_>) =
        words::words().vectors.into_iter().enumerate().partition(|(row, _)| row % 5 == 0);
    let rows = |part: Vec<(usize, Vec<f32>)>| part.into_iter().map(|(_, vector)| vector).collect();
    (rows(base), rows(queries))
}

/// Rows of a little-endian u32, the dimension, and so many f32.
fn fvecs(path: &Path) -> Result<Vec<Vec<f32>>> {
    let bytes = std::fs::read(path)?;
    let (words, _) = bytes.as_chunks::<4>();
    let dimension = u32::from_le_bytes(*words.first().ok_or("an empty file")?) as usize;
    let rows = words.chunks_exact(1 + dimension);
    Ok(rows.map(|row| row[1..].iter().map(|word| f32::from_le_bytes(*word)).collect()).collect())
}

fn measure_radius(collection: &Collection, queries: &[Vec<f32>]) -> Result<()> {
    println!("\n| within | recall | worst query | distances | queries/s | scans/s |");
    println!("|---:|---:|---:|---:|---:|---:|");
    for count in WITHIN.into_iter().filter(|&count| count as u64 <= collection.len()) {
        let truth = queries.iter().map(|query| collection.query(query).k(count).exact().run());
        let truth = truth.collect::<nestling::Result<Vec<_>>>()?;
        let asked: Vec<(&Vec<f32>, f32)> =
            queries.iter().zip(&truth).map(|(query, hits)| (query, hits[count - 1].distance)).collect();

        let (mut right, mut all, mut worst, mut distances) = (0, 0, 1.0_f64, 0);
        for (query, radius) in &asked {
            let exact = collection.within(query, *radius).exact().run()?;
            let found = collection.within(query, *radius).run()?;
            assert!(found.iter().all(|hit| exact.contains(hit)), "a hit that is not within the radius");
            distances += found.statistics().distances;
            (right, all) = (right + found.len(), all + exact.len());
            worst = worst.min(found.len() as f64 / exact.len() as f64);
        }
        let walks = best_rate(&asked, |query, radius| collection.within(query, radius).run().map(|_| ()))?;
        let few = &asked[..asked.len().min(50)];
        let scans =
            best_rate(few, |query, radius| collection.within(query, radius).exact().run().map(|_| ()))?;
        let (recall, distances) = (right as f64 / all as f64, distances as f64 / asked.len() as f64);
        println!("| {count} | {recall:.4} | {worst:.3} | {distances:.0} | {walks:.0} | {scans:.0} |");
    }
    Ok(())
}

/// Calls per second, in the best of the rounds.
fn best_rate(asked: &[(&Vec<f32>, f32)], call: impl Fn(&[f32], f32) -> nestling::Result<()>) -> Result<f64> {
    let mut best = 0.0_f64;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for (query, radius) in asked {
            call(query, *radius)?;
        }
        best = best.max(asked.len() as f64 / started.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn measure_pages(collection: &Collection, queries: &[Vec<f32>]) -> Result<()> {
    let pages = PAGES_TOLD.into_iter().filter(|&page| (page * PAGE) as u64 <= collection.len());
    let pages: Vec<usize> = pages.collect();
    let last = pages.last().copied().ok_or("fewer vectors than a page has hits")?;

    println!(
        "\n| page of {PAGE} | recall of the pages up to it | out of order | distances | µs | µs up to it |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    let runs = queries.iter().map(|query| Run::through(collection, query, last));
    let runs = runs.collect::<Result<Vec<Run>>>()?;
    let per_query = |sum: f64| sum / runs.len() as f64;
    for page in pages {
        let recall = per_query(runs.iter().map(|run| run.recall(page)).sum());
        let late = per_query(runs.iter().map(|run| run.late_share(page)).sum());
        let distances = per_query(runs.iter().map(|run| run.distances[page - 1] as f64).sum());
        let micros = per_query(runs.iter().map(|run| run.seconds[page - 1] * 1e6).sum());
        let total = per_query(runs.iter().map(|run| run.seconds[..page].iter().sum::<f64>() * 1e6).sum());
        println!("| {page} | {recall:.4} | {late:.4} | {distances:.0} | {micros:.0} | {total:.0} |");
    }
    to_the_end(collection, &queries[0])
}

/// One query's pages.
struct Run {
    hits: Vec<Hit>,
    /// The true order.
    truth: Vec<u64>,
    distances: Vec<u64>,
    seconds: Vec<f64>,
}

impl Run {
    fn through(collection: &Collection, query: &[f32], pages: usize) -> Result<Self> {
        let exact = collection.query(query).k(pages * PAGE).exact().run()?;
        let truth = exact.iter().map(|hit| hit.key).collect();
        let mut run = Self { hits: Vec::new(), truth, distances: Vec::new(), seconds: Vec::new() };
        for round in 0..ROUNDS {
            let mut browse = collection.browse(query, PAGE)?;
            for page in 0..pages {
                let started = Instant::now();
                let hits = browse.next().ok_or("the pages end early")??;
                let seconds = started.elapsed().as_secs_f64();
                if round == 0 {
                    run.distances.push(hits.statistics().distances);
                    run.seconds.push(seconds);
                    run.hits.extend(hits);
                } else {
                    run.seconds[page] = run.seconds[page].min(seconds);
                }
            }
        }
        Ok(run)
    }

    /// Of the vectors that belong on the first pages, how many are there.
    fn recall(&self, pages: usize) -> f64 {
        let truth: BTreeSet<u64> = self.truth[..pages * PAGE].iter().copied().collect();
        let right = self.hits[..pages * PAGE].iter().filter(|hit| truth.contains(&hit.key)).count();
        right as f64 / truth.len() as f64
    }

    /// The share of hits that are nearer than one on an earlier page.
    fn late_share(&self, pages: usize) -> f64 {
        let (mut farthest, mut late) = (f32::NEG_INFINITY, 0);
        for page in self.hits[..pages * PAGE].chunks(PAGE) {
            late += page.iter().filter(|hit| hit.distance < farthest).count();
            farthest = page.iter().fold(farthest, |far, hit| far.max(hit.distance));
        }
        late as f64 / (pages * PAGE) as f64
    }
}

fn to_the_end(collection: &Collection, query: &[f32]) -> Result<()> {
    let started = Instant::now();
    let (mut told, mut pages) = (BTreeSet::new(), 0);
    for page in collection.browse(query, PAGE)? {
        told.extend(page?.iter().map(|hit| hit.key));
        pages += 1;
    }
    assert_eq!(told.len() as u64, collection.len(), "a vector that is on no page");
    println!("\nAll {} vectors on {pages} pages in {:.0?}", told.len(), started.elapsed());
    Ok(())
}

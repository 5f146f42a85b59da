//! `nestling bench`: recall and speed of searches.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::{Args, value_parser};
use nestling::{Collection, Error, Metric};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::json;

use crate::failure::Failure;
use crate::formats::{Matrix, Place};
use crate::{open, output};

/// Measure recall and speed of searches with the queries of a file
///
/// Recall is the part of the results that are no farther from the query than the k-th true neighbor, so that ties count. Distances
/// are computed anew from the stored vectors for this. Each ef is measured twice, and the faster pass is told.
///
/// The store is opened read-only: beside other readers, but not while a process has it open for writing.
#[derive(Args)]
pub(crate) struct Bench {
    /// The store's directory
    store: PathBuf,
    /// The collection's name
    collection: String,
    /// The queries, a file in any format of `import` by its suffix
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// The true neighbors of each query, nearest first, an .ivecs file of base rows, which are taken as keys; computed by exact
    /// search unless given
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// How many to find
    #[arg(short, default_value = "10")]
    k: NonZero<usize>,
    /// Candidates kept while searching; one below k counts as k
    #[arg(long, value_delimiter = ',', default_value = "16,32,64,128")]
    ef: Vec<NonZero<usize>>,
    /// Threads to search with, over which the queries are spread
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Print one line of JSON per ef; "distances" is the mean per query
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let store = open::for_reading(&self.store)?;
        let collection = open::collection(&store, &self.collection)?;
        let bench = Workload::new(self, &collection)?;
        let threads = usize::from(self.threads);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|source| Failure::Threads { threads, source })?;
        if !self.json {
            let columns = ["ef", "recall", "qps", "p50 µs", "p99 µs", "distances"];
            let [ef, recall, qps, p50, p99, distances] = columns;
            output::line(format_args!("{ef:>8}{recall:>10}{qps:>12}{p50:>12}{p99:>12}{distances:>12}"))?;
        }
        for &ef in &self.ef {
            self.print(&bench.measure(&pool, ef.get())?)?;
        }
        Ok(())
    }

    fn print(&self, figures: &Figures) -> Result<(), Failure> {
        let Figures { ef, recall, qps, p50, p99, distances } = figures;
        if self.json {
            return output::line(json!({
                "ef": ef, "recall": recall, "qps": qps, "p50_us": p50, "p99_us": p99, "distances": distances,
            }));
        }
        output::line(format_args!("{ef:>8}{recall:>10.4}{qps:>12.0}{p50:>12.1}{p99:>12.1}{distances:>12.1}"))
    }
}

/// What is told of an ef.
struct Figures {
    ef: usize,
    recall: f64,
    /// Queries per second, all threads together.
    qps: f64,
    /// Microseconds.
    p50: f64,
    p99: f64,
    /// The mean per query.
    distances: f64,
}

/// The searches to be done, and what is true.
struct Workload<'a> {
    collection: &'a Collection,
    queries: Matrix<f32>,
    k: usize,
    distance: Distance,
    /// How far a result may be from each query to count as right.
    bounds: Vec<f64>,
}

/// How far two vectors are from each other. Naive and in f64, so that the kernels under test are not measured by themselves.
type Distance = fn(&[f32], &[f32]) -> f64;

impl<'a> Workload<'a> {
    fn new(options: &Bench, collection: &'a Collection) -> Result<Self, Failure> {
        let live = usize::try_from(collection.len()).unwrap_or(usize::MAX);
        if live == 0 {
            return Err(Failure::EmptyCollection {
                path: options.store.clone(),
                name: collection.name().to_owned(),
            });
        }
        let queries = Matrix::<f32>::read(&options.queries)?;
        let expected = collection.parameters().dimension;
        if queries.width() != expected {
            return Err(Failure::Dimension {
                path: options.queries.clone(),
                place: Place::Row(0),
                found: queries.width(),
                collection: collection.name().to_owned(),
                expected,
            });
        }
        let k = options.k.get().min(live);
        let truth = match &options.truth {
            Some(path) => read_truth(path, options, queries.len(), k, collection)?,
            None => compute_truth(options, &queries, k, collection)?,
        };
        let distance = distance_under(collection.parameters().metric)?;
        let mut workload = Self { collection, queries, k, distance, bounds: Vec::new() };
        workload.bounds = truth
            .into_iter()
            .zip(workload.queries.rows())
            .map(|(kth, query)| Ok(widened(workload.distance_to(query, kth)?)))
            .collect::<Result<_, Failure>>()?;
        Ok(workload)
    }

    fn distance_to(&self, query: &[f32], key: u64) -> Result<f64, Failure> {
        let collection = self.collection.name();
        let vector = self.collection.get(key)?;
        let vector = vector.ok_or_else(|| Error::KeyNotFound { key, collection: collection.to_owned() })?;
        Ok((self.distance)(query, &vector))
    }

    /// Searches with every query, twice.
    fn measure(&self, pool: &ThreadPool, ef: usize) -> Result<Figures, Failure> {
        let (first, second) = (self.pass(pool, ef)?, self.pass(pool, ef)?);
        let pass = if first.seconds < second.seconds { first } else { second };
        let queries = self.queries.len() as f64;
        let mut microseconds: Vec<f64> = pass.answers.iter().map(|answer| answer.microseconds).collect();
        microseconds.sort_unstable_by(f64::total_cmp);
        Ok(Figures {
            ef,
            recall: self.recall(&pass.answers)?,
            qps: queries / pass.seconds,
            p50: percentile(&microseconds, 50),
            p99: percentile(&microseconds, 99),
            distances: pass.answers.iter().map(|answer| answer.distances as f64).sum::<f64>() / queries,
        })
    }

    /// Searches once with every query. Whichever thread is free takes the next one.
    fn pass(&self, pool: &ThreadPool, ef: usize) -> Result<Pass, Failure> {
        let next = AtomicUsize::new(0);
        let started = Instant::now();
        let answers = pool.broadcast(|_| -> nestling::Result<Vec<Answer>> {
            let mut answers = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(query) = self.queries.row(number) else { return Ok(answers) };
                let asked = Instant::now();
                let hits = self.collection.query(query).k(self.k).ef(ef).run()?;
                answers.push(Answer {
                    query: number,
                    microseconds: asked.elapsed().as_nanos() as f64 / 1e3,
                    distances: hits.statistics().distances,
                    keys: hits.iter().map(|hit| hit.key).collect(),
                });
            }
        });
        let seconds = started.elapsed().as_secs_f64();
        let answers: Vec<Vec<Answer>> = answers.into_iter().collect::<Result<_, _>>()?;
        Ok(Pass { seconds, answers: answers.into_iter().flatten().collect() })
    }

    fn recall(&self, answers: &[Answer]) -> Result<f64, Failure> {
        let mut right = 0;
        for answer in answers {
            let (Some(query), Some(&bound)) = (self.queries.row(answer.query), self.bounds.get(answer.query))
            else {
                continue;
            };
            // As a set: a key that is found twice counts once.
            for &key in answer.keys.iter().collect::<BTreeSet<_>>() {
                right += usize::from(self.distance_to(query, key)? <= bound);
            }
        }
        Ok(right as f64 / (self.k * self.queries.len()) as f64)
    }
}

/// All queries, searched with once.
struct Pass {
    seconds: f64,
    answers: Vec<Answer>,
}

struct Answer {
    query: usize,
    microseconds: f64,
    distances: u64,
    keys: Vec<u64>,
}

/// The k-th true neighbor of each query, as a file tells.
fn read_truth(
    path: &Path,
    options: &Bench,
    queries: usize,
    k: usize,
    collection: &Collection,
) -> Result<Vec<u64>, Failure> {
    let truth = Matrix::<i32>::read(path)?;
    if truth.len() != queries {
        return Err(Failure::TruthRows {
            path: path.to_owned(),
            found: truth.len(),
            queries: options.queries.clone(),
            expected: queries,
        });
    }
    let mut kth = Vec::with_capacity(queries);
    for (row, neighbors) in truth.rows().enumerate() {
        let Some(nearest) = neighbors.get(..k) else {
            return Err(Failure::TruthWidth { path: path.to_owned(), row, found: neighbors.len(), k });
        };
        // All of them are looked up: with one missing, nothing could be found in its place.
        let mut last = 0;
        for &neighbor in nearest {
            last = match u64::try_from(neighbor) {
                Ok(key) if collection.contains(key)? => key,
                _ => {
                    return Err(Failure::TruthKey {
                        path: path.to_owned(),
                        row,
                        neighbor,
                        collection: collection.name().to_owned(),
                    });
                }
            };
        }
        kth.push(last);
    }
    Ok(kth)
}

/// The k-th true neighbor of each query, by comparing with every vector.
fn compute_truth(
    options: &Bench,
    queries: &Matrix<f32>,
    k: usize,
    collection: &Collection,
) -> Result<Vec<u64>, Failure> {
    let progress = output::progress("computing the truth", 0, Some(queries.len() as u64), options.json);
    let rows: Vec<&[f32]> = queries.rows().collect();
    let kth = rows.into_par_iter().enumerate().map(|(row, query)| {
        let hits = collection.query(query).k(k).exact().run().map_err(|e| match e {
            Error::InvalidVector { defect, .. } => {
                Failure::Vector { path: options.queries.clone(), place: Place::Row(row as u64), defect }
            }
            e => Failure::Store(e),
        })?;
        progress.inc(1);
        Ok(hits.last().map_or(0, |hit| hit.key))
    });
    let kth = kth.collect();
    progress.finish_and_clear();
    kth
}

fn distance_under(metric: Metric) -> Result<Distance, Failure> {
    fn dot(x: &[f32], y: &[f32]) -> f64 {
        x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    }
    match metric {
        Metric::Cosine => Ok(|x, y| 1.0 - dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()),
        Metric::L2 => Ok(|x, y| x.iter().zip(y).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum()),
        Metric::Dot => Ok(|x, y| -dot(x, y)),
        other => Err(Failure::UnknownMetric(other)),
    }
}

/// A distance that counts as no farther than this one: distances computed in f32 differ by as much.
fn widened(distance: f64) -> f64 {
    distance + distance.abs() * 1e-5 + 1e-5
}

/// The nearest-rank percentile of ascending values.
fn percentile(ascending: &[f64], percent: usize) -> f64 {
    let rank = (ascending.len() * percent).div_ceil(100);
    ascending.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

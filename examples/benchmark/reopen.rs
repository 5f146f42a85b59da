//! How soon a fresh process has its first result: after a clean close, and after the writer was killed.

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::child::{self, First};
use crate::data::Data;
use crate::options::Options;
use crate::report::{Report, heading};
use crate::statistics::{median, percentile};
use crate::store::Filled;
use crate::{Result, failure};

/// Vectors per transaction of the import that is killed.
const BATCH: usize = 100;

pub(crate) fn run(filled: &Filled, data: &Data, options: &Options, report: &mut Report) -> Result<()> {
    heading("reopen: a fresh process from `main` to its first result; the page cache is warm");
    let copy = filled.copy()?;
    let vectors = data.base.len() as u64;
    let (clean, killed) = measure(copy.path(), filled, vectors, options.rounds.get())?;
    println!("{:>28}{:>14}{:>14}", "", "median ms", "max ms");
    for (how, firsts) in [("after a clean close", clean), ("after SIGKILL in an import", killed)] {
        let result: Vec<f64> = firsts.iter().map(|first| first.result_ms).collect();
        let opened: Vec<f64> = firsts.iter().map(|first| first.opened_ms).collect();
        let (middle, max) = (median(&result), percentile(&result, 100));
        println!("{how:>28}{middle:>14.2}{max:>14.2}");
        report.record(
            "reopen",
            json!({ "how": how, "median_ms": middle, "max_ms": max, "all_ms": result, "opened_ms": opened }),
        )?;
    }
    Ok(())
}

/// Both kinds of reopening, so many rounds each. The store grows by what the killed imports have committed.
pub(crate) fn measure(
    path: &Path,
    filled: &Filled,
    vectors: u64,
    rounds: usize,
) -> Result<(Vec<First>, Vec<First>)> {
    // The first brings the files into the page cache.
    child::first_result(path, &filled.query)?;
    let clean = (0..rounds).map(|_| child::first_result(path, &filled.query)).collect::<Result<Vec<_>>>()?;
    let mut killed = Vec::with_capacity(rounds);
    let mut least = vectors;
    for round in 0..rounds {
        let part = (round as f64 + 0.5) / rounds as f64;
        least += child::import_and_kill(path, &filled.queries, BATCH, 2 + round, part)?;
        let first = child::first_result(path, &filled.query)?;
        if first.vectors < least {
            return failure(format!("{} vectors are left of {least} that were committed", first.vectors));
        }
        least = first.vectors;
        killed.push(first);
    }
    Ok((clean, killed))
}

/// What the process does that is measured: from the instant given to the first result.
pub(crate) fn in_child(path: &Path, query: &Path, started: Instant) -> Result<First> {
    let query = crate::matrix::Rows::open(query)?.next_vector()?.ok_or("no query")?;
    let store = nestling::Store::open(path)?;
    let opened = started.elapsed();
    let collection = crate::store::collection(&store)?;
    let hits = collection.search(&query, 10)?;
    let result = started.elapsed();
    if hits.is_empty() {
        return failure("nothing was found");
    }
    Ok(First {
        opened_ms: opened.as_secs_f64() * 1e3,
        result_ms: result.as_secs_f64() * 1e3,
        vectors: collection.len(),
    })
}

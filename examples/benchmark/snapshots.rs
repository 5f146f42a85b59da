//! Taking a snapshot, and reading on one CPU while a writer commits on another.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nestling::{CollectionDefinition, Store};
use serde_json::json;

use crate::data::{Data, newcomer};
use crate::options::Options;
use crate::report::{Report, heading, thousands};
use crate::statistics::{median, percentile};
use crate::store::{Filled, NAME};
use crate::{Result, store};

/// How often reading alone and reading beside a writer take turns, and for how long each.
const TURNS: usize = 7;
const TURN: Duration = Duration::from_millis(700);
const BATCHES: usize = 201;
const BATCH: u32 = 10_000;

pub(crate) fn run(filled: &Filled, data: &Data, options: &Options, report: &mut Report) -> Result<()> {
    heading("snapshots: taking one, and reading beside a writer");
    let copy = filled.copy()?;
    let store = Store::open(copy.path())?;
    taking(&store, report)?;
    beside_a_writer(&store, data, options, report)
}

fn taking(store: &Store, report: &mut Report) -> Result<()> {
    let mut nanoseconds = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let started = Instant::now();
        for _ in 0..BATCH {
            drop(black_box(store.begin_read()?));
        }
        nanoseconds.push(started.elapsed().as_nanos() as f64 / f64::from(BATCH));
    }
    let (middle, p99) = (median(&nanoseconds), percentile(&nanoseconds, 99));
    println!("begin_read and drop: {middle:.0} ns (median of {BATCHES} batches of {BATCH}; p99 {p99:.0} ns)");
    report.record("snapshots", json!({ "what": "begin_read and drop", "median_ns": middle, "p99_ns": p99 }))
}

fn beside_a_writer(store: &Store, data: &Data, options: &Options, report: &mut Report) -> Result<()> {
    let definition = store::definition(&store::collection(store)?);
    let mut next = data.base.len();
    let (mut alone, mut beside, mut ratios, mut commits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    read(store, data, options)?; // Brings the pages in.
    for _ in 0..TURNS {
        let quiet = read(store, data, options)?;
        let (busy, rate) = with_writer(store, definition, data, &mut next, || read(store, data, options))?;
        alone.push(quiet);
        beside.push(busy);
        ratios.push(busy / quiet);
        commits.push(rate);
    }
    let (alone, beside) = (median(&alone), median(&beside));
    let (ratio, commits) = (median(&ratios), median(&commits));
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    println!("reader, a new snapshot for each search at ef 64, in {TURNS} turns of {TURN:?} each:");
    println!("  alone             {:>9} queries/s", thousands(alone));
    println!(
        "  beside a writer   {:>9} queries/s; it commits {} inserts/s",
        thousands(beside),
        thousands(commits)
    );
    println!("  ratio             {ratio:>9.3} (median of the turns; the least is {least:.3})");
    let cpus = thread::available_parallelism()?.get();
    if cpus < 2 {
        println!("  There is but one CPU for this process: reader and writer take turns on it.");
    }
    report.record(
        "snapshots",
        json!({
            "what": "reader beside a writer", "alone_qps": alone, "beside_qps": beside, "ratio": ratio,
            "least_ratio": least, "ratios": ratios, "commits_per_second": commits,
        }),
    )
}

/// Searches for a while, each time in the latest snapshot; tells how many in a second.
fn read(store: &Store, data: &Data, options: &Options) -> Result<f64> {
    let started = Instant::now();
    let mut searches = 0;
    for query in data.queries.rows().cycle() {
        let collection = store.begin_read()?.open_stored_collection(NAME)?;
        black_box(collection.query(query).k(options.k()).run()?);
        searches += 1;
        if started.elapsed() >= TURN {
            break;
        }
    }
    Ok(f64::from(searches) / started.elapsed().as_secs_f64())
}

/// Does something while another thread commits single inserts without pause; tells how many in a second.
fn with_writer<T>(
    store: &Store,
    definition: CollectionDefinition<'_>,
    data: &Data,
    next: &mut usize,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, f64)> {
    let stop = AtomicBool::new(false);
    let (committed, first_commit) = mpsc::channel();
    thread::scope(|scope| {
        let stop = &stop;
        let writer = scope.spawn(move || -> Result<f64> {
            let begun = Instant::now();
            let mut commits = 0;
            while !stop.load(Ordering::Relaxed) {
                let tx = store.begin_write()?;
                tx.open_collection(definition)?.insert(*next as u64, &newcomer(&data.queries, *next))?;
                tx.commit()?;
                *next += 1;
                commits += 1;
                committed.send(()).ok();
            }
            Ok(f64::from(commits) / begun.elapsed().as_secs_f64())
        });
        // Fails when the writer has ended early, of which it tells itself.
        first_commit.recv().ok();
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let rate = writer.join().map_err(|_| "the writer has panicked")??;
        Ok((done?, rate))
    })
}

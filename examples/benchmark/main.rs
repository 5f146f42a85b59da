//! Measures Nestling: speed and recall of searches, imports, small commits, snapshots, reopening, memory, and growth.
//!
//! ```text
//! cargo run --release --example benchmark                        # everything, on the shipped words, within a minute
//! cargo run --release --example benchmark -- --help              # all options
//! cargo build --release --example benchmark                      # and then, for figures to be compared, on Linux:
//! taskset -c 0 target/release/examples/benchmark curves commits reopen memory \
//!     --base base.fvecs --queries query.fvecs --truth truth.ivecs --json ours.jsonl --svg recall.svg --peer hnswlib.jsonl
//! target/release/examples/benchmark build snapshots --base base.fvecs --queries query.fvecs --truth truth.ivecs
//! target/release/examples/benchmark growth --growth-to 1000000 --json growth.jsonl --growth-svg growth.svg
//! ```
//!
//! The program uses the public API alone and pins nothing: `taskset` keeps it on one CPU where one is meant. `build` and `snapshots`
//! need two or more. Stores go into a temporary directory: choose the disk whose syncs are meant with `--directory`.
//!
//! What is stored are the words of `examples/data` (4,000 of them; the other 1,000 are the queries), or files in the TEXMEX formats,
//! or synthetic vectors, whose making `synthetic.rs` tells. Then:
//!
//! - An **import** is durable: transactions of 10,000 rows, the opening and closing of the store included.
//! - **curves**: one thread asks all queries, twice at each `ef`, and the faster pass counts; all of this in several rounds, of which
//!   the medians are told. A result is right when it is no farther than the k-th true neighbour, so that ties count; the truth and
//!   the distances to compare are computed by this program's own plain loops.
//! - **build**: imports with one thread, with two and with all, in turn; the graphs must be the same.
//! - **commits**: durable inserts of one vector, in turn with bare redb commits of 4 KB in a file beside the store's. Written bytes
//!   come from the operating system's counters: `write_bytes` of `/proc/self/io`, the pages that this process has caused to be
//!   written (see `store.rs` for why the store is copied by pages first), and the disk's own, which has the file system's journal
//!   and all other processes in it: let there be none. A file system in memory writes nothing.
//! - **snapshots**: nanoseconds for `begin_read` and drop; and searches, each in a new snapshot, alone and beside a thread that
//!   commits one insert after the other, in turn.
//! - **reopen**: this program starts itself anew, and the new process measures from `main` to its first result; after a clean close,
//!   and after an importing process was killed with SIGKILL in the midst of a commit or between two. The page cache is warm.
//! - **memory**: `RssAnon` and `RssFile` of a process that has opened the store and searched 1,000 times. The mapped files' pages are
//!   the system's to take back.
//! - **growth**: one store of synthetic vectors grows from 10,000 on, and most of the above is measured at each size.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::ValueEnum;
use serde_json::json;

use self::data::Data;
use self::options::{Options, Section};
use self::peers::Curve;
use self::report::{Report, heading, thousands};
use self::store::Filled;

mod build;
mod child;
mod commits;
mod curves;
mod data;
mod growth;
mod matrix;
mod memory;
mod options;
mod peers;
mod plot;
mod reopen;
mod report;
mod snapshots;
mod statistics;
mod store;
mod synthetic;
mod system;
mod truth;
#[path = "../../tests/common/words.rs"]
mod words;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// An error that is told by a sentence.
fn failure<T>(message: impl Into<String>) -> Result<T> {
    Err(message.into().into())
}

fn main() -> ExitCode {
    let started = Instant::now();
    let mut arguments = std::env::args_os().skip(1).peekable();
    let result = match arguments.next_if(|argument| argument == child::CHILD) {
        Some(_) => child::main(arguments, started),
        None => run(&Options::parse_and_check()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let peers = options.peer.iter().map(|path| peers::read(path)).collect::<Result<Vec<_>>>()?.concat();
    for path in [&options.svg, &options.growth_svg].into_iter().flatten() {
        // Better now than after all the work.
        std::fs::write(path, "").map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    let mut report = Report::new(options.json.as_deref())?;
    let directory = match &options.directory {
        Some(parent) => tempfile::tempdir_in(parent).map_err(|e| format!("cannot use --directory: {e}"))?,
        None => tempfile::tempdir()?,
    };
    println!("nestling {} on {}, {} CPUs", report.text("version"), report.text("cpu"), report.text("cpus"));
    if cfg!(debug_assertions) {
        println!("Built without --release: these figures tell nothing.");
    }
    if Section::value_variants().iter().any(|&section| section != Section::Growth && options.wants(section)) {
        on_given_data(options, directory.path(), peers, &mut report)?;
    }
    if options.wants(Section::Growth) {
        on_growing_data(options, directory.path(), &mut report)?;
    }
    Ok(())
}

fn on_given_data(options: &Options, directory: &Path, peers: Vec<Curve>, report: &mut Report) -> Result<()> {
    let data = Data::load(options)?;
    report.state(json!({
        "data": data.name, "base": data.base.len(), "dimension": data.base.width(),
        "metric": data.metric.to_string(), "k": options.k(), "rounds": options.rounds,
    }));
    let filled = Filled::new(directory, &data.queries)?;
    import(&filled, &data, options, report)?;
    if options.wants(Section::Curves) {
        let curve = curves::run(&filled, &data, options, report)?;
        if let Some(path) = &options.svg {
            let size = thousands(data.base.len() as f64);
            let title = format!("{}: {size} × {}, one thread", data.name, data.base.width());
            let curves: Vec<Curve> = [Curve::ours(&curve)].into_iter().chain(peers).collect();
            plot::recall(path, &title, options.k(), &curves)?;
        }
    }
    if options.wants(Section::Build) {
        build::run(directory, &data, options, report)?;
    }
    if options.wants(Section::Commits) {
        commits::run(&filled, &data, options, report)?;
    }
    if options.wants(Section::Snapshots) {
        snapshots::run(&filled, &data, options, report)?;
    }
    if options.wants(Section::Reopen) {
        reopen::run(&filled, &data, options, report)?;
    }
    if options.wants(Section::Memory) {
        memory::run(&filled, &data, report)?;
    }
    Ok(())
}

fn on_growing_data(options: &Options, directory: &Path, report: &mut Report) -> Result<()> {
    report.state(json!({
        "data": "synthetic", "base": null, "dimension": options.dimension, "intrinsic": options.intrinsic,
        "noise": options.noise, "seed": options.seed, "metric": options.metric().to_string(),
        "k": options.k(), "rounds": options.rounds,
    }));
    let sizes = growth::run(directory, options, report)?;
    if let Some(path) = &options.growth_svg {
        let title = format!(
            "Synthetic vectors of {} dimensions, one thread: speed at recall@{} = {}",
            options.dimension,
            options.k(),
            growth::RECALL
        );
        plot::growth(path, &title, &sizes)?;
    }
    Ok(())
}

/// The import that every section but "build" and "growth" starts from.
fn import(filled: &Filled, data: &Data, options: &Options, report: &mut Report) -> Result<()> {
    heading(&format!("data: {}", data.name));
    let (vectors, dimension) = (data.base.len(), data.base.width());
    let definition = options.definition(dimension);
    let seconds = store::import(&filled.path, definition, &data.base, 0, options.batch.get())?;
    let (rate, threads) = (vectors as f64 / seconds, rayon::current_num_threads());
    println!(
        "{} x {dimension}, {}, stored in {seconds:.2} s: {} per second, {threads} threads",
        thousands(vectors as f64),
        data.metric,
        thousands(rate)
    );
    report.record("import", json!({ "seconds": seconds, "vectors_per_second": rate, "threads": threads }))
}

//! Churn: what years of inserting, updating and removing do to a collection, against a fresh build of what is left.
//!
//! ```text
//! cargo run --release --example churn                          # all runbooks, on the shipped words, within a minute
//! cargo run --release --example churn -- --strict --by-counts  # the same as a test: nothing depends on the clock
//! cargo run --release --example churn -- random sliding clustered --base base.fvecs --queries query.fvecs \
//!     --order wordnet-order.txt --json churn.jsonl
//! cargo run --release --example churn -- random --share 1% --rounds 200 --base …
//! ```
//!
//! The runbooks follow the streaming track of big-ann-benchmarks (Aguerrebere et al., 2024; NeurIPS'23):
//!
//! - **random**: each round removes a random share and inserts as many others; after 20 rounds of 5 % nothing of the start is left.
//! - **update**: the same, half of it by giving keys another vector.
//! - **sliding**: the oldest go, the next in the file's order, or `--order`, come. In an order of topics these drift.
//! - **expiration**: 60 % of the arrivals live for 5 rounds, 30 % for 20, 10 % for ever; as many arrive as expire.
//! - **clustered**: all that is nearest to a random stored vector goes; from elsewhere comes what is nearest to a random one there.
//! - **insertion-order**: nothing is removed; all is inserted in the order of the file, or `--order`, which may be by topic.
//! - **duplicates**: exact copies of one vector, a fifth as many as there are others, and clusters of 50 near-duplicates,
//!   as many in all as there are others.
//!
//! A part of the data is live at first, the rest is the pool that arrivals are taken from; what was removed goes to its end, and comes
//! again under another key. With `--live 100%` the same vectors come again at once. Changes are made one by one, by one thread, in
//! durable transactions of `--transaction` changes of one kind. Each time that 5 % have been turned over it measures
//!
//! - recall@10, and searches per second, of the queries at `--ef`, and of a fresh build of the same vectors in random order. The
//!   truth is this program's own: all distances, by plain loops, restricted to what is live; ties count as found. The two
//!   stores take turns after every 50 queries, and of several passes the fastest counts for each of these lots.
//! - the share of live vectors that a search for them finds at rank 1 (or a copy of them), with the same `ef`;
//! - the directory's size, against the fresh build's.
//!
//! `Store::check` is asked at every such step and after every so many commits. The costs of changes are medians over transactions for
//! time, commit included, and means for rows. At the end stand verdicts; with `--strict` one that fails makes the exit code 1.

use std::error::Error;
use std::process::ExitCode;

use crate::options::{Kind, Options};
use crate::report::Report;
use crate::world::World;

mod cost;
mod duplicates;
#[allow(dead_code, reason = "the benchmark needs more of it")]
#[path = "../benchmark/matrix.rs"]
mod matrix;
mod measure;
mod options;
mod report;
mod run;
mod runbook;
#[path = "../../tests/common/words.rs"]
mod words;
mod world;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// An error that is told by a sentence.
fn failure<T>(message: impl Into<String>) -> Result<T> {
    Err(message.into().into())
}

fn main() -> ExitCode {
    let options = Options::parse_and_check();
    match run(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            println!("{failed} of the criteria failed.");
            if options.strict { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all runbooks; tells how many criteria failed.
fn run(options: &Options) -> Result<usize> {
    let mut report = Report::new(options)?;
    let directory = match &options.store {
        Some(parent) => tempfile::tempdir_in(parent).map_err(|e| format!("cannot use --store: {e}"))?,
        None => tempfile::tempdir()?,
    };
    let world = World::load(options)?;
    println!(
        "{}: {} vectors, {} queries, {}, k 10, ef {}, seed {}",
        world.name,
        world.base.len(),
        world.queries.len(),
        world.metric,
        options.ef,
        options.seed
    );
    for kind in options.runbooks() {
        let directory = tempfile::tempdir_in(directory.path())?;
        match kind {
            Kind::Duplicates => duplicates::run(&world, options, directory.path(), &mut report)?,
            kind => run::run(kind, &world, options, directory.path(), &mut report)?,
        }
    }
    Ok(report.summarize())
}

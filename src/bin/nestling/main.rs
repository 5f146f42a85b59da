//! The command line tool: fills, searches, measures, verifies, copies and repairs stores.
//!
//! Results go to standard output, as text or, with `--json`, as one JSON object per line; errors and progress bars go to standard
//! error. The exit code is 0 for success, 1 for a failure (a damaged store included), 2 for a command that was misspelt, 130 for
//! one that Ctrl-C has ended.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod backup;
mod bench;
mod check;
mod collections;
mod compact;
mod completions;
mod export;
mod failure;
mod formats;
mod get;
mod import;
mod inspect;
mod open;
mod output;
mod remove;
mod repair;
mod search;
mod stats;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Fills, searches, measures, verifies, copies and repairs Nestling stores: directories of vectors with an HNSW index.
#[derive(Parser)]
#[command(name = "nestling", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Import(import::Import),
    Export(export::Export),
    Search(search::Search),
    Get(get::Get),
    Bench(bench::Bench),
    Remove(remove::Remove),
    Collections(collections::Collections),
    Stats(stats::Stats),
    Inspect(inspect::Inspect),
    Check(check::Check),
    Backup(backup::Backup),
    Compact(compact::Compact),
    Repair(repair::Repair),
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    let started = Instant::now();
    match run(&Cli::parse().command, started) {
        Ok(code) => code,
        // Whoever closed the pipe, as `head` does, has seen enough.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            output::error(&failure);
            if failure.is_stopped() { output::STOPPED.into() } else { ExitCode::FAILURE }
        }
    }
}

fn run(command: &Command, started: Instant) -> Result<ExitCode, Failure> {
    match command {
        Command::Import(import) => import.run()?,
        Command::Export(export) => export.run()?,
        Command::Search(search) => search.run(started)?,
        Command::Get(get) => get.run()?,
        Command::Bench(bench) => bench.run()?,
        Command::Remove(remove) => remove.run()?,
        Command::Collections(collections) => collections.run()?,
        Command::Stats(stats) => stats.run()?,
        Command::Inspect(inspect) => inspect.run()?,
        Command::Backup(backup) => backup.run()?,
        Command::Compact(compact) => compact.run()?,
        Command::Repair(repair) => repair.run()?,
        Command::Completions(completions) => completions.run()?,
        Command::Check(check) => return check.run(),
    }
    Ok(ExitCode::SUCCESS)
}

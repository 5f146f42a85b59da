//! Measures Nestling, hannoy and usearch on the same files with the same protocol. `run` drives it; `README.md` says what is measured
//! and how. Each command is a process of its own, so that no peer finds memory or caches that another measurement has left.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod data;
mod measure;
mod peers;
mod recall;
mod summary;
mod words;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Neighbors per node, and candidates that an insertion considers: the same for every peer, here and in `hnswlib_peer.py`. Constants,
/// because hannoy wants the first one at compile time.
pub(crate) const M: usize = 16;
pub(crate) const EF_CONSTRUCTION: usize = 200;
/// How many neighbors are searched for.
pub(crate) const K: usize = 10;

#[derive(Parser)]
#[command(about = "Measure vector stores and libraries on the same files; see README.md")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the shipped words as base.fvecs, query.fvecs, truth.ivecs and order.txt
    Words { directory: PathBuf },
    /// Build, and measure the build, the curve of recall and speed, and the space on disk
    Build {
        #[command(flatten)]
        setup: Setup,
        #[arg(long)]
        base: PathBuf,
        #[arg(long)]
        truth: PathBuf,
        /// Row numbers of the base, one a line, in the order in which to insert them
        #[arg(long)]
        order: Option<PathBuf>,
        #[arg(long, value_delimiter = ',', required = true)]
        ef: Vec<usize>,
    },
    /// Measure the time from opening what was built to the first result
    Reopen {
        #[command(flatten)]
        setup: Setup,
        #[arg(long, value_enum, default_value_t = Opening::Load)]
        how: Opening,
    },
    /// Measure durable inserts of one vector into a copy of what was built
    Insert {
        #[command(flatten)]
        setup: Setup,
        #[arg(long)]
        inserts: usize,
    },
    /// Print the medians of a file of measurements
    Summary { measurements: PathBuf },
}

/// What every measurement needs to know.
#[derive(Args, Clone)]
pub(crate) struct Setup {
    #[arg(value_enum)]
    peer: PeerName,
    #[arg(long)]
    query: PathBuf,
    #[arg(long, value_enum)]
    metric: Metric,
    /// Where the peer keeps its files
    #[arg(long)]
    directory: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PeerName {
    Nestling,
    #[cfg(feature = "hannoy")]
    Hannoy,
    #[cfg(feature = "usearch")]
    Usearch,
    #[cfg(feature = "usearch")]
    UsearchBf16,
    #[cfg(feature = "usearch")]
    UsearchI8,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Metric {
    /// 1 - cos(x, y)
    Cosine,
    /// Squared Euclidean distance
    L2,
}

/// How what is on disk is opened, by those peers that leave a choice.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Opening {
    /// For searching and inserting
    Load,
    /// For searching only, mapped into memory
    View,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Words { directory } => words::write(&directory),
        Command::Build { setup, base, truth, order, ef } => {
            let data = data::Data::load(&setup, &base, &truth, order.as_deref())?;
            peers::measure!(&setup, build, &data, &ef)
        }
        Command::Reopen { setup, how } => peers::measure!(&setup, reopen, how),
        Command::Insert { setup, inserts } => peers::measure!(&setup, insert, inserts),
        Command::Summary { measurements } => summary::print(&measurements),
    }
}

/// The name of a peer in measurements.
impl std::fmt::Display for PeerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Err(std::fmt::Error),
        }
    }
}

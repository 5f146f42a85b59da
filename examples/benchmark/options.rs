//! The command line.

use std::num::NonZero;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind, value_parser};
use nestling::{CollectionDefinition, Metric};

/// Measure Nestling: speed and recall of searches, imports, small commits, snapshots, reopening, memory, growth
#[derive(Parser)]
#[command(
    name = "benchmark",
    after_help = "\
Without options, everything is measured on the words of examples/data, within a minute. The program pins nothing: where one \
CPU is meant, say so (on Linux: taskset -c 0 …)."
)]
pub(crate) struct Options {
    /// What to measure; everything unless given
    #[arg(value_enum)]
    sections: Vec<Section>,

    /// The vectors to store, an .fvecs file, instead of the shipped words
    #[arg(long, value_name = "FILE", requires = "queries", help_heading = "Data")]
    pub(crate) base: Option<PathBuf>,
    /// The queries, an .fvecs file; they are also what is inserted one by one
    #[arg(long, value_name = "FILE", requires = "base", help_heading = "Data")]
    pub(crate) queries: Option<PathBuf>,
    /// The true neighbors of each query, nearest first, an .ivecs file of base rows; computed unless given
    #[arg(long, value_name = "FILE", requires = "base", help_heading = "Data")]
    pub(crate) truth: Option<PathBuf>,
    /// Store so many synthetic vectors instead of the shipped words
    #[arg(long, value_name = "N", conflicts_with = "base", value_parser = value_parser!(u32).range(100..), help_heading = "Data")]
    pub(crate) synthetic: Option<u32>,
    /// Components of the synthetic vectors
    #[arg(long, value_name = "D", default_value_t = 128, value_parser = value_parser!(u16).range(2..), help_heading = "Data")]
    pub(crate) dimension: u16,
    /// Dimension of the subspaces that the synthetic vectors lie near to: the higher, the harder to search
    #[arg(long, value_name = "D", default_value_t = 10, value_parser = value_parser!(u16).range(1..), help_heading = "Data")]
    pub(crate) intrinsic: u16,
    /// How far the synthetic vectors lie from those subspaces, relative to their spread within: the farther, the harder to search
    #[arg(long, value_name = "X", default_value_t = 0.5, help_heading = "Data")]
    pub(crate) noise: f32,
    /// Seed of the synthetic vectors
    #[arg(long, default_value_t = 0, help_heading = "Data")]
    pub(crate) seed: u64,
    /// The largest size in the section "growth", which is always on synthetic vectors: 10k, 30k, 100k… up to it
    #[arg(long, value_name = "N", default_value_t = 30_000, value_parser = value_parser!(u32).range(10_000..), help_heading = "Data")]
    pub(crate) growth_to: u32,

    /// How distances are measured
    #[arg(long, value_enum, default_value_t = MetricName::Cosine, help_heading = "Collection")]
    metric: MetricName,
    /// Neighbors per node
    #[arg(long, default_value_t = 16, value_parser = value_parser!(u8).range(2..=128), help_heading = "Collection")]
    m: u8,
    /// Candidates considered by an insertion
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u16).range(2..), help_heading = "Collection")]
    ef_construction: u16,
    /// Vectors per transaction of an import
    #[arg(long, value_name = "ROWS", default_value = "10000", help_heading = "Collection")]
    pub(crate) batch: NonZero<usize>,

    /// How many neighbors to find
    #[arg(short, default_value = "10", help_heading = "Measuring")]
    k: NonZero<usize>,
    /// Candidates kept while searching, ascending; those below k are left out
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "10,16,24,32,48,64,96,128,192,256",
        help_heading = "Measuring"
    )]
    ef: Vec<usize>,
    /// How often curves, imports and reopenings are measured; medians are told
    #[arg(long, default_value = "3", help_heading = "Measuring")]
    pub(crate) rounds: NonZero<usize>,
    /// Small commits to measure
    #[arg(long, value_name = "N", default_value = "1000", help_heading = "Measuring")]
    pub(crate) commits: NonZero<usize>,
    /// Where the stores go, in a temporary directory; its disk is what is measured
    #[arg(long, value_name = "DIR", help_heading = "Measuring")]
    pub(crate) directory: Option<PathBuf>,

    /// Write one line of JSON per measurement
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,
    /// Plot recall against queries per second, from the section "curves"
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) svg: Option<PathBuf>,
    /// Plot the section "growth"
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) growth_svg: Option<PathBuf>,
    /// Curves to plot beside ours: lines of JSON with "peer", "ef", "recall" and "qps"; others are left out
    #[arg(long, value_name = "FILE", requires = "svg", help_heading = "Output")]
    pub(crate) peer: Vec<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// Recall and speed of searches
    Curves,
    /// Imports with one thread and with more
    Build,
    /// Durable inserts of one vector
    Commits,
    /// Taking a snapshot, and reading beside a writer
    Snapshots,
    /// A fresh process up to its first result
    Reopen,
    /// A fresh process after 1,000 searches
    Memory,
    /// All of it from 10,000 vectors up
    Growth,
}

#[derive(Clone, Copy, ValueEnum)]
enum MetricName {
    /// 1 - cos(x, y)
    Cosine,
    /// Squared Euclidean distance
    L2,
    /// -<x, y>, for maximum inner product
    Dot,
}

impl Options {
    /// Reads the command line; tells what is wrong with it and ends the process if something is.
    pub(crate) fn parse_and_check() -> Self {
        let options = Self::parse();
        if let Err(message) = options.check() {
            Self::command().error(ErrorKind::ValueValidation, message).exit();
        }
        options
    }

    fn check(&self) -> Result<(), &'static str> {
        if !self.ef.is_sorted_by(|a, b| a < b) {
            return Err("--ef must be ascending");
        }
        if self.ef().is_empty() {
            return Err("every --ef is below -k");
        }
        if self.intrinsic > self.dimension {
            return Err("--intrinsic must not exceed --dimension");
        }
        if !(0.0..=100.0).contains(&self.noise) {
            return Err("--noise must be between 0 and 100");
        }
        if self.svg.is_some() && !self.wants(Section::Curves) {
            return Err("--svg plots the section \"curves\", which is not among those given");
        }
        if self.growth_svg.is_some() && !self.wants(Section::Growth) {
            return Err("--growth-svg plots the section \"growth\", which is not among those given");
        }
        Ok(())
    }

    pub(crate) fn wants(&self, section: Section) -> bool {
        self.sections.is_empty() || self.sections.contains(&section)
    }

    pub(crate) fn metric(&self) -> Metric {
        match self.metric {
            MetricName::Cosine => Metric::Cosine,
            MetricName::L2 => Metric::L2,
            MetricName::Dot => Metric::Dot,
        }
    }

    pub(crate) fn definition(&self, dimension: usize) -> CollectionDefinition<'static> {
        CollectionDefinition::new(crate::store::NAME, dimension, self.metric())
            .m(self.m.into())
            .ef_construction(self.ef_construction.into())
    }

    pub(crate) fn k(&self) -> usize {
        self.k.get()
    }

    pub(crate) fn ef(&self) -> Vec<usize> {
        self.ef.iter().copied().filter(|&ef| ef >= self.k()).collect()
    }
}

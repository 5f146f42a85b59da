//! The command line.

use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};
use nestling::{CollectionDefinition, Metric};

/// Churn a collection and compare it with a fresh build of what is left
#[derive(Parser)]
#[command(name = "churn")]
pub(crate) struct Options {
    /// What to do to the collection; all of it unless given
    #[arg(value_enum)]
    runbooks: Vec<Kind>,

    /// The vectors, an .fvecs file, instead of the shipped words
    #[arg(long, value_name = "FILE", requires = "queries", help_heading = "Data")]
    pub(crate) base: Option<PathBuf>,
    /// The queries, an .fvecs file
    #[arg(long, value_name = "FILE", requires = "base", help_heading = "Data")]
    pub(crate) queries: Option<PathBuf>,
    /// Row numbers of the base, one per line: the order for "sliding" and "insertion-order"
    #[arg(long, value_name = "FILE", requires = "base", help_heading = "Data")]
    pub(crate) order: Option<PathBuf>,
    /// How distances are measured
    #[arg(long, value_enum, default_value_t = MetricName::Cosine, help_heading = "Data")]
    metric: MetricName,
    /// Seed of everything random
    #[arg(long, default_value_t = 0, help_heading = "Data")]
    pub(crate) seed: u64,

    /// Neighbors per node
    #[arg(long, default_value_t = 16, help_heading = "Collection")]
    m: usize,
    /// Candidates considered by an insertion
    #[arg(long, default_value_t = 200, help_heading = "Collection")]
    ef_construction: usize,

    /// Rounds of changes
    #[arg(long, default_value = "20", help_heading = "Churn")]
    pub(crate) rounds: NonZero<usize>,
    /// The share of the live vectors that a round replaces
    #[arg(long, default_value = "5%", help_heading = "Churn")]
    pub(crate) share: Share,
    /// The share of the vectors that is live at first
    #[arg(long, default_value = "50%", help_heading = "Churn")]
    pub(crate) live: Share,
    /// Changes per transaction
    #[arg(long, value_name = "N", default_value = "25", help_heading = "Churn")]
    pub(crate) transaction: NonZero<usize>,

    /// Candidates kept while searching
    #[arg(long, default_value_t = 64, help_heading = "Measuring")]
    pub(crate) ef: usize,
    /// How much is turned over from one measurement to the next
    #[arg(long, value_name = "SHARE", default_value = "5%", help_heading = "Measuring")]
    pub(crate) measure_every: Share,
    /// Build afresh at every N-th measurement, and compare with the latest fresh build's recall in between
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Measuring")]
    pub(crate) fresh_every: NonZero<usize>,
    /// Check the store after every N-th commit, besides at every measurement; 0 for never
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Measuring")]
    pub(crate) check_every: usize,
    /// Passes over the queries; of each lot of 50 the fastest counts
    #[arg(long, default_value = "5", help_heading = "Measuring")]
    pub(crate) passes: NonZero<usize>,
    /// Leave the clock out of the verdicts, for machines that others use too: distances computed stand for the time of searches,
    /// and rows for that of changes
    #[arg(long, help_heading = "Measuring")]
    pub(crate) by_counts: bool,

    /// Where the stores go, in a temporary directory
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(crate) store: Option<PathBuf>,
    /// Write one line of JSON per measurement
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,
    /// Exit with 1 when a criterion fails
    #[arg(long, help_heading = "Output")]
    pub(crate) strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Random ones go, others come
    Random,
    /// The same, half of it by updates
    Update,
    /// The oldest go
    Sliding,
    /// Some live for a short time, some for ever
    Expiration,
    /// Whole regions go, others come
    Clustered,
    /// Everything comes in order
    InsertionOrder,
    /// Copies and near-duplicates among others
    Duplicates,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// Under both a vector is nearest to itself, which is measured.
#[derive(Clone, Copy, ValueEnum)]
enum MetricName {
    /// 1 - cos(x, y)
    Cosine,
    /// Squared Euclidean distance
    L2,
}

/// A part of a whole: more than none, at most all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share(f64);

impl Share {
    pub(crate) fn of(self, whole: usize) -> usize {
        ((whole as f64 * self.0).round() as usize).clamp(1, whole)
    }

    pub(crate) fn as_f64(self) -> f64 {
        self.0
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.strip_suffix('%').ok_or("a percentage is expected, such as 5%")?;
        match percent.parse::<f64>() {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self(percent / 100.0)),
            _ => Err("it must be more than 0% and at most 100%".to_owned()),
        }
    }
}

impl Options {
    /// Reads the command line; tells what is wrong with it and ends the process if something is.
    pub(crate) fn parse_and_check() -> Self {
        let options = Self::parse();
        if options.ef < crate::world::K {
            let message = format!("--ef must be at least {}", crate::world::K);
            Self::command().error(ErrorKind::ValueValidation, message).exit();
        }
        options
    }

    pub(crate) fn runbooks(&self) -> Vec<Kind> {
        if self.runbooks.is_empty() { Kind::value_variants().to_vec() } else { self.runbooks.clone() }
    }

    pub(crate) fn metric(&self) -> Metric {
        match self.metric {
            MetricName::Cosine => Metric::Cosine,
            MetricName::L2 => Metric::L2,
        }
    }

    pub(crate) fn definition(&self, dimension: usize) -> CollectionDefinition<'static> {
        CollectionDefinition::new("vectors", dimension, self.metric())
            .m(self.m)
            .ef_construction(self.ef_construction)
    }
}

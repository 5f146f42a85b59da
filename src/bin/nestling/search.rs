//! `nestling search`: the nearest vectors of one.

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use indicatif::HumanCount;
use nestling::{Collection, Error, Hits, Query};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::{formats, open, output};

/// Search for the nearest vectors of a stored one, or of a row of a file
///
/// The store is opened read-only: beside other readers, but not while a process has it open for writing.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("query").required(true).args(["key", "queries"]))]
pub(crate) struct Search {
    /// The store's directory
    store: PathBuf,
    /// The collection's name
    collection: String,
    /// Search near the vector of this key, which will be the first hit itself
    #[arg(long)]
    key: Option<u64>,
    /// Search near a row of this file, in any format of `import` by its suffix
    #[arg(long, value_name = "FILE", requires = "row")]
    queries: Option<PathBuf>,
    /// The row of the file, counted from 0
    #[arg(long, requires = "queries", conflicts_with = "key")]
    row: Option<u64>,
    /// How many to find
    #[arg(short, default_value = "10")]
    k: NonZero<usize>,
    /// Candidates kept while searching: more costs time and finds more; the library's default unless given
    #[arg(long)]
    ef: Option<NonZero<usize>>,
    /// Print one line of JSON; "microseconds" is the time from the start of the process to the result
    #[arg(long)]
    json: bool,
}

impl Search {
    pub(crate) fn run(&self, started: Instant) -> Result<(), Failure> {
        let store = open::for_reading(&self.store)?;
        let collection = open::collection(&store, &self.collection)?;
        let hits = self.search(&collection)?;
        let microseconds = started.elapsed().as_micros() as u64;
        if self.json {
            return output::line(json!({
                "hits": hits
                    .iter()
                    .map(|hit| json!({ "key": hit.key, "distance": hit.distance }))
                    .collect::<Value>(),
                "microseconds": microseconds,
                "graph_pages_loaded": collection.graph_pages_loaded(),
                "graph_pages": collection.graph_pages(),
            }));
        }
        // As wide as the widest key needs it.
        let width = hits.iter().map(|hit| hit.key.to_string().len()).max().unwrap_or(0).max("key".len());
        output::line(format_args!("{:>5}  {:>width$}  {:>12}", "rank", "key", "distance"))?;
        for (rank, hit) in (1..).zip(hits.iter()) {
            output::line(format_args!("{rank:>5}  {:>width$}  {:>12.6}", hit.key, hit.distance))?;
        }
        output::line(format_args!(
            "{} µs since the start of the process, {} of {} pages of the graph loaded",
            HumanCount(microseconds),
            HumanCount(collection.graph_pages_loaded() as u64),
            HumanCount(collection.graph_pages() as u64)
        ))
    }

    fn search(&self, collection: &Collection) -> Result<Hits, Failure> {
        if let Some(key) = self.key {
            return Ok(self.refined(collection.query_key(key)).run()?);
        }
        // clap has made sure of these: one of `--key` and `--queries`, and `--row` with the latter.
        let path = self.queries.as_deref().expect("`--queries` is given where `--key` is not");
        let row = self.row.expect("`--row` is given with `--queries`");
        let vector = formats::read_row(path, row)?;
        self.refined(collection.query(&vector)).run().map_err(|e| match e {
            Error::WrongDimension { expected, found, .. } => Failure::Dimension {
                path: path.to_owned(),
                place: formats::Place::Row(row),
                found,
                collection: self.collection.clone(),
                expected,
            },
            Error::InvalidVector { defect, .. } => {
                Failure::Vector { path: path.to_owned(), place: formats::Place::Row(row), defect }
            }
            e => Failure::Store(e),
        })
    }
    fn refined<'a>(&self, query: Query<'a>) -> Query<'a> {
        let query = query.k(self.k.get());
        match self.ef {
            Some(ef) => query.ef(ef.get()),
            None => query,
        }
    }
}

//! `nestling compact`: disk space given back.

use std::path::PathBuf;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use serde_json::json;

use crate::failure::Failure;
use crate::{open, output};

/// Give disk space back, and lay the rest out for searches
///
/// Writes every collection anew, without what was removed, neighbors near each other. Needs the disk space of a second copy of the
/// largest collection, and the store for itself.
#[derive(Args)]
pub(crate) struct Compact {
    /// The store's directory
    store: PathBuf,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl Compact {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let (store, compaction) = open::for_writing(&self.store, false)?.compact()?;
        store.close()?;
        if self.json {
            return output::line(json!({
                "vectors": compaction.vectors,
                "bytes_before": compaction.bytes_before,
                "bytes_after": compaction.bytes_after,
            }));
        }
        output::line(format_args!(
            "{}: {} vectors, {} before, {} after",
            self.store.display(),
            HumanCount(compaction.vectors),
            HumanBytes(compaction.bytes_before),
            HumanBytes(compaction.bytes_after)
        ))
    }
}

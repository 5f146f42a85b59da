//! `nestling backup`: a copy of a store that is a store.

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanBytes;
use serde_json::json;

use crate::failure::Failure;
use crate::{open, output};

/// Copy a store, as of its last commit, into a new directory
///
/// The copy is a store, durable when this returns. The store is opened read-only: beside other readers, but not while a process has it
/// open for writing (that process can make a backup while it writes, with the library's `Store::backup`).
#[derive(Args)]
pub(crate) struct Backup {
    /// The store's directory
    store: PathBuf,
    /// The copy's directory: a path that does not exist yet, or an empty directory
    target: PathBuf,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl Backup {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let backup = open::for_reading(&self.store)?.backup(&self.target)?;
        if self.json {
            return output::line(json!({ "commit": backup.commit, "bytes": backup.bytes }));
        }
        output::line(format_args!(
            "{}: commit {}, {} copied",
            self.target.display(),
            backup.commit,
            HumanBytes(backup.bytes)
        ))
    }
}

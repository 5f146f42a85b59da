//! `nestling repair`: what can be saved of a damaged store.

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanCount;
use nestling::{RepairedCollection, Store};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output;

/// Make a new store of everything in a damaged one that still verifies
///
/// The damaged store is not changed, and need not be one that can be opened. Graphs are built anew. Prints what was lost.
#[derive(Args)]
pub(crate) struct Repair {
    /// The damaged store's directory
    store: PathBuf,
    /// The new store's directory: a path that does not exist yet, or an empty directory
    target: PathBuf,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl Repair {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let repair = Store::repair(&self.store, &self.target)?;
        if self.json {
            return output::line(json!({
                "rows_found": repair.rows_found,
                "tables_kept": repair.tables_kept,
                "unknown_segments": repair.unknown_segments,
                "collections": repair.collections.iter().map(to_json).collect::<Value>(),
            }));
        }
        if !repair.rows_found {
            output::line("store.redb could not be read: vectors that had been removed may have come back")?;
        }
        if !repair.tables_kept {
            output::line("the app's own tables are lost")?;
        }
        if repair.unknown_segments > 0 {
            output::line(format_args!(
                "{} files of vectors cannot be told from anything",
                repair.unknown_segments
            ))?;
        }
        repair.collections.iter().try_for_each(print)
    }
}

fn print(collection: &RepairedCollection) -> Result<(), Failure> {
    let lost = match collection.lost {
        Some(lost) => format!("{} lost", HumanCount(lost)),
        None => "nobody can tell how many are lost".to_owned(),
    };
    let definition = if collection.definition_lost { ", with parameters that are guessed" } else { "" };
    output::line(format_args!(
        "{}: {} vectors recovered, {lost}{definition}",
        collection.name,
        HumanCount(collection.recovered)
    ))
}

fn to_json(collection: &RepairedCollection) -> Value {
    json!({
        "name": collection.name,
        "recovered": collection.recovered,
        "lost": collection.lost,
        "lost_keys": collection.lost_keys,
        "definition_lost": collection.definition_lost,
    })
}

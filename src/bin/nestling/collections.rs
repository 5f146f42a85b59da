//! `nestling collections`: what there is in a store.

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanCount;
use serde_json::json;

use crate::failure::Failure;
use crate::{open, output};

/// List the collections of a store
///
/// Reads the store's own rows and its journal. The store is opened read-only: beside other readers, but not while a process has it open for writing.
#[derive(Args)]
pub(crate) struct Collections {
    /// The store's directory
    store: PathBuf,
    /// Print a line of JSON per collection
    #[arg(long)]
    json: bool,
}

impl Collections {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let tx = open::for_reading(&self.store)?.begin_read()?;
        let collections = tx.list_collections();
        let width = collections.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(4);
        if !self.json {
            let columns = ["vectors", "dimension", "metric", "m", "codes", "element"];
            let [vectors, dimension, metric, m, codes, element] = columns;
            output::line(format_args!(
                "{:<width$}{vectors:>14}{dimension:>11}  {metric:<8}{m:>4}  {codes:<6}{element}",
                "name"
            ))?;
        }
        for name in collections {
            let collection = tx.open_stored_collection(&name)?;
            let (vectors, parameters) = (collection.len(), collection.parameters());
            if self.json {
                output::line(json!({
                    "name": name,
                    "vectors": vectors,
                    "dimension": parameters.dimension,
                    "metric": parameters.metric.to_string(),
                    "m": parameters.m,
                    "codes": parameters.codes.to_string(),
                    "element": parameters.element.to_string(),
                }))?;
                continue;
            }
            output::line(format_args!(
                "{name:<width$}{:>14}{:>11}  {:<8}{:>4}  {:<6}{}",
                HumanCount(vectors).to_string(),
                parameters.dimension,
                parameters.metric.to_string(),
                parameters.m,
                parameters.codes.to_string(),
                parameters.element
            ))?;
        }
        Ok(())
    }
}

//! `nestling get`: vectors by their keys.

use std::borrow::Cow;
use std::path::PathBuf;

use clap::Args;
use nestling::Error;
use serde_json::json;

use crate::failure::Failure;
use crate::{open, output};

/// How many components are printed for people.
const SHOWN: usize = 6;

/// Print vectors by their keys
///
/// Vectors are as they were given, under the cosine metric as well. Nothing is printed if one of the keys does not exist.
///
/// The store is opened read-only: beside other readers, but not while a process has it open for writing.
#[derive(Args)]
pub(crate) struct Get {
    /// The store's directory
    store: PathBuf,
    /// The collection's name
    collection: String,
    /// The keys
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<u64>,
    /// Print a line of JSON per key, with all components: those lines can be imported
    #[arg(long)]
    json: bool,
}

impl Get {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let store = open::for_reading(&self.store)?;
        let collection = open::collection(&store, &self.collection)?;
        let missing = |key| Error::KeyNotFound { key, collection: self.collection.clone() };
        let vector = |&key: &u64| Ok((key, collection.get(key)?.ok_or_else(|| missing(key))?));
        let vectors: Vec<(u64, Cow<'_, [f32]>)> =
            self.keys.iter().map(vector).collect::<Result<_, Failure>>()?;
        // As wide as the widest key needs it.
        let width = vectors.iter().map(|(key, _)| key.to_string().len()).max().unwrap_or(0).max("key".len());
        if !self.json {
            output::line(format_args!("{:>width$}  {:>10}  vector", "key", "norm"))?;
        }
        for (key, vector) in vectors {
            if self.json {
                output::line(json!({ "key": key, "vector": vector }))?;
                continue;
            }
            let norm = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let shown: Vec<String> = vector.iter().take(SHOWN).map(|x| format!("{x:.3}")).collect();
            let rest =
                if vector.len() > SHOWN { format!(", … {} in all", vector.len()) } else { String::new() };
            output::line(format_args!("{key:>width$}  {norm:>10.4}  {}{rest}", shown.join(", ")))?;
        }
        Ok(())
    }
}

//! `nestling remove`: vectors out of a collection.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use indicatif::HumanCount;
use nestling::{CollectionDefinition, CollectionMut};
use serde_json::json;

use crate::failure::Failure;
use crate::{open, output};

/// Remove vectors, in one transaction
///
/// Keys that the collection does not have are counted and otherwise left alone.
#[derive(Args)]
pub(crate) struct Remove {
    /// The store's directory
    store: PathBuf,
    /// The collection's name
    collection: String,
    /// The keys, as numbers and ranges that include both ends: 1,2,5-9
    #[arg(long, required = true, value_delimiter = ',')]
    keys: Vec<KeyRange>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl Remove {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let store = open::for_writing(&self.store, false)?;
        let stored = *open::collection(&store, &self.collection)?.parameters();
        let definition = CollectionDefinition::new(&self.collection, stored.dimension, stored.metric);
        let ranges = merged(&self.keys);
        let asked: u128 = ranges.iter().map(KeyRange::len).sum();
        let tx = store.begin_write()?;
        let removed = remove(&mut tx.open_collection(definition)?, &ranges, self.json)?;
        tx.commit()?;
        store.close()?;
        // 2⁶⁴ keys were asked for and none existed: the one case that does not fit.
        let missing = u64::try_from(asked - u128::from(removed)).unwrap_or(u64::MAX);
        if self.json {
            return output::line(json!({ "removed": removed, "missing": missing }));
        }
        output::line(format_args!(
            "{} vectors removed, {} of the keys had none",
            HumanCount(removed),
            HumanCount(missing)
        ))
    }
}

/// Removes what exists of the ranges.
fn remove(collection: &mut CollectionMut<'_>, ranges: &[KeyRange], json: bool) -> Result<u64, Failure> {
    // A range with more keys than there are vectors is not counted through: its keys are looked up among those that exist.
    let live = u128::from(collection.len());
    let mut keys = Vec::new();
    for range in ranges {
        if range.len() <= live {
            keys.extend(range.first..=range.last);
            continue;
        }
        for key in collection.keys()? {
            let key = key?;
            if (range.first..=range.last).contains(&key) {
                keys.push(key);
            }
        }
    }
    let progress = output::progress("removing", 0, Some(keys.len() as u64), json);
    let mut removed = 0;
    for key in keys {
        removed += u64::from(collection.remove(key)?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(removed)
}

/// The same keys in ascending order, each of them once.
fn merged(ranges: &[KeyRange]) -> Vec<KeyRange> {
    let mut ascending = ranges.to_vec();
    ascending.sort_unstable();
    let mut merged: Vec<KeyRange> = Vec::new();
    for range in ascending {
        match merged.last_mut() {
            Some(previous) if range.first <= previous.last => previous.last = previous.last.max(range.last),
            _ => merged.push(range),
        }
    }
    merged
}

/// Keys from one to another, both included; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct KeyRange {
    first: u64,
    last: u64,
}

impl KeyRange {
    fn len(&self) -> u128 {
        u128::from(self.last - self.first) + 1
    }
}

impl FromStr for KeyRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let key = |text: &str| {
            text.parse::<u64>().map_err(|e| format!("{text:?} is no key ({e}); write keys as 7 or 5-9"))
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (key(first)?, key(last)?),
            None => (key(text)?, key(text)?),
        };
        if last < first {
            return Err(format!("the range ends before it begins; write {last}-{first}"));
        }
        Ok(Self { first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> Vec<KeyRange> {
        text.split(',').map(|range| range.parse().unwrap()).collect()
    }

    #[test]
    fn ranges_are_merged_and_keep_every_key() {
        assert_eq!(merged(&ranges("5-9,1,2,8-12,1")), ranges("1,2,5-12"));
        assert_eq!(merged(&ranges("0-18446744073709551615,3")), ranges("0-18446744073709551615"));
        assert_eq!(merged(&ranges("1-9,2-3,9")), ranges("1-9"));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "-", "5-", "-5", "9-5", "1-2-3", "a", "1.5", "18446744073709551616", " 1"] {
            assert!(text.parse::<KeyRange>().is_err(), "{text:?} was taken for a range");
        }
    }
}

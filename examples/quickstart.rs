//! The main job from end to end: store texts with their embeddings, find what is near, reopen, delete.
//!
//! ```text
//! cargo run --release --example quickstart [store]
//! ```
//!
//! `store` is the directory to keep the store in; without it, it goes into a temporary one and is gone afterwards.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nestling::redb::{ReadableTable, TableDefinition};
use nestling::{CollectionDefinition, Metric, Store};

#[path = "../tests/common/words.rs"]
mod words;

const VECTORS: CollectionDefinition = CollectionDefinition::new("vectors", words::DIMENSION, Metric::Cosine);
const TEXTS: TableDefinition<u64, &str> = TableDefinition::new("texts");

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let path = match std::env::args_os().nth(1) {
        Some(argument) => PathBuf::from(argument),
        None => temporary.path().join("words.nestling"),
    };

    fill(&path)?;

    let started = Instant::now();
    let store = Store::open(&path)?;
    println!("Reopened in {:.1?}; pages are read as searches touch them.\n", started.elapsed());

    for word in ["cheddar", "penguin", "Everest", "cello"] {
        print_nearest(&store, word)?;
    }
    time_searches(&store)?;
    remove_nearest(&store, "cello", 3)?;
    print_nearest(&store, "cello")?;

    let started = Instant::now();
    let report = store.check()?;
    if !report.is_clean() {
        return Err(format!("the store is damaged: {:#?}", report.problems).into());
    }
    println!(
        "Checked every row of {} vectors and {} links in {:.1?}: all is well.",
        report.vectors,
        report.links,
        started.elapsed(),
    );
    Ok(store.close()?)
}

/// Puts vectors and texts into the store, all of them or, should anything fail, none.
fn fill(path: &Path) -> Result<(), Box<dyn Error>> {
    let words = words::words();
    let store = Store::open(path)?;

    let started = Instant::now();
    let tx = store.begin_write()?;
    {
        let mut vectors = tx.open_collection(VECTORS)?;
        let mut texts = tx.open_table(TEXTS)?;
        vectors.insert_many((0..).zip(&words.vectors))?;
        for (key, text) in (0..).zip(&words.texts) {
            texts.insert(key, text.as_str())?;
        }
    }
    tx.commit()?;
    println!(
        "Stored {} vectors of dimension {} and their texts in {:.1?}, in one transaction.",
        words.vectors.len(),
        words::DIMENSION,
        started.elapsed(),
    );
    Ok(store.close()?)
}

/// Prints what is nearest to a word, with cosine distances: 0 is the same direction.
fn print_nearest(store: &Store, word: &str) -> Result<(), Box<dyn Error>> {
    let tx = store.begin_read()?;
    let vectors = tx.open_collection(VECTORS)?;
    let texts = tx.open_table(TEXTS)?;

    let key = key_of(texts.as_redb(), word)?;
    println!("Nearest to {word:?}:");
    for hit in vectors.query_key(key).k(6).run()? {
        let text = texts.get(hit.key)?.ok_or("a vector without a text")?;
        println!("  {:.3}  {}", hit.distance, shorten(text.value(), 69));
    }
    println!();
    Ok(())
}

/// Tells how long a search takes on average, the first touch of every page included.
fn time_searches(store: &Store) -> Result<(), Box<dyn Error>> {
    let vectors = store.begin_read()?.open_collection(VECTORS)?;
    let keys = vectors.keys()?.step_by(5).collect::<Result<Vec<u64>, _>>()?;
    let started = Instant::now();
    for &key in &keys {
        vectors.query_key(key).k(10).run()?;
    }
    let each = started.elapsed() / keys.len().try_into()?;
    println!("Searched {} times more, in {each:.1?} each.\n", keys.len());
    Ok(())
}

/// Removes what is nearest to a word, but not the word itself: vectors and texts go together.
fn remove_nearest(store: &Store, word: &str, count: usize) -> Result<(), Box<dyn Error>> {
    let tx = store.begin_write()?;
    {
        let mut vectors = tx.open_collection(VECTORS)?;
        let mut texts = tx.open_table(TEXTS)?;
        let key = key_of(&texts, word)?;
        let hits = vectors.query_key(key).k(count + 1).run()?;
        for hit in hits.iter().filter(|hit| hit.key != key) {
            vectors.remove(hit.key)?;
            texts.remove(hit.key)?;
        }
    }
    tx.commit()?;
    println!("Removed the {count} others nearest to {word:?}, vectors and texts in one transaction.\n");
    Ok(())
}

/// The key of the first entry that has `word` among its lemmas.
fn key_of(texts: &impl ReadableTable<u64, &'static str>, word: &str) -> Result<u64, Box<dyn Error>> {
    for entry in texts.iter()? {
        let (key, text) = entry?;
        let lemmas = text.value().split(':').next().unwrap_or_default();
        if lemmas.split(", ").any(|lemma| lemma == word) {
            return Ok(key.value());
        }
    }
    Err(format!("no entry for {word:?}").into())
}

fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

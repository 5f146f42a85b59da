//! An app that kept its vectors in an index file of hnswlib or usearch moves to Nestling: its first start after the update brings
//! the user's notes along.
//!
//! ```text
//! cargo run --release --example migrate [DIRECTORY]
//! ```
//!
//! DIRECTORY is where the app keeps its files: the old ones are `notes.hnswlib` or `notes.usearch`, of 16 components, and `titles.tsv`.
//! Without it, a temporary one gets an index that hnswlib has written, and titles.
//!
//! - `migration.rs` does it: what to copy.
//! - `hnswlib.rs` and `usearch.rs` read the old files, with `old_index.rs`: an app takes one of them along.
//!
//! These readers are not those of the command line, though the formats are the same. An app knows the dimension and the type of its own index,
//! so that all sizes follow and what differs can be refused; that leaves a file of a hundred lines that needs nothing but std. The
//! command line's readers take whatever comes, from pipes too, and tell where in the file something is wrong; they hang together with nine
//! other formats. Both are tested with the same files of the real libraries. (`nestling import --format hnswlib` is the shorter way for
//! whoever has one file to import, and no users.)

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use migration::{Migration, Outcome, TITLES};
use nestling::{CollectionDefinition, Metric, Store};
use old_index::Format;

mod hnswlib;
mod migration;
mod old_index;
mod usearch;

const NOTES: CollectionDefinition = CollectionDefinition::new("notes", 16, Metric::L2);

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let directory = match std::env::args_os().nth(1) {
        Some(argument) => PathBuf::from(argument),
        None => {
            lay_out(temporary.path())?;
            temporary.path().to_owned()
        }
    };
    for start in ["First", "Second"] {
        println!("{start} start:");
        let store = open(&directory)?;
        print_nearest(&store)?;
        store.close()?;
    }
    Ok(())
}

/// What an app does at every start.
fn open(directory: &Path) -> Result<Store, Box<dyn Error>> {
    let store = Store::open(directory.join("app.nestling"))?;
    create(&store)?;
    for (name, format) in [("notes.hnswlib", Format::Hnswlib), ("notes.usearch", Format::Usearch)] {
        let migration = Migration {
            index: directory.join(name),
            format,
            titles: directory.join("titles.tsv"),
            collection: NOTES,
            batch: 10_000,
        };
        match migration.run(&store, |done, all| println!("  {done} of {all} vectors of {name} are stored"))? {
            Outcome::NothingToDo => println!("  Nothing to do for {name}."),
            Outcome::Migrated(report) => println!("  {name} is migrated, verified and gone: {report:?}"),
            Outcome::LeftAlone => println!("  {name} is not from before the migration, and was left alone."),
        }
    }
    Ok(store)
}

/// Makes table and collection where there are none, so that snapshots find them, empty as they may be. At every start, since an
/// update of the app may have brought new ones to a store that exists.
fn create(store: &Store) -> nestling::Result<()> {
    let tx = store.begin_write()?;
    tx.open_collection(NOTES)?;
    tx.open_table(TITLES)?;
    tx.commit()
}

fn print_nearest(store: &Store) -> Result<(), Box<dyn Error>> {
    let tx = store.begin_read()?;
    let (notes, titles) = (tx.open_collection(NOTES)?, tx.open_table(TITLES)?);
    let key = notes.keys()?.next().ok_or("there are no notes")??;
    println!("  {} notes. Nearest to the first of them:", notes.len());
    for hit in notes.query_key(key).k(3).run()? {
        let title = titles.get(hit.key)?.ok_or("a vector without a title")?;
        println!("    {:6.2}  {}", hit.distance, title.value());
    }
    println!();
    Ok(())
}

/// Files as an old version of the app has left them. The index is one that hnswlib has written, tests/data/make_peers.py tells how.
fn lay_out(directory: &Path) -> Result<(), Box<dyn Error>> {
    let index = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hnswlib-l2.bin");
    fs::copy(index, directory.join("notes.hnswlib"))?;
    let keys = (0..49).map(|row| row * 37 % 211 + 1000_u64).chain([(1 << 40) + 7]);
    let titles: String = keys.map(|key| format!("{key}\tNote {key}\n")).collect();
    Ok(fs::write(directory.join("titles.tsv"), titles)?)
}

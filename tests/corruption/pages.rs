//! Whole pages of `store.redb` that hold something else.
//!
//! A disk that loses a sector, a write that went to the wrong place, a file put together from two copies: that damages pages, not
//! bytes, and redb, which verifies nothing that it reads, then takes lengths and page numbers out of noise. What it panics at has to come
//! out as an error, of whatever is asked, and nothing may be wrong that does not. Where redb panics once more while it cleans up after a
//! panic, nobody can catch that; it must stay rare.
//!
//! The story: flips of single bytes had shown none of it. Of 352 stores with 1 to 16 damaged pages a panic of redb's came out of `check` with
//! 19, of `repair` with 18, of `backup` with 6 and of `open` with 5: where a database was dropped on the way out of an error, where
//! a table was listed, where an entry was looked into only after it had been read.

use std::fs;

use nestling::redb::{self, TableDefinition};
use nestling::{Store, VectorAccess};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, index};
use rand::{RngExt, SeedableRng};

use crate::asking::{Fixture, Outcome, POINTS, all, stage};
use crate::rows::rewrite_with;
use crate::writing::{copy, write_to_copy};

const PAGE: usize = 4096;
/// Tables of the app's own, so many that redb keeps their names in several pages.
const TABLES: usize = 400;
/// So many of them have rows.
const FILLED: usize = 5;
const ROWS: u64 = 5;

/// A store, and its `store.redb` in two states: as it was while it was open, which is how a killed process leaves it, and written anew, with
/// nothing but pages in use, so that what is copied over another page is no row of an earlier day.
pub struct Pages {
    pub fixture: Fixture,
    killed: Vec<u8>,
    rewritten: Vec<u8>,
}

impl Pages {
    pub fn new(seed: u64) -> Self {
        let fixture = Fixture::with_vectors(300, seed);
        let store = Store::open(&fixture.path).unwrap();
        // Should redb go back to the last but one, that has the tables as well.
        for _ in 0..3 {
            let tx = store.begin_write().unwrap();
            (0..TABLES).for_each(|table| fill(table, tx.open_table(definition(&name(table))).unwrap()));
            tx.commit().unwrap();
        }
        let killed = fs::read(fixture.store_redb()).unwrap();
        store.close().unwrap();
        rewrite_with(&fixture, |tx| {
            (0..TABLES).for_each(|table| fill(table, tx.open_table(definition(&name(table))).unwrap()));
        });
        let rewritten = fs::read(fixture.store_redb()).unwrap();
        let pages = Self { fixture, killed, rewritten };
        for sound in [&pages.killed, &pages.rewritten] {
            fs::write(pages.fixture.store_redb(), sound).unwrap();
            pages.fixture.ask().assert_unnoticed("undamaged");
        }
        pages
    }

    /// The file with some pages damaged; the seed says which, and how.
    fn damaged(&self, seed: u64) -> (Vec<u8>, String) {
        let mut rng = StdRng::seed_from_u64(seed);
        let killed = rng.random();
        let mut bytes = if killed { self.killed.clone() } else { self.rewritten.clone() };
        // The first one is the header, in which flips are tried one by one.
        let used: Vec<usize> = (1..bytes.len() / PAGE)
            .map(|page| page * PAGE)
            .filter(|&page| bytes[page..page + PAGE].iter().any(|&byte| byte != 0))
            .collect();
        let count = *[1, 1, 1, 2, 4, 16].choose(&mut rng).unwrap();
        let mut story = vec![if killed { "killed" } else { "rewritten" }.to_owned()];
        for page in index::sample(&mut rng, used.len(), count).into_iter().map(|i| used[i]) {
            let how = match rng.random_range(0..5) {
                0 => {
                    bytes[page..page + PAGE].fill(0);
                    "zeros".to_owned()
                }
                1 => {
                    rng.fill(&mut bytes[page..page + PAGE]);
                    "noise".to_owned()
                }
                2 if !killed => {
                    let other = *used.choose(&mut rng).unwrap();
                    bytes.copy_within(other..other + PAGE, page);
                    format!("page {}", other / PAGE)
                }
                3 => {
                    let at = page + rng.random_range(0..64);
                    bytes[at] = rng.random();
                    format!("another byte {}", at - page)
                }
                _ => {
                    let half = page + PAGE / 2;
                    let byte = rng.random();
                    bytes[half..half + PAGE / 2].fill(byte);
                    format!("a half of {byte:02x}")
                }
            };
            story.push(format!("page {}: {how}", page / PAGE));
        }
        (bytes, story.join(", "))
    }

    /// What the damage of this seed is.
    pub fn story(&self, seed: u64) -> String {
        self.damaged(seed).1
    }

    /// Damages the store, does with it whatever can be done, and mends it again.
    pub fn ask(&self, seed: u64) -> Outcome {
        fs::write(self.fixture.store_redb(), self.damaged(seed).0).unwrap();
        let mut outcome = self.fixture.ask();
        for also in [self.read(), write_to_copy(&self.fixture, seed), self.write(), self.repair()] {
            outcome.wrong.extend(also.wrong);
        }
        outcome
    }

    pub fn mend(&self) {
        fs::write(self.fixture.store_redb(), &self.rewritten).unwrap();
    }

    fn read(&self) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(store) = outcome.open(&self.fixture.path) else { return outcome };
        stage("counting");
        if let Err(e) = store.stats() {
            outcome.refuse("stats", &e);
        }
        self.back_up(&store, &mut outcome);
        stage("closing");
        drop(store);
        outcome
    }

    /// The same where redb writes to the file: it mends, and panics, at other places.
    fn write(&self) -> Outcome {
        let mut outcome = Outcome::default();
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("copy");
        copy(&self.fixture.path, &path);
        stage("opening for writing");
        let Ok(store) = Store::open(&path) else { return outcome };
        stage("checking what is open for writing");
        outcome.check(&store);
        self.back_up(&store, &mut outcome);
        stage("dropping a collection");
        let dropped = store.begin_write().and_then(|tx| {
            tx.drop_collection(POINTS.name())?;
            tx.commit()
        });
        if let Err(e) = dropped {
            outcome.refuse_to_write("dropping a collection", &e);
        }
        stage("compacting");
        drop(store.compact());
        outcome
    }

    /// A backup holds what its store gives out, or as little.
    fn back_up(&self, store: &Store, outcome: &mut Outcome) {
        stage("backing up");
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("backup");
        match store.backup(&path) {
            Ok(_) => {
                let asked = self.fixture.ask_at(&path, VectorAccess::Map);
                outcome.wrong.extend(asked.wrong.into_iter().map(|wrong| format!("in a backup: {wrong}")));
            }
            Err(e) => outcome.refuse_to_write("backing up", &e),
        }
    }

    /// All vectors are whole, so each that is found is one that its key had, once where the journal is lost; the tables are there, or not
    /// at all.
    fn repair(&self) -> Outcome {
        let mut outcome = Outcome::default();
        stage("repairing");
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("repaired");
        let repair = match Store::repair(&self.fixture.path, &path) {
            Ok(repair) => repair,
            Err(e) => {
                outcome.wrong.push(format!("repair refuses: {e:?}"));
                return outcome;
            }
        };
        stage("asking what was repaired");
        let store = Store::open(&path).unwrap();
        let report = store.check().unwrap();
        let mut wrong = |what: String| outcome.wrong.push(format!("repaired: {what}"));
        if !report.is_clean() {
            wrong(format!("{:?}", report.problems));
        }
        let tx = store.begin_read().unwrap();
        for name in tx.list_collections() {
            for (key, vector) in all(&tx.open_stored_collection(&name).unwrap()).unwrap() {
                if !self.fixture.history.get(&key).is_some_and(|held| held.contains(&vector)) {
                    wrong(format!("{name}, key {key} never held this"));
                }
            }
        }
        let tables = tx.list_tables().unwrap().len();
        if tables > 0 && !repair.tables_kept {
            wrong(format!("{tables} tables, and the report says none"));
        }
        for number in 0..TABLES {
            let name = name(number);
            // Known to be open: taking our tables out gives the pages that list the app's new checksums, damaged as they are, so that
            // redb's check passes and tables that are lost are said to be kept (seed 68). What opens must be right.
            let Ok(table) = tx.open_table(definition(&name)) else { continue };
            let found = table.iter().unwrap().map(|entry| entry.unwrap());
            let found = found.map(|(key, value)| (key.value(), value.value().to_owned()));
            if !found.eq((0..rows(number)).map(|row| (row, name.clone()))) {
                wrong(format!("{name:?} is not what it was"));
            }
        }
        outcome
    }
}

fn fill(number: usize, mut table: redb::Table<'_, u64, &'static str>) {
    for row in 0..rows(number) {
        table.insert(row, name(number).as_str()).unwrap();
    }
}

fn rows(table: usize) -> u64 {
    if table < FILLED { ROWS } else { 0 }
}

fn name(table: usize) -> String {
    format!("table {table:04}, whose name takes some room where redb lists its tables")
}

fn definition(name: &str) -> TableDefinition<'_, u64, &'static str> {
    TableDefinition::new(name)
}

//! Rows, changed through redb itself: its checksums are right, and only ours can tell.

use std::fs;
use std::sync::{Arc, Mutex};

use nestling::redb::{self, ReadableDatabase};
use nestling::{Error, Store};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, index};
use rand::{RngExt, SeedableRng};

use crate::asking::{Fixture, Outcome, POINTS, point};
use crate::patch::mask;
use crate::tables::{Memory, Row, TABLES, Table};

/// The store's redb file, whose rows are changed one experiment at a time.
struct Rows<'a> {
    fixture: &'a Fixture,
    image: Vec<u8>,
}

impl<'a> Rows<'a> {
    fn new(fixture: &'a Fixture) -> Self {
        Self { fixture, image: fs::read(fixture.store_redb()).unwrap() }
    }

    fn read(&self, table: Table) -> Vec<Row> {
        let memory = Memory(Arc::new(Mutex::new(self.image.clone())));
        let database = redb::Database::builder().create_with_backend(memory).unwrap();
        let tx = database.begin_read().unwrap();
        table.read(&tx)
    }

    /// Asks the store after these rows were given another value, or none.
    fn ask_with(&self, changes: &[(&Row, Option<&[u8]>)]) -> Outcome {
        let memory = Memory(Arc::new(Mutex::new(self.image.clone())));
        let database = redb::Database::builder().create_with_backend(memory.clone()).unwrap();
        let tx = database.begin_write().unwrap();
        for (row, value) in changes {
            assert!(row.table.write(&tx, &row.key, *value), "rows are changed, not added");
        }
        tx.commit().unwrap();
        drop(database);
        fs::write(self.fixture.store_redb(), &*memory.0.lock().unwrap()).unwrap();
        self.fixture.ask()
    }
}

/// Writes all rows into a new redb file, so that it holds no pages but those in use.
pub fn rewrite(fixture: &Fixture) {
    rewrite_with(fixture, |_| {});
}

/// The same, with what else `add` puts in there.
pub fn rewrite_with(fixture: &Fixture, add: impl FnOnce(&redb::WriteTransaction)) {
    let rows = Rows::new(fixture);
    let memory = Memory(Arc::default());
    let database = redb::Database::builder().create_with_backend(memory.clone()).unwrap();
    let tx = database.begin_write().unwrap();
    for row in TABLES.into_iter().flat_map(|table| rows.read(table)) {
        assert!(!row.table.write(&tx, &row.key, Some(&row.value)));
    }
    add(&tx);
    tx.commit().unwrap();
    drop(database);
    fs::write(fixture.store_redb(), &*memory.0.lock().unwrap()).unwrap();
}

#[test]
fn flipped_bytes_of_rows_are_noticed() {
    let seed = 31;
    println!("seed {seed}");
    let fixture = Fixture::in_tables(seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let rows = Rows::new(&fixture);
    let mut flips = 0;
    for table in TABLES {
        let all = rows.read(table);
        // Every byte of a few rows, and one byte of every row.
        let thorough: Vec<&Row> = all.sample(&mut rng, 4).collect();
        let every_byte =
            thorough.into_iter().flat_map(|row| (0..row.value.len()).map(move |byte| (row, byte)));
        let one_byte: Vec<(&Row, usize)> =
            all.iter().map(|row| (row, rng.random_range(0..row.value.len()))).collect();
        for (row, byte) in every_byte.chain(one_byte).collect::<Vec<_>>() {
            let mask = mask(&mut rng);
            let mut value = row.value.clone();
            value[byte] ^= mask;
            let outcome = rows.ask_with(&[(row, Some(&value))]);
            let what = format!("byte {byte} of {row:?}, mask {mask:02x}");
            outcome.assert_noticed(&what);
            // The free list is read by writers alone.
            assert!(outcome.refused > 0 || matches!(table, Table::Free | Table::State), "{what}");
            flips += 1;
        }
    }
    println!("{flips} flips");
}

#[test]
fn rows_of_another_length_are_noticed() {
    let seed = 32;
    println!("seed {seed}");
    let fixture = Fixture::in_tables(seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let rows = Rows::new(&fixture);
    for table in TABLES {
        let all = rows.read(table);
        let Some(row) = all.choose(&mut rng) else { continue };
        let longer = [&row.value[..], &[0]].concat();
        let values: [&[u8]; 4] = [&[], &row.value[..row.value.len() - 1], &longer, &[0xff; 4000]];
        for value in values {
            let what = format!("{row:?} with {} bytes", value.len());
            rows.ask_with(&[(row, Some(value))]).assert_noticed(&what);
        }
    }
}

/// A row's checksum covers its content, so only what other rows and counts say tells that one is missing.
#[test]
fn lost_rows_are_noticed() {
    let seed = 33;
    println!("seed {seed}");
    let fixture = Fixture::in_tables(seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let rows = Rows::new(&fixture);
    for table in TABLES {
        let all = rows.read(table);
        for row in all.sample(&mut rng, 25) {
            rows.ask_with(&[(row, None)]).assert_noticed(&format!("without {row:?}"));
        }
    }
    // All rows of a node at once: nothing that is left contradicts itself in its own page.
    let (nodes, links) = (rows.read(Table::Nodes), rows.read(Table::Links));
    for node in nodes.sample(&mut rng, 25) {
        let slot = node.key.as_slice();
        let links = links.iter().filter(|link| link.key[1..5] == *slot);
        let lost: Vec<(&Row, Option<&[u8]>)> = links.chain([node]).map(|row| (row, None)).collect();
        assert!(lost.len() >= 2);
        rows.ask_with(&lost).assert_noticed(&format!("without the rows of slot {slot:?}"));
    }
    // Node, links and key: as if it had never been.
    let keys = rows.read(Table::Keys);
    for key in keys.sample(&mut rng, 10) {
        let slot = &key.value[..4];
        let of_slot = links.iter().filter(|link| link.key[1..5] == *slot);
        let of_slot = of_slot.chain(nodes.iter().filter(|node| node.key == slot));
        let lost: Vec<(&Row, Option<&[u8]>)> = of_slot.chain([key]).map(|row| (row, None)).collect();
        assert!(lost.len() >= 3);
        rows.ask_with(&lost).assert_noticed(&format!("without all of {key:?}"));
    }
}

/// Each row is whole and verifies where it belongs, but not in another place.
#[test]
fn exchanged_rows_are_noticed() {
    let seed = 34;
    println!("seed {seed}");
    let fixture = Fixture::in_tables(seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let rows = Rows::new(&fixture);
    for table in [Table::Nodes, Table::Keys, Table::Links, Table::Free] {
        let all = rows.read(table);
        for _ in 0..20 {
            let pair: Vec<&Row> = all.sample(&mut rng, 2).collect();
            let [a, b] = pair[..] else { panic!("two of {table:?}") };
            rows.ask_with(&[(a, Some(&b.value)), (b, Some(&a.value))])
                .assert_noticed(&format!("{a:?} and {b:?} exchanged"));
            rows.ask_with(&[(a, Some(&b.value))]).assert_noticed(&format!("{a:?} as {b:?}"));
        }
    }
}

/// Small commits are in the journal alone.
#[test]
fn damaged_entries_of_the_journal_are_noticed() {
    let seed = 37;
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let fixture = Fixture::new(seed);
    let rows = Rows::new(&fixture);
    let entries = rows.read(Table::Journal);
    assert_eq!(entries.len(), 3);
    for entry in &entries {
        // The counts at its start, the checksum at its end, and what is between.
        let len = entry.value.len();
        let within = index::sample(&mut rng, len, 60).into_iter();
        for byte in (0..80).chain(within).chain(len - 8..len) {
            let mut value = entry.value.clone();
            value[byte] ^= mask(&mut rng);
            let what = format!("byte {byte} of the entry {:?}", entry.key);
            rows.ask_with(&[(entry, Some(&value))]).assert_noticed(&what);
        }
        for value in [&entry.value[..0], &entry.value[..4], &entry.value[..len - 1]] {
            rows.ask_with(&[(entry, Some(value))]).assert_noticed("a shorter entry");
        }
    }
    for pair in entries.windows(2) {
        rows.ask_with(&[(&pair[0], Some(&pair[1].value)), (&pair[1], Some(&pair[0].value))])
            .assert_noticed("entries exchanged");
        rows.ask_with(&[(&pair[1], Some(&pair[0].value))]).assert_noticed("an entry twice");
    }
}

/// The entries behind a lost one would be applied to rows that it should have changed: vectors that it removed would come back.
/// (That the last of all is lost cannot be told from its never having been made.)
#[test]
fn lost_entries_of_the_journal_are_noticed() {
    let fixture = Fixture::new(38);
    let rows = Rows::new(&fixture);
    let entries = rows.read(Table::Journal);
    let (_, lost) = entries.split_last().unwrap();
    for entry in lost {
        rows.ask_with(&[(entry, None)]).assert_noticed(&format!("the entry {:?} is lost", entry.key));
    }
}

/// A writer that comes upon damage fails its transaction, whatever it was doing; nothing of it is committed.
#[test]
fn writers_on_damaged_rows_fail_or_do_right() {
    let seed = 35;
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let fixture = Fixture::in_tables(seed);
    let rows = Rows::new(&fixture);
    let (mut failed, mut went_on) = (0, 0);
    for table in [Table::Nodes, Table::Keys, Table::Links, Table::Free] {
        let all = rows.read(table);
        for row in all.sample(&mut rng, 12) {
            for lost in [false, true] {
                let mut value = row.value.clone();
                let last = value.len() - 1;
                value[last] ^= mask(&mut rng);
                rows.ask_with(&[(row, if lost { None } else { Some(&value) })]);
                let store = Store::open(&fixture.path).unwrap();
                let tx = store.begin_write().unwrap();
                let mut points = tx.open_collection(POINTS).unwrap();
                let mut fine = true;
                for key in rand_keys(&mut rng) {
                    let result = match key % 2 {
                        0 => points.insert(key, &point(&mut rng)).map(drop),
                        _ => points.remove(key).map(drop),
                    };
                    match result {
                        Ok(()) => assert!(fine, "nothing succeeds after a failure"),
                        Err(Error::TransactionFailed) => assert!(!fine),
                        Err(e) => {
                            assert!(e.is_corrupted() && fine, "{e:?}");
                            fine = false;
                        }
                    }
                }
                drop(points);
                match tx.commit() {
                    Ok(()) => went_on += 1,
                    Err(Error::TransactionFailed) => failed += 1,
                    Err(e) => panic!("{e:?}"),
                }
            }
        }
    }
    println!("{failed} transactions failed, {went_on} did not come by the damage");
    assert!(failed > 0);
}

fn rand_keys(rng: &mut StdRng) -> Vec<u64> {
    (0..6).map(|_| rng.random_range(0..110)).collect()
}

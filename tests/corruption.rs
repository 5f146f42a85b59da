//! Damage is a typed error: never a wrong answer, never a panic of ours, and `check()` finds it.
//!
//! A small store is damaged in every way that disks, copies and restores are known to: bytes flipped one at a time in segments, in
//! rows and anywhere in `store.redb`, files cut, lost, exchanged or from another day, rows lost and exchanged. After each, everything
//! that can be asked is asked: each call must give exactly the answer that the undamaged store gave, or a typed error.
//!
//! The files are patched in place and restored, and opened read-only, which changes nothing on disk. Rows are changed through redb
//! itself, on a copy of the file in memory, so that redb's own checksums are right and only ours can tell.

// Files are patched while the store has them mapped, which Windows refuses.
#![cfg(unix)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};

use nestling::redb::{
    self, Key, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TypeName, Value,
};
use nestling::{Codes, Collection, CollectionDefinition, Error, Hit, Metric, Store, VectorAccess};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, index};
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

const DIMENSION: usize = 8;
/// A small m, so that the graph has edges in one direction only, and several layers.
const POINTS: CollectionDefinition =
    CollectionDefinition::new("points", DIMENSION, Metric::L2).m(4).ef_construction(40);
const OTHERS: CollectionDefinition =
    CollectionDefinition::new("others", DIMENSION, Metric::L2).m(4).ef_construction(40);

// ----------------------------------------------------------------------------------------------------------- what is asked

/// A store, and the answers it gives undamaged.
struct Fixture {
    _dir: TempDir,
    path: PathBuf,
    queries: Vec<Vec<f32>>,
    expected: Answers,
}

/// Everything that is asked of a collection.
#[derive(Debug, Clone, PartialEq)]
struct Answers {
    len: u64,
    vectors: BTreeMap<u64, Option<Vec<f32>>>,
    all: Vec<(u64, Vec<f32>)>,
    exact: Vec<Vec<Hit>>,
    walked: Vec<Vec<Hit>>,
    everything: Vec<Hit>,
}

/// What came of asking.
#[derive(Debug, Default)]
struct Outcome {
    right: usize,
    refused: usize,
    wrong: Vec<String>,
    /// redb has read past the end of its file. It allocates what a damaged page number says, up to gigabytes, before it finds out:
    /// once is enough.
    lost_its_way: bool,
    /// Whether opening was refused, or `check` found something.
    reported: bool,
}

impl Outcome {
    fn note<T: PartialEq + Debug>(&mut self, what: &str, expected: &T, found: Result<T, Error>) {
        match found {
            Ok(found) if found == *expected => self.right += 1,
            Ok(found) => self.wrong.push(format!("{what}: {found:?} instead of {expected:?}")),
            Err(e) => self.refuse(what, &e),
        }
    }

    fn refuse(&mut self, what: &str, error: &Error) {
        self.lost_its_way |= matches!(error, Error::Storage(redb::StorageError::Io(_)));
        // What redb refuses everything with afterwards.
        let in_consequence =
            self.refused > 0 && matches!(error, Error::Storage(redb::StorageError::PreviousIo));
        if error.is_corrupted() || in_consequence {
            assert!(!error.to_string().is_empty());
            self.refused += 1;
        } else {
            self.wrong.push(format!("{what}: not an error about damage: {error:?}"));
        }
    }

    /// Nothing wrong; damage that touches something in use was refused somewhere and reported.
    fn assert_noticed(&self, what: &str) {
        self.assert_not_wrong(what);
        assert!(self.reported, "{what}: check() found nothing ({} refused)", self.refused);
    }

    fn assert_unnoticed(&self, what: &str) {
        self.assert_not_wrong(what);
        assert!(self.refused == 0 && !self.reported, "{what}: {self:?}");
    }

    fn assert_not_wrong(&self, what: &str) {
        assert!(self.wrong.is_empty(), "{what}: wrong answers: {:#?}", self.wrong);
    }
}

impl Fixture {
    /// About a hundred vectors.
    fn new(seed: u64) -> Self {
        Self::with_vectors(100, seed)
    }

    /// Vectors written by several commits, with free slots and slots that were used twice. All commits but the first are in the
    /// journal.
    fn with_vectors(n: u64, seed: u64) -> Self {
        let later: [(&[u64], &[u64]); 3] =
            [(&[3, 50, 99, 20, 21, 22], &[]), (&[], &[7, 8, 60, 101, 102]), (&[0, 1], &[9])];
        Self::made_by(POINTS, n, seed, &later)
    }

    /// About a hundred vectors in a collection without codes.
    fn without_codes(seed: u64) -> Self {
        Self::made_by(POINTS.codes(Codes::None), 100, seed, &[(&[3, 50, 99], &[7, 101]), (&[0], &[9])])
    }

    /// About a hundred vectors, of which all rows are in the tables: a new collection's go there.
    fn in_tables(seed: u64) -> Self {
        Self::made_by(POINTS, 100, seed, &[])
    }

    /// `n` vectors, and some more and fewer in the same transaction; then what later ones removed and inserted.
    fn made_by(definition: CollectionDefinition<'_>, n: u64, seed: u64, later: &[(&[u64], &[u64])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let mut rng = StdRng::seed_from_u64(seed);
        let mut stored = BTreeMap::new();
        let store = Store::open(&path).unwrap();
        let all: Vec<u64> = (0..n).collect();
        let first: [(&[u64], &[u64]); 2] = [(&[], &all), (&[40, 41, 95], &[13, 14])];
        let transactions = std::iter::once(&first[..]).chain(later.chunks(1));
        for steps in transactions {
            let tx = store.begin_write().unwrap();
            let mut points = tx.open_collection(definition).unwrap();
            for (removed, inserted) in steps {
                for &key in *inserted {
                    let vector = point(&mut rng);
                    points.insert(key, &vector).unwrap();
                    stored.insert(key, vector);
                }
                for key in *removed {
                    assert!(points.remove(*key).unwrap());
                    stored.remove(key);
                }
            }
            drop(points);
            tx.commit().unwrap();
        }
        store.close().unwrap();
        let queries: Vec<Vec<f32>> = (0..3).map(|_| point(&mut rng)).collect();
        let expected = Answers::of(&path, n + 10, &queries);
        expected.assert_right(&stored, &queries);
        Self { _dir: dir, path, queries, expected }
    }

    fn segment(&self) -> PathBuf {
        self.path.join("00000000.vectors")
    }

    fn store_redb(&self) -> PathBuf {
        self.path.join("store.redb")
    }

    /// Opens the store and asks for everything.
    fn ask(&self) -> Outcome {
        self.ask_with(VectorAccess::Map)
    }

    fn ask_with(&self, access: VectorAccess) -> Outcome {
        let mut outcome = Outcome::default();
        STAGE.set("opening");
        let store = match Store::builder().read_only().vector_access(access).open(&self.path) {
            Ok(store) => store,
            Err(e) => {
                // A flipped version looks like a newer one, a table of another name like another app's.
                if !matches!(e, Error::UnsupportedFormat { .. } | Error::NotAStore { .. }) {
                    outcome.refuse("opening", &e);
                }
                outcome.reported = true;
                return outcome;
            }
        };
        STAGE.set("reading");
        match store.begin_read().unwrap().open_collection(POINTS) {
            Ok(points) => self.ask_collection(&points, &mut outcome),
            Err(e) => outcome.refuse("opening the collection", &e),
        }
        STAGE.set("checking");
        match store.check() {
            Ok(report) => outcome.reported = !report.is_clean(),
            Err(e) => {
                outcome.refuse("check", &e);
                outcome.reported = true;
            }
        }
        outcome
    }

    fn ask_collection(&self, points: &Collection, outcome: &mut Outcome) {
        let expected = &self.expected;
        outcome.note("len", &expected.len, Ok(points.len()));
        // Walks come first: they see only what they come by, and nothing is verified yet.
        for (query, expected) in self.queries.iter().zip(&expected.walked) {
            outcome.note("walk", expected, walk(points, query));
            if outcome.lost_its_way {
                return;
            }
        }
        for (&key, expected) in &expected.vectors {
            outcome.note(&format!("get({key})"), expected, get(points, key));
            outcome.note(&format!("contains({key})"), &expected.is_some(), points.contains(key));
            if outcome.lost_its_way {
                return;
            }
        }
        outcome.note("iter", &expected.all, all(points));
        for (query, expected) in self.queries.iter().zip(&expected.exact) {
            outcome.note("exact", expected, exact(points, query));
        }
        outcome.note("everything", &expected.everything, everything(points, &self.queries[0]));
    }
}

fn point(rng: &mut StdRng) -> Vec<f32> {
    (0..DIMENSION).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn get(points: &Collection, key: u64) -> Result<Option<Vec<f32>>, Error> {
    Ok(points.get(key)?.map(|vector| vector.into_owned()))
}

fn all(points: &Collection) -> Result<Vec<(u64, Vec<f32>)>, Error> {
    points.iter()?.map(|entry| entry.map(|(key, vector)| (key, vector.into_owned()))).collect()
}

fn walk(points: &Collection, query: &[f32]) -> Result<Vec<Hit>, Error> {
    Ok(points.query(query).k(10).ef(16).run()?.into_vec())
}

fn exact(points: &Collection, query: &[f32]) -> Result<Vec<Hit>, Error> {
    Ok(points.query(query).k(10).exact().run()?.into_vec())
}

fn everything(points: &Collection, query: &[f32]) -> Result<Vec<Hit>, Error> {
    Ok(points.query(query).k(1000).ef(1000).run()?.into_vec())
}

impl Answers {
    /// The answers of a store without damage, with those about keys below `keys`, of which not all are there.
    fn of(path: &Path, keys: u64, queries: &[Vec<f32>]) -> Self {
        let store = Store::builder().read_only().open(path).unwrap();
        assert!(store.check().unwrap().is_clean());
        let points = store.begin_read().unwrap().open_collection(POINTS).unwrap();
        Self {
            len: points.len(),
            vectors: (0..keys).map(|key| (key, get(&points, key).unwrap())).collect(),
            all: all(&points).unwrap(),
            exact: queries.iter().map(|query| exact(&points, query).unwrap()).collect(),
            walked: queries.iter().map(|query| walk(&points, query).unwrap()).collect(),
            everything: everything(&points, &queries[0]).unwrap(),
        }
    }

    /// They are those of a computation by hand.
    fn assert_right(&self, stored: &BTreeMap<u64, Vec<f32>>, queries: &[Vec<f32>]) {
        assert!(self.len > 64, "enough to be walked");
        assert_eq!(self.all, stored.clone().into_iter().collect::<Vec<_>>());
        for (&key, vector) in &self.vectors {
            assert_eq!(vector.as_ref(), stored.get(&key));
        }
        for (query, hits) in queries.iter().zip(&self.exact) {
            let mut nearest: Vec<(f64, u64)> =
                stored.iter().map(|(&key, x)| (squared_l2(query, x), key)).collect();
            nearest.sort_by(|a, b| a.0.total_cmp(&b.0));
            let expected: Vec<u64> = nearest.iter().take(10).map(|&(_, key)| key).collect();
            assert_eq!(hits.iter().map(|hit| hit.key).collect::<Vec<_>>(), expected);
        }
        assert_eq!(self.everything.len(), stored.len());
    }
}

fn squared_l2(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum()
}

// ------------------------------------------------------------------------------------------------------- bytes of segments

/// Where things are in a segment, as its header says.
struct Layout {
    /// Bytes of a code before its tail.
    coded: u64,
    code_stride: u64,
    vector_stride: u64,
    vectors: u64,
}

const HEADER: u64 = 70;
const CODES: u64 = 65_536;
/// The bytes of a slot that mean something.
const CODE: u64 = DIMENSION as u64 + TAIL;
/// Five scalars, the key, the stamp.
const TAIL: u64 = 56;
/// What it takes without codes.
const TAIL_LINE: u64 = 64;
const VECTOR: u64 = 4 * DIMENSION as u64;

impl Layout {
    fn read(file: &File) -> Self {
        let word = |offset| {
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, offset).unwrap();
            u64::from(u32::from_le_bytes(bytes))
        };
        let mut kind = [0];
        file.read_exact_at(&mut kind, 49).unwrap();
        let (code_stride, vector_stride, vectors) = (word(50), word(54), word(58));
        let coded = if kind[0] == 0 { 0 } else { DIMENSION as u64 };
        assert!(code_stride >= coded + TAIL && vector_stride >= VECTOR && vectors > CODES);
        Self { coded, code_stride, vector_stride, vectors }
    }

    fn code(&self, slot: u32) -> u64 {
        CODES + u64::from(slot) * self.code_stride
    }

    fn vector(&self, slot: u32) -> u64 {
        self.vectors + u64::from(slot) * self.vector_stride
    }
}

/// The slots in use: of those that hold a stored key, which stands behind the code and its five scalars, the one with the highest
/// stamp, which stands behind the key.
fn live_slots(fixture: &Fixture, file: &File, layout: &Layout) -> BTreeSet<u32> {
    let word = |offset| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, offset).unwrap();
        u64::from_le_bytes(bytes)
    };
    let mut newest: BTreeMap<u64, (u64, u32)> = BTreeMap::new();
    for slot in 0..2 * fixture.expected.vectors.len() as u32 {
        let tail = layout.code(slot) + layout.coded;
        let (norm, key, stamp) = (word(tail + 32), word(tail + 40), word(tail + 48));
        let stored = fixture.expected.vectors.get(&key).is_some_and(Option::is_some);
        if norm != 0 && stored && newest.get(&key).is_none_or(|&(newest, _)| newest < stamp) {
            newest.insert(key, (stamp, slot));
        }
    }
    assert_eq!(newest.len() as u64, fixture.expected.len);
    newest.values().map(|&(_, slot)| slot).collect()
}

/// Flips some bits of one byte while `run` runs.
fn with_flipped<T>(file: &File, offset: u64, mask: u8, run: impl FnOnce() -> T) -> T {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ mask], offset).unwrap();
    let result = run();
    file.write_all_at(&byte, offset).unwrap();
    result
}

fn open_for_patching(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn mask(rng: &mut StdRng) -> u8 {
    rng.random_range(1..=255)
}

/// Every byte of a region of every slot that was ever used, and of the padding behind it.
fn flip_slots(
    seed: u64,
    fixture: impl Fn(u64) -> Fixture,
    offset: impl Fn(&Layout, u32) -> u64,
    len: u64,
    stride: impl Fn(&Layout) -> u64,
) {
    println!("seed {seed}");
    let fixture = fixture(seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let file = open_for_patching(&fixture.segment());
    let layout = Layout::read(&file);
    let live = live_slots(&fixture, &file, &layout);
    let cursor = live.last().unwrap() + 1;
    let free = (0..cursor).find(|slot| !live.contains(slot)).unwrap();
    let mut flips = 0;
    for slot in 0..cursor {
        for byte in 0..len {
            let mask = mask(&mut rng);
            let what = format!("byte {byte} of slot {slot}, mask {mask:02x}");
            // Of what is free, one slot will do.
            if live.contains(&slot) {
                let outcome = with_flipped(&file, offset(&layout, slot) + byte, mask, || fixture.ask());
                outcome.assert_noticed(&what);
                assert!(outcome.refused > 0 && outcome.right > 0, "{what}: {outcome:?}");
                flips += 1;
            } else if slot == free {
                let outcome = with_flipped(&file, offset(&layout, slot) + byte, mask, || fixture.ask());
                outcome.assert_unnoticed(&what);
                flips += 1;
            }
        }
    }
    // Padding, and what lies beyond the slots in use.
    for slot in [0, cursor - 1, cursor] {
        for byte in len..stride(&layout) {
            let what = format!("byte {byte} of slot {slot}");
            with_flipped(&file, offset(&layout, slot) + byte, 0xff, || fixture.ask()).assert_unnoticed(&what);
            flips += 1;
        }
    }
    println!("{flips} flips, {} live slots of {cursor}", live.len());
    fixture.ask().assert_unnoticed("after all is restored");
}

#[test]
fn every_flipped_byte_of_a_code_is_noticed() {
    flip_slots(11, Fixture::new, Layout::code, CODE, |layout| layout.code_stride);
}

#[test]
fn every_flipped_byte_of_a_vector_is_noticed() {
    flip_slots(12, Fixture::new, Layout::vector, VECTOR, |layout| layout.vector_stride);
}

#[test]
fn every_flipped_byte_of_a_vector_without_a_code_is_noticed_and_of_the_tail_before_it() {
    // What lies behind the vector up to the next slot is padding, what lies behind the tail goes up to the vector.
    flip_slots(14, Fixture::without_codes, Layout::vector, VECTOR, |layout| layout.code_stride - TAIL_LINE);
    flip_slots(15, Fixture::without_codes, Layout::code, TAIL, |_| TAIL_LINE);
}

#[test]
fn every_flipped_byte_of_a_header_is_noticed() {
    let seed = 13;
    println!("seed {seed}");
    let fixture = Fixture::new(seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let file = open_for_patching(&fixture.segment());
    for offset in 0..HEADER {
        let mask = mask(&mut rng);
        let what = format!("byte {offset} of the header, mask {mask:02x}");
        let outcome = with_flipped(&file, offset, mask, || fixture.ask());
        outcome.assert_noticed(&what);
        assert!(outcome.refused > 0, "{what}");
    }
    for offset in [HEADER, HEADER + 1, 4096, CODES - 1] {
        let outcome = with_flipped(&file, offset, 0xff, || fixture.ask());
        outcome.assert_unnoticed(&format!("byte {offset}, which means nothing"));
    }
}

// ---------------------------------------------------------------------------------------------------------- whole segments

#[test]
fn truncated_segments_are_corrupted_and_longer_ones_are_fine() {
    let fixture = Fixture::new(21);
    let whole = fs::read(fixture.segment()).unwrap();
    let layout = Layout::read(&File::open(fixture.segment()).unwrap());
    let lengths = [
        0,
        1,
        HEADER - 1,
        HEADER,
        CODES - 1,
        CODES,
        layout.code(50),
        layout.vector(1),
        whole.len() as u64 - 1,
    ];
    for len in lengths {
        fs::write(fixture.segment(), &whole[..len as usize]).unwrap();
        for access in [VectorAccess::Map, VectorAccess::Copy] {
            let outcome = fixture.ask_with(access);
            outcome.assert_noticed(&format!("truncated to {len}, {access:?}"));
            assert!(outcome.refused as u64 > fixture.expected.len, "nothing of it is used: {outcome:?}");
        }
    }
    let mut longer = whole.clone();
    longer.extend([0xab; 100_000]);
    fs::write(fixture.segment(), &longer).unwrap();
    for access in [VectorAccess::Map, VectorAccess::Copy] {
        fixture.ask_with(access).assert_unnoticed("extended");
    }
}

#[test]
fn a_missing_segment_is_corrupted_and_not_made_anew() {
    let fixture = Fixture::new(22);
    fs::remove_file(fixture.segment()).unwrap();
    let outcome = fixture.ask();
    outcome.assert_noticed("missing");
    // The keys are known without it; and a writer does not paper over the loss.
    let store = Store::open(&fixture.path).unwrap();
    let tx = store.begin_write().unwrap();
    let mut points = tx.open_collection(POINTS).unwrap();
    assert_eq!(points.keys().unwrap().count() as u64, fixture.expected.len);
    let error = points.insert(1000, &[0.0; DIMENSION]).unwrap_err();
    assert!(error.is_corrupted() && error.to_string().contains("00000000.vectors"), "{error}");
    drop(points);
    assert!(matches!(tx.commit(), Err(Error::TransactionFailed)));
    assert!(!fixture.segment().exists());
}

#[test]
fn segments_of_other_stores_and_collections_are_corrupted() {
    let fixture = Fixture::new(23);
    let other = Fixture::new(24);
    let whole = fs::read(fixture.segment()).unwrap();
    fs::copy(other.segment(), fixture.segment()).unwrap();
    let outcome = fixture.ask();
    outcome.assert_noticed("of another store");
    assert!(outcome.refused as u64 > fixture.expected.len, "{outcome:?}");
    fs::write(fixture.segment(), &whole).unwrap();

    // Two collections of one store, alike in all but their content.
    let store = Store::open(&fixture.path).unwrap();
    let tx = store.begin_write().unwrap();
    let mut others = tx.open_collection(OTHERS).unwrap();
    others.insert_many(fixture.expected.all.iter().map(|(key, x)| (*key, x))).unwrap();
    drop(others);
    tx.commit().unwrap();
    store.close().unwrap();
    let second = fixture.path.join("00000001.vectors");
    let aside = fixture.path.with_extension("aside");
    fs::rename(fixture.segment(), &aside).unwrap();
    fs::rename(&second, fixture.segment()).unwrap();
    fs::rename(&aside, &second).unwrap();
    let outcome = fixture.ask();
    outcome.assert_noticed("exchanged");
    assert!(outcome.refused as u64 > fixture.expected.len, "{outcome:?}");
    let store = Store::builder().read_only().open(&fixture.path).unwrap();
    let others = store.begin_read().unwrap().open_collection(OTHERS).unwrap();
    assert!(others.search(&fixture.queries[0], 5).unwrap_err().is_corrupted());
}

/// A backup that copied the files at different moments: the segment is older than redb's file. What was not written since is right.
#[test]
fn a_segment_older_than_redb_is_corrupted_where_it_differs() {
    let mut fixture = Fixture::new(25);
    let older = fs::read(fixture.segment()).unwrap();
    let store = Store::open(&fixture.path).unwrap();
    let mut changed = BTreeSet::new();
    // Later commits write to slots that earlier ones freed.
    for round in 0..4 {
        let tx = store.begin_write().unwrap();
        let mut points = tx.open_collection(POINTS).unwrap();
        for key in [10 + round, 30 + round, 104 + round, 60] {
            points.insert(key, &[round as f32 + key as f32 / 100.0; DIMENSION]).unwrap();
            changed.insert(key);
        }
        assert!(points.remove(80 + round).unwrap());
        drop(points);
        tx.commit().unwrap();
    }
    store.close().unwrap();
    fixture.expected = Answers::of(&fixture.path, 110, &fixture.queries);
    fs::write(fixture.segment(), &older).unwrap();

    let outcome = fixture.ask();
    outcome.assert_noticed("older");
    let store = Store::builder().read_only().open(&fixture.path).unwrap();
    let points = store.begin_read().unwrap().open_collection(POINTS).unwrap();
    for (&key, expected) in &fixture.expected.vectors {
        match get(&points, key) {
            Ok(found) => assert!(found == *expected && !changed.contains(&key), "key {key}: {found:?}"),
            Err(e) => assert!(e.is_corrupted() && changed.contains(&key), "key {key}: {e}"),
        }
    }
    assert!(everything(&points, &fixture.queries[0]).unwrap_err().is_corrupted());
    assert!(exact(&points, &fixture.queries[0]).unwrap_err().is_corrupted());
    let report = store.check().unwrap();
    assert!(report.problems.len() >= changed.len(), "each of them: {:#?}", report.problems);
}

// -------------------------------------------------------------------------------------------------------------------- rows

/// The store's tables, with the types that redb knows them by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Nodes,
    Keys,
    Links,
    Free,
    Collections,
    Segments,
    State,
    Journal,
}

/// Those that a commit to tables writes, and the journal, where it writes to that.
const TABLES: [Table; 8] = [
    Table::Nodes,
    Table::Keys,
    Table::Links,
    Table::Free,
    Table::Collections,
    Table::Segments,
    Table::State,
    Table::Journal,
];

/// A value whose type has the name that the store gives it.
#[derive(Debug)]
struct Stored<const TABLE: usize>;

impl<const TABLE: usize> Value for Stored<TABLE> {
    type SelfType<'a> = &'a [u8];
    type AsBytes<'a> = &'a [u8];

    fn fixed_width() -> Option<usize> {
        None
    }

    fn from_bytes<'a>(data: &'a [u8]) -> &'a [u8]
    where
        Self: 'a,
    {
        data
    }

    fn as_bytes<'a, 'b: 'a>(value: &'a &'b [u8]) -> &'a [u8]
    where
        Self: 'b,
    {
        value
    }

    fn type_name() -> TypeName {
        let names = ["Node", "Key", "Link", "Free", "Collection", "Segment", "Journal"];
        TypeName::new(&format!("nestling::{}.1", names[TABLE]))
    }
}

/// A row: its table, and its key and value as redb keeps them.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    table: Table,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Table {
    fn read(self, tx: &redb::ReadTransaction) -> Vec<Row> {
        let rows = match self {
            Table::Nodes => read::<u32, Stored<0>>(tx, "nestling/00000000/nodes"),
            Table::Keys => read::<u64, Stored<1>>(tx, "nestling/00000000/keys"),
            Table::Links => read::<u64, Stored<2>>(tx, "nestling/00000000/links"),
            Table::Free => read::<(u64, u32), Stored<3>>(tx, "nestling/00000000/free"),
            Table::Collections => read::<&str, Stored<4>>(tx, "nestling/collections"),
            Table::Segments => read::<u32, Stored<5>>(tx, "nestling/segments"),
            Table::State => read::<u32, &[u8]>(tx, "nestling/state"),
            Table::Journal => read::<u64, Stored<6>>(tx, "nestling/journal"),
        };
        assert!(!rows.is_empty() || self == Table::Journal, "{self:?}");
        rows.into_iter().map(|(key, value)| Row { table: self, key, value }).collect()
    }

    /// Gives a row another value, or none. True when there was one.
    fn write(self, tx: &redb::WriteTransaction, key: &[u8], value: Option<&[u8]>) -> bool {
        match self {
            Table::Nodes => write::<u32, Stored<0>>(tx, "nestling/00000000/nodes", key, value),
            Table::Keys => write::<u64, Stored<1>>(tx, "nestling/00000000/keys", key, value),
            Table::Links => write::<u64, Stored<2>>(tx, "nestling/00000000/links", key, value),
            Table::Free => write::<(u64, u32), Stored<3>>(tx, "nestling/00000000/free", key, value),
            Table::Collections => write::<&str, Stored<4>>(tx, "nestling/collections", key, value),
            Table::Segments => write::<u32, Stored<5>>(tx, "nestling/segments", key, value),
            Table::State => write::<u32, &[u8]>(tx, "nestling/state", key, value),
            Table::Journal => write::<u64, Stored<6>>(tx, "nestling/journal", key, value),
        }
    }
}

fn read<K: Key + 'static, V: for<'a> Value<SelfType<'a> = &'a [u8]> + 'static>(
    tx: &redb::ReadTransaction,
    name: &str,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let table = tx.open_table(TableDefinition::<K, V>::new(name)).unwrap();
    let rows = table.iter().unwrap().map(|entry| entry.unwrap());
    rows.map(|(key, value)| (K::as_bytes(&key.value()).as_ref().to_vec(), value.value().to_vec())).collect()
}

fn write<K: Key + 'static, V: for<'a> Value<SelfType<'a> = &'a [u8]> + 'static>(
    tx: &redb::WriteTransaction,
    name: &str,
    key: &[u8],
    value: Option<&[u8]>,
) -> bool {
    let mut table = tx.open_table(TableDefinition::<K, V>::new(name)).unwrap();
    let before = match value {
        Some(value) => table.insert(K::from_bytes(key), value).unwrap(),
        None => table.remove(K::from_bytes(key)).unwrap(),
    };
    before.is_some()
}

/// A redb file in memory.
#[derive(Debug, Clone)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        out.copy_from_slice(&self.0.lock().unwrap()[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = offset as usize;
        self.0.lock().unwrap()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

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
fn rewrite(fixture: &Fixture) {
    let rows = Rows::new(fixture);
    let memory = Memory(Arc::default());
    let database = redb::Database::builder().create_with_backend(memory.clone()).unwrap();
    let tx = database.begin_write().unwrap();
    for row in TABLES.into_iter().flat_map(|table| rows.read(table)) {
        assert!(!row.table.write(&tx, &row.key, Some(&row.value)));
    }
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

// ------------------------------------------------------------------------------------------------- anywhere in store.redb

thread_local! {
    /// What is being done, for the story of a panic.
    static STAGE: Cell<&'static str> = const { Cell::new("") };
    /// Whether this thread's panics are expected, and where the last one came from.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static PANICKED_AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `run`; of a panic, tells in which file it was.
fn catch<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if WATCHED.get() {
                let at = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
                PANICKED_AT.set(at);
            } else {
                usual(info);
            }
        }));
    });
    WATCHED.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    WATCHED.set(false);
    result.map_err(|_| PANICKED_AT.take())
}

/// redb does not verify its pages when it reads them, so damage of its trees can show in any way: what is promised is that no
/// wrong answer comes of it.
///
/// The story: keys were looked up in a damaged leaf, or not found in a branch that led astray, and were taken to be absent.
#[test]
fn flipped_bytes_anywhere_in_store_redb_never_give_wrong_answers() {
    let from_environment = |name, or: u64| std::env::var(name).map_or(or, |value| value.parse().unwrap());
    let seed = from_environment("NESTLING_SEED", 36);
    let flips = from_environment("NESTLING_FLIPS", 400) as usize;
    println!("seed {seed} (NESTLING_SEED), {flips} flips of each kind (NESTLING_FLIPS)");
    // Enough for tables of several pages.
    let fixture = Fixture::with_vectors(600, seed);
    // Without the pages of earlier commits, which nobody reads.
    rewrite(&fixture);
    fixture.ask().assert_unnoticed("rewritten");
    let file = open_for_patching(&fixture.store_redb());
    let mut rng = StdRng::seed_from_u64(seed);
    let mut tally = Tally::default();
    for (kind, offsets) in interesting_bytes(&fixture) {
        // Without its debug assertions redb 4.4 runs on until it panics in a destructor while it panics, on some damage of its own
        // tables: that aborts the process, and nobody above can catch it.
        if kind == ANYTHING && !cfg!(debug_assertions) {
            continue;
        }
        println!("{} bytes in {kind}", offsets.len());
        for &offset in offsets.sample(&mut rng, flips) {
            let mask = mask(&mut rng);
            let result = with_flipped(&file, offset, mask, || catch(|| fixture.ask()));
            tally.add(&format!("{kind}, offset {offset}, mask {mask:02x}"), result);
        }
        println!("after {kind}: {tally:#?}");
    }
    assert!(tally.wrong.is_empty(), "{} wrong answers: {:#?}", tally.wrong.len(), tally.wrong);
    assert!(tally.unreported.is_empty(), "what a reader was refused, check finds: {:#?}", tally.unreported);
    assert!(tally.refused > flips / 2, "most of the damage was noticed");
}

/// What came of flips anywhere.
#[derive(Debug, Default)]
struct Tally {
    /// All answers were right…
    harmless: usize,
    /// …though `check` found the damage.
    reported: usize,
    /// An answer was refused.
    refused: usize,
    unreported: Vec<String>,
    wrong: Vec<String>,
    /// Panics inside of redb, by what was being done and redb's file.
    panics: BTreeMap<String, usize>,
}

impl Tally {
    fn add(&mut self, what: &str, result: Result<Outcome, String>) {
        match result {
            Ok(outcome) => {
                self.harmless += usize::from(outcome.refused == 0);
                self.reported += usize::from(outcome.refused == 0 && outcome.reported);
                self.refused += usize::from(outcome.refused > 0);
                self.wrong.extend(outcome.wrong.first().map(|wrong| format!("{what}: {wrong}")));
                if outcome.refused > 0 && !outcome.reported {
                    self.unreported.push(what.to_owned());
                }
            }
            Err(at) => {
                let (_, place) =
                    at.split_once("redb-").unwrap_or_else(|| panic!("{what}: not redb's panic: {at}"));
                let file = place.rsplit(['/', '\\']).next().unwrap_or(place);
                let file = file.split_once(':').map_or(file, |(file, _)| file);
                *self.panics.entry(format!("{} in {file}", STAGE.get())).or_default() += 1;
            }
        }
    }
}

const ANYTHING: &str = "anything else";

/// Offsets in `store.redb` by what is there: branches of redb's trees, leaves with our rows, anything else. Long runs of one byte are
/// left out: they fill what is not used. (redb's pages have 4 KiB and begin with their kind: 1 for a leaf, 2 for a branch. If that
/// changes, the sample becomes a poorer one, no more.)
fn interesting_bytes(fixture: &Fixture) -> [(&'static str, Vec<u64>); 3] {
    const PAGE: usize = 4096;
    const RUN: usize = 8;
    let bytes = fs::read(fixture.store_redb()).unwrap();
    let rows: BTreeSet<Vec<u8>> =
        TABLES.iter().flat_map(|&table| Rows::new(fixture).read(table)).map(|row| row.value).collect();
    let holds_a_row =
        |page: &[u8]| rows.iter().any(|row| page.windows(row.len()).any(|window| window == row));
    let (mut branches, mut leaves, mut anything) = (Vec::new(), Vec::new(), Vec::new());
    for (number, page) in bytes.chunks(PAGE).enumerate() {
        let list = match page[0] {
            2 => &mut branches,
            1 if holds_a_row(page) => &mut leaves,
            _ => &mut anything,
        };
        let mut start = 0;
        for run in page.chunk_by(|a, b| a == b) {
            if run.len() < RUN {
                list.extend((start..start + run.len()).map(|i| (number * PAGE + i) as u64));
            }
            start += run.len();
        }
    }
    [("branches", branches), ("leaves with rows", leaves), (ANYTHING, anything)]
}

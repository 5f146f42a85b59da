//! A process that dies by SIGKILL, at any moment, loses nothing that it acknowledged.
//!
//! A child process commits one random transaction after the other and says so on its standard output as soon as `commit`
//! has returned. What the n-th transaction does is a function of the store's seed and of n alone, so the parent knows what
//! the store must hold after every one of them. It kills the child, opens what is left, and demands exactly the state after
//! the last acknowledged transaction or after the one in flight; where commits did not ask to be durable, the state after
//! any one since the last that did. Collections and the app's tables have to agree on which. The next child then works on the
//! same store, and it may be killed while it recovers, or while it creates the store.
//!
//! SIGKILL loses no page cache: what a power cut adds is not tested here.
//!
//! `NESTLING_KILL_ROUNDS=200 cargo test --release --test kill -- --nocapture` is the long form.
#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use nestling::redb::TableDefinition;
use nestling::{CollectionDefinition, Durability, Error, Metric, ReadTransaction, Store, WriteTransaction};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const ROUNDS: &str = "NESTLING_KILL_ROUNDS";
const SEED: &str = "NESTLING_KILL_SEED";
const CHILD_STORE: &str = "NESTLING_KILL_CHILD_STORE";
const CHILD_SEED: &str = "NESTLING_KILL_CHILD_SEED";
const CHILD_START: &str = "NESTLING_KILL_CHILD_START";

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let rounds: u64 = variable(ROUNDS).unwrap_or(20);
    let seed = variable(SEED).unwrap_or_else(rand::random);
    println!("{SEED}={seed}, {rounds} rounds");
    let directory = tempfile::tempdir().unwrap();
    let pace = Pace::measure(&directory.path().join("pace"));
    println!("{pace:?}");

    let mut rng = StdRng::seed_from_u64(seed);
    let mut coverage = Coverage::default();
    let mut subject = Subject::new(directory.path(), 0, &mut rng);
    for round in 0..rounds {
        if rng.random_ratio(1, 6) {
            fs::remove_dir_all(&subject.path).ok();
            subject = Subject::new(directory.path(), round, &mut rng);
        }
        subject.round(pace.delay(&subject, &mut rng), &mut rng, &mut coverage);
    }
    println!("{coverage:#?}");
    if rounds >= 100 {
        let Coverage { while_creating, while_opening, in_commit_found, in_commit_not_found, .. } = coverage;
        assert!(while_creating > 0, "no child was killed before the store existed");
        assert!(while_opening > 0, "no child was killed while opening a store");
        assert!(in_commit_found > 0, "no commit in flight was found");
        assert!(in_commit_not_found > 0, "every commit in flight was found");
        assert!(coverage.recovered_twice > 0, "no crashed store was left to the next child");
    }
}

/// Not a test: what the children run.
#[test]
#[ignore = "run by the other test in a process of its own"]
fn child() {
    let Some(path) = variable::<PathBuf>(CHILD_STORE) else { return };
    let seed = variable(CHILD_SEED).unwrap();
    let start: u64 = variable(CHILD_START).unwrap();
    say("opening");
    let store = Store::open(path).unwrap();
    let found = progress(&store.begin_read().unwrap());
    assert_eq!(found, start, "the store has changed since the parent looked at it");
    say("opened");
    let mut reader = None;
    for index in start.. {
        let plan = Plan::new(seed, index);
        let tx = store.begin_write().unwrap();
        let tx = plan.carry_out(tx, index);
        say(&format!("committing {index}"));
        tx.commit().unwrap();
        say(&format!("committed {index}"));
        // A snapshot that outlives some commits keeps slots from being reused, and files from being removed.
        if index % 8 == 0 {
            reader = Some(store.begin_read().unwrap());
        }
    }
    drop(reader);
}

/// One write call for each line: the parent sees whole lines or nothing of them. The mark tells them from the harness's own.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("@{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not understood")))
}

/// How the children died, and what became of what they were doing.
#[derive(Debug, Default)]
struct Coverage {
    /// Before the first opening of a store had returned…
    while_creating: u64,
    /// …and of those, with nothing to be opened left behind.
    not_created: u64,
    /// Before the opening of an existing store had returned.
    while_opening: u64,
    between_commits: u64,
    in_commit_found: u64,
    in_commit_not_found: u64,
    /// Rounds in which acknowledged commits of `Durability::None` were gone.
    not_durable_and_lost: u64,
    /// Stores that were not opened for writing between the deaths of two children.
    recovered_twice: u64,
    commits: u64,
}

/// A store, and the state that it was last seen in.
struct Subject {
    path: PathBuf,
    seed: u64,
    /// The first so many transactions are in the store.
    transactions: u64,
    /// An opening for writing has once returned.
    created: bool,
    /// Nobody has opened it for writing since the last child died.
    unrecovered: bool,
}

/// How the parent looks at what a child left.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// Opens the store as an app would.
    InPlace,
    /// Opens a copy; the next child finds the store as its predecessor left it.
    Copy,
    /// The same without a copy.
    ReadOnly,
}

impl Subject {
    fn new(parent: &Path, round: u64, rng: &mut StdRng) -> Self {
        let path = parent.join(format!("{round}.nestling"));
        Self { path, seed: rng.random(), transactions: 0, created: false, unrecovered: false }
    }

    fn round(&mut self, delay: Duration, rng: &mut StdRng, coverage: &mut Coverage) {
        let death = run_child(&self.path, self.seed, self.transactions, delay);
        let allowed = death.allowed(self.seed, self.transactions);
        let look = [Look::InPlace, Look::Copy, Look::ReadOnly][rng.random_range(0..3)];
        let context = format!("seed {}, {death:?}, allowed {allowed:?}, {look:?}", self.seed);

        let found = self.look(look, rng, &context);
        assert!(allowed.contains(&found), "{found} transactions were found; {context}");
        coverage.count(self, &death, found);
        self.transactions = found;
        self.created |= death.opened || matches!(look, Look::InPlace);
        self.unrecovered = !matches!(look, Look::InPlace);
    }

    /// Finds out how many transactions the store holds, and that it holds exactly those.
    fn look(&self, look: Look, rng: &mut StdRng, context: &str) -> u64 {
        match look {
            Look::InPlace => {
                let store = Store::open(&self.path).unwrap_or_else(|e| panic!("{e}; {context}"));
                let found = self.verify(&store, rng, context);
                store.close().unwrap_or_else(|e| panic!("{e}; {context}"));
                found
            }
            Look::Copy => {
                let copy = self.path.with_extension("copy");
                copy_directory(&self.path, &copy);
                let store = Store::open(&copy).unwrap_or_else(|e| panic!("{e}; {context}"));
                let found = self.verify(&store, rng, context);
                drop(store);
                fs::remove_dir_all(&copy).unwrap();
                found
            }
            Look::ReadOnly => {
                let before = contents(&self.path);
                let found = match Store::builder().read_only().open(&self.path) {
                    Ok(store) => self.verify(&store, rng, context),
                    Err(Error::StoreNotFound { .. }) if !self.created => 0,
                    Err(e) => panic!("{e}; {context}"),
                };
                assert!(before == contents(&self.path), "reading has changed the files; {context}");
                found
            }
        }
    }

    fn verify(&self, store: &Store, rng: &mut StdRng, context: &str) -> u64 {
        let snapshot = store.begin_read().unwrap();
        let found = progress(&snapshot);
        let model = Model::after(self.seed, found);
        if let Err(difference) = model.compare(&snapshot, rng) {
            panic!("after {found} transactions: {difference}; {context}");
        }
        let report = store.check().unwrap();
        assert!(report.is_clean(), "after {found} transactions: {:#?}; {context}", report.problems);
        found
    }
}

impl Coverage {
    fn count(&mut self, subject: &Subject, death: &Death, found: u64) {
        self.commits += death.committed.map_or(0, |last| last + 1 - subject.transactions);
        self.recovered_twice += u64::from(subject.unrecovered && subject.created);
        match (death.opened, subject.created) {
            (false, false) => {
                self.while_creating += 1;
                self.not_created += u64::from(!subject.path.join("store.redb").exists());
            }
            (false, true) => self.while_opening += 1,
            (true, _) => match death.committing {
                Some(index) if found == index + 1 => self.in_commit_found += 1,
                Some(_) => self.in_commit_not_found += 1,
                None => self.between_commits += 1,
            },
        }
        self.not_durable_and_lost += u64::from(death.committed.is_some_and(|last| found < last + 1));
    }
}

/// How far a child came.
#[derive(Debug, Default)]
struct Death {
    opened: bool,
    /// The last transaction that was acknowledged.
    committed: Option<u64>,
    /// The transaction whose commit had begun, and was not acknowledged.
    committing: Option<u64>,
}

impl Death {
    /// How many transactions the store may hold after this.
    fn allowed(&self, seed: u64, start: u64) -> RangeInclusive<u64> {
        let acknowledged = self.committed.map_or(start, |last| last + 1);
        let is_durable = |index: &u64| Plan::new(seed, *index).durability == Durability::Immediate;
        let durable = (start..acknowledged).rev().find(is_durable).map_or(start, |index| index + 1);
        durable..=self.committing.map_or(acknowledged, |index| index + 1)
    }
}

/// Lets a child work for a while, and kills it.
fn run_child(store: &Path, seed: u64, start: u64, delay: Duration) -> Death {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(CHILD_STORE, store)
        .env(CHILD_SEED, seed.to_string())
        .env(CHILD_START, start.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("@opening") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "the child ended before it had begun");
    }
    thread::sleep(delay);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(
        status.signal(),
        Some(9),
        "the child was to be killed, and ended with {status}; it said {rest}"
    );

    let mut death = Death::default();
    for line in rest.lines().filter_map(|line| line.strip_prefix('@')) {
        let index = |n: &str| Some(n.parse().unwrap());
        match line.split_once(' ') {
            None if line == "opened" => death.opened = true,
            Some(("committing", n)) => death.committing = index(n),
            Some(("committed", n)) => (death.committed, death.committing) = (index(n), None),
            _ => panic!("the child said {line:?}"),
        }
    }
    death
}

/// How long things take on this disk, so that deaths fall into all of them.
#[derive(Debug)]
struct Pace {
    creation: Duration,
    opening: Duration,
    commit: Duration,
}

impl Pace {
    fn measure(path: &Path) -> Self {
        const COMMITS: u32 = 8;
        let timed = |work: &mut dyn FnMut()| {
            let start = Instant::now();
            work();
            start.elapsed()
        };
        let creation = timed(&mut || drop(Store::open(path).unwrap()));
        let mut store = None;
        let opening = timed(&mut || store = Some(Store::open(path).unwrap()));
        let store = store.unwrap();
        let commits = timed(&mut || {
            for index in 0..u64::from(COMMITS) {
                Plan::new(0, index).carry_out(store.begin_write().unwrap(), index).commit().unwrap();
            }
        });
        Self { creation, opening, commit: commits / COMMITS }
    }

    /// When the next child dies: early more often than late.
    fn delay(&self, subject: &Subject, rng: &mut StdRng) -> Duration {
        let opening = if subject.created { self.opening } else { self.creation };
        let longest = match rng.random_range(0..4) {
            0 => opening,
            1 => opening + self.commit * 4,
            _ => opening + self.commit * 24,
        };
        longest.mul_f64(rng.random())
    }
}

const COLLECTIONS: [CollectionDefinition; 2] = [
    CollectionDefinition::new("passages", 24, Metric::Cosine).m(4),
    CollectionDefinition::new("photos", 7, Metric::L2),
];
/// Holds, for each collection, the bytes of its vectors.
const MIRRORS: [TableDefinition<u64, &[u8]>; 2] =
    [TableDefinition::new("mirror of passages"), TableDefinition::new("mirror of photos")];
/// How many transactions were committed.
const PROGRESS: TableDefinition<(), u64> = TableDefinition::new("progress");
/// Values large enough to make redb's file grow.
const BALLAST: TableDefinition<u64, &[u8]> = TableDefinition::new("ballast");
const KEYS: u64 = 400;

fn progress(snapshot: &ReadTransaction) -> u64 {
    if snapshot.list_tables().unwrap().is_empty() {
        return 0;
    }
    snapshot.open_table(PROGRESS).unwrap().get(()).unwrap().unwrap().value()
}

/// What a transaction does.
struct Plan {
    durability: Durability,
    changes: Vec<Change>,
}

/// Collections are named by their place in [`COLLECTIONS`].
enum Change {
    Insert(usize, u64, Vec<f32>),
    InsertMany(usize, Vec<(u64, Vec<f32>)>),
    Remove(usize, u64),
    Drop(usize),
    Ballast(u64, Vec<u8>),
}

impl Plan {
    fn new(seed: u64, index: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let durability = if rng.random_ratio(1, 3) { Durability::None } else { Durability::Immediate };
        let count = rng.random_range(1..=8);
        Self { durability, changes: (0..count).map(|_| Change::random(&mut rng)).collect() }
    }

    fn carry_out(&self, mut tx: WriteTransaction, index: u64) -> WriteTransaction {
        tx.set_durability(self.durability);
        for change in &self.changes {
            change.carry_out(&tx);
        }
        tx.open_table(PROGRESS).unwrap().insert((), index + 1).unwrap();
        tx
    }
}

impl Change {
    fn random(rng: &mut StdRng) -> Self {
        let collection = rng.random_range(0..COLLECTIONS.len());
        let entry = |rng: &mut StdRng| {
            let dimension = [24, 7][collection];
            (rng.random_range(0..KEYS), (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect())
        };
        match rng.random_range(0..100) {
            0..40 => {
                let (key, vector) = entry(rng);
                Change::Insert(collection, key, vector)
            }
            40..55 => {
                let count = rng.random_range(0..60);
                Change::InsertMany(collection, (0..count).map(|_| entry(rng)).collect())
            }
            55..95 => Change::Remove(collection, rng.random_range(0..KEYS)),
            95..97 => Change::Drop(collection),
            _ => {
                let len = rng.random_range(0..200_000);
                Change::Ballast(rng.random_range(0..8), vec![rng.random(); len])
            }
        }
    }

    fn carry_out(&self, tx: &WriteTransaction) {
        match self {
            Change::Insert(collection, key, vector) => {
                tx.open_collection(COLLECTIONS[*collection]).unwrap().insert(*key, vector).unwrap();
                let mut mirror = tx.open_table(MIRRORS[*collection]).unwrap();
                mirror.insert(key, bytes(vector).as_slice()).unwrap();
            }
            Change::InsertMany(collection, entries) => {
                let mut vectors = tx.open_collection(COLLECTIONS[*collection]).unwrap();
                vectors.insert_many(entries.iter().map(|(key, vector)| (*key, vector))).unwrap();
                let mut mirror = tx.open_table(MIRRORS[*collection]).unwrap();
                for (key, vector) in entries {
                    mirror.insert(key, bytes(vector).as_slice()).unwrap();
                }
            }
            Change::Remove(collection, key) => {
                tx.open_collection(COLLECTIONS[*collection]).unwrap().remove(*key).unwrap();
                tx.open_table(MIRRORS[*collection]).unwrap().remove(key).unwrap();
            }
            Change::Drop(collection) => {
                tx.drop_collection(COLLECTIONS[*collection].name()).unwrap();
                tx.delete_table(MIRRORS[*collection]).unwrap();
            }
            Change::Ballast(key, value) => {
                tx.open_table(BALLAST).unwrap().insert(key, value.as_slice()).unwrap();
            }
        }
    }
}

fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// What a store must hold.
#[derive(Default)]
struct Model {
    /// `None` where the collection does not exist.
    collections: [Option<BTreeMap<u64, Vec<u8>>>; 2],
    ballast: Option<BTreeMap<u64, Vec<u8>>>,
}

impl Model {
    fn after(seed: u64, transactions: u64) -> Self {
        let mut model = Self::default();
        for change in (0..transactions).flat_map(|index| Plan::new(seed, index).changes) {
            model.carry_out(change);
        }
        model
    }

    fn carry_out(&mut self, change: Change) {
        match change {
            Change::Insert(collection, key, vector) => {
                self.collection(collection).insert(key, bytes(&vector));
            }
            Change::InsertMany(collection, entries) => {
                let entries = entries.into_iter().map(|(key, vector)| (key, bytes(&vector)));
                self.collection(collection).extend(entries);
            }
            Change::Remove(collection, key) => {
                self.collection(collection).remove(&key);
            }
            Change::Drop(collection) => self.collections[collection] = None,
            Change::Ballast(key, value) => {
                self.ballast.get_or_insert_default().insert(key, value);
            }
        }
    }

    fn collection(&mut self, collection: usize) -> &mut BTreeMap<u64, Vec<u8>> {
        self.collections[collection].get_or_insert_default()
    }

    /// Says how a snapshot differs.
    fn compare(&self, snapshot: &ReadTransaction, rng: &mut StdRng) -> Result<(), String> {
        let existing = snapshot.list_collections();
        let existing: BTreeSet<&str> = existing.iter().map(String::as_str).collect();
        for ((definition, mirror), expected) in COLLECTIONS.iter().zip(MIRRORS).zip(&self.collections) {
            let name = definition.name();
            match expected {
                None if existing.contains(name) => return Err(format!("{name:?} was dropped, and exists")),
                None => {}
                Some(_) if !existing.contains(name) => return Err(format!("{name:?} is missing")),
                Some(expected) => {
                    compare_table(name, snapshot, mirror, expected)?;
                    compare_collection(snapshot, definition, expected, rng)?;
                }
            }
        }
        match &self.ballast {
            Some(expected) => compare_table("ballast", snapshot, BALLAST, expected),
            None => Ok(()),
        }
    }
}

fn compare_table(
    name: &str,
    snapshot: &ReadTransaction,
    definition: TableDefinition<u64, &[u8]>,
    expected: &BTreeMap<u64, Vec<u8>>,
) -> Result<(), String> {
    let table = snapshot.open_table(definition).map_err(|e| format!("the table for {name}: {e}"))?;
    let found: BTreeMap<u64, Vec<u8>> = table
        .iter()
        .unwrap()
        .map(Result::unwrap)
        .map(|(key, value)| (key.value(), value.value().to_vec()))
        .collect();
    same(&format!("the table for {name}"), expected, &found)
}

/// The stored vectors, bit for bit, and that searches find some of them.
fn compare_collection(
    snapshot: &ReadTransaction,
    definition: &CollectionDefinition,
    expected: &BTreeMap<u64, Vec<u8>>,
    rng: &mut StdRng,
) -> Result<(), String> {
    let collection = snapshot.open_collection(*definition).map_err(|e| e.to_string())?;
    let found: BTreeMap<u64, Vec<u8>> = collection
        .iter()
        .map_err(|e| e.to_string())?
        .map(|entry| entry.map(|(key, vector)| (key, bytes(&vector))))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    same(definition.name(), expected, &found)?;
    for _ in 0..8.min(expected.len()) {
        let key = *expected.keys().nth(rng.random_range(0..expected.len())).unwrap();
        let hits = collection.query_key(key).k(10).ef(KEYS as usize).run().map_err(|e| e.to_string())?;
        if hits.len() != 10.min(expected.len()) || hits.first().is_none_or(|hit| hit.key != key) {
            return Err(format!(
                "{}: a search for the vector of key {key} finds {hits:?}",
                definition.name()
            ));
        }
    }
    Ok(())
}

fn same(what: &str, expected: &BTreeMap<u64, Vec<u8>>, found: &BTreeMap<u64, Vec<u8>>) -> Result<(), String> {
    let keys = expected.keys().chain(found.keys());
    match keys.filter(|key| expected.get(key) != found.get(key)).min() {
        None => Ok(()),
        Some(key) => Err(format!("{what}, key {key}: {:?} != {:?}", expected.get(key), found.get(key))),
    }
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for (name, bytes) in contents(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

/// The files of a directory; none where there is no directory.
fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(path) else { return BTreeMap::new() };
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        })
        .collect()
}

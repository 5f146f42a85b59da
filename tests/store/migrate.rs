//! `examples/migrate`: an app's update moves its users' index files into stores, and loses nothing.
//!
//! It runs once on each of many machines, where nobody looks: on files that were damaged years ago, on phones that end the app in the middle,
//! before users who went back to the old version in between. And at its end it deletes what it has read. The example's own code runs here on
//! files that the real libraries have written (`tests/data/make_peers.py`), and dies at any of its operations on files.
//!
//! `NESTLING_MIGRATE_SEED=… cargo test --test store migrate::` replays a failure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, io};

use nestling::{CollectionDefinition, Error, Metric, Observer, Operation, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tempfile::TempDir;

use migration::{Migration, MigrationError, Outcome, Report, TITLES};
use old_index::{Format, ReadError};

#[path = "../../examples/migrate/hnswlib.rs"]
mod hnswlib;
#[path = "../../examples/migrate/migration.rs"]
mod migration;
#[path = "../../examples/migrate/old_index.rs"]
mod old_index;
#[path = "../../examples/migrate/usearch.rs"]
mod usearch;

const SEED: &str = "NESTLING_MIGRATE_SEED";
const KILLED_IN: &str = "NESTLING_MIGRATE_KILLED_IN";
const KILLED_AT: &str = "NESTLING_MIGRATE_KILLED_AT";

/// As in `make_peers.py`.
const KEYS: [u64; 50] = {
    let mut keys = [(1 << 40) + 7; 50];
    let mut row = 0;
    while row < 49 {
        keys[row] = row as u64 * 37 % 211 + 1000;
        row += 1;
    }
    keys
};
/// A title of a note that was never embedded.
const NOT_EMBEDDED: u64 = 5;
/// A note whose vector is still in the indexes, and its title gone: the first row's.
const GONE: u64 = 1000;

/// With the vectors, keys and answers that the libraries give; a second start does nothing.
#[test]
fn notes_are_what_the_old_library_held() {
    let peers: Value = serde_json::from_slice(&fs::read(data("peers.json")).unwrap()).unwrap();
    for (file, metric) in [
        ("hnswlib-l2.bin", Metric::L2),
        ("hnswlib-cosine.bin", Metric::Cosine),
        ("hnswlib-ip.bin", Metric::Dot),
        ("usearch-f32.usearch", Metric::Cosine),
        ("usearch-f16.usearch", Metric::L2),
        ("usearch-bf16.usearch", Metric::Dot),
    ] {
        let app = App::with(file, metric);
        let mut steps = Vec::new();
        let outcome = app.start(|done, all| steps.push((done, all))).unwrap();
        // Of 50 vectors 3 were deleted and one has no title; the titles of those 3 are still there.
        let report = Report { notes: 46, without_vector: 4, without_title: 1 };
        assert_eq!(outcome, Outcome::Migrated(report), "{file}");
        assert_eq!(steps, [(20, 47), (40, 47), (47, 47)], "{file}");
        assert!(!app.index.exists() && !app.titles.exists(), "{file}: what is in the store is deleted");

        let answer = &peers["answers"][file];
        let stored = answer["stored"].as_object().unwrap();
        let (vectors, titles) = app.contents();
        let kept = stored.iter().filter(|(key, _)| **key != GONE.to_string());
        assert_eq!(vectors.len(), kept.clone().count());
        for (key, expected) in kept {
            for (found, expected) in vectors[&key.parse().unwrap()].iter().zip(expected.as_array().unwrap()) {
                assert_eq!(*found, expected.as_f64().unwrap() as f32, "{file}, key {key}");
            }
        }
        let expected = KEYS.iter().filter(|&&key| key != GONE).chain([&NOT_EMBEDDED]);
        assert_eq!(titles, expected.map(|&key| (key, title(key))).collect());

        let store = app.open();
        let notes = store.begin_read().unwrap().open_collection(app.collection()).unwrap();
        for (query, expected) in
            peers["queries"].as_array().unwrap().iter().zip(answer["keys"].as_array().unwrap())
        {
            let query: Vec<f32> =
                query.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
            let expected: Vec<u64> = expected
                .as_array()
                .unwrap()
                .iter()
                .map(|key| key.as_u64().unwrap())
                .filter(|&key| key != GONE)
                .collect();
            let found = notes.query(&query).k(expected.len()).ef(50).run().unwrap();
            assert!(
                found.iter().map(|hit| hit.key).eq(expected.iter().copied()),
                "{file}: {found:?}, {expected:?}"
            );
        }
        drop((notes, store));
        assert_eq!(app.start(|_, _| panic!("{file} is stored twice")).unwrap(), Outcome::NothingToDo);
        assert_eq!(app.contents(), (vectors, titles), "{file}, after the second start");
    }
}

/// A process that ends at any of its operations on the store's files: the next start goes on where it was, and comes to the same end.
#[test]
fn an_interrupted_migration_goes_on() {
    let seed = env::var(SEED).map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("{SEED}={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let whole = App::with("hnswlib-l2.bin", Metric::L2);
    let operations = whole.start_and_die(u64::MAX);
    assert!(operations > 60, "only {operations} operations on files, so little is tested");

    let mut gone_on_from = BTreeMap::new();
    for round in 0..40 {
        let at = (round * operations + rng.random_range(0..operations)) / 40;
        let app = App::with("hnswlib-l2.bin", Metric::L2);
        let output = Command::new(env::current_exe().unwrap())
            .args(["migrate::killed_child", "--exact", "--ignored", "--nocapture"])
            .envs([(KILLED_IN, app.path.as_os_str()), (KILLED_AT, at.to_string().as_ref())])
            .output()
            .unwrap();
        let screen = String::from_utf8_lossy(&output.stdout);
        assert!(screen.contains("started") && !screen.contains("ended"), "killed at {at}: {output:?}");
        assert!(
            app.index.exists() && app.titles.exists(),
            "killed at {at}: nothing is deleted before the end"
        );

        let stored = app.contents().0.len();
        let mut first = None;
        let outcome = app.start(|done, _| first = first.or(Some(done))).unwrap();
        // The first vector is the one without a title.
        let expected = BTreeMap::from([(0, Some(20)), (19, Some(40)), (39, Some(47)), (46, None)])[&stored];
        assert_eq!(first, expected, "killed at {at} with {stored} vectors stored: where it goes on");
        assert!(
            outcome != Outcome::LeftAlone && !app.index.exists() && !app.titles.exists(),
            "killed at {at}"
        );
        assert_eq!(app.contents(), whole.contents(), "killed at {at}");
        let report = app.open().check().unwrap();
        assert!(report.is_clean(), "killed at {at}: {:#?}", report.problems);
        *gone_on_from.entry(stored).or_insert(0) += 1;
    }
    println!(
        "{operations} operations; vectors stored when the process died, and how often: {gone_on_from:?}"
    );
    assert_eq!(gone_on_from.len(), 4, "not every stage was interrupted");
}

/// Not a test: what is killed.
#[test]
#[ignore = "run by the other test in a process of its own"]
fn killed_child() {
    let Some(directory) = env::var_os(KILLED_IN) else { return };
    let at = env::var(KILLED_AT).unwrap().parse().unwrap();
    println!("started");
    App::at(PathBuf::from(directory), Format::Hnswlib, Metric::L2).start_and_die(at);
    println!("ended");
}

/// The old files of a migration that has ended are deleted, if it was not done; they bring nothing back that was changed since.
#[test]
fn what_was_migrated_is_not_read_again() {
    let app = App::with("hnswlib-l2.bin", Metric::L2);
    let modified = fs::metadata(&app.index).unwrap().modified().unwrap();
    let index = fs::read(&app.index).unwrap();
    app.start(|_, _| {}).unwrap();
    let store = app.open();
    let tx = store.begin_write().unwrap();
    tx.open_collection(app.collection()).unwrap().remove(1037).unwrap();
    tx.open_table(TITLES).unwrap().remove(1037).unwrap();
    tx.commit().unwrap();
    drop(store);
    let changed = app.contents();

    // As after a death between the end and the deletion of the index.
    fs::write(&app.index, &index).unwrap();
    fs::File::options().write(true).open(&app.index).unwrap().set_modified(modified).unwrap();
    assert_eq!(app.start(|_, _| panic!("stored again")).unwrap(), Outcome::NothingToDo);
    assert!(!app.index.exists());
    assert_eq!(app.contents(), changed);

    // The old version has been at work once more, with other notes.
    fs::copy(data("hnswlib-ip.bin"), &app.index).unwrap();
    assert_eq!(app.start(|_, _| panic!("stored over newer notes")).unwrap(), Outcome::LeftAlone);
    assert!(app.index.exists(), "what is in no store is not deleted");
    assert_eq!(app.contents(), changed);
}

/// Notes of the new version, in a store that never had a migration, are not mixed with those of an old file that turns up.
#[test]
fn a_file_that_turns_up_later_is_left_alone() {
    let app = App::with("hnswlib-l2.bin", Metric::L2);
    let store = app.open();
    let tx = store.begin_write().unwrap();
    tx.open_collection(app.collection()).unwrap().insert(1, &[1.0; 16]).unwrap();
    tx.commit().unwrap();
    drop(store);
    assert_eq!(app.start(|_, _| panic!("stored among newer notes")).unwrap(), Outcome::LeftAlone);
    assert!(app.index.exists() && app.titles.exists());
    assert_eq!(app.contents().0.len(), 1);
}

/// Half of one file and half of another would be notes that nobody ever had.
#[test]
fn a_file_that_changed_in_the_middle_is_read_from_its_beginning() {
    let app = App::with("hnswlib-l2.bin", Metric::L2);
    let store = app.open();
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        app.migration().run(&store, |done, _| assert!(done < 40, "stops here"))
    }));
    assert!(stopped.is_err());
    drop(store);
    assert_eq!(app.contents().0.len(), 39);

    fs::copy(data("hnswlib-cosine.bin"), &app.index).unwrap();
    let later = fs::metadata(&app.titles).unwrap().modified().unwrap() + std::time::Duration::from_secs(5);
    fs::File::options().write(true).open(&app.index).unwrap().set_modified(later).unwrap();
    let mut steps = Vec::new();
    app.start(|done, _| steps.push(done)).unwrap();
    assert_eq!(steps, [20, 40, 47]);
    let other = App::with("hnswlib-cosine.bin", Metric::L2);
    other.start(|_, _| {}).unwrap();
    assert_eq!(app.contents(), other.contents());
}

/// Cut off in the header or at every seventh byte, or with a byte more: an error before anything is stored, and the files stay.
#[test]
fn a_file_cut_off_anywhere_is_refused() {
    for file in ["hnswlib-l2.bin", "usearch-f16.usearch"] {
        let app = App::with(file, Metric::L2);
        let whole = fs::read(&app.index).unwrap();
        let store = app.open();
        let longer = [&whole[..], &[0]].concat();
        for bytes in
            (0..200).chain((200..whole.len()).step_by(7)).map(|end| &whole[..end]).chain([&longer[..]])
        {
            fs::write(&app.index, bytes).unwrap();
            let refused =
                app.migration().run(&store, |_, _| panic!("{file}: {} bytes were stored", bytes.len()));
            assert!(
                matches!(refused, Err(MigrationError::Index(ReadError::Truncated | ReadError::Malformed(_)))),
                "{file}, {} of {} bytes: {refused:?}",
                bytes.len(),
                whole.len()
            );
            assert!(app.index.exists() && app.titles.exists());
        }
        drop(store);
        fs::write(&app.index, &whole).unwrap();
        assert!(matches!(app.start(|_, _| {}).unwrap(), Outcome::Migrated(_)), "{file}: whole again");
    }
}

/// With any byte of what is not vectors or links flipped: refused, or read as what it says now, with all sizes as they were.
#[test]
fn a_flipped_byte_does_no_harm() {
    for file in ["hnswlib-l2.bin", "usearch-f16.usearch"] {
        let app = App::with(file, Metric::L2);
        let bytes = fs::read(&app.index).unwrap();
        let head = bytes.windows(7).position(|window| window == b"usearch").unwrap_or(0);
        let mut refused = 0;
        for at in (0..96).chain(head..bytes.len().min(head + 400)).chain((0..bytes.len()).step_by(97)) {
            for mask in [0xff, 1, 0x80] {
                let mut flipped = bytes.clone();
                flipped[at] ^= mask;
                fs::write(&app.index, &flipped).unwrap();
                let entries: Result<Vec<_>, ReadError> =
                    app.format.read(&app.index, 16).and_then(|entries| entries.collect());
                match entries {
                    Ok(entries) => {
                        assert!(entries.len() <= 50 && entries.iter().all(|(_, vector)| vector.len() == 16))
                    }
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > 100, "{file}: only {refused} were refused");
    }
}

/// What cannot be read or is refused by the store is told by its type, and everything stays for the app to decide.
#[test]
fn errors_are_told_by_type_and_keep_the_files() {
    for file in ["usearch-f64.usearch", "usearch-i8.usearch"] {
        let app = App::with(file, Metric::L2);
        app.refuses(
            |e| matches!(e, MigrationError::Index(ReadError::Malformed(what)) if what.contains("components")),
        );
    }
    for (file, other) in [("hnswlib-l2.bin", Format::Usearch), ("usearch-f32.usearch", Format::Hnswlib)] {
        let app = App { format: other, ..App::with(file, Metric::L2) };
        app.refuses(|e| matches!(e, MigrationError::Index(_)));
    }

    let app = App::with("hnswlib-l2.bin", Metric::L2);
    let bytes = fs::read(&app.index).unwrap();
    // Of the entries, which begin at 96 and have 4 neighbors, 8 with 2 · M: the second's vector and label.
    let (second, vector, label) = (96 + 108, 36, 100);
    let with = |at: usize, new: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        fs::write(&app.index, bytes).unwrap();
    };
    with(second + label, &1000_u64.to_le_bytes());
    app.refuses(|e| matches!(e, MigrationError::RepeatedLabel(1000)));
    with(second + vector, &f32::NAN.to_le_bytes());
    app.refuses(|e| matches!(e, MigrationError::Store(Error::InvalidVector { .. })));
    fs::write(&app.index, &bytes).unwrap();
    fs::write(&app.titles, "1000\tone\n\n1037 two\n").unwrap();
    app.refuses(|e| matches!(e, MigrationError::Titles { line: 3, .. }));
    fs::remove_file(&app.titles).unwrap();
    let refused = app.start(|_, _| {});
    assert!(
        matches!(&refused, Err(MigrationError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound)
    );
}

/// An app's directory, with the files of its old version.
struct App {
    path: PathBuf,
    index: PathBuf,
    titles: PathBuf,
    format: Format,
    metric: Metric,
    _directory: Option<TempDir>,
}

impl App {
    fn at(path: PathBuf, format: Format, metric: Metric) -> Self {
        let [index, titles] = ["notes.index", "titles.tsv"].map(|name| path.join(name));
        Self { path, index, titles, format, metric, _directory: None }
    }

    /// With an index from `tests/data`, and titles for all keys that it ever had, for one more, and without one of them.
    fn with(file: &str, metric: Metric) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let format = if file.starts_with("hnswlib") { Format::Hnswlib } else { Format::Usearch };
        let app = Self::at(directory.path().to_owned(), format, metric);
        fs::copy(data(file), &app.index).unwrap();
        let keys = KEYS.iter().filter(|&&key| key != GONE).chain([&NOT_EMBEDDED]);
        fs::write(&app.titles, keys.map(|&key| format!("{key}\t{}\n", title(key))).collect::<String>())
            .unwrap();
        Self { _directory: Some(directory), ..app }
    }

    fn collection(&self) -> CollectionDefinition<'static> {
        CollectionDefinition::new("notes", 16, self.metric)
    }

    fn migration(&self) -> Migration<'static> {
        Migration {
            index: self.index.clone(),
            format: self.format,
            titles: self.titles.clone(),
            collection: self.collection(),
            batch: 20,
        }
    }

    fn open(&self) -> Store {
        self.create(Store::open(self.path.join("app.nestling")).unwrap())
    }

    fn create(&self, store: Store) -> Store {
        let tx = store.begin_write().unwrap();
        tx.open_collection(self.collection()).unwrap();
        tx.open_table(TITLES).unwrap();
        tx.commit().unwrap();
        store
    }

    /// What the app does at every start.
    fn start(&self, progress: impl FnMut(u64, u64)) -> Result<Outcome, MigrationError> {
        self.migration().run(&self.open(), progress)
    }

    /// The same, but the process ends before one of the operations on the store's files. Tells how many there were.
    fn start_and_die(&self, at: u64) -> u64 {
        let death = Arc::new(Death { at, operations: AtomicU64::new(0) });
        let store = Store::builder().observer(death.clone()).open(self.path.join("app.nestling")).unwrap();
        let store = self.create(store);
        self.migration().run(&store, |_, _| {}).unwrap();
        death.operations.load(Ordering::Relaxed)
    }

    /// The store's vectors and titles.
    fn contents(&self) -> (BTreeMap<u64, Vec<f32>>, BTreeMap<u64, String>) {
        let tx = self.open().begin_read().unwrap();
        let (notes, titles) =
            (tx.open_collection(self.collection()).unwrap(), tx.open_table(TITLES).unwrap());
        let vectors =
            notes.iter().unwrap().map(Result::unwrap).map(|(key, vector)| (key, vector.into_owned()));
        let titles = titles.iter().unwrap().map(Result::unwrap);
        (vectors.collect(), titles.map(|(key, title)| (key.value(), title.value().to_owned())).collect())
    }

    fn refuses(&self, is_expected: impl Fn(&MigrationError) -> bool) {
        let error = self.start(|_, _| {}).unwrap_err();
        assert!(is_expected(&error), "{error:?}");
        assert!(self.index.exists() && self.titles.exists(), "{error}");
        assert!(self.contents().0.is_empty(), "{error}");
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn title(key: u64) -> String {
    format!("note {key}, and\ta tab")
}

/// Ends the process before an operation.
#[derive(Debug)]
struct Death {
    at: u64,
    operations: AtomicU64,
}

impl Observer for Death {
    fn before(&self, _: Operation<'_>) -> io::Result<()> {
        if self.operations.fetch_add(1, Ordering::Relaxed) == self.at {
            std::process::abort();
        }
        Ok(())
    }
}

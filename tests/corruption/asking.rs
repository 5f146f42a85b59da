//! What is asked of a store, and what is right to answer.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use nestling::{Codes, Collection, CollectionDefinition, Error, Hit, Metric, Store, VectorAccess, redb};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

pub const DIMENSION: usize = 8;
/// A small m, so that the graph has edges in one direction only, and several layers.
pub const POINTS: CollectionDefinition =
    CollectionDefinition::new("points", DIMENSION, Metric::L2).m(4).ef_construction(40);

thread_local! {
    /// What is being done, for the story of a panic.
    static STAGE: Cell<&'static str> = const { Cell::new("") };
}

pub fn stage(what: &'static str) {
    STAGE.set(what);
}

pub fn last_stage() -> &'static str {
    STAGE.get()
}

/// A store, and the answers it gives undamaged.
pub struct Fixture {
    _dir: TempDir,
    pub path: PathBuf,
    pub queries: Vec<Vec<f32>>,
    pub expected: Answers,
    /// All that a key has ever held.
    pub history: BTreeMap<u64, Vec<Vec<f32>>>,
}

/// Everything that is asked of a collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    pub len: u64,
    pub vectors: BTreeMap<u64, Option<Vec<f32>>>,
    pub all: Vec<(u64, Vec<f32>)>,
    pub exact: Vec<Vec<Hit>>,
    pub walked: Vec<Vec<Hit>>,
    pub everything: Vec<Hit>,
}

/// What came of asking.
#[derive(Debug, Default)]
pub struct Outcome {
    pub right: usize,
    pub refused: usize,
    pub wrong: Vec<String>,
    /// redb has read past the end of its file. It allocates what a damaged page number says, up to gigabytes, before it finds out:
    /// once is enough.
    pub lost_its_way: bool,
    /// Whether opening was refused, or `check` found something.
    pub reported: bool,
}

impl Outcome {
    pub fn open(&mut self, path: &Path) -> Option<Store> {
        self.open_with(path, VectorAccess::Map)
    }

    fn open_with(&mut self, path: &Path, access: VectorAccess) -> Option<Store> {
        stage("opening");
        match Store::builder().read_only().vector_access(access).open(path) {
            Ok(store) => Some(store),
            Err(e) => {
                // A flipped version looks like a newer one, a table of another name like another app's, a directory without its files
                // like one that is yet to become a store.
                let elsewhere = matches!(e, Error::UnsupportedFormat { .. } | Error::NotAStore { .. });
                if !elsewhere && !matches!(e, Error::StoreNotFound { .. }) {
                    self.refuse("opening", &e);
                }
                self.reported = true;
                None
            }
        }
    }

    pub fn check(&mut self, store: &Store) {
        match store.check() {
            Ok(report) => self.reported = !report.is_clean(),
            Err(e) => {
                self.refuse("check", &e);
                self.reported = true;
            }
        }
    }

    pub fn note<T: PartialEq + Debug>(&mut self, what: &str, expected: &T, found: Result<T, Error>) {
        match found {
            Ok(found) if found == *expected => self.right += 1,
            Ok(found) => self.wrong.push(format!("{what}: {found:?} instead of {expected:?}")),
            Err(e) => self.refuse(what, &e),
        }
    }

    pub fn refuse(&mut self, what: &str, error: &Error) {
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
    /// Of a writer: it may also say that a transaction is lost, or that the store takes no more.
    pub fn refuse_to_write(&mut self, what: &str, error: &Error) {
        match error {
            Error::TransactionFailed
            | Error::Poisoned
            | Error::CommitAborted { .. }
            | Error::CommitOutcomeUnknown { .. }
            | Error::UnsupportedFormat { .. }
            | Error::NotAStore { .. } => self.refused += 1,
            error => self.refuse(what, error),
        }
    }

    pub fn assert_noticed(&self, what: &str) {
        self.assert_not_wrong(what);
        assert!(self.reported, "{what}: check() found nothing ({} refused)", self.refused);
    }

    pub fn assert_unnoticed(&self, what: &str) {
        self.assert_not_wrong(what);
        assert!(self.refused == 0 && !self.reported, "{what}: {self:?}");
    }

    fn assert_not_wrong(&self, what: &str) {
        assert!(self.wrong.is_empty(), "{what}: wrong answers: {:#?}", self.wrong);
    }
}

impl Fixture {
    /// About a hundred vectors.
    pub fn new(seed: u64) -> Self {
        Self::with_vectors(100, seed)
    }

    /// Vectors written by several commits, with free slots and slots that were used twice. All commits but the first are in the
    /// journal.
    pub fn with_vectors(n: u64, seed: u64) -> Self {
        let later: [(&[u64], &[u64]); 3] =
            [(&[3, 50, 99, 20, 21, 22], &[]), (&[], &[7, 8, 60, 101, 102]), (&[0, 1], &[9])];
        Self::made_by(POINTS, n, seed, &later)
    }

    /// About a hundred vectors in a collection without codes.
    pub fn without_codes(seed: u64) -> Self {
        Self::made_by(POINTS.codes(Codes::None), 100, seed, &[(&[3, 50, 99], &[7, 101]), (&[0], &[9])])
    }

    /// About a hundred vectors, of which all rows are in the tables: a new collection's go there.
    pub fn in_tables(seed: u64) -> Self {
        Self::made_by(POINTS, 100, seed, &[])
    }

    /// `n` vectors, and some more and fewer in the same transaction; then what later ones removed and inserted.
    fn made_by(definition: CollectionDefinition<'_>, n: u64, seed: u64, later: &[(&[u64], &[u64])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut stored, mut history) = (BTreeMap::new(), BTreeMap::<u64, Vec<_>>::new());
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
                    history.entry(key).or_default().push(vector.clone());
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
        Self { _dir: dir, path, queries, expected, history }
    }

    pub fn segment(&self) -> PathBuf {
        self.path.join("00000000.vectors")
    }

    pub fn store_redb(&self) -> PathBuf {
        self.path.join("store.redb")
    }

    /// Opens the store and asks for everything.
    pub fn ask(&self) -> Outcome {
        self.ask_with(VectorAccess::Map)
    }

    pub fn ask_with(&self, access: VectorAccess) -> Outcome {
        self.ask_at(&self.path, access)
    }

    /// Asks a store elsewhere, which is to give the same answers.
    pub fn ask_at(&self, path: &Path, access: VectorAccess) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(store) = outcome.open_with(path, access) else { return outcome };
        stage("reading");
        match store.begin_read().unwrap().open_collection(POINTS) {
            Ok(points) => self.ask_collection(&points, &mut outcome),
            Err(e) => outcome.refuse("opening the collection", &e),
        }
        stage("checking");
        outcome.check(&store);
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

pub fn point(rng: &mut StdRng) -> Vec<f32> {
    (0..DIMENSION).map(|_| rng.random_range(-1.0..1.0)).collect()
}

pub fn get(points: &Collection, key: u64) -> Result<Option<Vec<f32>>, Error> {
    Ok(points.get(key)?.map(|vector| vector.into_owned()))
}

pub fn all(points: &Collection) -> Result<Vec<(u64, Vec<f32>)>, Error> {
    points.iter()?.map(|entry| entry.map(|(key, vector)| (key, vector.into_owned()))).collect()
}

pub fn walk(points: &Collection, query: &[f32]) -> Result<Vec<Hit>, Error> {
    Ok(points.query(query).k(10).ef(16).run()?.into_vec())
}

pub fn exact(points: &Collection, query: &[f32]) -> Result<Vec<Hit>, Error> {
    Ok(points.query(query).k(10).exact().run()?.into_vec())
}

pub fn everything(points: &Collection, query: &[f32]) -> Result<Vec<Hit>, Error> {
    Ok(points.query(query).k(1000).ef(1000).run()?.into_vec())
}

impl Answers {
    /// The answers of a store without damage, with those about keys below `keys`, of which not all are there.
    pub fn of(path: &Path, keys: u64, queries: &[Vec<f32>]) -> Self {
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

pub fn squared_l2(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum()
}

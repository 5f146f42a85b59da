//! What still verifies of a damaged store is saved, all of it and nothing else.
//!
//! A store that has lived, with replaced and removed vectors and commits that only the journal has, is damaged in 100 ways: bytes of
//! its files are flipped, ranges zeroed, files cut, removed, exchanged with another store's. Each time `repair` makes a new store of it,
//! which is flawless, and does not change a byte of the damaged one.
//!
//! - As long as `store.redb` is whole, exactly those vectors are there whose bytes are what they were. The others are named.
//! - Without `store.redb`, all of those are there whose bytes, code and file header are what they were, in collections with made-up
//!   names. What had been removed may be there as well. (Keys and stamps are not vouched for there: where one was changed, its key is left
//!   out of account.)
//! - With a damaged `store.redb`, whatever the damaged store would still answer with is there; the app's tables are there unharmed, or
//!   not at all, and the report tells.

use std::collections::{BTreeMap, BTreeSet};
use std::panic;
use std::path::Path;
use std::sync::{Mutex, Once};

use nestling::redb::TableDefinition;
use nestling::{Codes, CollectionDefinition, Error, Metric, Parameters, Repair, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const SEED: u64 = 20_261_123;
const NOTES: CollectionDefinition =
    CollectionDefinition::new("notes", 100, Metric::Cosine).m(4).ef_construction(12);
const PHOTOS: CollectionDefinition =
    CollectionDefinition::new("photos", 400, Metric::L2).m(4).ef_construction(12).codes(Codes::None);
const TITLES: TableDefinition<u64, &str> = TableDefinition::new("titles");

type Files = BTreeMap<String, Vec<u8>>;
type Vectors = BTreeMap<u64, Vec<f32>>;

/// A store's files, what is in it, and every vector that a key ever had.
struct Original {
    files: Files,
    live: BTreeMap<&'static str, Vectors>,
    history: BTreeMap<&'static str, BTreeMap<u64, Vec<Vec<f32>>>>,
    titles: BTreeMap<u64, String>,
}

impl Original {
    fn new(seed: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("app.nestling");
        let mut original = Self {
            files: Files::new(),
            live: BTreeMap::new(),
            history: BTreeMap::new(),
            titles: BTreeMap::new(),
        };
        let mut rng = StdRng::seed_from_u64(seed);
        let store = Store::open(&path).unwrap();
        // One large commit, and small ones: of those the tables have the first, the journal the last.
        for (commit, size) in [(0, 240), (1, 60)].into_iter().chain((2..24).map(|commit| (commit, 6))) {
            let tx = store.begin_write().unwrap();
            for definition in [NOTES, PHOTOS] {
                let mut collection = tx.open_collection(definition).unwrap();
                let name = definition.name();
                let (live, history) =
                    (original.live.entry(name).or_default(), original.history.entry(name).or_default());
                let dimension = collection.parameters().dimension;
                for n in 0..if name == "photos" { size / 3 } else { size } {
                    let key = if commit == 0 { n } else { rng.random_range(0..400) };
                    let vector: Vec<f32> = (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect();
                    collection.insert(key, &vector).unwrap();
                    live.insert(key, vector.clone());
                    history.entry(key).or_default().push(vector);
                }
                for _ in 0..size / 6 {
                    let key = rng.random_range(0..400);
                    assert_eq!(collection.remove(key).unwrap(), live.remove(&key).is_some());
                }
            }
            let title = "all the words of a title ".repeat(rng.random_range(1..40));
            tx.open_table(TITLES).unwrap().insert(commit, title.as_str()).unwrap();
            original.titles.insert(commit, title);
            tx.commit().unwrap();
        }
        store.close().unwrap();
        original.files = read(&path);
        original
    }

    fn segments(&self) -> Vec<&String> {
        self.files.keys().filter(|name| name.ends_with(".vectors")).collect()
    }

    /// The file and the place of each live vector.
    fn places(&self) -> Vec<(&'static str, u64, &String, usize)> {
        let mut places = Vec::new();
        for (&name, vectors) in &self.live {
            for (&key, vector) in vectors {
                let needle: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                let find = |file: &&String| {
                    self.files[*file]
                        .chunks(64)
                        .enumerate()
                        .find_map(|(n, _)| self.files[*file][n * 64..].starts_with(&needle).then_some(n * 64))
                };
                let (file, place) =
                    self.segments().into_iter().find_map(|file| Some((file, find(&file)?))).unwrap();
                places.push((name, key, file, place));
            }
        }
        places
    }
}

/// Keys that slots claim whose key or stamp was changed: without records nothing tells that.
fn forged(original: &Original, files: &Files) -> BTreeSet<u64> {
    let mut keys = BTreeSet::new();
    for name in original.segments() {
        let (before, now) = (&original.files[name], &files[name]);
        let word = |at: usize| u32::from_le_bytes(before[at..at + 4].try_into().unwrap()) as usize;
        let first = u64::from_le_bytes(before[58..66].try_into().unwrap()) as usize;
        for vector in (first..before.len()).step_by(word(54)).take(word(40)) {
            let range = code_range(before, vector);
            let claim = range.end - 16..range.end;
            if before[claim.clone()] != now[claim.clone()] {
                keys.insert(u64::from_le_bytes(now[claim][..8].try_into().unwrap()));
            }
        }
    }
    keys
}

/// Where the code of a vector is: the formats of header and slots are documented in `src/vectors`.
fn code_range(file: &[u8], vector: usize) -> std::ops::Range<usize> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let (dimension, coded, code_stride, vector_stride) = (word(44), file[49] == 1, word(50), word(54));
    let first = u64::from_le_bytes(file[58..66].try_into().unwrap()) as usize;
    let code = 65_536 + (vector - first) / vector_stride * code_stride;
    code..code + if coded { dimension.next_multiple_of(8) } else { 0 } + 56
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rows {
    Whole,
    Gone,
    Damaged,
}

/// Damages files; the seed says how.
fn damage(files: &mut Files, other: &Original, seed: u64) -> (Rows, String) {
    let mut rng = StdRng::seed_from_u64(SEED + seed);
    let segments: Vec<String> = files.keys().filter(|name| name.ends_with(".vectors")).cloned().collect();
    let segment = segments[rng.random_range(0..segments.len())].clone();
    let flip = |rng: &mut StdRng, bytes: &mut Vec<u8>, most: usize| {
        for _ in 0..rng.random_range(1..=most) {
            // Where there is something.
            let used: Vec<usize> = (0..16).map(|_| rng.random_range(0..bytes.len())).collect();
            let at = used.iter().copied().find(|&at| bytes[at] != 0).unwrap_or(used[0]);
            bytes[at] ^= 1 << rng.random_range(0..8);
        }
    };
    let zero = |rng: &mut StdRng, bytes: &mut Vec<u8>| {
        let start = rng.random_range(0..bytes.len());
        let end = bytes.len().min(start + rng.random_range(1..64 * 1024));
        bytes[start..end].fill(0);
    };
    let cut = |rng: &mut StdRng, bytes: &mut Vec<u8>| bytes.truncate(rng.random_range(0..bytes.len()));
    match seed % 10 {
        0 => flip(&mut rng, files.get_mut(&segment).unwrap(), 60),
        1 => cut(&mut rng, files.get_mut(&segment).unwrap()),
        2 => zero(&mut rng, files.get_mut(&segment).unwrap()),
        3 => drop(files.remove(&segment)),
        4 => {
            let foreign = other.segments();
            let foreign = other.files[foreign[rng.random_range(0..foreign.len())]].clone();
            files.insert(segment.clone(), foreign);
        }
        5 => files.get_mut(&segment).unwrap()[..80].fill(0),
        6 => {
            files.remove("store.redb");
            if seed % 20 == 6 {
                flip(&mut rng, files.get_mut(&segment).unwrap(), 60);
            }
        }
        7 => flip(&mut rng, files.get_mut("store.redb").unwrap(), 12),
        8 => zero(&mut rng, files.get_mut("store.redb").unwrap()),
        _ => cut(&mut rng, files.get_mut("store.redb").unwrap()),
    }
    let rows = match seed % 10 {
        0..=5 => Rows::Whole,
        6 => Rows::Gone,
        _ => Rows::Damaged,
    };
    (rows, format!("seed {seed}, {rows:?}, {segment}"))
}

/// Panics of ours. redb stops at damaged pages by a panic, which the store catches: those are not told of.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn watch_panics() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !info.location().is_some_and(|location| location.file().contains("redb-")) {
                PANICS.lock().unwrap().push(info.to_string());
                usual(info);
            }
        }));
    });
}

#[test]
fn everything_that_verifies_is_saved() {
    watch_panics();
    println!("seeds {SEED} + n");
    let (original, other) = (Original::new(1), Original::new(2));
    assert!(original.segments().len() >= 4, "{:?}", original.segments());
    let places = original.places();
    let (mut kept, mut opened, mut saved) = (0, 0, 0);
    for seed in 0..100 {
        let mut files = original.files.clone();
        let (rows, case) = damage(&mut files, &other, seed);
        let home = tempfile::tempdir().unwrap();
        let (from, to) = (home.path().join("damaged"), home.path().join("repaired"));
        write(&from, &files);
        let repair = Store::repair(&from, &to).unwrap_or_else(|e| panic!("{case}: {e}"));
        assert!(read(&from) == files, "{case}: the damaged store was changed");

        let store = Store::builder().create(false).open(&to).unwrap();
        assert_eq!(store.check().unwrap().problems, [], "{case}");
        let found = contents(&store);
        // No key has a vector that it never had, whatever was damaged.
        for (name, vectors) in &found {
            let history = &original.history[origin(name, vectors)];
            for (key, vector) in vectors {
                let had = history.get(key).is_some_and(|had| had.contains(vector));
                assert!(had || !code_intact(&original, &files), "{case}: {name:?}, key {key} never had this");
            }
        }
        if repair.tables_kept {
            kept += 1;
            assert!(titles(&store) == original.titles, "{case}: a table of the app's own was changed");
        } else {
            assert_eq!(store.begin_read().unwrap().list_tables().unwrap(), [] as [&str; 0], "{case}");
            assert_ne!(rows, Rows::Whole, "{case}: the app's tables were whole");
        }
        match rows {
            Rows::Whole => exactly_the_intact(&original, &files, &places, &found, &repair, &case),
            Rows::Gone => all_that_agree(&original, &files, &places, &found, &repair, &case),
            Rows::Damaged => opened += usize::from(all_that_answer(&from, &found)),
        }
        saved += found.values().map(BTreeMap::len).sum::<usize>();
    }
    println!(
        "{saved} vectors saved; the app's tables kept in {kept} cases; {opened} of 30 damaged store.redb opened"
    );
    assert!(kept > 60 && opened > 0);
    assert_eq!(*PANICS.lock().unwrap(), [] as [&str; 0]);
}

/// Whether no segment was damaged in a way that could change a key: flips in code tails, where no row vouches for keys.
fn code_intact(original: &Original, files: &Files) -> bool {
    files.contains_key("store.redb")
        || original.segments().iter().all(|name| files.get(*name) == original.files.get(*name))
}

/// Which collection this is, whatever its name.
fn origin(name: &str, vectors: &Vectors) -> &'static str {
    match (name, vectors.values().next().map(Vec::len)) {
        ("notes", _) | (_, Some(100)) => "notes",
        _ => "photos",
    }
}

fn exactly_the_intact(
    original: &Original,
    files: &Files,
    places: &[(&'static str, u64, &String, usize)],
    found: &BTreeMap<String, Vectors>,
    repair: &Repair,
    case: &str,
) {
    assert!(repair.rows_found, "{case}");
    for collection in &repair.collections {
        let name = collection.name.as_str();
        let mut lost = BTreeSet::new();
        for &(_, key, file, place) in places.iter().filter(|(of, ..)| *of == name) {
            let vector = &original.live[name][&key];
            let range = place..place + vector.len() * 4;
            let before = &original.files[file][range.clone()];
            let intact = files.get(file).and_then(|bytes| bytes.get(range)) == Some(before);
            assert_eq!(found[name].get(&key), intact.then_some(vector), "{case}: {name}, key {key}");
            if !intact {
                lost.insert(key);
            }
        }
        assert!(!collection.definition_lost, "{case}");
        assert_eq!(collection.recovered, found[name].len() as u64, "{case}");
        assert_eq!(collection.lost, Some(lost.len() as u64), "{case}");
        assert!(collection.lost_keys.iter().eq(&lost), "{case}");
    }
    assert_eq!(repair.collections.len(), 2, "{case}");
}

fn all_that_agree(
    original: &Original,
    files: &Files,
    places: &[(&'static str, u64, &String, usize)],
    found: &BTreeMap<String, Vectors>,
    repair: &Repair,
    case: &str,
) {
    assert!(!repair.rows_found && !repair.tables_kept, "{case}");
    assert!(repair.collections.iter().all(|c| c.definition_lost && c.lost.is_none()), "{case}");
    let by_origin: BTreeMap<&str, &Vectors> = found.iter().map(|(name, v)| (origin(name, v), v)).collect();
    let forged = forged(original, files);
    for &(name, key, file, place) in places.iter().filter(|(_, key, ..)| !forged.contains(key)) {
        let vector = &original.live[name][&key];
        let (before, now) = (&original.files[file], &files[file]);
        let ranges = [0..70, code_range(before, place), place..place + vector.len() * 4];
        if ranges.into_iter().all(|range| before[range.clone()] == now[range]) {
            assert_eq!(by_origin[name].get(&key), Some(vector), "{case}: {name}, key {key}");
        }
    }
}

/// Whatever the damaged store itself still gives out was saved. Tells whether it opened.
fn all_that_answer(from: &Path, found: &BTreeMap<String, Vectors>) -> bool {
    let Ok(store) = Store::builder().read_only().open(from) else { return false };
    let tx = store.begin_read().unwrap();
    for name in tx.list_collections() {
        let Ok(collection) = tx.open_stored_collection(&name) else { continue };
        for key in 0..400 {
            if let Ok(Some(vector)) = collection.get(key) {
                assert_eq!(found[&name].get(&key).map(Vec::as_slice), Some(&*vector), "{name}, key {key}");
            }
        }
    }
    true
}

#[test]
fn what_is_no_store_is_refused_and_a_sound_one_comes_out_whole() {
    let original = Original::new(3);
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (home.path().join("sound"), home.path().join("repaired"));
    let nothing = home.path().join("nothing");
    assert!(Store::repair(&nothing, &to).is_err());
    std::fs::create_dir(&nothing).unwrap();
    std::fs::write(nothing.join("letter"), "mine").unwrap();
    assert!(matches!(Store::repair(&nothing, &to), Err(Error::NotAStore { .. })));
    assert!(!to.exists());

    write(&from, &original.files);
    assert!(matches!(Store::repair(&from, &nothing), Err(Error::TargetNotEmpty { .. })));
    let open = Store::open(&from).unwrap();
    assert!(matches!(Store::repair(&from, &to), Err(Error::Locked { .. })));
    open.close().unwrap();
    let before = read(&from);
    let repair = Store::repair(&from, &to).unwrap();
    assert!(read(&from) == before);
    assert!(repair.rows_found && repair.tables_kept && repair.unknown_segments == 0, "{repair:?}");
    let store = Store::open(&to).unwrap();
    for (name, vectors) in contents(&store) {
        assert!(vectors == original.live[name.as_str()]);
    }
    assert!(repair.collections.iter().all(|c| c.lost == Some(0) && c.lost_keys.is_empty()), "{repair:?}");
    let (sound, repaired) = (Store::open(&from).unwrap(), &store);
    assert_eq!(parameters(repaired), parameters(&sound));
}

fn parameters(store: &Store) -> Vec<(String, Parameters)> {
    let tx = store.begin_read().unwrap();
    let of = |name: String| {
        let collection = tx.open_stored_collection(&name).unwrap();
        (name, *collection.parameters())
    };
    tx.list_collections().into_iter().map(of).collect()
}

/// The story: the copy of a read-only `store.redb` was read-only as well, could not be opened for taking our tables out, and what is
/// in it was given up as if it were damaged: the app's tables were gone, and repair had succeeded.
#[test]
fn a_store_that_is_read_only_keeps_the_apps_tables() {
    let original = Original::new(4);
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (home.path().join("sound"), home.path().join("repaired"));
    write(&from, &original.files);
    for name in original.files.keys() {
        let mut permissions = std::fs::metadata(from.join(name)).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(from.join(name), permissions).unwrap();
    }
    let repair = Store::repair(&from, &to).unwrap();
    assert!(repair.tables_kept && repair.rows_found, "{repair:?}");
    // Whoever may do everything, as root may, would be let in all the same.
    assert!(!std::fs::metadata(to.join("store.redb")).unwrap().permissions().readonly());
    let store = Store::open(&to).unwrap();
    assert!(titles(&store) == original.titles);
    assert_eq!(store.check().unwrap().problems, []);
}

/// The story: a collection whose row is lost got the name of another one, and the two became one, or repair failed.
#[test]
fn a_made_up_name_is_nobody_elses() {
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (home.path().join("damaged"), home.path().join("repaired"));
    let store = Store::open(&from).unwrap();
    let tx = store.begin_write().unwrap();
    // The second collection has id 1.
    for (offset, name) in [(0.0, "recovered-1"), (10.0, "photographs"), (20.0, "recovered-1-2")] {
        let mut collection = tx.open_collection(CollectionDefinition::new(name, 2, Metric::L2)).unwrap();
        for key in 0..20 {
            collection.insert(key, &[offset, key as f32]).unwrap();
        }
    }
    tx.commit().unwrap();
    store.close().unwrap();
    // Its row is lost: the checksum covers the name.
    let mut bytes = std::fs::read(from.join("store.redb")).unwrap();
    let places: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"photographs")).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at + 10] = b't');
    std::fs::write(from.join("store.redb"), bytes).unwrap();

    let repair = Store::repair(&from, &to).unwrap();
    let names: Vec<(&str, bool)> =
        repair.collections.iter().map(|c| (c.name.as_str(), c.definition_lost)).collect();
    assert_eq!(names, [("recovered-1", false), ("recovered-1-2", false), ("recovered-1-3", true)]);
    let contents = contents(&Store::open(&to).unwrap());
    for (offset, name) in [(0.0, "recovered-1"), (20.0, "recovered-1-2"), (10.0, "recovered-1-3")] {
        assert!(contents[name].values().map(|x| x[0]).eq([offset; 20]), "{name}");
    }
}

fn contents(store: &Store) -> BTreeMap<String, Vectors> {
    let tx = store.begin_read().unwrap();
    let read = |name: String| {
        let collection = tx.open_stored_collection(&name).unwrap();
        let vectors = collection.iter().unwrap().map(|entry| {
            let (key, vector) = entry.unwrap();
            (key, vector.into_owned())
        });
        (name, vectors.collect())
    };
    tx.list_collections().into_iter().map(read).collect()
}

fn titles(store: &Store) -> BTreeMap<u64, String> {
    let table = store.begin_read().unwrap().open_table(TITLES).unwrap();
    let title = |entry: Result<(nestling::redb::AccessGuard<u64>, nestling::redb::AccessGuard<&str>), _>| {
        let (key, title) = entry.unwrap();
        (key.value(), title.value().to_owned())
    };
    table.iter().unwrap().map(title).collect()
}

fn read(path: &Path) -> Files {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect()
}

fn write(path: &Path, files: &Files) {
    std::fs::create_dir(path).unwrap();
    for (name, bytes) in files {
        std::fs::write(path.join(name), bytes).unwrap();
    }
}

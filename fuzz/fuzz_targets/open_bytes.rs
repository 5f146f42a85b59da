//! Files that a disk has damaged or an enemy has written: what opens gives the right answers or typed errors.
//!
//! The input is a list of edits of a small valid store. Bytes are patched, files cut, stretched, lost, exchanged and replaced; then
//! everything that is asked is answered as by the whole store, or refused, and what is written is found again. Rows are also *forged*: changed
//! behind checksums that match, as no disk does. Answers may then be anything, but nothing panics, hangs or
//! takes memory beyond a small multiple of the files.

#![no_main]

#[path = "../../tests/corruption/asking.rs"]
mod asking;
#[path = "../../tests/corruption/layout.rs"]
mod layout;
mod shelter;
#[path = "../../tests/corruption/tables.rs"]
mod tables;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use arbitrary::Arbitrary;
use asking::{DIMENSION, Fixture, POINTS, get};
use layout::Layout;
use libfuzzer_sys::fuzz_target;
use nestling::redb::{self, ReadableDatabase, TableDefinition};
use nestling::{Result, Store, VectorAccess};
use tables::{Memory, Row, TABLES, Table};

fuzz_target!(init: shelter::install(), |input: Input| {
    let original = &ORIGINALS[usize::from(input.original) % ORIGINALS.len()];
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store");
    let files = input.edit(original);
    put(&files, &path);
    let size: usize = files.values().map(Vec::len).sum::<usize>() + original.size();
    shelter::shelter(4 * size, move || input.try_out(original, &path));
});

#[derive(Debug, Arbitrary)]
struct Input {
    original: u8,
    access_by_copy: bool,
    afterwards: Afterwards,
    forgeries: Vec<Forgery>,
    edits: Vec<Edit>,
}

/// What is done with the store after everything was asked.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Afterwards {
    Nothing,
    Write,
    Compact,
    Backup,
    Repair,
}

/// A row's content, changed behind a checksum that matches.
#[derive(Debug, Arbitrary)]
struct Forgery {
    table: u8,
    row: u16,
    change: Change,
}

#[derive(Debug, Arbitrary)]
enum Change {
    Byte { at: u16, value: u8 },
    Word { at: u16, value: u32 },
    Resize { len: u16 },
    Replace(Vec<u8>),
    Swap { with: u16 },
    Remove,
}

/// Pages are those that were ever written to.
#[derive(Debug, Arbitrary)]
enum Edit {
    Byte { file: File, page: u8, at: u16, value: u8 },
    Word { file: File, page: u8, at: u16, value: u64, width: u8 },
    Code { slot: u8, at: u8, value: u8 },
    Vector { slot: u8, at: u8, value: u8 },
    Copy { file: File, from: u16, to: u16, len: u16 },
    Cut { file: File, at: u32 },
    Extend { file: File, by: u16, with: u8 },
    Replace { file: File, with: Vec<u8> },
    Remove { file: File },
    Exchange,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum File {
    Redb,
    Segment,
}

// ------------------------------------------------------------------------------------------------------------ the files

type Files = BTreeMap<&'static str, Vec<u8>>;

struct Original {
    fixture: Fixture,
    files: Files,
    /// Places of pages that were written to.
    pages: BTreeMap<&'static str, Vec<usize>>,
    layout: Layout,
    rows: Vec<Vec<Row>>,
}

const PAGE: usize = 4096;
/// A little more than is in use.
const SLOTS: u8 = 140;

/// With rows in the journal, with all of them in tables, and without codes.
static ORIGINALS: LazyLock<[Original; 3]> =
    LazyLock::new(|| [Fixture::new(1), Fixture::in_tables(2), Fixture::without_codes(3)].map(Original::new));

impl File {
    fn name(self) -> &'static str {
        match self {
            File::Redb => "store.redb",
            File::Segment => "00000000.vectors",
        }
    }
}

impl Original {
    fn new(fixture: Fixture) -> Self {
        let read = |file: File| (file.name(), fs::read(fixture.path.join(file.name())).unwrap());
        let files = Files::from([read(File::Redb), read(File::Segment)]);
        let written = |content: &[u8]| {
            let pages = content.chunks(PAGE).enumerate();
            let written = pages.filter(|(_, page)| page.iter().any(|&byte| byte != 0));
            written.map(|(number, _)| number * PAGE).collect()
        };
        let pages = files.iter().map(|(&name, content)| (name, written(content))).collect();
        let layout = Layout::read(&fs::File::open(fixture.segment()).unwrap(), DIMENSION);
        let memory = Memory(Arc::new(Mutex::new(files[File::Redb.name()].clone())));
        let database = redb::Database::builder().create_with_backend(memory).unwrap();
        let tx = database.begin_read().unwrap();
        let rows: Vec<Vec<Row>> = TABLES.map(|table| table.read(&tx)).into();
        for row in rows.iter().flatten() {
            let content = row.value[..row.value.len() - 4].to_vec();
            assert_eq!(sealed(row, content), row.value, "a seal that is not the store's");
        }
        Self { fixture, files, pages, layout, rows }
    }

    fn size(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }

    /// `store.redb` with rows changed.
    fn forge(&self, forgeries: &[Forgery]) -> Vec<u8> {
        let image = self.files[File::Redb.name()].clone();
        if forgeries.is_empty() {
            return image;
        }
        let memory = Memory(Arc::new(Mutex::new(image)));
        let database = redb::Database::builder().create_with_backend(memory.clone()).unwrap();
        let mut tx = database.begin_write().unwrap();
        tx.set_quick_repair(true);
        for Forgery { table, row, change } in forgeries {
            let rows = &self.rows[usize::from(*table) % self.rows.len()];
            let Some(row) = rows.get(usize::from(*row) % rows.len().max(1)) else { continue };
            let content = change.apply(&row.value[..row.value.len() - 4], rows);
            let sealed = content.map(|content| sealed(row, content));
            row.table.write(&tx, &row.key, sealed.as_deref());
        }
        tx.commit().unwrap();
        drop(database);
        std::mem::take(&mut *memory.0.lock().unwrap())
    }
}

/// See `src/graph/rows.rs`.
fn sealed(row: &Row, mut content: Vec<u8>) -> Vec<u8> {
    let (kind, key) = match row.table {
        Table::Nodes => (1, &row.key[..]),
        Table::Links => (2, &row.key[..]),
        Table::Keys => (3, &row.key[..]),
        Table::Free => (4, &row.key[..]),
        Table::State => (5, &[][..]),
        Table::Collections => (6, &row.key[..]),
        Table::Segments => (7, &row.key[..]),
        Table::Journal => (8, &row.key[..]),
    };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    // The only collection's number, and what stands for none.
    hasher.update(&[0; 4]);
    hasher.update(&(key.len() as u32).to_le_bytes());
    hasher.update(key);
    hasher.update(&content);
    content.extend(hasher.finalize().to_le_bytes());
    content
}

impl Change {
    fn apply(&self, content: &[u8], rows: &[Row]) -> Option<Vec<u8>> {
        let mut content = content.to_vec();
        match self {
            Change::Byte { at, value } => overwrite(&mut content, (*at).into(), &[*value]),
            Change::Word { at, value } => overwrite(&mut content, (*at).into(), &value.to_le_bytes()),
            Change::Resize { len } => content.resize(usize::from(*len) % 5000, 0),
            Change::Replace(with) => content.clone_from(with),
            Change::Swap { with } => {
                let other = &rows[usize::from(*with) % rows.len()].value;
                content = other[..other.len() - 4].to_vec();
            }
            Change::Remove => return None,
        }
        Some(content)
    }
}

/// As much of `bytes` as there is room for.
fn overwrite(content: &mut [u8], at: usize, bytes: &[u8]) {
    if !content.is_empty() {
        let at = at % content.len();
        content[at..].iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    }
}

impl Input {
    fn edit(&self, original: &Original) -> Files {
        let mut files = original.files.clone();
        files.insert(File::Redb.name(), original.forge(&self.forgeries));
        self.edits.iter().for_each(|edit| edit.apply(original, &mut files));
        files
    }
}

impl Edit {
    fn apply(&self, original: &Original, files: &mut Files) {
        let mut content = |file: File, change: &dyn Fn(&mut Vec<u8>)| {
            files.get_mut(file.name()).into_iter().for_each(change);
        };
        let place = |file: File, page: u8, at: u16| {
            let pages = &original.pages[file.name()];
            pages[usize::from(page) % pages.len()] + usize::from(at) % PAGE
        };
        match *self {
            Edit::Byte { file, page, at, value } => {
                content(file, &|content| overwrite(content, place(file, page, at), &[value]));
            }
            Edit::Word { file, page, at, value, width } => {
                let word = &value.to_le_bytes()[..usize::from(width % 9)];
                content(file, &|content| overwrite(content, place(file, page, at), word));
            }
            Edit::Code { slot, at, value } => {
                let place = original.layout.code((slot % SLOTS).into()) as usize + usize::from(at % 64);
                content(File::Segment, &|content| overwrite(content, place, &[value]));
            }
            Edit::Vector { slot, at, value } => {
                let place = original.layout.vector((slot % SLOTS).into()) as usize
                    + usize::from(at) % (4 * DIMENSION);
                content(File::Segment, &|content| overwrite(content, place, &[value]));
            }
            Edit::Copy { file, from, to, len } => content(file, &|content| {
                let (from, to) = (usize::from(from) * 64, usize::from(to) * 64);
                let len = usize::from(len);
                let copied: Vec<u8> = content.iter().skip(from).take(len).copied().collect();
                overwrite(content, to, &copied);
            }),
            Edit::Cut { file, at } => {
                content(file, &|content| content.truncate(at as usize % (content.len() + 1)))
            }
            Edit::Extend { file, by, with } => {
                content(file, &|content| content.resize(content.len() + usize::from(by), with));
            }
            Edit::Replace { file, ref with } => content(file, &|content| content.clone_from(with)),
            Edit::Remove { file } => drop(files.remove(file.name())),
            Edit::Exchange => {
                let (redb, segment) = (files.remove(File::Redb.name()), files.remove(File::Segment.name()));
                files.extend(segment.map(|content| (File::Redb.name(), content)));
                files.extend(redb.map(|content| (File::Segment.name(), content)));
            }
        }
    }
}

fn put(files: &Files, path: &Path) {
    fs::create_dir(path).unwrap();
    for (name, content) in files {
        fs::write(path.join(name), content).unwrap();
    }
}

// ------------------------------------------------------------------------------------------------------ what is tried out

const NEW: [f32; DIMENSION] = [0.25; DIMENSION];
const NEW_KEY: u64 = 5000;
const APP: TableDefinition<u64, u64> = TableDefinition::new("app");

impl Input {
    fn is_forged(&self) -> bool {
        !self.forgeries.is_empty()
    }

    fn try_out(&self, original: &'static Original, path: &Path) {
        let access = if self.access_by_copy { VectorAccess::Copy } else { VectorAccess::Map };
        let outcome = original.fixture.ask_at(path, access);
        let wrong = outcome.wrong.iter().filter(|_| !self.is_forged());
        assert_eq!(wrong.collect::<Vec<_>>(), [""; 0], "{self:?}");
        if let Ok(store) = Store::builder().read_only().open(path) {
            let _ = store.stats();
            let _ = store.begin_read().unwrap().list_tables();
        }
        let aside = path.with_extension("aside");
        match self.afterwards {
            Afterwards::Nothing => {}
            Afterwards::Write => self.write(original, path),
            Afterwards::Compact => {
                if let Ok(store) = Store::builder().create(false).open(path) {
                    // A typed error of either kind.
                    let _ = store.compact();
                    self.compare(original, path);
                }
            }
            Afterwards::Backup => {
                let store = Store::builder().create(false).open(path);
                if store.and_then(|store| store.backup(&aside)).is_ok() {
                    self.compare(original, &aside);
                }
            }
            Afterwards::Repair => self.repair(original, path, &aside),
        }
    }

    /// What was committed is found again, and what was there before is as it was, or refused.
    fn write(&self, original: &Original, path: &Path) {
        let Ok(store) = Store::builder().create(false).open(path) else { return };
        let committed = change(&store).is_ok();
        let closed = store.close().is_ok();
        let Ok(store) = Store::builder().read_only().open(path) else { return };
        let Ok(points) = store.begin_read().unwrap().open_collection(POINTS) else { return };
        if let Ok(found) = get(&points, NEW_KEY)
            && committed
            && closed
            && !self.is_forged()
        {
            assert_eq!(found.as_deref(), Some(&NEW[..]), "what was committed is gone: {self:?}");
        }
        for (&key, expected) in original.fixture.expected.vectors.iter().filter(|(key, _)| **key > 9) {
            if let Ok(found) = get(&points, key) {
                assert!(found == *expected || self.is_forged(), "key {key} is {found:?}: {self:?}");
            }
        }
        let _ = store.check();
    }

    /// A store that is to hold what the original holds.
    fn compare(&self, original: &Original, path: &Path) {
        let outcome = original.fixture.ask_at(path, VectorAccess::Map);
        let wrong = outcome.wrong.iter().filter(|_| !self.is_forged());
        assert_eq!(wrong.collect::<Vec<_>>(), [""; 0], "{self:?}");
    }

    /// What is repaired is whole, and holds nothing that was not there.
    fn repair(&self, original: &Original, path: &Path, aside: &Path) {
        let Ok(repair) = Store::repair(path, aside) else { return };
        let store = Store::builder().create(false).open(aside).unwrap();
        let report = store.check().unwrap();
        assert!(report.is_clean(), "{:?}: {self:?}", report.problems);
        let whole = |collection: &nestling::RepairedCollection| {
            collection.name == POINTS.name() && !collection.definition_lost
        };
        if self.is_forged() || !repair.rows_found || !repair.collections.iter().any(whole) {
            return;
        }
        let points = store.begin_read().unwrap().open_collection(POINTS).unwrap();
        for entry in points.iter().unwrap() {
            let (key, vector) = entry.unwrap();
            let expected = original.fixture.expected.vectors.get(&key).and_then(Option::as_deref);
            assert_eq!(Some(&*vector), expected, "key {key}, repaired: {self:?}");
        }
    }
}

/// All that may go wrong is a typed error.
fn change(store: &Store) -> Result<()> {
    let tx = store.begin_write()?;
    let mut points = tx.open_collection(POINTS)?;
    points.insert(NEW_KEY, &NEW)?;
    points.remove(5)?;
    points.insert(6, &NEW)?;
    points.search(&NEW, 10)?;
    drop(points);
    tx.open_table(APP)?.insert(1, 1).map_err(nestling::Error::from)?;
    tx.commit()
}

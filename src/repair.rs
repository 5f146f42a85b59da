//! A new store from what a damaged one still holds.
//!
//! **Where `store.redb` opens**, records tell which slot holds which key, and a checksum of its vector. Every vector that matches the
//! checksum is taken, whatever has become of its code, its links, its file's header. Where a record is lost and the row of its key is
//! not, a vector is taken whose code is the one that it would be given, under that key.
//!
//! **Where it does not**, segments are all there is. Behind each code stand key and stamp; a code that is the one of the vector beside
//! it vouches for both, though not for key and stamp. Of several slots with one key the latest stamp is taken. What was removed may come
//! back, names and some parameters are gone.
//!
//! Tables of the app's own stay where all of them can be trusted: `store.redb` is copied, our tables are taken out of the copy, and what
//! is left passes redb's integrity check.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::collection::{CollectionState, check_stored};
use crate::error::{Error, Result, VectorSubject};
use crate::graph::rows::{CollectionRow, StateRow};
use crate::graph::salvage::{Nodes, Salvaged, strip};
use crate::graph::storage::shielded;
use crate::hnsw::level::MAX_LEVEL;
use crate::io::{Directory, Image, LOCK_FILE, StoreLock};
use crate::opening::{create, new_state};
use crate::options::{Codes, CollectionDefinition, Metric, Parameters};
use crate::site::Site;
use crate::store::Store;
use crate::trace::span;
use crate::transaction::{Database, Durability, STORE_FILE, open_database};
use crate::vectors::{Described, Geometry, Remains, Slot, described};

/// Vectors that are inserted in one transaction: so many, unless they take more bytes than this.
const BATCH: usize = 8192;
const BATCH_BYTES: usize = 64 << 20;
const CACHE: usize = 16 << 20;

/// What [`Store::repair`](crate::Store::repair) has saved, and what it could not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Repair {
    /// Whether `store.redb` could be opened. Otherwise vectors that had been removed may have come back, and nobody can tell which, nor
    /// how many are lost.
    pub rows_found: bool,
    /// Whether the app's own tables are in the new store, as whole as redb's check can tell; otherwise none is. (Where a page was
    /// exchanged for another of the file's, tables may be missing from its list unnoticed: look for those that matter.)
    pub tables_kept: bool,
    /// Files of vectors that nothing tells anything about any more.
    pub unknown_segments: usize,
    /// The collections, in the order of their names in the new store.
    pub collections: Vec<RepairedCollection>,
}

/// A collection of a [`Repair`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RepairedCollection {
    /// Its name in the new store.
    pub name: String,
    /// Vectors that are in the new store.
    pub recovered: u64,
    /// How many the last commit had more than that; `None` when nobody can tell.
    pub lost: Option<u64>,
    /// Keys that are known to have had a vector which is lost, in order. There may be others.
    pub lost_keys: Vec<u64>,
    /// Its row is lost: the name is made up, `m`, `m0`, `ef_construction` and the seed are the default ones, and so is
    /// the metric unless the codes tell that it was [`Metric::Cosine`].
    pub definition_lost: bool,
}

impl Store {
    /// Makes a new store, in the directory `to`, which must not exist or be empty, of all that still verifies in the damaged one in
    /// `from`, which is not changed. Graphs are built anew.
    ///
    /// Takes about as long as inserting everything. The new store appears only when it is whole, as with [`Store::backup`].
    ///
    /// # Errors
    ///
    /// [`Error::NotAStore`] when there is nothing of a store in `from`, [`Error::Locked`] while it is open for writing,
    /// [`Error::TargetNotEmpty`]; errors of the disk. Damage is no error: the [`Repair`] tells of it.
    pub fn repair(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Repair> {
        repair(from.as_ref(), to.as_ref())
    }
}

fn repair(from: &Path, to: &Path) -> Result<Repair> {
    let _span = span!(INFO, "repair", from = %from.display(), to = %to.display()).entered();
    let source = Arc::new(Directory::new(from.to_owned(), None));
    let (headers, unknown_segments) = described(&source)?;
    if headers.is_empty() && unknown_segments == 0 && !source.join(STORE_FILE).exists() {
        let found = "there is neither a store.redb nor a file of vectors".to_owned();
        return Err(Error::NotAStore { path: from.to_owned(), found });
    }
    // Without a lock file nobody has it open, and none is made here.
    let _lock = source.join(LOCK_FILE).exists().then(|| StoreLock::shared(from)).transpose()?;
    let mut site = Site::begin(to)?;
    let lost = Finder::new(&source, headers)?.find()?;
    let tables_kept = keep_tables(&source, &site)?;
    if !tables_kept {
        create(site.directory())?;
    }
    let store = Store::builder().open_site(&mut site)?;
    let mut report =
        Repair { rows_found: lost.rows_found, tables_kept, unknown_segments, collections: Vec::new() };
    for collection in &lost.collections {
        report.collections.push(collection.insert_into(&store)?);
    }
    report.collections.sort_by(|a, b| a.name.cmp(&b.name));
    store.close().map_err(|e| match e {
        crate::store::CloseError::Failed(e) => e,
        crate::store::CloseError::ReadersAlive { .. } => Error::TransactionFailed,
    })?;
    site.finish()?;
    Ok(report)
}

/// Copies `store.redb` and takes our tables out of the copy. False, and no file, when what is left cannot be trusted.
fn keep_tables(source: &Arc<Directory>, site: &Site) -> Result<bool> {
    let directory = site.directory();
    if !source.join(STORE_FILE).exists() {
        return Ok(false);
    }
    // The bytes alone: the copy of a file that is read-only must not be.
    let copy = || Image::new(source.open(STORE_FILE, false)?, directory.create(STORE_FILE)?)?.copy();
    copy().map_err(|e| Error::io("copy to", directory.join(STORE_FILE), e))?;
    if unless_damaged(strip_copy(directory))?.is_some() {
        return Ok(true);
    }
    directory.remove(STORE_FILE).map_err(|e| Error::io("remove", directory.join(STORE_FILE), e))?;
    Ok(false)
}

fn strip_copy(directory: &Arc<Directory>) -> Result<()> {
    shielded(|| {
        let mut database = open_database(directory, false, CACHE)?;
        let tx = database.begin_write()?;
        strip(&tx, &new_state())?;
        tx.commit().map_err(|e| match e {
            redb::CommitError::Storage(e) => Error::Storage(e),
            e => Error::corrupted(STORE_FILE, e.to_string()),
        })?;
        // Whether it had to mend its own bookkeeping does not matter: that is done.
        database.check_integrity().map(|_| ())
    })
}

/// `None` where damage kept something from being done. A disk that is full, or a file that may not be opened, is no damage: what it
/// holds may be whole.
fn unless_damaged<T>(done: Result<T>) -> Result<Option<T>> {
    let from_redb = match &done {
        Err(Error::Io { .. } | Error::Locked { .. }) => return done.map(Some),
        Err(
            Error::Storage(e)
            | Error::Table(redb::TableError::Storage(e))
            | Error::Database { source: redb::DatabaseError::Storage(e), .. },
        ) => Some(e),
        _ => None,
    };
    let of_the_disk = match from_redb {
        // What a damaged length or page number leads to.
        Some(redb::StorageError::Io(e)) => !matches!(
            e.kind(),
            ErrorKind::UnexpectedEof
                | ErrorKind::InvalidData
                | ErrorKind::InvalidInput
                | ErrorKind::FileTooLarge
        ),
        Some(redb::StorageError::PreviousIo) => true,
        _ => false,
    };
    if of_the_disk { done.map(Some) } else { Ok(done.ok()) }
}

/// Everything that was found.
struct Found {
    rows_found: bool,
    collections: Vec<Remainder>,
}

/// One collection: where its vectors are, in the order of their stamps.
struct Remainder {
    name: String,
    parameters: Parameters,
    definition_lost: bool,
    expected: Option<u64>,
    files: BTreeMap<usize, Remains>,
    vectors: Vec<(u64, u64, Slot)>,
    lost_keys: Vec<u64>,
}

struct Finder<'a> {
    source: &'a Arc<Directory>,
    headers: Vec<Described>,
    rows: Option<(Database, Salvaged)>,
}

impl<'a> Finder<'a> {
    fn new(source: &'a Arc<Directory>, headers: Vec<Described>) -> Result<Self> {
        let read = || {
            let database = open_database(source, true, CACHE)?;
            let salvaged = Salvaged::read(&database.begin_read()?, MAX_LEVEL);
            Ok((database, salvaged))
        };
        let rows = match source.join(STORE_FILE).exists() {
            true => unless_damaged(read())?,
            false => None,
        };
        // A file of redb's in which nothing of ours verifies is as good as none.
        let of_use = |rows: &Salvaged| {
            rows.state.is_some() || !rows.collections.is_empty() || !rows.segments.is_empty()
        };
        Ok(Self { source, headers, rows: rows.filter(|(_, rows)| of_use(rows)) })
    }

    fn find(mut self) -> Result<Found> {
        self.keep_own_headers();
        let mut collections = Vec::new();
        for id in self.ids() {
            collections.extend(self.collection(id)?);
        }
        Ok(Found { rows_found: self.rows.is_some(), collections })
    }

    fn state(&self) -> Option<StateRow> {
        self.rows.as_ref()?.1.state
    }

    /// Segments of other stores are none of ours. Where no row says which store this is, most segments do.
    fn keep_own_headers(&mut self) {
        let mut votes: BTreeMap<[u8; 16], usize> = BTreeMap::new();
        self.headers.iter().for_each(|header| *votes.entry(header.store).or_default() += 1);
        let majority = votes.into_iter().max_by_key(|&(_, votes)| votes).map(|(store, _)| store);
        let own = self.state().map(|state| state.store).or(majority);
        self.headers.retain(|header| Some(header.store) == own);
    }

    /// The collections there were. Files that no row names are of transactions that never committed, unless rows are missing.
    fn ids(&self) -> Vec<u32> {
        let headers = || self.headers.iter().map(|header| header.collection);
        let mut ids: Vec<u32> = match &self.rows {
            Some((_, rows)) => {
                let named = rows.collections.keys().copied();
                let segments = rows.segments.values().map(|row| row.collection);
                named.chain(segments).chain(headers().filter(|_| rows.incomplete)).collect()
            }
            None => headers().collect(),
        };
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn collection(&self, id: u32) -> Result<Option<Remainder>> {
        let row = self.rows.as_ref().and_then(|(_, rows)| rows.collections.get(&id));
        let header = self.headers.iter().find(|header| header.collection == id);
        let known = row.and_then(|(name, row)| {
            Some((name.clone(), CollectionState::from_row(name, row).ok()?.0.parameters))
        });
        let geometry = match (&known, header) {
            (Some((_, parameters)), _) => Geometry::of(parameters),
            (None, Some(header)) => header.geometry,
            (None, None) => return Ok(None),
        };
        let files = self.files(id, geometry);
        let slots = row.map_or_else(|| last_slot(geometry, &files), |(_, row)| row.cursor);
        let nodes = self.nodes(id, slots)?;
        let mut remainder = match known {
            Some((name, parameters)) => Remainder::new(name, parameters, false, files),
            None => Remainder::new(self.made_up_name(id), guess(geometry, &files), true, files),
        };
        remainder.expected = row.map(|(_, row): &(String, CollectionRow)| row.live);
        match nodes {
            Some(nodes) if nodes.complete || !nodes.records.is_empty() || !nodes.keys.is_empty() => {
                remainder.take_named(geometry, &nodes);
            }
            _ => remainder.take_consistent(geometry, slots),
        }
        Ok(Some(remainder))
    }

    /// A name that no collection has, as far as the rows tell.
    fn made_up_name(&self, id: u32) -> String {
        let is_free = |name: &String| match &self.rows {
            Some((_, rows)) => rows.collections.values().all(|(taken, _)| taken != name),
            None => true,
        };
        let name = format!("recovered-{id}");
        let numbered = (2..).map(|n: u32| format!("{name}-{n}"));
        std::iter::once(name.clone()).chain(numbered).find(is_free).unwrap_or(name)
    }

    fn nodes(&self, id: u32, slots: Slot) -> Result<Option<Nodes>> {
        let Some((database, rows)) = &self.rows else { return Ok(None) };
        let tx = database.begin_read()?;
        Ok(Some(rows.nodes(&tx, id, slots, MAX_LEVEL)))
    }

    /// The files of a collection by ordinal: those that rows name, whatever their headers say, and those whose headers name it.
    fn files(&self, id: u32, geometry: Geometry) -> BTreeMap<usize, Remains> {
        let headers =
            self.headers.iter().filter(|header| header.collection == id && header.geometry == geometry);
        let mut segments: BTreeMap<usize, u32> =
            headers.map(|header| (header.ordinal as usize, header.segment)).collect();
        if let Some((_, rows)) = &self.rows {
            let rows = rows.segments.iter().filter(|(_, row)| row.collection == id);
            segments.extend(rows.map(|(&segment, row)| (row.ordinal as usize, segment)));
        }
        let open =
            |(ordinal, segment)| Some((ordinal, Remains::open(self.source, segment, ordinal, geometry)?));
        segments.into_iter().filter_map(open).collect()
    }
}

/// Vectors of this dimension that are inserted in one transaction.
fn batch_of(dimension: usize) -> usize {
    (BATCH_BYTES / (dimension * size_of::<f32>()).max(1)).clamp(1, BATCH)
}

/// Past the last slot that a file has room for.
fn last_slot(geometry: Geometry, files: &BTreeMap<usize, Remains>) -> Slot {
    let last = files.last_key_value();
    last.map_or(0, |(&ordinal, file)| geometry.base(ordinal).unwrap_or(0).saturating_add(file.slots()))
}

/// The parameters of a collection whose row is lost. Codes tell cosine from the others; of those L2 is taken.
fn guess(geometry: Geometry, files: &BTreeMap<usize, Remains>) -> Parameters {
    let agreeing = |metric| {
        let slots = files
            .values()
            .flat_map(|file| (0..file.slots() as usize).take(256).map(|index| file.slot(index)));
        slots.filter(|slot| slot.agrees(&geometry, metric)).count()
    };
    let cosine = geometry.codes == Codes::SevenBit && agreeing(Metric::Cosine) > agreeing(Metric::L2);
    let metric = if cosine { Metric::Cosine } else { Metric::L2 };
    let (m, m0, ef_construction) = (16, 32, 200);
    Parameters {
        dimension: geometry.dimension,
        metric,
        m,
        m0,
        ef_construction,
        seed: 0,
        codes: geometry.codes,
        element: geometry.element,
    }
}

impl Remainder {
    fn new(
        name: String,
        parameters: Parameters,
        definition_lost: bool,
        files: BTreeMap<usize, Remains>,
    ) -> Self {
        let (vectors, lost_keys) = (Vec::new(), Vec::new());
        Self { name, parameters, definition_lost, expected: None, files, vectors, lost_keys }
    }

    fn slot(&self, geometry: Geometry, slot: Slot) -> Option<crate::vectors::Slotful> {
        let (ordinal, index) = geometry.locate(slot);
        self.files.get(&ordinal).map(|file| file.slot(index))
    }

    /// Takes what records and keys vouch for.
    fn take_named(&mut self, geometry: Geometry, nodes: &Nodes) {
        let mut newest: BTreeMap<u64, (u64, Slot)> = BTreeMap::new();
        for (&slot, record) in &nodes.records {
            let crc = self.slot(geometry, slot).and_then(|bytes| bytes.vector_crc());
            if crc == Some(record.vector_crc) {
                let entry = newest.entry(record.key).or_insert((record.stamp, slot));
                *entry = (*entry).max((record.stamp, slot));
            }
        }
        for (&key, &slot) in nodes.keys.iter().filter(|(_, slot)| !nodes.records.contains_key(slot)) {
            let Some(bytes) = self.slot(geometry, slot) else { continue };
            if let Some(tail) = bytes.tail(&geometry)
                && tail.key == key
                && bytes.agrees(&geometry, self.parameters.metric)
            {
                newest.entry(key).or_insert((tail.stamp, slot));
            }
        }
        let keys = nodes.records.values().map(|record| record.key).chain(nodes.keys.keys().copied());
        self.lost_keys = keys.filter(|key| !newest.contains_key(key)).collect();
        self.lost_keys.sort_unstable();
        self.lost_keys.dedup();
        self.take(newest);
    }

    /// Takes every vector that its code agrees with.
    fn take_consistent(&mut self, geometry: Geometry, slots: Slot) {
        let mut newest: BTreeMap<u64, (u64, Slot)> = BTreeMap::new();
        for slot in 0..slots {
            let Some(bytes) = self.slot(geometry, slot) else { continue };
            if let Some(tail) = bytes.tail(&geometry)
                && bytes.agrees(&geometry, self.parameters.metric)
            {
                let entry = newest.entry(tail.key).or_insert((tail.stamp, slot));
                *entry = (*entry).max((tail.stamp, slot));
            }
        }
        self.take(newest);
    }

    fn take(&mut self, newest: BTreeMap<u64, (u64, Slot)>) {
        self.vectors = newest.into_iter().map(|(key, (stamp, slot))| (stamp, key, slot)).collect();
        self.vectors.sort_unstable();
    }

    fn insert_into(&self, store: &Store) -> Result<RepairedCollection> {
        let p = &self.parameters;
        let geometry = Geometry::of(p);
        let definition = CollectionDefinition::new(&self.name, p.dimension, p.metric)
            .m(p.m)
            .m0(p.m0)
            .ef_construction(p.ef_construction)
            .seed(p.seed)
            .codes(p.codes)
            .element(p.element);
        let mut recovered = 0;
        // An empty collection is one, too.
        let batches =
            self.vectors.chunks(batch_of(p.dimension)).chain(self.vectors.is_empty().then_some(&[][..]));
        for batch in batches {
            let mut vectors = Vec::with_capacity(batch.len());
            for &(_, key, slot) in batch {
                let vector =
                    self.slot(geometry, slot).map(|bytes| bytes.components(&geometry)).unwrap_or_default();
                let subject = VectorSubject::Vector { key, position: vectors.len() };
                if check_stored(subject, &vector, p).is_ok() {
                    vectors.push((key, vector));
                }
            }
            recovered += vectors.len() as u64;
            let mut tx = store.begin_write()?;
            tx.set_durability(Durability::None);
            tx.open_collection(definition)?.insert_many(vectors)?;
            tx.commit()?;
        }
        Ok(RepairedCollection {
            name: self.name.clone(),
            recovered,
            lost: self.expected.map(|expected| expected.saturating_sub(recovered)),
            lost_keys: self.lost_keys.clone(),
            definition_lost: self.definition_lost,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_takes_no_more_memory_where_vectors_are_long() {
        for dimension in [1, 384, 2048, 65_535] {
            let batch = batch_of(dimension);
            assert!(
                (1..=BATCH).contains(&batch) && batch * dimension * 4 <= BATCH_BYTES,
                "{dimension}: {batch}"
            );
        }
    }

    /// An intact store on a full disk must not come out without the app's tables.
    #[test]
    fn what_the_disk_refuses_is_not_taken_for_damage() {
        let io = |kind: ErrorKind| std::io::Error::from(kind);
        let storage = |kind| Error::Storage(redb::StorageError::Io(io(kind)));
        let opening = |source| Error::Database { path: STORE_FILE.into(), source };
        for refused in [
            Error::io("open", STORE_FILE, io(ErrorKind::PermissionDenied)),
            storage(ErrorKind::StorageFull),
            Error::Storage(redb::StorageError::PreviousIo),
            opening(redb::DatabaseError::Storage(redb::StorageError::Io(io(ErrorKind::PermissionDenied)))),
        ] {
            let told = refused.to_string();
            assert!(unless_damaged::<()>(Err(refused)).is_err(), "{told}");
        }
        for damage in [
            Error::corrupted(STORE_FILE, "a page of noise"),
            storage(ErrorKind::UnexpectedEof),
            Error::Storage(redb::StorageError::Corrupted(String::new())),
            opening(redb::DatabaseError::UpgradeRequired(1)),
        ] {
            let told = damage.to_string();
            assert!(matches!(unless_damaged::<()>(Err(damage)), Ok(None)), "{told}");
        }
        assert!(matches!(unless_damaged(Ok(7)), Ok(Some(7))));
    }
}

//! Opening, creating and closing stores.

use std::path::Path;
use std::sync::Arc;

use crate::backup::{self, Backup};
use crate::check::{self, Report};
use crate::compact::{self, Compaction};
use crate::error::{Error, Result};
use crate::graph::storage::{self, Found, STORE_FORMAT};
#[cfg(nestling_defects)]
use crate::io::Defect;
use crate::io::{Counters, Directory, Observer, StoreLock};
use crate::opening::{create, load_collections, sweep};
use crate::site::{Contents, Site, create_directory};
use crate::stats::Stats;
use crate::trace::span;
use crate::transaction::{
    Engine, Ledger, Published, ReadTransaction, STORE_FILE, Shared, Stored, WriteTransaction, open_database,
};
use crate::vectors::{SegmentAllocator, VectorAccess};
use arc_swap::ArcSwap;

/// An open store: a directory of collections and tables.
///
/// Dropping it while transactions live is fine: files and lock stay until the last of them goes. [`close`](Store::close) reports
/// the errors that dropping cannot.
pub struct Store {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Store {
    /// Path and commit: the graph in memory would fill pages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let commit = self.shared.current.load().commit;
        f.debug_struct("Store").field("path", &self.path()).field("commit", &commit).finish()
    }
}

impl Store {
    /// Opens the store in the directory `path`, and creates it when there is nothing yet (the parent directory must exist).
    ///
    /// Reads the store's own rows and the journal, which holds what small commits have not folded yet (up to some 45 MB, 0.1 s, after
    /// thousands of them in a large collection); nothing is rebuilt, and the graph is not loaded as a whole.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] when it is open already, here or in another process; [`Error::NotAStore`] when something else is there;
    /// [`Error::UnsupportedFormat`] when a newer Nestling wrote it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(path)
    }

    /// Options for opening.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Takes a snapshot of the latest commit. One atomic operation: it waits for nobody, and nobody waits for it.
    pub fn begin_read(&self) -> Result<ReadTransaction> {
        Ok(ReadTransaction::new(self.shared.current.load_full()))
    }

    /// Begins the write transaction, of which there is one at a time; waits until an earlier one has ended. A thread that holds one
    /// waits for itself for ever.
    ///
    /// Waiting inside of a job of a thread pool can deadlock when the earlier one needs that pool to end: use
    /// [`try_begin_write`](Store::try_begin_write) there.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`]; [`Error::Poisoned`] after a failed write.
    pub fn begin_write(&self) -> Result<WriteTransaction> {
        WriteTransaction::begin(self.shared.clone())
    }

    /// Begins the write transaction unless there is one; never waits.
    ///
    /// # Errors
    ///
    /// As [`begin_write`](Store::begin_write).
    pub fn try_begin_write(&self) -> Result<Option<WriteTransaction>> {
        WriteTransaction::try_begin(self.shared.clone())
    }

    /// Closes the store, and tells whether everything has reached the disk.
    ///
    /// # Errors
    ///
    /// [`CloseError::ReadersAlive`] gives the store back when transactions or collections still use it. So `close()?` does not compile
    /// where a function returns [`nestling::Result`](crate::Result); this does:
    ///
    /// ```
    /// use nestling::{CloseError, Store};
    ///
    /// fn finish(store: Store) -> nestling::Result<()> {
    ///     match store.close() {
    ///         Err(CloseError::Failed(e)) => Err(e),
    ///         _ => Ok(()), // closed, or closing when the last of those that use it is dropped
    ///     }
    /// }
    /// # let dir = tempfile::tempdir()?;
    /// # finish(Store::open(dir.path().join("app.nestling"))?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(self) -> Result<(), CloseError> {
        match Arc::try_unwrap(self.dismantle()?) {
            Ok(mut engine) => engine.shut_down().map_err(CloseError::Failed),
            // Somebody dropped a snapshot a moment ago and is about to drop the engine: it will shut down there.
            Err(_) => Ok(()),
        }
    }

    /// Gives up the latest snapshot, unless others use it or an older one.
    fn dismantle(self) -> Result<Arc<Engine>, CloseError> {
        let shared = match Arc::try_unwrap(self.shared) {
            Ok(shared) => shared,
            Err(shared) => return Err(CloseError::ReadersAlive { store: Self { shared } }),
        };
        // Besides this store's own hold on the engine and that of the latest snapshot there are those of older snapshots.
        if Arc::strong_count(&shared.engine) > 2 {
            return Err(CloseError::ReadersAlive { store: Self { shared: Arc::new(shared) } });
        }
        let Shared { current, engine } = shared;
        match Arc::try_unwrap(current.into_inner()) {
            Ok(_) => Ok(engine),
            Err(published) => {
                let shared = Shared { current: ArcSwap::new(published), engine };
                Err(CloseError::ReadersAlive { store: Self { shared: Arc::new(shared) } })
            }
        }
    }

    /// Gives disk space back and lays out what stays for searches: slots of removed vectors and free pages go, neighbours come to lie
    /// together. Contents, commits' outcome and recall are as before; the order of hits at equal distances may change.
    ///
    /// Reads and writes every vector and row once, a collection at a time, and redb's file once more. Takes, for each collection in turn,
    /// the memory of its graph (some 250 bytes per vector with m 16) and the disk space of a second copy of it. A crash, wherever it
    /// happens, leaves every collection as it was or as it will be; one in the last phase, in which redb moves its pages, makes the next
    /// opening read all of `store.redb` once.
    ///
    /// [Check](Self::check) a store first that may be damaged: where redb's own bookkeeping is, its compaction may not come to an end.
    ///
    /// # Errors
    ///
    /// [`CloseError::ReadersAlive`] gives the store back when transactions or collections still use it. After [`CloseError::Failed`] it
    /// is closed: open it again. [`Error::Corrupted`] in there means that something does not verify, and that its collection was not touched.
    pub fn compact(self) -> Result<(Self, Compaction), CloseError> {
        let reopen = |engine: Arc<Engine>| {
            let transaction = engine.begin_read()?;
            let stored = Stored::read(&transaction)?;
            Self::assemble(engine, transaction, &stored)
        };
        let mut engine = match Arc::try_unwrap(self.dismantle()?) {
            Ok(engine) => engine,
            // Somebody dropped a snapshot a moment ago and is about to drop the engine.
            Err(engine) => {
                let store = reopen(engine).map_err(CloseError::Failed)?;
                return Err(CloseError::ReadersAlive { store });
            }
        };
        let compacted =
            compact::compact(&mut engine).and_then(|compaction| Ok((reopen(Arc::new(engine))?, compaction)));
        compacted.map_err(CloseError::Failed)
    }

    /// A store that shows the commit that `transaction` and `stored` are of: the last one.
    fn assemble(
        engine: Arc<Engine>,
        transaction: Arc<redb::ReadTransaction>,
        stored: &Stored,
    ) -> Result<Self> {
        let collections = load_collections(&engine, &transaction, stored)?;
        let commit = stored.commit();
        let published = Arc::new(Published { collections, transaction, commit, engine: engine.clone() });
        engine.note(&published);
        Ok(Self { shared: Arc::new(Shared { current: ArcSwap::new(published), engine }) })
    }

    /// The store's directory.
    pub fn path(&self) -> &Path {
        self.shared.engine.directory.path()
    }

    /// Counts, sizes and shapes of everything in the store. Reads every node's record and links into memory: some 250 bytes per vector
    /// with m 16, until it returns.
    pub fn stats(&self) -> Result<Stats> {
        Stats::collect(self.begin_read()?.published())
    }

    /// Bytes that the store's files take on disk; holes in them are not counted where the system tells.
    pub fn bytes_on_disk(&self) -> Result<u64> {
        self.shared.engine.directory.bytes_on_disk()
    }

    /// Verifies everything: redb's file, every row against every other, every vector's checksum, reachability.
    ///
    /// Reads the whole store, and takes the memory of one collection's graph after the other, some 250 bytes per vector with m 16. It waits
    /// for the write transaction that is open, if any (so do not call it from where one is held), and keeps the next from beginning until
    /// it is done.
    ///
    /// What is wrong is in the [`Report`]; an error means that the check itself could not be done.
    pub fn check(&self) -> Result<Report> {
        check::check(&self.shared)
    }

    /// Copies the store into the directory `path`, which must not exist or be empty, while readers and the writer go on.
    ///
    /// The copy is a store, as of the last commit when this began (commits with [`Durability::None`](crate::Durability::None) are made
    /// durable first). It is not taken for a store before it is whole and durable: a process that dies leaves a directory that is
    /// refused with [`Error::NotAStore`]. What is damaged in the store is damaged in the copy: [`check`](Store::check) tells.
    ///
    /// Reads and writes the whole store once. It waits for the write transaction that is open, if any (so do not call it from where
    /// one is held), and keeps the next from beginning only while it makes sure of that commit; from then on, a writer has to copy
    /// blocks of `store.redb` that it overwrites for the first time, and nothing removed meanwhile is used again before the end.
    ///
    /// # Errors
    ///
    /// [`Error::TargetNotEmpty`]; [`Error::Poisoned`] after a failed write; errors of either disk. What was copied is removed then.
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<Backup> {
        backup::backup(&self.shared, path.as_ref())
    }

    /// What was read and written since the store was opened.
    pub fn counters(&self) -> Counters {
        self.shared.engine.directory.counters()
    }
}

/// Why a store could not be closed or compacted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// Transactions, collections or tables still use the store; it is handed back.
    #[error("the store is in use by transactions, collections or tables; drop them first")]
    ReadersAlive {
        /// The store, as open as before.
        store: Store,
    },
    /// The last commits could not be made durable, or not be compacted. The store is closed.
    #[error(transparent)]
    Failed(Error),
}

/// Options for opening a store.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("app.nestling");
/// # nestling::Store::open(&path)?.close()?;
/// let store = nestling::Store::builder().create(false).cache_size(8 << 20).open(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Builder {
    create: bool,
    open_existing: bool,
    read_only: bool,
    cache_size: usize,
    access: VectorAccess,
    observer: Option<Arc<dyn Observer>>,
    #[cfg(nestling_defects)]
    defect: Option<Defect>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            create: true,
            open_existing: true,
            read_only: false,
            cache_size: 32 << 20,
            access: VectorAccess::default(),
            observer: None,
            #[cfg(nestling_defects)]
            defect: None,
        }
    }
}

impl Builder {
    /// Whether a store that does not exist is created, which is so unless set otherwise.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Requires that the store does not exist yet.
    pub fn create_new(mut self) -> Self {
        self.create = true;
        self.open_existing = false;
        self
    }

    /// Opens for reading only: together with other readers, also from other processes, but not beside a writer. Nothing in the
    /// directory is changed (but for the file `lock`, which is made where it is missing); a store that was left by `kill -9` is recovered
    /// in memory.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// How much of redb's file is cached in memory, 32 MiB unless set. Pages of the graph are cached above this, so more helps
    /// mostly apps with large tables of their own.
    pub fn cache_size(mut self, bytes: usize) -> Self {
        self.cache_size = bytes;
        self
    }

    /// How vectors are read.
    pub fn vector_access(mut self, access: VectorAccess) -> Self {
        self.access = access;
        self
    }

    /// Shows every operation on the store's files to `observer` before it happens. For tests of durability.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Breaks a promise, for the tests that must notice.
    #[cfg(nestling_defects)]
    #[doc(hidden)]
    pub fn defect(mut self, defect: Defect) -> Self {
        self.defect = Some(defect);
        self
    }

    /// Opens the store in the directory `path`.
    ///
    /// # Errors
    ///
    /// As [`Store::open`], and [`Error::StoreNotFound`] where creating is forbidden.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        let span = span!(INFO, "open" [created, commit], path = %path.display(), read_only = self.read_only)
            .entered();
        let directory = Directory::new(path.to_owned(), self.observer.clone());
        #[cfg(nestling_defects)]
        let directory = directory.with_defect(self.defect);
        let directory = Arc::new(directory);
        let create_allowed = self.create && !self.read_only;
        let exists = || Error::StoreExists { path: path.to_owned() };
        match Contents::of(&directory)? {
            Contents::Store if !self.open_existing => return Err(exists()),
            Contents::Nothing | Contents::Unfinished if !create_allowed => {
                return Err(Error::StoreNotFound { path: path.to_owned() });
            }
            Contents::Nothing => create_directory(path)?,
            Contents::Store | Contents::Unfinished => {}
        }
        let lock = if self.read_only { StoreLock::shared(path)? } else { StoreLock::exclusive(path)? };
        // Under the lock, what was seen before may be different.
        match Contents::of(&directory)? {
            Contents::Store if !self.open_existing => return Err(exists()),
            Contents::Store => {}
            Contents::Nothing | Contents::Unfinished if create_allowed => {
                create(&directory)?;
                span.record("created", true);
            }
            Contents::Nothing | Contents::Unfinished => {
                return Err(Error::StoreNotFound { path: path.to_owned() });
            }
        }
        let store = self.open_store(&directory, lock)?;
        span.record("commit", store.shared.current.load().commit);
        Ok(store)
    }

    /// Opens a store that is being made.
    pub(crate) fn open_site(&self, site: &mut Site) -> Result<Store> {
        let lock = site.take_lock()?;
        self.open_store(site.directory(), lock)
    }

    fn open_store(&self, directory: &Arc<Directory>, lock: StoreLock) -> Result<Store> {
        let database = open_database(directory, self.read_only, self.cache_size)?;
        let path = || directory.join(STORE_FILE);
        let transaction = Arc::new(database.begin_read()?);
        let state = match storage::shielded(|| storage::read_state(&transaction))? {
            Found::State(state) => state,
            Found::Foreign => {
                return Err(Error::NotAStore {
                    path: directory.path().to_owned(),
                    found: format!("{STORE_FILE} is a redb database of something else"),
                });
            }
            Found::Newer(found) => {
                return Err(Error::UnsupportedFormat { path: path(), found, supported: STORE_FORMAT });
            }
        };
        let stored = Stored::read(&transaction)?;
        let allocator = Arc::new(SegmentAllocator::new(
            directory.clone(),
            state.store,
            self.access,
            !self.read_only,
            state.next_segment,
        ));
        let engine = Arc::new(Engine::new(
            database,
            directory.clone(),
            lock,
            state.store,
            self.read_only,
            allocator,
            Ledger::new(stored.commit(), stored.journal()),
            state.next_collection,
        ));
        let store = Store::assemble(engine, transaction, &stored)?;
        if !self.read_only {
            sweep(directory, &state, &stored.segments)?;
        }
        Ok(store)
    }
}

//! The disk as the store meets it: records every operation, and fails those that it is told to.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use nestling::{Observer, Operation, Store};

/// An operation that changed something, or promised that a change lasts.
#[derive(Debug, Clone)]
pub enum Op {
    Create(String),
    Write(String, u64, Arc<[u8]>),
    SetLen(String, u64),
    Sync(String),
    /// What was written before may or may not be on disk, whatever a later sync says.
    FailedSync(String),
    Rename(String, String),
    Remove(String),
    SyncDirectory,
    FailedSyncDirectory,
    SyncParent,
    FailedSyncParent,
    /// A sync that the disk only pretends to do, or that the store forgets.
    Ignored,
}

/// An operation in a trace.
#[derive(Debug, Clone)]
pub struct Entry {
    pub op: Op,
    /// The commit that readers saw when it began.
    pub visible: u64,
}

/// Which operation fails, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    pub n: usize,
    /// All operations of the kind fail from there on.
    pub lasting: bool,
    pub how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Create,
    Write,
    SetLen,
    /// Of a file, or of a directory.
    Sync,
    Rename,
    Remove,
    Read,
}

impl Kind {
    /// How such an operation may fail.
    pub fn ways(self) -> &'static [How] {
        match self {
            Kind::Write => &[How::Eio, How::Enospc, How::Short],
            Kind::Create | Kind::SetLen | Kind::Sync => &[How::Eio, How::Enospc],
            Kind::Rename | Kind::Remove | Kind::Read => &[How::Eio],
        }
    }
}

pub const KINDS: [Kind; 7] =
    [Kind::Create, Kind::Write, Kind::SetLen, Kind::Sync, Kind::Rename, Kind::Remove, Kind::Read];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The device fails.
    Eio,
    /// The disk is full.
    Enospc,
    /// The disk is full after the first half of a write.
    Short,
}

impl How {
    fn error(self) -> io::Error {
        match self {
            // EIO has no `ErrorKind` of its own.
            How::Eio => io::Error::other("the device failed (injected)"),
            How::Enospc | How::Short => io::Error::new(ErrorKind::StorageFull, "the disk is full (injected)"),
        }
    }
}

/// The observer.
#[derive(Debug)]
pub struct Disk {
    /// The store's directory.
    path: PathBuf,
    fault: Option<Fault>,
    records: bool,
    log: Mutex<Log>,
    /// The open store, to ask what readers see.
    store: Mutex<Weak<Store>>,
}

#[derive(Debug, Default)]
struct Log {
    entries: Vec<Entry>,
    counts: [usize; KINDS.len()],
    failures: usize,
}

impl Disk {
    /// Records a trace.
    pub fn recorder(path: PathBuf, fault: Option<Fault>) -> Self {
        Self { path, fault, records: true, log: Mutex::default(), store: Mutex::default() }
    }

    /// Fails an operation, or just counts.
    pub fn failing(path: PathBuf, fault: Option<Fault>) -> Self {
        Self { records: false, ..Self::recorder(path, fault) }
    }

    /// From here on, notes what readers of this store see.
    pub fn watch(&self, store: &Arc<Store>) {
        *self.store.lock().unwrap() = Arc::downgrade(store);
    }

    /// How many operations were recorded.
    pub fn len(&self) -> usize {
        self.log.lock().unwrap().entries.len()
    }

    pub fn trace(&self) -> Vec<Entry> {
        std::mem::take(&mut self.log.lock().unwrap().entries)
    }

    /// Whether this is the kind of operation that fails.
    pub fn fails(&self, kind: Kind) -> bool {
        self.fault.is_some_and(|fault| fault.kind == kind)
    }

    /// Whether the fault has happened.
    pub fn was_met(&self) -> bool {
        self.failures() > 0
    }

    /// How many operations have failed.
    pub fn failures(&self) -> usize {
        self.log.lock().unwrap().failures
    }

    /// Operations of a kind so far, those that failed included.
    pub fn count(&self, kind: Kind) -> usize {
        self.log.lock().unwrap().counts[kind as usize]
    }

    fn write_half(&self, file: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        use std::io::{Seek, SeekFrom, Write};
        let mut file = std::fs::OpenOptions::new().write(true).open(self.path.join(file))?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }
}

impl Observer for Disk {
    fn before(&self, operation: Operation<'_>) -> io::Result<()> {
        let store = self.store.lock().unwrap().upgrade();
        let visible = store.map_or(0, |store| store.begin_read().unwrap().commit_number());
        let own = str::to_owned;
        let (kind, op) = match operation {
            Operation::Create { file } => (Kind::Create, Some(Op::Create(own(file)))),
            Operation::Write { file, offset, bytes } => {
                (Kind::Write, self.records.then(|| Op::Write(own(file), offset, bytes.into())))
            }
            Operation::SetLen { file, len } => (Kind::SetLen, Some(Op::SetLen(own(file), len))),
            Operation::Sync { file } => (Kind::Sync, Some(Op::Sync(own(file)))),
            Operation::SyncDirectory => (Kind::Sync, Some(Op::SyncDirectory)),
            Operation::SyncParent => (Kind::Sync, Some(Op::SyncParent)),
            Operation::Rename { from, to } => (Kind::Rename, Some(Op::Rename(own(from), own(to)))),
            Operation::Remove { file } => (Kind::Remove, Some(Op::Remove(own(file)))),
            Operation::Read { .. } => (Kind::Read, None),
            other => panic!("an operation that the tests do not know: {other:?}"),
        };
        let mut log = self.log.lock().unwrap();
        let n = log.counts[kind as usize];
        log.counts[kind as usize] += 1;
        let fault = self.fault.filter(|fault| fault.kind == kind);
        let fault = fault.filter(|fault| n == fault.n || (fault.lasting && n > fault.n));
        let op = match (fault, op) {
            (None, op) => op,
            (Some(_), Some(Op::Sync(file))) => Some(Op::FailedSync(file)),
            (Some(_), Some(Op::SyncDirectory)) => Some(Op::FailedSyncDirectory),
            (Some(_), Some(Op::SyncParent)) => Some(Op::FailedSyncParent),
            (Some(_), _) => None,
        };
        if self.records {
            log.entries.extend(op.map(|op| Entry { op, visible }));
        }
        let Some(fault) = fault else { return Ok(()) };
        log.failures += 1;
        if let (How::Short, Operation::Write { file, offset, bytes }) = (fault.how, operation) {
            self.write_half(file, offset, &bytes[..bytes.len() / 2])?;
        }
        Err(fault.how.error())
    }
}

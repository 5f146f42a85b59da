//! The least that is a store: two keys, whose vectors are numbers in slots, and a file.

use loom::cell::UnsafeCell;

use crate::protocol::{Commits, WriterSlot};
use crate::sync::{Arc, ArcSwap, AtomicBool, Ordering};

const KEYS: usize = 2;
/// Enough for every commit of a model to take new ones.
const SLOTS: usize = 12;

pub struct Store {
    current: ArcSwap<Snapshot>,
    writer: WriterSlot<Ledger>,
    disk: Arc<Disk>,
}

/// Loom reports a write that is not ordered with a read of the same cell.
pub struct Disk {
    /// In each, the number of the commit that has written it.
    slots: [UnsafeCell<u64>; SLOTS],
    /// Which files are there, by number.
    files: [UnsafeCell<bool>; SLOTS],
}

pub struct Snapshot {
    pub commit: u64,
    slots: [usize; KEYS],
    file: Arc<File>,
    disk: Arc<Disk>,
}

/// As the store's segments: it goes with its last user when it is doomed.
struct File {
    number: usize,
    doomed: AtomicBool,
    disk: Arc<Disk>,
}

struct Ledger {
    commits: Commits<Snapshot, File>,
    /// Slots, and the commits that have freed them.
    freed: Vec<(u64, usize)>,
    /// Slots from here on were never used.
    cursor: usize,
    /// The number of the next file.
    next_file: usize,
}

/// What a commit has come by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Met {
    pub commit: u64,
    pub reused: usize,
    /// Slots that were free, and not to be used yet.
    pub withheld: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    Immediate,
    None,
}

// SAFETY: the cells are shared on purpose; that accesses do not conflict is what the protocol promises and loom verifies.
unsafe impl Send for Disk {}
// SAFETY: as above.
unsafe impl Sync for Disk {}

impl Disk {
    fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| UnsafeCell::new(0)),
            files: std::array::from_fn(|_| UnsafeCell::new(false)),
        }
    }

    fn read_slot(&self, slot: usize) -> u64 {
        // SAFETY: loom has checked that no write is concurrent.
        self.slots[slot].with(|value| unsafe { *value })
    }

    fn write_slot(&self, slot: usize, commit: u64) {
        // SAFETY: loom has checked that no access is concurrent.
        self.slots[slot].with_mut(|value| unsafe { *value = commit });
    }

    fn has_file(&self, number: usize) -> bool {
        // SAFETY: as in `read_slot`.
        self.files[number].with(|there| unsafe { *there })
    }

    fn set_file(&self, number: usize, there: bool) {
        // SAFETY: as in `write_slot`.
        self.files[number].with_mut(|place| unsafe { *place = there });
    }
}

impl File {
    fn create(number: usize, disk: &Arc<Disk>) -> Arc<Self> {
        disk.set_file(number, true);
        Arc::new(Self { number, doomed: AtomicBool::new(false), disk: disk.clone() })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // Nobody else is left, so that any order will do.
        if self.doomed.load(Ordering::Relaxed) {
            self.disk.set_file(self.number, false);
        }
    }
}

impl Snapshot {
    /// Looks at everything that the snapshot names.
    pub fn verify(&self) {
        for slot in self.slots {
            assert_eq!(self.disk.read_slot(slot), self.commit, "slot {slot} is not of this commit");
        }
        assert!(self.disk.has_file(self.file.number), "the file of commit {} is gone", self.commit);
    }
}

impl Store {
    pub fn new() -> Self {
        let disk = Arc::new(Disk::new());
        let slots = std::array::from_fn(|key| key);
        let first = Snapshot { commit: 0, slots, file: File::create(0, &disk), disk: disk.clone() };
        let first = Arc::new(first);
        let mut commits = Commits::new(0);
        commits.note(&first);
        let ledger = Ledger { commits, freed: Vec::new(), cursor: KEYS, next_file: 1 };
        Self { current: ArcSwap::new(first), writer: WriterSlot::new(ledger), disk }
    }

    pub fn begin_read(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// A transaction that replaces both vectors and, where it is to, the file: the steps of `WriteTransaction`.
    pub fn write(&self, durability: Durability, replaces_file: bool) -> Met {
        let ledger = self.writer.acquire();
        self.write_with(ledger, durability, replaces_file)
    }

    pub fn try_write(&self, durability: Durability, replaces_file: bool) -> Option<Met> {
        Some(self.write_with(self.writer.try_acquire()?, durability, replaces_file))
    }

    fn write_with(&self, mut ledger: Ledger, durability: Durability, replaces_file: bool) -> Met {
        let reusable = ledger.commits.reusable();
        let base = self.current.load_full();
        assert_eq!(base.commit, ledger.commits.last(), "the latest snapshot is the last commit");
        let commit = base.commit + 1;
        let mut met = Met { commit, ..Met::default() };
        let slots = std::array::from_fn(|_| {
            let slot = ledger.allocate(reusable, &mut met);
            self.disk.write_slot(slot, commit);
            slot
        });
        let file = match replaces_file {
            true => {
                ledger.next_file += 1;
                File::create(ledger.next_file - 1, &self.disk)
            }
            false => base.file.clone(),
        };
        let dropped = replaces_file.then(|| base.file.clone());
        ledger.freed.extend(base.slots.map(|slot| (commit, slot)));
        let snapshot = Arc::new(Snapshot { commit, slots, file, disk: self.disk.clone() });
        ledger.commits.publish(commit, snapshot, dropped, &self.current);
        if durability == Durability::Immediate {
            ledger.commits.made_durable().for_each(|file| file.doomed.store(true, Ordering::Release));
        }
        drop(base);
        self.writer.release(ledger);
        met
    }

    /// How many slots are free and how many of them may be used, with nobody else around; and which files are there.
    pub fn account(&self) -> (usize, usize, Vec<usize>) {
        let mut ledger = self.writer.acquire();
        let reusable = ledger.commits.reusable();
        let usable = ledger.freed.iter().filter(|(commit, _)| *commit <= reusable).count();
        let account =
            (ledger.freed.len(), usable, (0..SLOTS).filter(|&file| self.disk.has_file(file)).collect());
        self.writer.release(ledger);
        account
    }
}

impl Ledger {
    fn allocate(&mut self, reusable: u64, met: &mut Met) -> usize {
        // In the order of their commits.
        match self.freed.first() {
            Some(&(commit, slot)) if commit <= reusable => {
                assert!(
                    commit <= self.commits.durable(),
                    "slot {slot} is freed by a commit that is not durable"
                );
                self.freed.remove(0);
                met.reused += 1;
                slot
            }
            freed => {
                met.withheld += usize::from(freed.is_some());
                self.cursor += 1;
                self.cursor - 1
            }
        }
    }
}

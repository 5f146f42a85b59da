//! Cuts the power in workloads, in recoveries from that, and in recoveries from `kill -9`, and has every image judged.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::disk::dice::Dice;
use crate::disk::observer::{Disk, Entry, Fault, How, Kind, Op};
use crate::disk::play::{End, History, play};
use crate::disk::workload::Workload;
use crate::disk::{oracle, scratch};
use crate::simulated::{Files, SimulatedDisk, digest, put};

/// What happened to a disk, from its beginning on, and what was promised when.
pub struct Trace {
    /// The workload's name, and the sync that failed.
    pub name: String,
    pub initial: SimulatedDisk,
    pub entries: Vec<Entry>,
    pub history: History,
    /// The earliest point where the power is cut.
    pub earliest: usize,
}

impl Trace {
    /// Records a workload. `failing`: which sync fails; `None` when there are not so many.
    pub fn record(workload: &Workload, failing: Option<usize>) -> Result<Option<Self>, String> {
        let home = scratch();
        let path = home.path().join("app.nestling");
        let fault = failing.map(|n| Fault { kind: Kind::Sync, n, lasting: false, how: How::Eio });
        let disk = Arc::new(Disk::recorder(path.clone(), fault));
        let end = if failing.is_some() { End::Drop } else { End::Close };
        let history = play(workload, &path, &disk, end).map_err(|e| format!("{}: {e}", workload.name))?;
        if failing.is_some() && !disk.was_met() {
            return Ok(None);
        }
        let entries = disk.trace();
        let failed = |entry: &Entry| {
            matches!(entry.op, Op::FailedSync(_) | Op::FailedSyncDirectory | Op::FailedSyncParent)
        };
        // What comes before the failure is in the trace without it.
        let earliest = entries.iter().position(failed).map_or(0, |at| at + 1);
        let name = match failing {
            Some(n) => format!("{}/sync {n} fails", workload.name),
            None => workload.name.to_owned(),
        };
        Ok(Some(Self { name, initial: SimulatedDisk::default(), entries, history, earliest }))
    }

    /// Recordings of a workload: as it is, and with some of its syncs failing.
    pub fn record_all(workload: &Workload, failing: usize, seed: u64) -> Result<Vec<Self>, String> {
        let plain = Self::record(workload, None)?.expect("no fault has to be met");
        let is_sync = |entry: &&Entry| matches!(entry.op, Op::Sync(_) | Op::SyncDirectory | Op::SyncParent);
        let syncs = plain.entries.iter().filter(is_sync).count();
        let mut which: Vec<usize> = (0..syncs).collect();
        Dice::new(seed).shuffle(&mut which);
        let mut traces = vec![plain];
        for n in which.into_iter().take(failing) {
            traces.extend(Self::record(workload, Some(n))?);
        }
        Ok(traces)
    }

    fn allowed(&self, cut: usize) -> Vec<usize> {
        let visible = self.entries.get(cut).map_or(u64::MAX, |entry| entry.visible);
        self.history.allowed(cut, visible)
    }

    fn cut(&self, dice: &mut Dice) -> usize {
        self.earliest + dice.below(self.entries.len() - self.earliest + 1)
    }
}

/// How many images of each kind there were.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    /// By workload: distinct images judged.
    pub distinct: BTreeMap<String, usize>,
    /// Of them: crashes of a recovery, …
    pub recoveries: usize,
    /// …of a store opened again after `kill -9`, …
    pub after_kills: usize,
    /// …and after a sync that failed.
    pub after_failed_syncs: usize,
    /// Images that were the same as others.
    pub repeated: usize,
}

impl Counts {
    pub fn total(&self) -> usize {
        self.distinct.values().sum()
    }

    fn add(&mut self, other: &Counts) {
        for (name, n) in &other.distinct {
            *self.distinct.entry(name.clone()).or_default() += n;
        }
        self.recoveries += other.recoveries;
        self.after_kills += other.after_kills;
        self.after_failed_syncs += other.after_failed_syncs;
        self.repeated += other.repeated;
    }
}

/// A broken promise, with what it takes to see it again.
#[derive(Debug)]
pub struct Violation {
    pub trace: String,
    pub seed: u64,
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\nto replay: NESTLING_CRASH_TRACE={:?} NESTLING_CRASH_IMAGE={:#x} cargo test --test crash replay -- --nocapture",
            self.what, self.trace, self.seed
        )
    }
}

/// Judges so many distinct images, spread evenly over the traces, until one breaks a promise or time is up.
pub fn run(
    traces: &[Trace],
    images: usize,
    base: u64,
    until: Option<Instant>,
) -> (Counts, Option<Violation>) {
    let shared = Shared { seen: Mutex::default(), drawn: Mutex::default(), stop: AtomicBool::new(false) };
    let total = Mutex::new((Counts::default(), None));
    // Several rounds, so that all traces have about as many images when there are enough.
    let size = (images / traces.len() / 4).clamp(1, 200);
    let most = traces.len() * (10 + 10 * images / size / traces.len());
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let chunk = next.fetch_add(1, Ordering::Relaxed);
            let enough = total.lock().unwrap().0.total() >= images;
            let enough = enough || until.is_some_and(|until| Instant::now() > until);
            if enough || chunk >= most || shared.stop.load(Ordering::Relaxed) {
                break;
            }
            let seed = Dice::new(base.rotate_left(40) ^ chunk as u64).next();
            let (counts, violation) = run_chunk(&traces[chunk % traces.len()], seed, size, &shared);
            let mut total = total.lock().unwrap();
            total.0.add(&counts);
            if let Some(violation) = violation {
                shared.stop.store(true, Ordering::Relaxed);
                total.1.get_or_insert(violation);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    total.into_inner().unwrap()
}

struct Shared {
    /// Digests of the images.
    seen: Mutex<HashSet<u64>>,
    /// Traces' names, and signatures of choices.
    drawn: Mutex<HashSet<(String, u64)>>,
    stop: AtomicBool,
}

/// Images of one trace, in the order of their cuts, so that the trace is gone through once.
fn run_chunk(trace: &Trace, seed: u64, size: usize, shared: &Shared) -> (Counts, Option<Violation>) {
    let mut dice = Dice::new(seed);
    let mut seeds: Vec<u64> = (0..size).map(|_| dice.next()).collect();
    seeds.sort_by_key(|&seed| trace.cut(&mut Dice::new(seed)));
    let mut disk = trace.initial.clone();
    let mut at = 0;
    let mut judge =
        Judge { trace, shared: Some(shared), home: scratch(), images: 0, counts: Counts::default() };
    for seed in seeds {
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let cut = trace.cut(&mut Dice::new(seed));
        for (i, entry) in trace.entries.iter().enumerate().take(cut).skip(at) {
            disk.perform(i, &entry.op);
        }
        at = cut;
        if let Err(what) = judge.image(&disk, seed) {
            return (judge.counts, Some(Violation { trace: trace.name.clone(), seed, what }));
        }
    }
    (judge.counts, None)
}

/// Judges the image of a seed again, whether it was seen or not.
pub fn replay(trace: &Trace, seed: u64) -> Result<(), String> {
    let mut disk = trace.initial.clone();
    for (i, entry) in trace.entries.iter().enumerate().take(trace.cut(&mut Dice::new(seed))) {
        disk.perform(i, &entry.op);
    }
    Judge { trace, shared: None, home: scratch(), images: 0, counts: Counts::default() }.image(&disk, seed)
}

struct Judge<'a> {
    trace: &'a Trace,
    /// `None`: judges what was judged before as well.
    shared: Option<&'a Shared>,
    home: tempfile::TempDir,
    images: usize,
    counts: Counts,
}

impl Judge<'_> {
    /// The image of a seed, on the disk at its cut. One in twenty is followed by crashes of its recovery or, instead, of a store
    /// that is opened after a process was killed there. (Not after a failed sync: the system's cache may then show the next
    /// process what is not on the disk and, as the system has forgotten, never will be. No store can tell.)
    fn image(&mut self, disk: &SimulatedDisk, seed: u64) -> Result<(), String> {
        let mut dice = Dice::new(seed);
        let cut = self.trace.cut(&mut dice);
        let allowed = self.trace.allowed(cut);
        let place = format!("power cut before operation {cut} of {}", self.trace.entries.len());
        match dice.below(40) {
            0 => {
                let choice = disk.choose(&mut dice);
                let files = disk.image(&choice);
                let initial = SimulatedDisk::holding(files.clone());
                let told = || format!("{place}\n{}", disk.describe(&choice));
                let n = self.again(&files, initial, &allowed, false, &told, &mut dice)?;
                self.counts.recoveries += n;
            }
            1 if self.trace.earliest == 0 => {
                let files = disk.image(&disk.keep_all());
                let told = || format!("killed before operation {cut} of {}", self.trace.entries.len());
                let n = self.again(&files, disk.clone(), &allowed, true, &told, &mut dice)?;
                self.counts.after_kills += n;
            }
            _ => {
                let choice = disk.choose(&mut dice);
                if !self.is_new(disk.signature(&choice)) {
                    return Ok(());
                }
                let files = disk.image(&choice);
                let told = || format!("{place}\n{}", disk.describe(&choice));
                if self.judge(&files, &self.trace.history, &allowed, &told)? && self.trace.earliest > 0 {
                    self.counts.after_failed_syncs += 1;
                }
            }
        }
        Ok(())
    }

    /// Records the recovery from `files`, and cuts the power in it. What the recovering process finds in place may be on
    /// the disk or, after a kill, still be pending.
    fn again(
        &mut self,
        files: &Option<Files>,
        initial: SimulatedDisk,
        allowed: &[usize],
        killed: bool,
        place: &dyn Fn() -> String,
        dice: &mut Dice,
    ) -> Result<usize, String> {
        const CUTS: usize = 8;
        let path = self.fresh();
        put(files.as_ref(), &path);
        let recorder = Arc::new(Disk::recorder(path.clone(), None));
        let recorded = || recorder.len();
        let history = oracle::recover(&path, &self.trace.history, allowed, recorder.clone(), recorded);
        let mut history = history.map_err(|e| self.report(&e, files, &place()))?;
        if killed {
            history.found_is_not_durable(*allowed.iter().min().expect("something is allowed"));
        }
        remove(&path);
        // Before the first operation everything is as it was when the process was killed, which is judged elsewhere.
        let earliest = usize::from(killed);
        let trace = Trace { name: String::new(), initial, entries: recorder.trace(), history, earliest };
        let (mut distinct, mut drawn) = (0, HashSet::new());
        for _ in 0..CUTS {
            let cut = trace.cut(dice);
            let mut disk = trace.initial.clone();
            for (i, entry) in trace.entries.iter().enumerate().take(cut) {
                disk.perform(usize::MAX / 2 + i, &entry.op);
            }
            let choice = disk.choose(dice);
            if !drawn.insert(disk.signature(&choice)) {
                continue;
            }
            let files = disk.image(&choice);
            let allowed = trace.allowed(cut);
            let place = || {
                let n = trace.entries.len();
                format!(
                    "{}\nthen before operation {cut} of {n} of the recovery\n{}",
                    place(),
                    disk.describe(&choice)
                )
            };
            distinct += usize::from(self.judge(&files, &trace.history, &allowed, &place)?);
        }
        Ok(distinct)
    }

    /// True when no image of this signature was drawn from the trace before. It saves making the image.
    fn is_new(&mut self, signature: u64) -> bool {
        let Some(shared) = self.shared else { return true };
        let new = shared.drawn.lock().unwrap().insert((self.trace.name.clone(), signature));
        self.counts.repeated += usize::from(!new);
        new
    }

    /// True when the image is a new one.
    fn judge(
        &mut self,
        files: &Option<Files>,
        history: &History,
        allowed: &[usize],
        place: &dyn Fn() -> String,
    ) -> Result<bool, String> {
        if let Some(shared) = self.shared
            && !shared.seen.lock().unwrap().insert(digest(files.as_ref()))
        {
            self.counts.repeated += 1;
            return Ok(false);
        }
        let path = self.fresh();
        put(files.as_ref(), &path);
        oracle::judge(&path, history, allowed).map_err(|e| self.report(&e, files, &place()))?;
        remove(&path);
        *self.counts.distinct.entry(self.trace.name.clone()).or_default() += 1;
        Ok(true)
    }

    fn fresh(&mut self) -> PathBuf {
        self.images += 1;
        self.home.path().join(format!("{}.nestling", self.images))
    }

    /// The violation in words; the image itself is kept.
    fn report(&self, what: &str, files: &Option<Files>, place: &str) -> String {
        let kept = std::env::temp_dir().join(format!("nestling-crash-{:016x}", digest(files.as_ref())));
        if !kept.exists() {
            put(files.as_ref(), &kept);
        }
        format!("{}: {what}\n{place}\nthe image is in {}", self.trace.name, kept.display())
    }
}

fn remove(path: &Path) {
    if path.exists() {
        std::fs::remove_dir_all(path).unwrap();
    }
}

//! One writer, eight readers, and snapshots that never change.
//!
//! A reader holds one commit for as long as it likes: it waits for nobody, and nobody waits for it. Meanwhile the writer frees slots and
//! writes to them again, grows collections by segments, folds its journal, drops collections and unlinks their files. What
//! keeps the two apart is not a lock but an argument: nothing that a living snapshot names is touched. This test tries to prove the
//! argument wrong.
//!
//! Every commit tells what it holds. With the vectors the writer changes tables of the app's own, in the same transaction: which key has which
//! *generation*, of which its vector is a function, and a seal with the commit's number, the number of keys and a digest of all.
//! A reader thus derives from its snapshot alone what must be there, with no lock and no word shared with the writer, and
//! compares: keys, vectors bit by bit, searches (exact, filtered, among keys, within a radius, many at once) with brute force, pages that
//! are browsed across commits. Snapshots are held for dozens of commits, by the transaction or by a collection or pages only, and
//! dropped at random. The writer commits with and without durability, aborts, replaces everything, drops and recreates.
//!
//! The store is opened anew several times, vectors being read through maps in one era and from private copies in the next:
//! writes through a file are out of ThreadSanitizer's sight, those to a copy are not.
//!
//! A stress that never reuses a slot proves nothing, so the run counts what it claims to have stressed, and fails without it.
//!
//! ```text
//! cargo test --test stress                                                    what CI runs: some 6 s
//! NESTLING_STRESS_SECONDS=300 cargo test --test stress -- --nocapture         the long form
//! NESTLING_STRESS_SEED=7 …                                                    the same transactions; threads meet as they like
//! ```
//!
//! Under ThreadSanitizer (nightly with rust-src; the standard library is instrumented as well):
//!
//! ```text
//! RUSTFLAGS=-Zsanitizer=thread NESTLING_STRESS_SECONDS=300 CARGO_TARGET_DIR=target/tsan \
//!     cargo +nightly test -Zbuild-std --target x86_64-unknown-linux-gnu --test stress -- --nocapture
//! ```
//!
//! That it can fail: `RUSTFLAGS="--cfg nestling_defects" CARGO_TARGET_DIR=target/defects cargo test --test stress -- --nocapture` stresses stores that
//! write to slots which a snapshot names, and demands that it is noticed.

mod claim;
#[allow(dead_code, reason = "the model needs more of it")]
#[path = "../model/dice.rs"]
mod dice;
mod evidence;
mod reader;
mod writer;

use std::env;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nestling::{Builder, Store, VectorAccess};

use dice::Dice;
use evidence::{Evidence, Held};
use writer::Writer;

const READERS: usize = 8;
/// How often the store is opened, at least.
const ERAS: u32 = 4;
const LONGEST_ERA: Duration = Duration::from_secs(20);

/// What was seen, and should not have been.
type Violation = String;

#[test]
fn a_snapshot_holds_what_its_commit_says_for_as_long_as_it_lives() {
    let time = Duration::from_secs(number("NESTLING_STRESS_SECONDS").unwrap_or(5));
    let seed = number("NESTLING_STRESS_SEED").unwrap_or(1);
    println!("NESTLING_STRESS_SEED={seed}, {time:?}");
    let mut evidence = Evidence::default();
    if let Err(violation) = stress(&Store::builder(), seed, time, &mut evidence) {
        panic!("{violation}\n{evidence:#?}");
    }
    println!("{evidence:#?}");
    evidence.assert_enough();
}

/// Defects that a snapshot's reader can see, as opposed to those that take a power cut.
#[cfg(nestling_defects)]
#[test]
fn defects_under_living_snapshots_are_found() {
    use nestling::Defect;

    for defect in [Defect::ReuseUnderSnapshot, Defect::ReuseInFreeingTransaction] {
        for seed in 1..=3 {
            let (start, mut evidence) = (Instant::now(), Evidence::default());
            let builder = Store::builder().defect(defect);
            let result = stress(&builder, seed, Duration::from_secs(60), &mut evidence);
            let violation = result.expect_err("a defect was not found");
            let first = violation.lines().next().unwrap_or_default();
            println!("{defect:?}: found after {:?}: {first}", start.elapsed());
        }
    }
}

/// Lets the writer and the readers at one store, for so long.
fn stress(builder: &Builder, seed: u64, time: Duration, evidence: &mut Evidence) -> Result<(), Violation> {
    let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = directory.path().join("stress.nestling");
    let mut dice = Dice::new(seed);
    let mut writer = Writer::new(dice.fork());
    let (start, era) = (Instant::now(), LONGEST_ERA.min(time / ERAS));
    let mut access = [VectorAccess::Map, VectorAccess::Copy].into_iter().cycle();
    while start.elapsed() < time {
        let builder = builder.clone().vector_access(access.next().unwrap_or_default());
        let store = builder.open(&path).map_err(|e| e.to_string())?;
        live(&store, &path, &mut writer, &mut dice, era, evidence)?;
        settle(store, &path, &mut writer, evidence)?;
    }
    Ok(())
}

/// One era of a store, from its opening on.
fn live(
    store: &Store,
    path: &Path,
    writer: &mut Writer,
    dice: &mut Dice,
    time: Duration,
    evidence: &mut Evidence,
) -> Result<(), Violation> {
    let (ended, held) = (AtomicBool::new(false), Held::default());
    let readers: Vec<Dice> = (0..READERS).map(|_| dice.fork()).collect();
    thread::scope(|scope| {
        let (ended, held) = (&ended, &held);
        let readers: Vec<_> = (0..READERS)
            .zip(readers)
            .map(|(number, dice)| {
                scope.spawn(move || {
                    let _end = EndOnDrop(ended);
                    reader::read(store, number, dice, held, ended)
                })
            })
            .collect();
        let wrote = {
            let _end = EndOnDrop(ended);
            writer.write(store, path, held, &|| ended.load(Ordering::Relaxed), time, evidence)
        };
        for reader in readers {
            let seen = reader.join().map_err(|_| "a reader has panicked".to_owned())??;
            evidence.add(seen);
        }
        wrote
    })
}

/// Whoever stops stops all: a violation is to be told at once.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Without readers: everything holds, nothing is left behind, and nobody keeps the store open.
fn settle(store: Store, path: &Path, writer: &mut Writer, evidence: &mut Evidence) -> Result<(), Violation> {
    writer.settle(&store)?;
    let report = store.check().map_err(|e| e.to_string())?;
    if !report.is_clean() {
        return Err(format!("check: {:#?}", report.problems));
    }
    let stats = store.stats().map_err(|e| e.to_string())?;
    let named: usize = stats.collections.iter().map(|collection| collection.segments).sum();
    let files = evidence::segment_files(path);
    if files.len() != named {
        return Err(format!("{named} segments have a name, and {} have a file", files.len()));
    }
    evidence.count_store(&stats, &files);
    evidence.bytes_written += store.counters().bytes_written;
    store.close().map_err(|e| e.to_string())
}

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is not a number")))
}

//! The power goes, at any point, and leaves whatever a disk may be left with. Nothing that was promised is lost.
//!
//! `fsync` on a real machine cannot be tested by killing processes: what was written stays in the system's cache. So this test
//! records everything that a workload does to its files, in one trace over redb's file and the segments, and cuts it
//! at any operation. What was synced is there; of what was not, any part may be there, torn or whole, across files, lengths and
//! names: see `simulated.rs`. Each such image is put on a file system and opened by the real store, which must show exactly the
//! last acknowledged commit or the one in flight, pass its own check, and go on working: see `tests/disk/oracle.rs`.
//! Recoveries are recorded and cut as well, and so are stores that are opened after a `kill -9`, when the new process
//! builds on what is in the system's cache only. Syncs may fail before the power does.
//!
//! ```text
//! cargo test --test crash                                            what CI runs: 20,000 distinct images
//! NESTLING_CRASH_IMAGES=1000000 NESTLING_CRASH_SEED=7 \
//!     cargo test --test crash images -- --nocapture                  as many as you like; add the result to CAMPAIGNS.md
//! NESTLING_CRASH_MINUTES=60                                          with the above: stops by then
//! NESTLING_CRASH_TRACE="slot reuse" NESTLING_CRASH_IMAGE=0x123 \
//!     cargo test --test crash replay -- --nocapture                  one image again
//! RUSTFLAGS="--cfg nestling_defects" cargo test --test crash defect  defects built into the store: each must be found
//! ```

mod campaign;
mod defects;
#[path = "../disk/mod.rs"]
mod disk;
mod simulated;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use campaign::Trace;
use disk::observer::{Disk, Entry, Op};
use disk::play::{End, play};
use disk::{number, workload};

const DEFAULT_IMAGES: u64 = 20_000;

#[test]
fn images_of_crashes_hold_what_was_promised() {
    let images = number("NESTLING_CRASH_IMAGES").unwrap_or(DEFAULT_IMAGES);
    let seed = number("NESTLING_CRASH_SEED").unwrap_or(0);
    let started = Instant::now();
    let until = number("NESTLING_CRASH_MINUTES").map(|minutes| started + Duration::from_secs(60 * minutes));
    let traces = record(images, seed);
    println!("{} traces of {} workloads", traces.len(), workload::all().len());
    let (counts, violation) = campaign::run(&traces, images as usize, seed, until);
    if let Some(violation) = violation {
        panic!("after {} images (seed {seed}): {violation}", counts.total());
    }
    let seconds = started.elapsed().as_secs_f64();
    for workload in workload::all() {
        let of_it = |(name, _): &(&String, &usize)| name.split('/').next() == Some(workload.name);
        let n: usize = counts.distinct.iter().filter(of_it).map(|(_, n)| n).sum();
        println!("{n:8}  {}", workload.name);
        assert!(n > 0, "no image of {:?}", workload.name);
    }
    println!(
        "{:8}  distinct images in {seconds:.0} s, seed {seed}: {} of crashed recoveries, {} after kills, {} after failed syncs; {} came twice",
        counts.total(),
        counts.recoveries,
        counts.after_kills,
        counts.after_failed_syncs,
        counts.repeated,
    );
    assert!(until.is_some() || counts.total() >= images as usize, "{} distinct images", counts.total());
}

/// More images are worth more traces.
fn record(images: u64, seed: u64) -> Vec<Trace> {
    let failing = (images / 25_000).clamp(1, 12) as usize;
    let record = |workload| Trace::record_all(&workload, failing, seed).unwrap_or_else(|e| panic!("{e}"));
    workload::all().into_iter().flat_map(record).collect()
}

#[test]
fn replay_one_image() {
    let Ok(name) = std::env::var("NESTLING_CRASH_TRACE") else { return };
    let seed = number("NESTLING_CRASH_IMAGE").expect("NESTLING_CRASH_IMAGE names the image");
    let (workload, failing) = match name.split_once("/sync ") {
        Some((workload, rest)) => (workload, rest.split(' ').next().and_then(|n| n.parse().ok())),
        None => (name.as_str(), None),
    };
    let workload = workload::all().into_iter().find(|found| found.name == workload);
    let workload = workload.unwrap_or_else(|| panic!("there is no workload of the name in {name:?}"));
    let trace = Trace::record(&workload, failing).unwrap().expect("the sync is reached");
    campaign::replay(&trace, seed).unwrap_or_else(|violation| panic!("{violation}"));
    println!("nothing is wrong with image {seed:#x} of {name:?}");
}

/// A seed replays only if a workload does the same to the disk each time. (What it writes differs in the store's UUID.)
#[test]
fn a_workload_leaves_the_same_trace_each_time() {
    for workload in workload::all() {
        let shape = || {
            let trace = Trace::record(&workload, None).unwrap().unwrap();
            let shape = |entry: &Entry| match &entry.op {
                Op::Write(file, offset, bytes) => format!("{file} {offset} {}", bytes.len()),
                op => format!("{op:?}"),
            };
            trace.entries.iter().map(shape).collect::<Vec<String>>()
        };
        let (first, second) = (shape(), shape());
        let differ = first.iter().zip(&second).position(|(a, b)| a != b);
        assert_eq!(differ, None, "{}", workload.name);
        assert_eq!(first.len(), second.len(), "{}", workload.name);
    }
}

/// A workload that does not do what it is there for would prove nothing.
#[test]
fn workloads_do_what_they_are_named_for() {
    let recorded: BTreeMap<&str, Trace> = workload::all()
        .into_iter()
        .map(|workload| (workload.name, Trace::record(&workload, None).unwrap().unwrap()))
        .collect();
    assert!(recorded.len() >= 20, "{} workloads of different names", recorded.len());
    let count = |name: &str, is_it: &dyn Fn(&Op) -> bool| {
        let trace = recorded.get(name).unwrap_or_else(|| panic!("there is no workload {name:?}"));
        trace.entries.iter().filter(|entry| is_it(&entry.op)).count()
    };
    let segments = |name| count(name, &|op| matches!(op, Op::Create(file) if file.ends_with(".vectors")));
    let removed = |name| count(name, &|op| matches!(op, Op::Remove(file) if file.ends_with(".vectors")));
    assert_eq!(segments("segment growth"), 3);
    assert_eq!(segments("everything replaced in one transaction"), 2, "it takes twice the slots");
    assert_eq!(segments("snapshots held while writing"), 2, "slots under a snapshot are not reused");
    assert_eq!(removed("dropping under a snapshot"), 2);
    assert!(removed("dropping a collection") >= 2 && removed("aborted transactions") >= 2);
    let shrinks = count(
        "a file that grows and shrinks",
        &|op| matches!(op, Op::SetLen(file, _) if file == "store.redb"),
    );
    assert!(shrinks >= 2, "the length of redb's file is set {shrinks} times");

    let at_the_end = |name| {
        let home = disk::scratch();
        let path = home.path().join("app.nestling");
        let workload = workload::all().into_iter().find(|workload| workload.name == name).unwrap();
        let commits = workload.steps.iter().filter(|step| matches!(step, workload::Step::Commit(..))).count();
        play(&workload, &path, &Arc::new(Disk::failing(path.clone(), None)), End::Close).unwrap();
        (nestling::Store::open(&path).unwrap().stats().unwrap(), commits)
    };
    let (stats, commits) = at_the_end("slot reuse");
    assert!(stats.collections[0].slots < 12, "{} slots after {commits} commits", stats.collections[0].slots);
    let (stats, commits) = at_the_end("journal folding");
    assert!(stats.journal_entries < commits - 10, "{} entries of {commits} commits", stats.journal_entries);
    let (stats, commits) = at_the_end("large commits straight to rows");
    // The first commit creates the collection, another one is too large for an entry.
    assert_eq!(stats.journal_entries, commits - 2, "of {commits} commits");
}

//! The models. Each tells at the end whether what it is about has come up at all: counts are kept outside of loom's sight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread;

use crate::store::{Durability, Met, Store};

/// Enough to be through in seconds; `LOOM_MAX_PREEMPTIONS` sets another number.
const PREEMPTIONS: usize = 2;

/// Runs a model in all interleavings, and tells how many there were.
fn check(model: impl Fn() + Sync + Send + 'static) -> usize {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    runs.load(Ordering::Relaxed)
}

/// Adds up what the runs of a model have met.
#[derive(Default)]
struct Total {
    reused: AtomicUsize,
    withheld: AtomicUsize,
}

impl Total {
    const fn new() -> Self {
        Self { reused: AtomicUsize::new(0), withheld: AtomicUsize::new(0) }
    }

    fn add(&self, met: Met) {
        self.reused.fetch_add(met.reused, Ordering::Relaxed);
        self.withheld.fetch_add(met.withheld, Ordering::Relaxed);
    }

    fn tell(&self, model: &str, runs: usize) -> [usize; 2] {
        let [reused, withheld] = [&self.reused, &self.withheld].map(|count| count.load(Ordering::Relaxed));
        println!("{model}: {runs} interleavings, {reused} slots reused, {withheld} withheld");
        [reused, withheld]
    }
}

/// One looks at its snapshot twice; meanwhile its slots are freed, and others used again.
#[test]
fn a_slot_is_used_again_only_when_no_snapshot_names_it() {
    static TOTAL: Total = Total::new();
    let runs = check(|| {
        let store = Arc::new(Store::new());
        let reader = read_in_a_thread(&store);
        for _ in 0..3 {
            TOTAL.add(store.write(Durability::Immediate, false));
        }
        reader.join().unwrap();
        let (freed, usable, _) = store.account();
        assert_eq!(usable, freed, "nobody reads any more, and what was freed may not be used");
    });
    let [reused, withheld] = TOTAL.tell("slots", runs);
    assert!(reused > 0 && withheld > 0, "not all came up");
}

/// Two readers drop one snapshot, or two, in any order.
#[test]
fn the_last_of_several_readers_gives_slots_free() {
    static TOTAL: Total = Total::new();
    let runs = check(|| {
        let store = Arc::new(Store::new());
        let readers = [(); 2].map(|()| {
            let store = store.clone();
            thread::spawn(move || store.begin_read().verify())
        });
        for _ in 0..2 {
            TOTAL.add(store.write(Durability::Immediate, false));
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        let (freed, usable, _) = store.account();
        assert_eq!(usable, freed, "nobody reads any more, and what was freed may not be used");
    });
    let [reused, withheld] = TOTAL.tell("two readers", runs);
    assert!(reused > 0 && withheld > 0, "not all came up");
}

/// Commits that do not wait for the disk free nothing, until one does.
#[test]
fn a_slot_is_used_again_only_when_the_commit_that_freed_it_is_durable() {
    static TOTAL: Total = Total::new();
    let runs = check(|| {
        let store = Arc::new(Store::new());
        let reader = read_in_a_thread(&store);
        TOTAL.add(store.write(Durability::None, false));
        let met = store.write(Durability::None, false);
        assert_eq!(met.reused, 0, "nothing that is free is durable");
        TOTAL.add(store.write(Durability::Immediate, false));
        reader.join().unwrap();
        TOTAL.add(store.write(Durability::None, false));
        let (freed, usable, _) = store.account();
        assert_eq!(freed - usable, 2, "what the last commit has freed, which is not durable");
    });
    let [reused, withheld] = TOTAL.tell("durability", runs);
    assert!(reused > 0 && withheld > 0, "not all came up");
}

/// The old file is there for as long as a snapshot uses it and its drop may be lost, and not longer.
#[test]
fn a_dropped_file_goes_with_its_last_snapshot() {
    let runs = check(|| {
        let store = Arc::new(Store::new());
        let reader = read_in_a_thread(&store);
        store.write(Durability::None, true);
        assert!(store.account().2.contains(&0), "the drop is not durable");
        store.write(Durability::Immediate, false);
        reader.join().unwrap();
        assert_eq!(store.account().2, [1], "nobody uses the old file any more");
    });
    println!("files: {runs} interleavings");
}

/// Two writers, one of which does not wait, and somebody who looks twice.
#[test]
fn publication_never_goes_backwards() {
    static TRIED: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
    let runs = check(|| {
        let store = Arc::new(Store::new());
        let writer = {
            let store = store.clone();
            thread::spawn(move || {
                let met = store.try_write(Durability::Immediate, false);
                TRIED[usize::from(met.is_some())].fetch_add(1, Ordering::Relaxed);
                met.map_or(0, |met| met.commit)
            })
        };
        let reader = {
            let store = store.clone();
            thread::spawn(move || {
                let first = store.begin_read().commit;
                let second = store.begin_read();
                assert!(second.commit >= first, "commit {} after {first}", second.commit);
                second.verify();
            })
        };
        let own = store.write(Durability::Immediate, false).commit;
        assert!(store.begin_read().commit >= own, "a commit that has returned is not seen");
        let other = writer.join().unwrap();
        reader.join().unwrap();
        assert_ne!(own, other, "two commits have one number");
        assert_eq!(store.begin_read().commit, own.max(other));
    });
    let [busy, wrote] = TRIED.each_ref().map(|count| count.load(Ordering::Relaxed));
    println!("publication: {runs} interleavings; the other writer found the place taken {busy} times");
    assert!(busy > 0 && wrote > 0, "not all came up");
}

/// Begins, looks, looks again and ends.
fn read_in_a_thread(store: &Arc<Store>) -> thread::JoinHandle<()> {
    let store = store.clone();
    thread::spawn(move || {
        let snapshot = store.begin_read();
        snapshot.verify();
        thread::yield_now();
        snapshot.verify();
    })
}

//! Who may hold what, for how long, and what goes when the last holder does.
//!
//! Snapshots outlive transactions, transactions outlive the store, files outlive the collection that they belonged to. Each
//! test tells one such story. None of them waits for time to pass: what must not happen is proved by what is found later.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;

use nestling::redb::{ReadableTable, TableDefinition};
use nestling::{
    CloseError, Codes, Collection, CollectionDefinition, CollectionStats, Durability, Error, Metric,
    ReadTransaction, Store, VectorAccess,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

const DIMENSION: usize = 16;
const NOTES: CollectionDefinition = CollectionDefinition::new("notes", DIMENSION, Metric::L2);
const PHOTOS: CollectionDefinition = CollectionDefinition::new("photos", DIMENSION, Metric::Cosine);
const TITLES: TableDefinition<u64, &str> = TableDefinition::new("titles");

// Snapshots.

/// The writer replaces everything again and again while a reader looks. What the reader sees lies in slots that were freed long
/// since: they must not be written to before it goes, and have to be afterwards, or the store would grow for ever.
#[test]
fn a_reader_sees_its_commit_over_many_others_and_its_slots_are_reused_when_it_goes() {
    for access in [VectorAccess::Map, VectorAccess::Copy] {
        let home = Home::new();
        let store = Store::builder().vector_access(access).open(&home.path).unwrap();
        replace_all(&store, 0);
        let reader = store.begin_read().unwrap().open_collection(NOTES).unwrap();
        let seen = Answers::of(&reader);
        for generation in 1..=8 {
            replace_all(&store, generation);
            assert!(Answers::of(&reader) == seen, "{access:?}: changed by commit {generation}");
        }
        assert_eq!(notes(&store).slots, 9 * NOTES_COUNT, "slots were reused under the reader");

        drop(reader);
        let grown = notes(&store).slots;
        for generation in 9..=20 {
            replace_all(&store, generation);
        }
        assert_eq!(notes(&store).slots, grown, "{access:?}: slots that nobody sees were not reused");
        check(&store);
    }
}

/// A reader that begins while a write transaction is open sees the commit before it, also after the writer has committed.
#[test]
fn a_reader_that_begins_in_the_middle_of_a_transaction_sees_none_of_it() {
    let home = Home::new();
    let store = home.open();
    commit(&store, |notes| {
        notes.insert(1, &vector(1)).unwrap();
    });
    let tx = store.begin_write().unwrap();
    tx.open_collection(NOTES).unwrap().insert(1, &vector(2)).unwrap();
    tx.open_collection(NOTES).unwrap().insert(2, &vector(3)).unwrap();
    tx.open_collection(PHOTOS).unwrap().insert(2, &vector(3)).unwrap();
    tx.open_table(TITLES).unwrap().insert(2, "two").unwrap();

    let reader = store.begin_read().unwrap();
    let verify = |reader: &ReadTransaction| {
        let notes = reader.open_collection(NOTES).unwrap();
        assert_eq!(keys(&notes), [1]);
        assert_eq!(notes.get(1).unwrap().unwrap(), vector(1));
        assert_eq!(notes.search(&vector(3), 10).unwrap().len(), 1);
        assert!(matches!(reader.open_collection(PHOTOS), Err(Error::CollectionNotFound { .. })));
        assert!(reader.list_tables().unwrap().is_empty());
    };
    verify(&reader);
    tx.commit().unwrap();
    verify(&reader);

    let after = store.begin_read().unwrap();
    assert!(after.commit_number() > reader.commit_number());
    assert_eq!(keys(&after.open_collection(NOTES).unwrap()), [1, 2]);
    assert_eq!(after.open_table(TITLES).unwrap().get(2).unwrap().unwrap().value(), "two");
}

/// The first touch of a page reads it from redb. A snapshot whose pages nobody has looked at can still do so after the
/// collection was dropped, its tables with it, and other commits have gone over redb's free pages.
#[test]
fn a_snapshot_loads_its_pages_after_the_collection_was_dropped() {
    let home = Home::new();
    let store = home.open();
    replace_all(&store, 0);
    insert_photos(&store);
    let seen = Answers::of(&store.begin_read().unwrap().open_collection(PHOTOS).unwrap());
    drop(store);
    let store = home.open();
    let photos = store.begin_read().unwrap().open_collection(PHOTOS).unwrap();
    drop_photos(&store, Durability::Immediate);
    for generation in 1..4 {
        replace_all(&store, generation);
    }
    assert_eq!(photos.graph_pages_loaded(), 0);
    assert!(Answers::of(&photos) == seen);
}

/// Removing is the first thing that happens after opening. It once looked for new parents of the node's children by comparing
/// codes in segments that nothing had opened yet, and panicked.
#[test]
fn the_first_operation_after_opening_may_be_a_removal() {
    for codes in [Codes::SevenBit, Codes::None] {
        let home = Home::new();
        let store = home.open();
        let tx = store.begin_write().unwrap();
        let notes = (0..4 * NOTES_COUNT).map(|key| (key, note(key, 0)));
        tx.open_collection(NOTES.codes(codes)).unwrap().insert_many(notes).unwrap();
        tx.commit().unwrap();
        drop(store);
        assert!(home.segments().len() > 1);
        for key in (0..4 * NOTES_COUNT).step_by(11) {
            let store = home.open();
            let tx = store.begin_write().unwrap();
            assert!(tx.open_collection(NOTES).unwrap().remove(key).unwrap());
            // Not committed, so that the next removal meets the same graph.
        }
    }
}

// The end of a store.

/// A store that goes out of scope while somebody reads: the reader goes on, and the directory stays locked until it ends.
#[test]
fn a_store_dropped_while_readers_live_stays_locked_until_the_last_goes() {
    let home = Home::new();
    let store = home.open();
    replace_all(&store, 0);
    let reader = store.begin_read().unwrap();
    let second = reader.clone();
    drop(store);

    let seen = Answers::of(&reader.open_collection(NOTES).unwrap());
    assert_eq!(seen.vectors.len() as u64, NOTES_COUNT);
    assert!(matches!(Store::open(&home.path), Err(Error::Locked { .. })));
    drop(reader);
    assert!(matches!(Store::open(&home.path), Err(Error::Locked { .. })));
    drop(second);
    let store = home.open();
    assert!(Answers::of(&open_notes(&store)) == seen);
}

/// `close` cannot close what others use. It gives the store back, as good as it was.
#[test]
fn closing_with_readers_alive_gives_the_store_back() {
    let home = Home::new();
    let mut store = home.open();
    replace_all(&store, 0);
    let reader = store.begin_read().unwrap();
    let notes = reader.open_collection(NOTES).unwrap();
    let tx = store.begin_write().unwrap();
    tx.open_table(TITLES).unwrap().insert(1, "one").unwrap();
    tx.commit().unwrap();
    let table = store.begin_read().unwrap().open_table(TITLES).unwrap();
    let holders: [Box<dyn std::any::Any>; 3] = [Box::new(reader), Box::new(notes), Box::new(table)];
    for (generation, holder) in (1..).zip(holders) {
        store = match store.close() {
            Err(CloseError::ReadersAlive { store }) => store,
            other => panic!("{other:?}"),
        };
        replace_all(&store, generation);
        assert_eq!(open_notes(&store).get(7).unwrap().unwrap(), note(7, generation));
        drop(holder);
    }
    store.close().unwrap();
    assert_eq!(open_notes(&home.open()).get(7).unwrap().unwrap(), note(7, 3));
}

/// An open write transaction keeps the store from being closed, and outlives a store that is dropped.
#[test]
fn a_write_transaction_outlives_its_store() {
    let home = Home::new();
    let store = home.open();
    let tx = store.begin_write().unwrap();
    let Err(CloseError::ReadersAlive { store }) = store.close() else { panic!("closed under a transaction") };
    drop(store);
    tx.open_collection(NOTES).unwrap().insert(1, &vector(1)).unwrap();
    assert!(matches!(Store::open(&home.path), Err(Error::Locked { .. })));
    tx.commit().unwrap();
    assert_eq!(keys(&open_notes(&home.open())), [1]);
}

/// Handles keep what they need alive by themselves: an app may return a table or a collection from a function that opened the
/// store, and use it on another thread.
#[test]
fn tables_and_collections_outlive_their_transaction_and_their_store() {
    let home = Home::new();
    let (table, notes, expected) = {
        let store = home.open();
        let tx = store.begin_write().unwrap();
        for key in 0..500 {
            tx.open_table(TITLES).unwrap().insert(key, format!("title {key}").as_str()).unwrap();
        }
        tx.commit().unwrap();
        replace_all(&store, 0);
        let reader = store.begin_read().unwrap();
        let notes = reader.open_collection(NOTES).unwrap();
        let expected = Answers::of(&notes);
        (reader.open_table(TITLES).unwrap(), notes, expected)
    };
    let found = thread::spawn(move || Answers::of(&notes)).join().unwrap();
    assert!(found == expected);
    let entry = table.get(499).unwrap().unwrap();
    assert_eq!(entry.value(), "title 499");
    assert_eq!(table.iter().unwrap().count(), 500);
    assert!(matches!(Store::open(&home.path), Err(Error::Locked { .. })));
    drop(entry);
    drop(table);
    home.open();
}

/// The same for handles that have not read anything before the store went.
#[test]
fn a_collection_reads_its_first_page_after_its_store_is_gone() {
    let home = Home::new();
    replace_all(&home.open(), 0);
    let notes = open_notes(&home.open());
    assert_eq!(notes.graph_pages_loaded(), 0);
    assert_eq!(notes.get(3).unwrap().unwrap(), note(3, 0));
    assert_eq!(notes.search(&note(3, 0), 1).unwrap()[0].key, 3);
}

// Writers.

/// One writer at a time. Each transaction below adds one to a row; if two were ever open at once, an addition would get lost,
/// and the count of those inside would show it.
#[test]
fn writers_wait_for_each_other() {
    const THREADS: u64 = 4;
    const EACH: u64 = 15;
    const COUNTER: TableDefinition<(), u64> = TableDefinition::new("counter");
    let home = Home::new();
    let store = home.open();
    let inside = AtomicUsize::new(0);
    let start = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, inside, start) = (&store, &inside, &start);
            scope.spawn(move || {
                start.wait();
                for i in 0..EACH {
                    let mut tx = store.begin_write().unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two writers at once");
                    tx.set_durability(if i % 3 == 0 { Durability::Immediate } else { Durability::None });
                    {
                        let mut counter = tx.open_table(COUNTER).unwrap();
                        let count = counter.get(()).unwrap().map_or(0, |count| count.value());
                        counter.insert((), count + 1).unwrap();
                        let mut notes = tx.open_collection(NOTES).unwrap();
                        assert_eq!(notes.len(), count, "the collection and the table disagree");
                        notes.insert(count, &vector(thread)).unwrap();
                    }
                    inside.fetch_sub(1, Ordering::SeqCst);
                    tx.commit().unwrap();
                }
            });
        }
    });
    let counter = store.begin_read().unwrap().open_table(COUNTER).unwrap();
    assert_eq!(counter.get(()).unwrap().unwrap().value(), THREADS * EACH);
    assert_eq!(open_notes(&store).len(), THREADS * EACH);
    check(&store);
}

/// A writer that waits gets its turn when the other commits, and starts from that commit. Whoever must not wait is told so.
#[test]
fn a_waiting_writer_starts_from_the_commit_it_waited_for() {
    let home = Home::new();
    let store = home.open();
    let tx = store.begin_write().unwrap();
    assert!(store.try_begin_write().unwrap().is_none());
    let (say, hear) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            say.send(()).unwrap();
            let tx = store.begin_write().unwrap();
            let found = tx.open_collection(NOTES).unwrap().get(1).unwrap().map(|vector| vector.into_owned());
            tx.commit().unwrap();
            found
        });
        hear.recv().unwrap();
        tx.open_collection(NOTES).unwrap().insert(1, &vector(1)).unwrap();
        assert!(store.try_begin_write().unwrap().is_none());
        tx.commit().unwrap();
        assert_eq!(waiter.join().unwrap(), Some(vector(1)));
    });
    let tx = store.try_begin_write().unwrap().expect("nobody is writing");
    drop(tx);
    assert!(store.try_begin_write().unwrap().is_some(), "a dropped transaction gives up its place");
}

/// A transaction that is begun on one thread and continued, and committed, on others.
#[test]
fn a_transaction_moves_between_threads() {
    let home = Home::new();
    let store = home.open();
    let tx = store.begin_write().unwrap();
    tx.open_collection(NOTES).unwrap().insert(1, &vector(1)).unwrap();
    let tx = thread::spawn(move || {
        tx.open_collection(NOTES).unwrap().insert(2, &vector(2)).unwrap();
        tx
    });
    let tx = tx.join().unwrap();
    thread::spawn(move || tx.commit().unwrap()).join().unwrap();
    assert_eq!(keys(&open_notes(&store)), [1, 2]);
    // The writer's place was given back, although another thread took it.
    assert!(store.try_begin_write().unwrap().is_some());
    check(&store);
}

/// A transaction that ends without a commit was never there: no vector, no collection, no table, no file.
#[test]
fn a_transaction_without_commit_leaves_nothing() {
    let home = Home::new();
    let store = home.open();
    replace_all(&store, 0);
    let before = Answers::of(&open_notes(&store));
    let (files, stats) = (home.segments(), store.stats().unwrap());
    for abort in [true, false] {
        let tx = store.begin_write().unwrap();
        {
            let mut notes = tx.open_collection(NOTES).unwrap();
            notes.insert_many((0..3 * NOTES_COUNT).map(|key| (key, note(key, 9)))).unwrap();
            assert!(notes.remove(5).unwrap());
            tx.open_collection(PHOTOS).unwrap().insert(1, &vector(1)).unwrap();
            tx.open_table(TITLES).unwrap().insert(1, "one").unwrap();
        }
        assert!(home.segments().len() > files.len(), "the transaction was to be large enough for new files");
        if abort {
            tx.abort().unwrap()
        } else {
            drop(tx)
        }
        assert_eq!(home.segments(), files);
        assert_eq!(store.stats().unwrap().collections[0].slots, stats.collections[0].slots);
        assert!(Answers::of(&open_notes(&store)) == before);
        let reader = store.begin_read().unwrap();
        assert!(matches!(reader.open_collection(PHOTOS), Err(Error::CollectionNotFound { .. })));
        assert!(reader.list_tables().unwrap().is_empty());
    }
    replace_all(&store, 1);
    check(&store);
}

// Files.

/// Nobody reads the dropped collection: its files go with the commit. Those of others stay.
#[test]
fn a_dropped_collections_files_go_with_the_commit() {
    let home = Home::new();
    let store = home.open();
    replace_all(&store, 0);
    let others = home.segments();
    insert_photos(&store);
    assert!(home.segments().len() > others.len());
    let tx = store.begin_write().unwrap();
    assert!(tx.drop_collection("photos").unwrap());
    assert!(!tx.drop_collection("photos").unwrap());
    assert!(home.segments().len() > others.len(), "the drop could still be aborted");
    tx.commit().unwrap();
    assert_eq!(home.segments(), others);
    check(&store);
}

/// Somebody reads it: the files stay for as long as that takes, and go with the reader.
#[test]
fn a_dropped_collections_files_stay_while_a_snapshot_reads_them() {
    let home = Home::new();
    let store = home.open();
    insert_photos(&store);
    let with_photos = home.segments();
    let photos = store.begin_read().unwrap().open_collection(PHOTOS).unwrap();
    let seen = Answers::of(&photos);
    drop_photos(&store, Durability::Immediate);
    replace_all(&store, 0);
    assert!(home.segments().is_superset(&with_photos));
    assert!(Answers::of(&photos) == seen);
    check(&store);
    drop(photos);
    assert!(home.segments().is_disjoint(&with_photos));
    check(&store);
}

/// The drop was committed without waiting for the disk: after a crash the collection is back, so its files have to be there
/// until a later commit makes the drop durable.
#[test]
fn a_dropped_collections_files_stay_until_the_drop_is_durable() {
    let home = Home::new();
    let store = home.open();
    insert_photos(&store);
    let files = home.segments();
    drop_photos(&store, Durability::None);
    assert_eq!(home.segments(), files);
    let crashed = home.copy("crashed");
    assert_eq!(open(&crashed).stats().unwrap().collections.len(), 1);
    commit(&store, |_| {});
    assert!(home.segments().is_disjoint(&files));

    // Closing makes it durable as well.
    insert_photos(&store);
    let files = home.segments();
    drop_photos(&store, Durability::None);
    assert_eq!(home.segments(), files);
    store.close().unwrap();
    assert!(home.segments().is_empty(), "{:?}", home.segments());
}

/// What a crash leaves behind is removed by the next opening: it has our UUID, and no commit names it. A file of another store is
/// not ours to remove.
#[test]
fn orphans_are_swept_at_opening_and_strangers_are_kept() {
    let home = Home::new();
    let stranger = Home::new();
    replace_all(&stranger.open(), 0);
    replace_all(&home.open(), 0);
    let named = home.segments();
    let first = named.first().unwrap();
    fs::copy(home.path.join(first), home.path.join("000000f0.vectors")).unwrap();
    fs::copy(stranger.path.join(first), home.path.join("000000f1.vectors")).unwrap();
    fs::write(home.path.join("notes.txt"), "not a segment").unwrap();

    let read_only = Store::builder().read_only().open(&home.path).unwrap();
    assert_eq!(home.segments().len(), named.len() + 2, "a reader removes nothing");
    drop(read_only);
    let store = home.open();
    let mut expected = named;
    expected.insert("000000f1.vectors".to_owned());
    assert_eq!(home.segments(), expected);
    assert!(home.path.join("notes.txt").exists());
    replace_all(&store, 1);
    assert!(home.segments().contains("000000f1.vectors"));
}

/// Found by `tests/crash`: an aborted transaction's segment, whose removal and whose header were both lost with the power, was
/// taken for a stranger's once a later commit had given out higher numbers, and stayed for ever.
#[test]
fn an_orphan_whose_header_was_lost_is_swept() {
    let home = Home::new();
    let store = home.open();
    let tx = store.begin_write().unwrap();
    tx.open_collection(NOTES).unwrap().insert(0, &[0.0; DIMENSION]).unwrap();
    let aborted = home.segments().pop_first().unwrap();
    tx.abort().unwrap();
    replace_all(&store, 0);
    store.close().unwrap();
    let named = home.segments();
    assert!(!named.contains(&aborted));

    for orphan in [vec![0; 200_000], vec![]] {
        fs::write(home.path.join(&aborted), orphan).unwrap();
        home.open().close().unwrap();
        assert_eq!(home.segments(), named);
    }
    fs::write(home.path.join(&aborted), "short, and not ours").unwrap();
    home.open().close().unwrap();
    assert!(home.segments().contains(&aborted), "a stranger's file is kept");
}

/// Dropped and created again under the same name, in one transaction, as something else. An old snapshot sees the old one.
#[test]
fn a_collection_is_replaced_by_another_of_its_name() {
    const OTHER: CollectionDefinition = CollectionDefinition::new("notes", 3, Metric::Dot);
    let home = Home::new();
    let store = home.open();
    replace_all(&store, 0);
    let files = home.segments();
    let old = open_notes(&store);
    let seen = Answers::of(&old);
    let tx = store.begin_write().unwrap();
    assert!(matches!(tx.open_collection(OTHER), Err(Error::DefinitionMismatch { .. })));
    assert!(tx.drop_collection("notes").unwrap());
    tx.open_collection(OTHER).unwrap().insert(7, &[1.0, 2.0, 3.0]).unwrap();
    tx.commit().unwrap();

    assert!(Answers::of(&old) == seen);
    let new = store.begin_read().unwrap().open_collection(OTHER).unwrap();
    assert_eq!(keys(&new), [7]);
    assert!(matches!(
        store.begin_read().unwrap().open_collection(NOTES),
        Err(Error::DefinitionMismatch { .. })
    ));
    drop(old);
    assert!(home.segments().is_disjoint(&files));
    drop((new, store));
    let store = home.open();
    assert_eq!(keys(&store.begin_read().unwrap().open_collection(OTHER).unwrap()), [7]);
    check(&store);
}

/// Collections share a store and nothing else.
#[test]
fn collections_are_independent() {
    let home = Home::new();
    let store = home.open();
    replace_all(&store, 0);
    let seen = Answers::of(&open_notes(&store));
    insert_photos(&store);
    let tx = store.begin_write().unwrap();
    {
        // Two handles at once, the same keys.
        let mut photos = tx.open_collection(PHOTOS).unwrap();
        let notes = tx.open_collection(NOTES).unwrap();
        assert!(photos.insert(1, &vector(77)).unwrap());
        assert!(photos.remove(2).unwrap());
        assert_eq!(notes.get(1).unwrap().unwrap(), note(1, 0));
        assert!(notes.contains(2).unwrap());
        assert!(matches!(tx.open_collection(PHOTOS), Err(Error::CollectionAlreadyOpen { .. })));
    }
    tx.commit().unwrap();
    assert!(Answers::of(&open_notes(&store)) == seen);
    drop_photos(&store, Durability::Immediate);
    assert!(Answers::of(&open_notes(&store)) == seen);
    drop(store);
    let store = home.open();
    assert!(Answers::of(&open_notes(&store)) == seen);
    check(&store);
}

// Durability.

/// Commits that do not wait are seen at once, and are on disk after the store was closed, or dropped.
#[test]
fn commits_that_did_not_wait_are_durable_after_the_store_has_ended() {
    for close in [true, false] {
        let home = Home::new();
        let store = home.open();
        for generation in 0..3 {
            replace_all_with(&store, generation, Durability::None);
            assert_eq!(open_notes(&store).get(1).unwrap().unwrap(), note(1, generation));
        }
        if close {
            store.close().unwrap()
        } else {
            drop(store)
        }
        let store = home.open();
        let notes = open_notes(&store);
        assert_eq!(notes.len(), NOTES_COUNT);
        for key in 0..NOTES_COUNT {
            assert_eq!(notes.get(key).unwrap().unwrap(), note(key, 2), "close: {close}");
        }
        check(&store);
    }
}

/// A crash takes back commits that did not wait. The vectors that they removed are live again then, so nothing may have been
/// written over them in the meantime; nor in the transaction that removed them.
#[test]
fn freed_slots_are_not_reused_before_their_commit_is_durable() {
    let home = Home::new();
    let store = home.open();
    replace_all(&store, 0);
    assert_eq!(notes(&store).slots, NOTES_COUNT);
    let mut tx = store.begin_write().unwrap();
    tx.set_durability(Durability::None);
    {
        let mut notes = tx.open_collection(NOTES).unwrap();
        for key in 0..NOTES_COUNT {
            assert!(notes.remove(key).unwrap());
        }
        notes.insert(1000, &vector(1000)).unwrap();
    }
    tx.commit().unwrap();
    for generation in 1..4 {
        replace_all_with(&store, generation, Durability::None);
    }
    assert_eq!(notes(&store).slots, 4 * NOTES_COUNT + 1);

    let crashed = open(&home.copy("crashed"));
    let survived = open_notes(&crashed);
    assert_eq!(survived.len(), NOTES_COUNT);
    for key in 0..NOTES_COUNT {
        assert_eq!(survived.get(key).unwrap().unwrap(), note(key, 0), "key {key}");
    }
    check(&crashed);

    // One durable commit, and all of them may be reused.
    commit(&store, |_| {});
    for generation in 4..10 {
        replace_all(&store, generation);
    }
    assert_eq!(notes(&store).slots, 4 * NOTES_COUNT + 1);
    check(&store);
}

// Locks and reading only.

/// One writing process, or handle, at a time; the second is told at once.
#[test]
fn a_second_opener_is_told_that_the_store_is_locked() {
    let home = Home::new();
    let store = home.open();
    assert!(matches!(Store::open(&home.path), Err(Error::Locked { .. })));
    assert!(matches!(Store::builder().read_only().open(&home.path), Err(Error::Locked { .. })));
    drop(store);
    let first = Store::builder().read_only().open(&home.path).unwrap();
    let second = Store::builder().read_only().open(&home.path).unwrap();
    assert!(matches!(Store::open(&home.path), Err(Error::Locked { .. })));
    drop(first);
    assert!(matches!(Store::open(&home.path), Err(Error::Locked { .. })));
    drop(second);
    home.open();
}

/// Reading only changes not a byte, whether the store was closed or its process was killed, even in the middle of commits that
/// did not wait.
#[test]
fn a_read_only_opening_changes_no_byte() {
    let home = Home::new();
    let store = home.open();
    replace_all(&store, 0);
    insert_photos(&store);
    let durable = Answers::of(&open_notes(&store));
    let crashed = home.copy("crashed");
    replace_all_with(&store, 1, Durability::None);
    let crashed_later = home.copy("crashed later");
    store.close().unwrap();

    for (path, generation) in [(&crashed, 0), (&crashed_later, 0), (&home.path, 1)] {
        let before = contents(path);
        for round in 0..2 {
            let store = Store::builder().read_only().open(path).unwrap();
            let beside = Store::builder().read_only().open(path).unwrap();
            for store in [&store, &beside] {
                let notes = open_notes(store);
                assert_eq!(notes.get(4).unwrap().unwrap(), note(4, generation), "{path:?}, {round}");
                assert_eq!(Answers::of(&notes) == durable, generation == 0);
                assert!(matches!(store.begin_write(), Err(Error::ReadOnly { .. })));
                assert!(matches!(store.try_begin_write(), Err(Error::ReadOnly { .. })));
                check(store);
            }
            store.close().unwrap();
            drop(beside);
            assert!(contents(path) == before, "{path:?} was changed");
        }
        replace_all(&open(path), 2);
    }
}

/// A reader does not create what is not there.
#[test]
fn a_read_only_opening_creates_nothing() {
    let home = Home::new();
    assert!(matches!(Store::builder().read_only().open(&home.path), Err(Error::StoreNotFound { .. })));
    assert!(!home.path.exists());
    fs::create_dir(&home.path).unwrap();
    assert!(matches!(Store::builder().read_only().open(&home.path), Err(Error::StoreNotFound { .. })));
    assert!(contents(&home.path).is_empty());
}

// Extremes, and what opening costs.

/// Keys are any 64 bits.
#[test]
fn keys_may_be_as_small_and_as_large_as_64_bits_allow() {
    const KEYS: [u64; 5] = [0, 1, 1 << 63, u64::MAX - 1, u64::MAX];
    let home = Home::new();
    let store = home.open();
    commit(&store, |notes| {
        for key in KEYS {
            assert!(!notes.insert(key, &vector(key)).unwrap());
        }
        assert_eq!(notes.keys().unwrap().map(Result::unwrap).collect::<Vec<_>>(), KEYS);
    });
    drop(store);
    let store = home.open();
    commit(&store, |notes| {
        assert!(notes.insert(u64::MAX, &vector(5)).unwrap());
        assert!(notes.remove(0).unwrap());
        assert!(!notes.remove(0).unwrap());
        assert_eq!(notes.keys().unwrap().map(Result::unwrap).collect::<Vec<_>>(), KEYS[1..]);
    });
    let notes = open_notes(&store);
    assert_eq!(keys(&notes), KEYS[1..]);
    assert_eq!(notes.get(u64::MAX).unwrap().unwrap(), vector(5));
    assert_eq!(notes.search(&vector(5), 1).unwrap()[0].key, u64::MAX);
    assert_eq!(notes.query_key(u64::MAX - 1).k(1).run().unwrap()[0].key, u64::MAX - 1);
    assert!(!notes.contains(0).unwrap());
    assert!(matches!(notes.query_key(0).run(), Err(Error::KeyNotFound { key: 0, .. })));
    check(&store);
}

/// Opening loads nothing, and a search no more than it passes by.
#[test]
fn a_search_after_reopening_loads_a_part_of_the_graph() {
    // The insertion after these takes no calibration sample, which searches widely.
    const COUNT: u64 = 6001;
    const PASSAGES: CollectionDefinition =
        CollectionDefinition::new("passages", DIMENSION, Metric::L2).m(8).ef_construction(40);
    // Vectors that come together are near each other, as the passages of a document are.
    let passage = |key: u64| -> Vec<f32> {
        let (document, own) = (vector(key / 30), vector(1_000_000 + key));
        document.iter().zip(own).map(|(x, y)| x + 0.1 * y).collect()
    };
    let home = Home::new();
    let store = home.open();
    let tx = store.begin_write().unwrap();
    tx.open_collection(PASSAGES).unwrap().insert_many((0..COUNT).map(|key| (key, passage(key)))).unwrap();
    tx.commit().unwrap();
    drop(store);

    let store = home.open();
    let statistics = || store.stats().unwrap().collections[0].clone();
    assert_eq!(statistics().graph_pages_loaded, 0);
    let reader = store.begin_read().unwrap().open_collection(PASSAGES).unwrap();
    let query = passage(3333);
    assert_eq!(reader.query(&query).k(1).ef(16).run().unwrap()[0].key, 3333);
    let CollectionStats { graph_pages: pages, graph_pages_loaded: loaded, resident_bytes, .. } = statistics();
    println!("one search loaded {loaded} of {pages} pages, {resident_bytes} bytes");
    assert!(loaded > 0 && loaded < pages / 2, "{loaded} of {pages} pages were loaded");

    // Nor does a small commit load the rest.
    let tx = store.begin_write().unwrap();
    tx.open_collection(PASSAGES).unwrap().insert(COUNT, &query).unwrap();
    tx.commit().unwrap();
    let CollectionStats { graph_pages: pages, graph_pages_loaded: loaded, .. } = statistics();
    println!("with an insertion it is {loaded} of {pages}");
    assert!(loaded < pages * 3 / 4, "{loaded} of {pages} pages were loaded");
}

// What the tests are written in.

/// As many notes as do not fill the first segment, while three times as many need another.
const NOTES_COUNT: u64 = 300;

/// A place for a store.
struct Home {
    directory: TempDir,
    path: PathBuf,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.nestling");
        Self { directory, path }
    }

    fn open(&self) -> Store {
        open(&self.path)
    }

    /// The names of the segment files.
    fn segments(&self) -> BTreeSet<String> {
        contents(&self.path).into_keys().filter(|name| name.ends_with(".vectors")).collect()
    }

    /// The store as a process that dies now leaves it.
    fn copy(&self, name: &str) -> PathBuf {
        let to = self.directory.path().join(name);
        fs::create_dir(&to).unwrap();
        for (name, bytes) in contents(&self.path) {
            fs::write(to.join(name), bytes).unwrap();
        }
        to
    }
}

fn open(path: &Path) -> Store {
    Store::open(path).unwrap()
}

fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn vector(seed: u64) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..DIMENSION).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// The vector of a note, as of the n-th time that all of them were replaced.
fn note(key: u64, generation: u64) -> Vec<f32> {
    vector(generation << 32 | key)
}

fn replace_all(store: &Store, generation: u64) {
    replace_all_with(store, generation, Durability::Immediate);
}

fn replace_all_with(store: &Store, generation: u64, durability: Durability) {
    let mut tx = store.begin_write().unwrap();
    tx.set_durability(durability);
    let notes = (0..NOTES_COUNT).map(|key| (key, note(key, generation)));
    tx.open_collection(NOTES).unwrap().insert_many(notes).unwrap();
    tx.commit().unwrap();
}

fn insert_photos(store: &Store) {
    let tx = store.begin_write().unwrap();
    tx.open_collection(PHOTOS).unwrap().insert_many((0..50).map(|key| (key, vector(key)))).unwrap();
    tx.commit().unwrap();
}

fn drop_photos(store: &Store, durability: Durability) {
    let mut tx = store.begin_write().unwrap();
    tx.set_durability(durability);
    assert!(tx.drop_collection("photos").unwrap());
    tx.commit().unwrap();
}

fn commit(store: &Store, change: impl FnOnce(&mut nestling::CollectionMut<'_>)) {
    let tx = store.begin_write().unwrap();
    change(&mut tx.open_collection(NOTES).unwrap());
    tx.commit().unwrap();
}

fn open_notes(store: &Store) -> Collection {
    store.begin_read().unwrap().open_collection(NOTES).unwrap()
}

fn notes(store: &Store) -> CollectionStats {
    let stats = store.stats().unwrap();
    stats.collections.into_iter().find(|collection| collection.name == "notes").unwrap()
}

fn keys(collection: &Collection) -> Vec<u64> {
    collection.keys().unwrap().map(Result::unwrap).collect()
}

fn check(store: &Store) {
    let report = store.check().unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
}

/// All that a collection says: every vector, bit for bit, and what some searches find.
#[derive(PartialEq)]
struct Answers {
    vectors: Vec<(u64, Vec<u32>)>,
    hits: Vec<Vec<(u64, u32)>>,
}

impl Answers {
    fn of(collection: &Collection) -> Self {
        let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect();
        let vectors = collection.iter().unwrap().map(Result::unwrap);
        let vectors = vectors.map(|(key, vector)| (key, bits(&vector))).collect();
        let search = |seed| {
            let hits = collection.search(&vector(seed), 10).unwrap();
            hits.iter().map(|hit| (hit.key, hit.distance.to_bits())).collect()
        };
        Self { vectors, hits: (0..8).map(search).collect() }
    }
}

//! Bytes of segments, and segments as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};

use nestling::{CollectionDefinition, Error, Metric, Store, VectorAccess};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::asking::{Answers, DIMENSION, Fixture, POINTS, everything, exact, get};
use crate::layout::{CODES, HEADER, Layout, TAIL, TAIL_LINE, Tail};
use crate::patch::{mask, open_for_patching, with_flipped};

const OTHERS: CollectionDefinition =
    CollectionDefinition::new("others", DIMENSION, Metric::L2).m(4).ef_construction(40);

/// The bytes of a slot that mean something.
const CODE: u64 = DIMENSION as u64 + TAIL;
const VECTOR: u64 = 4 * DIMENSION as u64;

/// The slots in use: of those that hold a stored key, which stands behind the code and its five scalars, the one with the highest
/// stamp, which stands behind the key.
fn live_slots(fixture: &Fixture, file: &File, layout: &Layout) -> BTreeSet<u32> {
    let mut newest: BTreeMap<u64, (u64, u32)> = BTreeMap::new();
    for slot in 0..2 * fixture.expected.vectors.len() as u32 {
        let Tail { norm, key, stamp } = layout.tail(file, slot);
        let stored = fixture.expected.vectors.get(&key).is_some_and(Option::is_some);
        if norm != 0 && stored && newest.get(&key).is_none_or(|&(newest, _)| newest < stamp) {
            newest.insert(key, (stamp, slot));
        }
    }
    assert_eq!(newest.len() as u64, fixture.expected.len);
    newest.values().map(|&(_, slot)| slot).collect()
}

/// Every byte of a region of every slot that was ever used, and of the padding behind it.
fn flip_slots(
    seed: u64,
    fixture: impl Fn(u64) -> Fixture,
    offset: impl Fn(&Layout, u32) -> u64,
    len: u64,
    stride: impl Fn(&Layout) -> u64,
) {
    println!("seed {seed}");
    let fixture = fixture(seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let file = open_for_patching(&fixture.segment());
    let layout = Layout::read(&file, DIMENSION);
    let live = live_slots(&fixture, &file, &layout);
    let cursor = live.last().unwrap() + 1;
    let free = (0..cursor).find(|slot| !live.contains(slot)).unwrap();
    let mut flips = 0;
    for slot in 0..cursor {
        for byte in 0..len {
            let mask = mask(&mut rng);
            let what = format!("byte {byte} of slot {slot}, mask {mask:02x}");
            // Of what is free, one slot will do.
            if live.contains(&slot) {
                let outcome = with_flipped(&file, offset(&layout, slot) + byte, mask, || fixture.ask());
                outcome.assert_noticed(&what);
                assert!(outcome.refused > 0 && outcome.right > 0, "{what}: {outcome:?}");
                flips += 1;
            } else if slot == free {
                let outcome = with_flipped(&file, offset(&layout, slot) + byte, mask, || fixture.ask());
                outcome.assert_unnoticed(&what);
                flips += 1;
            }
        }
    }
    // Padding, and what lies beyond the slots in use.
    for slot in [0, cursor - 1, cursor] {
        for byte in len..stride(&layout) {
            let what = format!("byte {byte} of slot {slot}");
            with_flipped(&file, offset(&layout, slot) + byte, 0xff, || fixture.ask()).assert_unnoticed(&what);
            flips += 1;
        }
    }
    println!("{flips} flips, {} live slots of {cursor}", live.len());
    fixture.ask().assert_unnoticed("after all is restored");
}

#[test]
fn every_flipped_byte_of_a_code_is_noticed() {
    flip_slots(11, Fixture::new, Layout::code, CODE, |layout| layout.code_stride);
}

#[test]
fn every_flipped_byte_of_a_vector_is_noticed() {
    flip_slots(12, Fixture::new, Layout::vector, VECTOR, |layout| layout.vector_stride);
}

#[test]
fn every_flipped_byte_of_a_vector_without_a_code_is_noticed_and_of_the_tail_before_it() {
    // What lies behind the vector up to the next slot is padding, what lies behind the tail goes up to the vector.
    flip_slots(14, Fixture::without_codes, Layout::vector, VECTOR, |layout| layout.code_stride - TAIL_LINE);
    flip_slots(15, Fixture::without_codes, Layout::code, TAIL, |_| TAIL_LINE);
}

#[test]
fn every_flipped_byte_of_a_header_is_noticed() {
    let seed = 13;
    println!("seed {seed}");
    let fixture = Fixture::new(seed);
    let mut rng = StdRng::seed_from_u64(seed);
    let file = open_for_patching(&fixture.segment());
    for offset in 0..HEADER {
        let mask = mask(&mut rng);
        let what = format!("byte {offset} of the header, mask {mask:02x}");
        let outcome = with_flipped(&file, offset, mask, || fixture.ask());
        outcome.assert_noticed(&what);
        assert!(outcome.refused > 0, "{what}");
    }
    for offset in [HEADER, HEADER + 1, 4096, CODES - 1] {
        let outcome = with_flipped(&file, offset, 0xff, || fixture.ask());
        outcome.assert_unnoticed(&format!("byte {offset}, which means nothing"));
    }
}

// ---------------------------------------------------------------------------------------------------------- whole segments

#[test]
fn truncated_segments_are_corrupted_and_longer_ones_are_fine() {
    let fixture = Fixture::new(21);
    let whole = fs::read(fixture.segment()).unwrap();
    let layout = Layout::read(&File::open(fixture.segment()).unwrap(), DIMENSION);
    let lengths = [
        0,
        1,
        HEADER - 1,
        HEADER,
        CODES - 1,
        CODES,
        layout.code(50),
        layout.vector(1),
        whole.len() as u64 - 1,
    ];
    for len in lengths {
        fs::write(fixture.segment(), &whole[..len as usize]).unwrap();
        for access in [VectorAccess::Map, VectorAccess::Copy] {
            let outcome = fixture.ask_with(access);
            outcome.assert_noticed(&format!("truncated to {len}, {access:?}"));
            assert!(outcome.refused as u64 > fixture.expected.len, "nothing of it is used: {outcome:?}");
        }
    }
    let mut longer = whole.clone();
    longer.extend([0xab; 100_000]);
    fs::write(fixture.segment(), &longer).unwrap();
    for access in [VectorAccess::Map, VectorAccess::Copy] {
        fixture.ask_with(access).assert_unnoticed("extended");
    }
}

#[test]
fn a_missing_segment_is_corrupted_and_not_made_anew() {
    let fixture = Fixture::new(22);
    fs::remove_file(fixture.segment()).unwrap();
    let outcome = fixture.ask();
    outcome.assert_noticed("missing");
    // The keys are known without it; and a writer does not paper over the loss.
    let store = Store::open(&fixture.path).unwrap();
    let tx = store.begin_write().unwrap();
    let mut points = tx.open_collection(POINTS).unwrap();
    assert_eq!(points.keys().unwrap().count() as u64, fixture.expected.len);
    let error = points.insert(1000, &[0.0; DIMENSION]).unwrap_err();
    assert!(error.is_corrupted() && error.to_string().contains("00000000.vectors"), "{error}");
    drop(points);
    assert!(matches!(tx.commit(), Err(Error::TransactionFailed)));
    assert!(!fixture.segment().exists());
}

#[test]
fn segments_of_other_stores_and_collections_are_corrupted() {
    let fixture = Fixture::new(23);
    let other = Fixture::new(24);
    let whole = fs::read(fixture.segment()).unwrap();
    fs::copy(other.segment(), fixture.segment()).unwrap();
    let outcome = fixture.ask();
    outcome.assert_noticed("of another store");
    assert!(outcome.refused as u64 > fixture.expected.len, "{outcome:?}");
    fs::write(fixture.segment(), &whole).unwrap();

    // Two collections of one store, alike in all but their content.
    let store = Store::open(&fixture.path).unwrap();
    let tx = store.begin_write().unwrap();
    let mut others = tx.open_collection(OTHERS).unwrap();
    others.insert_many(fixture.expected.all.iter().map(|(key, x)| (*key, x))).unwrap();
    drop(others);
    tx.commit().unwrap();
    store.close().unwrap();
    let second = fixture.path.join("00000001.vectors");
    let aside = fixture.path.with_extension("aside");
    fs::rename(fixture.segment(), &aside).unwrap();
    fs::rename(&second, fixture.segment()).unwrap();
    fs::rename(&aside, &second).unwrap();
    let outcome = fixture.ask();
    outcome.assert_noticed("exchanged");
    assert!(outcome.refused as u64 > fixture.expected.len, "{outcome:?}");
    let store = Store::builder().read_only().open(&fixture.path).unwrap();
    let others = store.begin_read().unwrap().open_collection(OTHERS).unwrap();
    assert!(others.search(&fixture.queries[0], 5).unwrap_err().is_corrupted());
}

/// A backup that copied the files at different moments: the segment is older than redb's file. What was not written since is right.
#[test]
fn a_segment_older_than_redb_is_corrupted_where_it_differs() {
    let mut fixture = Fixture::new(25);
    let older = fs::read(fixture.segment()).unwrap();
    let store = Store::open(&fixture.path).unwrap();
    let mut changed = BTreeSet::new();
    // Later commits write to slots that earlier ones freed.
    for round in 0..4 {
        let tx = store.begin_write().unwrap();
        let mut points = tx.open_collection(POINTS).unwrap();
        for key in [10 + round, 30 + round, 104 + round, 60] {
            points.insert(key, &[round as f32 + key as f32 / 100.0; DIMENSION]).unwrap();
            changed.insert(key);
        }
        assert!(points.remove(80 + round).unwrap());
        drop(points);
        tx.commit().unwrap();
    }
    store.close().unwrap();
    fixture.expected = Answers::of(&fixture.path, 110, &fixture.queries);
    fs::write(fixture.segment(), &older).unwrap();

    let outcome = fixture.ask();
    outcome.assert_noticed("older");
    let store = Store::builder().read_only().open(&fixture.path).unwrap();
    let points = store.begin_read().unwrap().open_collection(POINTS).unwrap();
    for (&key, expected) in &fixture.expected.vectors {
        match get(&points, key) {
            Ok(found) => assert!(found == *expected && !changed.contains(&key), "key {key}: {found:?}"),
            Err(e) => assert!(e.is_corrupted() && changed.contains(&key), "key {key}: {e}"),
        }
    }
    assert!(everything(&points, &fixture.queries[0]).unwrap_err().is_corrupted());
    assert!(exact(&points, &fixture.queries[0]).unwrap_err().is_corrupted());
    let report = store.check().unwrap();
    assert!(report.problems.len() >= changed.len(), "each of them: {:#?}", report.problems);
}

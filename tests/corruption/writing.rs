//! Writers on a damaged store.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nestling::{Error, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::asking::{Fixture, Outcome, POINTS, get, point, stage};

/// What a key may hold: more than one thing after a commit of which nobody knows whether it has happened.
type Held = BTreeMap<u64, Vec<Option<Vec<f32>>>>;

/// Copies the store, as damaged as it is, writes to the copy, and asks what has come of it: what was acknowledged is there, and what was
/// not touched is as it was, or refused.
pub fn write_to_copy(fixture: &Fixture, seed: u64) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("copy");
    copy(&fixture.path, &path);
    let mut outcome = Outcome::default();
    let mut held: Held =
        fixture.expected.vectors.iter().map(|(&key, vector)| (key, vec![vector.clone()])).collect();
    stage("opening for writing");
    match Store::open(&path) {
        Ok(store) => write(&store, &mut StdRng::seed_from_u64(seed), &mut held, &mut outcome),
        Err(e) => outcome.refuse_to_write("opening for writing", &e),
    }
    stage("reading after writing");
    let Some(store) = outcome.open(&path) else { return outcome };
    match store.begin_read().unwrap().open_collection(POINTS) {
        Ok(points) => {
            for (key, held) in &held {
                match get(&points, *key) {
                    Ok(found) if held.contains(&found) => outcome.right += 1,
                    Ok(found) => outcome.wrong.push(format!("after writing, {key}: {found:?}, not {held:?}")),
                    Err(e) => outcome.refuse("get after writing", &e),
                }
                if outcome.lost_its_way {
                    break;
                }
            }
        }
        Err(e) => outcome.refuse("opening the collection after writing", &e),
    }
    outcome
}

fn write(store: &Store, rng: &mut StdRng, held: &mut Held, outcome: &mut Outcome) {
    for _ in 0..4 {
        stage("writing");
        let mut after = held.clone();
        let made = change(store, rng, &mut after);
        let Ok(tx) = made.map_err(|e| outcome.refuse_to_write("writing", &e)) else { continue };
        stage("committing");
        match tx.commit() {
            Ok(()) => *held = after,
            Err(e) => {
                if !matches!(e, Error::TransactionFailed | Error::CommitAborted { .. }) {
                    // Reopening shows whether it has happened.
                    for (key, vectors) in after {
                        let known = held.entry(key).or_insert_with(|| vec![None]);
                        known.extend(vectors);
                    }
                }
                outcome.refuse_to_write("committing", &e);
            }
        }
    }
    stage("closing");
}

/// One transaction's changes.
fn change(store: &Store, rng: &mut StdRng, after: &mut Held) -> Result<nestling::WriteTransaction, Error> {
    let tx = store.begin_write()?;
    let mut points = tx.open_collection(POINTS)?;
    for _ in 0..3 {
        let key = rng.random_range(0..320);
        let vector = Some(point(rng)).filter(|_| rng.random_ratio(2, 3));
        match &vector {
            Some(vector) => drop(points.insert(key, vector)?),
            None => drop(points.remove(key)?),
        }
        after.insert(key, vec![vector]);
    }
    drop(points);
    Ok(tx)
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

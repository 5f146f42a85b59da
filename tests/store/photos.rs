//! `examples/photos`: two collections and two tables are one album.
//!
//! A photo is a row, an entry in the index by date and one vector or two, under two metrics. The example's own code runs here: what it finds
//! is compared with what brute force finds from the pictures themselves, and after any mix of imports and deletions all four places must
//! hold the same photos. Since the pictures are painted it is known what is in them, so that "alike" has an answer.
//!
//! `NESTLING_PHOTOS_SEED=… cargo test --test store photos` replays a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nestling::redb::TableDefinition;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};

use album::{Album, Date, Look, Photo};
use pictures::{Picture, Scene};

#[path = "../../examples/photos/album.rs"]
mod album;
#[path = "../../examples/photos/pictures.rs"]
mod pictures;

const ALWAYS: RangeInclusive<Date> = 0..=Date::MAX;

/// Shapes tell places, colours tell lights, and both tell both.
#[test]
fn alike_is_what_was_painted_alike() {
    let mut rng = StdRng::seed_from_u64(seed());
    let dir = tempfile::tempdir().unwrap();
    let album = Album::open(&dir.path().join("album.nestling")).unwrap();
    let scenes: Vec<Scene> = (0..800).map(|_| Scene::any(&mut rng)).collect();
    let keys = album.import(scenes.iter().map(|scene| (dated(20260101), scene.paint(&mut rng)))).unwrap();
    assert!(keys.iter().copied().eq(0..800));

    let share = |look, is_right: fn(Scene, Scene) -> bool| {
        let mut right = 0;
        for (key, &scene) in (0..).zip(&scenes).step_by(4) {
            let found = album.alike(key, look, ALWAYS, 5).unwrap();
            assert_eq!(found.len(), 5);
            right += found.iter().filter(|(other, _)| is_right(scene, scenes[*other as usize])).count();
        }
        f64::from(right as u32) / 1000.0
    };
    let by_shape = share(Look::Shape, |a, b| a.place == b.place);
    let by_colour = share(Look::Colour, |a, b| a.light == b.light);
    let [shape_alone, colour_alone, both] =
        [Look::Shape, Look::Colour, Look::Both].map(|look| share(look, |a, b| a == b));
    println!(
        "place by shape {by_shape}, light by colour {by_colour}; scene by shape {shape_alone}, colour {colour_alone}, both {both}"
    );
    assert!(by_shape > 0.97 && by_colour > 0.97);
    assert!(both > 0.95 && both > colour_alone + 0.1 && both > shape_alone + 0.1);
}

/// Each collection ranks by its own metric, among the photos of the dates and no others.
#[test]
fn searches_agree_with_brute_force() {
    let mut rng = StdRng::seed_from_u64(seed());
    let dir = tempfile::tempdir().unwrap();
    let album = Album::open(&dir.path().join("album.nestling")).unwrap();
    let pictures: Vec<(Date, Picture)> = (0..600)
        .map(|_| (20260100 + rng.random_range(1..=28), Scene::any(&mut rng).paint(&mut rng)))
        .collect();
    album.import(pictures.iter().map(|(date, picture)| (dated(*date), picture.clone()))).unwrap();

    let (mut right, mut asked) = (0, 0);
    for key in (0..600).step_by(7) {
        let from = 20260100 + rng.random_range(0..=28);
        let dates = from..=from + rng.random_range(0..=10);
        for (look, distance) in [(Look::Shape, by_shape as Distance), (Look::Colour, by_colour)] {
            let others =
                (0..).zip(&pictures).filter(|(other, (date, _))| *other != key && dates.contains(date));
            let of = |picture| distance(&pictures[key as usize].1, picture);
            let mut expected: Vec<(f32, u64)> =
                others.map(|(other, (_, picture))| (of(picture), other)).collect();
            expected.sort_by(|a, b| a.0.total_cmp(&b.0));
            expected.truncate(8);
            let found = album.alike(key, look, dates.clone(), 8).unwrap();
            assert_eq!(found.len(), expected.len(), "{look:?} {dates:?}: all that there are, up to 8");
            assert!(found.iter().all(|(other, photo)| *other != key && dates.contains(&photo.date)));
            // What is as near as the farthest expected one is as right as that.
            let farthest = expected.last().map_or(0.0, |last| last.0) + 1e-5;
            right += found.iter().filter(|(other, _)| of(&pictures[*other as usize].1) <= farthest).count();
            asked += expected.len();
        }
    }
    println!("{right} of {asked}");
    assert!(asked > 500 && right as f64 >= 0.99 * asked as f64, "{right} of {asked}");
}

/// Imports, imports that fail on the way, and deletions, beside a map.
#[test]
fn nothing_of_a_photo_stays_behind() {
    let mut rng = StdRng::seed_from_u64(seed());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("album.nestling");
    let mut album = Album::open(&path).unwrap();
    let mut reference: BTreeMap<u64, (Photo, Picture)> = BTreeMap::new();
    for round in 0..60 {
        match (rng.random_range(0..5), reference.keys().copied().choose(&mut rng)) {
            (0..2, Some(key)) => {
                assert!(album.delete(key).unwrap());
                assert_eq!(album.photo(key).unwrap(), None);
                assert!(!album.delete(key).unwrap(), "photo {key} is deleted twice");
                reference.remove(&key);
            }
            (2, _) => {
                let mut left = rng.random_range(0..3);
                let failing = std::iter::from_fn(|| {
                    left -= 1;
                    assert!(left >= 0, "the camera was unplugged");
                    Some(any_photo(&mut rng))
                });
                assert!(catch_unwind(AssertUnwindSafe(|| album.import(failing))).is_err());
            }
            _ => {
                let photos: Vec<(Photo, Picture)> =
                    (0..rng.random_range(0..6)).map(|_| any_photo(&mut rng)).collect();
                let keys = album.import(photos.iter().cloned()).unwrap();
                assert_eq!(keys.len(), photos.len());
                for (key, photo) in keys.into_iter().zip(photos) {
                    assert!(reference.insert(key, photo).is_none(), "key {key} is in use");
                }
            }
        }
        if round % 20 == 19 {
            drop(album);
            album = Album::open(&path).unwrap();
        }
        compare(&album, &reference, round);
    }
    let report = album.store().check().unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
    assert!(!reference.is_empty());
}

/// An app's update brings a collection and a table to an album that exists: the version before knew neither, here one that did not look
/// at colours or dates. Making them only where a store is new would leave every user's old album without.
#[test]
fn an_update_of_the_app_adds_a_collection_and_a_table() {
    let mut rng = StdRng::seed_from_u64(seed());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("album.nestling");
    let album = Album::open(&path).unwrap();
    let (old, _) = any_photo(&mut rng);
    let picture = Scene::any(&mut rng).paint(&mut rng);
    let [old_key] = album.import([(old.clone(), picture.clone())]).unwrap()[..] else { panic!("one photo") };
    let tx = album.store().begin_write().unwrap();
    assert!(tx.drop_collection("by colour").unwrap());
    assert!(tx.delete_table(TableDefinition::<(Date, u64), ()>::new("by date")).unwrap());
    tx.commit().unwrap();
    drop(album);

    let album = Album::open(&path).unwrap();
    assert_eq!(album.photo(old_key).unwrap(), Some(old));
    assert_eq!(album.alike(old_key, Look::Colour, ALWAYS, 5).unwrap(), []);
    let new = [any_photo(&mut rng), (dated(20260714), picture)];
    let keys = album.import(new.clone()).unwrap();
    assert_eq!(album.alike(keys[1], Look::Colour, ALWAYS, 5).unwrap(), [(keys[0], new[0].0.clone())]);
}

/// What is stored, read without the example's code, is what the map has.
fn compare(album: &Album, reference: &BTreeMap<u64, (Photo, Picture)>, round: usize) {
    let tx = album.store().begin_read().unwrap();
    let photos = tx.open_table(TableDefinition::<u64, (Date, &str)>::new("photos")).unwrap();
    let rows = photos.iter().unwrap().map(|row| {
        let (key, row) = row.unwrap();
        (key.value(), Photo { date: row.value().0, name: row.value().1.to_owned() })
    });
    assert!(rows.eq(reference.iter().map(|(key, (photo, _))| (*key, photo.clone()))), "round {round}: rows");

    let by_date = tx.open_table(TableDefinition::<(Date, u64), ()>::new("by date")).unwrap();
    let dated: BTreeSet<(Date, u64)> =
        by_date.iter().unwrap().map(|entry| entry.unwrap().0.value()).collect();
    let expected: BTreeSet<_> = reference.iter().map(|(key, (photo, _))| (photo.date, *key)).collect();
    assert_eq!(dated, expected, "round {round}: dates");

    for (name, describe) in [
        ("by shape", Picture::shapes as fn(&Picture) -> Option<Vec<f32>>),
        ("by colour", |picture| Some(picture.colours())),
    ] {
        let stored = tx.open_stored_collection(name).unwrap();
        let stored = stored
            .iter()
            .unwrap()
            .map(|entry| entry.map(|(key, vector)| (key, vector.into_owned())).unwrap());
        let expected = reference.iter().filter_map(|(key, (_, picture))| Some((*key, describe(picture)?)));
        assert!(stored.eq(expected), "round {round}: {name}");
    }
}

/// One in five has nothing on it, and no shapes therefore.
fn any_photo(rng: &mut StdRng) -> (Photo, Picture) {
    let picture =
        if rng.random_ratio(1, 5) { Picture::blank([0.5, 0.5, 0.5]) } else { Scene::any(rng).paint(rng) };
    (dated(20260100 + rng.random_range(1..=28)), picture)
}

fn dated(date: Date) -> Photo {
    Photo { date, name: format!("of {date}") }
}

fn seed() -> u64 {
    const SEED: &str = "NESTLING_PHOTOS_SEED";
    let seed = env::var(SEED).map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("{SEED}={seed}");
    seed
}

type Distance = fn(&Picture, &Picture) -> f32;

fn by_shape(a: &Picture, b: &Picture) -> f32 {
    let (a, b) = (a.shapes().unwrap(), b.shapes().unwrap());
    1.0 - dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}

fn by_colour(a: &Picture, b: &Picture) -> f32 {
    a.colours().iter().zip(b.colours()).map(|(a, b)| (a - b).powi(2)).sum()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

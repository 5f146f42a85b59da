//! Sets of keys as apps with tags keep them: `Query::among` takes roaring's treemaps (feature `roaring`).

use nestling::{CollectionDefinition, Metric, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use roaring::RoaringTreemap;

const SEED: u64 = 20;

/// 5,000 points under keys that are multiples of three, so that sets hold keys that are stored and others.
#[test]
fn a_treemap_finds_what_a_slice_finds() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    let points = CollectionDefinition::new("points", 16, Metric::L2);
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut point = || [(); 16].map(|()| rng.random_range(-1.0..1.0_f32));
    let tx = store.begin_write().unwrap();
    let rows = (0..5_000).map(|row| (3 * row, point()));
    tx.open_collection(points).unwrap().insert_many(rows).unwrap();
    tx.commit().unwrap();

    let points = store.begin_read().unwrap().open_collection(points).unwrap();
    let query = point();
    for step in [2, 100, 5000] {
        let slice: Vec<u64> = (0..15_000).filter(|key| key % step == 3 % step).chain([u64::MAX]).collect();
        let treemap: RoaringTreemap = slice.iter().copied().collect();
        let by_slice = points.query(&query).k(10).among(&slice).run().unwrap();
        let by_treemap = points.query(&query).k(10).among(&treemap).run().unwrap();
        assert_eq!(by_slice, by_treemap, "every {step}th key");
        assert!(!by_slice.is_empty());
    }
}

//! What the store reports can be written as JSON, under the names that it is documented by (feature `serde`).

use std::collections::BTreeSet;

use nestling::{Codes, CollectionDefinition, Element, Metric, Store};
use serde_json::{Value, json};

#[test]
fn reports_are_written_under_their_documented_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    let points = CollectionDefinition::new("points", 2, Metric::L2).element(Element::F16);
    let tx = store.begin_write().unwrap();
    tx.open_collection(points).unwrap().insert_many((0..100).map(|key| (key, [key as f32, 0.0]))).unwrap();
    tx.commit().unwrap();

    let stats = serde_json::to_value(store.stats().unwrap()).unwrap();
    let collection = &stats["collections"][0];
    assert_eq!((&collection["name"], &collection["vectors"]), (&json!("points"), &json!(100)));
    let parameters = json!({
        "dimension": 2, "metric": "l2", "m": 16, "m0": 32, "ef_construction": 200, "seed": 0,
        "codes": "7-bit", "element": "f16",
    });
    assert_eq!(collection["parameters"], parameters);
    assert_eq!(collection["layers"][0]["nodes"], 100);
    let check = store.check().unwrap();
    assert_names(&check, &["problems", "truncated", "vectors", "links"]);
    assert_eq!(serde_json::to_value(&check).unwrap()["vectors"], 100);
    assert_names(&store.counters(), &["bytes_read", "bytes_written", "syncs"]);

    let points = store.begin_read().unwrap().open_collection(points).unwrap();
    let hits = points.search(&[7.0, 0.0], 1).unwrap();
    assert_eq!(serde_json::to_value(&hits).unwrap(), json!([{ "key": 7, "distance": 0.0 }]));
    let hits = points.query(&[7.0, 0.0]).k(1).run().unwrap();
    assert_names(
        &hits.statistics(),
        &["strategy", "layers", "ef", "distances", "expanded", "reranked", "filter_calls"],
    );
    let written = json!({
        "hits": [{ "key": 7, "distance": 0.0 }], "statistics": hits.statistics(), "is_partial": false, "is_cut": false,
    });
    assert_eq!(serde_json::to_value(&hits).unwrap(), written);
    assert_names(&store.backup(dir.path().join("copy")).unwrap(), &["commit", "bytes"]);

    drop(points);
    let (store, compaction) = store.compact().unwrap();
    assert_names(&compaction, &["bytes_before", "bytes_after", "vectors"]);
    store.close().unwrap();
    let repair = Store::repair(dir.path().join("store"), dir.path().join("repaired")).unwrap();
    assert_names(&repair, &["rows_found", "tables_kept", "unknown_segments", "collections"]);
    let names = ["name", "recovered", "lost", "lost_keys", "definition_lost"];
    assert_names(&repair.collections[0], &names);
}

/// These names, and no others.
fn assert_names(report: &impl serde::Serialize, names: &[&str]) {
    let written = serde_json::to_value(report).unwrap();
    let written: BTreeSet<&str> = written.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(written, names.iter().copied().collect());
}

#[test]
fn choices_are_read_as_they_are_displayed() {
    fn all<T: serde::de::DeserializeOwned + serde::Serialize + std::fmt::Display>(values: &[T]) {
        for value in values {
            let written = serde_json::to_value(value).unwrap();
            assert_eq!(written, Value::String(value.to_string()));
            let read: T = serde_json::from_value(written).unwrap();
            assert_eq!(read.to_string(), value.to_string());
        }
    }
    all(&[Metric::L2, Metric::Cosine, Metric::Dot]);
    all(&[Codes::SevenBit, Codes::None]);
    all(&[Element::F32, Element::F16, Element::I8]);
    assert!(serde_json::from_str::<Metric>("\"manhattan\"").is_err());
}

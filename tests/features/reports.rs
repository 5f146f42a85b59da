//! What the store reports can be written as JSON, under the names that it is documented by (feature `serde`).

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
    assert_eq!(serde_json::to_value(store.check().unwrap()).unwrap()["vectors"], 100);
    assert!(serde_json::to_value(store.counters()).unwrap().is_object());

    let points = store.begin_read().unwrap().open_collection(points).unwrap();
    let hits = points.search(&[7.0, 0.0], 1).unwrap();
    assert_eq!(serde_json::to_value(&hits).unwrap(), json!([{ "key": 7, "distance": 0.0 }]));
    let statistics = points.query(&[7.0, 0.0]).run().unwrap().statistics();
    assert!(serde_json::to_value(statistics).unwrap()["distances"].as_u64() > Some(0));
    let backup = store.backup(dir.path().join("copy")).unwrap();
    assert!(serde_json::to_value(backup).unwrap().is_object());
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

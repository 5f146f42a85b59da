//! The formulas of the guide's page on memory and disk hold.
//!
//! An app's author decides by them whether the store fits a phone. They are simple on purpose, so they hold within a tenth on data like
//! embeddings, where nodes have about 1.4 m neighbours on layer 0.

use nestling::{Codes, CollectionDefinition, Element, Metric, Store};

use crate::words;

/// As in `src/guide/sizing.md`.
struct Formula {
    n: usize,
    d: usize,
    m: usize,
    codes: Codes,
    element: Element,
}

impl Formula {
    fn disk(&self) -> usize {
        let up = |bytes: usize| bytes.next_multiple_of(64);
        let vector = match self.element {
            Element::F16 => up(2 * self.d),
            Element::I8 => up(self.d + 1),
            _ => up(4 * self.d),
        };
        let code = if self.codes == Codes::None { 64 } else { up(self.d + 56) };
        self.n * (vector + code + self.rows())
    }

    fn rows(&self) -> usize {
        match self.m {
            8 => 150,
            16 => 200,
            32 => 255,
            other => panic!("the guide does not tell of m {other}"),
        }
    }

    fn graph_in_memory(&self) -> usize {
        self.n * (115 + 8 * self.m)
    }
}

#[test]
fn disk_and_memory_are_as_the_guide_says() {
    let vectors = words::words().vectors;
    let cases = [
        (8, Codes::SevenBit, Element::F32),
        (16, Codes::SevenBit, Element::F32),
        (32, Codes::SevenBit, Element::F32),
        (16, Codes::None, Element::F32),
        (16, Codes::SevenBit, Element::F16),
        (16, Codes::SevenBit, Element::I8),
    ];
    for (m, codes, element) in cases {
        let formula = Formula { n: vectors.len(), d: words::DIMENSION, m, codes, element };
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let definition = CollectionDefinition::new("words", words::DIMENSION, Metric::Cosine)
            .m(m)
            .ef_construction(100)
            .codes(codes)
            .element(element);
        let tx = store.begin_write().unwrap();
        tx.open_collection(definition).unwrap().insert_many((0..).zip(&vectors)).unwrap();
        tx.commit().unwrap();
        let disk = store.bytes_on_disk().unwrap() as usize;
        // Every page of the graph, but none that the transaction left in memory.
        store.close().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let words = store.begin_read().unwrap().open_collection(definition).unwrap();
        for key in words.keys().unwrap() {
            words.get(key.unwrap()).unwrap();
        }
        let stats = &store.stats().unwrap().collections[0];
        assert_eq!(stats.graph_pages_loaded, stats.graph_pages);
        for (what, predicted, measured) in [
            ("disk", formula.disk(), disk),
            ("graph in memory", formula.graph_in_memory(), stats.resident_bytes),
        ] {
            let ratio = measured as f64 / predicted as f64;
            println!(
                "m {m}, {codes} codes, {element}: {what} predicted {predicted}, measured {measured}, {ratio:.3}"
            );
            assert!((0.9..1.1).contains(&ratio), "{what} with m {m}, {codes} codes, {element}: {ratio:.3}");
        }
    }
}

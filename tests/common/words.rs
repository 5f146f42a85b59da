//! The 5,000 words of `examples/data`: real embeddings with their texts. `examples/data/README.md` tells where they are from.

use std::path::Path;

/// Components of a vector.
pub const DIMENSION: usize = 384;

/// Vectors and texts, row by row, in WordNet's order.
pub struct Words {
    /// Embeddings of (nearly) unit length.
    pub vectors: Vec<Vec<f32>>,
    /// What each vector is the embedding of: "lemmas: gloss".
    pub texts: Vec<String>,
}

/// Reads all of them. Panics where the files are missing or cut.
pub fn words() -> Words {
    words_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data"))
}

/// Reads them for a crate that is elsewhere than this repository's own.
pub fn words_in(data: &Path) -> Words {
    let bytes = std::fs::read(data.join("words.vectors")).expect("examples/data/words.vectors is readable");
    let texts = std::fs::read_to_string(data.join("words.txt")).expect("examples/data/words.txt is readable");

    let (rows, rest) = bytes.as_chunks::<{ 4 + DIMENSION }>();
    assert!(rest.is_empty(), "words.vectors ends within a row");
    let words = Words {
        vectors: rows.iter().map(dequantize).collect(),
        texts: texts.lines().map(str::to_owned).collect(),
    };
    assert_eq!(words.vectors.len(), words.texts.len(), "words.vectors and words.txt have different rows");
    words
}

/// A row is a little-endian f32 scale and, per component, the i8 that it scales.
fn dequantize(row: &[u8; 4 + DIMENSION]) -> Vec<f32> {
    let [a, b, c, d, components @ ..] = row;
    let scale = f32::from_le_bytes([*a, *b, *c, *d]);
    components.iter().map(|&byte| scale * f32::from(byte.cast_signed())).collect()
}

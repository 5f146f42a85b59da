//! What an app plugs its model into.

use std::error::Error;

/// Turns texts into vectors, such that texts of similar meaning have similar directions.
///
/// [`WordVectors`](super::word_vectors::WordVectors) does so without a model; `local_model/` beside this file has one.
pub trait Embedder {
    /// The vector of a text, or `None` where there is nothing in it that the embedder understands.
    fn embed(&self, text: &str) -> Result<Option<Vec<f32>>, Box<dyn Error>>;
}

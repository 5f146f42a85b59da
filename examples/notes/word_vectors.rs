//! An embedder that needs neither a model nor the network.

use std::collections::HashMap;
use std::error::Error;
use std::iter;

use super::embedder::Embedder;
use super::words::{self, Words};

/// Embeds by the dictionary entries in `examples/data` and their vectors.
///
/// This is **not a language model**: it knows the words that occur in those 5,000 entries, and nothing of their order, of grammar, or
/// of negation. A word's vector is the mean of the entries that it names or that mention it; a text's is the mean of its words',
/// rare ones weighing more. What it gives lies near the entries' own vectors, which a real model has computed
/// (all-MiniLM-L6-v2), so that notes and entries can be found by each other.
pub struct WordVectors {
    /// The entries' vectors, less what all of them have in common.
    entries: Vec<Vec<f32>>,
    /// For each word the entries that it occurs in, and how much each counts.
    occurrences: HashMap<String, Vec<(usize, f32)>>,
}

impl WordVectors {
    /// Of the entries in `examples/data`.
    pub fn new(Words { vectors, texts }: &Words) -> Self {
        let count = vectors.len() as f32;
        let common = sum(vectors.iter().map(|vector| (1.0 / count, vector.as_slice())));
        let entries = vectors.iter().map(|v| v.iter().zip(&common).map(|(x, c)| x - c).collect()).collect();

        let mut occurrences: HashMap<String, Vec<(usize, f32)>> = HashMap::new();
        for (entry, text) in texts.iter().enumerate() {
            for (word, weight) in weights(text) {
                occurrences.entry(word).or_default().push((entry, weight));
            }
        }
        Self { entries, occurrences }
    }

    /// A word's vector. It is the longer the rarer the word, and the better known: a single mention says little.
    fn word(&self, occurrences: &[(usize, f32)]) -> Vec<f32> {
        let rarity = (self.entries.len() as f32 / occurrences.len() as f32).ln();
        let evidence: f32 = occurrences.iter().map(|(_, weight)| weight).sum();
        let mean = sum(occurrences.iter().map(|&(entry, weight)| (weight, self.entries[entry].as_slice())));
        let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        sum(iter::once((rarity * evidence / (evidence + 2.0) / length, mean.as_slice())))
    }
}

impl Embedder for WordVectors {
    fn embed(&self, text: &str) -> Result<Option<Vec<f32>>, Box<dyn Error>> {
        let known = split(text).filter_map(|word| self.occurrences.get(&word));
        let words: Vec<Vec<f32>> = known.map(|occurrences| self.word(occurrences)).collect();
        let vector = sum(words.iter().map(|word| (1.0, word.as_slice())));
        Ok(vector.iter().any(|&x| x != 0.0).then_some(vector))
    }
}

/// The words of an entry, "lemmas: gloss", each once: what it names counts more than what it mentions.
fn weights(text: &str) -> HashMap<String, f32> {
    let (lemmas, gloss) = text.split_once(':').unwrap_or((text, ""));
    let mut weights: HashMap<String, f32> = split(gloss).map(|word| (word, 1.0)).collect();
    for lemma in lemmas.split(", ") {
        let words: Vec<String> = split(lemma).collect();
        let weight = if words.len() == 1 { 8.0 } else { 2.0 };
        for word in words {
            let known = weights.entry(word).or_default();
            *known = known.max(weight);
        }
    }
    weights
}

/// Words in lower case, without an s at their end.
fn split(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).map(|word| match word.strip_suffix('s') {
        Some(stem) if stem.len() > 2 && !stem.ends_with('s') => stem.to_owned(),
        _ => word,
    })
}

fn sum<'a>(weighted: impl Iterator<Item = (f32, &'a [f32])>) -> Vec<f32> {
    let mut total = vec![0.0; words::DIMENSION];
    for (weight, vector) in weighted {
        total.iter_mut().zip(vector).for_each(|(total, x)| *total += weight * x);
    }
    total
}

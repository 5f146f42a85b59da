//! The reference: what a store should hold, in ordered maps, and the distances that it should find, in f64.

use std::collections::BTreeMap;
use std::sync::Arc;

use nestling::{Codes, CollectionDefinition, Element, Metric};

use super::dice::Dice;

/// What a whole store should hold. A clone is a snapshot.
#[derive(Debug, Clone, Default)]
pub struct Reference {
    pub shelves: BTreeMap<&'static str, Shelf>,
    /// A table of the app's own, once it exists.
    pub notes: Option<BTreeMap<u64, u64>>,
}

/// What one collection should hold.
#[derive(Debug, Clone)]
pub struct Shelf {
    pub spec: Spec,
    /// Tells collections apart that had the same name one after the other.
    pub generation: u64,
    pub vectors: BTreeMap<u64, Arc<[f32]>>,
    /// It held vectors once.
    pub was_filled: bool,
}

impl Shelf {
    pub fn new(spec: Spec, generation: u64) -> Self {
        Self { spec, generation, vectors: BTreeMap::new(), was_filled: false }
    }

    pub fn any_key(&self, dice: &mut Dice) -> Option<u64> {
        (!self.vectors.is_empty()).then(|| {
            let at = dice.below(self.vectors.len());
            *self.vectors.keys().nth(at).expect("the index is below the length")
        })
    }

    /// The most keys that share one vector.
    pub fn largest_crowd(&self) -> usize {
        let mut counts: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
        for vector in self.vectors.values() {
            *counts.entry(vector.iter().map(|x| x.to_bits()).collect()).or_default() += 1;
        }
        counts.into_values().max().unwrap_or(0)
    }
}

/// The true distance of two vectors, and how far a sum in f32 may be from it.
#[derive(Debug, Clone, Copy)]
pub struct Distance {
    pub value: f64,
    pub tolerance: f64,
}

impl Distance {
    /// However an f32 sum of d products is ordered, it is off by at most d · ε · Σ|terms| (Higham, § 3.1); a few more ε are for
    /// differences, normalisation and the final rounding, the rest for products too small to be normal numbers.
    pub fn between(metric: Metric, query: &[f32], vector: &[f32]) -> Self {
        let pairs = || query.iter().zip(vector).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        let norm = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let dot: f64 = pairs().map(|(a, b)| a * b).sum();
        let (value, terms) = match metric {
            Metric::L2 => {
                let squared = pairs().map(|(a, b)| (a - b).powi(2)).sum();
                (squared, squared)
            }
            Metric::Dot => (-dot, pairs().map(|(a, b)| (a * b).abs()).sum()),
            Metric::Cosine => ((1.0 - dot / (norm(query) * norm(vector))).clamp(0.0, 2.0), 1.0),
            _ => unreachable!("a metric that this test does not know"),
        };
        let dimension = query.len() as f64;
        let tolerance = (dimension + 8.0) * (f64::from(f32::EPSILON) * terms + f64::from(f32::MIN_POSITIVE));
        Self { value, tolerance }
    }
}

/// How a collection is made, and the shape of what is put into it.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    pub name: &'static str,
    pub dimension: usize,
    pub metric: Metric,
    pub m: usize,
    pub m0: usize,
    pub ef_construction: usize,
    pub seed: u64,
    pub codes: Codes,
    pub element: Element,
    pub shape: Shape,
    /// Keys are below this number.
    pub keys: usize,
}

#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Around a few centres.
    Clustered,
    /// Three different vectors, and exact duplicates of them.
    FewDistinct,
    /// Nearly everything is one and the same vector.
    Crowd,
    /// Everything differs from one vector in the last digits.
    NearDuplicates,
    /// The first component is the key.
    Sorted,
    /// Components of -1, 0 and 1: many ties, zero vectors.
    Signs,
    /// Components from 10⁻³⁰ to 10¹⁷.
    Extreme,
}

impl Spec {
    pub fn draw(name: &'static str, dice: &mut Dice) -> Self {
        let m = dice.pick(&[2, 2, 4, 16]);
        Self {
            name,
            dimension: dice.pick(&[1, 2, 3, 8, 33, 200]),
            metric: dice.pick(&[Metric::L2, Metric::Cosine, Metric::Dot]),
            m,
            m0: dice.pick(&[m, 2 * m, 2 * m, 2 * m]),
            ef_construction: dice.pick(&[m, 10, 40, 100, 200]).max(m),
            seed: dice.next(),
            codes: dice.pick(&[Codes::SevenBit, Codes::SevenBit, Codes::None]),
            element: dice.pick(&[Element::F32, Element::F32, Element::F16, Element::I8]),
            shape: dice.pick(&[
                Shape::Clustered,
                Shape::Clustered,
                Shape::FewDistinct,
                Shape::Crowd,
                Shape::NearDuplicates,
                Shape::Sorted,
                Shape::Signs,
                Shape::Extreme,
            ]),
            keys: dice.pick(&[6, 30, 90, 150, 300, 700]),
        }
    }

    /// Everything stated.
    pub fn definition(&self) -> CollectionDefinition<'static> {
        let definition = self.brief_definition().m(self.m).m0(self.m0).seed(self.seed);
        definition.ef_construction(self.ef_construction).codes(self.codes).element(self.element)
    }

    /// As little stated as possible.
    pub fn brief_definition(&self) -> CollectionDefinition<'static> {
        CollectionDefinition::new(self.name, self.dimension, self.metric)
    }

    /// A vector for `key`.
    pub fn vector(&self, key: u64, dice: &mut Dice) -> Vec<f32> {
        let mut vector = match self.shape {
            Shape::Clustered => self.around(dice.below(6), 0.01, dice),
            Shape::FewDistinct => self.center(dice.below(3)),
            Shape::Crowd if dice.percent(90) => self.center(0),
            Shape::Crowd => self.around(dice.below(6), 0.3, dice),
            Shape::NearDuplicates => self.around(0, 1e-6, dice),
            Shape::Sorted => {
                let mut vector = vec![1.0; self.dimension];
                vector[0] = key as f32;
                vector
            }
            Shape::Signs => (0..self.dimension).map(|_| dice.pick(&[-1.0, 0.0, 1.0])).collect(),
            Shape::Extreme => {
                let scale = dice.pick(&[1e-30_f32, 1e-15, 1.0, 1e15, 1e17]);
                self.around(dice.below(3), 0.1, dice).iter().map(|x| x * scale).collect()
            }
        };
        if self.element != Element::F32 {
            // What the smaller types hold as it is, so that the model need not know how they round. (i8 has no negative zero.)
            vector.iter_mut().for_each(|x| *x = (*x * 16.0).round().clamp(-128.0, 127.0) / 16.0 + 0.0);
        }
        if self.metric == Metric::Cosine && vector.iter().all(|&x| x == 0.0) {
            vector[0] = 1.0;
        }
        vector
    }

    fn center(&self, number: usize) -> Vec<f32> {
        let mut dice = Dice::new(self.seed.wrapping_add(number as u64));
        (0..self.dimension).map(|_| dice.symmetric()).collect()
    }

    fn around(&self, center: usize, radius: f32, dice: &mut Dice) -> Vec<f32> {
        self.center(center).into_iter().map(|x| x + radius * dice.symmetric()).collect()
    }
}

//! Seeded vectors that are about as hard to search as embeddings: clusters within clusters, near subspaces of a low dimension.
//!
//! Uniform or plain Gaussian vectors of 100 dimensions have no near neighbours to speak of, and any graph does badly on them; tight
//! clusters are trivial. Embeddings lie between: they fill some 10 to 20 dimensions, bent through the whole space, at very
//! uneven density, with a rest in all directions. So here are [`TOPICS`] topics, each with a centre of its own and a random subspace
//! of `intrinsic` dimensions; within it two levels of [`BRANCHES`] sub-clusters; around the innermost centres a Gaussian, which is
//! wide for some vectors and narrow for others, in the subspace and, `noise` times as long, in all dimensions. Lower numbers of
//! topics and branches are drawn more often.
//!
//! The clusters overlap: with centres farther apart the search gets easier on few vectors. Distances per query at recall .95 tell
//! how hard it is (128 dimensions, cosine, m 16, k 10):
//!
//! | intrinsic, noise | 10,000 | 30,000 | 50,000 | 100,000 | 300,000 |
//! |---|---:|---:|---:|---:|---:|
//! | 10, 0.5 (default) | 293 | 324 | | 369 | 421 |
//! | 10, 0.8 | 368 | | 427 | | |
//! | 16, 0.4 | 359 | 405 | | 499 | 643 |
//! | 12, 0.9 | 473 | 497 | 527 | 617 | 888 |
//! | 16, 0.8 | 551 | | 595 | | |
//! | 10, 1.1 | 771 | | 692 | | |
//! | WordNet's nouns, MiniLM, 384 dimensions | 456 | | 507 | | |
//!
//! Where there is much noise, more vectors mean nearer neighbours, which differ by noise alone: it gets harder, like 128 dimensions
//! where it was 12. By default it gets harder about as log n does, as with WordNet's nouns, and is somewhat easier than they are;
//! `--intrinsic 12 --noise 0.9` is as hard as they are at their size.
//!
//! A vector depends on the seed, its stream and its number alone, whatever the number of threads and of vectors: the first 10,000
//! of a million are the same as 10,000, and from the same distribution.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use crate::matrix::Matrix;

const TOPICS: usize = 32;
const BRANCHES: usize = 16;
/// How far the centres of topics, sub-clusters and their sub-clusters lie from the middle of what they are in, per dimension, in
/// units of the innermost Gaussian's usual width.
const SPREAD: f32 = 0.3;
/// The standard deviation of the base-2 logarithm of that Gaussian's width.
const UNEVENNESS: f32 = 0.5;

pub(crate) struct Synthetic {
    dimension: usize,
    /// Of the noise, per component.
    noise: f32,
    seed: u64,
    topics: Vec<Topic>,
}

struct Topic {
    center: Vec<f32>,
    /// `intrinsic` rows of `dimension` components, of length about 1.
    basis: Matrix,
    /// For each branch, and for each branch of a branch: its centre in the subspace.
    branches: Vec<(Vec<f32>, Vec<Vec<f32>>)>,
}

impl Synthetic {
    /// `noise` is the length of the noise relative to that of the Gaussian in the subspace.
    pub(crate) fn new(dimension: usize, intrinsic: usize, noise: f32, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let noise = noise * (intrinsic as f32 / dimension as f32).sqrt();
        let topics = (0..TOPICS).map(|_| Topic::new(dimension, intrinsic, &mut rng)).collect();
        Self { dimension, noise, seed, topics }
    }

    /// Vectors to be stored, from `first` on.
    pub(crate) fn base(&self, first: usize, count: usize) -> Matrix {
        self.draw(1, first, count)
    }

    /// Vectors from the same distribution that are not in the base.
    pub(crate) fn queries(&self, count: usize) -> Matrix {
        self.draw(2, 0, count)
    }

    fn draw(&self, stream: u64, first: usize, count: usize) -> Matrix {
        let mut values = vec![0.0; count * self.dimension];
        values.par_chunks_exact_mut(self.dimension).enumerate().for_each(|(index, row)| {
            let number = (stream << 40) + (first + index) as u64;
            let mut rng = StdRng::seed_from_u64(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number);
            self.fill(row, &mut rng);
        });
        Matrix::new(values, self.dimension)
    }

    fn fill(&self, row: &mut [f32], rng: &mut StdRng) {
        let topic = &self.topics[uneven(TOPICS, rng)];
        let (outer, inner) = &topic.branches[uneven(BRANCHES, rng)];
        let inner = &inner[uneven(BRANCHES, rng)];
        let width = (UNEVENNESS * normal(rng)).exp2();
        for (value, center) in row.iter_mut().zip(&topic.center) {
            *value = center + self.noise * width * normal(rng);
        }
        for (basis, (outer, inner)) in topic.basis.rows().zip(outer.iter().zip(inner)) {
            let coordinate = outer + inner + width * normal(rng);
            for (value, component) in row.iter_mut().zip(basis) {
                *value += coordinate * component;
            }
        }
    }
}

impl Topic {
    fn new(dimension: usize, intrinsic: usize, rng: &mut StdRng) -> Self {
        // So that a topic's centre is as far away as if it were in a subspace like the others.
        let per_component = (intrinsic as f32 / dimension as f32).sqrt();
        let basis = normals(dimension * intrinsic, (dimension as f32).sqrt().recip(), rng);
        Self {
            center: normals(dimension, SPREAD * per_component, rng),
            basis: Matrix::new(basis, dimension),
            branches: (0..BRANCHES)
                .map(|_| {
                    let outer = normals(intrinsic, SPREAD, rng);
                    (outer, (0..BRANCHES).map(|_| normals(intrinsic, SPREAD, rng)).collect())
                })
                .collect(),
        }
    }
}

/// A number below `count`, more often a low one.
fn uneven(count: usize, rng: &mut StdRng) -> usize {
    let uniform: f32 = rng.random();
    ((uniform * uniform * count as f32) as usize).min(count - 1)
}

fn normals(count: usize, width: f32, rng: &mut StdRng) -> Vec<f32> {
    (0..count).map(|_| width * normal(rng)).collect()
}

/// From the standard normal distribution (Box and Muller 1958).
fn normal(rng: &mut StdRng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
    radius * (std::f32::consts::TAU * rng.random::<f32>()).cos()
}

//! What a collection is: its name, dimension, metric and parameters.

use std::fmt::Display;

use crate::error::{Error, Result};

/// How far two vectors are from each other. Smaller is nearer under every metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Metric {
    /// Squared Euclidean distance, Σ (xᵢ − yᵢ)².
    L2,
    /// 1 − cos(x, y). Vectors need not be normalised; zero vectors are refused.
    Cosine,
    /// −⟨x, y⟩, for maximum inner product.
    Dot,
}

impl Metric {
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Metric::L2 => 0,
            Metric::Cosine => 1,
            Metric::Dot => 2,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Metric::L2, Metric::Cosine, Metric::Dot].into_iter().find(|m| m.to_byte() == byte)
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Metric::L2 => "l2",
            Metric::Cosine => "cosine",
            Metric::Dot => "dot",
        })
    }
}

/// What searches walk the graph on, and insertions choose neighbours by.
///
/// With either, the distances of the hits are those of the stored vectors, and with `ef` no less than the collection's size the
/// result is exact. What differs is how well a search with a small `ef` finds its way, and how fast.
///
/// A 7-bit code is a vector's components rounded to 128 equal steps between its lowest and its highest. That suits components of
/// similar magnitude: embeddings of text and images, on which codes find as much as vectors do. Heavy tails, or a large offset
/// that all components share, cost little or nothing. **Switch codes off, or better centre and scale the data, where what
/// tells vectors apart is smaller than a step**, about a hundredth of the range of a vector's components:
///
/// - raw features in different units. With one component of 100 among others that differ by about 1, searches with `ef` 64 still
///   find all of the ten nearest; with one of 1,000 a third.
/// - small differences on top of a pattern that all vectors share. At a tenth of the pattern's range all are found, at a hundredth
///   .82.
///
/// (`tests/store/codes.rs` measures this; without codes all of these find .99 and more. [`Query::exact`](crate::Query::exact) on a few
/// queries tells it of any data.)
///
/// Without codes, on 384 components, searches take 2.6–3 times as long, insertions 2.2 times; a vector takes 1,600 bytes
/// in its file instead of 1,984.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Codes {
    /// A 7-bit code beside each vector. The best candidates are ranked anew by their vectors.
    #[default]
    #[cfg_attr(feature = "serde", serde(rename = "7-bit"))]
    SevenBit,
    /// No codes: all distances are those of the vectors.
    ///
    /// Sums of floats depend on the order in which a CPU's instructions add, so the same operations give the same graph only on
    /// CPUs for which the same kernels are chosen (AVX-512, AVX2, NEON…). A store may be moved between any of them all the same.
    None,
}

impl Codes {
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Codes::None => 0,
            Codes::SevenBit => 1,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Codes::None, Codes::SevenBit].into_iter().find(|codes| codes.to_byte() == byte)
    }
}

impl std::fmt::Display for Codes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Codes::SevenBit => "7-bit",
            Codes::None => "none",
        })
    }
}

/// How the components of vectors are stored.
///
/// A vector that is not stored as f32 is rounded when it is inserted; from then on the rounded vector is what counts: what `get` gives back,
/// what distances are told of, what is found exactly. Rounding it again changes nothing.
///
/// Vectors are given and taken as f32 whatever is stored; a whole number in -128..=127 is kept as it is by all three.
///
/// | wordnet-50k, 384 components | bytes a vector, with its code | recall@10 at ef 16, 64, 128, exact |
/// |---|---:|---|
/// | [`F32`](Element::F32) | 1,984 | .932, .992, .998, 1 |
/// | [`F16`](Element::F16) | 1,216 | .932, .991, .998, 1.000 |
/// | [`I8`](Element::I8) | 896 | .929, .987, .993, .995 |
///
/// (Against the vectors as they were given; searches take about as long with each: `examples/elements.rs`.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Element {
    /// Single precision, as given.
    #[default]
    F32,
    /// Half precision (IEEE 754 binary16): 11 significant bits, magnitudes up to 65,504. Embeddings lose nothing that matters.
    F16,
    /// A byte per component, and an exponent per vector: multiples of a power of two, the least with which all components are within
    /// -128..=127.
    I8,
}

impl Element {
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Element::F32 => 0,
            Element::F16 => 1,
            Element::I8 => 2,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Element::F32, Element::F16, Element::I8].into_iter().find(|element| element.to_byte() == byte)
    }
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::I8 => "i8",
        })
    }
}

/// Names a collection and states what it must be, as redb's `TableDefinition` does for tables.
///
/// Dimension and metric are always stated. What is left unstated takes its default when the collection is created, and the
/// stored value afterwards; what is stated must agree with what is stored, except `ef_construction`, which may change.
///
/// ```
/// use nestling::{CollectionDefinition, Metric};
///
/// const NOTES: CollectionDefinition = CollectionDefinition::new("notes", 384, Metric::Cosine);
/// const PHOTOS: CollectionDefinition = CollectionDefinition::new("photos", 512, Metric::Dot).m(24).seed(7);
/// # let _ = (NOTES, PHOTOS);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectionDefinition<'a> {
    name: &'a str,
    dimension: usize,
    metric: Metric,
    m: Option<usize>,
    m0: Option<usize>,
    ef_construction: Option<usize>,
    seed: Option<u64>,
    codes: Option<Codes>,
    element: Option<Element>,
}

impl<'a> CollectionDefinition<'a> {
    /// A collection of vectors of `dimension` components (1..=65,535) under `metric`.
    pub const fn new(name: &'a str, dimension: usize, metric: Metric) -> Self {
        Self {
            name,
            dimension,
            metric,
            m: None,
            m0: None,
            ef_construction: None,
            seed: None,
            codes: None,
            element: None,
        }
    }

    /// Neighbours that a new node is given on each layer, and the most it may have above layer 0: 2..=128, 16 by default.
    /// More gives better recall on hard data, and costs memory and insertion time.
    pub const fn m(mut self, m: usize) -> Self {
        self.m = Some(m);
        self
    }

    /// The most neighbours a node may have on layer 0: m..=256, 2·m by default.
    pub const fn m0(mut self, m0: usize) -> Self {
        self.m0 = Some(m0);
        self
    }

    /// How many candidates an insertion considers: m..=65,535, 200 by default. It may change from one opening to the next.
    pub const fn ef_construction(mut self, ef_construction: usize) -> Self {
        self.ef_construction = Some(ef_construction);
        self
    }

    /// The seed of the nodes' levels, 0 by default: the same seed and the same operations give the same graph.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// What the graph is walked on, [`Codes::SevenBit`] by default.
    pub const fn codes(mut self, codes: Codes) -> Self {
        self.codes = Some(codes);
        self
    }

    /// How components are stored, [`Element::F32`] by default.
    pub const fn element(mut self, element: Element) -> Self {
        self.element = Some(element);
        self
    }

    /// The collection's name.
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// The parameters of a collection created by this definition; a typed error for what is out of range.
    pub(crate) fn parameters(&self) -> Result<Parameters> {
        let m = self.m.unwrap_or(16);
        let parameters = Parameters {
            dimension: self.dimension,
            metric: self.metric,
            m,
            m0: self.m0.unwrap_or(m.saturating_mul(2)),
            ef_construction: self.ef_construction.unwrap_or(200.max(m)),
            seed: self.seed.unwrap_or(0),
            codes: self.codes.unwrap_or_default(),
            element: self.element.unwrap_or_default(),
        };
        self.check_name()?;
        parameters.validate()?;
        Ok(parameters)
    }

    fn check_name(&self) -> Result<()> {
        if self.name.is_empty() || self.name.len() > MAX_NAME {
            return Err(Error::InvalidParameter {
                parameter: "the collection's name",
                found: format!("{} bytes long", self.name.len()),
                expected: "1..=255 bytes long",
            });
        }
        Ok(())
    }

    /// Compares with what is stored; gives back the parameters to work with.
    pub(crate) fn agree(&self, stored: &Parameters) -> Result<Parameters> {
        self.check_name()?;
        let stated = Parameters {
            dimension: self.dimension,
            metric: self.metric,
            m: self.m.unwrap_or(stored.m),
            m0: self.m0.unwrap_or(stored.m0),
            ef_construction: self.ef_construction.unwrap_or(stored.ef_construction),
            seed: self.seed.unwrap_or(stored.seed),
            codes: self.codes.unwrap_or(stored.codes),
            element: self.element.unwrap_or(stored.element),
        };
        let collection = self.name;
        compare(collection, "dimension", stored.dimension, stated.dimension)?;
        compare(collection, "metric", stored.metric, stated.metric)?;
        compare(collection, "m", stored.m, stated.m)?;
        compare(collection, "m0", stored.m0, stated.m0)?;
        compare(collection, "seed", stored.seed, stated.seed)?;
        compare(collection, "codes", stored.codes, stated.codes)?;
        compare(collection, "element", stored.element, stated.element)?;
        // After the comparisons, as a mismatch says more. What is stored must go on to be valid with what is stated.
        stated.validate()?;
        Ok(stated)
    }
}

/// As values: written out only where they differ, since every snapshot's collection is opened by way of here.
fn compare<T: PartialEq + Display>(
    collection: &str,
    parameter: &'static str,
    stored: T,
    stated: T,
) -> Result<()> {
    if stored == stated {
        return Ok(());
    }
    let (stored, stated) = (stored.to_string(), stated.to_string());
    Err(Error::DefinitionMismatch { collection: collection.to_owned(), parameter, stored, stated })
}

const MAX_NAME: usize = 255;

/// The parameters that a collection was created with; `ef_construction` as last stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Parameters {
    /// Components of every vector.
    pub dimension: usize,
    /// The metric.
    pub metric: Metric,
    /// Neighbours of a node above layer 0.
    pub m: usize,
    /// Neighbours of a node on layer 0.
    pub m0: usize,
    /// Candidates considered by an insertion.
    pub ef_construction: usize,
    /// The seed of the levels.
    pub seed: u64,
    /// What the graph is walked on.
    pub codes: Codes,
    /// How components are stored.
    pub element: Element,
}

impl Parameters {
    pub(crate) fn validate(&self) -> Result<()> {
        let within = |parameter, found: usize, range: std::ops::RangeInclusive<usize>, expected| {
            if range.contains(&found) {
                Ok(())
            } else {
                Err(Error::InvalidParameter { parameter, found: found.to_string(), expected })
            }
        };
        within("the dimension", self.dimension, 1..=65_535, "1..=65,535")?;
        within("m", self.m, 2..=128, "2..=128")?;
        within("m0", self.m0, self.m..=256, "m..=256")?;
        within("ef_construction", self.ef_construction, self.m..=65_535, "m..=65,535")
    }

    /// How many neighbours a row may have.
    pub(crate) fn capacity(&self) -> Capacity {
        Capacity { m: self.m, m0: self.m0 }
    }
}

/// How many neighbours a row may have, by layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) m: usize,
    pub(crate) m0: usize,
}

impl Capacity {
    /// The most neighbours of a node on `layer`.
    #[inline]
    pub(crate) fn degree(&self, layer: u8) -> usize {
        if layer == 0 { self.m0 } else { self.m }
    }

    /// The most one-way in-edges that a node may have on `layer`, besides its parent's.
    ///
    /// Without a bound the row of a hub, and the cost of deleting it, would grow with the collection.
    #[inline]
    pub(crate) fn inbound(&self, layer: u8) -> usize {
        4 * self.degree(layer)
    }

    /// The most children of a node. Few enough that most of its neighbours are chosen by distance, and that the oldest nodes,
    /// which many would have as their parent, cost no more than others when they go; with two or more, chains of parents
    /// stay short.
    #[inline]
    pub(crate) fn children(&self) -> usize {
        (self.m0 / 4).max(2)
    }
}

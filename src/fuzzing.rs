//! What the fuzz targets reach of the private parts: decoders of what is on disk, and distance kernels.
//!
//! Only there with `--cfg fuzzing`, which `fuzz/run` sets; no part of the API.

use crate::collection::{CollectionState, check_stored};
use crate::distance::InstructionSet;
use crate::error::VectorSubject;
use crate::graph::journal::{self, CollectionEntry};
use crate::graph::rows::{
    CollectionRow, Kind, LinkRow, NodeRecord, Place, SegmentRow, StateRow, decode_empty, decode_slot,
    encode_empty, encode_slot,
};
use crate::graph::{PAGE_SLOTS, Page};
use crate::hnsw::level::MAX_LEVEL;
use crate::options::{Capacity, Codes, Element, Metric, Parameters};
use crate::vectors::{CODE_TAIL, Code, Geometry, HEADER_LEN, Slot, encode_into, sniff, sniff_uuid};

const CAPACITY: Capacity = Capacity { m: 4, m0: 8 };
/// How many slots the collection of a decoded row has.
const SLOTS: Slot = 1000;

/// Decodes `content` as a row or header of some kind, behind a checksum that matches. What decodes must be the same when it is encoded
/// and decoded again, and fit into what it is made for.
pub fn decode(kind: u8, content: &[u8]) {
    match kind % 9 {
        0 => node(content),
        1 => link(content),
        2 => key(content),
        3 => free(content),
        4 => state(content),
        5 => collection(content),
        6 => segment(content),
        7 => entry(content),
        _ => header(content),
    }
}

fn place(kind: Kind) -> Place<'static> {
    Place { kind, collection: 3, key: &[1, 2, 3, 4] }
}

fn node(content: &[u8]) {
    let at = place(Kind::Node);
    let row = at.seal(content.to_vec());
    if let Ok(record) = NodeRecord::decode(&at, &row, MAX_LEVEL) {
        assert_eq!(record.encode(&at), row);
    }
}

fn link(content: &[u8]) {
    let at = place(Kind::Link);
    let row = at.seal(content.to_vec());
    for layer in [0, 1] {
        let Ok(links) = LinkRow::decode(&at, &row, layer, CAPACITY, SLOTS) else { continue };
        assert_eq!(links.encode(&at), row);
        let mut page = Page::new(CAPACITY);
        page.create(5, NodeRecord { key: 1, stamp: 1, level: layer, code_crc: 0, vector_crc: 0 });
        assert!(page.set_row(5, layer, links.clone()));
        // Above layer 0 there are no children and no parents.
        let children = if layer == 0 { links.children } else { 0 };
        let parent = links.parent.filter(|_| layer == 0);
        assert_eq!(page.row(5, layer), Some(LinkRow { children, parent, ..links }));
    }
}

fn key(content: &[u8]) {
    let at = place(Kind::Key);
    let row = at.seal(content.to_vec());
    if let Ok(slot) = decode_slot(&at, &row, SLOTS) {
        assert!(slot < SLOTS);
        assert_eq!(encode_slot(slot, &at), row);
    }
}

fn free(content: &[u8]) {
    let at = place(Kind::Free);
    let row = at.seal(content.to_vec());
    assert_eq!(decode_empty(&at, &row).is_ok(), encode_empty(&at) == row);
}

fn state(content: &[u8]) {
    let at = place(Kind::State);
    let row = at.seal(content.to_vec());
    if let Ok(state) = StateRow::decode(&at, &row) {
        assert_eq!(state.encode(&at), row);
        assert_eq!(StateRow::sniff_version(&row), Some(state.version));
    }
}

fn collection(content: &[u8]) {
    let at = place(Kind::Collection);
    if let Ok(row) = CollectionRow::decode(&at, &at.seal(content.to_vec())) {
        assert_eq!(CollectionRow::decode(&at, &row.encode(&at)).ok(), Some(row));
        if let Ok((state, cursor)) = CollectionState::from_row("fuzzed", &row) {
            assert_eq!(state.to_row(cursor), row);
        }
    }
}

fn segment(content: &[u8]) {
    let at = place(Kind::Segment);
    let row = at.seal(content.to_vec());
    if let Ok(segment) = SegmentRow::decode(&at, &row) {
        assert_eq!(segment.encode(&at), row);
    }
}

/// An entry of the journal, applied to the first row that it holds.
fn entry(content: &[u8]) {
    let at = place(Kind::Journal);
    let previous = content.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let Ok(entry) = journal::decode(&at, content, previous, MAX_LEVEL) else { return };
    assert!(journal::decode(&at, content, previous.wrapping_add(1), MAX_LEVEL).is_err());
    for stored in &entry {
        replay(stored, &entry, &at);
    }
}

fn replay(stored: &CollectionEntry, entry: &[CollectionEntry], at: &Place<'_>) {
    let commits = entry.iter().map(|part| (stored.row.folded.saturating_add(1), part));
    let Ok(replayed) = journal::replay(&stored.row, 0, commits, at) else { return };
    let slots = replayed.row.cursor;
    assert!(replayed.overlay.nodes.keys().all(|&slot| slot < slots));
    let pages = stored.links.iter().map(|change| change.slot as usize / PAGE_SLOTS);
    for page in pages {
        if let Ok(rows) = replayed.overlay.links(page, CAPACITY, slots) {
            assert!(rows.keys().all(|&(slot, _)| slot as usize / PAGE_SLOTS == page));
        }
    }
}

/// A segment's header.
fn header(content: &[u8]) {
    let mut bytes = [0; HEADER_LEN];
    let Some((archive, crc)) = bytes.split_last_chunk_mut::<4>() else { return };
    archive.iter_mut().zip(content).for_each(|(byte, &found)| *byte = found);
    *crc = crc32fast::hash(archive).to_le_bytes();
    if let Some(described) = sniff(&bytes) {
        assert_eq!(sniff_uuid(&bytes), Some(described.store));
        let Geometry { dimension, .. } = described.geometry;
        let capacity = described.geometry.capacity(described.ordinal as usize);
        assert!(described.geometry.file_len(capacity) >= u64::from(capacity) * dimension as u64);
        if let Some(base) = described.geometry.base(described.ordinal as usize) {
            assert_eq!(described.geometry.locate(base), (described.ordinal as usize, 0));
        }
    }
}

/// Codes two vectors, which may be no vectors that a collection takes. What is read of a code is what was written; distances of codes are
/// numbers, and of equal ones 0.
pub fn code(metric: u8, key: u64, stamp: u64, vectors: [&[f32]; 2]) {
    let metric = [Metric::L2, Metric::Cosine, Metric::Dot].into_iter().nth(usize::from(metric % 3));
    let (Some(metric), dimension) = (metric, vectors[0].len()) else { return };
    let all = [Element::F32, Element::F16, Element::I8];
    for (codes, element) in all.into_iter().flat_map(|e| [(Codes::SevenBit, e), (Codes::None, e)]) {
        let (m, m0, ef_construction, seed) = (2, 4, 2, 0);
        let parameters = Parameters { dimension, metric, m, m0, ef_construction, seed, codes, element };
        let accepted = |vector: &&&[f32]| {
            let subject = VectorSubject::Vector { key, position: 0 };
            parameters.validate().and_then(|()| check_stored(subject, vector, &parameters)).is_ok()
        };
        let geometry = match vectors.iter().filter(accepted).count() {
            2 => Geometry::of(&parameters),
            _ => continue,
        };
        let coded = vectors.map(|vector| {
            let stored = element.round(vector);
            assert_eq!(element.encode(&stored), element.encode(vector), "read and stored again");
            let mut bytes = vec![0xff; geometry.code_len()];
            encode_into(&stored, metric, codes, key, stamp, &mut bytes);
            bytes
        });
        let [a, b] = coded.each_ref().map(|bytes| Code::new(bytes, geometry.coded));
        for code in [&a, &b] {
            let tail = code.tail();
            assert_eq!((code.key(), tail.stamp), (key, stamp));
            assert!(tail.norm.is_finite() && tail.scale.is_finite() && tail.offset.is_finite());
            assert!(code.components().iter().all(|&component| component < 128));
        }
        if codes == Codes::SevenBit {
            let (to_itself, between) = (distance(&a, &a, metric), distance(&a, &b, metric));
            assert!(metric == Metric::Dot || to_itself == 0.0, "{to_itself}");
            assert!(!between.is_nan() && (metric == Metric::Dot || between >= 0.0), "{between}");
            // An inner product's terms are rounded in another order.
            assert!(metric == Metric::Dot || between == distance(&b, &a, metric), "{between}");
            let bound = a.tail().lower_bound(&b.tail(), metric, dimension as f64, between);
            assert!(bound <= between, "{bound} is no lower bound of {between}");
        }
    }
}

fn distance(a: &Code<'_>, b: &Code<'_>, metric: Metric) -> f32 {
    let dot = InstructionSet::best().dot_codes(a.components(), b.components());
    a.tail().distance(&b.tail(), metric, a.components().len() as f64, dot)
}

/// Reads scalars and components of any bytes, as of a slot whose checksum nobody has compared yet.
pub fn damaged_code(bytes: &[u8]) {
    let Some(components) = bytes.len().checked_sub(CODE_TAIL).map(|len| len / 8 * 8) else { return };
    let code = Code::new(bytes, components);
    for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
        let between = distance(&code, &code, metric);
        code.tail().lower_bound(&code.tail(), metric, components as f64, between);
    }
    assert!(!code.is_duplicate_of(&code) || code.components().len() == components);
}

/// The distance kernels for one instruction set.
#[derive(Debug, Clone, Copy)]
pub struct Kernels(InstructionSet);

impl Kernels {
    /// All that this CPU has, the scalar ones last.
    pub fn available() -> Vec<Self> {
        InstructionSet::available().into_iter().map(Self).collect()
    }

    /// As `NESTLING_KERNELS` names them.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Σ a\[i\]·b\[i\] of codes.
    pub fn dot_codes(self, a: &[u8], b: &[u8]) -> u32 {
        self.0.dot_codes(a, b)
    }

    /// Σ a\[i\]·b\[i\].
    pub fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        self.0.dot(a, b)
    }

    /// Σ (a\[i\] − b\[i\])².
    pub fn squared_l2(self, a: &[f32], b: &[f32]) -> f32 {
        self.0.squared_l2(a, b)
    }
}

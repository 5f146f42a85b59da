//! The rows' encoding.
//!
//! A row is a fixed-width rkyv archive of explicit little-endian, alignment-1 fields, for links followed by the slots they list,
//! then a CRC-32 that covers the row's collection, table, key and content: a row that turns up in another place does not
//! verify. No rkyv type whose format depends on rkyv's features is used.
//!
//! ```text
//! node   0 u64 key · 8 u64 stamp · 16 u8 level · 17 u32 code CRC-32 · 21 u32 vector CRC-32
//! link   0 u16 neighbours · 2 u16 in-edges · 4 u16 children · 6 u8 losses · 7 u32 parent (2³² − 1: none)
//!        · 11 u32 × neighbours (children first) · u32 × in-edges
//! key    0 u32 slot
//! free   (nothing)
//! ```
//!
//! and in the global tables
//!
//! ```text
//! state        0 u32 format version · 4 [u8; 16] store UUID · 20 u64 commit · 28 u32 next collection · 32 u32 next segment
//!              · 36 u64 applied: nodes, keys and free lists have all of the journal's entries up to this commit
//!              · 44 u64 removed: the commit of the last entry that was taken out of the journal
//!              · how far the fold has walked over the links: 52 u32 collection · 56 u32 slot · 60 u8 layer · 61 u64 lap · 69 u64 folded
//! collection   0 u32 id · 4 u32 dimension · 8 u8 metric · 9 u8 element type (0 = f32) · 10 u8 code kind (0 = none,
//!              1 = 7-bit MinMax) · 11 u16 m · 13 u16 m0 · 15 u32 ef_construction · 19 u64 seed · 27 u64 live · 35 u32 cursor · 39 u64 next stamp
//!              · 47 u32 entry point (2³² − 1: empty) · 51 u8 its level · 52 u32 root
//!              · 56 u64 folded: all of its rows have all of the journal's entries up to this commit
//!              · 64 u32 calibration samples · 68 u32 × 17 values of ef × 3 of k: neighbours found (see collection/calibration.rs)
//! segment      0 u32 collection · 4 u32 ordinal · 8 u32 base slot · 12 u32 capacity
//! ```

use crate::archive::{Fixed, LittleEndian, archive, fixed_width};
use crate::error::{Error, Result};
use crate::options::Capacity;
use crate::vectors::{Segment, Slot, SlotIdentity};

const NO_SLOT: Slot = Slot::MAX;
const CRC: usize = 4;

/// The kind of a row: part of its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Node = 1,
    Link = 2,
    Key = 3,
    Free = 4,
    State = 5,
    Collection = 6,
    Segment = 7,
    Journal = 8,
}

/// Where a row belongs: what its checksum covers besides its content, and what an error names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) kind: Kind,
    /// 0 for the global tables.
    pub(crate) collection: u32,
    pub(crate) key: &'a [u8],
}

impl Place<'_> {
    fn checksum(&self, content: &[u8]) -> [u8; CRC] {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[self.kind as u8]);
        hasher.update(&self.collection.to_le_bytes());
        hasher.update(&(self.key.len() as u32).to_le_bytes());
        hasher.update(self.key);
        hasher.update(content);
        hasher.finalize().to_le_bytes()
    }

    /// Appends the checksum.
    pub(crate) fn seal(&self, mut content: Vec<u8>) -> Vec<u8> {
        let crc = self.checksum(&content);
        content.extend_from_slice(&crc);
        content
    }

    /// The content of a row whose checksum matches.
    pub(super) fn unseal<'a>(&self, row: &'a [u8]) -> Result<&'a [u8]> {
        let content = row.len().checked_sub(CRC).map(|len| row.split_at(len));
        match content {
            Some((content, crc)) if self.checksum(content) == crc => Ok(content),
            _ => Err(self.corrupted(format!("the checksum of its {} bytes does not match", row.len()))),
        }
    }

    pub(crate) fn corrupted(&self, detail: impl Into<String>) -> Error {
        let key = match self.kind {
            Kind::Collection => String::from_utf8_lossy(self.key).into_owned(),
            _ => self.key.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        let kind = format!("{:?}", self.kind).to_lowercase();
        let row = format!("{kind} row {key}");
        let location = match self.kind {
            Kind::Node | Kind::Link | Kind::Key | Kind::Free => {
                format!("store.redb, collection {}, {row}", self.collection)
            }
            Kind::State | Kind::Collection | Kind::Segment | Kind::Journal => format!("store.redb, {row}"),
        };
        Error::corrupted(location.trim_end(), detail)
    }
}

/// The checked archive in a row's content.
fn access<'a, T: Fixed>(place: &Place<'_>, content: &'a [u8]) -> Result<&'a T::Archived> {
    crate::archive::access::<T>(content).map_err(|detail| place.corrupted(detail))
}

fixed_width! {
    /// What is stored about a live slot besides its links.
    pub(crate) struct NodeRecord / ArchivedNodeRecord: 25 {
        #[rkyv(with = LittleEndian)]
        key: u64,
        #[rkyv(with = LittleEndian)]
        stamp: u64,
        level: u8,
        #[rkyv(with = LittleEndian)]
        code_crc: u32,
        #[rkyv(with = LittleEndian)]
        vector_crc: u32,
    }
    struct LinkHead / ArchivedLinkHead: 11 {
        #[rkyv(with = LittleEndian)]
        neighbors: u16,
        #[rkyv(with = LittleEndian)]
        inbound: u16,
        #[rkyv(with = LittleEndian)]
        children: u16,
        losses: u8,
        #[rkyv(with = LittleEndian)]
        parent: u32,
    }
    struct KeyFields / ArchivedKeyFields: 4 {
        #[rkyv(with = LittleEndian)]
        slot: u32,
    }
    /// The store's one row about itself.
    pub(crate) struct StateRow / ArchivedStateRow: 77 {
        #[rkyv(with = LittleEndian)]
        version: u32,
        store: [u8; 16],
        #[rkyv(with = LittleEndian)]
        commit: u64,
        #[rkyv(with = LittleEndian)]
        next_collection: u32,
        #[rkyv(with = LittleEndian)]
        next_segment: u32,
        #[rkyv(with = LittleEndian)]
        applied: u64,
        #[rkyv(with = LittleEndian)]
        removed: u64,
        #[rkyv(with = LittleEndian)]
        walk_collection: u32,
        #[rkyv(with = LittleEndian)]
        walk_slot: u32,
        walk_layer: u8,
        #[rkyv(with = LittleEndian)]
        lap: u64,
        #[rkyv(with = LittleEndian)]
        folded: u64,
    }
    struct CollectionFields / ArchivedCollectionFields: 272 {
        #[rkyv(with = LittleEndian)]
        id: u32,
        #[rkyv(with = LittleEndian)]
        dimension: u32,
        metric: u8,
        element: u8,
        code: u8,
        #[rkyv(with = LittleEndian)]
        m: u16,
        #[rkyv(with = LittleEndian)]
        m0: u16,
        #[rkyv(with = LittleEndian)]
        ef_construction: u32,
        #[rkyv(with = LittleEndian)]
        seed: u64,
        #[rkyv(with = LittleEndian)]
        live: u64,
        #[rkyv(with = LittleEndian)]
        cursor: u32,
        #[rkyv(with = LittleEndian)]
        next_stamp: u64,
        #[rkyv(with = LittleEndian)]
        entry: u32,
        level: u8,
        #[rkyv(with = LittleEndian)]
        root: u32,
        #[rkyv(with = LittleEndian)]
        folded: u64,
        #[rkyv(with = LittleEndian)]
        samples: u32,
        found: [u8; CalibrationCounts::LEN],
    }
    /// A segment file and the slots that it holds.
    pub(crate) struct SegmentRow / ArchivedSegmentRow: 16 {
        #[rkyv(with = LittleEndian)]
        collection: u32,
        #[rkyv(with = LittleEndian)]
        ordinal: u32,
        #[rkyv(with = LittleEndian)]
        base: u32,
        #[rkyv(with = LittleEndian)]
        capacity: u32,
    }
}

impl NodeRecord {
    /// What the slot's bytes must match.
    pub(crate) fn identity(&self) -> SlotIdentity {
        let Self { key, stamp, code_crc, vector_crc, .. } = *self;
        SlotIdentity { key, stamp, code_crc, vector_crc }
    }

    /// Bytes of the content.
    pub(super) const LEN: usize = size_of::<ArchivedNodeRecord>();

    pub(super) fn content(&self) -> Vec<u8> {
        archive(self)
    }

    pub(crate) fn encode(&self, place: &Place<'_>) -> Vec<u8> {
        place.seal(self.content())
    }

    pub(crate) fn decode(place: &Place<'_>, row: &[u8], max_level: u8) -> Result<Self> {
        Self::from_content(place, place.unseal(row)?, max_level)
    }

    pub(super) fn from_content(place: &Place<'_>, content: &[u8], max_level: u8) -> Result<Self> {
        let fields = access::<Self>(place, content)?;
        if fields.level > max_level {
            return Err(
                place.corrupted(format!("level {} where at most {max_level} is possible", fields.level))
            );
        }
        Ok(Self {
            key: u64::from_le_bytes(fields.key),
            stamp: u64::from_le_bytes(fields.stamp),
            level: fields.level,
            code_crc: u32::from_le_bytes(fields.code_crc),
            vector_crc: u32::from_le_bytes(fields.vector_crc),
        })
    }
}

/// A node's links on one layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LinkRow {
    /// Out-neighbours, children first.
    pub(crate) neighbors: Vec<Slot>,
    /// One-way in-edges.
    pub(crate) inbound: Vec<Slot>,
    pub(crate) parent: Option<Slot>,
    pub(crate) children: u16,
    pub(crate) losses: u8,
}

impl LinkRow {
    pub(crate) fn encode(&self, place: &Place<'_>) -> Vec<u8> {
        place.seal(self.content())
    }

    pub(super) fn content(&self) -> Vec<u8> {
        let mut content = archive(&LinkHead {
            neighbors: self.neighbors.len() as u16,
            inbound: self.inbound.len() as u16,
            children: self.children,
            losses: self.losses,
            parent: self.parent.unwrap_or(NO_SLOT),
        });
        content.reserve_exact((self.neighbors.len() + self.inbound.len()) * 4 + CRC);
        for slot in self.neighbors.iter().chain(&self.inbound) {
            content.extend_from_slice(&slot.to_le_bytes());
        }
        content
    }

    /// Checks what can be checked without other rows: counts within the capacity, slots below `slots`.
    pub(crate) fn decode(
        place: &Place<'_>,
        row: &[u8],
        layer: u8,
        capacity: Capacity,
        slots: Slot,
    ) -> Result<Self> {
        Self::from_content(place, place.unseal(row)?, layer, capacity, slots)
    }

    pub(super) fn from_content(
        place: &Place<'_>,
        content: &[u8],
        layer: u8,
        capacity: Capacity,
        slots: Slot,
    ) -> Result<Self> {
        let Some((head, list)) = content.split_at_checked(size_of::<ArchivedLinkHead>()) else {
            return Err(place.corrupted(format!("{} bytes are too few for a link row", content.len())));
        };
        let head = access::<LinkHead>(place, head)?;
        let count = |field: [u8; 2]| usize::from(u16::from_le_bytes(field));
        let (neighbors, inbound, children) =
            (count(head.neighbors), count(head.inbound), count(head.children));
        let (degree, in_degree) = (capacity.degree(layer), capacity.inbound(layer) + 1);
        if neighbors > degree || inbound > in_degree || children > neighbors {
            return Err(place.corrupted(format!(
                "{neighbors} neighbours, {inbound} in-edges and {children} children, where {degree} neighbours and \
                 {in_degree} in-edges are the most"
            )));
        }
        if list.len() != (neighbors + inbound) * 4 {
            return Err(place.corrupted(format!("{} bytes of slots for {neighbors} + {inbound}", list.len())));
        }
        let mut listed: Vec<Slot> =
            list.as_chunks().0.iter().map(|word| Slot::from_le_bytes(*word)).collect();
        let parent = u32::from_le_bytes(head.parent);
        let parent = (parent != NO_SLOT).then_some(parent);
        if let Some(beyond) = listed.iter().chain(&parent).find(|&&slot| slot >= slots) {
            return Err(place.corrupted(format!("slot {beyond}, where the collection has {slots}")));
        }
        let inbound = listed.split_off(neighbors);
        Ok(Self { neighbors: listed, inbound, parent, children: children as u16, losses: head.losses })
    }
}

pub(crate) fn encode_slot(slot: Slot, place: &Place<'_>) -> Vec<u8> {
    place.seal(archive(&KeyFields { slot }))
}

pub(crate) fn decode_slot(place: &Place<'_>, row: &[u8], slots: Slot) -> Result<Slot> {
    let slot = u32::from_le_bytes(access::<KeyFields>(place, place.unseal(row)?)?.slot);
    if slot >= slots {
        return Err(place.corrupted(format!("slot {slot}, where the collection has {slots}")));
    }
    Ok(slot)
}

/// A row with no content but its place.
pub(crate) fn encode_empty(place: &Place<'_>) -> Vec<u8> {
    place.seal(Vec::new())
}

pub(crate) fn decode_empty(place: &Place<'_>, row: &[u8]) -> Result<()> {
    let content = place.unseal(row)?;
    if content.is_empty() { Ok(()) } else { Err(place.corrupted("content where none was expected")) }
}

impl StateRow {
    pub(crate) fn encode(&self, place: &Place<'_>) -> Vec<u8> {
        place.seal(archive(self))
    }

    pub(crate) fn decode(place: &Place<'_>, row: &[u8]) -> Result<Self> {
        let fields = access::<Self>(place, place.unseal(row)?)?;
        Ok(Self {
            version: u32::from_le_bytes(fields.version),
            store: fields.store,
            commit: u64::from_le_bytes(fields.commit),
            next_collection: u32::from_le_bytes(fields.next_collection),
            next_segment: u32::from_le_bytes(fields.next_segment),
            applied: u64::from_le_bytes(fields.applied),
            removed: u64::from_le_bytes(fields.removed),
            walk_collection: u32::from_le_bytes(fields.walk_collection),
            walk_slot: u32::from_le_bytes(fields.walk_slot),
            walk_layer: fields.walk_layer,
            lap: u64::from_le_bytes(fields.lap),
            folded: u64::from_le_bytes(fields.folded),
        })
    }

    /// The version alone, which stands first in every version of the row, so that a newer store can be told from a broken one.
    pub(crate) fn sniff_version(row: &[u8]) -> Option<u32> {
        Some(u32::from_le_bytes(*row.first_chunk()?))
    }
}

/// What calibration samples have found, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CalibrationCounts {
    pub(crate) samples: u32,
    /// By `ef` and `k`.
    pub(crate) found: [[u32; Self::KS]; Self::EFS],
}

impl CalibrationCounts {
    /// Values of `ef`.
    pub(crate) const EFS: usize = 17;
    /// Values of `k`.
    pub(crate) const KS: usize = 3;
    const LEN: usize = Self::EFS * Self::KS * 4;

    fn found_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        for (word, found) in bytes.as_chunks_mut().0.iter_mut().zip(self.found.iter().flatten()) {
            *word = found.to_le_bytes();
        }
        bytes
    }

    fn from_bytes(samples: u32, bytes: &[u8; Self::LEN]) -> Self {
        let mut counts = Self { samples, ..Self::default() };
        for (found, word) in counts.found.iter_mut().flatten().zip(bytes.as_chunks().0) {
            *found = u32::from_le_bytes(*word);
        }
        counts
    }
}

/// A collection: its identity and parameters, fixed; its counters and anchors, as of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CollectionRow {
    pub(crate) id: u32,
    pub(crate) dimension: u32,
    pub(crate) metric: u8,
    pub(crate) codes: u8,
    pub(crate) element: u8,
    pub(crate) m: u16,
    pub(crate) m0: u16,
    pub(crate) ef_construction: u32,
    pub(crate) seed: u64,
    pub(crate) live: u64,
    pub(crate) cursor: Slot,
    pub(crate) next_stamp: u64,
    /// All rows are in the tables as of this commit; entries of the journal up to it are not for this collection.
    pub(crate) folded: u64,
    /// Entry point, its level, and the root; `None` in an empty collection.
    pub(crate) anchors: Option<(Slot, u8, Slot)>,
    pub(crate) calibration: CalibrationCounts,
}

impl CollectionRow {
    /// Bytes of the content.
    pub(super) const LEN: usize = size_of::<ArchivedCollectionFields>();

    pub(crate) fn encode(&self, place: &Place<'_>) -> Vec<u8> {
        place.seal(self.content())
    }

    pub(super) fn content(&self) -> Vec<u8> {
        let (entry, level, root) = self.anchors.unwrap_or((NO_SLOT, 0, NO_SLOT));
        archive(&CollectionFields {
            id: self.id,
            dimension: self.dimension,
            metric: self.metric,
            element: self.element,
            code: self.codes,
            m: self.m,
            m0: self.m0,
            ef_construction: self.ef_construction,
            seed: self.seed,
            live: self.live,
            cursor: self.cursor,
            next_stamp: self.next_stamp,
            entry,
            level,
            root,
            folded: self.folded,
            samples: self.calibration.samples,
            found: self.calibration.found_bytes(),
        })
    }

    pub(crate) fn decode(place: &Place<'_>, row: &[u8]) -> Result<Self> {
        Self::from_content(place, place.unseal(row)?)
    }

    pub(super) fn from_content(place: &Place<'_>, content: &[u8]) -> Result<Self> {
        let fields = access::<CollectionFields>(place, content)?;
        let (entry, root) = (u32::from_le_bytes(fields.entry), u32::from_le_bytes(fields.root));
        let (live, cursor) = (u64::from_le_bytes(fields.live), u32::from_le_bytes(fields.cursor));
        let empty = entry == NO_SLOT;
        if empty != (live == 0) || live > u64::from(cursor) || (!empty && entry.max(root) >= cursor) {
            return Err(place.corrupted(format!(
                "{live} live nodes below slot {cursor} with entry point {entry} and root {root}"
            )));
        }
        Ok(Self {
            id: u32::from_le_bytes(fields.id),
            dimension: u32::from_le_bytes(fields.dimension),
            metric: fields.metric,
            codes: fields.code,
            element: fields.element,
            m: u16::from_le_bytes(fields.m),
            m0: u16::from_le_bytes(fields.m0),
            ef_construction: u32::from_le_bytes(fields.ef_construction),
            seed: u64::from_le_bytes(fields.seed),
            live,
            cursor,
            next_stamp: u64::from_le_bytes(fields.next_stamp),
            folded: u64::from_le_bytes(fields.folded),
            anchors: (!empty).then_some((entry, fields.level, root)),
            calibration: CalibrationCounts::from_bytes(u32::from_le_bytes(fields.samples), &fields.found),
        })
    }
}

impl SegmentRow {
    pub(crate) fn of(segment: &Segment) -> Self {
        let header = segment.header();
        let base = header.geometry.base(header.ordinal as usize).unwrap_or(0);
        Self { collection: header.collection, ordinal: header.ordinal, base, capacity: header.capacity }
    }

    pub(crate) fn encode(&self, place: &Place<'_>) -> Vec<u8> {
        place.seal(archive(self))
    }

    pub(crate) fn decode(place: &Place<'_>, row: &[u8]) -> Result<Self> {
        let fields = access::<Self>(place, place.unseal(row)?)?;
        Ok(Self {
            collection: u32::from_le_bytes(fields.collection),
            ordinal: u32::from_le_bytes(fields.ordinal),
            base: u32::from_le_bytes(fields.base),
            capacity: u32::from_le_bytes(fields.capacity),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: Capacity = Capacity { m: 4, m0: 8 };

    fn place(kind: Kind) -> Place<'static> {
        Place { kind, collection: 3, key: &[1, 2, 3, 4] }
    }

    fn link() -> LinkRow {
        LinkRow { neighbors: vec![7, 5], inbound: vec![9], parent: Some(2), children: 1, losses: 6 }
    }

    fn collection() -> CollectionRow {
        CollectionRow {
            id: 1,
            dimension: 384,
            metric: 1,
            codes: 1,
            element: 2,
            m: 16,
            m0: 32,
            ef_construction: 200,
            seed: 9,
            live: 4,
            cursor: 8,
            next_stamp: 77,
            folded: 5,
            anchors: Some((1, 2, 3)),
            calibration: CalibrationCounts {
                samples: 6,
                found: std::array::from_fn(|ef| std::array::from_fn(|k| (100 * ef + k) as u32)),
            },
        }
    }

    #[test]
    fn an_error_names_the_row_as_its_user_knows_it() {
        let location = |kind, collection, key| match (Place { kind, collection, key }).corrupted("") {
            Error::Corrupted { location, .. } => location,
            e => panic!("{e}"),
        };
        assert_eq!(location(Kind::Node, 3, &[1, 0xab]), "store.redb, collection 3, node row 01ab");
        assert_eq!(location(Kind::Collection, 0, b"Photos"), "store.redb, collection row Photos");
        assert_eq!(location(Kind::Segment, 0, &[7]), "store.redb, segment row 07");
        assert_eq!(location(Kind::State, 0, &[]), "store.redb, state row");
    }

    #[test]
    fn rows_keep_their_layout() {
        let node = NodeRecord { key: 1, stamp: 2, level: 3, code_crc: 4, vector_crc: 5 };
        let mut golden = [1_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat();
        golden.push(3);
        golden.extend([4_u32.to_le_bytes(), 5_u32.to_le_bytes()].concat());
        assert_eq!(node.encode(&place(Kind::Node))[..25], golden);

        let mut golden = vec![2, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0];
        golden.extend([7, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0]);
        // The checksum covers kind, collection, the key's length, the key and the content.
        let covered = [&[2, 3, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4], &golden[..]].concat();
        golden.extend(crc32fast::hash(&covered).to_le_bytes());
        assert_eq!(link().encode(&place(Kind::Link)), golden);

        for codes in [0, 1] {
            let mut golden = [1_u32.to_le_bytes(), 384_u32.to_le_bytes()].concat();
            golden.extend([1, 2, codes]);
            golden.extend([16_u16.to_le_bytes(), 32_u16.to_le_bytes()].concat());
            golden.extend(200_u32.to_le_bytes());
            golden.extend([9_u64.to_le_bytes(), 4_u64.to_le_bytes()].concat());
            golden.extend(8_u32.to_le_bytes());
            golden.extend(77_u64.to_le_bytes());
            golden.extend([1, 0, 0, 0, 2, 3, 0, 0, 0]);
            golden.extend(5_u64.to_le_bytes());
            golden.extend(6_u32.to_le_bytes());
            for ef in 0..17_u32 {
                (0..3).for_each(|k| golden.extend((100 * ef + k).to_le_bytes()));
            }
            let row = CollectionRow { codes, ..collection() };
            assert_eq!(row.content(), golden);
        }
    }

    #[test]
    fn rows_survive_the_round_trip() {
        let node = NodeRecord { key: u64::MAX, stamp: 2, level: 3, code_crc: 4, vector_crc: u32::MAX };
        let at = place(Kind::Node);
        assert_eq!(NodeRecord::decode(&at, &node.encode(&at), 3).unwrap(), node);
        assert!(NodeRecord::decode(&at, &node.encode(&at), 2).is_err(), "the level is too high");
        let at = place(Kind::Link);
        assert_eq!(LinkRow::decode(&at, &link().encode(&at), 0, CAPACITY, 10).unwrap(), link());
        assert!(LinkRow::decode(&at, &link().encode(&at), 0, CAPACITY, 9).is_err(), "slot 9 is beyond");
        let at = place(Kind::Collection);
        let row = collection();
        assert_eq!(CollectionRow::decode(&at, &row.encode(&at)).unwrap(), row);
        let at = place(Kind::State);
        let row = StateRow {
            version: 1,
            store: [8; 16],
            commit: 5,
            next_collection: 2,
            next_segment: 3,
            applied: 4,
            removed: 2,
            walk_collection: 1,
            walk_slot: 70_000,
            walk_layer: 3,
            lap: 3,
            folded: 1,
        };
        assert_eq!(StateRow::decode(&at, &row.encode(&at)).unwrap(), row);
        let at = place(Kind::Segment);
        let row = SegmentRow { collection: 1, ordinal: 2, base: 3, capacity: 4 };
        assert_eq!(SegmentRow::decode(&at, &row.encode(&at)).unwrap(), row);
    }

    #[test]
    fn no_flipped_bit_and_no_other_place_verifies() {
        let at = place(Kind::Link);
        let row = link().encode(&at);
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(LinkRow::decode(&at, &flipped, 0, CAPACITY, 10).is_err(), "bit {bit}");
        }
        for len in 0..row.len() {
            assert!(LinkRow::decode(&at, &row[..len], 0, CAPACITY, 10).is_err(), "{len} bytes");
        }
        let elsewhere = [
            Place { collection: 4, ..at },
            Place { key: &[1, 2, 3], ..at },
            Place { kind: Kind::Node, ..at },
        ];
        for place in elsewhere {
            assert!(LinkRow::decode(&place, &row, 0, CAPACITY, 10).is_err(), "{place:?}");
        }
    }

    #[test]
    fn a_sealed_row_with_senseless_content_is_refused() {
        let at = place(Kind::Link);
        let sealed = |row: &LinkRow| LinkRow::decode(&at, &row.encode(&at), 0, CAPACITY, 10);
        assert!(sealed(&LinkRow { neighbors: vec![1; 9], ..link() }).is_err(), "more neighbours than m0");
        assert!(sealed(&LinkRow { inbound: vec![1; 34], ..link() }).is_err(), "more in-edges than 4 m0 + 1");
        assert!(sealed(&LinkRow { children: 3, ..link() }).is_err(), "more children than neighbours");
        assert!(sealed(&LinkRow { parent: Some(10), ..link() }).is_err(), "a parent beyond the cursor");
    }
}

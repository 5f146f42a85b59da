//! The first bytes of a segment file: whose it is and how it is laid out.
//!
//! A fixed-width rkyv archive of explicit little-endian, alignment-1 fields, then its CRC-32:
//!
//! ```text
//! 0    [u8; 8]   "NESTLSEG"
//! 8    u32       format version
//! 12   [u8; 16]  store UUID
//! 28   u32       collection id
//! 32   u32       segment id (the file's name)
//! 36   u32       ordinal in the collection
//! 40   u32       capacity in slots
//! 44   u32       dimension
//! 48   u8        element type: 0 = f32, 1 = f16, 2 = i8
//! 49   u8        code kind: 0 = none, 1 = 7-bit MinMax
//! 50   u32       code stride (without codes, that of the vectors, which the tails precede)
//! 54   u32       vector stride
//! 58   u64       offset of the first vector (codes start at 65,536)
//! 66   u32       CRC-32 of bytes 0..66
//! ```

use super::{Described, Geometry};
use crate::archive::{LittleEndian, access, archive, fixed_width};
use crate::options::{Codes, Element};

/// The version of the segment format that this build writes.
pub(crate) const SEGMENT_FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"NESTLSEG";
/// Bytes of the archive, without the checksum.
const ARCHIVE_LEN: usize = 66;
/// Bytes of the whole header.
pub(crate) const HEADER_LEN: usize = ARCHIVE_LEN + 4;

fixed_width! {
    struct Fields / ArchivedFields: 66 {
        magic: [u8; 8],
        #[rkyv(with = LittleEndian)]
        version: u32,
        store: [u8; 16],
        #[rkyv(with = LittleEndian)]
        collection: u32,
        #[rkyv(with = LittleEndian)]
        segment: u32,
        #[rkyv(with = LittleEndian)]
        ordinal: u32,
        #[rkyv(with = LittleEndian)]
        capacity: u32,
        #[rkyv(with = LittleEndian)]
        dimension: u32,
        element: u8,
        code: u8,
        #[rkyv(with = LittleEndian)]
        code_stride: u32,
        #[rkyv(with = LittleEndian)]
        vector_stride: u32,
        #[rkyv(with = LittleEndian)]
        vectors_offset: u64,
    }
}

/// What makes a segment the one that the store expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) store: [u8; 16],
    pub(crate) collection: u32,
    pub(crate) segment: u32,
    pub(crate) ordinal: u32,
    pub(crate) capacity: u32,
    pub(crate) geometry: Geometry,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let g = &self.geometry;
        let fields = Fields {
            magic: MAGIC,
            version: SEGMENT_FORMAT,
            store: self.store,
            collection: self.collection,
            segment: self.segment,
            ordinal: self.ordinal,
            capacity: self.capacity,
            dimension: g.dimension as u32,
            element: g.element.to_byte(),
            code: g.codes.to_byte(),
            code_stride: g.code_stride as u32,
            vector_stride: g.vector_stride as u32,
            vectors_offset: g.vectors_offset(self.capacity),
        };
        let archive = archive(&fields);
        let mut bytes = [0; HEADER_LEN];
        bytes[..ARCHIVE_LEN].copy_from_slice(&archive);
        bytes[ARCHIVE_LEN..].copy_from_slice(&crc32fast::hash(&archive).to_le_bytes());
        bytes
    }

    /// Compares a file's first bytes with what is expected; says what differs.
    pub(crate) fn check(&self, bytes: &[u8; HEADER_LEN]) -> Result<(), Mismatch> {
        let found = decode(bytes)?;
        if u32::from_le_bytes(found.version) > SEGMENT_FORMAT {
            return Err(Mismatch::Newer { version: u32::from_le_bytes(found.version) });
        }
        if found.store != self.store {
            return Err(Mismatch::Other("a segment of another store".to_owned()));
        }
        if *bytes != self.encode() {
            return Err(Mismatch::Other(format!(
                "a header of collection {}, segment {:08x}, ordinal {}, capacity {}, dimension {}, code kind {}, element type {} \
                 where collection {}, segment {:08x}, ordinal {}, capacity {}, dimension {}, code kind {}, element type {} was \
                 expected",
                u32::from_le_bytes(found.collection),
                u32::from_le_bytes(found.segment),
                u32::from_le_bytes(found.ordinal),
                u32::from_le_bytes(found.capacity),
                u32::from_le_bytes(found.dimension),
                found.code,
                found.element,
                self.collection,
                self.segment,
                self.ordinal,
                self.capacity,
                self.geometry.dimension,
                self.geometry.codes.to_byte(),
                self.geometry.element.to_byte(),
            )));
        }
        Ok(())
    }
}

/// Why a header is not the expected one.
#[derive(Debug)]
pub(crate) enum Mismatch {
    Newer { version: u32 },
    Other(String),
}

/// The store that a segment file says it belongs to; `None` when its header does not verify.
pub(crate) fn sniff_uuid(bytes: &[u8; HEADER_LEN]) -> Option<[u8; 16]> {
    decode(bytes).ok().map(|fields| fields.store)
}

/// The segment that a header which verifies describes, if this build knows its format.
pub(crate) fn sniff(bytes: &[u8; HEADER_LEN]) -> Option<Described> {
    let fields = decode(bytes).ok()?;
    let word = u32::from_le_bytes;
    let dimension = usize::try_from(word(fields.dimension)).ok().filter(|d| (1..=65_535).contains(d))?;
    let geometry =
        Geometry::new(dimension, Codes::from_byte(fields.code)?, Element::from_byte(fields.element)?);
    let (store, collection, segment, ordinal) =
        (fields.store, word(fields.collection), word(fields.segment), word(fields.ordinal));
    let header = Header { store, collection, segment, ordinal, capacity: word(fields.capacity), geometry };
    let known = header.capacity == geometry.capacity(ordinal as usize) && *bytes == header.encode();
    known.then_some(Described { store, collection, segment, ordinal, geometry })
}

fn decode(bytes: &[u8; HEADER_LEN]) -> Result<&ArchivedFields, Mismatch> {
    let (archive, crc) = bytes.split_at(ARCHIVE_LEN);
    if !archive.starts_with(&MAGIC) {
        return Err(Mismatch::Other("not a segment: the magic bytes are missing".to_owned()));
    }
    if crc32fast::hash(archive).to_le_bytes() != crc {
        return Err(Mismatch::Other("the header's checksum does not match".to_owned()));
    }
    access::<Fields>(archive).map_err(Mismatch::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(codes: Codes) -> Header {
        let geometry = Geometry::new(384, codes, Element::F32);
        Header { store: [3; 16], collection: 5, segment: 42, ordinal: 1, capacity: 128, geometry }
    }

    #[test]
    fn a_header_keeps_its_layout() {
        let seven_bit = (Codes::SevenBit, 1, 448_u32, 1536_u32, 65_536_u64 * 2);
        let none = (Codes::None, 0, 1600, 1600, 65_600);
        for (codes, kind, code_stride, vector_stride, vectors) in [seven_bit, none] {
            let mut golden = b"NESTLSEG".to_vec();
            golden.extend(1_u32.to_le_bytes());
            golden.extend([3; 16]);
            for word in [5_u32, 42, 1, 128, 384] {
                golden.extend(word.to_le_bytes());
            }
            golden.extend([0, kind]);
            golden.extend(code_stride.to_le_bytes());
            golden.extend(vector_stride.to_le_bytes());
            golden.extend(vectors.to_le_bytes());
            golden.extend(crc32fast::hash(&golden).to_le_bytes());
            assert_eq!(header(codes).encode().as_slice(), golden);
        }
    }

    #[test]
    fn a_header_of_another_kind_of_codes_is_refused() {
        assert!(header(Codes::SevenBit).check(&header(Codes::None).encode()).is_err());
    }

    #[test]
    fn a_header_tells_the_element_type() {
        for (element, byte) in [(Element::F32, 0), (Element::F16, 1), (Element::I8, 2)] {
            let geometry = Geometry::new(384, Codes::SevenBit, element);
            let header = Header { capacity: geometry.capacity(1), geometry, ..header(Codes::SevenBit) };
            let bytes = header.encode();
            assert_eq!(bytes[48], byte);
            assert_eq!(sniff(&bytes).map(|described| described.geometry), Some(geometry));
            assert!(header.check(&bytes).is_ok());
            let mut other = header;
            other.geometry.element = if element == Element::I8 { Element::F16 } else { Element::I8 };
            assert!(other.check(&bytes).is_err(), "told apart even where all else is the same");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let expected = header(Codes::SevenBit);
        for bit in 0..HEADER_LEN * 8 {
            let mut bytes = expected.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(expected.check(&bytes).is_err(), "bit {bit}");
        }
        assert!(expected.check(&expected.encode()).is_ok());
    }
}

//! NumPy's `.npy`.
//!
//! | bytes | what |
//! |---|---|
//! | 6 | `\x93NUMPY` |
//! | 2 | version: 1, 2 or 3, and 0 |
//! | 2, from version 2 on 4 | length of the header, little-endian |
//! | … | the header: a Python dictionary of `descr` (the type of the elements, with its byte order), `fortran_order` and `shape` |
//! | … | the elements, in C order or, which is not read here, in Fortran's |

use super::error::{FileError, Place};
use super::source::Source;
use super::{MAX_WIDTH, Row, Rows};

const MAGIC: &[u8] = b"\x93NUMPY";

/// The longest header that is believed; those of arrays of numbers have some 120 bytes.
const MAX_HEADER: usize = 1 << 16;

/// The type of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// `f`, `i` or `u`.
    pub(super) kind: u8,
    pub(super) bytes: usize,
    big_endian: bool,
}

impl Element {
    /// As NumPy writes it: `<f4`, `>f8`, `|u1`.
    fn parse(descr: &str) -> Option<Self> {
        let [order, kind, digit] = *descr.as_bytes().first_chunk::<3>()?;
        let bytes = usize::from(digit.checked_sub(b'0')?);
        let known = match kind {
            b'f' => matches!(bytes, 2 | 4 | 8),
            b'i' | b'u' => matches!(bytes, 1 | 2 | 4 | 8),
            _ => false,
        };
        let ordered = matches!(order, b'<' | b'>') || order == b'|' && bytes == 1;
        (known && ordered && descr.len() == 3).then_some(Self { kind, bytes, big_endian: order == b'>' })
    }

    /// The bits of an element.
    pub(super) fn bits(self, bytes: &[u8]) -> u64 {
        let append = |bits: u64, &byte: &u8| bits << 8 | u64::from(byte);
        match self.big_endian {
            true => bytes.iter().fold(0, append),
            false => bytes.iter().rev().fold(0, append),
        }
    }

    /// A float, rounded where f32 is narrower.
    fn float(self, bytes: &[u8]) -> f32 {
        let bits = self.bits(bytes);
        match self.bytes {
            2 => from_f16(bits as u16),
            4 => f32::from_bits(bits as u32),
            _ => f64::from_bits(bits) as f32,
        }
    }
}

/// An IEEE half-precision number; each of them is an f32.
pub(super) fn from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let (exponent, fraction) = (u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    let magnitude = match exponent {
        // Subnormal: a multiple of 2⁻²⁴.
        0 => (fraction as f32 * (1.0 / 16_777_216.0)).to_bits(),
        0x1f => 0x7f80_0000 | fraction << 13,
        _ => (exponent + 127 - 15) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// What a header tells.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    pub(super) element: Element,
    pub(super) shape: Vec<u64>,
    /// Bytes before the elements.
    pub(super) length: u64,
}

/// Reads up to the first element.
pub(super) fn read_header(source: &mut Source) -> Result<Header, FileError> {
    let malformed = |source: &Source, problem: &str| Err(source.malformed(Place::Header, problem));
    let mut start = [0; 8];
    source.fill_whole(&mut start, Place::Header)?;
    let [magic @ .., major, _] = start;
    if magic != *MAGIC || !(1..=3).contains(&major) {
        return malformed(source, "does not begin as those of .npy files do; check the format");
    }
    let mut length = [0; 4];
    let size = if major == 1 { 2 } else { 4 };
    source.fill_whole(length.get_mut(..size).unwrap_or_default(), Place::Header)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER {
        return malformed(source, &format!("would be {length} bytes long; the file is damaged"));
    }
    let mut header = vec![0; length];
    source.fill_whole(&mut header, Place::Header)?;
    let Some((descr, fortran, shape)) = std::str::from_utf8(&header).ok().and_then(parse) else {
        return malformed(
            source,
            "is not a dictionary of descr, fortran_order and shape; the file is damaged",
        );
    };
    let Some(element) = Element::parse(descr) else {
        return malformed(
            source,
            &format!("states elements of type {descr}; convert them in NumPy with .astype(\"<f4\")"),
        );
    };
    // One dimension has but one order.
    if fortran && shape.len() > 1 {
        return malformed(source, "states Fortran's order; convert with numpy.ascontiguousarray");
    }
    let before = (start.len() + size + length) as u64;
    let elements = shape.iter().try_fold(1_u128, |product, &side| product.checked_mul(side.into()));
    let bytes = elements.and_then(|elements| elements.checked_mul(element.bytes as u128));
    match bytes.and_then(|bytes| bytes.checked_add(before.into())) {
        Some(announced) => source.must_have(announced)?,
        None => return malformed(source, "states a shape larger than any file; the file is damaged"),
    }
    Ok(Header { element, shape, length: before })
}

/// The values of `descr`, `fortran_order` and `shape`.
fn parse(header: &str) -> Option<(&str, bool, Vec<u64>)> {
    let value = |key: &str| {
        let (_, rest) = header.split_once(key)?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start())
    };
    let (descr, _) = value("'descr'")?.strip_prefix('\'')?.split_once('\'')?;
    let order = value("'fortran_order'")?;
    let fortran = match (order.starts_with("True"), order.starts_with("False")) {
        (false, false) => return None,
        (fortran, _) => fortran,
    };
    let (shape, _) = value("'shape'")?.strip_prefix('(')?.split_once(')')?;
    let sides = shape.split(',').map(str::trim).filter(|side| !side.is_empty());
    Some((descr, fortran, sides.map(|side| side.parse().ok()).collect::<Option<_>>()?))
}

/// A header as NumPy writes it: with room for the first side to grow, padded so that the elements are aligned to 64 bytes.
pub(super) fn header(descr: &str, shape: &[u64]) -> Vec<u8> {
    let sides: Vec<String> = shape.iter().map(u64::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let sides = sides.join(", ");
    let dictionary = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sides}{comma}), }}");
    let growth = 21_usize.saturating_sub(shape.first().map_or(0, |side| side.to_string().len()));
    // Before the dictionary: magic, version and length; after it a line end.
    let length = (10 + dictionary.len() + growth + 1).next_multiple_of(64) - 10;
    let mut header = MAGIC.to_vec();
    header.extend([1, 0]);
    header.extend((length as u16).to_le_bytes());
    header.extend(format!("{dictionary:<width$}\n", width = length - 1).into_bytes());
    header
}

/// An array of two dimensions, being read row by row.
pub(super) struct Npy {
    source: Source,
    element: Element,
    rows: u64,
    /// The row that is read next.
    row: u64,
    /// The bytes of one row.
    buffer: Vec<u8>,
}

impl Npy {
    pub(super) fn new(mut source: Source) -> Result<Self, FileError> {
        let Header { element, shape, .. } = read_header(&mut source)?;
        let &[rows, width] = shape.as_slice() else {
            let problem = format!(
                "states {} dimensions, and vectors are the rows of an array of two; reshape it in NumPy",
                shape.len()
            );
            return Err(source.malformed(Place::Header, &problem));
        };
        if element.kind != b'f' {
            let problem = "states elements that are no floats; convert them in NumPy with .astype(\"<f4\")";
            return Err(source.malformed(Place::Header, problem));
        }
        if !(1..=MAX_WIDTH).contains(&width) {
            let path = source.path().to_owned();
            let found = i64::try_from(width).unwrap_or(i64::MAX);
            return Err(FileError::ImpossibleWidth { path, place: Place::Header, found });
        }
        let buffer = vec![0; width as usize * element.bytes];
        Ok(Self { source, element, rows, row: 0, buffer })
    }
}

impl Rows for Npy {
    fn next(&mut self, values: &mut Vec<f32>) -> Result<Option<Row>, FileError> {
        if self.row == self.rows {
            self.source.must_end()?;
            return Ok(None);
        }
        let place = Place::Row(self.row);
        self.source.fill_whole(&mut self.buffer, place)?;
        let elements = self.buffer.chunks_exact(self.element.bytes);
        values.extend(elements.map(|bytes| self.element.float(bytes)));
        self.row += 1;
        Ok(Some(Row { place, key: None }))
    }

    fn count(&self) -> Option<u64> {
        Some(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.save` of version 2.4 for an array of 3 × 2 `<f4`, byte by byte.
    #[test]
    fn the_header_is_that_of_numpy() {
        let mut expected =
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }".to_vec();
        expected.resize(127, b' ');
        expected.push(b'\n');
        assert_eq!(header("<f4", &[3, 2]), expected);
    }

    /// Against the definition: (−1)ˢ · 2^(e − 15) · (1 + f / 1024), over all halves that are numbers.
    #[test]
    fn every_half_is_read_as_what_it_is() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
            let magnitude = match exponent {
                0 => fraction / 1024.0 * 2_f64.powi(-14),
                0x1f if fraction == 0.0 => f64::INFINITY,
                0x1f => f64::NAN,
                _ => (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
            };
            let expected = if bits >> 15 == 1 { -magnitude } else { magnitude };
            let found = f64::from(from_f16(bits));
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{bits:#x}"
            );
        }
    }
}

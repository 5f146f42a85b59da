//! Files of keys, beside files of vectors that have no place for them: a key per line, or a `.npy` of integers.

use std::io::{self, Write};
use std::path::Path;

use super::error::{FileError, Place};
use super::npy::{self, Element, Header};
use super::source::Source;
use super::text::{Lines, parse_key};

/// A file of keys being read one by one.
pub(crate) struct KeyFile(Keys);

enum Keys {
    Text(Lines),
    Npy { source: Source, element: Element, keys: u64, next: u64 },
}

impl KeyFile {
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let mut source = Source::open(path)?;
        if KeyFormat::of(path) == KeyFormat::Text {
            return Ok(Self(Keys::Text(Lines::new(source))));
        }
        let Header { element, shape, .. } = npy::read_header(&mut source)?;
        match (element.kind, shape.as_slice()) {
            (b'i' | b'u', &[keys]) => Ok(Self(Keys::Npy { source, element, keys, next: 0 })),
            _ => Err(source.malformed(
                Place::Header,
                "states something else than one dimension of integers, which keys are; convert it in NumPy",
            )),
        }
    }

    /// The next key; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<u64>, FileError> {
        match &mut self.0 {
            Keys::Text(lines) => {
                if !lines.advance()? {
                    return Ok(None);
                }
                let key = parse_key(lines.text()?.trim());
                key.map(Some).map_err(|problem| lines.malformed(&problem))
            }
            Keys::Npy { source, element, keys, next } => {
                if next == keys {
                    source.must_end()?;
                    return Ok(None);
                }
                let place = Place::Row(*next);
                let mut buffer = [0; 8];
                let bytes = buffer.get_mut(..element.bytes).unwrap_or_default();
                source.fill_whole(bytes, place)?;
                let key = element.bits(bytes);
                let is_negative = element.kind == b'i' && key >> (8 * element.bytes - 1) & 1 == 1;
                if is_negative {
                    return Err(source.malformed(place, "is below 0; keys are whole numbers from 0 on"));
                }
                *next += 1;
                Ok(Some(key))
            }
        }
    }
}

/// How a file holds keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyFormat {
    Text,
    Npy,
}

impl KeyFormat {
    pub(crate) fn of(path: &Path) -> Self {
        let is_npy = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("npy"));
        if is_npy { Self::Npy } else { Self::Text }
    }

    /// Writes what comes before the keys.
    pub(crate) fn write_header(self, file: &mut impl Write, keys: u64) -> io::Result<()> {
        match self {
            Self::Text => Ok(()),
            Self::Npy => file.write_all(&npy::header("<u8", &[keys])),
        }
    }

    pub(crate) fn write(self, file: &mut impl Write, key: u64) -> io::Result<()> {
        match self {
            Self::Text => writeln!(file, "{key}"),
            Self::Npy => file.write_all(&key.to_le_bytes()),
        }
    }
}

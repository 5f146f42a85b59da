//! Reading what is left of damaged segments, without records or headers to go by where need be.

use std::sync::Arc;

use super::code::{CODE_TAIL, Code, CodeTail, encode_into};
use super::header::{HEADER_LEN, sniff};
use super::segment::{file_name, parse_file_name};
use super::{Geometry, Slot};
use crate::error::Result;
use crate::io::{Directory, DiskFile};
use crate::options::Metric;

/// A segment as its file's header describes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Described {
    pub(crate) store: [u8; 16],
    pub(crate) collection: u32,
    pub(crate) segment: u32,
    pub(crate) ordinal: u32,
    pub(crate) geometry: Geometry,
}

/// The segments in a directory whose headers verify, and how many do not.
pub(crate) fn described(directory: &Arc<Directory>) -> Result<(Vec<Described>, usize)> {
    let (mut found, mut nameless) = (Vec::new(), 0);
    for id in directory.list()?.iter().filter_map(|name| parse_file_name(name)) {
        let mut header = [0; HEADER_LEN];
        let read = directory.open(&file_name(id), false).and_then(|file| file.read_exact_at(0, &mut header));
        match read.ok().and_then(|()| sniff(&header)) {
            Some(described) => found.push(described),
            None => nameless += 1,
        }
    }
    Ok((found, nameless))
}

/// A segment's file, read slot by slot.
#[derive(Debug)]
pub(crate) struct Remains {
    file: DiskFile,
    geometry: Geometry,
    capacity: u32,
}

/// The bytes of a slot that are still there.
#[derive(Debug)]
pub(crate) struct Slotful {
    pub(crate) code: Vec<u8>,
    pub(crate) vector: Vec<u8>,
}

impl Remains {
    /// `None` when there is no such file.
    pub(crate) fn open(
        directory: &Arc<Directory>,
        segment: u32,
        ordinal: usize,
        geometry: Geometry,
    ) -> Option<Self> {
        let file = directory.open(&file_name(segment), false).ok()?;
        Some(Self { file, geometry, capacity: geometry.capacity(ordinal) })
    }

    /// What lies at `index`; nothing where the file cannot be read.
    pub(crate) fn slot(&self, index: usize) -> Slotful {
        let read = |offset, len| {
            let mut bytes = vec![0; len];
            self.file.read_exact_at(offset, &mut bytes).map(|()| bytes).unwrap_or_default()
        };
        let geometry = &self.geometry;
        Slotful {
            code: read(geometry.code_offset(index), geometry.code_len()),
            vector: read(geometry.vector_offset(self.capacity, index), geometry.vector_len()),
        }
    }

    pub(crate) fn slots(&self) -> Slot {
        self.capacity
    }
}

impl Slotful {
    pub(crate) fn vector_crc(&self) -> Option<u32> {
        (!self.vector.is_empty()).then(|| crc32fast::hash(&self.vector))
    }

    /// The vector; nothing where it could not be read.
    pub(crate) fn components(&self, geometry: &Geometry) -> Vec<f32> {
        if self.vector.len() != geometry.vector_len() {
            return Vec::new();
        }
        let mut components = vec![0.0; geometry.dimension];
        geometry.element.decode(&self.vector, 0, &mut components);
        components
    }

    /// Key, stamp and norm that stand beside the vector.
    pub(crate) fn tail(&self, geometry: &Geometry) -> Option<CodeTail> {
        (self.code.len() == geometry.code_len()).then(|| Code::new(&self.code, geometry.coded).tail())
    }

    /// True when the code is what this vector is coded as under `metric`, key and stamp, which nothing vouches for, left aside. That of a
    /// slot never written to, which is all zeros, is no code.
    pub(crate) fn agrees(&self, geometry: &Geometry, metric: Metric) -> bool {
        let Some(tail) = self.tail(geometry).filter(|_| self.vector.len() == geometry.vector_len()) else {
            return false;
        };
        if self.code.iter().all(|&byte| byte == 0) {
            return false;
        }
        let components = self.components(geometry);
        if !components.iter().all(|x| x.is_finite()) {
            return false;
        }
        let mut code = vec![0; Geometry::tail_offset(geometry.coded) + CODE_TAIL];
        encode_into(&components, metric, geometry.codes, tail.key, tail.stamp, &mut code);
        code == self.code
    }
}

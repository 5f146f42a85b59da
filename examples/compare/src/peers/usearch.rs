//! usearch: an index in memory, which is made durable by writing all of it to a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::Peer;
use crate::data::Matrix;
use crate::{EF_CONSTRUCTION, K, M, Metric, Opening, PeerName, Result, Setup};

/// How many more vectors to make room for when an index is full.
const ROOM: usize = 1_000;

pub(crate) struct Usearch {
    index: Index,
    directory: PathBuf,
}

impl Peer for Usearch {
    const PACKAGE: &str = "usearch";
    const DURABLE: bool = false;

    fn elements(setup: &Setup) -> &'static str {
        match setup.peer {
            PeerName::UsearchBf16 => "bf16",
            PeerName::UsearchI8 => "i8",
            _ => "f32",
        }
    }

    fn build(setup: &Setup, directory: &Path, base: &Matrix) -> Result<Self> {
        let peer = Self { index: empty(setup, base.width())?, directory: directory.to_owned() };
        peer.index.reserve_capacity_and_threads(base.len(), 1)?;
        for (key, vector) in (0..).zip(base.rows()) {
            peer.index.add(key, vector)?;
        }
        Ok(peer)
    }

    /// Writes beside the old file and renames, since a crash within an overwritten file would cost everything.
    fn save(&self) -> Result<()> {
        let (file, new) = (file(&self.directory), self.directory.join("new.usearch"));
        self.index.save(path_str(&new)?)?;
        File::open(&new)?.sync_all()?;
        fs::rename(&new, &file)?;
        Ok(File::open(&self.directory)?.sync_all()?)
    }

    fn open(setup: &Setup, directory: &Path, dimension: usize, how: Opening) -> Result<Self> {
        let index = empty(setup, dimension)?;
        let file = file(directory);
        match how {
            Opening::Load => index.load(path_str(&file)?)?,
            Opening::View => index.view(path_str(&file)?)?,
        }
        // Files do not hold it.
        index.change_expansion_add(EF_CONSTRUCTION);
        Ok(Self { index, directory: directory.to_owned() })
    }

    fn len(&self) -> Result<usize> {
        Ok(self.index.size())
    }

    fn search(&self, queries: &Matrix, ef: usize) -> Result<Vec<Vec<u64>>> {
        self.index.change_expansion_search(ef);
        queries.rows().map(|query| Ok(self.index.search(query, K)?.keys)).collect()
    }

    fn insert_durably(&mut self, key: u64, vector: &[f32]) -> Result<()> {
        if self.index.size() == self.index.capacity() {
            self.index.reserve_capacity_and_threads(self.index.size() + ROOM, 1)?;
        }
        self.index.add(key, vector)?;
        self.save()
    }
}

fn empty(setup: &Setup, dimensions: usize) -> Result<Index> {
    let metric = match setup.metric {
        // Vectors are normalised.
        Metric::Cosine => MetricKind::IP,
        Metric::L2 => MetricKind::L2sq,
    };
    let quantization = match setup.peer {
        PeerName::UsearchBf16 => ScalarKind::BF16,
        PeerName::UsearchI8 => ScalarKind::I8,
        _ => ScalarKind::F32,
    };
    Ok(Index::new(&IndexOptions {
        dimensions,
        metric,
        quantization,
        connectivity: M,
        expansion_add: EF_CONSTRUCTION,
        expansion_search: 0,
        multi: false,
    })?)
}

fn file(directory: &Path) -> PathBuf {
    directory.join("index.usearch")
}

fn path_str(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()).into())
}

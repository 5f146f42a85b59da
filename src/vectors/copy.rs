//! Copying segments into another directory.

use std::sync::Arc;

use super::segment::{Segment, file_name};
use crate::error::{Error, Result};
use crate::io::Directory;

/// What is read at once.
const PIECE: usize = 1 << 20;
/// What is left out where it holds nothing but zeros.
const HOLE: usize = 4096;

/// Copies a segment's file, with its holes, and syncs the copy. Tells how many bytes were written.
///
/// Slots that somebody writes to meanwhile may be torn in the copy: a snapshot that is alive keeps its own from being among them.
pub(crate) fn copy_segment(segment: &Segment, from: &Arc<Directory>, to: &Arc<Directory>) -> Result<u64> {
    let header = segment.header();
    let name = file_name(header.segment);
    let expected = header.geometry.file_len(header.capacity);
    let reading = |e| Error::io("read", from.join(&name), e);
    let writing = |e| Error::io("copy to", to.join(&name), e);
    let source = from.open(&name, false).map_err(reading)?;
    let len = source.len().map_err(reading)?;
    if len < expected {
        let detail = format!("the segment file has {len} bytes where {expected} were expected");
        return Err(Error::corrupted(from.join(&name).display().to_string(), detail));
    }
    let target = to.create(&name).map_err(writing)?;
    target.set_len(expected).map_err(writing)?;
    let mut written = 0;
    let mut piece = vec![0; PIECE];
    for start in (0..expected).step_by(PIECE) {
        piece.truncate((expected - start) as usize);
        source.read_exact_at(start, &mut piece).map_err(reading)?;
        for (offset, run) in without_holes(&piece) {
            target.write_all_at(start + offset as u64, run).map_err(writing)?;
            written += run.len() as u64;
        }
    }
    target.sync().map_err(writing)?;
    Ok(written)
}

/// The runs of blocks that hold something, each with its offset.
fn without_holes(piece: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let is_hole = |block: &[u8]| block.iter().all(|&byte| byte == 0);
    let mut rest = piece.len();
    let mut runs: Vec<(usize, &[u8])> = Vec::new();
    for block in piece.chunks(HOLE) {
        let offset = piece.len() - rest;
        rest -= block.len();
        if is_hole(block) {
            continue;
        }
        match runs.last_mut() {
            Some((start, run)) if *start + run.len() == offset => {
                *run = piece.get(*start..offset + block.len()).unwrap_or(run);
            }
            _ => runs.push((offset, block)),
        }
    }
    runs.into_iter()
}

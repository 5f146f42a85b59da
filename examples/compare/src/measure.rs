//! What is measured, the same for every peer. Every measurement is a line of JSON on standard output.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::data::{self, Data};
use crate::peers::Peer;
use crate::summary::median;
use crate::{EF_CONSTRUCTION, M, Opening, Result, Setup};

pub(crate) fn build<P: Peer>(setup: &Setup, data: &Data, efs: &[usize]) -> Result<()> {
    let peer_name = setup.peer.to_string();
    println!(
        "{}",
        json!({
            "peer": peer_name, "measure": "about", "version": version(P::PACKAGE), "elements": P::elements(setup),
            "m": M, "ef_construction": EF_CONSTRUCTION,
        })
    );

    fs::create_dir_all(&setup.directory)?;
    let started = Instant::now();
    let peer = P::build(setup, &setup.directory, &data.base)?;
    let built = started.elapsed().as_secs_f64();
    peer.save()?;
    let saved = started.elapsed().as_secs_f64();
    let per_second = |seconds: f64| data.base.len() as f64 / seconds;
    println!(
        "{}",
        json!({
            "peer": peer_name, "measure": "build", "durable": P::DURABLE, "vectors_per_second": per_second(built),
            "vectors_per_second_durable": per_second(if P::DURABLE { built } else { saved }),
        })
    );
    if peer.len()? != data.base.len() {
        return Err(format!("{} of {} vectors are there", peer.len()?, data.base.len()).into());
    }

    for &ef in efs {
        let (mut found, mut seconds) = (Vec::new(), f64::INFINITY);
        for _ in 0..2 {
            let started = Instant::now();
            found = peer.search(&data.queries, ef)?;
            seconds = seconds.min(started.elapsed().as_secs_f64());
        }
        let recall = data.bounds.recall(&found, &data.queries, &data.base);
        let qps = data.queries.len() as f64 / seconds;
        println!("{}", json!({ "peer": peer_name, "ef": ef, "recall": recall, "qps": qps }));
    }

    drop(peer);
    let bytes = bytes_on_disk(&setup.directory)?;
    println!("{}", json!({ "peer": peer_name, "measure": "disk", "bytes": bytes }));
    Ok(())
}

/// The files are in the page cache, since they were just written.
pub(crate) fn reopen<P: Peer>(setup: &Setup, how: Opening) -> Result<()> {
    let query = data::queries(setup)?.first();
    let started = Instant::now();
    let peer = P::open(setup, &setup.directory, query.width(), how)?;
    let opened = started.elapsed().as_secs_f64() * 1e3;
    let found = peer.search(&query, 64)?;
    let first_result = started.elapsed().as_secs_f64() * 1e3;
    if found.iter().any(Vec::is_empty) {
        return Err("nothing was found".into());
    }
    let how = match how {
        Opening::Load => "load",
        Opening::View => "view",
    };
    println!(
        "{}",
        json!({
            "peer": setup.peer.to_string(), "measure": "reopen", "how": how, "opened_ms": opened,
            "first_result_ms": first_result,
        })
    );
    Ok(())
}

/// The queries are what is inserted.
pub(crate) fn insert<P: Peer>(setup: &Setup, inserts: usize) -> Result<()> {
    let queries = data::queries(setup)?;
    if !(1..=queries.len()).contains(&inserts) {
        return Err(format!("there are {} queries to be inserted", queries.len()).into());
    }
    let copy = setup.directory.with_extension("copy");
    copy_by_pages(&setup.directory, &copy)?;
    let mut peer = P::open(setup, &copy, queries.width(), Opening::Load)?;
    let first = peer.len()?;
    let mut milliseconds = Vec::with_capacity(inserts);
    let written = bytes_written()?;
    for (key, vector) in (first..).zip(queries.rows().take(inserts)) {
        let started = Instant::now();
        peer.insert_durably(key as u64, vector)?;
        milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let written = (bytes_written()? - written) as f64 / inserts as f64;
    if peer.len()? != first + inserts {
        return Err("inserted vectors are missing".into());
    }
    println!(
        "{}",
        json!({
            "peer": setup.peer.to_string(), "measure": "insert", "inserts": inserts,
            "median_ms": median(&milliseconds), "mean_ms": milliseconds.iter().sum::<f64>() / inserts as f64,
            "max_ms": milliseconds.iter().copied().fold(0.0, f64::max), "bytes_written_each": written,
        })
    );
    drop(peer);
    Ok(fs::remove_dir_all(&copy)?)
}

/// The version of a package that this program was built with.
fn version(package: &str) -> &'static str {
    let name = format!("name = \"{package}\"");
    let mut lines = include_str!("../Cargo.lock").lines().skip_while(|line| *line != name);
    lines.nth(1).and_then(|line| line.split('"').nth(1)).unwrap_or("unknown")
}

fn bytes_on_disk(directory: &Path) -> Result<u64> {
    const BLOCK: u64 = 512;
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_on_disk(&entry.path())? } else { metadata.blocks() * BLOCK };
    }
    Ok(bytes)
}

/// Bytes that this process has caused to be written to the disk so far, by Linux's count.
fn bytes_written() -> Result<u64> {
    let counters = fs::read_to_string("/proc/self/io")?;
    let line = counters.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("no write_bytes in /proc/self/io")?.parse()?)
}

/// Copies files in writes of 4 KB. Linux keeps what is written at once in the cache at once: in folios of up to megabytes, each of
/// which counts as written whole when a byte of it is changed, though only the changed pages go to the disk. After this, every
/// page counts for itself.
fn copy_by_pages(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.metadata()?.is_dir() {
            copy_by_pages(&from, &to)?;
            continue;
        }
        let (mut from, mut to) = (File::open(from)?, File::create(to)?);
        let mut page = [0; 4096];
        loop {
            match from.read(&mut page)? {
                0 => break,
                length => to.write_all(&page[..length])?,
            }
        }
        // So that no insert pays for it.
        to.sync_all()?;
    }
    Ok(())
}

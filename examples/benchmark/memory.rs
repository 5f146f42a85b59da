//! What a process that opens the store and searches takes of memory, and the store of the disk.

use std::path::Path;

use nestling::Store;
use serde_json::json;

use crate::child::{self, Usage};
use crate::data::Data;
use crate::matrix::Rows;
use crate::report::{Report, heading, thousands};
use crate::store::Filled;
use crate::system::Memory;
use crate::{Result, store};

pub(crate) fn run(filled: &Filled, data: &Data, report: &mut Report) -> Result<()> {
    heading("memory: a fresh process after 1,000 searches at ef 64, and the disk");
    let usage = child::memory(&filled.path, &filled.queries)?;
    let vectors = data.base.len() as f64;
    println!("{:>42}{:>16}{:>18}", "", "MB", "bytes a vector");
    let row = |what: &str, bytes: Option<u64>| match bytes.map(|bytes| bytes as f64) {
        Some(bytes) => {
            println!("{what:>42}{:>16.1}{:>18}", bytes / 1e6, thousands(bytes / vectors));
        }
        None => println!("{what:>42}{:>16}", "not measured"),
    };
    row("anonymous (RssAnon)", usage.searched.map(|memory| memory.anonymous));
    row("of that before opening", usage.started.map(|memory| memory.anonymous));
    row("mapped files (RssFile)", usage.searched.map(|memory| memory.file));
    row("on disk", Some(usage.disk));
    report.record("memory", usage.to_json(data.base.len()))
}

impl Usage {
    pub(crate) fn to_json(&self, vectors: usize) -> serde_json::Value {
        json!({
            "rss_anon": self.searched.map(|memory| memory.anonymous),
            "rss_anon_before_opening": self.started.map(|memory| memory.anonymous),
            "rss_file": self.searched.map(|memory| memory.file),
            "bytes_on_disk": self.disk,
            "rss_anon_per_vector": self.searched.map(|memory| memory.anonymous as f64 / vectors as f64),
            "bytes_on_disk_per_vector": self.disk as f64 / vectors as f64,
        })
    }
}

/// What the process does that is measured. The queries are read one by one: they must not count.
pub(crate) fn in_child(path: &Path, queries: &Path) -> Result<Usage> {
    let started = Memory::now();
    let store = Store::open(path)?;
    let collection = store::collection(&store)?;
    let mut searches = 0;
    while searches < 1_000 {
        let mut queries = Rows::open(queries)?;
        while let Some(query) = queries.next_vector()?
            && searches < 1_000
        {
            collection.search(&query, 10)?;
            searches += 1;
        }
    }
    Ok(Usage { started, searched: Memory::now(), disk: store.bytes_on_disk()? })
}

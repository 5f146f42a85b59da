//! What a durable insert of one vector costs, beside what redb itself needs to make 4 KB durable.

use std::path::Path;
use std::time::Instant;

use nestling::Store;
use nestling::redb::{Database, TableDefinition};
use serde_json::json;

use crate::data::{Data, newcomer};
use crate::options::Options;
use crate::report::{Report, heading, thousands};
use crate::statistics::{median, percentile};
use crate::store::Filled;
use crate::{Result, store, system};

const VALUES: TableDefinition<u64, &[u8]> = TableDefinition::new("values");
/// What stands in the bare database for each vector: about what a node takes in `store.redb`.
const FILLER: [u8; 250] = [1; 250];
const VALUE: [u8; 4096] = [7; 4096];

pub(crate) fn run(filled: &Filled, data: &Data, options: &Options, report: &mut Report) -> Result<()> {
    let commits = options.commits.get();
    let vectors = data.base.len() as u64;
    heading(&format!("commits: {} durable inserts of one vector each", thousands(commits as f64)));
    let copy = filled.copy()?;
    let store = Store::open(copy.path())?;
    let definition = store::definition(&store::collection(&store)?);
    let other = tempfile::tempdir_in(filled.path.parent().ok_or("the store is in a directory")?)?;
    let bare = bare_database(&other.path().join("bare.redb"), vectors)?;

    // In turn, so that both meet the same disk.
    let (mut ours, mut theirs) = (Series::default(), Series::default());
    let (counters, size) = (store.counters().bytes_written, store.bytes_on_disk()?);
    for number in 0..commits {
        let vector = newcomer(&data.queries, number);
        let key = vectors + number as u64;
        ours.time(copy.path(), || {
            let tx = store.begin_write()?;
            tx.open_collection(definition)?.insert(key, &vector)?;
            Ok(tx.commit()?)
        })?;
        theirs.time(other.path(), || {
            let mut tx = bare.begin_write()?;
            tx.set_quick_repair(true);
            tx.open_table(VALUES)?.insert(key, VALUE.as_slice())?;
            Ok(tx.commit()?)
        })?;
    }
    let per_commit = |bytes: u64| bytes as f64 / commits as f64 / 1e3;
    let calls = per_commit(store.counters().bytes_written - counters);
    let growth = per_commit(store.bytes_on_disk()?.saturating_sub(size));

    println!("{:>56}{:>24}", "", "KB written, counted by");
    let columns = ["median ms", "p90 ms", "p99 ms", "max ms", "process", "disk"];
    let [middle, p90, p99, max, process, disk] = columns;
    println!("{:>12}{middle:>11}{p90:>11}{p99:>11}{max:>11}{process:>12}{disk:>12}", "");
    for (name, series) in [("nestling", &ours), ("bare redb", &theirs)] {
        let [p90, p99, max] = [90, 99, 100].map(|percent| percentile(&series.milliseconds, percent));
        let middle = median(&series.milliseconds);
        let written = [series.by_process, series.by_disk].map(|bytes| bytes.map(per_commit));
        let [process, disk] = written.map(|kb| kb.map_or("no count".to_owned(), |kb| format!("{kb:.1}")));
        println!("{name:>12}{middle:>11.3}{p90:>11.3}{p99:>11.3}{max:>11.3}{process:>12}{disk:>12}");
        report.record(
            "commits",
            json!({
                "what": name, "commits": commits, "median_ms": middle, "p90_ms": p90, "p99_ms": p99, "max_ms": max,
                "kb_written_by_process_counter": written[0], "kb_written_by_disk_counter": written[1],
            }),
        )?;
    }
    let ratio = median(&ours.milliseconds) / median(&theirs.milliseconds);
    println!("ratio of the medians {ratio:.2}; by its own count nestling wrote {calls:.1} KB each, and its");
    println!(
        "files grew by {growth:.1} KB each. The disk's count has the file system's journal in it, and what"
    );
    println!("other processes wrote meanwhile.");
    report.record(
        "commits",
        json!({
            "what": "nestling against bare redb", "ratio_of_medians": ratio, "kb_written_by_own_count": calls,
            "kb_grown": growth,
        }),
    )
}

/// A database of as many rows, each about as long as a node's.
fn bare_database(path: &Path, rows: u64) -> Result<Database> {
    let database = Database::create(path)?;
    let mut tx = database.begin_write()?;
    tx.set_quick_repair(true);
    {
        let mut table = tx.open_table(VALUES)?;
        for key in 0..rows {
            table.insert(key, FILLER.as_slice())?;
        }
    }
    tx.commit()?;
    Ok(database)
}

/// Commits of one kind.
#[derive(Default)]
struct Series {
    milliseconds: Vec<f64>,
    /// Bytes written by the operating system's counts, where it counts: of this process, and of the disk.
    by_process: Option<u64>,
    by_disk: Option<u64>,
}

impl Series {
    fn time(&mut self, directory: &Path, commit: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = (system::bytes_written(), system::bytes_written_to_disk(directory));
        let started = Instant::now();
        commit()?;
        self.milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
        let after = (system::bytes_written(), system::bytes_written_to_disk(directory));
        add(&mut self.by_process, before.0, after.0);
        add(&mut self.by_disk, before.1, after.1);
        Ok(())
    }
}

fn add(sum: &mut Option<u64>, before: Option<u64>, after: Option<u64>) {
    if let (Some(before), Some(after)) = (before, after) {
        *sum.get_or_insert(0) += after - before;
    }
}

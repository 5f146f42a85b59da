//! What is measured in a process of its own: this program calls itself again, as `benchmark child …`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nestling::Store;
use serde_json::{Value, json};

use crate::data::newcomer;
use crate::matrix::Matrix;
use crate::system::Memory;
use crate::{Result, failure, memory, reopen, store};

/// The first argument that makes this a child.
pub(crate) const CHILD: &str = "child";

/// When a fresh process had opened the store, and when its first result; and what it found there.
pub(crate) struct First {
    pub(crate) opened_ms: f64,
    pub(crate) result_ms: f64,
    pub(crate) vectors: u64,
}

/// Memory before the opening of the store and after the searches, and what the store takes on disk.
pub(crate) struct Usage {
    pub(crate) started: Option<Memory>,
    pub(crate) searched: Option<Memory>,
    pub(crate) disk: u64,
}

pub(crate) fn first_result(path: &Path, query: &Path) -> Result<First> {
    let told = run("first", path, query)?;
    let number = |name: &str| told[name].as_f64().ok_or("a child that tells no figures");
    Ok(First {
        opened_ms: number("opened_ms")?,
        result_ms: number("result_ms")?,
        vectors: number("vectors")? as u64,
    })
}

pub(crate) fn memory(path: &Path, queries: &Path) -> Result<Usage> {
    let told = run("memory", path, queries)?;
    let memory = |when: &str| {
        let number = |name: &str| told[when][name].as_u64();
        Some(Memory { anonymous: number("anonymous")?, file: number("file")? })
    };
    Ok(Usage {
        started: memory("started"),
        searched: memory("searched"),
        disk: told["disk"].as_u64().ok_or("a child that tells no figures")?,
    })
}

/// Has a child import vectors without end, in transactions of `batch`, and kills it in the transaction after the first `commits`,
/// when about `part` of the time that one takes has passed. Tells how many vectors it had said to be committed.
pub(crate) fn import_and_kill(
    path: &Path,
    vectors: &Path,
    batch: usize,
    commits: usize,
    part: f64,
) -> Result<u64> {
    let mut child =
        command("import", path, vectors)?.arg(batch.to_string()).stdout(Stdio::piped()).spawn()?;
    let output = BufReader::new(child.stdout.take().ok_or("a child without output")?);
    let told: Vec<Instant> =
        output.lines().map_while(|line| line.ok()).map(|_| Instant::now()).take(commits).collect();
    if let [.., last_but_one, last] = told[..] {
        std::thread::sleep((last - last_but_one).mul_f64(part));
    }
    child.kill()?;
    child.wait()?;
    if told.len() < commits {
        return failure("the importing child has ended by itself");
    }
    Ok((commits * batch) as u64)
}

/// Runs a child to its end; it tells an object.
fn run(task: &str, path: &Path, vectors: &Path) -> Result<Value> {
    let output = command(task, path, vectors)?.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return failure(format!("the child that was to measure {task:?} has failed: {}", output.status));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn command(task: &str, path: &Path, vectors: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(CHILD).arg(task).arg(path).arg(vectors);
    Ok(command)
}

/// What a child does: `TASK STORE VECTORS [BATCH]`.
pub(crate) fn main(mut arguments: impl Iterator<Item = OsString>, started: Instant) -> Result<()> {
    let mut next = || arguments.next().ok_or("a child needs a task, a store and vectors");
    let (task, path, vectors) = (next()?, PathBuf::from(next()?), PathBuf::from(next()?));
    match task.to_str() {
        Some("first") => {
            let First { opened_ms, result_ms, vectors } = reopen::in_child(&path, &vectors, started)?;
            tell(&json!({ "opened_ms": opened_ms, "result_ms": result_ms, "vectors": vectors }))
        }
        Some("memory") => {
            let Usage { started, searched, disk } = memory::in_child(&path, &vectors)?;
            let [started, searched] = [started, searched].map(|memory| {
                memory.map(|Memory { anonymous, file }| json!({ "anonymous": anonymous, "file": file }))
            });
            tell(&json!({ "started": started, "searched": searched, "disk": disk }))
        }
        Some("import") => {
            let batch = next()?.to_str().and_then(|batch| batch.parse().ok()).ok_or("no batch")?;
            import(&path, &Matrix::read(&vectors)?, batch)
        }
        _ => failure(format!("no child does {task:?}")),
    }
}

/// Imports vectors under new keys, and tells of every commit, until it is killed.
fn import(path: &Path, vectors: &Matrix, batch: usize) -> Result<()> {
    let store = Store::open(path)?;
    let stored = store::collection(&store)?;
    let (definition, first) = (store::definition(&stored), stored.len() as usize);
    drop(stored);
    for start in (first..).step_by(batch) {
        let rows = (start..start + batch).map(|number| (number as u64, newcomer(vectors, number)));
        let tx = store.begin_write()?;
        tx.open_collection(definition)?.insert_many(rows)?;
        tx.commit()?;
        tell(&json!({ "committed": start + batch }))?;
    }
    Ok(())
}

fn tell(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

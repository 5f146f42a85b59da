//! An import that was stopped, by Ctrl-C or by `kill -9`, goes on where it was, and ends as one that was never stopped.
//!
//! The imports here read a pipe, so that the test decides how far they get without waiting by the clock: a pipe and the tool's
//! buffers hold a bounded number of bytes, and a write beyond them returns only when what came before has been committed.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::Child;

use super::*;

/// Rows per transaction.
const BATCH: usize = 200;
/// Bytes that can be under way between the test and what is committed: 64 KiB of a pipe, as many that tell the file's identity, and
/// 256 KiB of a buffer.
const UNDER_WAY: usize = (64 + 64 + 256) << 10;

/// As many rows as make sure that several batches are committed while others are under way.
fn many_rows() -> Vec<Vec<f32>> {
    println!("seed {SEED}");
    let mut rng = StdRng::seed_from_u64(SEED);
    let rows = UNDER_WAY / (4 + 4 * WIDTH) + 10 * BATCH;
    (0..rows).map(|_| (0..WIDTH).map(|_| rng.random_range(-1.0..1.0)).collect()).collect()
}

const IMPORT: [&str; 8] = ["import", "s", "c", "-", "--format", "fvecs", "--batch", "200"];

/// Starts an import from a pipe, and returns when it has committed some batches, and not all.
fn begin(work: &Workplace, bytes: &[u8]) -> Child {
    let mut command = work.command(IMPORT);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let written = UNDER_WAY + 3 * BATCH * (4 + 4 * WIDTH);
    assert!(written < bytes.len());
    child.stdin.as_mut().unwrap().write_all(&bytes[..written]).unwrap();
    child
}

/// What the segment files hold, in their order: all but the headers, which tell the store.
fn segments(work: &Workplace, store: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(work.path(store)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension() == Some(OsStr::new("vectors"))).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap().split_off(64 << 10)).collect()
}

/// The graph as far as it can be seen from outside: shape, and the answers at a narrow ef, with what they cost.
fn graph(work: &Workplace, store: &str) -> (Value, Vec<String>) {
    let mut stats = work.json(["stats", store])["collections"][0].clone();
    stats
        .as_object_mut()
        .unwrap()
        .retain(|name, _| !name.starts_with("graph_pages") && name != "resident_bytes");
    let store = Store::builder().read_only().open(work.path(store)).unwrap();
    let collection = store.begin_read().unwrap().open_stored_collection("c").unwrap();
    let answer = |query: &Vec<f32>| {
        let hits = collection.query(query).k(10).ef(12).run().unwrap();
        format!("{:?} {:?}", hits.iter().collect::<Vec<_>>(), hits.statistics())
    };
    (stats, work.queries.iter().map(answer).collect())
}

/// Resumes the import of store `s` from a file and compares with one that was never stopped.
fn resumes_to_the_whole(work: &Workplace, rows: &[Vec<f32>], bytes: &[u8]) {
    let before = work.contents("s").len();
    assert!(before > 0 && before < rows.len() && before.is_multiple_of(BATCH), "{before} rows are stored");
    let resumed = work.with_input(IMPORT.into_iter().chain(["--resume", "--json"]), bytes);
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    let told: Value = serde_json::from_str(&text(&resumed.stdout)).unwrap();
    assert_eq!((&told["resumed_at"], &told["inserted"]), (&before.into(), &(rows.len() - before).into()));

    work.write("whole.fvecs", bytes);
    work.succeeds(["import", "whole", "c", "whole.fvecs", "--batch", "200"]);
    assert!(work.contents("s") == work.contents("whole"), "the same keys and vectors");
    assert_eq!(graph(work, "s"), graph(work, "whole"));
    assert!(segments(work, "s") == segments(work, "whole"), "the same bytes in the same slots");
    assert!(work.succeeds(["check", "s"]).ends_with("no problems\n"));
    let store = Store::builder().read_only().open(work.path("s")).unwrap();
    assert_eq!(store.begin_read().unwrap().list_tables().unwrap(), Vec::<String>::new(), "nothing is left");
}

#[test]
fn ctrl_c_ends_an_import_between_transactions() {
    let work = Workplace::new();
    let rows = many_rows();
    let bytes = fvecs(&rows);
    let mut child = begin(&work, &bytes);
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut message = String::new();
    errors.read_line(&mut message).unwrap();
    assert!(message.starts_with("stopping after this batch"), "{message}");
    // Rows without end: only the signal can end it, and then nobody reads on.
    let mut input = child.stdin.take().unwrap();
    while input.write_all(&bytes).is_ok() {}
    message.clear();
    errors.read_to_string(&mut message).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let stored = work.contents("s");
    assert!(stored == (0..).zip(rows[..stored.len()].to_vec()).collect::<Vec<_>>());
    let expected = format!(
        "error: stopped; {} rows were imported and stay; the same command with --resume",
        stored.len()
    );
    assert!(message.starts_with(&expected), "{message}");
    resumes_to_the_whole(&work, &rows, &bytes);
}

#[test]
fn a_killed_import_goes_on_where_it_was() {
    let work = Workplace::new();
    let rows = many_rows();
    let bytes = fvecs(&rows);
    let mut child = begin(&work, &bytes);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert!(work.contents("s").len() >= 3 * BATCH, "what was acknowledged by reading on is there");
    resumes_to_the_whole(&work, &rows, &bytes);
}

/// With keys of their own, those of the rows that are stored are passed over as well.
#[test]
fn keys_are_resumed_with_their_rows() {
    let work = Workplace::new();
    let keys: Vec<u64> = (0..ROWS as u64).map(|row| row * 7 % 500 + 1000).collect();
    let list = |keys: &[u64]| keys.iter().map(|key| format!("{key}\n")).collect::<String>().into_bytes();
    work.write("keys.txt", &list(&keys[..450]));
    let import = ["import", "s", "c", "base.fvecs", "--batch", "100", "--keys", "keys.txt"];
    work.fails(import, &["keys.txt has no key for row 450", "400 rows were imported before that"]);
    work.write("keys.txt", &list(&keys));
    let resumed = work.json(import.into_iter().chain(["--resume"]));
    assert_eq!((&resumed["resumed_at"], &resumed["inserted"]), (&400.into(), &100.into()));
    let mut expected: Vec<_> = keys.into_iter().zip(work.base.clone()).collect();
    expected.sort_by_key(|(key, _)| *key);
    assert_eq!(work.contents("s"), expected);
}

#[test]
fn only_the_same_import_is_resumed() {
    let work = Workplace::new();
    let mut bad = fvecs(&work.base);
    bad.truncate(bad.len() - 1);
    work.write("bad.fvecs", &bad);
    let import = ["import", "s", "c", "bad.fvecs", "--batch", "100"];
    work.fails(import, &["ends inside row 499", "400 rows were imported"]);
    let resume = |file, batch| ["import", "s", "c", file, "--batch", batch, "--resume"];
    work.fails(resume("bad.fvecs", "50"), &["--batch 100", "--batch 50", "state the same"]);
    let parts = ["the unfinished import is of ", "bad.fvecs, of which 400 rows are stored", "--skip 400"];
    work.fails(resume("base.fvecs", "100"), &parts);
    // The same name, and other bytes.
    work.write("bad.fvecs", &fvecs(&work.base));
    work.fails(resume("bad.fvecs", "100"), &parts);
    work.fails(resume("missing.fvecs", "100"), &["cannot read missing.fvecs"]);
    assert_eq!(work.contents("s").len(), 400);
    // Nothing is unfinished of another collection, or once it was imported after all: then --resume begins at the start.
    work.succeeds(["import", "s", "c", "base.fvecs", "--skip", "400", "--first-key", "400"]);
    let again = work.json(resume("base.fvecs", "100"));
    assert_eq!((&again["resumed_at"], &again["inserted"]), (&0.into(), &ROWS.into()));
    work.succeeds(["import", "new", "c", "base.fvecs", "--resume"]);
    assert_eq!(work.contents("new"), work.contents("s"));
}

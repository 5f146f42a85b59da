//! The command line tool as its users meet it: every command is run as a process of its own, on stores and files made for the test.
//!
//! What is asked of every command: it does what it says; what it cannot do it refuses with exit code 1 and a message that names the
//! file, the row and the way out (2 is for a command line that makes no sense); it leaves nothing behind that was not asked for.

#![cfg(feature = "cli")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nestling::{Metric, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tempfile::TempDir;

/// The seed of all vectors here.
const SEED: u64 = 20_260_704;
const ROWS: usize = 500;
const WIDTH: usize = 16;

/// A directory with 500 vectors in `base.fvecs` and 40 in `query.fvecs`.
struct Workplace {
    directory: TempDir,
    base: Vec<Vec<f32>>,
    queries: Vec<Vec<f32>>,
}

impl Workplace {
    fn new() -> Self {
        println!("seed {SEED}");
        let mut rng = StdRng::seed_from_u64(SEED);
        let mut vectors = |rows: usize| -> Vec<Vec<f32>> {
            (0..rows).map(|_| (0..WIDTH).map(|_| rng.random_range(-1.0..1.0)).collect()).collect()
        };
        let (base, queries) = (vectors(ROWS), vectors(40));
        let work = Self { directory: tempfile::tempdir().unwrap(), base, queries };
        work.write("base.fvecs", &fvecs(&work.base));
        work.write("query.fvecs", &fvecs(&work.queries));
        work
    }

    /// One with the base imported into collection `c` of the store `s`.
    fn with_store() -> Self {
        let work = Self::new();
        work.succeeds(["import", "s", "c", "base.fvecs"]);
        work
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nestling"));
        command.current_dir(self.directory.path()).args(arguments).stdin(Stdio::null());
        command
    }

    fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed without a word on standard error; gives back what it printed.
    #[track_caller]
    fn succeeds<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
        assert_eq!(text(&output.stderr), "", "standard error is not a terminal, so it stays silent");
        text(&output.stdout)
    }

    /// Runs a command that must succeed and print one line of JSON.
    #[track_caller]
    fn json<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Value {
        let printed = self.succeeds(arguments.into_iter().chain(["--json"]));
        assert_eq!(printed.lines().count(), 1, "{printed}");
        serde_json::from_str(&printed).unwrap()
    }

    /// Runs a command that must fail with exit code 1, print nothing, and say all of `parts` on standard error.
    #[track_caller]
    fn fails<'a>(&self, arguments: impl IntoIterator<Item = &'a str>, parts: &[&str]) -> String {
        let output = self.run(arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert_eq!(text(&output.stdout), "");
        assert!(message.starts_with("error: ") && !message.contains("panicked"), "{message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is missing from {message:?}");
        }
        message
    }

    /// Runs a command that clap must refuse.
    #[track_caller]
    fn is_misuse<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(!output.stderr.is_empty());
    }

    /// All keys and vectors, read through the library in this process.
    fn contents(&self, store: &str) -> Vec<(u64, Vec<f32>)> {
        let store = Store::builder().read_only().open(self.path(store)).unwrap();
        let collection = store.begin_read().unwrap().open_stored_collection("c").unwrap();
        collection.iter().unwrap().map(|entry| entry.map(|(k, v)| (k, v.into_owned())).unwrap()).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn fvecs(rows: &[Vec<f32>]) -> Vec<u8> {
    texmex(rows, f32::to_le_bytes)
}

fn ivecs(rows: &[Vec<i32>]) -> Vec<u8> {
    texmex(rows, i32::to_le_bytes)
}

fn texmex<T: Copy>(rows: &[Vec<T>], to_le_bytes: fn(T) -> [u8; 4]) -> Vec<u8> {
    let row = |row: &Vec<T>| -> Vec<u8> {
        let width = (row.len() as i32).to_le_bytes();
        width.into_iter().chain(row.iter().flat_map(|&x| to_le_bytes(x))).collect()
    };
    rows.iter().flat_map(row).collect()
}

/// 1 − cos, naively.
fn cosine(x: &[f32], y: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    1.0 - dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
}

fn squared_l2(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum()
}

/// The rows of `base` in the order of their distance to `query`.
fn ranked(base: &[Vec<f32>], query: &[f32], distance: fn(&[f32], &[f32]) -> f64) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..base.len()).collect();
    rows.sort_by(|&a, &b| distance(query, &base[a]).total_cmp(&distance(query, &base[b])));
    rows
}

fn keys(hits: &Value) -> Vec<u64> {
    hits["hits"].as_array().unwrap().iter().map(|hit| hit["key"].as_u64().unwrap()).collect()
}

// import

#[test]
fn an_import_stores_every_row_under_its_key() {
    let work = Workplace::new();
    let summary = work.json(["import", "s", "c", "base.fvecs", "--batch", "64"]);
    assert_eq!(summary["inserted"], ROWS);
    assert!(summary["seconds"].as_f64().unwrap() > 0.0);
    assert!(summary["vectors_per_second"].as_f64().unwrap() > 0.0);
    // At least the vectors themselves must be there.
    assert!(summary["bytes_on_disk"].as_u64().unwrap() >= (ROWS * WIDTH * 4) as u64);
    let expected: Vec<_> = (0..).zip(work.base.clone()).collect();
    assert_eq!(work.contents("s"), expected);
    assert_eq!(work.json(["stats", "s"])["commit"], ROWS.div_ceil(64), "one commit per batch");
    let printed = work.succeeds(["import", "another", "c", "base.fvecs", "--threads", "2"]);
    assert!(printed.starts_with("500 vectors in "), "{printed}");
}

#[test]
fn halves_add_up_to_the_whole() {
    let work = Workplace::with_store();
    work.succeeds(["import", "halves", "c", "base.fvecs", "--limit", "230"]);
    assert_eq!(work.contents("halves").len(), 230);
    work.succeeds(["import", "halves", "c", "base.fvecs", "--skip", "230", "--first-key", "230"]);
    assert_eq!(work.contents("halves"), work.contents("s"));
    for row in ["0", "17", "39"] {
        // As wide as the collection, so that the graph does not matter.
        let search = |store| {
            work.json(["search", store, "c", "--queries", "query.fvecs", "--row", row, "--ef", "500"])
        };
        assert_eq!(search("halves")["hits"], search("s")["hits"]);
    }
    assert!(work.succeeds(["check", "halves"]).ends_with("no problems\n"));
}

/// `--first-key` is the key of the first row that is imported, not of the file's first row.
#[test]
fn keys_count_from_the_first_row_imported() {
    let work = Workplace::new();
    let options = ["--skip", "10", "--limit", "3", "--first-key", "700", "--batch", "2"];
    work.succeeds(["import", "s", "c", "base.fvecs"].into_iter().chain(options));
    let expected: Vec<_> = (700..).zip(work.base[10..13].to_vec()).collect();
    assert_eq!(work.contents("s"), expected);
    // The last key there is can be used, and the one after it cannot.
    work.succeeds(["import", "s", "c", "base.fvecs", "--limit", "1", "--first-key", "18446744073709551615"]);
    assert_eq!(work.contents("s").last().unwrap().0, u64::MAX);
    work.fails(
        ["import", "s", "c", "base.fvecs", "--skip", "5", "--first-key", "18446744073709551612"],
        &["row 9 of base.fvecs", "--first-key"],
    );
    assert_eq!(work.contents("s").len(), 4);
}

#[test]
fn an_import_over_existing_keys_replaces_them() {
    let work = Workplace::with_store();
    work.succeeds(["import", "s", "c", "base.fvecs", "--skip", "490"]);
    let contents = work.contents("s");
    assert_eq!(contents.len(), ROWS);
    assert_eq!(contents[3].1, work.base[493]);
    assert_eq!(contents[10].1, work.base[10]);
    let stats = work.json(["stats", "s"]);
    assert_eq!(stats["collections"][0]["dead_slots"], 10, "an update frees the old slot");
    assert!(work.succeeds(["check", "s"]).ends_with("no problems\n"));
}

#[test]
fn what_is_left_unstated_is_what_is_stored() {
    let work = Workplace::new();
    let stated = ["--metric", "l2", "--m", "8", "--ef-construction", "40", "--seed", "5", "--limit", "50"];
    work.succeeds(["import", "s", "c", "base.fvecs"].into_iter().chain(stated));
    work.succeeds(["import", "s", "c", "base.fvecs"]);
    let collection = &work.json(["stats", "s"])["collections"][0];
    assert_eq!(
        ["metric", "m", "m0", "ef_construction", "seed", "vectors"].map(|name| collection[name].clone()),
        [Value::from("l2"), 8.into(), 16.into(), 40.into(), 5.into(), ROWS.into()]
    );
    for (option, value, parameter) in
        [("--metric", "dot", "metric l2"), ("--m", "9", "m 8"), ("--seed", "6", "seed 5")]
    {
        work.fails(
            ["import", "s", "c", "base.fvecs", option, value],
            &[parameter, value, "leave that option out"],
        );
    }
    // A parameter of insertions only, which may change.
    work.succeeds(["import", "s", "c", "base.fvecs", "--limit", "1", "--ef-construction", "60"]);
    assert_eq!(work.json(["stats", "s"])["collections"][0]["ef_construction"], 60);
}

#[test]
fn a_collection_imported_without_codes_stays_so_and_is_searched_as_any_other() {
    let work = Workplace::new();
    work.succeeds(["import", "s", "c", "base.fvecs", "--no-codes", "--limit", "100"]);
    work.succeeds(["import", "s", "c", "base.fvecs"]);
    assert!(work.succeeds(["stats", "s"]).contains("codes           none"));
    assert_eq!(work.json(["stats", "s"])["collections"][0]["codes"], "none");
    let bench = work.json(["bench", "s", "c", "--queries", "query.fvecs", "--ef", "500"]);
    assert_eq!(bench["recall"], 1.0);
    assert!(work.succeeds(["check", "s"]).ends_with("no problems\n"));

    work.succeeds(["import", "s", "coded", "base.fvecs"]);
    assert_eq!(work.json(["stats", "s"])["collections"][1]["codes"], "7-bit");
    work.fails(["import", "s", "coded", "base.fvecs", "--no-codes"], &["codes 7-bit", "none"]);
}

#[test]
fn a_file_that_cannot_be_imported_leaves_no_store() {
    let work = Workplace::new();
    work.write("empty.fvecs", &[]);
    work.write("text.fvecs", b"these are not vectors");
    work.write("short.fvecs", &fvecs(&work.base)[..40]);
    let cases: [(&[&str], &[&str]); 6] = [
        (&["missing.fvecs"], &["cannot read missing.fvecs", "check the path"]),
        (&["."], &["cannot read ."]),
        (&["empty.fvecs"], &["empty.fvecs is empty"]),
        (&["text.fvecs"], &["row 0 of text.fvecs", "TEXMEX"]),
        (&["short.fvecs"], &["short.fvecs ends inside row 0, after 40 of its 68 bytes"]),
        (&["base.fvecs", "--skip", "500"], &["base.fvecs has 500 rows", "--skip 500", "skip fewer"]),
    ];
    for (arguments, parts) in cases {
        work.fails(["import", "s", "c"].into_iter().chain(arguments.iter().copied()), parts);
        assert!(!work.path("s").exists(), "{arguments:?} left a store behind");
    }
}

/// The story of a long import that meets a bad row: the batches before it stay, the message tells how to go on, and following it
/// gives the same collection as an import without the mishap.
#[test]
fn an_interrupted_import_can_be_taken_up_again() {
    let whole = fvecs(&Workplace::new().base);
    let row = 4 + 4 * WIDTH;
    let mut with_nan = whole.clone();
    with_nan[row * 123 + 4 + 4 * 7..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let mut with_zeros = whole.clone();
    with_zeros[row * 123 + 4..row * 124].fill(0);
    let mut with_wider_row = whole.clone();
    with_wider_row[row * 123] += 1;
    let cases: [(&[u8], &str); 4] = [
        (&with_nan, "row 123 of bad.fvecs has NaN at component 7"),
        (&with_zeros, "row 123 of bad.fvecs has a norm of 0e0"),
        (&with_wider_row, "row 123 of bad.fvecs has a width of 17, the rows before it 16"),
        (&whole[..row * 123 + 50], "bad.fvecs ends inside row 123, after 50 of its 68 bytes"),
    ];
    for (bad, complaint) in cases {
        let work = Workplace::new();
        work.write("bad.fvecs", bad);
        let message = work.fails(
            ["import", "s", "c", "bad.fvecs", "--skip", "10", "--first-key", "10", "--batch", "50"],
            &[complaint, "100 rows were imported before that", "--skip 110 --first-key 110"],
        );
        let imported = work.contents("s");
        let expected: Vec<_> = (10..).zip(work.base[10..110].to_vec()).collect();
        assert_eq!(imported, expected, "the batches before the bad row, and nothing of its own");
        let advice = message.trim_end().split_once("go on from there with ").unwrap().1;
        work.succeeds(["import", "s", "c", "base.fvecs"].into_iter().chain(advice.split(' ')));
        let expected: Vec<_> = (10..).zip(work.base[10..].to_vec()).collect();
        assert_eq!(work.contents("s"), expected);
    }
}

#[test]
fn advice_after_an_interruption_respects_the_limit() {
    let work = Workplace::new();
    let mut bad = fvecs(&work.base);
    bad.truncate(bad.len() - 1);
    work.write("bad.fvecs", &bad);
    work.fails(
        ["import", "s", "c", "bad.fvecs", "--skip", "300", "--limit", "200", "--batch", "150"],
        &["bad.fvecs ends inside row 499, after 67 of its 68 bytes", "--skip 450 --first-key 150 --limit 50"],
    );
    // Up to the row that is cut off everything can be had.
    work.succeeds(["import", "s", "c", "bad.fvecs", "--skip", "300", "--limit", "199"]);
    assert_eq!(work.contents("s").len(), 199);
}

#[test]
fn vectors_of_another_dimension_are_refused() {
    let work = Workplace::with_store();
    work.write("narrow.fvecs", &fvecs(&[vec![1.0; 8]]));
    let parts = ["row 0 of narrow.fvecs has 8 components", "\"c\" has dimension 16"];
    work.fails(["import", "s", "c", "narrow.fvecs"], &parts);
    work.fails(["search", "s", "c", "--queries", "narrow.fvecs", "--row", "0"], &parts);
    work.fails(["bench", "s", "c", "--queries", "narrow.fvecs"], &parts);
    work.succeeds(["import", "s", "narrow", "narrow.fvecs"]);
}

// search

#[test]
fn a_search_finds_what_is_nearest() {
    let work = Workplace::with_store();
    for row in [0, 5, 39] {
        let query = &work.queries[row];
        let row = row.to_string();
        let arguments =
            ["search", "s", "c", "--queries", "query.fvecs", "--row", &row, "-k", "7", "--ef", "500"];
        let found = work.json(arguments);
        let expected = &ranked(&work.base, query, cosine)[..7];
        assert_eq!(keys(&found), expected.iter().map(|&key| key as u64).collect::<Vec<_>>());
        for (hit, &row) in found["hits"].as_array().unwrap().iter().zip(expected) {
            assert!((hit["distance"].as_f64().unwrap() - cosine(query, &work.base[row])).abs() < 1e-5);
        }
        assert!(found["microseconds"].as_u64().unwrap() > 0);
        let (loaded, pages) = (found["pages_loaded"].as_u64().unwrap(), found["pages"].as_u64().unwrap());
        assert!(0 < loaded && loaded <= pages, "{loaded} of {pages}");
    }
}

#[test]
fn a_search_by_key_finds_the_key_first() {
    let work = Workplace::with_store();
    for key in ["0", "250", "499"] {
        let found = work.json(["search", "s", "c", "--key", key]);
        let hits = found["hits"].as_array().unwrap();
        assert_eq!(hits.len(), 10);
        assert_eq!(hits[0]["key"].to_string(), key);
        assert!(hits[0]["distance"].as_f64().unwrap() < 1e-6);
    }
}

/// The table for people and the object for programs tell the same.
#[test]
fn the_table_of_a_search_has_the_same_hits() {
    let work = Workplace::with_store();
    let search = ["search", "s", "c", "--key", "42", "-k", "4"];
    let (table, object) = (work.succeeds(search), work.json(search));
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(cells(lines[0]), ["rank", "key", "distance"]);
    for (rank, hit) in object["hits"].as_array().unwrap().iter().enumerate() {
        let expected = [
            (rank + 1).to_string(),
            hit["key"].to_string(),
            format!("{:.6}", hit["distance"].as_f64().unwrap()),
        ];
        assert_eq!(cells(lines[rank + 1]), expected);
    }
    assert_eq!(lines.len(), 6, "a header, four hits, and what it took:\n{table}");
}

#[test]
fn a_search_says_what_it_cannot_find() {
    let work = Workplace::with_store();
    let mut bad = work.queries.clone();
    bad[2][3] = f32::INFINITY;
    work.write("bad.fvecs", &fvecs(&bad));
    work.fails(["search", "s", "c", "--key", "500"], &["key 500", "\"c\""]);
    let search = |file, row| ["search", "s", "c", "--queries", file, "--row", row];
    work.fails(search("query.fvecs", "40"), &["query.fvecs has 40 rows", "no row 40"]);
    work.fails(search("missing.fvecs", "0"), &["missing.fvecs"]);
    work.fails(search("bad.fvecs", "2"), &["row 2 of bad.fvecs has inf at component 3"]);
}

// bench

/// Recall, recomputed with independent means: the same searches through the library, in this process, counted by keys (the vectors
/// are random, so there are no ties).
#[test]
fn bench_measures_the_recall_there_is() {
    let work = Workplace::new();
    // A poor graph and a narrow search, so that there is something to miss.
    work.succeeds(["import", "s", "c", "base.fvecs", "--m", "3", "--ef-construction", "5", "--metric", "l2"]);
    let truth: Vec<Vec<usize>> =
        work.queries.iter().map(|query| ranked(&work.base, query, squared_l2)[..10].to_vec()).collect();
    let rows: Vec<Vec<i32>> = truth.iter().map(|row| row.iter().map(|&key| key as i32).collect()).collect();
    work.write("truth.ivecs", &ivecs(&rows));
    let efs = [10, 40, 500];
    let recalls = efs.map(|ef| {
        let store = Store::builder().read_only().open(work.path("s")).unwrap();
        let collection = store.begin_read().unwrap().open_stored_collection("c").unwrap();
        let right = work.queries.iter().zip(&truth).map(|(query, truth)| {
            let hits = collection.query(query).k(10).ef(ef).run().unwrap();
            hits.iter().filter(|hit| truth.contains(&(hit.key as usize))).count()
        });
        right.sum::<usize>() as f64 / 400.0
    });
    assert!(recalls[0] < 0.9 && recalls[2] == 1.0, "nothing to measure: {recalls:?}");
    let bench = ["bench", "s", "c", "--queries", "query.fvecs", "--ef", "10,40,500", "--json"];
    for options in [&["--truth", "truth.ivecs"][..], &[], &["--threads", "3"]] {
        let printed = work.succeeds(bench.into_iter().chain(options.iter().copied()));
        let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        for ((line, ef), recall) in lines.iter().zip(efs).zip(recalls) {
            assert_eq!(line["ef"], ef);
            assert!((line["recall"].as_f64().unwrap() - recall).abs() < 1e-9, "{line} instead of {recall}");
            assert!(line["qps"].as_f64().unwrap() > 0.0);
            let (p50, p99) = (line["p50_us"].as_f64().unwrap(), line["p99_us"].as_f64().unwrap());
            assert!(0.0 < p50 && p50 <= p99, "{line}");
        }
        let distances: Vec<f64> = lines.iter().map(|line| line["distances"].as_f64().unwrap()).collect();
        assert!(distances[0] >= 10.0 && distances.is_sorted(), "a wider search compares more: {distances:?}");
    }
    let table = work.succeeds(["bench", "s", "c", "--queries", "query.fvecs", "--ef", "500"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..3], ["ef", "recall", "qps"]);
    assert_eq!(lines[1][..2], ["500", "1.0000"]);
}

/// Thirty copies of one vector, ten are asked for, and the truth names ten others than the search finds: all of them are as near, so
/// the recall is 1.
#[test]
fn ties_with_the_last_true_neighbor_count() {
    let work = Workplace::new();
    let mut base = work.base.clone();
    base[..30].fill(work.base[0].clone());
    work.write("copies.fvecs", &fvecs(&base));
    work.write("copy.fvecs", &fvecs(&base[..1]));
    work.succeeds(["import", "s", "c", "copies.fvecs"]);
    let found = keys(&work.json(["search", "s", "c", "--key", "0", "--ef", "500"]));
    let others: Vec<i32> = (0..30).filter(|&key| !found.contains(&(key as u64))).take(10).collect();
    assert_eq!(others.len(), 10);
    work.write("truth.ivecs", &ivecs(&[others]));
    let bench = ["bench", "s", "c", "--queries", "copy.fvecs", "--ef", "500", "--truth", "truth.ivecs"];
    assert_eq!(work.json(bench)["recall"], 1.0);
}

#[test]
fn a_truth_that_does_not_fit_is_refused() {
    let work = Workplace::with_store();
    let bench = |truth| ["bench", "s", "c", "--queries", "query.fvecs", "--truth", truth];
    work.write("few.ivecs", &ivecs(&vec![vec![1; 10]; 39]));
    work.fails(bench("few.ivecs"), &["few.ivecs has 39 rows, query.fvecs has 40"]);
    work.write("narrow.ivecs", &ivecs(&vec![vec![1; 9]; 40]));
    work.fails(bench("narrow.ivecs"), &["row 0 of narrow.ivecs names 9 neighbors", "-k"]);
    for stranger in [500, -1] {
        let mut rows = vec![(0..10).collect::<Vec<i32>>(); 40];
        rows[7][4] = stranger;
        work.write("strange.ivecs", &ivecs(&rows));
        let named = format!("row 7 of strange.ivecs names {stranger} ");
        work.fails(bench("strange.ivecs"), &[&named, "--first-key 0"]);
    }
    work.fails(bench("missing.ivecs"), &["missing.ivecs"]);
    let mut bad = work.queries.clone();
    bad[3][0] = f32::NAN;
    work.write("bad.fvecs", &fvecs(&bad));
    work.fails(["bench", "s", "c", "--queries", "bad.fvecs"], &["row 3 of bad.fvecs has NaN at component 0"]);
}

#[test]
fn an_emptied_collection_is_searched_and_not_measured() {
    let work = Workplace::with_store();
    work.succeeds(["remove", "s", "c", "--keys", "0-499"]);
    assert_eq!(
        work.json(["search", "s", "c", "--queries", "query.fvecs", "--row", "0"])["hits"],
        Value::Array(vec![])
    );
    work.fails(["bench", "s", "c", "--queries", "query.fvecs"], &["\"c\"", "is empty"]);
}

// remove

#[test]
fn removed_vectors_are_gone() {
    let work = Workplace::with_store();
    // Overlapping ranges, a key named twice, and keys that do not exist.
    let outcome = work.json(["remove", "s", "c", "--keys", "1,2,5-9,8-12,1,498-505"]);
    assert_eq!((&outcome["removed"], &outcome["missing"]), (&Value::from(12), &Value::from(6)));
    let removed: BTreeSet<u64> = [1, 2].into_iter().chain(5..=12).chain(498..=499).collect();
    let left: Vec<u64> = (0..ROWS as u64).filter(|key| !removed.contains(key)).collect();
    assert_eq!(work.contents("s").iter().map(|(key, _)| *key).collect::<Vec<_>>(), left);
    let found = keys(&work.json(["search", "s", "c", "--key", "0", "-k", "500"]));
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), left.into_iter().collect());
    assert!(work.succeeds(["check", "s"]).ends_with("no problems\n"));
    assert_eq!(
        work.succeeds(["remove", "s", "c", "--keys", "0-20"]),
        "11 vectors removed, 10 keys had none\n"
    );
}

/// A range is not counted through: this one would take centuries.
#[test]
fn a_range_may_be_as_wide_as_keys_go() {
    let work = Workplace::with_store();
    let outcome = work.json(["remove", "s", "c", "--keys", "100-18446744073709551615"]);
    assert_eq!(outcome["removed"], ROWS - 100);
    assert_eq!(outcome["missing"], u64::MAX - 499);
    assert_eq!(work.contents("s").len(), 100);
}

// stats and check

#[test]
fn stats_tell_what_was_imported() {
    let work = Workplace::with_store();
    work.succeeds(["import", "s", "a", "query.fvecs", "--metric", "dot"]);
    work.succeeds(["remove", "s", "c", "--keys", "7"]);
    let stats = work.json(["stats", "s"]);
    assert!(stats["bytes_on_disk"].as_u64().unwrap() > 0);
    assert_eq!(stats["commit"], 3);
    let collections = stats["collections"].as_array().unwrap();
    let facts = ["name", "vectors", "dimension", "metric", "m", "dead_slots"];
    let facts_of = |collection: &Value| facts.map(|fact| collection[fact].clone());
    let json = |facts: [&str; 6]| facts.map(|fact| serde_json::from_str::<Value>(fact).unwrap());
    assert_eq!(facts_of(&collections[0]), json([r#""a""#, "40", "16", r#""dot""#, "16", "0"]));
    assert_eq!(facts_of(&collections[1]), json([r#""c""#, "499", "16", r#""cosine""#, "16", "1"]));
    let base = &collections[1]["layers"][0];
    assert_eq!((&base["nodes"], &base["reachable"]), (&Value::from(499), &Value::from(499)));
    let mean = base["edges"].as_f64().unwrap() / 499.0;
    assert!((base["mean_degree"].as_f64().unwrap() - mean).abs() < 1e-9 && mean > 2.0);
    assert!(base["max_degree"].as_u64().unwrap() <= 32);
    for count in ["segments", "pages"] {
        assert!(collections[1][count].as_u64().unwrap() > 0);
    }
    let table = work.succeeds(["stats", "s"]);
    for line in [["vectors", "499"], ["metric", "cosine"], ["vectors", "40"], ["metric", "dot"]] {
        let has = |printed: &str| printed.split_whitespace().eq(line);
        assert!(table.lines().any(has), "{line:?} is missing from\n{table}");
    }
}

#[test]
fn a_backup_is_a_store_with_the_same_vectors() {
    let work = Workplace::with_store();
    let backup = work.json(["backup", "s", "copy"]);
    assert_eq!(backup["commit"], work.json(["stats", "copy"])["commit"]);
    assert!(backup["bytes"].as_u64().unwrap() > (ROWS * WIDTH * 4) as u64, "{backup}");
    assert_eq!(work.contents("copy"), work.contents("s"));
    assert_eq!(work.json(["check", "copy"])["problems"], serde_json::json!([]));

    assert!(work.succeeds(["backup", "s", "other"]).starts_with("other: commit 1, "));
    work.fails(["backup", "s", "copy"], &["copy", "neither new nor an empty directory"]);
    work.fails(["backup", "nowhere", "new"], &["no store", "nowhere"]);
    assert!(!work.path("new").exists());
}

#[test]
fn compaction_gives_the_space_of_removed_vectors_back() {
    let work = Workplace::with_store();
    work.succeeds(["remove", "s", "c", "--keys", "100-499"]);
    let before = work.contents("s");
    let compaction = work.json(["compact", "s"]);
    assert_eq!(compaction["vectors"], 100);
    assert!(compaction["bytes_after"].as_u64() < compaction["bytes_before"].as_u64(), "{compaction}");
    assert_eq!(work.contents("s"), before);
    assert_eq!(work.json(["check", "s"])["problems"], serde_json::json!([]));
    assert_eq!(work.json(["stats", "s"])["collections"][0]["dead_slots"], 0);

    assert!(work.succeeds(["compact", "s"]).starts_with("s: 100 vectors, "));
    work.fails(["compact", "nowhere"], &["no store", "nowhere"]);
}

#[test]
fn a_repair_saves_what_verifies_and_tells_what_does_not() {
    let work = Workplace::with_store();
    let sound = work.contents("s");
    let needle: Vec<u8> = work.base[7].iter().flat_map(|x| x.to_le_bytes()).collect();
    let (file, place) = find_in_segments(&work.path("s"), &needle);
    let mut bytes = fs::read(&file).unwrap();
    bytes[place] ^= 1;
    fs::write(&file, bytes).unwrap();

    let repair = work.json(["repair", "s", "new"]);
    assert_eq!((&repair["rows_found"], &repair["tables_kept"]), (&true.into(), &true.into()));
    let collection = &repair["collections"][0];
    assert_eq!((collection["recovered"].as_u64(), collection["lost"].as_u64()), (Some(499), Some(1)));
    assert_eq!(collection["lost_keys"], serde_json::json!([7]));
    assert!(work.contents("new").iter().eq(sound.iter().filter(|(key, _)| *key != 7)));
    assert_eq!(work.json(["check", "new"])["problems"], serde_json::json!([]));

    fs::remove_file(work.path("s/store.redb")).unwrap();
    let told = work.succeeds(["repair", "s", "other"]);
    assert!(told.contains("removed may have come back") && told.contains("499 vectors recovered"), "{told}");
    work.fails(["repair", "s", "new"], &["new", "neither new nor an empty directory"]);
    work.fails(["repair", "nowhere", "newer"], &["nowhere"]);
    assert!(!work.path("newer").exists());
}

#[test]
fn a_sound_store_has_no_problems() {
    let work = Workplace::with_store();
    let printed = work.succeeds(["check", "s"]);
    assert!(printed.starts_with("500 vectors, ") && printed.ends_with(" links, no problems\n"), "{printed}");
    let verdict = work.json(["check", "s"]);
    assert_eq!(verdict["vectors"], ROWS);
    assert_eq!(verdict["problems"], Value::Array(vec![]));
    assert!(verdict["links"].as_u64().unwrap() > ROWS as u64);
}

/// One bit of one component, found by its bytes so that the test does not depend on the layout of the file.
#[test]
fn check_finds_a_flipped_bit() {
    let work = Workplace::with_store();
    let (file, at) = find_in_segments(&work.path("s"), &fvecs(&work.base[321..322])[4..]);
    let mut bytes = fs::read(&file).unwrap();
    bytes[at + 13] ^= 1;
    fs::write(&file, bytes).unwrap();
    let output = work.run(["check", "s"]);
    assert_eq!(output.status.code(), Some(1));
    let printed = text(&output.stdout);
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(printed.contains(name) && printed.ends_with(" 1 problem\n"), "{printed}");
    let output = work.run(["check", "s", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let verdict: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!(verdict["problems"].as_array().unwrap().len(), 1);
    assert!(verdict["problems"][0]["location"].as_str().unwrap().contains(name), "{verdict}");
    // The verdict does not depend on anybody reading it.
    assert_eq!(work.command(["check", "s"]).stdout(closed_pipe()).status().unwrap().code(), Some(1));
    // A search that needs the vector does not answer with it.
    let message = work.fails(["search", "s", "c", "--key", "321"], &["corrupted", name]);
    assert!(message.contains("check"), "{message}");
}

/// Where a store cannot even be opened, that is the problem that `check` has to tell.
#[test]
fn check_tells_of_a_store_that_cannot_be_opened() {
    let work = Workplace::with_store();
    fs::write(work.path("s").join("store.redb"), [7; 4096]).unwrap();
    let output = work.run(["check", "s", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let verdict: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert!(verdict["problems"][0]["location"].as_str().unwrap().contains("store.redb"), "{verdict}");
}

fn find_in_segments(store: &Path, needle: &[u8]) -> (PathBuf, usize) {
    let files = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| path.extension() == Some(OsStr::new("vectors")));
    let mut found = segments.filter_map(|path| {
        let at = fs::read(&path).unwrap().windows(needle.len()).position(|window| window == needle)?;
        Some((path, at))
    });
    found.next().expect("the vector is in one of the segments, as it was imported")
}

// all of them

/// The rest of a command line that is right but for the store and the collection.
const ON_STORES: [&[&str]; 3] =
    [&["search", "--key", "1"], &["bench", "--queries", "query.fvecs"], &["remove", "--keys", "1"]];

fn on<'a>(store: &'a str, collection: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&rest[..1], &[store, collection], &rest[1..]].concat()
}

#[test]
fn only_import_creates_stores() {
    let work = Workplace::new();
    work.write("file", b"not a directory");
    fs::create_dir(work.path("other")).unwrap();
    work.write("other/readme", b"somebody else's");
    let commands = ON_STORES.map(|rest| on("s", "c", rest)).into_iter();
    for command in commands.chain([vec!["stats", "s"], vec!["check", "s"]]) {
        work.fails(command.iter().copied(), &["no store at s", "check the path"]);
        assert!(!work.path("s").exists(), "{command:?} created a store");
        for elsewhere in ["file", "other"] {
            let command = command.iter().map(|&word| if word == "s" { elsewhere } else { word });
            work.fails(command, &[elsewhere, "is not a Nestling store"]);
        }
    }
    work.fails(["import", "file", "c", "base.fvecs"], &["file is not a Nestling store"]);
    work.fails(["import", "no/parent", "c", "base.fvecs"], &["no/parent"]);
}

#[test]
fn an_unknown_collection_is_answered_with_those_there_are() {
    let work = Workplace::with_store();
    work.succeeds(["import", "s", "d", "query.fvecs"]);
    for rest in ON_STORES {
        work.fails(on("s", "x", rest), &["no collection \"x\" in s", "it has \"c\", \"d\""]);
    }
    assert_eq!(work.json(["stats", "s"])["collections"].as_array().unwrap().len(), 2, "none was created");
}

#[test]
fn readers_share_a_store_and_a_writer_does_not() {
    let work = Workplace::with_store();
    let readers =
        [on("s", "c", ON_STORES[0]), on("s", "c", ON_STORES[1]), vec!["stats", "s"], vec!["check", "s"]];
    let writers = [on("s", "c", ON_STORES[2]), vec!["import", "s", "c", "base.fvecs"], vec!["compact", "s"]];
    let reading = Store::builder().read_only().open(work.path("s")).unwrap();
    for command in &readers {
        work.succeeds(command.iter().copied());
    }
    for command in &writers {
        work.fails(command.iter().copied(), &["the store at s is open in another process"]);
    }
    drop(reading);
    let writing = Store::open(work.path("s")).unwrap();
    for command in &readers {
        work.fails(command.iter().copied(), &["the store at s is open for writing in another process"]);
    }
    for command in &writers {
        work.fails(command.iter().copied(), &["the store at s is open in another process"]);
    }
    drop(writing);
    assert_eq!(work.contents("s").len(), ROWS);
}

/// What a process imported, the next ones find, change and find changed.
#[test]
fn processes_take_turns() {
    let work = Workplace::new();
    for (batch, limit) in [(0, "100"), (100, "200"), (300, "200")] {
        let first = batch.to_string();
        work.succeeds([
            "import",
            "s",
            "c",
            "base.fvecs",
            "--skip",
            &first,
            "--first-key",
            &first,
            "--limit",
            limit,
        ]);
        let last = batch + limit.parse::<u64>().unwrap() - 1;
        assert_eq!(keys(&work.json(["search", "s", "c", "--key", &last.to_string()]))[0], last);
        work.succeeds(["remove", "s", "c", "--keys", &last.to_string()]);
        work.fails(["search", "s", "c", "--key", &last.to_string()], &["is not in collection"]);
        assert!(work.succeeds(["check", "s"]).ends_with("no problems\n"));
    }
    // Every one of them found itself after reopening.
    let store = Store::builder().read_only().open(work.path("s")).unwrap();
    let collection = store.begin_read().unwrap().open_stored_collection("c").unwrap();
    assert_eq!((collection.len(), collection.parameters().metric), (497, Metric::Cosine));
    for (key, vector) in work.contents("s") {
        assert_eq!(collection.search(&vector, 1).unwrap()[0].key, key);
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    let work = Workplace::with_store();
    let before = work.contents("s");
    for ranges in ["", "9-5", "5-", "-5", "x", "1,,2", "1-2-3", "1;2", "1.5", "18446744073709551616"] {
        let keys = format!("--keys={ranges}");
        work.is_misuse(["remove", "s", "c", &keys]);
    }
    let cases: [&[&str]; 15] = [
        &[],
        &["frobnicate"],
        &["import", "s", "c"],
        &["import", "s", "c", "base.fvecs", "--metric", "hamming"],
        &["import", "s", "c", "base.fvecs", "--m", "1"],
        &["import", "s", "c", "base.fvecs", "--batch", "0"],
        &["import", "s", "c", "base.fvecs", "--limit", "0"],
        &["import", "s", "c", "base.fvecs", "--threads", "0"],
        &["search", "s", "c"],
        &["search", "s", "c", "--queries", "query.fvecs"],
        &["search", "s", "c", "--key", "1", "--queries", "query.fvecs", "--row", "1"],
        &["search", "s", "c", "--key", "1", "--row", "1"],
        &["search", "s", "c", "--key", "1", "-k", "0"],
        &["bench", "s", "c"],
        &["bench", "s", "c", "--queries", "query.fvecs", "--ef", "16,zero"],
    ];
    for arguments in cases {
        work.is_misuse(arguments.iter().copied());
    }
    assert_eq!(work.contents("s"), before);
}

/// `nestling … | head` closes the pipe early. That is no failure, and no panic.
#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let work = Workplace::with_store();
    let commands = [
        on("s", "c", ON_STORES[0]),
        on("s", "c", ON_STORES[1]),
        on("s", "c", ON_STORES[2]),
        vec!["import", "s", "c", "base.fvecs"],
        vec!["stats", "s"],
        vec!["check", "s"],
        vec!["--help"],
    ];
    for command in commands {
        for json in [&[][..], &["--json"]] {
            if command == ["--help"] && !json.is_empty() {
                continue;
            }
            let arguments = command.iter().chain(json).copied();
            let output =
                work.command(arguments).stdout(closed_pipe()).stderr(Stdio::piped()).output().unwrap();
            assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{command:?}");
        }
    }
    assert_eq!(work.contents("s").len(), ROWS, "1 was removed and imported again");
}

/// A pipe that nobody reads from: the first write fails, whatever the timing.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Any other failure to print is one: a result that was not delivered.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_standard_output_is_reported() {
    let work = Workplace::with_store();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = work.command(["stats", "s"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: cannot write to standard output"));
}

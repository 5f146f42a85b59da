//! The command line tool as its users meet it: every command is run as a process of its own, on stores and files made for the test.
//!
//! What is asked of every command: it does what it says; what it cannot do it refuses with exit code 1 and a message that names the
//! file, the row and the way out (2 is for a command line that makes no sense); it leaves nothing behind that was not asked for.

#![cfg(feature = "cli")]

mod bench;
mod every_command;
mod formats;
mod import;
mod look;
mod peers;
mod remove;
mod resume;
mod search;
mod stores;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
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

    /// Runs a command with something to read from standard input.
    fn with_input<'a>(&self, arguments: impl IntoIterator<Item = &'a str>, input: &[u8]) -> Output {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may have seen enough before the end.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
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

/// A pipe that nobody reads from: the first write fails, whatever the timing.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

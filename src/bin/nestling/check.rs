//! `nestling check`: is everything as it should be?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use indicatif::HumanCount;
use nestling::Error;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::{open, output};

/// Verify a whole store: every row, link and checksum
///
/// Prints what is wrong and exits with code 1 when the store is damaged. The store is opened read-only: beside other readers, but not
/// while a process has it open for writing.
#[derive(Args)]
pub(crate) struct Check {
    /// The store's directory
    store: PathBuf,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(crate) fn run(&self) -> Result<ExitCode, Failure> {
        let verdict = Verdict::of(&self.store)?;
        let code = if verdict.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        match if self.json { verdict.print_json() } else { verdict.print() } {
            // The verdict stands even if nobody wants to hear the details.
            Err(failure) if !failure.is_closed_pipe() => Err(failure),
            _ => Ok(code),
        }
    }
}

/// What is known of the store.
#[derive(Default)]
struct Verdict {
    vectors: u64,
    links: u64,
    /// Each with its location.
    problems: Vec<(String, String)>,
    /// Whether there are more problems than these.
    truncated: bool,
}

impl Verdict {
    /// Damage that keeps the store from being opened, or the check from coming to its end, is a problem like any other.
    fn of(store: &Path) -> Result<Self, Failure> {
        match open::for_reading(store).and_then(|store| Ok(store.check()?)) {
            Ok(report) => Ok(Self {
                vectors: report.vectors,
                links: report.links,
                problems: report.problems.into_iter().map(|p| (p.location, p.detail)).collect(),
                truncated: report.truncated,
            }),
            Err(Failure::Store(e)) if e.is_corrupted() => {
                let problem = match e {
                    Error::Corrupted { location, detail } => (location, detail),
                    e => (store.display().to_string(), e.to_string()),
                };
                Ok(Self { problems: vec![problem], ..Self::default() })
            }
            // Nobody has got so far as to create a store here: nothing is wrong.
            Err(Failure::StoreNotFound { path }) if path.is_dir() => Ok(Self::default()),
            Err(e) => Err(e),
        }
    }

    fn print(&self) -> Result<(), Failure> {
        for (location, detail) in &self.problems {
            output::line(format_args!("{location}: {detail}"))?;
        }
        output::line(format_args!(
            "{} vectors, {} links, {}",
            HumanCount(self.vectors),
            HumanCount(self.links),
            match self.problems.len() {
                0 => "no problems".to_owned(),
                1 => "1 problem".to_owned(),
                listed if self.truncated => format!("{listed} problems listed, and there are more"),
                listed => format!("{listed} problems"),
            }
        ))
    }

    fn print_json(&self) -> Result<(), Failure> {
        let problem =
            |(location, detail): &(String, String)| json!({ "location": location, "detail": detail });
        output::line(json!({
            "vectors": self.vectors,
            "links": self.links,
            "problems": self.problems.iter().map(problem).collect::<Value>(),
            "truncated": self.truncated,
        }))
    }
}

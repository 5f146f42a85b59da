//! Tables, verdicts, and lines of JSON beside them.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::Result;
use crate::options::Options;

pub(crate) struct Report {
    file: Option<File>,
    /// Of which runbook, what, and whether it holds.
    verdicts: Vec<(String, String, bool)>,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let create =
            |path: &PathBuf| File::create(path).map_err(|e| format!("cannot write {}: {e}", path.display()));
        let file = options.json.as_ref().map(create).transpose()?;
        Ok(Self { file, verdicts: Vec::new() })
    }

    /// Writes a measurement.
    pub(crate) fn record(&mut self, runbook: impl ToString, mut measurement: Value) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        measurement["runbook"] = runbook.to_string().into();
        Ok(writeln!(file, "{measurement}")?)
    }

    /// Tells whether a criterion holds.
    pub(crate) fn judge(&mut self, runbook: impl ToString, criterion: String, holds: bool) -> Result<()> {
        println!("{}  {criterion}", if holds { "pass" } else { "FAIL" });
        self.record(runbook.to_string(), json!({ "criterion": criterion, "holds": holds }))?;
        self.verdicts.push((runbook.to_string(), criterion, holds));
        Ok(())
    }

    /// Repeats the criteria that failed; tells how many these are.
    pub(crate) fn summarize(&self) -> usize {
        let failed: Vec<_> = self.verdicts.iter().filter(|(.., holds)| !holds).collect();
        println!("\n{} criteria hold.", self.verdicts.len() - failed.len());
        for (runbook, criterion, _) in &failed {
            println!("FAIL  {runbook}: {criterion}");
        }
        failed.len()
    }
}

/// The heading of a table.
pub(crate) fn heading(text: &str) {
    println!("\n{text}\n{}", "─".repeat(text.chars().count()));
}

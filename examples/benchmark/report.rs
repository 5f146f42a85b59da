//! Lines of JSON beside the tables.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value};

use crate::{Result, system};

pub(crate) struct Report {
    file: Option<File>,
    /// What goes into every line.
    common: Map<String, Value>,
}

impl Report {
    pub(crate) fn new(path: Option<&Path>) -> Result<Self> {
        let create =
            |path: &Path| File::create(path).map_err(|e| format!("cannot write {}: {e}", path.display()));
        Ok(Self { file: path.map(create).transpose()?, common: fields(system::describe()) })
    }

    /// Something that goes into every line, to be shown.
    pub(crate) fn text(&self, name: &str) -> String {
        match &self.common[name] {
            Value::String(text) => text.clone(),
            Value::Null => format!("an unknown {name}"),
            other => other.to_string(),
        }
    }

    /// States something that goes into every line from here on.
    pub(crate) fn state(&mut self, common: Value) {
        self.common.extend(fields(common));
    }

    /// Writes a measurement.
    pub(crate) fn record(&mut self, section: &str, measurement: Value) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut line = Map::new();
        line.insert("section".to_owned(), section.into());
        line.extend(fields(measurement));
        line.extend(self.common.clone());
        Ok(writeln!(file, "{}", Value::Object(line))?)
    }
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => unreachable!("{other} is no object"),
    }
}

/// The heading of a section's table.
pub(crate) fn heading(text: &str) {
    println!("\n{text}\n{}", "─".repeat(text.chars().count()));
}

/// 1234567.8 as "1,234,568".
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let grouped: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap_or("")).collect();
    grouped.join(",")
}

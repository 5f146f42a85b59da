//! JSON lines: an object per line, with the vector in a field of its own and, as a rule, the key in another.
//!
//! ```text
//! {"key":7,"vector":[0.25,-1.5]}
//! ```
//!
//! Fields of other names are passed over.

use std::collections::HashMap;
use std::io::{self, Write};

use serde_json::value::RawValue;

use super::error::FileError;
use super::source::Source;
use super::text::{Lines, parse_component, parse_key, shortened, write_components};
use super::{ReadOptions, Row, Rows};

/// A file being read line by line.
pub(super) struct Jsonl {
    lines: Lines,
    key_field: String,
    /// A field that was stated has to be there.
    key_required: bool,
    vector_field: String,
}

impl Jsonl {
    pub(super) fn new(source: Source, options: &ReadOptions) -> Self {
        Self {
            lines: Lines::new(source),
            key_field: options.key_field.clone().unwrap_or_else(|| "key".to_owned()),
            key_required: options.key_field.is_some(),
            vector_field: options.vector_field.clone().unwrap_or_else(|| "vector".to_owned()),
        }
    }

    /// Reads the line's object; its key, or what is wrong with it.
    fn parse(&self, text: &str, values: &mut Vec<f32>) -> Result<Option<u64>, String> {
        // Numbers as they are spelt: serde_json would make an f64 of them first.
        let fields: HashMap<String, &RawValue> = serde_json::from_str(text)
            .map_err(|e| format!("is no JSON object ({e}); one object per line is expected"))?;
        let Some(vector) = fields.get(&self.vector_field) else {
            return Err(format!(
                "has no field {:?}; name the vector's field with --vector-field",
                self.vector_field
            ));
        };
        let numbers = vector.get().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let Some(numbers) = numbers else {
            return Err(format!(
                "has {} in field {:?}, where an array of numbers was expected",
                shortened(vector.get()),
                self.vector_field
            ));
        };
        if numbers.trim().is_empty() {
            return Err(format!("has an empty array in field {:?}; leave the line out", self.vector_field));
        }
        for (component, number) in numbers.split(',').enumerate() {
            values.push(parse_component(number.trim(), component)?);
        }
        match fields.get(&self.key_field) {
            Some(key) => parse_key(key.get()).map(Some),
            None if self.key_required => Err(format!(
                "has no field {:?}, which --key-field names; correct that option or the line",
                self.key_field
            )),
            None => Ok(None),
        }
    }
}

impl Rows for Jsonl {
    fn next(&mut self, values: &mut Vec<f32>) -> Result<Option<Row>, FileError> {
        if !self.lines.advance()? {
            return Ok(None);
        }
        let parsed = self.parse(self.lines.text()?, values);
        let key = parsed.map_err(|problem| self.lines.malformed(&problem))?;
        Ok(Some(Row { place: self.lines.place(), key }))
    }

    fn count(&self) -> Option<u64> {
        self.lines.estimate()
    }
}

pub(super) fn write_row(file: &mut impl Write, key: u64, vector: &[f32]) -> io::Result<()> {
    write!(file, "{{\"key\":{key},\"vector\":[")?;
    write_components(file, vector)?;
    file.write_all(b"]}\n")
}

//! Comma-separated values: numbers only, one vector a line, with the key in a column of its own or without.
//!
//! ```text
//! key,x0,x1
//! 7,0.25,-1.5
//! ```
//!
//! A first line with anything that is no number is one of names: then the column `key`, or the one that is stated, holds keys. Without
//! names every column is a component, unless the number of the key's column is stated. Since all values are numbers, a comma
//! inside of quotes has no meaning here, and a parser of CSV in general no work to do.

use std::io::{self, Write};

use super::error::{FileError, Place};
use super::source::Source;
use super::text::{Lines, parse_component, parse_key, write_components};
use super::{ReadOptions, Row, Rows};

/// A file being read line by line.
pub(super) struct Csv {
    lines: Lines,
    /// The column of keys, counted from 0.
    key_column: Option<usize>,
    /// The first line is one of values, and has not been handed out.
    first_is_row: bool,
}

impl Csv {
    pub(super) fn new(source: Source, options: &ReadOptions) -> Result<Self, FileError> {
        let mut csv = Self { lines: Lines::new(source), key_column: None, first_is_row: false };
        if !csv.lines.advance()? {
            return Ok(csv);
        }
        let line = csv.lines.text()?;
        let has_names = cells(line).any(|cell| cell.parse::<f32>().is_err());
        let stated = options.key_field.as_deref();
        csv.key_column = match (has_names, stated) {
            (true, stated) => {
                let name = stated.unwrap_or("key");
                cells(line).position(|cell| cell == name)
            }
            (false, Some(stated)) => stated.parse().ok().filter(|&column| column < cells(line).count()),
            (false, None) => None,
        };
        if let (Some(stated), None) = (stated, csv.key_column) {
            let problem = format!(
                "has no column {stated:?}, which --key-field names; where the first line has no names, \
                 state the column's number, counted from 0"
            );
            return Err(csv.lines.malformed(&problem));
        }
        csv.first_is_row = !has_names;
        Ok(csv)
    }

    /// Reads the line's numbers; the key, or what is wrong with them.
    fn parse(&self, line: &str, values: &mut Vec<f32>) -> Result<Option<u64>, String> {
        let mut key = None;
        let mut component = 0;
        for (column, cell) in cells(line).enumerate() {
            if Some(column) == self.key_column {
                key = Some(parse_key(cell)?);
            } else {
                values.push(parse_component(cell, component)?);
                component += 1;
            }
        }
        match (key, self.key_column) {
            (None, Some(column)) => Err(format!("has no column {column}, that of the key; correct the line")),
            _ => Ok(key),
        }
    }
}

impl Rows for Csv {
    fn next(&mut self, values: &mut Vec<f32>) -> Result<Option<Row>, FileError> {
        if !std::mem::take(&mut self.first_is_row) && !self.lines.advance()? {
            return Ok(None);
        }
        let parsed = self.parse(self.lines.text()?, values);
        let key = parsed.map_err(|problem| self.lines.malformed(&problem))?;
        let place: Place = self.lines.place();
        Ok(Some(Row { place, key }))
    }

    fn count(&self) -> Option<u64> {
        self.lines.estimate()
    }
}

/// The cells of a line, without quotes and the blanks around them.
fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|cell| {
        let cell = cell.trim();
        cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"')).unwrap_or(cell)
    })
}

pub(super) fn write_header(file: &mut impl Write, width: usize) -> io::Result<()> {
    file.write_all(b"key")?;
    (0..width).try_for_each(|component| write!(file, ",x{component}"))?;
    file.write_all(b"\n")
}

pub(super) fn write_row(file: &mut impl Write, key: u64, vector: &[f32]) -> io::Result<()> {
    write!(file, "{key},")?;
    write_components(file, vector)?;
    file.write_all(b"\n")
}

//! What the formats of text have in common: lines and numbers.
//!
//! An f32 is written with the fewest digits that are read back as the same f32, and numbers are read as the f32 that is nearest to
//! them, not as an f64 that is rounded once more: so writing and reading gives back every bit.

use std::io::{self, Write};

use super::error::{FileError, Place};
use super::source::Source;

/// The longest line that is believed: the widest vector, with all digits, has some 2 MB.
const MAX_LINE: usize = 1 << 24;

/// The lines of a text that are not blank.
pub(super) struct Lines {
    source: Source,
    line: Vec<u8>,
    /// The number of the last line read, counted from 1.
    number: u64,
}

impl Lines {
    pub(super) fn new(source: Source) -> Self {
        Self { source, line: Vec::new(), number: 0 }
    }

    /// Where the last line is.
    pub(super) fn place(&self) -> Place {
        Place::Line(self.number)
    }

    /// Goes to the next line that is not blank; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, FileError> {
        loop {
            self.number += 1;
            if !self.source.line(&mut self.line, MAX_LINE, Place::Line(self.number))? {
                return Ok(false);
            }
            if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
                self.line.drain(..3);
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    /// The line.
    pub(super) fn text(&self) -> Result<&str, FileError> {
        std::str::from_utf8(&self.line)
            .map_err(|_| self.malformed("is not UTF-8 text; check the format, or convert the file"))
    }

    pub(super) fn malformed(&self, problem: &str) -> FileError {
        self.source.malformed(self.place(), problem)
    }

    /// What the file's size has room for, if its other lines are as long as the last.
    pub(super) fn estimate(&self) -> Option<u64> {
        Some(self.source.bytes()? / (self.line.len() as u64 + 1))
    }
}

/// A key, as digits.
pub(super) fn parse_key(text: &str) -> Result<u64, String> {
    // A sign is refused, even that of `+1`.
    let digits = text.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| {
        format!("has {} for a key; keys are whole numbers from 0 to {}", shortened(text), u64::MAX)
    })
}

/// A component. Only digits count as a number, not `nan` or `infinity`.
pub(super) fn parse_component(text: &str, component: usize) -> Result<f32, String> {
    let is_word = text.bytes().any(|byte| byte.is_ascii_alphabetic() && !matches!(byte, b'e' | b'E'));
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() && !is_word => Ok(value),
        Ok(_) => Err(format!(
            "has {} at component {component}, which is no finite f32; correct the line or leave it out",
            shortened(text)
        )),
        Err(_) => Err(format!(
            "has {} at component {component}, where a number was expected; correct the line or leave it out",
            shortened(text)
        )),
    }
}

/// Text from a file, fit for a message.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// Writes the components, with commas between.
pub(super) fn write_components(file: &mut impl Write, vector: &[f32]) -> io::Result<()> {
    for (component, value) in vector.iter().enumerate() {
        let comma = if component == 0 { "" } else { "," };
        // The debug form: shortest as well, and without the many zeros of 1e30.
        write!(file, "{comma}{value:?}")?;
    }
    Ok(())
}

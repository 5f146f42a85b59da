//! The bytes of a file or of standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::error::{FileError, Place};

/// How much of a file its identity is told by, besides its length.
const HEAD: u64 = 1 << 16;

/// True for the path that stands for standard input and output.
pub(crate) fn is_standard_stream(path: &Path) -> bool {
    path == Path::new("-")
}

/// What tells a file from another one of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its length, unless it is a pipe.
    pub(crate) bytes: Option<u64>,
    /// The checksum of its first 64 KiB.
    pub(crate) head: u32,
}

/// The bytes of a file or of standard input, read once from front to back.
pub(super) struct Source {
    reader: Box<dyn BufRead>,
    path: PathBuf,
    identity: Identity,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let fail = |source| FileError::Io { path: path.to_owned(), source };
        if is_standard_stream(path) {
            return Self::new(io::stdin(), path, None);
        }
        let file = File::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if metadata.is_dir() {
            return Err(fail(ErrorKind::IsADirectory.into()));
        }
        let bytes = metadata.is_file().then_some(metadata.len());
        Self::new(file, path, bytes)
    }

    #[cfg(test)]
    pub(super) fn of_bytes(name: &str, bytes: &[u8]) -> Self {
        Self::new(Cursor::new(bytes.to_vec()), Path::new(name), Some(bytes.len() as u64)).unwrap()
    }

    fn new(mut reader: impl Read + 'static, path: &Path, bytes: Option<u64>) -> Result<Self, FileError> {
        let mut head = Vec::new();
        let read = reader.by_ref().take(HEAD).read_to_end(&mut head);
        read.map_err(|source| FileError::Io { path: path.to_owned(), source })?;
        let identity = Identity { bytes, head: crc32fast::hash(&head) };
        let reader = Cursor::new(head).chain(reader);
        let reader = Box::new(BufReader::with_capacity(1 << 18, reader));
        Ok(Self { reader, path: path.to_owned(), identity })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The size of the file, unless it is a pipe.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.identity.bytes
    }

    /// Reads until the buffer is full or the file ends; tells how many bytes there were.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, FileError> {
        let mut filled = 0;
        while let Some(rest @ [_, ..]) = buffer.get_mut(filled..) {
            match self.reader.read(rest) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
        Ok(filled)
    }

    /// Fills the buffer; an error when the file ends before that.
    pub(super) fn fill_whole(&mut self, buffer: &mut [u8], place: Place) -> Result<(), FileError> {
        let found = self.fill(buffer)?;
        if found < buffer.len() {
            return Err(self.truncated(place, found, buffer.len()));
        }
        Ok(())
    }

    /// An error unless the file ends here.
    pub(super) fn must_end(&mut self) -> Result<(), FileError> {
        match self.fill(&mut [0])? {
            0 => Ok(()),
            _ => Err(self.malformed(
                Place::Tail,
                "has bytes beyond the rows that its header announces; fetch the file again",
            )),
        }
    }

    /// Compares what a header announces with the size of the file, where that is known.
    pub(super) fn must_have(&self, announced: u128) -> Result<(), FileError> {
        match self.bytes() {
            Some(found) if u128::from(found) != announced => {
                Err(FileError::WrongLength { path: self.path.clone(), announced, found })
            }
            _ => Ok(()),
        }
    }

    /// Reads a line of at most `most` bytes, without its end; false at the end of the file.
    pub(super) fn line(&mut self, line: &mut Vec<u8>, most: usize, place: Place) -> Result<bool, FileError> {
        line.clear();
        let mut limited = self.reader.by_ref().take(most as u64 + 1);
        let read = limited.read_until(b'\n', line).map_err(|source| self.failed(source))?;
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        } else if line.len() > most {
            return Err(
                self.malformed(place, &format!("is longer than {most} bytes; is this the right file?"))
            );
        }
        Ok(read > 0)
    }

    pub(super) fn truncated(&self, place: Place, found: usize, expected: usize) -> FileError {
        FileError::Truncated { path: self.path.clone(), place, found, expected }
    }

    pub(super) fn malformed(&self, place: Place, problem: &str) -> FileError {
        FileError::Malformed { path: self.path.clone(), place, problem: problem.to_owned() }
    }

    pub(super) fn unsupported(&self, problem: &str) -> FileError {
        FileError::Unsupported { path: self.path.clone(), problem: problem.to_owned() }
    }

    fn failed(&self, source: io::Error) -> FileError {
        FileError::Io { path: self.path.clone(), source }
    }
}

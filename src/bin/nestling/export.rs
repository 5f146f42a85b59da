//! `nestling export`: a collection into a file of vectors.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar};
use nestling::Collection;
use serde_json::json;

use crate::failure::Failure;
use crate::formats::{Format, KeyFormat, WriteError, is_standard_stream};
use crate::{open, output};

/// Export the vectors of a collection, in the order of their keys
///
/// Vectors are written as they were given, under the cosine metric as well. Where the format has no place for keys and they are not 0, 1, 2
/// and so on, they have to be written to a file of their own with --keys. The file appears when it is whole.
///
/// The store is opened read-only: beside other readers, but not while a process has it open for writing.
#[derive(Args)]
pub(crate) struct Export {
    /// The store's directory
    store: PathBuf,
    /// The collection's name
    collection: String,
    /// The file to write, replaced if it exists; - for standard output
    file: PathBuf,
    /// The file's format: by its suffix unless given
    #[arg(long)]
    format: Option<Format>,
    /// Write the keys to this file as well: a text with one per line or, if that is its suffix, a .npy
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Print one line of JSON, and no progress bar; nothing where the vectors go to standard output
    #[arg(long)]
    json: bool,
}

impl Export {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let format = Format::of(&self.file, self.format)?;
        let store = open::for_reading(&self.store)?;
        let collection = open::collection(&store, &self.collection)?;
        let progress = output::progress("exporting", 0, Some(collection.len()), self.json);
        let mut keys = self.keys.as_deref().map(KeyList::create).transpose()?;
        if let Some(keys) = &mut keys {
            keys.format.write_header(&mut keys.file, collection.len()).map_err(|e| keys.file.failed(e))?;
        }
        let mut file = Target::create(&self.file)?;
        write(&collection, format, &mut file, keys.as_mut(), &progress)?;
        if let Some(keys) = keys {
            keys.file.finish()?;
        }
        let bytes = file.finish()?;
        progress.finish_and_clear();
        if is_standard_stream(&self.file) {
            return Ok(());
        }
        if self.json {
            return output::line(json!({ "exported": collection.len(), "bytes": bytes }));
        }
        output::line(format_args!(
            "{}: {} vectors, {}",
            self.file.display(),
            HumanCount(collection.len()),
            HumanBytes(bytes)
        ))
    }
}

fn write(
    collection: &Collection,
    format: Format,
    file: &mut Target,
    mut keys: Option<&mut KeyList>,
    progress: &ProgressBar,
) -> Result<(), Failure> {
    let header = format.write_header(file, collection.len(), collection.parameters().dimension);
    header.map_err(|cause| match cause {
        WriteError::Io(e) => file.failed(e),
        cause => Failure::NotWritable { cause },
    })?;
    for (row, entry) in (0..).zip(collection.iter()?) {
        let (key, vector) = entry?;
        match &mut keys {
            Some(keys) => keys.format.write(&mut keys.file, key).map_err(|e| keys.file.failed(e))?,
            None if !format.has_keys() && key != row => {
                return Err(Failure::KeysLost { row, key, format: format.name() });
            }
            None => {}
        }
        format.write_row(file, key, &vector).map_err(|cause| match cause {
            WriteError::Io(e) => file.failed(e),
            cause => Failure::NotExportable { key, cause },
        })?;
        progress.inc(1);
    }
    Ok(())
}

/// A file of keys being written.
struct KeyList {
    file: Target,
    format: KeyFormat,
}

impl KeyList {
    fn create(path: &Path) -> Result<Self, Failure> {
        Ok(Self { file: Target::create(path)?, format: KeyFormat::of(path) })
    }
}

/// A file being written under another name, which it is renamed from when it is whole, or standard output.
struct Target {
    writer: BufWriter<Box<dyn Write>>,
    path: PathBuf,
    /// `None` for standard output, and once the file is whole.
    unfinished: Option<Unfinished>,
    bytes: u64,
}

/// What the writer writes to, under the name that it has until it is whole.
struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Target {
    fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |source| Failure::Export { path: path.to_owned(), source };
        // What is no plain file, like a pipe or a terminal, cannot be replaced by one.
        let is_special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        let (writer, unfinished): (Box<dyn Write>, _) = if is_standard_stream(path) {
            (Box::new(io::stdout()), None)
        } else if is_special {
            (Box::new(File::options().write(true).open(path).map_err(failed)?), None)
        } else {
            let mut name = path.file_name().map(OsString::from).unwrap_or_default();
            name.push(".partial");
            let unfinished = path.with_file_name(name);
            let file = File::create(&unfinished).map_err(failed)?;
            let writer = file.try_clone().map_err(failed)?;
            (Box::new(writer), Some(Unfinished { path: unfinished, file }))
        };
        let writer = BufWriter::with_capacity(1 << 18, writer);
        Ok(Self { writer, path: path.to_owned(), unfinished, bytes: 0 })
    }

    fn failed(&self, source: io::Error) -> Failure {
        if is_standard_stream(&self.path) {
            return Failure::Output(source);
        }
        Failure::Export { path: self.path.clone(), source }
    }

    /// Gives the file its name; tells its size. A power cut leaves what the name stood for before, or all of the new file.
    fn finish(mut self) -> Result<u64, Failure> {
        self.writer.flush().map_err(|e| self.failed(e))?;
        if let Some(unfinished) = &self.unfinished {
            unfinished.become_whole(&self.path).map_err(|e| self.failed(e))?;
            self.unfinished = None;
        }
        Ok(self.bytes)
    }
}

impl Unfinished {
    fn become_whole(&self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        sync_directory_of(path)
    }
}

#[cfg(not(windows))]
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Windows has no such thing.
#[cfg(windows)]
fn sync_directory_of(_: &Path) -> io::Result<()> {
    Ok(())
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Drop for Target {
    /// What was not finished is of no use, and is removed as well as it can be.
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            let _ = fs::remove_file(&unfinished.path);
        }
    }
}

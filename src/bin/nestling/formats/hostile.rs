//! Every file of a format, cut off anywhere and with any byte flipped: an error or rows, never a panic.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Format, ReadOptions, Reader};

/// Small files of all formats; the indexes are those of the real libraries.
fn files() -> Vec<(Format, Vec<u8>)> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let index = |format, name: &str| (format, fs::read(data.join(name)).unwrap());
    let rows = [[1.0, 2.0, 255.0], [0.0, 7.0, 9.0]];
    let formats =
        [Format::Fvecs, Format::Bvecs, Format::Fbin, Format::U8bin, Format::Npy, Format::Jsonl, Format::Csv];
    let written = formats.map(|format| {
        let mut file = Vec::new();
        format.write_header(&mut file, 2, 3).unwrap();
        for (key, row) in (0..).zip(&rows) {
            format.write_row(&mut file, key, row).unwrap();
        }
        (format, file)
    });
    let indexes = [
        index(Format::Hnswlib, "hnswlib-l2.bin"),
        index(Format::Usearch, "usearch-f32.usearch"),
        index(Format::Usearch, "usearch-f16.usearch"),
    ];
    written.into_iter().chain(indexes).collect()
}

/// A key, where the format has keys, and its vector.
type Row = (Option<u64>, Vec<f32>);

/// Reads a file to its end; the rows, or the message.
fn read(path: &Path, format: Format) -> Result<Vec<Row>, String> {
    let options = ReadOptions { format: Some(format), ..ReadOptions::default() };
    let mut reader = Reader::open(path, &options).map_err(|e| e.to_string())?;
    let mut rows = Vec::new();
    loop {
        let mut values = Vec::new();
        match reader.read(&mut values).map_err(|e| e.to_string())? {
            Some(row) => rows.push((row.key, values)),
            None => return Ok(rows),
        }
    }
}

fn write(directory: &tempfile::TempDir, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join("file");
    fs::write(&path, bytes).unwrap();
    path
}

/// Formats with a count notice every cut. Those without end where they end, but never make up a row.
#[test]
fn a_file_cut_off_anywhere_is_an_error_or_its_first_rows() {
    let directory = tempfile::tempdir().unwrap();
    for (format, bytes) in files() {
        let whole = read(&write(&directory, &bytes), format).unwrap();
        assert!(!whole.is_empty());
        let counts = !matches!(format, Format::Fvecs | Format::Bvecs | Format::Jsonl | Format::Csv);
        for end in 0..bytes.len() {
            match read(&write(&directory, &bytes[..end]), format) {
                Ok(rows) => {
                    assert!(!counts, "{format:?} cut at {end} of {} went unnoticed", bytes.len());
                    // Of a text, the last line may have lost digits, which nobody can tell.
                    let sure = if format == Format::Csv { rows.len().saturating_sub(1) } else { rows.len() };
                    assert_eq!(rows[..sure], whole[..sure], "{format:?} cut at {end}");
                }
                Err(message) => assert!(message.contains("file"), "{format:?} cut at {end}: {message}"),
            }
        }
        let longer = [&bytes[..], &[7]].concat();
        assert!(!counts || read(&write(&directory, &longer), format).is_err(), "{format:?} with a byte more");
    }
}

/// With any byte flipped; of the indexes' vectors and links, every 17th.
#[test]
fn a_flipped_byte_is_an_error_or_another_row() {
    let directory = tempfile::tempdir().unwrap();
    for (format, bytes) in files() {
        let head = bytes.windows(7).position(|window| window == b"usearch").unwrap_or(0);
        let is_header = |at: usize| match format {
            Format::Hnswlib => at < 96,
            Format::Usearch => at < 8 || (head..head + 104).contains(&at),
            _ => true,
        };
        for at in (0..bytes.len()).filter(|&at| is_header(at) || at % 17 == 0) {
            for mask in [0xff, 1, 0x80] {
                let mut flipped = bytes.clone();
                flipped[at] ^= mask;
                let rows = read(&write(&directory, &flipped), format).unwrap_or_default();
                assert!(rows.len() <= 50 && rows.iter().all(|(_, values)| values.len() <= bytes.len()));
            }
        }
    }
}

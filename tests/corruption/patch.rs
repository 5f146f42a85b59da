//! Files with a byte that is not what it was.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rand::RngExt;
use rand::rngs::StdRng;

pub fn open_for_patching(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Flips some bits of one byte while `run` runs.
pub fn with_flipped<T>(file: &File, offset: u64, mask: u8, run: impl FnOnce() -> T) -> T {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ mask], offset).unwrap();
    let result = run();
    file.write_all_at(&byte, offset).unwrap();
    result
}

pub fn mask(rng: &mut StdRng) -> u8 {
    rng.random_range(1..=255)
}

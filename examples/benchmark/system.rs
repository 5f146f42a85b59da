//! What the operating system and the machine tell. Linux tells it in /proc; elsewhere it is not known.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// Bytes that this process has caused to be written to the disk so far.
pub(crate) fn bytes_written() -> Option<u64> {
    number("/proc/self/io", "write_bytes")
}

/// Bytes that have been written so far, by whomever, to the disk that a file is on.
#[cfg(target_os = "linux")]
pub(crate) fn bytes_written_to_disk(path: &Path) -> Option<u64> {
    use std::os::linux::fs::MetadataExt;

    const SECTOR: u64 = 512;
    let device = std::fs::metadata(path).ok()?.st_dev();
    let (major, minor) = ((device >> 8) & 0xFFF, (device & 0xFF) | ((device >> 12) & 0xF_FF00));
    let statistics = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    Some(statistics.split_whitespace().nth(6)?.parse::<u64>().ok()? * SECTOR)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn bytes_written_to_disk(_path: &Path) -> Option<u64> {
    None
}

/// The resident memory of a process.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// Bytes of its own: heap and stacks.
    pub(crate) anonymous: u64,
    /// Bytes of mapped files, which the system may take back.
    pub(crate) file: u64,
}

impl Memory {
    /// That of this process.
    pub(crate) fn now() -> Option<Self> {
        let kilobytes = |name| Some(number("/proc/self/status", name)? * 1024);
        Some(Self { anonymous: kilobytes("RssAnon")?, file: kilobytes("RssFile")? })
    }
}

/// What goes into every line of JSON.
pub(crate) fn describe() -> Value {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    json!({
        "cpu": processors.lines().find_map(|line| value(line, "model name")),
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "os": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
        "kernels": std::env::var("NESTLING_KERNELS").ok(),
        "version": env!("CARGO_PKG_VERSION"),
        "commit": git_commit(),
        "optimised": !cfg!(debug_assertions),
    })
}

fn git_commit() -> Option<String> {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude=*"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// The number in the line "name: number" of a file.
fn number(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| value(line, name))?.split_whitespace().next()?.parse().ok()
}

fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    (found.trim() == name).then(|| value.trim())
}

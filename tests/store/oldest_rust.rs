//! The oldest Rust that builds the crate is the one that `Cargo.toml` names.
//!
//! Whoever cannot update a compiler finds out by a build that fails, and an update of a dependency is enough to cause it: its newer version
//! may ask for a newer compiler. Cargo tells so of the compiler that runs, which is newer than the oldest one. What the crate's own code calls is
//! looked after by clippy (`clippy.toml`).

use std::process::Command;

use serde_json::Value;

const OURS: &str = env!("CARGO_PKG_RUST_VERSION");

/// Versions as in `rust-version`: the patch, and sometimes the minor, may be left out.
fn parts(version: &str) -> [u32; 3] {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or_else(|_| panic!("{version:?}")));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

/// On no platform, and with no feature.
#[test]
#[ignore = "asks cargo for the packages of all platforms, which it may have to download"]
fn no_dependency_needs_a_newer_one() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--all-features", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let needed = packages.iter().filter_map(|package| Some((package, package["rust_version"].as_str()?)));
    let newer: Vec<String> = needed
        .clone()
        .filter(|(_, version)| parts(version) > parts(OURS))
        .map(|(package, version)| format!("{} {} needs Rust {version}", package["name"], package["version"]))
        .collect();
    println!("{} of {} packages tell what they need", needed.count(), packages.len());
    assert!(newer.is_empty(), "we promise Rust {OURS}: {newer:#?}");
    assert!(packages.len() > 100, "only {} packages", packages.len());
}

#[test]
fn the_readme_names_it() {
    assert!(include_str!("../../README.md").contains(&format!("- Rust {OURS} or newer.")));
}

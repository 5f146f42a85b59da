//! What features add. `cargo test --all-features --test features` runs all of it; without features there is nothing here.

#[cfg(feature = "serde")]
mod reports;
#[cfg(feature = "tracing")]
mod spans;
#[cfg(feature = "roaring")]
mod treemaps;

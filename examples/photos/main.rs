//! A photo album that finds pictures by their shapes, by their colours, and by both: two collections with two metrics and two tables in
//! one store, linked by the photo's key.
//!
//! ```text
//! cargo run --release --example photos [store]
//! ```
//!
//! `store` is the directory to keep the album in; without it, it goes into a temporary one and is gone afterwards.
//!
//! - `album.rs` keeps the photos: what to copy.
//! - `pictures.rs` paints pictures, in place of files to be decoded, and describes how they look.

use std::error::Error;
use std::path::PathBuf;

use album::{Album, Look, Photo};
use pictures::Scene;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

mod album;
mod pictures;

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let path = match std::env::args_os().nth(1) {
        Some(argument) => PathBuf::from(argument),
        None => temporary.path().join("album.nestling"),
    };
    let mut rng = StdRng::seed_from_u64(7);
    let album = Album::open(&path)?;
    let photos = (1..=1_000).map(|number| {
        let scene = Scene::any(&mut rng);
        let date = 20260000 + 100 * rng.random_range(1..=12) + rng.random_range(1..=28);
        (Photo { date, name: format!("{number:04} {scene}") }, scene.paint(&mut rng))
    });
    let keys = album.import(photos)?;
    println!("Stored {} photos, how they look and when they were taken, in one transaction.\n", keys.len());

    let (key, always) = (keys[41], 0..=u32::MAX);
    print_alike(&album, key, Look::Shape, always.clone(), "in shape")?;
    print_alike(&album, key, Look::Colour, always.clone(), "in colour")?;
    print_alike(&album, key, Look::Both, always.clone(), "in both")?;
    print_alike(&album, key, Look::Both, 20260701..=20260831, "in both, in July or August")?;

    let (nearest, photo) = album.alike(key, Look::Both, always.clone(), 1)?.remove(0);
    album.delete(nearest)?;
    println!("Deleted {:?} from everywhere at once.\n", photo.name);
    print_alike(&album, key, Look::Both, always, "in both")?;

    let report = album.store().check()?;
    if !report.is_clean() {
        return Err(format!("the store is damaged: {:#?}", report.problems).into());
    }
    println!("Checked {} vectors: all is well.", report.vectors);
    Ok(())
}

fn print_alike(
    album: &Album,
    key: u64,
    look: Look,
    dates: std::ops::RangeInclusive<album::Date>,
    how: &str,
) -> Result<(), Box<dyn Error>> {
    println!("Most like {:?} {how}:", album.photo(key)?.ok_or("no such photo")?.name);
    for (_, photo) in album.alike(key, look, dates, 4)? {
        println!("  {}  {}", photo.date, photo.name);
    }
    println!();
    Ok(())
}

//! Photos in a store: how they look in two collections, what is known of them in tables, all under the photo's key.

use std::error::Error;
use std::ops::RangeInclusive;
use std::path::Path;

use nestling::redb::{ReadableTable, TableDefinition};
use nestling::{CollectionDefinition, Hits, Metric, ReadTransaction, Store};

use super::pictures::{COLOURS, Picture, SHAPES};

/// The directions of edges: alike whatever the contrast, hence the cosine.
const BY_SHAPE: CollectionDefinition = CollectionDefinition::new("by shape", SHAPES, Metric::Cosine);
/// Shares of colours, as roots: their squared Euclidean distance is (twice the square of) Hellinger's.
const BY_COLOUR: CollectionDefinition = CollectionDefinition::new("by colour", COLOURS, Metric::L2);
/// Each photo's date and file name.
const PHOTOS: TableDefinition<u64, (Date, &str)> = TableDefinition::new("photos");
/// The photos in the order of their dates.
const BY_DATE: TableDefinition<(Date, u64), ()> = TableDefinition::new("by date");

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Year, month and day as they are written, 20260714: sorts as dates do.
pub type Date = u32;

/// What is known of a photo, besides its looks.
#[derive(Debug, Clone, PartialEq)]
pub struct Photo {
    pub date: Date,
    pub name: String,
}

/// In what photos are to be alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Look {
    Shape,
    Colour,
    /// Of those most alike in shape the ones most alike in colour.
    Both,
}

/// The photos of one store.
pub struct Album {
    store: Store,
}

impl Album {
    /// Opens the album in a directory, which is created when there is none.
    pub fn open(path: &Path) -> Result<Self> {
        let store = Store::open(path)?;
        create(&store)?;
        Ok(Self { store })
    }

    /// Stores photos, all of them or, should anything fail on the way, none. Gives back the keys.
    pub fn import(&self, photos: impl IntoIterator<Item = (Photo, Picture)>) -> Result<Vec<u64>> {
        // Described before the transaction begins: that takes its time, and others may want to write meanwhile.
        let photos = photos.into_iter().map(|(photo, picture)| (photo, picture.shapes(), picture.colours()));
        let photos: Vec<_> = photos.collect();
        let tx = self.store.begin_write()?;
        let (mut shapes, mut colours, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        {
            let (mut rows, mut by_date) = (tx.open_table(PHOTOS)?, tx.open_table(BY_DATE)?);
            // The number of the last photo is given out again when it is deleted; `examples/notes` counts on.
            let first = rows.last()?.map_or(0, |(key, _)| key.value() + 1);
            for (key, (photo, by_shape, by_colour)) in (first..).zip(photos) {
                rows.insert(key, (photo.date, photo.name.as_str()))?;
                by_date.insert((photo.date, key), ())?;
                colours.push((key, by_colour));
                // A picture of nothing has no edges, and no direction to compare: it is found by its colours only.
                shapes.extend(by_shape.map(|by_shape| (key, by_shape)));
                keys.push(key);
            }
        }
        tx.open_collection(BY_SHAPE)?.insert_many(shapes)?;
        tx.open_collection(BY_COLOUR)?.insert_many(colours)?;
        tx.commit()?;
        Ok(keys)
    }

    /// What is known of a photo.
    pub fn photo(&self, key: u64) -> Result<Option<Photo>> {
        photo(&self.store.begin_read()?, key)
    }

    /// The `k` photos that look most like one of them, itself left out, among those of certain dates.
    pub fn alike(
        &self,
        key: u64,
        look: Look,
        dates: RangeInclusive<Date>,
        k: usize,
    ) -> Result<Vec<(u64, Photo)>> {
        let tx = self.store.begin_read()?; // one snapshot: what one collection finds, the other has
        let dated = keys_of(&tx, dates)?;
        let search = |definition, among: &[u64], k| -> Result<Option<Hits>> {
            let looks = tx.open_collection(definition)?;
            if !looks.contains(key)? {
                return Ok(None);
            }
            Ok(Some(looks.query_key(key).among(among).filter(|other| other != key).k(k).run()?))
        };
        let hits = match look {
            Look::Shape => search(BY_SHAPE, &dated, k)?,
            Look::Colour => search(BY_COLOUR, &dated, k)?,
            Look::Both => match search(BY_SHAPE, &dated, 10 * k)? {
                Some(shaped) => {
                    let shaped: Vec<u64> = shaped.iter().map(|hit| hit.key).collect();
                    search(BY_COLOUR, &shaped, k)?
                }
                None => None,
            },
        };
        let found = hits.into_iter().flatten();
        found.map(|hit| Ok((hit.key, photo(&tx, hit.key)?.ok_or("looks without a photo")?))).collect()
    }

    /// Deletes a photo with all that is stored of it, in one transaction; false when there is none.
    pub fn delete(&self, key: u64) -> Result<bool> {
        let tx = self.store.begin_write()?;
        let Some(date) = tx.open_table(PHOTOS)?.remove(key)?.map(|row| row.value().0) else {
            return Ok(false);
        };
        tx.open_table(BY_DATE)?.remove((date, key))?;
        tx.open_collection(BY_SHAPE)?.remove(key)?;
        tx.open_collection(BY_COLOUR)?.remove(key)?;
        tx.commit()?;
        Ok(true)
    }

    /// The store, to be checked or backed up.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// Makes tables and collections where there are none, so that snapshots find them, empty as they may be. At every start, since an
/// update of the app may have brought new ones to a store that exists.
fn create(store: &Store) -> Result<()> {
    let tx = store.begin_write()?;
    tx.open_collection(BY_SHAPE)?;
    tx.open_collection(BY_COLOUR)?;
    tx.open_table(PHOTOS)?;
    tx.open_table(BY_DATE)?;
    Ok(tx.commit()?)
}

fn photo(tx: &ReadTransaction, key: u64) -> Result<Option<Photo>> {
    let photos = tx.open_table(PHOTOS)?;
    let row = photos.get(key)?;
    Ok(row.map(|row| {
        let (date, name) = row.value();
        Photo { date, name: name.to_owned() }
    }))
}

/// The photos of certain dates, in ascending order.
fn keys_of(tx: &ReadTransaction, dates: RangeInclusive<Date>) -> Result<Vec<u64>> {
    let by_date = tx.open_table(BY_DATE)?;
    let mut keys = Vec::new();
    for entry in by_date.range((*dates.start(), 0)..=(*dates.end(), u64::MAX))? {
        let (_, key) = entry?.0.value();
        keys.push(key);
    }
    keys.sort_unstable(); // once, for several searches
    Ok(keys)
}

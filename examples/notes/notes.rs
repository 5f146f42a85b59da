//! Notes in a store: texts and tags in tables, vectors in a collection, each change of them in one transaction.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use nestling::redb::{
    MultimapTableDefinition, MultimapValue, ReadableMultimapTable, ReadableTable, TableDefinition,
};
use nestling::{CollectionDefinition, Metric, Store, WriteTransaction};

use super::embedder::Embedder;

/// Named after the model that its vectors are comparable with: another model would go into another collection.
const VECTORS: CollectionDefinition = CollectionDefinition::new("all-MiniLM-L6-v2", 384, Metric::Cosine);
const TEXTS: TableDefinition<u64, &str> = TableDefinition::new("texts");
/// Each note's tags…
const TAGS: MultimapTableDefinition<u64, &str> = MultimapTableDefinition::new("tags");
/// …and each tag's notes, in ascending order, as `Query::among` likes them.
const TAGGED: MultimapTableDefinition<&str, u64> = MultimapTableDefinition::new("tagged");
/// The next note's number: numbers of deleted notes are not given out again.
const NEXT: TableDefinition<&str, u64> = TableDefinition::new("next");

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A note as it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    pub id: u64,
    pub text: String,
    pub tags: Vec<String>,
}

/// A note to be written.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    pub text: &'a str,
    pub tags: &'a [String],
}

/// What became of a note that was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Written {
    pub id: u64,
    /// False where the embedder did not understand the text: the note is kept and listed, but not found by words.
    pub is_findable: bool,
}

/// The notes of one store.
pub struct Notes {
    store: Store,
    embedder: Box<dyn Embedder>,
}

impl Notes {
    /// Opens the notes in a directory, which is created when there is none.
    pub fn open(path: &Path, embedder: Box<dyn Embedder>) -> Result<Self> {
        let store = Store::open(path)?;
        create(&store)?;
        Ok(Self { store, embedder })
    }

    /// How many there are, and have ever been.
    pub fn count(&self) -> Result<(u64, u64)> {
        let tx = self.store.begin_read()?;
        let ever = tx.open_table(NEXT)?.get("note")?.map_or(0, |next| next.value());
        Ok((tx.open_table(TEXTS)?.len()?, ever))
    }

    /// The `k` notes that mean most nearly what `words` say, of those that have all of the tags, with their distances.
    pub fn find(&self, words: &str, tags: &[String], k: usize) -> Result<Vec<(f32, Note)>> {
        let vector = understood(&*self.embedder, words)?;
        let tx = self.store.begin_read()?; // one snapshot: vectors, texts and tags agree
        let (vectors, texts) = (tx.open_collection(VECTORS)?, tx.open_table(TEXTS)?);
        let (tags_of, tagged) = (tx.open_multimap_table(TAGS)?, tx.open_multimap_table(TAGGED)?);

        let mut query = vectors.query(&vector).k(k);
        for tag in tags {
            query = query.among(ids(tagged.get(tag.as_str())?)?); // hits pass all of several filters
        }
        let note = |id| -> Result<Note> {
            let text = texts.get(id)?.ok_or("a vector without a text")?.value().to_owned();
            Ok(Note { id, text, tags: names(tags_of.get(id)?)? })
        };
        query.run()?.iter().map(|hit| Ok((hit.distance, note(hit.key)?))).collect()
    }

    /// The latest notes that have all of the tags, the latest first.
    pub fn list(&self, tags: &[String], most: usize) -> Result<Vec<Note>> {
        let tx = self.store.begin_read()?;
        let tags_of = tx.open_multimap_table(TAGS)?;
        let mut notes = Vec::new();
        for entry in tx.open_table(TEXTS)?.iter()?.rev() {
            let (id, text) = entry?;
            let note = Note {
                id: id.value(),
                text: text.value().to_owned(),
                tags: names(tags_of.get(id.value())?)?,
            };
            if tags.iter().all(|tag| note.tags.contains(tag)) {
                notes.push(note);
            }
            if notes.len() == most {
                break;
            }
        }
        Ok(notes)
    }

    /// All tags, and how many notes have each.
    pub fn tags(&self) -> Result<BTreeMap<String, u64>> {
        let tagged = self.store.begin_read()?.open_multimap_table(TAGGED)?;
        let counted = tagged.iter()?.map(|entry| {
            let (tag, notes) = entry?;
            Ok((tag.value().to_owned(), notes.len()))
        });
        counted.collect()
    }

    /// Begins changes, which all happen when they are committed. Meanwhile the other methods go on showing the last commit.
    pub fn begin(&self) -> Result<Changes<'_>> {
        Ok(Changes { tx: self.store.begin_write()?, embedder: &*self.embedder })
    }
}

/// Makes tables and collection where there are none, so that snapshots find them, empty as they may be. At every start, since an
/// update of the app may have brought new ones to a store that exists.
fn create(store: &Store) -> Result<()> {
    let tx = store.begin_write()?;
    tx.open_collection(VECTORS)?;
    tx.open_table(TEXTS)?;
    tx.open_table(NEXT)?;
    tx.open_multimap_table(TAGS)?;
    tx.open_multimap_table(TAGGED)?;
    Ok(tx.commit()?)
}

/// Changes under way: all or none of them. Dropped without a commit, they never happened.
///
/// Each method checks first and writes then, so that a refusal leaves the changes before it as they were.
///
/// Texts are embedded while the transaction, of which there is one at a time, is open: here only the user writes, and tries changes out
/// in it. An app with other writers runs its model before it begins, as [`import`](Changes::import) expects.
pub struct Changes<'a> {
    tx: WriteTransaction,
    embedder: &'a dyn Embedder,
}

impl Changes<'_> {
    /// Adds a note.
    pub fn add(&self, draft: Draft<'_>) -> Result<Written> {
        let vector = self.embedder.embed(draft.text)?;
        let id = self.next(1)?;
        self.write(id, draft)?;
        self.place(id, vector)
    }

    /// Adds many notes whose vectors are known, faster than one by one.
    pub fn import<'a>(&self, drafts: impl Iterator<Item = Draft<'a>>, vectors: &[Vec<f32>]) -> Result<()> {
        let first = self.next(vectors.len() as u64)?;
        self.tx.open_collection(VECTORS)?.insert_many((first..).zip(vectors))?;
        for (id, draft) in (first..).zip(drafts) {
            self.write(id, draft)?;
        }
        Ok(())
    }

    /// Gives a note another text and, if any are given, more tags.
    pub fn edit(&self, id: u64, draft: Draft<'_>) -> Result<Written> {
        self.require(id)?;
        let vector = self.embedder.embed(draft.text)?;
        self.write(id, draft)?;
        self.place(id, vector)
    }

    /// Deletes a note: its text, its tags and its vector.
    pub fn delete(&self, id: u64) -> Result<()> {
        self.require(id)?;
        self.tx.open_collection(VECTORS)?.remove(id)?;
        self.tx.open_table(TEXTS)?.remove(id)?;
        let tags = names(self.tx.open_multimap_table(TAGS)?.remove_all(id)?)?;
        let mut tagged = self.tx.open_multimap_table(TAGGED)?;
        for tag in tags {
            tagged.remove(tag.as_str(), id)?;
        }
        Ok(())
    }

    /// As [`Notes::find`], with these changes.
    pub fn find(&self, words: &str, tags: &[String], k: usize) -> Result<Vec<(f32, Note)>> {
        let vector = understood(self.embedder, words)?;
        let (vectors, texts) = (self.tx.open_collection(VECTORS)?, self.tx.open_table(TEXTS)?);
        let (tags_of, tagged) = (self.tx.open_multimap_table(TAGS)?, self.tx.open_multimap_table(TAGGED)?);

        let mut query = vectors.query(&vector).k(k);
        for tag in tags {
            query = query.among(ids(tagged.get(tag.as_str())?)?);
        }
        let note = |id| -> Result<Note> {
            let text = texts.get(id)?.ok_or("a vector without a text")?.value().to_owned();
            Ok(Note { id, text, tags: names(tags_of.get(id)?)? })
        };
        query.run()?.iter().map(|hit| Ok((hit.distance, note(hit.key)?))).collect()
    }

    /// Makes all changes happen; they are on disk when this returns.
    pub fn commit(self) -> Result<()> {
        Ok(self.tx.commit()?)
    }

    /// Makes none of them happen.
    pub fn abort(self) -> Result<()> {
        Ok(self.tx.abort()?)
    }

    fn write(&self, id: u64, Draft { text, tags }: Draft<'_>) -> Result<()> {
        self.tx.open_table(TEXTS)?.insert(id, text)?;
        let (mut tags_of, mut tagged) =
            (self.tx.open_multimap_table(TAGS)?, self.tx.open_multimap_table(TAGGED)?);
        for tag in tags {
            tags_of.insert(id, tag.as_str())?;
            tagged.insert(tag.as_str(), id)?;
        }
        Ok(())
    }

    /// Puts a note's vector in place of the one it had.
    fn place(&self, id: u64, vector: Option<Vec<f32>>) -> Result<Written> {
        let mut vectors = self.tx.open_collection(VECTORS)?;
        match &vector {
            Some(vector) => vectors.insert(id, vector)?,
            None => vectors.remove(id)?,
        };
        Ok(Written { id, is_findable: vector.is_some() })
    }

    /// Takes `count` numbers, and tells the first.
    fn next(&self, count: u64) -> Result<u64> {
        let mut next = self.tx.open_table(NEXT)?;
        let first = next.get("note")?.map_or(0, |next| next.value());
        next.insert("note", first + count)?;
        Ok(first)
    }

    fn require(&self, id: u64) -> Result<()> {
        let found = self.tx.open_table(TEXTS)?.get(id)?.is_some();
        found.then_some(()).ok_or_else(|| format!("there is no note {id}").into())
    }
}

/// The vector to search with.
fn understood(embedder: &dyn Embedder, words: &str) -> Result<Vec<f32>> {
    embedder.embed(words)?.ok_or_else(|| format!("none of the words in {words:?} is known").into())
}

fn ids(values: MultimapValue<'_, u64>) -> Result<Vec<u64>> {
    values.map(|id| Ok(id?.value())).collect()
}

fn names(values: MultimapValue<'_, &'static str>) -> Result<Vec<String>> {
    values.map(|name| Ok(name?.value().to_owned())).collect()
}

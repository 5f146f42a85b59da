//! How far an import has come: a row in a table of the store, written in the same transaction as the vectors.
//!
//! It exists while an import is unfinished; the last batch deletes it. So it tells of exactly what is stored, however the process ended. With
//! the same file and the same options a resumed import makes the transactions that an uninterrupted one would have made, and
//! their outcome is the same, the graph included.

use std::path::Path;

use nestling::redb::{ReadableTable, TableDefinition, TableHandle};
use nestling::{Error, Store, WriteTransaction};
use serde_json::{Value, json};

use super::absolute;
use crate::failure::Failure;
use crate::formats::{Identity, is_standard_stream};

/// Collection → unfinished import, as JSON.
const IMPORTS: TableDefinition<&str, &str> = TableDefinition::new("nestling-cli/imports");

/// An import, and how far it has come.
#[derive(Clone)]
pub(super) struct Record<'a> {
    collection: &'a str,
    path: &'a Path,
    file: Value,
    plan: String,
    /// Rows that are stored.
    pub(super) rows: u64,
}

impl<'a> Record<'a> {
    pub(super) fn new(collection: &'a str, path: &'a Path, identity: &Identity, plan: String) -> Self {
        let name = if is_standard_stream(path) { path.to_owned() } else { absolute(path) };
        let file = json!({
            "name": name.to_string_lossy(),
            "bytes": identity.bytes,
            "head_crc32": identity.head,
        });
        Self { collection, path, file, plan, rows: 0 }
    }

    /// The same import with so many rows stored.
    pub(super) fn at(&self, rows: u64) -> Self {
        Self { rows, ..self.clone() }
    }

    /// Takes over how far the import had come, if there is an unfinished one; an error if that is of another file, or has other
    /// options.
    pub(super) fn resume(&mut self, store: &Store) -> Result<(), Failure> {
        let tx = store.begin_read()?;
        if !tx.list_tables()?.iter().any(|name| name == IMPORTS.name()) {
            return Ok(());
        }
        let table = tx.open_table(IMPORTS)?;
        let Some(found) = table.get(self.collection)? else { return Ok(()) };
        let unreadable = || Failure::RecordUnreadable { collection: self.collection.to_owned() };
        let found: Value = serde_json::from_str(found.value()).map_err(|_| unreadable())?;
        let (Some(file), Some(plan), Some(rows)) = (
            found.get("file"),
            found.get("plan").and_then(Value::as_str),
            found.get("rows").and_then(Value::as_u64),
        ) else {
            return Err(unreadable());
        };
        if *file != self.file {
            return Err(Failure::ResumesAnotherFile {
                path: self.path.to_owned(),
                recorded: file.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
                rows,
            });
        }
        if plan != self.plan {
            return Err(Failure::ResumesOtherwise { recorded: plan.to_owned(), stated: self.plan.clone() });
        }
        self.rows = rows;
        Ok(())
    }

    pub(super) fn write(&self, tx: &WriteTransaction) -> Result<(), Failure> {
        let record = json!({ "file": self.file, "plan": self.plan, "rows": self.rows }).to_string();
        tx.open_table(IMPORTS)?.insert(self.collection, record.as_str()).map_err(Error::from)?;
        Ok(())
    }

    /// Forgets the import, and leaves no empty table behind.
    pub(super) fn delete(&self, tx: &WriteTransaction) -> Result<(), Failure> {
        if !tx.list_tables()?.iter().any(|name| name == IMPORTS.name()) {
            return Ok(());
        }
        let is_empty = {
            let mut table = tx.open_table(IMPORTS)?;
            table.remove(self.collection).map_err(Error::from)?;
            ReadableTable::first(&table).map_err(Error::from)?.is_none()
        };
        if is_empty {
            tx.delete_table(IMPORTS)?;
        }
        Ok(())
    }
}

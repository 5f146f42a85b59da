//! The store's own tables as redb has them, and their rows as bytes.

use std::io;
use std::sync::{Arc, Mutex};

use nestling::redb::{self, Key, ReadableTable, StorageBackend, TableDefinition, TypeName, Value};

/// The store's tables, with the types that redb knows them by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Nodes,
    Keys,
    Links,
    Free,
    Collections,
    Segments,
    State,
    Journal,
}

/// Those that a commit to tables writes, and the journal, where it writes to that.
pub const TABLES: [Table; 8] = [
    Table::Nodes,
    Table::Keys,
    Table::Links,
    Table::Free,
    Table::Collections,
    Table::Segments,
    Table::State,
    Table::Journal,
];

/// A value whose type has the name that the store gives it.
#[derive(Debug)]
struct Stored<const TABLE: usize>;

impl<const TABLE: usize> Value for Stored<TABLE> {
    type SelfType<'a> = &'a [u8];
    type AsBytes<'a> = &'a [u8];

    fn fixed_width() -> Option<usize> {
        None
    }

    fn from_bytes<'a>(data: &'a [u8]) -> &'a [u8]
    where
        Self: 'a,
    {
        data
    }

    fn as_bytes<'a, 'b: 'a>(value: &'a &'b [u8]) -> &'a [u8]
    where
        Self: 'b,
    {
        value
    }

    fn type_name() -> TypeName {
        let names = ["Node", "Key", "Link", "Free", "Collection", "Segment", "Journal"];
        TypeName::new(&format!("nestling::{}.1", names[TABLE]))
    }
}

/// A row: its table, and its key and value as redb keeps them.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub table: Table,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl Table {
    pub fn read(self, tx: &redb::ReadTransaction) -> Vec<Row> {
        let rows = match self {
            Table::Nodes => read::<u32, Stored<0>>(tx, "nestling/00000000/nodes"),
            Table::Keys => read::<u64, Stored<1>>(tx, "nestling/00000000/keys"),
            Table::Links => read::<u64, Stored<2>>(tx, "nestling/00000000/links"),
            Table::Free => read::<(u64, u32), Stored<3>>(tx, "nestling/00000000/free"),
            Table::Collections => read::<&str, Stored<4>>(tx, "nestling/collections"),
            Table::Segments => read::<u32, Stored<5>>(tx, "nestling/segments"),
            Table::State => read::<u32, &[u8]>(tx, "nestling/state"),
            Table::Journal => read::<u64, Stored<6>>(tx, "nestling/journal"),
        };
        assert!(!rows.is_empty() || self == Table::Journal, "{self:?}");
        rows.into_iter().map(|(key, value)| Row { table: self, key, value }).collect()
    }

    /// Gives a row another value, or none. True when there was one.
    pub fn write(self, tx: &redb::WriteTransaction, key: &[u8], value: Option<&[u8]>) -> bool {
        match self {
            Table::Nodes => write::<u32, Stored<0>>(tx, "nestling/00000000/nodes", key, value),
            Table::Keys => write::<u64, Stored<1>>(tx, "nestling/00000000/keys", key, value),
            Table::Links => write::<u64, Stored<2>>(tx, "nestling/00000000/links", key, value),
            Table::Free => write::<(u64, u32), Stored<3>>(tx, "nestling/00000000/free", key, value),
            Table::Collections => write::<&str, Stored<4>>(tx, "nestling/collections", key, value),
            Table::Segments => write::<u32, Stored<5>>(tx, "nestling/segments", key, value),
            Table::State => write::<u32, &[u8]>(tx, "nestling/state", key, value),
            Table::Journal => write::<u64, Stored<6>>(tx, "nestling/journal", key, value),
        }
    }
}

fn read<K: Key + 'static, V: for<'a> Value<SelfType<'a> = &'a [u8]> + 'static>(
    tx: &redb::ReadTransaction,
    name: &str,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let table = tx.open_table(TableDefinition::<K, V>::new(name)).unwrap();
    let rows = table.iter().unwrap().map(|entry| entry.unwrap());
    rows.map(|(key, value)| (K::as_bytes(&key.value()).as_ref().to_vec(), value.value().to_vec())).collect()
}

fn write<K: Key + 'static, V: for<'a> Value<SelfType<'a> = &'a [u8]> + 'static>(
    tx: &redb::WriteTransaction,
    name: &str,
    key: &[u8],
    value: Option<&[u8]>,
) -> bool {
    let mut table = tx.open_table(TableDefinition::<K, V>::new(name)).unwrap();
    let before = match value {
        Some(value) => table.insert(K::from_bytes(key), value).unwrap(),
        None => table.remove(K::from_bytes(key)).unwrap(),
    };
    before.is_some()
}

/// A redb file in memory.
#[derive(Debug, Clone)]
pub struct Memory(pub Arc<Mutex<Vec<u8>>>);

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        out.copy_from_slice(&self.0.lock().unwrap()[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = offset as usize;
        self.0.lock().unwrap()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

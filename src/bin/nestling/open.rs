//! Opening stores and collections, with errors in the terms of the command line.

use std::path::Path;

use nestling::{Collection, Error, Store};

use crate::failure::Failure;

/// Opens a store that exists, beside other readers.
pub(crate) fn for_reading(path: &Path) -> Result<Store, Failure> {
    Store::builder().read_only().open(path).map_err(|e| match e {
        Error::Locked { path } => Failure::WriterPresent { path },
        e => refused(e),
    })
}

/// Opens a store to write to it, and creates it where `create` allows that.
pub(crate) fn for_writing(path: &Path, create: bool) -> Result<Store, Failure> {
    Store::builder().create(create).open(path).map_err(|e| match e {
        Error::Locked { path } => Failure::InUse { path },
        e => refused(e),
    })
}

fn refused(error: Error) -> Failure {
    match error {
        Error::StoreNotFound { path } => Failure::StoreNotFound { path },
        e => Failure::Store(e),
    }
}

/// Opens a collection of the latest commit; when there is none of the name, the error lists those there are.
pub(crate) fn collection(store: &Store, name: &str) -> Result<Collection, Failure> {
    let tx = store.begin_read()?;
    tx.open_stored_collection(name).map_err(|e| match e {
        Error::CollectionNotFound { name } => Failure::CollectionNotFound {
            path: store.path().to_owned(),
            name,
            existing: tx.list_collections(),
        },
        e => Failure::Store(e),
    })
}

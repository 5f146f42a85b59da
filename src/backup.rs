//! Copies of a store, made while it is in use.
//!
//! redb cannot copy tables whose types it does not know, and uses the pages of its own bookkeeping again right after a commit, so that
//! a snapshot alone does not keep its file still. So `store.redb` is copied block by block as it is on disk at one instant, and a
//! block that is to be overwritten before its turn is [copied first](crate::io::Image).
//!
//! That instant lies between two transactions, when the last commit is durable and nothing has been written since: the image is what
//! a power cut would leave just then, from which redb recovers that commit. Segments are copied under a snapshot of it. Nobody
//! writes to the slots that a snapshot names while it lives; other slots may be torn in the copy, and nothing there names them.
//!
//! In the end redb opens the copy and closes it, so that it begins its life as a store that was closed.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::io::{Attached, Image};
use crate::site::Site;
use crate::trace::span;
use crate::transaction::{Borrowed, Published, STORE_FILE, Shared, Stored, open_database};
use crate::vectors::copy_segment;

/// What [`Store::backup`](crate::Store::backup) has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Backup {
    /// The number of the commit that the backup holds: the last one when it began.
    pub commit: u64,
    /// Bytes of the files copied, holes left out.
    pub bytes: u64,
}

pub(crate) fn backup(shared: &Shared, path: &Path) -> Result<Backup> {
    let span = span!(INFO, "backup" [commit, bytes], to = %path.display()).entered();
    let site = Site::begin(path)?;
    let (published, image) = pin(shared, &site)?;
    let source = &shared.engine.directory;
    let fail = |action| move |e| Error::io(action, path.join(STORE_FILE), e);
    image.copy().map_err(fail("copy to"))?;
    let mut bytes = image.len();
    drop(image);
    for segment in published.collections.values().flat_map(|collection| collection.segments.iter()) {
        bytes += copy_segment(segment, source, site.directory())?;
    }
    settle(&site, &published)?;
    let commit = published.commit;
    drop(published);
    site.finish()?;
    span.record("commit", commit).record("bytes", bytes);
    Ok(Backup { commit, bytes })
}

/// The last commit, made durable if it was not, and the image of `store.redb` that holds it. The writer's place is taken for that long.
fn pin(shared: &Shared, site: &Site) -> Result<(Arc<Published>, Attached)> {
    let engine = &shared.engine;
    let mut ledger = Borrowed::new(engine, engine.writer.acquire());
    engine.make_durable(&mut ledger)?;
    let published = shared.current.load_full();
    let open = || {
        let source = engine.directory.open(STORE_FILE, false)?;
        Image::new(source, site.directory().create(STORE_FILE)?)
    };
    let image = open().map_err(|e| Error::io("copy", engine.directory.join(STORE_FILE), e))?;
    Ok((published, engine.directory.attach(image)))
}

/// Opens the copy, as an opening after a crash would, and closes it.
fn settle(site: &Site, published: &Published) -> Result<()> {
    const CACHE: usize = 4 << 20;
    let database = open_database(site.directory(), false, CACHE)?;
    let stored = Stored::read(&database.begin_read()?)?;
    if (stored.state.store, stored.commit()) != (published.engine.store, published.commit) {
        return Err(Error::corrupted(
            site.directory().join(STORE_FILE).display().to_string(),
            format!("the copy shows commit {}, not {}", stored.commit(), published.commit),
        ));
    }
    drop(database);
    let sync = || site.directory().open(STORE_FILE, true)?.sync();
    sync().map_err(|e| Error::io("sync", site.directory().join(STORE_FILE), e))
}

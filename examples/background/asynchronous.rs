//! The library in async code: whatever touches the disk, or computes for longer than some microseconds, runs on tokio's blocking threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use tokio::task::spawn_blocking;

use super::library::{Found, Library, Result, Row};

/// Searches. When the future is dropped, because the user has typed on, the search stops as well.
pub async fn search(library: Arc<Library>, vector: Vec<f32>, k: usize) -> Result<Found> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let _guard = SetOnDrop(cancelled.clone());
    spawn_blocking(move || library.search_until(&vector, k, &cancelled)).await?
}

/// Stores a row, and returns when it is on disk.
pub async fn put(library: Arc<Library>, row: Row) -> Result<()> {
    let (sender, outcome) = mpsc::channel();
    library.put(row, move |outcome| drop(sender.send(outcome)))?;
    // With tokio's feature `sync` this is a `oneshot` channel, which takes no thread while it waits.
    Ok(spawn_blocking(move || outcome.recv()).await???)
}

/// A task on a blocking thread cannot be aborted: it has to be told.
pub struct SetOnDrop(pub Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

//! Threads: one imports in the background, while another goes on searching as it draws its screen, and saves what its user does. Then the
//! same in async code.
//!
//! ```text
//! cargo run --release --example background [store]
//! ```
//!
//! `store` is the directory to keep the library in; without it, it goes into a temporary one and is gone afterwards.
//!
//! - `library.rs` has the writer's thread and what the others call: what to copy.
//! - `asynchronous.rs` puts it behind tokio's `spawn_blocking`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use library::{Library, Progress, Result, Row};

mod asynchronous;
mod library;
#[path = "../../tests/common/words.rs"]
mod words;

/// What a screen that is drawn 60 times a second can spare for a search.
const SEARCH_TIME: Duration = Duration::from_millis(8);
const FRAME: Duration = Duration::from_millis(16);

fn main() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let path = match std::env::args_os().nth(1) {
        Some(argument) => PathBuf::from(argument),
        None => temporary.path().join("library.nestling"),
    };
    let words = words::words();
    let cello = words.texts.iter().position(|text| text.starts_with("cello,")).ok_or("no cello")?;
    let cello = words.vectors[cello].clone();
    let library = Library::open(&path)?;

    import_and_draw(&library, words, &cello)?;

    let library = Arc::new(library);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(in_async_code(library.clone(), cello))?;
    drop(runtime); // waits for searches that are still being told to stop
    Arc::into_inner(library).ok_or("the library is in use")?.close()
}

/// The thread with the screen: it draws, searches, and never waits for the disk.
fn import_and_draw(library: &Library, words: words::Words, query: &[f32]) -> Result<()> {
    let (events, inbox) = mpsc::channel();
    let rows = (0..).zip(words.vectors).zip(words.texts);
    let rows = rows.map(|((key, vector), text)| Row { key, vector, text });
    library.import(rows, move |progress| drop(events.send(progress)))?;

    let (saved, own) = mpsc::channel();
    let mut own_note = Some(Row { key: 1 << 32, vector: query.to_vec(), text: "my own cello".to_owned() });
    let mut slowest = Duration::ZERO;
    let mut frames = 0;
    loop {
        let event = inbox.recv_timeout(FRAME);
        let started = Instant::now();
        let found = library.search(query, 3, SEARCH_TIME)?;
        slowest = slowest.max(started.elapsed());
        frames += 1;
        match event {
            Ok(Progress::Stored(_)) => {
                let names =
                    found.texts.iter().map(|(_, _, text)| text.split([',', ':']).next().unwrap_or(text));
                println!("{:5} stored; nearest: {}", library.count()?, names.collect::<Vec<_>>().join(", "));
                // The user writes something in the middle of it.
                if let Some(row) = own_note.take() {
                    let (saved, since) = (saved.clone(), Instant::now());
                    library.put(row, move |outcome| drop(saved.send((outcome, since.elapsed()))))?;
                }
            }
            Ok(Progress::Finished) => break,
            Ok(Progress::Failed(reason)) => return Err(reason.into()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err("the writer has ended".into()),
        }
    }
    let (outcome, time) = own.recv()?;
    outcome?;
    println!(
        "{frames} frames, a search in each, the slowest of {slowest:.1?}. The own note was on disk in {time:.1?}."
    );
    Ok(())
}

/// The same from tasks.
async fn in_async_code(library: Arc<Library>, query: Vec<f32>) -> Result<()> {
    let row = Row { key: 1 << 33, vector: query.clone(), text: "another cello".to_owned() };
    asynchronous::put(library.clone(), row).await?;

    // The user types on: of two searches the first is dropped, which cancels it.
    let first = tokio::spawn(asynchronous::search(library.clone(), query.clone(), 5_000));
    tokio::task::yield_now().await; // it begins
    first.abort();
    let found = asynchronous::search(library, query, 3).await?;
    println!("In async code: {:?}", found.texts.iter().map(|(_, _, text)| text).collect::<Vec<_>>());
    Ok(())
}

//! `examples/background`: one thread writes, the others neither wait for it nor see anything half-done.
//!
//! An app that imports on the thread with the screen freezes, and one that opens transactions wherever it likes ends up with threads that wait
//! for each other. The example gives all writing to one thread. Its own code runs here, with imports whose rows come when the test
//! says so: what must not wait is called while the writer stands still, and would hang the test if it waited after all.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use library::{CHUNK, Library, Outcome, Progress, Row};

use crate::words;

#[path = "../../examples/background/asynchronous.rs"]
mod asynchronous;
#[path = "../../examples/background/library.rs"]
mod library;

/// The user's own key, away from those of imports.
const OWN: u64 = 1 << 32;

/// While an import is stuck for want of rows, searches answer with the chunks that are committed, and what the user saves is only
/// a chunk away.
#[test]
fn nobody_waits_for_an_import() {
    let dir = tempfile::tempdir().unwrap();
    let library = Library::open(&dir.path().join("library.nestling")).unwrap();
    let rows = rows();
    let query = rows[700].vector.clone();
    let gated = Gated::import(&library, rows.clone());

    let search = || library.search(&query, 10, Duration::MAX).unwrap().texts;
    let stored = || library.count().unwrap() as usize;

    gated.wait_for_writer();
    assert!(search().is_empty() && stored() == 0);
    gated.let_chunk_pass();
    gated.wait_for_writer();
    assert_ne!(search()[0].0, 700, "row 700 is of the second chunk");
    assert_eq!(stored(), CHUNK);
    gated.let_chunk_pass();
    gated.wait_for_writer();
    assert_eq!(search()[0].0, 700);
    assert_eq!(stored(), 2 * CHUNK);

    // The writer has begun to ask for the third chunk, and the fourth is never let pass before they are saved.
    let (first, second) = (put(&library, own_row(0, &query)), put(&library, own_row(1, &query)));
    gated.let_chunk_pass();
    assert_eq!([first.recv().unwrap(), second.recv().unwrap()], [Ok(()), Ok(())]);
    assert_eq!(stored(), 3 * CHUNK + 2);
    assert_eq!(search().iter().filter(|(key, ..)| *key >= OWN).count(), 2);

    drop(gated.gate);
    assert_eq!(gated.progress.iter().last(), Some(Progress::Finished));
    let stored = all(&library);
    assert_eq!(stored.len(), rows.len() + 2);
    assert!(rows.iter().all(|row| stored[&row.key] == row.text));
    library.close().unwrap();
}

/// Many threads search while an import runs: what they see is always whole chunks, every vector with its text, and never less than
/// they have seen before.
#[test]
fn snapshots_are_whole_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let library = Library::open(&dir.path().join("library.nestling")).unwrap();
    let rows = rows();
    let texts: HashMap<u64, String> = rows.iter().map(|row| (row.key, row.text.clone())).collect();
    let finished = AtomicBool::new(false);
    let (sender, progress) = mpsc::channel();
    library.import(rows.clone().into_iter(), move |event| sender.send(event).unwrap()).unwrap();
    let seen: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let searchers: Vec<_> = (0..2)
            .map(|searcher| {
                let (library, rows, texts, finished) = (&library, &rows, &texts, &finished);
                scope.spawn(move || {
                    let mut seen = vec![0];
                    for row in rows.iter().skip(searcher).step_by(7).cycle() {
                        if finished.load(Ordering::Acquire) {
                            break;
                        }
                        let count = library.count().unwrap();
                        assert!(count.is_multiple_of(CHUNK as u64), "{count} rows are no whole chunks");
                        assert!(count >= *seen.last().unwrap(), "{count} rows after {seen:?}");
                        if seen.last() != Some(&count) {
                            seen.push(count);
                        }
                        let found = library.search(&row.vector, 5, Duration::MAX).unwrap();
                        assert!(
                            found.texts.len() == 5 || count == 0,
                            "{} found of {count}",
                            found.texts.len()
                        );
                        assert!(found.texts.iter().all(|(key, _, text)| texts[key] == *text));
                    }
                    seen
                })
            })
            .collect();
        assert_eq!(progress.iter().last(), Some(Progress::Finished));
        finished.store(true, Ordering::Release);
        searchers.into_iter().map(|searcher| searcher.join().unwrap()).collect()
    });
    println!("seen: {seen:?}");
    assert!(seen.iter().any(|counts| counts.len() > 2), "nobody searched while the import ran: {seen:?}");
    assert_eq!(library.count().unwrap() as usize, rows.len());
}

/// A row that is refused takes nothing along: neither those that are committed with it, nor the writer.
#[test]
fn a_refusal_is_told_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let library = Library::open(&dir.path().join("library.nestling")).unwrap();
    let rows = rows();
    // While the writer waits for rows the changes pile up, and are committed as one.
    let gated = Gated::import(&library, rows[..CHUNK].to_vec());
    gated.wait_for_writer();
    let good = put(&library, own_row(0, &rows[0].vector));
    let short = put(&library, own_row(1, &[1.0, 2.0]));
    let without_direction = put(&library, own_row(2, &vec![0.0; words::DIMENSION]));
    let another = put(&library, own_row(3, &rows[1].vector));
    drop(gated.gate);
    assert_eq!(good.recv().unwrap(), Ok(()));
    assert!(short.recv().unwrap().unwrap_err().contains("2 components"));
    assert!(without_direction.recv().unwrap().unwrap_err().contains("norm"));
    assert_eq!(another.recv().unwrap(), Ok(()));
    assert_eq!(gated.progress.iter().last(), Some(Progress::Finished));
    assert_eq!(library.count().unwrap() as usize, CHUNK + 2);

    let mut bad = rows[CHUNK..2 * CHUNK + 3].to_vec();
    bad[CHUNK + 1].vector.pop();
    let (sender, progress) = mpsc::channel();
    library.import(bad.into_iter(), move |event| sender.send(event).unwrap()).unwrap();
    let told: Vec<Progress> = progress.iter().collect();
    assert!(
        matches!(&told[..], [Progress::Stored(CHUNK), Progress::Failed(reason)] if reason.contains("383 components"))
    );
    assert_eq!(
        library.count().unwrap() as usize,
        2 * CHUNK + 2,
        "the chunk with the bad row is refused whole"
    );
    assert_eq!(put(&library, own_row(1, &rows[2].vector)).recv().unwrap(), Ok(()), "the writer goes on");
}

/// Closing waits for what was asked for, ends an import where it is, and leaves a store that opens with both.
#[test]
fn closing_loses_nothing_that_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("library.nestling");
    let library = Library::open(&path).unwrap();
    let rows = rows();
    let gated = Gated::import(&library, rows.clone());
    gated.wait_for_writer();
    gated.let_chunk_pass();
    gated.wait_for_writer();
    let saved = put(&library, own_row(0, &rows[0].vector));
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| library.close());
        // The writer is in the middle of a chunk: it has to get that far.
        gated.let_chunk_pass();
        closing.join().unwrap().unwrap();
    });
    assert_eq!(saved.recv().unwrap(), Ok(()));
    assert_eq!(gated.progress.iter().last(), Some(Progress::Stored(CHUNK)));

    let library = Library::open(&path).unwrap();
    let stored = all(&library);
    assert_eq!(stored.len(), 2 * CHUNK + 1);
    assert!(rows[..2 * CHUNK].iter().all(|row| stored[&row.key] == row.text) && stored.contains_key(&OWN));
}

/// In async code: the same answers, from many tasks at once on one thread; what was saved is found; and a search whose future is
/// dropped is told to stop.
#[test]
fn in_async_code() {
    let dir = tempfile::tempdir().unwrap();
    let library = Arc::new(Library::open(&dir.path().join("library.nestling")).unwrap());
    let rows = rows();
    let (sender, progress) = mpsc::channel();
    library.import(rows.clone().into_iter().take(1_000), move |event| sender.send(event).unwrap()).unwrap();
    assert_eq!(progress.iter().last(), Some(Progress::Finished));

    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        asynchronous::put(library.clone(), own_row(0, &rows[5].vector)).await.unwrap();
        asynchronous::put(library.clone(), own_row(1, &[1.0])).await.unwrap_err();
        let tasks: Vec<_> = rows[..50]
            .iter()
            .map(|row| tokio::spawn(asynchronous::search(library.clone(), row.vector.clone(), 4)))
            .collect();
        for (row, task) in rows.iter().zip(tasks) {
            let expected = library.search(&row.vector, 4, Duration::MAX).unwrap();
            assert_eq!(task.await.unwrap().unwrap(), expected);
        }
        let found = asynchronous::search(library.clone(), rows[5].vector.clone(), 2).await.unwrap();
        assert_eq!(found.texts.iter().map(|(key, ..)| *key).collect::<Vec<_>>(), [5, OWN]);
    });

    let cancelled = Arc::new(AtomicBool::new(false));
    drop(asynchronous::SetOnDrop(cancelled.clone()));
    let found = library.search_until(&rows[5].vector, 4, &cancelled).unwrap();
    assert!(found.is_partial, "a dropped search goes on");
}

/// An import that stops at each chunk until it is told to go on.
struct Gated {
    gate: Sender<()>,
    reached: Receiver<()>,
    progress: Receiver<Progress>,
}

impl Gated {
    fn import(library: &Library, rows: Vec<Row>) -> Self {
        let (gate, passes) = mpsc::channel();
        let (reaching, reached) = mpsc::channel();
        let (sender, progress) = mpsc::channel();
        let rows = rows.into_iter().enumerate().inspect(move |(index, _)| {
            if index.is_multiple_of(CHUNK) {
                // Where the test has given up its end, nobody is told and the gate is open.
                reaching.send(()).ok();
                passes.recv().ok();
            }
        });
        // The test may have stopped listening.
        library.import(rows.map(|(_, row)| row), move |event| drop(sender.send(event))).unwrap();
        Self { gate, reached, progress }
    }

    /// Returns when the writer stands before a chunk.
    fn wait_for_writer(&self) {
        self.reached.recv().unwrap();
    }

    fn let_chunk_pass(&self) {
        self.gate.send(()).unwrap();
    }
}

fn put(library: &Library, row: Row) -> Receiver<Outcome> {
    let (sender, outcome) = mpsc::channel();
    library.put(row, move |outcome| sender.send(outcome).unwrap()).unwrap();
    outcome
}

fn own_row(number: u64, vector: &[f32]) -> Row {
    Row { key: OWN + number, vector: vector.to_vec(), text: format!("own {number}") }
}

/// The first 3,000 of the shipped words.
fn rows() -> Vec<Row> {
    let words = words::words();
    let rows = (0..).zip(words.vectors).zip(words.texts).take(3_000);
    rows.map(|((key, vector), text)| Row { key, vector, text }).collect()
}

/// Every text that can be found, by its key.
fn all(library: &Library) -> HashMap<u64, String> {
    let query = vec![1.0; words::DIMENSION];
    let found = library.search(&query, usize::MAX, Duration::MAX).unwrap();
    found.texts.into_iter().map(|(key, _, text)| (key, text)).collect()
}

//! The oracle: opens what is on disk and compares it with what was promised.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use nestling::{Metric, Observer, Store};

use super::panic_text;
use super::play::{History, Promise};
use super::state::{Change, Space, State};

/// What a store goes on with after a crash.
const AFTERWARDS: Space = Space::new("afterwards", 5, Metric::L2);

/// Opens the store at `path`, as a new process would. It must show one of the allowed states exactly, be whole, and go on
/// working. Tells which state, or what is wrong.
pub fn judge(path: &Path, history: &History, allowed: &[usize]) -> Result<usize, String> {
    guarded(|| {
        let store = open(path, None)?;
        let found = examine(&store, history, allowed)?;
        let state = go_on(&store, &history.states[found].1)?;
        close(store)?;
        let store = open(path, None).map_err(|e| format!("after another commit: {e}"))?;
        let compared = state.compare(&store.begin_read().unwrap());
        compared.map_err(|e| format!("after another commit: {e}"))?;
        check(&store).map_err(|e| format!("after another commit: {e}"))?;
        close(store)?;
        Ok(found)
    })
}

/// The same, but recorded by the observer, so that the recovery can be cut as well: `recorded` tells how many operations it has
/// seen. Gives back the history of what happened, which begins with the states that may be found again.
pub fn recover(
    path: &Path,
    history: &History,
    allowed: &[usize],
    observer: Arc<dyn Observer>,
    recorded: impl Fn() -> usize,
) -> Result<History, String> {
    guarded(|| {
        let store = open(path, Some(observer))?;
        let found = examine(&store, history, allowed)?;
        let start = recorded();
        let after = go_on(&store, &history.states[found].1)?;
        let promise = Promise { state: found + 1, start, end: Some(recorded()), hidden_until_then: true };
        let number = store.begin_read().unwrap().commit_number();
        close(store)?;
        let mut states = history.states[..=found].to_vec();
        states.push((number, after));
        let kept = Promise { state: found, start: 0, end: Some(0), hidden_until_then: false };
        Ok(History { states, promises: vec![kept, promise] })
    })
}

/// A panic is a violation like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(format!("panic: {}", panic_text(&*panic))))
}

fn open(path: &Path, observer: Option<Arc<dyn Observer>>) -> Result<Store, String> {
    let mut builder = Store::builder();
    if let Some(observer) = observer {
        builder = builder.observer(observer);
    }
    builder.open(path).map_err(|e| format!("opening: {e}"))
}

fn close(store: Store) -> Result<(), String> {
    store.close().map_err(|e| format!("closing: {e}"))
}

fn examine(store: &Store, history: &History, allowed: &[usize]) -> Result<usize, String> {
    let snapshot = store.begin_read().unwrap();
    let number = snapshot.commit_number();
    let states = || allowed.iter().map(|&state| history.states[state].0).collect::<Vec<_>>();
    let Some(&found) = allowed.iter().find(|&&state| history.states[state].0 == number) else {
        return Err(format!("commit {number} is found, allowed are {:?}", states()));
    };
    history.states[found].1.compare(&snapshot).map_err(|e| format!("commit {number}: {e}"))?;
    drop(snapshot);
    check(store)?;
    no_file_left_over(store)?;
    Ok(found)
}

fn check(store: &Store) -> Result<(), String> {
    let report = store.check().map_err(|e| format!("check: {e}"))?;
    if report.is_clean() { Ok(()) } else { Err(format!("check finds {:?}", report.problems)) }
}

/// What transactions that never were, or collections that are gone, have left is swept when a store is opened.
fn no_file_left_over(store: &Store) -> Result<(), String> {
    let stats = store.stats().map_err(|e| e.to_string())?;
    let named: usize = stats.collections.iter().map(|collection| collection.segments).sum();
    let names = std::fs::read_dir(store.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let files: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".vectors"))
        .collect();
    if files.len() == named { Ok(()) } else { Err(format!("{named} segments, but the files {files:?}")) }
}

/// One more commit; gives back the state that it leads to.
fn go_on(store: &Store, state: &State) -> Result<State, String> {
    let version = u64::from(u32::MAX);
    let mut changes = vec![Change::Insert(AFTERWARDS, 0..1), Change::Put("afterwards", 0..1, 12)];
    if let Some(space) = state.any_space() {
        changes.push(Change::Insert(space, 1_000_000..1_000_002));
    }
    let fail = |e| format!("another commit: {e}");
    let tx = store.begin_write().map_err(fail)?;
    let mut after = state.clone();
    for change in &changes {
        change.perform(&tx, version).map_err(fail)?;
        after.apply(change, version);
    }
    tx.commit().map_err(fail)?;
    after.compare(&store.begin_read().unwrap()).map_err(|e| format!("another commit: {e}"))?;
    Ok(after)
}

//! What damage does besides wrong answers: panics, and memory asked for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// What a caught panic, or a large allocation, came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A file of redb's.
    Redb(String),
    Other(String),
}

thread_local! {
    /// Whether this thread's panics are expected, and where the last one came from.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static PANICKED_AT: RefCell<String> = const { RefCell::new(String::new()) };
    /// More bytes than this at once are noted. While a note is taken, nothing is.
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
    static LARGE: RefCell<Option<(usize, String)>> = const { RefCell::new(None) };
}

/// What a run came to.
pub struct Watched<T> {
    /// The result, or where it panicked.
    pub result: Result<T, Origin>,
    /// An allocation above the limit: its bytes and who asked for them.
    pub large: Option<(usize, Origin)>,
}

/// Runs `run`, notes panics, and allocations of more than `limit` bytes at once.
pub fn watch<T>(limit: usize, run: impl FnOnce() -> T) -> Watched<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if WATCHED.get() {
                let at = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
                // If it is the second one, this line is the last that the process says.
                eprintln!("panic at {at}");
                PANICKED_AT.set(at);
            } else {
                usual(info);
            }
        }));
    });
    WATCHED.set(true);
    LIMIT.set(limit);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    LIMIT.set(usize::MAX);
    WATCHED.set(false);
    let large = LARGE.take().map(|(bytes, trace)| (bytes, who_asked(&trace)));
    Watched { result: result.map_err(|_| origin(&PANICKED_AT.take())), large }
}

/// Whose source file a place is in.
pub fn origin(place: &str) -> Origin {
    match place.split_once("redb-") {
        Some((_, rest)) => {
            let file = rest.rsplit(['/', '\\']).next().unwrap_or(rest);
            Origin::Redb(file.split_once(':').map_or(file, |(file, _)| file).to_owned())
        }
        None => Origin::Other(place.to_owned()),
    }
}

/// The innermost frame of a backtrace that is redb's or the store's.
fn who_asked(trace: &str) -> Origin {
    let frames = trace.lines().map(str::trim).filter(|line| !line.starts_with("at "));
    let mut frames = frames.filter(|frame| !frame.contains("corruption::") && !frame.contains("alloc::"));
    match frames.find(|frame| frame.contains("redb::") || frame.contains("nestling::")) {
        Some(frame) if frame.contains(": redb::") || frame.contains(": <redb::") => {
            Origin::Redb(frame.split_once(": ").map_or(frame, |(_, name)| name).to_owned())
        }
        frame => Origin::Other(frame.unwrap_or(trace).to_owned()),
    }
}

/// The system's allocator, which notes who asks for much.
struct Noting;

#[global_allocator]
static ALLOCATOR: Noting = Noting;

impl Noting {
    fn note(size: usize) {
        // Threads that end have no such variable any more.
        let limit = LIMIT.try_with(Cell::get).unwrap_or(usize::MAX);
        if size > limit {
            LIMIT.set(usize::MAX);
            LARGE.with_borrow_mut(|large| *large = Some((size, Backtrace::force_capture().to_string())));
            LIMIT.set(limit.max(size));
        }
    }
}

// SAFETY: every call goes to the system's allocator as it came; what is done besides allocates, but never recursively: LIMIT is raised.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[test]
fn panics_and_large_allocations_are_noted() {
    let watched = watch(1 << 20, || vec![0_u8; 3 << 20].len());
    assert_eq!(watched.result, Ok(3 << 20));
    assert!(matches!(watched.large, Some((bytes, Origin::Other(_))) if bytes == 3 << 20));
    let watched = watch(1 << 20, || panic!("as expected"));
    let result: Result<(), Origin> = watched.result;
    assert!(matches!(result, Err(Origin::Other(place)) if place.contains("watch.rs")));
    assert_eq!(watched.large, None);
    assert_eq!(origin("/home/x/redb-4.4.0/src/tree_store/btree.rs:17"), Origin::Redb("btree.rs".to_owned()));
}

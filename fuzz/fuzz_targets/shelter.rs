//! Tells redb's panics and allocations from ours.
//!
//! redb does not verify the pages that it reads. Where they are damaged it panics, or allocates what a page number says; nestling turns the
//! panics into errors. libFuzzer takes every panic for a finding, so its hook is asked about those only that are not redb's.
//!
//! A panic of redb's while another is cleaned up after would end the process: the hook parks such a thread for ever, and the fuzzer
//! goes on without it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

/// redb's panics, its threads parked, its allocations above the limit.
static COUNTS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
/// More than this at once may be allocated by redb only.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Where the end of the run is told, and which it is.
static END: Mutex<Option<Sender<End>>> = Mutex::new(None);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Returned,
    Parked,
}

thread_local! {
    /// The last panic of this thread was redb's.
    static REDB_PANICKED: Cell<bool> = const { Cell::new(false) };
    static LOOKING: Cell<bool> = const { Cell::new(false) };
}

/// To be called once, after libFuzzer has put its hook in place.
pub fn install() {
    let libfuzzers = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if is_redbs(info) {
            COUNTS[0].fetch_add(1, Ordering::Relaxed);
            REDB_PANICKED.set(true);
        } else if REDB_PANICKED.get() && info.payload_as_str() == Some("panic in a destructor during cleanup")
        {
            COUNTS[1].fetch_add(1, Ordering::Relaxed);
            tell(End::Parked);
            loop {
                std::thread::park();
            }
        } else {
            libfuzzers(info);
        }
    }));
}

fn is_redbs(info: &PanicHookInfo<'_>) -> bool {
    info.location().is_some_and(|at| at.file().contains("/redb-"))
}

/// Runs `run` in a thread of its own, to its end or until redb would have ended the process. `limit`: bytes that anybody may
/// allocate at once.
pub fn shelter(limit: usize, run: impl FnOnce() + Send + 'static) {
    let (sender, end) = channel();
    *END.lock().unwrap() = Some(sender);
    LIMIT.store(limit, Ordering::Relaxed);
    let thread = std::thread::Builder::new().stack_size(16 << 20);
    let thread = thread.spawn(move || {
        // Whatever panics here is redb's: another panic would not have come past the hook.
        let _ = panic::catch_unwind(AssertUnwindSafe(run));
        tell(End::Returned);
    });
    if end.recv().unwrap() == End::Returned {
        thread.unwrap().join().unwrap();
    }
    LIMIT.store(usize::MAX, Ordering::Relaxed);
    report();
}

fn tell(end: End) {
    if let Some(sender) = END.lock().unwrap().take() {
        let _ = sender.send(end);
    }
}

/// Now and then.
fn report() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    if (RUNS.fetch_add(1, Ordering::Relaxed) + 1).is_power_of_two() {
        let [panics, parked, large] = COUNTS.each_ref().map(|count| count.load(Ordering::Relaxed));
        eprintln!("of redb's: {panics} panics, {parked} that would abort, {large} large allocations");
    }
}

/// The system's allocator, which stops whoever asks for much.
struct Limited;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

impl Limited {
    fn look(size: usize) {
        // Threads that end have no such variable any more.
        if size <= LIMIT.load(Ordering::Relaxed)
            || LOOKING.try_with(|looking| looking.replace(true)) != Ok(false)
        {
            return;
        }
        let trace = Backtrace::force_capture().to_string();
        let mut frames = trace.lines().filter_map(|line| line.trim().split_once(": ")).map(|(_, name)| name);
        let asks = frames.find(|name| {
            ["redb::", "<redb::", "nestling::", "<nestling::"].iter().any(|of| name.starts_with(of))
        });
        if asks.is_some_and(|name| name.trim_start_matches('<').starts_with("redb::")) {
            COUNTS[2].fetch_add(1, Ordering::Relaxed);
        } else {
            eprintln!("{size} bytes are asked for by {asks:?}:\n{trace}");
            std::process::abort();
        }
        LOOKING.set(false);
    }
}

// SAFETY: every call goes to the system's allocator as it came; what is done besides allocates, but never recursively: LOOKING is set.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::look(layout.size());
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::look(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::look(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

//! Loom's types, and stand-ins for those that loom does not have: in the place of `src/transaction/sync.rs`.
//!
//! The stand-ins order memory as what they stand for, and no more than that: a stronger order would hide faults of the protocol.

use std::ops::Deref;

pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
pub use loom::sync::{Condvar, Mutex, MutexGuard};
pub use std::sync::PoisonError;

use loom::cell::UnsafeCell;

/// Counted as std's: increments are relaxed, decrements release, and the last one acquires before it drops the value.
#[derive(Debug)]
pub struct Arc<T>(std::sync::Arc<Counted<T>>);

/// As std's; the memory behind it is not of interest here.
#[derive(Debug)]
pub struct Weak<T>(std::sync::Arc<Counted<T>>);

#[derive(Debug)]
struct Counted<T> {
    strong: AtomicUsize,
    /// `None` once the last `Arc` is gone. Loom reports an access that is not ordered with the drop.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: (1) the value is shared by reference only while it is counted, as with std's `Arc`; (2) it is taken out by whoever counts
// down to 0, after everybody else; loom checks both in every interleaving.
unsafe impl<T: Send + Sync> Send for Counted<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Counted<T> {}

impl<T> Arc<T> {
    pub fn new(value: T) -> Self {
        let value = UnsafeCell::new(Some(value));
        Self(std::sync::Arc::new(Counted { strong: AtomicUsize::new(1), value }))
    }

    pub fn downgrade(this: &Self) -> Weak<T> {
        Weak(this.0.clone())
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        self.0.strong.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.value.with(|value| {
            // SAFETY: `self` is counted, so that the value is there and nobody takes it out.
            unsafe { &*value }.as_ref().expect("a counted value is there")
        })
    }
}

impl<T> Drop for Arc<T> {
    fn drop(&mut self) {
        if self.0.strong.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            self.0.value.with_mut(|value| {
                // SAFETY: the count is 0, and never rises from there.
                drop(unsafe { &mut *value }.take());
            });
        }
    }
}

impl<T> Weak<T> {
    pub fn strong_count(&self) -> usize {
        self.0.strong.load(Ordering::Relaxed)
    }
}

/// A pointer and a hold on what it points to. `arc_swap` lets a reader count itself on what it has seen, or look again; so
/// does this.
#[derive(Debug)]
pub struct ArcSwap<T> {
    /// The number of the current one among all that were ever stored.
    current: AtomicUsize,
    /// Not of loom's: a lock that nobody waits for orders nothing.
    stored: std::sync::Mutex<Vec<std::sync::Arc<Counted<T>>>>,
}

impl<T> ArcSwap<T> {
    pub fn new(first: Arc<T>) -> Self {
        let swap = Self { current: AtomicUsize::new(0), stored: std::sync::Mutex::default() };
        swap.keep(first);
        swap
    }

    pub fn load_full(&self) -> Arc<T> {
        loop {
            let counted = self.stored(self.current.load(Ordering::Acquire));
            let mut strong = counted.strong.load(Ordering::Relaxed);
            while strong != 0 {
                // The same as in the upgrade of a `Weak`: what is gone stays gone.
                match counted.strong.compare_exchange(
                    strong,
                    strong + 1,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => return Arc(counted),
                    Err(other) => strong = other,
                }
            }
            // Another one has been stored since.
            fence(Ordering::Acquire);
        }
    }

    pub fn store(&self, next: Arc<T>) {
        let next = self.keep(next);
        let last = self.current.swap(next, Ordering::AcqRel);
        drop(Arc(self.stored(last)));
    }

    /// Takes over a hold.
    fn keep(&self, arc: Arc<T>) -> usize {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.push(arc.0.clone());
        std::mem::forget(arc);
        stored.len() - 1
    }

    fn stored(&self, number: usize) -> std::sync::Arc<Counted<T>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)[number].clone()
    }
}

impl<T> Drop for ArcSwap<T> {
    fn drop(&mut self) {
        let last = self.current.load(Ordering::Acquire);
        drop(Arc(self.stored(last)));
    }
}

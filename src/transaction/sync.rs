//! What the [protocol](super::protocol) is made of. `tests/interleavings` puts loom's in their place.

pub(super) use std::sync::atomic::{Ordering, fence};
pub(super) use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

pub(super) use arc_swap::ArcSwap;

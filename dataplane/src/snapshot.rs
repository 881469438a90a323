//! Publishing immutable values to workers, and freeing them on the publisher's thread.
//!
//! RCU by quiescent states: a [`Reader`] looks for a newer value once per burst ([`Reader::refresh`]); between two
//! looks it uses one value and nothing else. The [`Publisher`] keeps every value that some reader holds.
//!
//! Invariants:
//! - A reader never waits: the common case is one atomic load, and when the publisher is just swapping, the reader
//!   keeps its value for one more burst (`try_lock`).
//! - The last reference is never dropped by a reader. A reader lets go of its old value *before* it says so, and the
//!   publisher forgets a value only after every reader said so.
//! - A reader that stops looking pins one value, not more: values it never saw are freed as soon as nobody else
//!   holds them, so the retired list is no longer than the number of readers.

use std::fmt;

use crate::sync::{Arc, AtomicU64, Mutex, Ordering};
use crossbeam::utils::CachePadded;

struct Shared<T> {
    /// Number of the current value; changes under the lock only.
    version: CachePadded<AtomicU64>,
    current: Mutex<Arc<T>>,
    /// Per reader: number of the one value it holds.
    holding: Box<[CachePadded<AtomicU64>]>,
}

/// The one writer.
pub struct Publisher<T> {
    shared: Arc<Shared<T>>,
    version: u64,
    retired: Vec<(u64, Arc<T>)>,
}

/// One of the readers; belongs to one thread. To be dropped before the publisher is.
pub struct Reader<T> {
    version: u64,
    // Fields are dropped in this order: the value goes before the seat says so.
    value: Arc<T>,
    seat: Seat<T>,
}

/// A reader's place among the readers.
struct Seat<T> {
    shared: Arc<Shared<T>>,
    index: usize,
}

/// A publisher with its first value, and `readers` readers that hold it.
pub fn channel<T>(first: T, readers: usize) -> (Publisher<T>, Vec<Reader<T>>) {
    let value = Arc::new(first);
    let shared = Arc::new(Shared {
        version: CachePadded::new(AtomicU64::new(1)),
        current: Mutex::new(value.clone()),
        holding: (0..readers).map(|_| CachePadded::new(AtomicU64::new(1))).collect(),
    });
    let seat = |index| Seat { shared: shared.clone(), index };
    let reader = |index| Reader { version: 1, value: value.clone(), seat: seat(index) };
    let readers = (0..readers).map(reader).collect();
    (Publisher { shared, version: 1, retired: Vec::new() }, readers)
}

impl<T> Publisher<T> {
    /// Makes `value` the current one and returns its version. Frees what no reader holds any more.
    pub fn publish(&mut self, value: T) -> u64 {
        let old = {
            let mut current = self.shared.current.lock().unwrap_or_else(|e| e.into_inner());
            let old = std::mem::replace(&mut *current, Arc::new(value));
            self.shared.version.store(self.version + 1, Ordering::Release);
            old
        };
        self.retired.push((self.version, old));
        self.version += 1;
        self.reclaim();
        self.version
    }

    /// Frees retired values that no reader holds; to be called now and then, and after [`Self::acknowledged`] moved.
    pub fn reclaim(&mut self) {
        let holding = &self.shared.holding;
        self.retired.retain(|(version, _)| {
            holding.iter().any(|held| held.load(Ordering::Acquire) == *version)
        });
    }

    /// The newest version that every reader holds or has passed.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        let held = self.shared.holding.iter().map(|held| held.load(Ordering::Acquire));
        held.min().unwrap_or(self.version)
    }

    /// The version published last.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Values kept only because a reader still holds them.
    #[must_use]
    pub fn retired(&self) -> usize {
        self.retired.len()
    }
}

impl<T> Reader<T> {
    /// The quiescent state: takes the current value if there is a newer one. Returns whether it did.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        if self.seat.shared.version.load(Ordering::Acquire) == self.version {
            return false;
        }
        self.take()
    }

    /// The value held since the last refresh.
    #[must_use]
    #[inline]
    pub fn get(&self) -> &T {
        &self.value
    }

    /// The version of the value held.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    #[cold]
    fn take(&mut self) -> bool {
        let shared = &self.seat.shared;
        let Ok(current) = shared.current.try_lock() else { return false };
        // Under the lock, version and value belong together, and the publisher can't retire what is taken here
        // before `holding` says so. Releasing the old value comes first: see the invariants.
        self.version = shared.version.load(Ordering::Relaxed);
        self.value = Arc::clone(&current);
        shared.holding[self.seat.index].store(self.version, Ordering::Release);
        true
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        // A reader that is gone holds nothing and is not waited for.
        self.shared.holding[self.index].store(u64::MAX, Ordering::Release);
    }
}

impl<T> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("version", &self.version).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("version", &self.version).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_the_newest_value_at_its_next_look() {
        let (mut publisher, mut readers) = channel(1, 1);
        let reader = &mut readers[0];
        assert!(!reader.refresh());
        publisher.publish(2);
        publisher.publish(3);
        assert_eq!(*reader.get(), 1, "within a burst the value must not change");
        assert!(reader.refresh());
        assert_eq!((*reader.get(), publisher.acknowledged()), (3, 3));
    }

    #[test]
    fn a_reader_that_never_looks_pins_one_value() {
        let (mut publisher, mut readers) = channel(Arc::new(0), 2);
        let mut alive = Vec::new();
        for i in 1..1000 {
            let value = Arc::new(i);
            alive.push(Arc::downgrade(&value));
            publisher.publish(value);
            readers[0].refresh();
            assert!(publisher.retired() <= 2, "{} retired", publisher.retired());
        }
        publisher.reclaim();
        let kept = alive.iter().filter(|value| value.strong_count() > 0).count();
        assert_eq!(kept, 1, "the current value only; the idle reader holds the first");
        assert_eq!(publisher.acknowledged(), 1);
    }

    #[test]
    fn a_reader_that_left_holds_nothing() {
        let (mut publisher, readers) = channel(1, 2);
        drop(readers);
        publisher.publish(2);
        assert_eq!((publisher.retired(), publisher.acknowledged()), (0, u64::MAX));
    }
}

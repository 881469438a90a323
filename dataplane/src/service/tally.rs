//! What a worker counts for every row: connections that it opens, and first packets that it turns away.
//!
//! A row has a [`Place`]: a slot of the same number in every worker's own memory. Slots of rows that are gone are used
//! again, so each says whose it is. Of a slot that says another row the worker makes its own before it counts, and zero
//! of it; whoever reads takes nothing from a slot that says another row. So nobody inherits, whenever which worker
//! learns of a change. Counting is a load and a store in memory that nobody else writes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::counters::Counter;
use crate::prefetch::prefetch;
use crate::verdict::DropReason;

/// Rows that are counted at a time; what comes beyond is served all the same. A cluster is thought to have 10,000
/// Services. 4 MiB a worker.
pub const ROWS: u32 = 65_536;

/// Where a row's counts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The row's number, which no other row has had. Never zero.
    pub row: u32,
    /// The slot, or a number without one.
    pub(super) slot: u32,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Connections opened.
    Connections,
    /// Connections of clients whose address was kept, on which nothing came back through here: see
    /// [`crate::conntrack::state::State::OneWay`].
    OneWay,
    /// First packets refused because the Service has no endpoints (REJ-1).
    NoEndpoints,
    /// First packets dropped for [`DropReason::NoLocalEndpointInternal`].
    NoLocalEndpointInternal,
    /// First packets dropped for [`DropReason::NoLocalEndpointExternal`].
    NoLocalEndpointExternal,
    /// First packets dropped for [`DropReason::SourceNotAllowed`].
    SourceNotAllowed,
}

impl Count {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Connections,
        Self::OneWay,
        Self::NoEndpoints,
        Self::NoLocalEndpointInternal,
        Self::NoLocalEndpointExternal,
        Self::SourceNotAllowed,
    ];

    /// The count of a drop that a row's policies decided.
    #[must_use]
    pub fn of(reason: DropReason) -> Option<Self> {
        match reason {
            DropReason::NoLocalEndpointInternal => Some(Self::NoLocalEndpointInternal),
            DropReason::NoLocalEndpointExternal => Some(Self::NoLocalEndpointExternal),
            DropReason::SourceNotAllowed => Some(Self::SourceNotAllowed),
            _ => None,
        }
    }
}

/// The counts of one row.
pub type Counts = [u64; Count::ALL.len()];

/// One worker's counts of all rows. Written by that worker only.
#[derive(Debug)]
pub struct Tallies {
    slots: Box<[Slot]>,
}

/// A cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    row: AtomicU32,
    counts: [Counter; Count::ALL.len()],
}

impl Tallies {
    /// With so many slots. Rows without one are not counted.
    #[must_use]
    pub fn new(rows: u32) -> Self {
        Self { slots: (0..rows).map(|_| Slot::default()).collect() }
    }

    /// Counts one; by the owning worker only.
    #[inline]
    pub fn add(&self, place: Place, count: Count) {
        let Some(slot) = self.slot(place) else { return };
        if slot.row.load(Ordering::Relaxed) != place.row {
            slot.begin(place.row);
        }
        slot.counts[count as usize].add(1);
    }

    /// Asks for the memory that counting needs.
    #[inline]
    pub fn prefetch(&self, place: Place) {
        if let Some(slot) = self.slot(place) {
            prefetch(slot);
        }
    }

    /// What has been counted for a row. The latest owner of the slot, that is: of a row that is gone, nothing.
    #[must_use]
    pub fn read(&self, place: Place) -> Counts {
        match self.slot(place) {
            Some(slot) if slot.row.load(Ordering::Acquire) == place.row => {
                std::array::from_fn(|count| slot.counts[count].get())
            }
            _ => Counts::default(),
        }
    }

    fn slot(&self, place: Place) -> Option<&Slot> {
        self.slots.get(place.slot as usize)
    }
}

impl Slot {
    #[cold]
    fn begin(&self, row: u32) {
        self.counts.iter().for_each(|count| count.set(0));
        // Who sees the number sees no count from before.
        self.row.store(row, Ordering::Release);
    }
}

/// Gives rows their places. Lives with the writer on the control thread.
#[derive(Debug, Default)]
pub(super) struct Places {
    rows: u32,
    /// The longest free first.
    free: VecDeque<u32>,
    next: u32,
}

impl Places {
    /// A place for a new row.
    pub(super) fn take(&mut self) -> Place {
        self.rows = self.rows.checked_add(1).unwrap_or(1);
        let fresh = || {
            if self.next == ROWS {
                return u32::MAX;
            }
            self.next += 1;
            self.next - 1
        };
        Place { row: self.rows, slot: self.free.pop_front().unwrap_or_else(fresh) }
    }

    /// A row is gone.
    pub(super) fn give_back(&mut self, place: Place) {
        if place.slot < ROWS {
            self.free.push_back(place.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_slot_is_a_cache_line() {
        assert_eq!(size_of::<Slot>(), 64);
        assert!(Count::ALL.iter().enumerate().all(|(number, count)| *count as usize == number));
    }

    #[test]
    fn a_row_inherits_nothing_from_the_former_owner_of_its_slot() {
        let (mut places, tallies) = (Places::default(), [Tallies::new(4), Tallies::new(4)]);
        let old = places.take();
        tallies.iter().for_each(|worker| worker.add(old, Count::Connections));
        places.give_back(old);
        let new = places.take();
        assert_eq!((new.slot, new.row != old.row), (old.slot, true), "the slot is used again");
        assert_eq!(tallies[0].read(new), Counts::default());
        // One worker knows of the new row, the other does not yet.
        tallies[0].add(new, Count::OneWay);
        tallies[1].add(old, Count::Connections);
        assert_eq!(tallies[0].read(new), [0, 1, 0, 0, 0, 0]);
        assert_eq!(tallies[1].read(new), Counts::default());
        tallies[1].add(new, Count::SourceNotAllowed);
        assert_eq!(tallies[1].read(new), [0, 0, 0, 0, 0, 1]);
        assert_eq!(tallies[1].read(old), Counts::default());
    }

    #[test]
    fn rows_beyond_the_last_slot_are_not_counted_until_one_is_free() {
        let (mut places, tallies) = (Places::default(), Tallies::new(ROWS));
        let all: Vec<Place> = (0..ROWS + 5).map(|_| places.take()).collect();
        let slots: HashSet<u32> = all.iter().map(|place| place.slot).collect();
        assert_eq!(slots.len() as u32, ROWS + 1, "all but the last have slots of their own");
        let [first, .., last] = all[..] else { unreachable!("there are many") };
        tallies.add(last, Count::Connections);
        assert_eq!(tallies.read(last), Counts::default());
        places.give_back(last);
        places.give_back(first);
        let next = places.take();
        tallies.add(next, Count::Connections);
        assert_eq!((next.slot, tallies.read(next)[0]), (first.slot, 1));
        assert!(places.take().slot >= ROWS);
    }
}

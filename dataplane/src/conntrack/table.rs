//! A fixed-capacity hash table of entries: two-choice buckets of two slots, with displacement (cuckoo hashing).
//!
//! Invariants: memory is taken once; a lookup reads at most two buckets (one cache line each for IPv4), and nearly
//! always one; an insertion looks at no more than [`VISITED`] slots and either succeeds or changes nothing.

use std::hint::select_unpredictable;

use arrayvec::ArrayVec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::entry::Entry;
use super::key::Key;
use crate::hash::{HashKey, high32, low32, reduce};
use crate::prefetch::prefetch;

/// Entries of a bucket.
pub const SLOTS: usize = 2;
/// Slots looked at in search of a chain of moves.
const VISITED: usize = 64;
/// Parent of the slots a search begins with.
const ROOT: usize = usize::MAX;
/// Of a hundred slots, those used at full capacity: displacement then finds room within a few moves.
const FULL_PERCENT: usize = 60;

/// Slots that share a cache line (IPv4).
type Bucket<E> = [E; SLOTS];

/// A cache line of plain memory.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Where an entry is, until the table changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot(u32);

impl Slot {
    #[inline]
    fn new(bucket: usize, way: usize) -> Self {
        // `Table::new` refuses more slots than 32 bits can count.
        Self(low32((bucket * SLOTS + way) as u64))
    }

    #[inline]
    fn bucket(self) -> usize {
        self.0 as usize / SLOTS
    }

    #[inline]
    fn way(self) -> usize {
        self.0 as usize % SLOTS
    }
}

/// The table; `capacity` counts entries, two a connection.
#[derive(Debug)]
pub struct Table<E: Entry> {
    buckets: &'static mut [Bucket<E>],
    key: HashKey,
    len: usize,
    capacity: usize,
}

/// Zeroed, 64-byte aligned memory that is never given back: tables live as long as their worker, workers as long as
/// the process.
#[must_use]
pub fn plain_memory(bytes: usize) -> &'static mut [u8] {
    vec![Line([0; 64]); bytes.div_ceil(64)].leak().as_mut_bytes()
}

impl<E: Entry> Table<E> {
    /// Bytes of memory a table for this many entries needs.
    #[must_use]
    pub fn bytes(capacity: usize) -> usize {
        bucket_count(capacity) * size_of::<Bucket<E>>()
    }

    /// A table for this many entries in memory that is zeroed, 64-byte aligned and at least [`Table::bytes`] long.
    /// `None` when it is not.
    #[must_use]
    pub fn new(capacity: usize, key: HashKey, memory: &'static mut [u8]) -> Option<Self> {
        let memory = memory.get_mut(..Self::bytes(capacity))?;
        let buckets = <[Bucket<E>]>::mut_from_bytes(memory).ok()?;
        u32::try_from(buckets.len() * SLOTS).ok()?;
        Some(Self { buckets, key, len: 0, capacity })
    }

    /// Entries in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Number of buckets, for sweeps.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// Asks for what a lookup will read first.
    #[inline]
    pub fn prefetch_first(&self, hash: u64) {
        self.prefetch(self.first(hash));
    }

    /// Where a flow probably is, once its first bucket is at hand; its second is asked for if it is not there.
    ///
    /// Without a branch: which slot a flow has is beyond prediction, and a wrong guess costs more than all of this.
    #[inline]
    pub fn look_ahead(&self, hash: u64, key: &E::Key) -> Slot {
        let first = self.first(hash);
        let [a, b] = &self.buckets[first];
        let (in_a, in_b) = (a.matches(key), b.matches(key));
        let bucket = select_unpredictable(in_a | in_b, first, self.second(hash));
        self.prefetch(bucket);
        Slot::new(bucket, usize::from(in_b))
    }

    /// Asks for all a lookup may read.
    pub fn prefetch_both(&self, hash: u64) {
        self.prefetch(self.first(hash));
        self.prefetch(self.second(hash));
    }

    #[inline]
    fn prefetch(&self, bucket: usize) {
        let [a, b] = &self.buckets[bucket];
        prefetch(a);
        if size_of::<Bucket<E>>() > 64 {
            prefetch(b);
            prefetch(b.meta());
        }
    }

    /// Finds a flow.
    #[must_use]
    #[inline]
    pub fn find(&self, hash: u64, key: &E::Key) -> Option<Slot> {
        let found = self.find_in(self.first(hash), key);
        found.or_else(|| self.find_in(self.second(hash), key))
    }

    /// The entry of a slot.
    #[must_use]
    #[inline]
    pub fn get(&self, slot: Slot) -> &E {
        &self.buckets[slot.bucket()][slot.way()]
    }

    /// The entry of a slot, to change. Its tuple must stay.
    #[inline]
    pub fn get_mut(&mut self, slot: Slot) -> &mut E {
        &mut self.buckets[slot.bucket()][slot.way()]
    }

    /// Adds an entry that is not there yet. `None`, and no change, when no room was found.
    pub fn insert(&mut self, hash: u64, entry: E) -> Option<Slot> {
        if let Some(slot) = self.insert_simply(hash, entry) {
            return Some(slot);
        }
        let slot = self.displace(hash)?;
        *self.get_mut(slot) = entry;
        self.len += 1;
        Some(slot)
    }

    /// As [`Self::insert`], without moving another entry.
    #[inline]
    pub fn insert_simply(&mut self, hash: u64, entry: E) -> Option<Slot> {
        let found = self.free_slot(self.first(hash)).or_else(|| self.free_slot(self.second(hash)));
        let slot = found?;
        *self.get_mut(slot) = entry;
        self.len += 1;
        Some(slot)
    }

    /// Empties a slot.
    pub fn remove(&mut self, slot: Slot) {
        *self.get_mut(slot) = E::new_zeroed();
        self.len -= 1;
    }

    /// The used slots of a bucket.
    pub fn used(&self, bucket: usize) -> impl Iterator<Item = Slot> + use<E> {
        let slots = &self.buckets[bucket];
        let used: [bool; SLOTS] = std::array::from_fn(|way| slots[way].meta().is_occupied());
        (0..SLOTS).filter(move |&way| used[way]).map(move |way| Slot::new(bucket, way))
    }

    /// Makes room by moving entries to their other buckets: the shortest chain of moves, found before any is made.
    fn displace(&mut self, hash: u64) -> Option<Slot> {
        let mut visited: ArrayVec<(Slot, usize), VISITED> = ArrayVec::new();
        for bucket in [self.first(hash), self.second(hash)] {
            enqueue(&mut visited, bucket, ROOT);
        }
        let mut next = 0;
        while let Some(&(slot, _)) = visited.get(next) {
            let other = self.other_bucket(slot);
            if let Some(free) = self.free_slot(other) {
                return Some(self.shift(&visited, next, free));
            }
            enqueue(&mut visited, other, next);
            next += 1;
        }
        None
    }

    /// Moves the entry of `visited[last]` to `free`, that of its parent after it, and so on; returns the slot that is
    /// free in the end.
    fn shift(&mut self, visited: &[(Slot, usize)], last: usize, mut free: Slot) -> Slot {
        let mut step = last;
        while step != ROOT {
            let (from, parent) = visited[step];
            *self.get_mut(free) = *self.get(from);
            *self.get_mut(from) = E::new_zeroed();
            (free, step) = (from, parent);
        }
        free
    }

    fn other_bucket(&self, slot: Slot) -> usize {
        let hash = self.key.tuple(&self.get(slot).key().tuple());
        let (first, second) = (self.first(hash), self.second(hash));
        if first == slot.bucket() { second } else { first }
    }

    #[inline]
    fn find_in(&self, bucket: usize, key: &E::Key) -> Option<Slot> {
        let [a, b] = &self.buckets[bucket];
        let (in_a, in_b) = (a.matches(key), b.matches(key));
        (in_a | in_b).then_some(Slot::new(bucket, usize::from(in_b)))
    }

    fn free_slot(&self, bucket: usize) -> Option<Slot> {
        let slots = &self.buckets[bucket];
        let way = slots.iter().position(|entry| !entry.meta().is_occupied())?;
        Some(Slot::new(bucket, way))
    }

    #[inline]
    fn first(&self, hash: u64) -> usize {
        reduce(high32(hash), self.buckets.len())
    }

    #[inline]
    fn second(&self, hash: u64) -> usize {
        reduce(low32(hash), self.buckets.len())
    }
}

/// Adds the slots of a bucket to a breadth-first search, each once: a slot met twice would tear the chain.
fn enqueue(visited: &mut ArrayVec<(Slot, usize), VISITED>, bucket: usize, parent: usize) {
    for way in 0..SLOTS {
        let slot = Slot::new(bucket, way);
        if !visited.is_full() && visited.iter().all(|(known, _)| *known != slot) {
            visited.push((slot, parent));
        }
    }
}

fn bucket_count(capacity: usize) -> usize {
    (capacity * 100).div_ceil(FULL_PERCENT * SLOTS).max(4)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::entry::{EntryV4, EntryV6, Meta};
    use super::super::state::State;
    use super::*;
    use crate::flow::{Address, Protocol, Tuple};
    use crate::service::backends::BackendId;

    const KEY: HashKey = HashKey::new(3);

    fn tuple(number: u32, v4: bool) -> Tuple {
        let bytes = number.to_be_bytes();
        let src = if v4 {
            Address::v4(bytes)
        } else {
            Address::v6(std::array::from_fn(|i| bytes[i % 4]))
        };
        let dst = if v4 { Address::v4([10, 0, 0, 1]) } else { Address::v6([9; 16]) };
        Tuple { src, dst, sport: 7, dport: 80, protocol: Protocol::Tcp }
    }

    fn entry<E: Entry>(number: u32, v4: bool, backend: u32) -> E {
        let meta = Meta::new(Protocol::Tcp, false, State::Established, BackendId(backend), 0);
        E::new(&tuple(number, v4), &tuple(number, v4), meta)
    }

    fn plain<E: Entry>(capacity: usize) -> Table<E> {
        Table::new(capacity, KEY, plain_memory(Table::<E>::bytes(capacity))).expect("memory fits")
    }

    /// Random inserts and removes against a map, in a table small enough to be full at times.
    fn behaves_like_a_map<E: Entry>(ops: &[(bool, u32)], v4: bool) {
        let mut table = plain::<E>(20);
        let mut model = HashMap::new();
        for (i, &(insert, number)) in ops.iter().enumerate() {
            let hash = KEY.tuple(&tuple(number, v4));
            let found = table.find(hash, &Key::of(&tuple(number, v4)));
            assert_eq!(
                found.map(|slot| table.get(slot).meta().backend().0),
                model.get(&number).copied()
            );
            match found {
                Some(slot) if !insert => {
                    table.remove(slot);
                    model.remove(&number);
                }
                None if insert => {
                    if table.insert(hash, entry(number, v4, i as u32)).is_some() {
                        model.insert(number, i as u32);
                    } else {
                        // So few buckets can be unlucky; a real table is not, see below.
                        assert!(table.len() >= 4, "refused at {} of 20", table.len());
                    }
                }
                _ => {}
            }
            for (number, backend) in &model {
                let slot = table
                    .find(KEY.tuple(&tuple(*number, v4)), &Key::of(&tuple(*number, v4)))
                    .expect("never lost");
                assert_eq!(table.get(slot).meta().backend().0, *backend);
            }
            let used: usize = (0..table.buckets()).map(|bucket| table.used(bucket).count()).sum();
            assert_eq!((table.len(), used), (model.len(), model.len()));
        }
    }

    proptest! {
        #[test]
        fn equals_a_map(ops in prop::collection::vec((prop::bool::weighted(0.7), 0u32..40), 0..200), v4: bool) {
            if v4 {
                behaves_like_a_map::<EntryV4>(&ops, true);
            } else {
                behaves_like_a_map::<EntryV6>(&ops, false);
            }
        }
    }

    #[test]
    fn a_full_table_still_finds_room_for_its_capacity() {
        let mut table = plain::<EntryV4>(100_000);
        for number in 0..100_000 {
            let added = table.insert(KEY.tuple(&tuple(number, true)), entry(number, true, number));
            assert!(added.is_some(), "no room for entry {number} of 100000");
        }
    }

    #[test]
    fn given_memory_must_be_large_enough() {
        let bytes = plain_memory(Table::<EntryV4>::bytes(120));
        assert_eq!(bytes.len(), 64 * 100);
        let (small, rest) = bytes.split_at_mut(64 * 50);
        assert!(Table::<EntryV4>::new(120, KEY, small).is_none());
        assert!(Table::<EntryV4>::new(60, KEY, rest).is_some_and(|table| table.buckets() == 50));
    }
}

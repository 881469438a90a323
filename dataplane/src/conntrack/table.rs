//! A fixed-capacity hash table of entries: two-choice buckets of a cache line each, with displacement (cuckoo hashing).
//!
//! Invariants: memory is taken once; a lookup reads at most two buckets, and mostly one; an insertion looks at no more
//! than [`VISITED`] slots and either succeeds or changes nothing.

use std::hint::select_unpredictable;

use arrayvec::ArrayVec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::InsertError;
use super::entry::{Entry, Meta};
use super::key::Key;
use crate::hash::{HashKey, high32, low32, reduce};
use crate::prefetch::prefetch;

/// Entries of a bucket at most.
pub const SLOTS: usize = 2;
/// Slots looked at in search of a chain of moves. Buckets of one slot need so many: there the search has two branches
/// only, and each goes on with four steps of five at full capacity.
const VISITED: usize = 128;
/// Parent of the slots a search begins with.
const ROOT: usize = usize::MAX;
/// A cache line of plain memory.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Where an entry is, until the table changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

impl Slot {
    /// Where no entry is: `Table::new` refuses so many.
    pub const NONE: Self = Self(u32::MAX);

    #[inline]
    fn new<E: Entry>(bucket: usize, way: usize) -> Self {
        Self(low32((bucket * E::SLOTS + way) as u64))
    }

    #[inline]
    fn bucket<E: Entry>(self) -> usize {
        self.index() / E::SLOTS
    }

    #[inline]
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A slot in use that a search for room has come to.
#[derive(Clone, Copy)]
struct Visited {
    slot: Slot,
    /// Where else its entry may be.
    other: usize,
    /// Whose other bucket it is in, by place in the search.
    parent: usize,
}

/// The table; `capacity` counts entries, two a connection.
#[derive(Debug)]
pub struct Table<E: Entry> {
    buckets: &'static mut [E::Bucket],
    shared: E::Shared,
    key: HashKey,
    len: usize,
    capacity: usize,
    changes: u64,
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
        bucket_count::<E>(capacity) * size_of::<E::Bucket>()
    }

    /// A table for this many entries in memory that is zeroed, 64-byte aligned and at least [`Table::bytes`] long.
    /// `None` when it is not.
    #[must_use]
    pub fn new(capacity: usize, key: HashKey, memory: &'static mut [u8]) -> Option<Self> {
        let memory = memory.get_mut(..Self::bytes(capacity))?;
        let buckets = <[E::Bucket]>::mut_from_bytes(memory).ok()?;
        u32::try_from(buckets.len() * E::SLOTS).ok()?;
        Some(Self { buckets, shared: E::Shared::default(), key, len: 0, capacity, changes: 0 })
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

    /// Once a flow's first bucket is at hand: where in it the flow is; if it is not, its second bucket is asked for.
    ///
    /// Without a branch: which slot a flow has is beyond prediction, and a wrong guess costs more than all of this.
    #[inline]
    pub fn look_ahead(&self, hash: u64, key: &E::Key) -> Slot {
        let first = self.first(hash);
        let (found, way) = self.way_in(first, key);
        self.prefetch(select_unpredictable(found, first, self.second(hash)));
        select_unpredictable(found, Slot::new::<E>(first, way), Slot::NONE)
    }

    /// Asks for all a lookup may read.
    pub fn prefetch_both(&self, hash: u64) {
        self.prefetch(self.first(hash));
        self.prefetch(self.second(hash));
    }

    #[inline]
    fn prefetch(&self, bucket: usize) {
        prefetch(&self.buckets[bucket]);
    }

    /// Finds a flow.
    #[must_use]
    #[inline(always)]
    pub fn find(&self, hash: u64, key: &E::Key) -> Option<Slot> {
        let found = self.find_in(self.first(hash), key);
        found.or_else(|| self.find_in(self.second(hash), key))
    }

    /// The entry of a slot.
    #[must_use]
    #[inline]
    pub fn get(&self, slot: Slot) -> &E {
        &E::entries(self.buckets)[slot.index()]
    }

    /// What entries need of each other, to be read.
    #[must_use]
    #[inline]
    pub fn shared(&self) -> &E::Shared {
        &self.shared
    }

    /// The entry of a slot, to change. Its tuple must stay.
    #[inline]
    pub fn get_mut(&mut self, slot: Slot) -> &mut E {
        &mut E::entries_mut(self.buckets)[slot.index()]
    }

    /// The same, and what is needed to read it; nothing for [`Slot::NONE`].
    #[inline]
    pub fn get_mut_shared(&mut self, slot: Slot) -> Option<(&mut E, &E::Shared)> {
        Some((E::entries_mut(self.buckets).get_mut(slot.index())?, &self.shared))
    }

    /// Adds the entry of a flow that is not there yet. No change when there is no room for it.
    pub fn insert(
        &mut self,
        hash: u64,
        key: &E::Key,
        to: &E::Key,
        meta: Meta,
    ) -> Result<Slot, InsertError> {
        let entry = E::new(key, to, meta, &mut self.shared).ok_or(InsertError::Addresses)?;
        let found = self.free_slot_of(hash).or_else(|| self.displace(hash));
        self.put(found, entry).ok_or(InsertError::Full)
    }

    /// As [`Self::insert`], unless the flow is there already.
    #[inline]
    pub fn add(&mut self, hash: u64, key: &E::Key, to: &E::Key, meta: Meta) -> Option<Slot> {
        let (is_known, free) = self.vacancy(hash, key);
        if is_known {
            return None;
        }
        let entry = E::new(key, to, meta, &mut self.shared)?;
        let found = free.or_else(|| self.displace(hash));
        self.put(found, entry)
    }

    /// Whether a flow is there, and the first free slot of its two buckets. Without a branch but for a flow that is there
    /// or has no free slot: which slots are in use is beyond prediction.
    #[inline]
    fn vacancy(&self, hash: u64, key: &E::Key) -> (bool, Option<Slot>) {
        let (first, second) = (self.first(hash), self.second(hash));
        let (in_first, free_in_first) = self.survey(first, key);
        let (in_second, free_in_second) = self.survey(second, key);
        let free = free_in_first | free_in_second << E::SLOTS;
        let place = free.trailing_zeros() as usize;
        let bucket = select_unpredictable(place < E::SLOTS, first, second);
        (in_first | in_second, (free != 0).then(|| Slot::new::<E>(bucket, place % E::SLOTS)))
    }

    /// Whether a flow is in a bucket, and a bit for every free slot.
    #[inline]
    fn survey(&self, bucket: usize, key: &E::Key) -> (bool, u32) {
        let (mut is_there, mut free) = (false, 0);
        for (way, entry) in self.buckets[bucket].as_ref().iter().enumerate() {
            is_there |= entry.matches(key, &self.shared);
            free |= u32::from(!entry.meta().is_occupied()) << way;
        }
        (is_there, free)
    }

    /// Fills the slot that was found, if one was.
    #[inline]
    fn put(&mut self, found: Option<Slot>, entry: E) -> Option<Slot> {
        let Some(slot) = found else {
            entry.release(&mut self.shared);
            return None;
        };
        *self.get_mut(slot) = entry;
        self.len += 1;
        self.changes += 1;
        Some(slot)
    }

    /// Empties a slot that is in use.
    pub fn remove(&mut self, slot: Slot) {
        let entry = *self.get(slot);
        entry.release(&mut self.shared);
        *self.get_mut(slot) = E::new_zeroed();
        self.len -= 1;
        self.changes += 1;
    }

    /// The slots of a bucket.
    pub fn slots(bucket: usize) -> impl Iterator<Item = Slot> + use<E> {
        (0..E::SLOTS).map(move |way| Slot::new::<E>(bucket, way))
    }

    /// Asks for a bucket, if there is one of this number.
    #[inline]
    pub fn prefetch_bucket(&self, bucket: usize) {
        if bucket < self.buckets.len() {
            self.prefetch(bucket);
        }
    }

    /// How often entries have come, gone or moved: a [`Slot`] holds as long as this stays.
    #[must_use]
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The used slots of a bucket.
    pub fn used(&self, bucket: usize) -> impl Iterator<Item = Slot> + use<E> {
        let slots = self.buckets[bucket].as_ref();
        let used: [bool; SLOTS] = std::array::from_fn(|way| {
            slots.get(way).is_some_and(|entry| entry.meta().is_occupied())
        });
        (0..SLOTS).filter(move |&way| used[way]).map(move |way| Slot::new::<E>(bucket, way))
    }

    /// Makes room by moving entries to their other buckets: the shortest chain of moves, found before any is made.
    #[cold]
    #[inline(never)]
    fn displace(&mut self, hash: u64) -> Option<Slot> {
        let mut visited: ArrayVec<Visited, VISITED> = ArrayVec::new();
        for bucket in [self.first(hash), self.second(hash)] {
            self.enqueue(&mut visited, bucket, ROOT);
        }
        let mut next = 0;
        while let Some(&Visited { other, .. }) = visited.get(next) {
            if let Some(free) = self.free_slot(other) {
                return Some(self.shift(&visited, next, free));
            }
            self.enqueue(&mut visited, other, next);
            next += 1;
        }
        None
    }

    /// Adds the slots of a bucket to a breadth-first search, each once: a slot met twice would tear the chain. Asks for
    /// the buckets that the search will look at because of them.
    fn enqueue(&self, visited: &mut ArrayVec<Visited, VISITED>, bucket: usize, parent: usize) {
        for way in 0..E::SLOTS {
            let slot = Slot::new::<E>(bucket, way);
            if !visited.is_full() && visited.iter().all(|known| known.slot != slot) {
                let other = self.other_bucket(slot);
                self.prefetch(other);
                visited.push(Visited { slot, other, parent });
            }
        }
    }

    /// Moves the entry of `visited[last]` to its other bucket, where a slot is free, that of its parent after it, and so
    /// on; returns the slot that is free in the end.
    fn shift(&mut self, visited: &[Visited], last: usize, mut free: Slot) -> Slot {
        let mut step = last;
        while step != ROOT {
            let Visited { slot: from, parent, .. } = visited[step];
            *self.get_mut(free) = *self.get(from);
            *self.get_mut(from) = E::new_zeroed();
            (free, step) = (from, parent);
        }
        free
    }

    fn other_bucket(&self, slot: Slot) -> usize {
        let hash = self.key.tuple(&self.get(slot).key(&self.shared).tuple());
        let (first, second) = (self.first(hash), self.second(hash));
        if first == slot.bucket::<E>() { second } else { first }
    }

    #[inline]
    fn find_in(&self, bucket: usize, key: &E::Key) -> Option<Slot> {
        let (found, way) = self.way_in(bucket, key);
        found.then_some(Slot::new::<E>(bucket, way))
    }

    /// Whether a flow is in a bucket, and where; 0 if it is not. Without a branch.
    #[inline]
    fn way_in(&self, bucket: usize, key: &E::Key) -> (bool, usize) {
        let (mut found, mut way) = (false, 0);
        for (number, entry) in self.buckets[bucket].as_ref().iter().enumerate() {
            let matches = entry.matches(key, &self.shared);
            found |= matches;
            way += usize::from(matches) * number;
        }
        (found, way)
    }

    /// A free slot in one of the two buckets of a flow.
    #[inline]
    fn free_slot_of(&self, hash: u64) -> Option<Slot> {
        self.free_slot(self.first(hash)).or_else(|| self.free_slot(self.second(hash)))
    }

    fn free_slot(&self, bucket: usize) -> Option<Slot> {
        let slots = self.buckets[bucket].as_ref();
        let way = slots.iter().position(|entry| !entry.meta().is_occupied())?;
        Some(Slot::new::<E>(bucket, way))
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

fn bucket_count<E: Entry>(capacity: usize) -> usize {
    (capacity * 100).div_ceil(E::FULL_PERCENT * E::SLOTS) + E::SPARE_BUCKETS
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::entry::{EntryV4, EntryV6};
    use super::super::lent;
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

    fn add<E: Entry>(
        table: &mut Table<E>,
        number: u32,
        v4: bool,
        backend: u32,
    ) -> Result<Slot, InsertError> {
        let meta = Meta::new(Protocol::Tcp, false, State::Established, BackendId(backend), 0);
        let tuple = tuple(number, v4);
        let key = Key::of(&tuple);
        table.insert(table.key.tuple(&tuple), &key, &key, meta)
    }

    fn plain<E: Entry>(capacity: usize) -> Table<E> {
        plain_with(capacity, KEY)
    }

    fn plain_with<E: Entry>(capacity: usize, key: HashKey) -> Table<E> {
        Table::new(capacity, key, plain_memory(Table::<E>::bytes(capacity))).expect("memory fits")
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
                    if add(&mut table, number, v4, i as u32).is_ok() {
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

    /// Fills a table, and then goes on at full capacity: one goes, another one comes.
    fn finds_room<E: Entry>(capacity: u32, v4: bool, seed: u64) {
        let mut table = plain_with::<E>(capacity as usize, HashKey::new(seed));
        for number in 0..capacity * 2 {
            if let Some(oldest) = number.checked_sub(capacity) {
                let oldest = tuple(oldest, v4);
                let found = table.find(table.key.tuple(&oldest), &Key::of(&oldest));
                table.remove(found.expect("it was added"));
            }
            let added = add(&mut table, number, v4, number);
            assert!(added.is_ok(), "seed {seed}: no room for {number} in {capacity}");
        }
    }

    #[test]
    fn a_full_table_still_finds_room_for_its_capacity() {
        for seed in 0..4 {
            finds_room::<EntryV4>(100_000, true, seed);
            finds_room::<EntryV6>(100_000, false, seed);
            finds_room::<EntryV6>(20_000, false, seed);
        }
    }

    #[test]
    fn what_finds_no_room_holds_no_lent_address() {
        let mut table = plain::<EntryV6>(100);
        let meta = Meta::new(Protocol::Tcp, false, State::Established, BackendId(0), 0);
        let add = |table: &mut Table<EntryV6>, number: u32| {
            let from = tuple(number, false);
            let to = Tuple { src: Address::v6([number as u8 + 100; 16]), ..from };
            table.insert(KEY.tuple(&from), &Key::of(&from), &Key::of(&to), meta)
        };
        let numbers = lent::ADDRESSES as u32;
        let slots: Vec<_> = (0..numbers).map(|number| add(&mut table, number)).collect();
        assert!(slots.iter().all(Result::is_ok));
        assert_eq!(add(&mut table, numbers), Err(InsertError::Addresses));
        assert_eq!(table.len(), lent::ADDRESSES);
        table.remove(slots[5].expect("added"));
        // The first to come takes the number over; whatever is found still has its own address.
        add(&mut table, numbers).expect("a number is free");
        for number in (0..=numbers).filter(|&number| number != 5) {
            let from = tuple(number, false);
            let slot = table.find(KEY.tuple(&from), &Key::of(&from)).expect("never lost");
            let to = table.get(slot).translated(table.shared()).tuple();
            assert_eq!(to.src, Address::v6([number as u8 + 100; 16]));
        }
    }

    #[test]
    fn given_memory_must_be_large_enough() {
        let bytes = plain_memory(Table::<EntryV4>::bytes(120));
        assert_eq!(bytes.len(), 64 * (100 + EntryV4::SPARE_BUCKETS));
        let (small, rest) = bytes.split_at_mut(64 * 50);
        assert!(Table::<EntryV4>::new(120, KEY, small).is_none());
        let buckets = Table::<EntryV4>::new(60, KEY, rest).map(|table| table.buckets());
        assert_eq!(buckets, Some(50 + EntryV4::SPARE_BUCKETS));
    }
}

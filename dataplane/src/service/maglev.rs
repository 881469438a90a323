//! Maglev lookup tables (Eisenbud et al., NSDI 2016, section 3.4).
//!
//! Every backend fills the table in an order that depends on nothing but itself and the fleet's key, so all gateways
//! build the same table from the same backends, and losing one backend moves few of the others' flows. The table's
//! size follows the number of backends in steps of four, to keep tables small; crossing a step moves flows that no
//! connection entry holds.

use std::net::SocketAddr;

use crate::flow::{Address, Protocol};
use crate::hash::{HashKey, high32, low32, reduce};
use crate::prefetch::prefetch;

/// Table sizes: primes, each good for up to a hundredth of it of backends at about 1 % imbalance.
const SIZES: [usize; 6] = [251, 1021, 4093, 16_381, 65_521, 262_139];

/// Index into the list of backends for every slot.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Maglev {
    slots: Box<[u16]>,
}

impl Maglev {
    /// Builds the table of `backends`, at most 65,536 of them. Their order only gives the indices their meaning.
    #[must_use]
    pub fn new(backends: &[SocketAddr], protocol: Protocol, key: &HashKey) -> Self {
        let backends = &backends[..backends.len().min(1 << 16)];
        if backends.len() < 2 {
            return Self { slots: vec![0; backends.len()].into() };
        }
        let size = size_for(backends.len());
        let mut orders: Vec<Permutation> =
            backends.iter().map(|backend| Permutation::new(backend, protocol, key, size)).collect();
        let mut slots = vec![0; size].into_boxed_slice();
        let mut taken = Taken::new(size);
        // Everybody in turn takes the first free slot of its order, until none is left.
        let turns = (0..orders.len()).cycle().take(size);
        for index in turns {
            let slot = orders[index].take_first(&mut taken);
            slots[slot] = u16::try_from(index).unwrap_or_default();
        }
        Self { slots }
    }

    /// The backend's index for a flow hash; `None` when there are no backends.
    #[must_use]
    #[inline]
    pub fn choose(&self, hash: u64) -> Option<usize> {
        self.slot(hash).map(|&index| usize::from(index))
    }

    /// Asks for what [`Self::choose`] reads.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Some(slot) = self.slot(hash) {
            prefetch(slot);
        }
    }

    #[inline]
    fn slot(&self, hash: u64) -> Option<&u16> {
        self.slots.get(reduce(high32(hash), self.slots.len()))
    }
}

fn size_for(backends: usize) -> usize {
    let wanted = backends * 40;
    SIZES.into_iter().find(|&size| size >= wanted).unwrap_or(SIZES[SIZES.len() - 1])
}

/// A backend's order of preference over the slots.
struct Permutation {
    next: usize,
    skip: usize,
    size: usize,
}

impl Permutation {
    fn new(backend: &SocketAddr, protocol: Protocol, key: &HashKey, size: usize) -> Self {
        let hash = key.end(Address::from(backend.ip()), backend.port(), protocol);
        let (next, skip) = (reduce(high32(hash), size), 1 + reduce(low32(hash), size - 1));
        Self { next, skip, size }
    }

    /// Takes the next slot that is free. There must be one: the size is prime, so that every order visits every slot.
    fn take_first(&mut self, taken: &mut Taken) -> usize {
        loop {
            let slot = self.next;
            // Both are below the size. A remainder would cost several times more than all the rest.
            let next = slot + self.skip;
            self.next = if next < self.size { next } else { next - self.size };
            if taken.take(slot) {
                return slot;
            }
        }
    }
}

/// One bit a slot: the last free slots are found after many looks, and bits stay in the nearest cache.
struct Taken(Vec<u64>);

impl Taken {
    fn new(slots: usize) -> Self {
        Self(vec![0; slots.div_ceil(64)])
    }

    /// Whether the slot was free until now.
    fn take(&mut self, slot: usize) -> bool {
        let (word, bit) = (&mut self.0[slot / 64], 1 << (slot % 64));
        let free = *word & bit == 0;
        *word |= bit;
        free
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: HashKey = HashKey::new(1);

    fn backends(count: u16) -> Vec<SocketAddr> {
        (0..count).map(|i| SocketAddr::from(([10, 0, (i >> 8) as u8, i as u8], 80))).collect()
    }

    fn owners(list: &[SocketAddr]) -> Vec<SocketAddr> {
        let table = Maglev::new(list, Protocol::Tcp, &KEY);
        (0..20_000u64)
            .map(|i| list[table.choose(KEY.pair(i, 1)).expect("the list is not empty")])
            .collect()
    }

    #[test]
    fn no_backends_no_choice() {
        assert_eq!(Maglev::new(&[], Protocol::Tcp, &KEY).choose(7), None);
    }

    #[test]
    fn shares_are_even() {
        for count in [2, 3, 25, 100] {
            let list = backends(count);
            let chosen = owners(&list);
            let fair = chosen.len() / list.len();
            for backend in &list {
                let got = chosen.iter().filter(|&owner| owner == backend).count();
                let bound = 3 * (fair as f64).sqrt() as usize + fair / 8;
                assert!(got.abs_diff(fair) <= bound, "{backend} of {count}: {got}, fair {fair}");
            }
        }
    }

    /// As the paper says it, without any shortcut.
    fn by_the_book(list: &[SocketAddr]) -> Vec<u16> {
        let size = size_for(list.len());
        let mut orders: Vec<_> = list
            .iter()
            .map(|backend| Permutation::new(backend, Protocol::Tcp, &KEY, size))
            .map(|order| (0..size).map(move |j| (order.next + j * order.skip) % size))
            .collect();
        let mut slots = vec![None; size];
        let mut turn = (0..list.len()).cycle();
        while slots.contains(&None) {
            let index = turn.next().expect("somebody's turn");
            let slot = orders[index].find(|slot| slots[*slot].is_none());
            slots[slot.expect("a free one")] = u16::try_from(index).ok();
        }
        slots.into_iter().flatten().collect()
    }

    #[test]
    fn tables_are_as_the_paper_says() {
        for count in [2, 3, 6, 7, 25, 26, 102] {
            let list = backends(count);
            let table = Maglev::new(&list, Protocol::Tcp, &KEY);
            assert_eq!(*table.slots, *by_the_book(&list), "{count} backends");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn removing_one_backend_moves_few_others(count in 3u16..60, gone in any::<prop::sample::Index>()) {
            let before = backends(count);
            let mut after = before.clone();
            let removed = after.remove(gone.index(after.len()));
            prop_assume!(size_for(before.len()) == size_for(after.len()));
            let pairs: Vec<_> = owners(&before).into_iter().zip(owners(&after)).collect();
            let moved = pairs.iter().filter(|(old, new)| old != new && *old != removed).count();
            // Maglev's own bound is statistical; 6 % of flows is far outside of it for these table sizes.
            prop_assert!(moved * 100 <= pairs.len() * 6, "{} of {} moved", moved, pairs.len());
        }

        #[test]
        fn order_does_not_matter(count in 2u16..40, turn in any::<prop::sample::Index>()) {
            let list = backends(count);
            let mut turned = list.clone();
            turned.rotate_left(turn.index(list.len()));
            let same = owners(&list).iter().zip(owners(&turned)).filter(|(a, b)| **a == *b).count();
            // Ties are broken by list order; callers sort (EPS-10), so this only bounds the effect.
            prop_assert!(same * 100 >= 90 * 20_000, "{same} of 20000 agree");
        }
    }
}

//! The quick way to add a connection, for bursts of new ones: first all say what they will touch, then each is added.
//!
//! Invariant: [`Conntrack::open`] does what [`Conntrack::insert`] would, or nothing. Whatever is not simple (a flow that
//! is there already, a clash, a full table) is left to it.

use super::entry::{Entry, EntryV4, EntryV6};
use super::key::{Key, KeyV4, KeyV6};
use super::table::Table;
use super::{Class, Conntrack, Meta, State};
use crate::service::backends::BackendId;

/// A connection that is about to be added.
#[derive(Clone, Copy, Debug)]
pub struct Opening<K> {
    /// What the flow from the client becomes toward the backend.
    pub to: K,
    /// The hash of the answers to that.
    pub reply_hash: u64,
    backend: BackendId,
    state: State,
}

/// A flow of the family that one of the two tables is for.
pub trait Tabled: Key {
    /// What the table keeps.
    type Entry: Entry<Key = Self>;
    /// The table.
    fn table(conntrack: &Conntrack) -> &Table<Self::Entry>;
    /// The same, to change.
    fn table_mut(conntrack: &mut Conntrack) -> &mut Table<Self::Entry>;
}

impl Tabled for KeyV4 {
    type Entry = EntryV4;

    #[inline]
    fn table(conntrack: &Conntrack) -> &Table<EntryV4> {
        &conntrack.v4
    }

    #[inline]
    fn table_mut(conntrack: &mut Conntrack) -> &mut Table<EntryV4> {
        &mut conntrack.v4
    }
}

impl Tabled for KeyV6 {
    type Entry = EntryV6;

    #[inline]
    fn table(conntrack: &Conntrack) -> &Table<EntryV6> {
        &conntrack.v6
    }

    #[inline]
    fn table_mut(conntrack: &mut Conntrack) -> &mut Table<EntryV6> {
        &mut conntrack.v6
    }
}

impl Conntrack {
    /// A connection of a flow that becomes `to`. Asks for the memory that adding it needs, but for the flow's own places:
    /// who has looked for it in vain has asked for those.
    #[inline]
    pub fn foresee<K: Tabled>(&self, to: K, state: State, backend: BackendId) -> Opening<K> {
        let reply_hash = to.reversed().hash(&self.key);
        K::table(self).prefetch_both(reply_hash);
        Opening { to, reply_hash, backend, state }
    }

    /// Adds the connection of the flow `key`, whose hash is `hash`, in the current burst. `false`, and no change, when
    /// that is not simple.
    #[inline]
    pub fn open<K: Tabled>(&mut self, key: &K, hash: u64, opening: &Opening<K>) -> bool {
        let Opening { to, reply_hash, backend, state } = opening;
        let half_open = state.class() == Class::HalfOpen;
        if half_open && self.half_open >= self.half_open_limit {
            return false;
        }
        let deadline = self.burst.deadlines[*state as usize];
        let meta = |is_reply| Meta::new(key.protocol(), is_reply, *state, *backend, deadline);
        let table = K::table_mut(self);
        if table.len() + 2 > table.capacity() {
            return false;
        }
        let reply = table.add(*reply_hash, &to.reversed(), &key.reversed(), meta(true));
        let Some(reply) = reply else { return false };
        // Only now: both may want the same slot.
        if table.add(hash, key, to, meta(false)).is_none() {
            table.remove(reply);
            return false;
        }
        self.events.created += 1;
        self.half_open += usize::from(half_open);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::ConntrackConfig;
    use super::*;
    use crate::clock::Moment;
    use crate::flow::{Address, Protocol, Tuple};
    use crate::hash::HashKey;

    const NOW: Moment = Moment(5_000);
    const CONNECTIONS: usize = 3_000;

    fn conntrack() -> Conntrack {
        let config = ConntrackConfig {
            connections_v4: CONNECTIONS,
            connections_v6: CONNECTIONS,
            ..ConntrackConfig::default()
        };
        let memory = config.plain_memory();
        let mut conntrack = Conntrack::new(&config, HashKey::new(9), memory).expect("it fits");
        conntrack.begin_burst(NOW);
        conntrack
    }

    fn address(v4: bool, number: u16) -> Address {
        let [high, low] = number.to_be_bytes();
        if v4 { Address::v4([10, 0, high, low]) } else { Address(0xfd << 120 | u128::from(number)) }
    }

    /// Fills a table to the last connection, for which many entries have to move: each is opened the quick way in one
    /// table, and inserted into another.
    fn fills_as_insertion_does<K: Tabled>(v4: bool) {
        let (mut quick, mut slow) = (conntrack(), conntrack());
        let mut quickly = 0;
        let flows: Vec<(Tuple, Tuple)> = (0..CONNECTIONS)
            .map(|number| {
                let number = u16::try_from(number).expect("few");
                let (src, dst) = (address(v4, number), address(v4, 60_000));
                let from = Tuple { src, dst, sport: 9, dport: 80, protocol: Protocol::Tcp };
                (from, Tuple { dst: address(v4, 60_001 + number % 7), dport: 8080, ..from })
            })
            .collect();
        for (number, (from, to)) in (0..).zip(&flows) {
            // Not half-open, of which a table takes fewer.
            let (state, backend) = (State::Established, BackendId(number));
            let opening = quick.foresee(K::of(to), state, backend);
            let opened = quick.open(&K::of(from), quick.hash(from), &opening);
            quickly += usize::from(opened);
            let inserted = slow.insert(from, to, state, backend, NOW).is_ok();
            let added = opened || quick.insert(from, to, state, backend, NOW).is_ok();
            assert_eq!((added, quick.len()), (inserted, slow.len()), "connection {number}");
            assert!(!quick.open(&K::of(from), quick.hash(from), &opening), "a flow twice");
        }
        assert!(quickly * 100 >= CONNECTIONS * 99, "{quickly} of {CONNECTIONS} the quick way");
        for tuple in flows.iter().flat_map(|(from, to)| [*from, to.reversed()]) {
            let [quick, slow] = [&mut quick, &mut slow].map(|conntrack| {
                let hit = conntrack.find(&tuple, conntrack.hash(&tuple), NOW);
                hit.map(|hit| (hit.to, hit.reply, hit.state, hit.backend))
            });
            assert_eq!(quick, slow);
        }
        let counts = |conntrack: &Conntrack| (conntrack.events.created, conntrack.half_open());
        assert_eq!(counts(&quick), counts(&slow));
    }

    #[test]
    fn opening_fills_a_table_as_insertion_does() {
        fills_as_insertion_does::<KeyV4>(true);
        fills_as_insertion_does::<KeyV6>(false);
    }
}

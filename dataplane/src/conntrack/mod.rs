//! The connection table of one worker.
//!
//! Invariants:
//! - A connection is two entries, one a direction, added and removed together. Each rewrites its packets alone.
//! - No two connections translate to one tuple (I2): the reply direction's key is the translated tuple reversed.
//! - Full is a normal state: the half-open go first, then the closing, then what can be found again (answered UDP,
//!   half-closed TCP), never open TCP.
//! - Nothing is allocated after the start, and each call touches a bounded number of slots (I7).
//!
//! The clock has 16 bits of seconds. A deadline is at most [`Timeouts::MAX`] ahead and the sweep passes every entry
//! well within the rest, so "ahead by more than the maximum" always means "past".

pub mod entry;
pub mod key;
pub mod lent;
mod open;
pub mod state;
mod sweep;
pub mod table;

use std::cmp::Reverse;

use arrayvec::ArrayVec;

use crate::clock::Moment;
use crate::flow::{Protocol, Tuple};
use crate::hash::HashKey;
use crate::service::backends::BackendId;
use entry::{Entry, EntryV4, EntryV6, Meta};
use key::{Key, KeyV4, KeyV6};
pub use open::{Opening, Tabled};
use state::{Class, State, Timeouts};
use sweep::Sweep;
use table::{Slot, Table};

/// Slots looked at for something to evict.
const EVICT_SLOTS: usize = 128;
/// Candidates among which the oldest is evicted.
const EVICT_CANDIDATES: usize = 8;

/// Sizes and times of a worker's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConntrackConfig {
    /// IPv4 connections.
    pub connections_v4: usize,
    /// IPv6 connections.
    pub connections_v6: usize,
    /// Idle times.
    pub timeouts: Timeouts,
}

impl Default for ConntrackConfig {
    fn default() -> Self {
        Self { connections_v4: 1_000_000, connections_v6: 250_000, timeouts: Timeouts::default() }
    }
}

/// Zeroed, 64-byte aligned memory for the tables; see [`ConntrackConfig::bytes`].
#[derive(Debug)]
pub struct Memory {
    /// For IPv4.
    pub v4: &'static mut [u8],
    /// For IPv6.
    pub v6: &'static mut [u8],
}

impl ConntrackConfig {
    /// Plain memory for a worker's tables.
    #[must_use]
    pub fn plain_memory(&self) -> Memory {
        let (v4, v6) = self.bytes();
        Memory { v4: table::plain_memory(v4), v6: table::plain_memory(v6) }
    }

    /// Bytes of memory the IPv4 and the IPv6 table need.
    #[must_use]
    pub fn bytes(&self) -> (usize, usize) {
        (
            Table::<EntryV4>::bytes(self.connections_v4 * 2),
            Table::<EntryV6>::bytes(self.connections_v6 * 2),
        )
    }
}

/// The connections of one worker.
#[derive(Debug)]
pub struct Conntrack {
    v4: Table<EntryV4>,
    v6: Table<EntryV6>,
    key: HashKey,
    seconds: [u16; State::ALL.len()],
    burst: BurstClock,
    half_open: usize,
    half_open_limit: usize,
    swept_v4: Sweep,
    swept_v6: Sweep,
    /// Where the search for something to evict goes on.
    evicted: usize,
    /// What happened since the counters were last read.
    pub events: Events,
}

/// The time of a burst, as ordinary packets need it: nothing is computed per packet.
#[derive(Clone, Copy, Debug, Default)]
struct BurstClock {
    now: u16,
    /// By number of the state: what a packet of this second sets.
    deadlines: [u16; entry::STATE_NUMBERS],
}

/// Things to count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Events {
    /// Connections made.
    pub created: u64,
    /// Connections ended by time.
    pub expired: u64,
    /// Half-open connections evicted.
    pub evicted_half_open: u64,
    /// Closing connections evicted.
    pub evicted_closing: u64,
    /// Answered UDP flows and half-closed connections evicted.
    pub evicted_answered: u64,
}

/// An entry that a packet matched.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// What the packet becomes.
    pub to: Tuple,
    /// Whether it comes from the backend.
    pub reply: bool,
    /// The connection's state.
    pub state: State,
    /// The backend it was given.
    pub backend: BackendId,
    tuple: Tuple,
    slot: Slot,
}

/// An ordinary packet's way to its entry.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<K> {
    /// The packet's flow.
    pub key: K,
    /// Its hash.
    pub hash: u64,
    seen: Slot,
}

impl<K> Lookup<K> {
    /// Nothing found yet.
    #[inline]
    pub fn new(key: K, hash: u64) -> Self {
        Self { key, hash, seen: Slot::NONE }
    }

    /// The table has changed: whatever was found may be elsewhere.
    #[inline]
    pub fn forget(&mut self) {
        self.seen = Slot::NONE;
    }

    /// Whether the look ahead has found it, where most are.
    #[must_use]
    #[inline]
    pub fn is_found(&self) -> bool {
        self.seen != Slot::NONE
    }
}

/// What the table says of an ordinary packet.
#[derive(Clone, Copy, Debug)]
pub enum Pass<K> {
    /// It becomes this.
    To(K),
    /// Its flow is not known. Nothing has changed.
    Unknown,
    /// It moves the state, or the connection is past its time or without backend: [`Conntrack::find`] says more.
    /// Nothing has changed.
    Refer,
}

/// Why a connection was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// Replies would be mistaken for another connection's.
    Clash,
    /// No room, and nothing that may be evicted.
    Full,
    /// More addresses would be lent to IPv6 clients than can be named; see [`lent`].
    Addresses,
}

impl Conntrack {
    /// An empty table; `key` is secret. `None` when the memory is too small or not aligned.
    #[must_use]
    pub fn new(config: &ConntrackConfig, key: HashKey, memory: Memory) -> Option<Self> {
        let v4 = Table::new(config.connections_v4 * 2, key, memory.v4)?;
        let v6 = Table::new(config.connections_v6 * 2, key, memory.v6)?;
        let connections = config.connections_v4 + config.connections_v6;
        Some(Self {
            v4,
            v6,
            key,
            seconds: State::ALL.map(|state| config.timeouts.secs(state)),
            burst: BurstClock::default(),
            half_open: 0,
            // Floods may take half of the room, so that legitimate openings always find some.
            half_open_limit: (connections / 2).max(1),
            swept_v4: Sweep::default(),
            swept_v6: Sweep::default(),
            evicted: 0,
            events: Events::default(),
        })
    }

    /// Connections now.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.v4.len() + self.v6.len()) / 2
    }

    /// Whether there is no connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Half-open connections now.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.half_open
    }

    /// Connections there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        (self.v4.capacity() + self.v6.capacity()) / 2
    }

    /// The hash under which [`Self::find`] wants a flow.
    #[must_use]
    #[inline]
    pub fn hash(&self, tuple: &Tuple) -> u64 {
        self.key.tuple(tuple)
    }

    /// The same for an ordinary IPv4 packet.
    #[must_use]
    #[inline]
    pub fn hash_v4(&self, key: &KeyV4) -> u64 {
        self.key.v4(key)
    }

    /// The same for an ordinary IPv6 packet.
    #[must_use]
    #[inline]
    pub fn hash_v6(&self, key: &KeyV6) -> u64 {
        self.key.v6(key)
    }

    /// Sets the time for [`Self::pass_v4`] and [`Self::pass_v6`].
    #[inline]
    pub fn begin_burst(&mut self, now: Moment) {
        let now = clock(now);
        if now != self.burst.now {
            // One more than the limit: the current second has already begun.
            self.burst.now = now;
            for (deadline, seconds) in self.burst.deadlines.iter_mut().zip(&self.seconds) {
                *deadline = now.wrapping_add(*seconds).wrapping_add(1);
            }
        }
    }

    /// Asks for the lines that lookups of an IPv4 flow read first.
    #[inline]
    pub fn prefetch_v4(&self, hash: u64) {
        self.v4.prefetch_first(hash);
    }

    /// Asks for the lines that lookups of an IPv6 flow read first.
    #[inline]
    pub fn prefetch_v6(&self, hash: u64) {
        self.v6.prefetch_first(hash);
    }

    /// Asks for everything that finding or inserting a flow reads.
    pub fn prefetch(&self, tuple: &Tuple) {
        let hash = self.key.tuple(tuple);
        if tuple.src.is_v4() {
            self.v4.prefetch_both(hash);
        } else {
            self.v6.prefetch_both(hash);
        }
    }

    /// What looking ahead has found holds as long as this stays; then [`Lookup::forget`] it.
    #[must_use]
    #[inline]
    pub fn changes(&self) -> u64 {
        self.v4.changes() + self.v6.changes()
    }

    /// Once what was asked for has come: finds an IPv4 flow where most are, or asks for more.
    #[inline]
    pub fn look_ahead_v4(&self, lookup: &mut Lookup<KeyV4>) {
        lookup.seen = self.v4.look_ahead(lookup.hash, &lookup.key);
    }

    /// As [`Self::look_ahead_v4`].
    #[inline]
    pub fn look_ahead_v6(&self, lookup: &mut Lookup<KeyV6>) {
        lookup.seen = self.v6.look_ahead(lookup.hash, &lookup.key);
    }

    /// An ordinary packet: refreshes its connection and says what the packet becomes, if it changes nothing else.
    /// `plain` says that the packet has no SYN, FIN or RST; `serves` tells whether a backend still does.
    #[inline(always)]
    pub fn pass_v4(
        &mut self,
        lookup: &Lookup<KeyV4>,
        plain: bool,
        serves: impl FnOnce(BackendId) -> bool,
    ) -> Pass<KeyV4> {
        let serves = serves_flow(lookup.key.protocol, serves);
        pass(&mut self.v4, &self.burst, lookup, plain, serves)
    }

    /// As [`Self::pass_v4`].
    #[inline(always)]
    pub fn pass_v6(
        &mut self,
        lookup: &Lookup<KeyV6>,
        plain: bool,
        serves: impl FnOnce(BackendId) -> bool,
    ) -> Pass<KeyV6> {
        let serves = serves_flow(lookup.key.protocol, serves);
        pass(&mut self.v6, &self.burst, lookup, plain, serves)
    }

    /// The connection a flow belongs to. One past its deadline is removed and not found.
    #[inline]
    pub fn find(&mut self, tuple: &Tuple, hash: u64, now: Moment) -> Option<Hit> {
        let (meta, to, slot) = if tuple.src.is_v4() {
            look(&self.v4, tuple, hash)?
        } else {
            look(&self.v6, tuple, hash)?
        };
        let hit = hit(tuple, &to, meta, slot);
        if is_past(meta.deadline, clock(now)) && self.expire(&hit, now) {
            return None;
        }
        Some(hit)
    }

    /// A packet of the connection passed: refreshes it.
    #[inline]
    pub fn touch(&mut self, hit: &Hit, now: Moment) {
        let deadline = self.deadline(hit.state, now);
        self.meta_mut(hit).deadline = deadline;
    }

    /// A packet of the connection passed and changed its state: both directions carry the new one.
    pub fn advance(&mut self, hit: &mut Hit, state: State, now: Moment) {
        self.recount(hit.state, state);
        hit.state = state;
        let deadline = self.deadline(state, now);
        let pair = self.pair(hit);
        for hit in [Some(*hit), pair].into_iter().flatten() {
            let meta = self.meta_mut(&hit);
            meta.set_state(state);
            meta.deadline = deadline;
        }
    }

    /// Adds a connection: `tuple` from the client becomes `to` toward the backend, and the reverse.
    pub fn insert(
        &mut self,
        tuple: &Tuple,
        to: &Tuple,
        state: State,
        backend: BackendId,
        now: Moment,
    ) -> Result<Hit, InsertError> {
        let reply = to.reversed();
        let (hash, reply_hash) = (self.key.tuple(tuple), self.key.tuple(&reply));
        if self.find(&reply, reply_hash, now).is_some() || self.find(tuple, hash, now).is_some() {
            return Err(InsertError::Clash);
        }
        self.make_room(tuple.src.is_v4(), state, now)?;
        let deadline = self.deadline(state, now);
        let meta = |is_reply| Meta::new(tuple.protocol, is_reply, state, backend, deadline);
        self.place(&reply, reply_hash, &tuple.reversed(), meta(true))?;
        // The client's entry comes last: placing one may move others, and its place is what is returned.
        let slot = match self.place(tuple, hash, to, meta(false)) {
            Ok(slot) => slot,
            Err(error) => {
                self.remove_one(&reply);
                return Err(error);
            }
        };
        self.events.created += 1;
        self.half_open += usize::from(state.class() == Class::HalfOpen);
        Ok(hit(tuple, to, meta(false), slot))
    }

    /// Removes a connection.
    pub fn remove(&mut self, hit: &Hit) {
        self.half_open -= usize::from(hit.state.class() == Class::HalfOpen);
        self.remove_one(&hit.to.reversed());
        self.remove_one(&hit.tuple);
    }

    /// Ends a connection whose one direction is past its deadline, unless the other keeps it alive.
    fn expire(&mut self, hit: &Hit, now: Moment) -> bool {
        if let Some(pair) = self.pair(hit) {
            let deadline = self.meta_mut(&pair).deadline;
            if !is_past(deadline, clock(now)) {
                self.meta_mut(hit).deadline = deadline;
                return false;
            }
        }
        self.remove(hit);
        self.events.expired += 1;
        true
    }

    /// Makes sure that one more connection fits, by evicting one if need be.
    fn make_room(&mut self, v4: bool, state: State, now: Moment) -> Result<(), InsertError> {
        let full = if v4 {
            self.v4.len() + 2 > self.v4.capacity()
        } else {
            self.v6.len() + 2 > self.v6.capacity()
        };
        let flooded = state.class() == Class::HalfOpen && self.half_open >= self.half_open_limit;
        // A flood of openings makes room among its own kind; a full table also among what can be found again.
        let highest = if full { Class::Answered } else { Class::Closing };
        let evicted = (full || flooded) && self.evict(v4, highest, now);
        if full && !evicted { Err(InsertError::Full) } else { Ok(()) }
    }

    /// Evicts the connection that has been silent longest among the first candidates of the lowest class found, none
    /// above `highest`; one that is past its end before any other.
    fn evict(&mut self, v4: bool, highest: Class, now: Moment) -> bool {
        let mut victim: Option<(Class, Reverse<u16>, Hit)> = None;
        let mut candidates = 0;
        let slots = if v4 { EntryV4::SLOTS } else { EntryV6::SLOTS };
        for _ in 0..EVICT_SLOTS / slots {
            self.evicted = self.evicted.wrapping_add(1);
            for hit in self.hits(v4, self.evicted) {
                if is_past(self.meta_mut(&hit).deadline, clock(now)) && self.expire(&hit, now) {
                    return true;
                }
                let class = hit.state.class();
                if class > highest {
                    continue;
                }
                // Not the time left: states have different times, and a flood of the long ones must not win.
                let left = self.meta_mut(&hit).deadline.wrapping_sub(clock(now));
                let silent = Reverse(self.seconds[hit.state as usize].saturating_sub(left));
                candidates += usize::from(class == Class::HalfOpen);
                if victim.is_none_or(|(best, longest, _)| (class, silent) < (best, longest)) {
                    victim = Some((class, silent, hit));
                }
            }
            if candidates >= EVICT_CANDIDATES {
                break;
            }
        }
        let Some((class, _, hit)) = victim else { return false };
        self.remove(&hit);
        match class {
            Class::HalfOpen => self.events.evicted_half_open += 1,
            Class::Closing => self.events.evicted_closing += 1,
            Class::Answered | Class::Established => self.events.evicted_answered += 1,
        }
        true
    }

    /// The entries of a bucket, counted round and round.
    fn hits(&self, v4: bool, bucket: usize) -> ArrayVec<Hit, { table::SLOTS }> {
        if v4 {
            let slots = self.v4.used(bucket % self.v4.buckets());
            slots.map(|slot| hit_at(&self.v4, slot)).collect()
        } else {
            let slots = self.v6.used(bucket % self.v6.buckets());
            slots.map(|slot| hit_at(&self.v6, slot)).collect()
        }
    }

    fn recount(&mut self, old: State, new: State) {
        self.half_open += usize::from(new.class() == Class::HalfOpen);
        self.half_open -= usize::from(old.class() == Class::HalfOpen);
    }

    /// The entry of the other direction.
    fn pair(&self, hit: &Hit) -> Option<Hit> {
        let tuple = hit.to.reversed();
        let hash = self.key.tuple(&tuple);
        let slot = if tuple.src.is_v4() {
            self.v4.find(hash, &Key::of(&tuple))?
        } else {
            self.v6.find(hash, &Key::of(&tuple))?
        };
        Some(Hit { to: hit.tuple.reversed(), reply: !hit.reply, tuple, slot, ..*hit })
    }

    fn place(
        &mut self,
        tuple: &Tuple,
        hash: u64,
        to: &Tuple,
        meta: Meta,
    ) -> Result<Slot, InsertError> {
        if tuple.src.is_v4() {
            self.v4.insert(hash, &Key::of(tuple), &Key::of(to), meta)
        } else {
            self.v6.insert(hash, &Key::of(tuple), &Key::of(to), meta)
        }
    }

    fn remove_one(&mut self, tuple: &Tuple) {
        let hash = self.key.tuple(tuple);
        if tuple.src.is_v4() {
            if let Some(slot) = self.v4.find(hash, &Key::of(tuple)) {
                self.v4.remove(slot);
            }
        } else if let Some(slot) = self.v6.find(hash, &Key::of(tuple)) {
            self.v6.remove(slot);
        }
    }

    fn meta_mut(&mut self, hit: &Hit) -> &mut Meta {
        if hit.tuple.src.is_v4() {
            self.v4.get_mut(hit.slot).meta_mut()
        } else {
            self.v6.get_mut(hit.slot).meta_mut()
        }
    }

    fn deadline(&self, state: State, now: Moment) -> u16 {
        // One more than the limit: the current second has already begun.
        clock(now).wrapping_add(self.seconds[state as usize]).wrapping_add(1)
    }
}

#[inline(always)]
fn pass<E: Entry>(
    table: &mut Table<E>,
    burst: &BurstClock,
    lookup: &Lookup<E::Key>,
    plain: bool,
    serves: impl FnOnce(&Meta) -> bool,
) -> Pass<E::Key> {
    match table.get_mut_shared(lookup.seen) {
        Some((entry, shared)) if plain => pass_entry(entry, shared, burst, serves),
        Some(_) => Pass::Refer,
        None => pass_unseen(table, burst, lookup, plain, serves),
    }
}

/// Whether the backend of a connection still counts: for clients over UDP it must serve.
#[inline(always)]
fn serves_flow(
    protocol: Protocol,
    serves: impl FnOnce(BackendId) -> bool,
) -> impl FnOnce(&Meta) -> bool {
    move |meta| protocol != Protocol::Udp || meta.is_reply() || serves(meta.backend())
}

/// As [`pass`], for a flow that looking ahead has not found.
#[inline(never)]
fn pass_unseen<E: Entry>(
    table: &mut Table<E>,
    burst: &BurstClock,
    lookup: &Lookup<E::Key>,
    plain: bool,
    serves: impl FnOnce(&Meta) -> bool,
) -> Pass<E::Key> {
    let slot = table.find(lookup.hash, &lookup.key);
    match slot.and_then(|slot| table.get_mut_shared(slot)) {
        Some((entry, shared)) if plain => pass_entry(entry, shared, burst, serves),
        Some(_) => Pass::Refer,
        None => Pass::Unknown,
    }
}

#[inline(always)]
fn pass_entry<E: Entry>(
    entry: &mut E,
    shared: &E::Shared,
    burst: &BurstClock,
    serves: impl FnOnce(&Meta) -> bool,
) -> Pass<E::Key> {
    let meta = entry.meta_mut();
    let ordinary = meta.is_settled() && meta.backend() != BackendId::NONE && serves(meta);
    if !ordinary {
        return Pass::Refer;
    }
    let deadline = burst.deadlines[meta.state_number()];
    // A line that is not written need not be written back, and what was refreshed in this second is not past.
    if meta.deadline != deadline {
        if is_past(meta.deadline, burst.now) {
            return Pass::Refer;
        }
        meta.deadline = deadline;
    }
    Pass::To(entry.translated(shared))
}

#[inline]
fn look<E: Entry>(table: &Table<E>, tuple: &Tuple, hash: u64) -> Option<(Meta, Tuple, Slot)> {
    let slot = table.find(hash, &Key::of(tuple))?;
    let entry = table.get(slot);
    Some((*entry.meta(), entry.translated(table.shared()).tuple(), slot))
}

fn hit_at<E: Entry>(table: &Table<E>, slot: Slot) -> Hit {
    let (entry, shared) = (table.get(slot), table.shared());
    hit(&entry.key(shared).tuple(), &entry.translated(shared).tuple(), *entry.meta(), slot)
}

#[inline]
fn hit(tuple: &Tuple, to: &Tuple, meta: Meta, slot: Slot) -> Hit {
    Hit {
        to: *to,
        reply: meta.is_reply(),
        state: meta.state(),
        backend: meta.backend(),
        tuple: *tuple,
        slot,
    }
}

/// The 16-bit clock of deadlines.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the clock wraps; see the module's head")]
fn clock(now: Moment) -> u16 {
    now.secs() as u16
}

#[inline]
fn is_past(deadline: u16, now: u16) -> bool {
    // Deadlines lie at most MAX + 1 ahead: anything farther is behind.
    let left = deadline.wrapping_sub(now);
    u64::from(left.wrapping_sub(1)) > Timeouts::MAX.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Address;

    const ROOM: u16 = 8;

    fn full_of(state: State) -> Conntrack {
        let config = ConntrackConfig {
            connections_v4: usize::from(ROOM),
            connections_v6: 1,
            ..ConntrackConfig::default()
        };
        let memory = config.plain_memory();
        let mut conntrack = Conntrack::new(&config, HashKey::new(1), memory).expect("it fits");
        for client in 0..ROOM {
            let now = Moment(u64::from(client) * 1000);
            insert(&mut conntrack, client, state, now).expect("there is room");
        }
        conntrack
    }

    fn insert(
        conntrack: &mut Conntrack,
        client: u16,
        state: State,
        now: Moment,
    ) -> Result<Hit, InsertError> {
        let tuple = tuple(client);
        let to = Tuple { dst: Address::v4([10, 0, 1, 1]), dport: 8080, ..tuple };
        conntrack.insert(&tuple, &to, state, BackendId::NONE, now)
    }

    fn tuple(client: u16) -> Tuple {
        let (src, dst) = (Address::v4([192, 0, 2, 1]), Address::v4([10, 96, 0, 1]));
        Tuple { src, dst, sport: client, dport: 80, protocol: Protocol::Tcp }
    }

    fn known(conntrack: &mut Conntrack, client: u16, now: Moment) -> bool {
        let hash = conntrack.hash(&tuple(client));
        conntrack.find(&tuple(client), hash, now).is_some()
    }

    #[test]
    fn a_full_table_makes_room_for_all_but_open_connections() {
        let now = Moment(10_000);
        // The half-open may only take half of the room, so they can't fill it.
        for state in State::ALL.into_iter().filter(|state| state.class() != Class::HalfOpen) {
            let mut conntrack = full_of(state);
            let inserted = insert(&mut conntrack, 99, State::SynSent, now);
            let left: Vec<u16> =
                (0..ROOM).filter(|&client| known(&mut conntrack, client, now)).collect();
            if state.class() == Class::Established {
                assert_eq!((inserted.err(), left.len()), (Some(InsertError::Full), 8));
            } else {
                assert!(inserted.is_ok(), "{state:?}");
                assert_eq!(left, [1, 2, 3, 4, 5, 6, 7], "{state:?}: the longest silent goes");
            }
        }
    }

    #[test]
    fn a_flood_of_long_lived_openings_does_not_push_out_young_handshakes() {
        let mut conntrack = full_of(State::Unreplied);
        // A handshake has less time left than any of them, but was heard of just now.
        insert(&mut conntrack, 50, State::SynSent, Moment(20_000)).expect("one made room");
        insert(&mut conntrack, 51, State::Unreplied, Moment(20_000)).expect("another one did");
        assert!(known(&mut conntrack, 50, Moment(20_000)));
    }
}

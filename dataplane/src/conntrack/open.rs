//! The quick way to add a connection, for bursts of new ones: first all say what they will touch, then each is added.
//!
//! Invariant: [`Conntrack::open`] does what [`Conntrack::insert`] would, or nothing. Whatever is not simple (a flow
//! that is there already, a clash, a full table, a full bucket) is left to it.

use super::entry::Entry;
use super::key::Key;
use super::table::Table;
use super::{Class, Conntrack, Meta, State};
use crate::flow::Tuple;
use crate::service::backends::BackendId;

/// A connection that is about to be added.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// The flow from the client.
    pub tuple: Tuple,
    /// What it becomes toward the backend.
    pub to: Tuple,
    state: State,
    backend: BackendId,
    /// The hashes of the two flows: of `tuple`, and of the answers to `to`.
    pub hashes: [u64; 2],
}

impl Conntrack {
    /// Asks for the memory that adding a connection needs; `hash` is that of `tuple`.
    #[inline]
    pub fn foresee(
        &self,
        tuple: &Tuple,
        hash: u64,
        to: &Tuple,
        state: State,
        backend: BackendId,
    ) -> Opening {
        let reply_hash = self.hash(&to.reversed());
        if tuple.src.is_v4() {
            self.v4.prefetch_both(reply_hash);
        } else {
            self.v6.prefetch_both(reply_hash);
        }
        Opening { tuple: *tuple, to: *to, state, backend, hashes: [hash, reply_hash] }
    }

    /// Adds a connection in the current burst. `false`, and no change, when that is not simple.
    #[inline]
    pub fn open(&mut self, opening: &Opening) -> bool {
        let half_open = opening.state.class() == Class::HalfOpen;
        if half_open && self.half_open >= self.half_open_limit {
            return false;
        }
        let deadline = self.burst.deadlines[opening.state as usize];
        let added = if opening.tuple.src.is_v4() {
            add(&mut self.v4, opening, deadline)
        } else {
            add(&mut self.v6, opening, deadline)
        };
        if added {
            self.events.created += 1;
            self.half_open += usize::from(half_open);
        }
        added
    }
}

#[inline]
fn add<E: Entry>(table: &mut Table<E>, opening: &Opening, deadline: u16) -> bool {
    let Opening { tuple, to, state, backend, hashes: [hash, reply_hash] } = *opening;
    if table.len() + 2 > table.capacity() {
        return false;
    }
    let reply = to.reversed();
    let meta = |is_reply| Meta::new(tuple.protocol, is_reply, state, backend, deadline);
    let Some(reply_slot) = table.vacancy(reply_hash, &Key::of(&reply)) else { return false };
    if !table.fill(reply_slot, &reply, &tuple.reversed(), meta(true)) {
        return false;
    }
    // Only now: both may want the same slot.
    let slot = table.vacancy(hash, &Key::of(&tuple));
    let added = slot.is_some_and(|slot| table.fill(slot, &tuple, &to, meta(false)));
    if !added {
        table.remove(reply_slot);
    }
    added
}

//! Expiry: a bounded walk through the table, in proportion to the time that passed, a little every turn.
//!
//! Connections that expire in great numbers cost memory accesses far apart, since the two entries of each are: the walk
//! looks at some buckets, asks for the memory of all pairs, and only then removes.

use arrayvec::ArrayVec;

use super::entry::Entry;
use super::key::Key;
use super::table::{SLOTS, Slot, Table};
use super::{Class, Conntrack, Events, clock, is_past};
use crate::clock::Moment;
use crate::hash::HashKey;

/// Milliseconds in which the whole table is passed.
const PASS_MILLIS: u64 = 4_000;
/// Buckets of one step.
const STEP: usize = 16;
/// Steps of one call at most: some microseconds even when everything expires.
const STEPS: usize = 4;

/// How far the walk has come. Each table has its own: a small one's turn must not depend on a large one's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sweep {
    bucket: usize,
    /// Buckets whose turn has come.
    owed: usize,
    last: Moment,
}

impl Sweep {
    fn advance(&mut self, buckets: usize, now: Moment) {
        let elapsed = now.0.saturating_sub(self.last.0).min(PASS_MILLIS);
        let turn = usize::try_from(buckets as u64 * elapsed / PASS_MILLIS).unwrap_or(usize::MAX);
        // A small table's turn comes after many milliseconds: until then time goes on counting.
        if turn > 0 || elapsed == PASS_MILLIS {
            self.owed = (self.owed + turn).min(buckets);
            self.last = now;
        }
    }
}

/// What a removal changes beside the table.
struct Tally<'a> {
    events: &'a mut Events,
    half_open: &'a mut usize,
}

impl Conntrack {
    /// Ends connections past their deadline: a bounded number a call.
    #[inline]
    pub fn sweep(&mut self, now: Moment) {
        if now != self.swept_v4.last {
            self.swept_v4.advance(self.v4.buckets(), now);
            self.swept_v6.advance(self.v6.buckets(), now);
        }
        if self.swept_v4.owed > 0 || self.swept_v6.owed > 0 {
            self.sweep_some(now);
        }
    }

    fn sweep_some(&mut self, now: Moment) {
        let mut tally = Tally { events: &mut self.events, half_open: &mut self.half_open };
        for _ in 0..STEPS {
            step(&mut self.v4, &mut self.swept_v4, &self.key, &mut tally, now);
            step(&mut self.v6, &mut self.swept_v6, &self.key, &mut tally, now);
        }
    }
}

/// One step of the walk through one table.
fn step<E: Entry>(
    table: &mut Table<E>,
    sweep: &mut Sweep,
    key: &HashKey,
    tally: &mut Tally<'_>,
    now: Moment,
) {
    let mut past: ArrayVec<(Slot, E::Key, u64), { STEP * SLOTS }> = ArrayVec::new();
    for _ in 0..STEP.min(sweep.owed) {
        sweep.owed -= 1;
        sweep.bucket = (sweep.bucket + 1) % table.buckets();
        for slot in table.used(sweep.bucket) {
            let entry = table.get(slot);
            if is_past(entry.meta().deadline, clock(now)) {
                let pair = entry.translated(table.shared()).tuple().reversed();
                let hash = key.tuple(&pair);
                table.prefetch_both(hash);
                past.push((slot, Key::of(&pair), hash));
            }
        }
    }
    for (slot, pair, hash) in past {
        // Both of a pair may be in this step: the first took the other with it.
        if table.get(slot).meta().is_occupied() {
            expire(table, slot, table.find(hash, &pair), tally, now);
        }
    }
}

/// Removes both entries, unless the other direction keeps the connection alive.
fn expire<E: Entry>(
    table: &mut Table<E>,
    slot: Slot,
    pair: Option<Slot>,
    tally: &mut Tally<'_>,
    now: Moment,
) {
    if let Some(pair) = pair {
        let deadline = table.get(pair).meta().deadline;
        if !is_past(deadline, clock(now)) {
            table.get_mut(slot).meta_mut().deadline = deadline;
            return;
        }
        table.remove(pair);
    }
    let state = table.get(slot).meta().state();
    *tally.half_open -= usize::from(state.class() == Class::HalfOpen);
    tally.events.expired += 1;
    table.remove(slot);
}

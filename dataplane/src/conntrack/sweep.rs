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
/// Steps of one call at most, as long as they find something or are late: some microseconds when everything expires.
const STEPS: usize = 4;
/// Milliseconds the walk may be behind before that counts as late.
const LATE_MILLIS: u64 = 20;

/// How far the walk has come. Each table has its own: a small one's turn must not depend on a large one's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sweep {
    bucket: usize,
    /// Buckets whose turn has come, times [`PASS_MILLIS`].
    credit: u64,
    /// Up to when there is credit; none before the first call.
    last: Option<Moment>,
}

impl Sweep {
    fn advance(&mut self, buckets: usize, now: Moment) {
        let last = self.last.replace(now).unwrap_or(now);
        let elapsed = now.0.saturating_sub(last.0).min(PASS_MILLIS);
        self.credit = (self.credit + buckets as u64 * elapsed).min(buckets as u64 * PASS_MILLIS);
    }

    fn is_due(&self) -> bool {
        self.credit >= PASS_MILLIS
    }

    /// The next bucket, if its turn has come.
    fn next(&mut self, buckets: usize) -> Option<usize> {
        self.credit = self.credit.checked_sub(PASS_MILLIS)?;
        self.bucket = if self.bucket + 1 < buckets { self.bucket + 1 } else { 0 };
        Some(self.bucket)
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
        if self.swept_v4.last != Some(now) {
            self.swept_v4.advance(self.v4.buckets(), now);
            self.swept_v6.advance(self.v6.buckets(), now);
        }
        if self.swept_v4.is_due() || self.swept_v6.is_due() {
            self.sweep_some(now);
        }
    }

    fn sweep_some(&mut self, now: Moment) {
        let mut tally = Tally { events: &mut self.events, half_open: &mut self.half_open };
        steps(&mut self.v4, &mut self.swept_v4, &self.key, &mut tally, now);
        steps(&mut self.v6, &mut self.swept_v6, &self.key, &mut tally, now);
    }
}

fn steps<E: Entry>(
    table: &mut Table<E>,
    sweep: &mut Sweep,
    key: &HashKey,
    tally: &mut Tally<'_>,
    now: Moment,
) {
    for _ in 0..STEPS {
        let found = step(table, sweep, key, tally, now);
        if found == 0 && sweep.credit < table.buckets() as u64 * LATE_MILLIS {
            break;
        }
    }
}

/// One step of the walk through one table. Returns the number of entries past their deadline that it found.
fn step<E: Entry>(
    table: &mut Table<E>,
    sweep: &mut Sweep,
    key: &HashKey,
    tally: &mut Tally<'_>,
    now: Moment,
) -> usize {
    let mut past: ArrayVec<(Slot, E::Key, u64), { STEP * SLOTS }> = ArrayVec::new();
    let clock = clock(now);
    for _ in 0..STEP {
        let Some(bucket) = sweep.next(table.buckets()) else { break };
        for slot in Table::<E>::slots(bucket) {
            let entry = table.get(slot);
            // One branch that is nearly never taken, whatever the slots hold.
            if entry.meta().is_occupied() & is_past(entry.meta().deadline, clock) {
                let pair = entry.translated(table.shared()).tuple().reversed();
                let hash = key.tuple(&pair);
                table.prefetch_both(hash);
                past.push((slot, Key::of(&pair), hash));
            }
        }
    }
    // Far enough ahead that the next step, a turn later, does not wait.
    if sweep.is_due() {
        (1..=STEP).for_each(|ahead| table.prefetch_bucket(sweep.bucket + ahead));
    }
    let found = past.len();
    for &(slot, ref pair, hash) in &past {
        // Both of a pair may be in this step: the first took the other with it.
        if table.get(slot).meta().is_occupied() {
            expire(table, slot, table.find(hash, pair), tally, clock);
        }
    }
    found
}

/// Removes both entries, unless the other direction keeps the connection alive.
fn expire<E: Entry>(
    table: &mut Table<E>,
    slot: Slot,
    pair: Option<Slot>,
    tally: &mut Tally<'_>,
    clock: u16,
) {
    if let Some(pair) = pair {
        let deadline = table.get(pair).meta().deadline;
        if !is_past(deadline, clock) {
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

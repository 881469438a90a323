//! What a worker says that it did, to be held against what it was meant to do.

use dataplane::counters::{Counter, WorkerCounters};
use dataplane::verdict::DropReason;

use crate::bench::Error;

/// Counters, or what they went up by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) received: u64,
    pub(crate) forwarded: u64,
    pub(crate) handed_over: u64,
    pub(crate) handed_in: u64,
    /// Answered, punted, parked, held.
    pub(crate) other: u64,
    pub(crate) drops: [u64; DropReason::COUNT],
    pub(crate) created: u64,
    pub(crate) expired: u64,
    pub(crate) evicted: u64,
    /// Not a difference: connections now.
    pub(crate) connections: u64,
}

impl Tally {
    /// Nothing happened.
    pub(crate) const NONE: Self = Self {
        received: 0,
        forwarded: 0,
        handed_over: 0,
        handed_in: 0,
        other: 0,
        drops: [0; DropReason::COUNT],
        created: 0,
        expired: 0,
        evicted: 0,
        connections: 0,
    };

    pub(crate) fn read(counters: &WorkerCounters) -> Self {
        let (work, table) = (&counters.work, &counters.conntrack);
        let evicted = [&table.evicted_half_open, &table.evicted_closing, &table.evicted_answered];
        Self {
            received: counters.ports.iter().map(|port| port.rx_frames.get()).sum(),
            forwarded: work.forwarded.get(),
            handed_over: work.handed_over.get(),
            handed_in: work.handed_in.get(),
            other: work.answered.get() + work.punted.get() + work.parked.get() + work.held.get(),
            drops: std::array::from_fn(|reason| counters.drops[reason].get()),
            created: table.created.get(),
            expired: table.expired.get(),
            evicted: evicted.map(Counter::get).into_iter().sum(),
            connections: table.entries.get(),
        }
    }

    /// What happened since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            received: self.received - before.received,
            forwarded: self.forwarded - before.forwarded,
            handed_over: self.handed_over - before.handed_over,
            handed_in: self.handed_in - before.handed_in,
            other: self.other - before.other,
            drops: std::array::from_fn(|reason| self.drops[reason] - before.drops[reason]),
            created: self.created - before.created,
            expired: self.expired - before.expired,
            evicted: self.evicted - before.evicted,
            connections: self.connections,
        }
    }

    /// Two workers' together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            received: self.received + other.received,
            forwarded: self.forwarded + other.forwarded,
            handed_over: self.handed_over + other.handed_over,
            handed_in: self.handed_in + other.handed_in,
            other: self.other + other.other,
            drops: std::array::from_fn(|reason| self.drops[reason] + other.drops[reason]),
            created: self.created + other.created,
            expired: self.expired + other.expired,
            evicted: self.evicted + other.evicted,
            connections: self.connections + other.connections,
        }
    }

    /// Fails, and says both, when this is not what was to happen.
    pub(crate) fn must_be(&self, expected: &Self) -> Result<(), Error> {
        if self == expected {
            return Ok(());
        }
        let (happened, expected) = (self.words(), expected.words());
        Err(Error(format!("counted {happened} instead of {expected}")))
    }

    /// In words, as far as not zero.
    pub(crate) fn words(&self) -> String {
        let drops =
            DropReason::ALL.into_iter().map(|reason| (reason.name(), self.drops[reason as usize]));
        let named = [
            ("received", self.received),
            ("forwarded", self.forwarded),
            ("handed over", self.handed_over),
            ("handed in", self.handed_in),
            ("answered, punted, parked or held", self.other),
            ("connections", self.connections),
            ("connections made", self.created),
            ("connections expired", self.expired),
            ("connections evicted", self.evicted),
        ];
        let all = named.into_iter().chain(drops).filter(|(_, count)| *count > 0);
        all.map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    }
}

//! What a worker tells the rest of the process: plain counters, written by one thread and read by any.
//!
//! A worker counts in its own cache lines with a load and a store, no read-modify-write and no lock; sums are made by
//! whoever asks. Conservation (I1) holds per worker: `received + handed_in + injected` equals
//! `forwarded + answered + handed_over + punted + drops + parked + held` at any quiet moment.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use crate::fib::PortId;
use crate::stages::Stage;
use crate::verdict::DropReason;

/// A number one thread writes.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; by the owning worker only.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Replaces the value; by the owning worker only.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of one worker.
#[derive(Debug)]
pub struct WorkerCounters {
    /// Frames and bytes per port, in order of port ids.
    pub ports: Box<[CachePadded<PortCounters>]>,
    /// Frames dropped, by [`DropReason`] number.
    pub drops: CachePadded<[Counter; DropReason::COUNT]>,
    /// Everything else.
    pub work: CachePadded<WorkCounters>,
    /// The connection table.
    pub conntrack: CachePadded<ConntrackCounters>,
    /// Where cycles go.
    pub stages: CachePadded<StageCounters>,
}

/// One worker's share of a port.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Frames received.
    pub rx_frames: Counter,
    /// Bytes received, without FCS.
    pub rx_bytes: Counter,
    /// Frames sent.
    pub tx_frames: Counter,
    /// Bytes sent, without FCS.
    pub tx_bytes: Counter,
}

/// Outcomes and work done.
#[derive(Debug, Default)]
pub struct WorkCounters {
    /// Frames from other workers.
    pub handed_in: Counter,
    /// Frames from the kernel twins.
    pub injected: Counter,
    /// Frames sent on, rewritten or routed.
    pub forwarded: Counter,
    /// Frames answered in place.
    pub answered: Counter,
    /// Frames given to other workers.
    pub handed_over: Counter,
    /// Frames given to the kernel twins.
    pub punted: Counter,
    /// Frames waiting for a next hop now.
    pub parked: Counter,
    /// Later fragments waiting for their first one now.
    pub held: Counter,
    /// Polls of all ports.
    pub polls: Counter,
    /// Polls that found something.
    pub busy_polls: Counter,
    /// CPU cycles in polls that found something.
    pub busy_cycles: Counter,
    /// CPU cycles in all polls.
    pub cycles: Counter,
}

/// The connection table of a worker.
#[derive(Debug, Default)]
pub struct ConntrackCounters {
    /// Connections there is room for, both families.
    pub capacity: Counter,
    /// Connections now.
    pub entries: Counter,
    /// Connections of those that are half open or unanswered.
    pub half_open: Counter,
    /// Connections made.
    pub created: Counter,
    /// Connections ended by time.
    pub expired: Counter,
    /// Half-open connections evicted to make room.
    pub evicted_half_open: Counter,
    /// Closing connections evicted to make room.
    pub evicted_closing: Counter,
    /// Answered UDP flows and half-closed connections evicted to make room.
    pub evicted_answered: Counter,
    /// UDP flows moved away from a backend that no longer serves.
    pub reclassified: Counter,
    /// Connections of clients whose address was kept, on which nothing came back through here.
    pub one_way: Counter,
}

/// Cycles by stage, of a sample of turns.
#[derive(Debug, Default)]
pub struct StageCounters {
    /// Frames handled in the turns measured.
    pub frames: Counter,
    /// Their cycles, by [`Stage`] number.
    pub cycles: [Counter; Stage::COUNT],
}

impl WorkerCounters {
    /// All zero, for this many ports.
    #[must_use]
    pub fn new(ports: PortId) -> Self {
        Self {
            ports: (0..ports).map(|_| CachePadded::default()).collect(),
            drops: CachePadded::new(std::array::from_fn(|_| Counter::default())),
            work: CachePadded::default(),
            conntrack: CachePadded::default(),
            stages: CachePadded::default(),
        }
    }

    /// Counts one dropped frame.
    #[inline]
    pub fn dropped(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }

    /// Frames that came in, and frames that ended, at a quiet moment: equal, or a frame was lost (I1).
    #[must_use]
    pub fn balance(&self) -> (u64, u64) {
        let WorkCounters {
            handed_in,
            injected,
            forwarded,
            answered,
            handed_over,
            punted,
            parked,
            held,
            ..
        } = &*self.work;
        let received: u64 = self.ports.iter().map(|port| port.rx_frames.get()).sum();
        let drops: u64 = self.drops.iter().map(Counter::get).sum();
        let ended = [forwarded, answered, handed_over, punted, parked, held].map(Counter::get);
        (received + handed_in.get() + injected.get(), drops + ended.iter().sum::<u64>())
    }
}

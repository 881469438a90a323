//! A queue pair whose other end is a generator in the same thread.
//!
//! The worker's end costs what a descriptor ring costs and no more: receiving moves pointers out of a vector, sending
//! moves them into one, and an idle queue is one load. Frames change hands in whole rings, under a lock that is taken
//! once a ring, so that neither the generator's work nor the completion of transmission is inside the timed part.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use dataplane::nic::{Burst, Nic};
use vipgate::dpdk::Mbuf;

/// Packet buffers in use. A NIC's ring cycles through about so many, so that a frame's headers come from the second
/// level cache or the one behind it. A handful of buffers would be in the first level, which no traffic ever is.
pub(crate) const RING: usize = 1024;

/// The worker's end.
#[derive(Debug)]
pub(crate) struct BenchNic {
    cable: Arc<Cable>,
    /// The last is next.
    waiting: Vec<Mbuf>,
    done: Done,
}

/// The generator's end.
#[derive(Debug, Default)]
pub(crate) struct Cable {
    /// The generator wants something: to give or to take frames.
    calls: AtomicBool,
    exchange: Mutex<Exchange>,
}

#[derive(Debug, Default)]
struct Exchange {
    offered: Vec<Mbuf>,
    done: Done,
}

/// Frames that a worker is done with, in the order in which it was.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Given to the transmit queue.
    pub(crate) sent: Vec<Mbuf>,
    /// Dropped.
    pub(crate) dropped: Vec<Mbuf>,
}

/// A queue pair and its cable.
pub(crate) fn pair() -> (BenchNic, Arc<Cable>) {
    let cable = Arc::new(Cable::default());
    let done = Done { sent: Vec::with_capacity(RING), dropped: Vec::with_capacity(RING) };
    (BenchNic { cable: cable.clone(), waiting: Vec::with_capacity(RING), done }, cable)
}

impl Cable {
    /// Offers all of `frames`, the first one first.
    pub(crate) fn offer(&self, frames: &mut Vec<Mbuf>) {
        frames.reverse();
        self.lock().offered.append(frames);
        self.call();
    }

    /// Asks the worker to lay out what it is done with, at its next poll.
    pub(crate) fn call(&self) {
        self.calls.store(true, Ordering::Release);
    }

    /// Takes what was laid out.
    pub(crate) fn take(&self) -> Done {
        std::mem::take(&mut self.lock().done)
    }

    fn lock(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl BenchNic {
    #[cold]
    fn exchange(&mut self) {
        let mut exchange = self.cable.lock();
        self.cable.calls.store(false, Ordering::Relaxed);
        self.waiting.append(&mut exchange.offered);
        exchange.done.sent.append(&mut self.done.sent);
        exchange.done.dropped.append(&mut self.done.dropped);
    }
}

impl Nic for BenchNic {
    type Frame = Mbuf;

    #[inline]
    fn receive(&mut self, burst: &mut Burst<Mbuf>) {
        if self.waiting.is_empty() && self.cable.calls.load(Ordering::Acquire) {
            self.exchange();
        }
        let from = self.waiting.len().saturating_sub(burst.remaining_capacity());
        burst.extend(self.waiting.drain(from..).rev());
    }

    #[inline]
    fn transmit(&mut self, burst: &mut Burst<Mbuf>) {
        self.done.sent.extend(burst.drain(..));
    }

    fn recycle(&mut self, burst: &mut Burst<Mbuf>) {
        self.done.dropped.extend(burst.drain(..));
    }
}

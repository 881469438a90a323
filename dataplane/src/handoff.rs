//! Frames on their way from the worker that received them to the worker that owns their connection.
//!
//! A bounded ring for every ordered pair of workers, moving whole bursts. A full ring is a counted drop.

use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;

use crate::engine::Arrival;
use crate::nic::BURST;

/// Bursts a ring holds: what one worker may be behind another, and what packet buffers must be there for.
pub const RING: usize = 64;
/// Bursts waiting in a ring from which on only full ones are added: its owner is behind, and a ring full of bursts of
/// one frame each would hold little.
const BACKLOG: usize = 16;

/// A frame and how it came in.
#[derive(Debug)]
pub struct Handed<F> {
    /// The frame, as received.
    pub frame: F,
    /// How it arrived.
    pub arrival: Arrival,
}

/// What one push moves.
pub type Batch<F> = ArrayVec<Handed<F>, BURST>;

type Ring<F> = Arc<ArrayQueue<Batch<F>>>;

/// One worker's ends of all its rings.
#[derive(Debug)]
pub struct Links<F> {
    /// By receiver: the ring, and what has been collected for it.
    outgoing: Vec<(Ring<F>, Batch<F>)>,
    incoming: Vec<Ring<F>>,
    sent: u64,
}

/// The links of all workers, in order of their numbers.
#[must_use]
pub fn mesh<F>(workers: u16) -> Vec<Links<F>> {
    let workers = usize::from(workers);
    let rings: Vec<Vec<Ring<F>>> = (0..workers)
        .map(|_| (0..workers).map(|_| Arc::new(ArrayQueue::new(RING))).collect())
        .collect();
    (0..workers)
        .map(|me| Links {
            outgoing: rings[me].iter().map(|ring| (ring.clone(), Batch::new())).collect(),
            incoming: (0..workers)
                .filter(|&peer| peer != me)
                .map(|peer| rings[peer][me].clone())
                .collect(),
            sent: 0,
        })
        .collect()
}

impl<F> Links<F> {
    /// Collects a frame for another worker. When its ring is full, the batch that found no room comes back.
    #[must_use]
    pub fn give(&mut self, to: u16, handed: Handed<F>) -> Option<Batch<F>> {
        let (ring, batch) = &mut self.outgoing[usize::from(to)];
        batch.push(handed);
        if !batch.is_full() {
            return None;
        }
        push(ring, batch, &mut self.sent)
    }

    /// Sends what was collected, but to peers that are behind. A batch that found no room comes back: then call again,
    /// until nothing does.
    #[must_use]
    pub fn flush(&mut self) -> Option<Batch<F>> {
        let ready = |ring: &Ring<F>, batch: &Batch<F>| !batch.is_empty() && ring.len() < BACKLOG;
        let waiting = self.outgoing.iter_mut().filter(|(ring, batch)| ready(ring, batch));
        waiting.into_iter().find_map(|(ring, batch)| push(ring, batch, &mut self.sent))
    }

    /// Frames that found room, ever.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The next batch of a peer, counted from 0.
    #[must_use]
    pub fn take(&self, peer: usize) -> Option<Batch<F>> {
        self.incoming.get(peer)?.pop()
    }

    /// Number of peers.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.incoming.len()
    }
}

fn push<F>(ring: &Ring<F>, batch: &mut Batch<F>, sent: &mut u64) -> Option<Batch<F>> {
    let count = batch.len() as u64;
    let refused = ring.push(batch.take()).err();
    if refused.is_none() {
        *sent += count;
    }
    refused
}

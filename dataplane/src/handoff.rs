//! Frames on their way from the worker that received them to the worker that owns their connection.
//!
//! A bounded ring for every ordered pair of workers, written and read in bursts: what two cores share is one index each,
//! told once a burst. A full ring is a counted drop.

use arrayvec::ArrayVec;
use crossbeam::utils::CachePadded;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::engine::Arrival;
use crate::nic::{BURST, Frame};

/// Frames a ring holds: what one worker may be behind another, and what packet buffers must be there for.
pub const RING: usize = 64 * BURST;

/// A frame and how it came in.
#[derive(Debug)]
pub struct Handed<F> {
    /// The frame, as received.
    pub frame: F,
    /// How it arrived.
    pub arrival: Arrival,
}

/// What is moved at a time.
pub type Batch<F> = ArrayVec<Handed<F>, BURST>;

/// One worker's ends of all its rings. They are made by one thread for all workers and written every turn, so each has
/// cache lines of its own.
#[derive(Debug)]
pub struct Links<F> {
    /// By receiver. A worker's link to itself is never used.
    outgoing: Vec<CachePadded<Outgoing<F>>>,
    incoming: Vec<CachePadded<Consumer<Handed<F>>>>,
    given: u64,
    sent: u64,
}

#[derive(Debug)]
struct Outgoing<F> {
    ring: Producer<Handed<F>>,
    collected: Batch<F>,
}

/// The links of all workers, in order of their numbers.
#[must_use]
pub fn mesh<F>(workers: u16) -> Vec<Links<F>> {
    let links = || Links { outgoing: vec![], incoming: vec![], given: 0, sent: 0 };
    let mut mesh: Vec<Links<F>> = (0..workers).map(|_| links()).collect();
    for from in 0..mesh.len() {
        for to in 0..mesh.len() {
            let (ring, end) = RingBuffer::new(if from == to { 0 } else { RING });
            mesh[from].outgoing.push(Outgoing { ring, collected: Batch::new() }.into());
            if from != to {
                mesh[to].incoming.push(end.into());
            }
        }
    }
    mesh
}

impl<F> Links<F> {
    /// Collects a frame for another worker. When its ring is full, the frames that found no room come back.
    #[must_use]
    #[inline]
    pub fn give(&mut self, to: u16, handed: Handed<F>) -> Option<Batch<F>> {
        let outgoing = &mut self.outgoing[usize::from(to)];
        outgoing.collected.push(handed);
        self.given += 1;
        if outgoing.collected.is_full() { outgoing.push(&mut self.sent) } else { None }
    }

    /// Sends what was collected. Frames that found no room come back: then call again, until none do.
    #[must_use]
    pub fn flush(&mut self) -> Option<Batch<F>> {
        let waiting = self.outgoing.iter_mut().filter(|outgoing| !outgoing.collected.is_empty());
        waiting.into_iter().find_map(|outgoing| outgoing.push(&mut self.sent))
    }

    /// Frames that were given, ever.
    #[must_use]
    #[inline]
    pub fn given(&self) -> u64 {
        self.given
    }

    /// Those of them that found room.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Number of peers.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.incoming.len()
    }

    /// Takes what [`Self::look`] saw of a peer, counted from 0.
    #[inline]
    pub fn take(&mut self, peer: usize, batch: &mut Batch<F>) {
        let ring = &mut self.incoming[peer];
        let count = ring.cached_slots().min(batch.remaining_capacity());
        if let Ok(frames) = ring.read_chunk(count) {
            batch.extend(frames);
        }
    }
}

impl<F: Frame> Links<F> {
    /// Looks for frames of a peer, and asks for the memory that is needed first: it is in the peer's cache.
    #[inline]
    pub fn look(&mut self, peer: usize) {
        // The one look at the peer's index in a turn.
        self.incoming[peer].slots();
        self.each_seen(peer, Frame::prefetch_handle);
    }

    /// Asks for the headers of what was seen, once that memory has come. There may be no such peer.
    #[inline]
    pub fn look_ahead(&mut self, peer: usize) {
        if peer < self.incoming.len() {
            self.each_seen(peer, Frame::prefetch);
        }
    }

    #[inline]
    fn each_seen(&mut self, peer: usize, ask: impl Fn(&F)) {
        let ring = &mut self.incoming[peer];
        let count = ring.cached_slots().min(BURST);
        if count > 0
            && let Ok(frames) = ring.read_chunk(count)
        {
            let (first, rest) = frames.as_slices();
            first.iter().chain(rest).for_each(|handed| ask(&handed.frame));
        }
    }
}

impl<F> Outgoing<F> {
    fn push(&mut self, sent: &mut u64) -> Option<Batch<F>> {
        let Self { ring, collected } = self;
        let wanted = collected.len();
        // Asking how much room there is costs a look at the other core's index, which mostly is not needed.
        let room = if ring.cached_slots() < wanted { ring.slots() } else { wanted };
        if let Ok(slots) = ring.write_chunk_uninit(room.min(wanted)) {
            *sent += slots.fill_from_iter(collected.drain(..room.min(wanted))) as u64;
        }
        if collected.is_empty() { None } else { Some(collected.take()) }
    }
}

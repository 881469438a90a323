//! An in-memory NIC: what tests and benchmarks plug into a worker instead of a queue of a real port.
//!
//! Two ends share two bounded queues: the worker's end is [`MemoryNic`], the test's end [`Wire`].
//! A wire that is full refuses transmission, as a real descriptor ring does.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::{Burst, Frame, Nic};

/// Bytes kept free in front of a frame, as DPDK's default headroom.
pub const HEADROOM: usize = 128;
/// Largest frame, as in a DPDK mbuf of default size.
pub const CAPACITY: usize = 2048;

/// A frame in a plain vector with headroom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryFrame {
    buffer: Vec<u8>,
    start: usize,
}

impl MemoryFrame {
    /// A frame of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut buffer = Vec::with_capacity(HEADROOM + bytes.len());
        buffer.resize(HEADROOM, 0);
        buffer.extend_from_slice(bytes);
        Self { buffer, start: HEADROOM }
    }
}

impl Frame for MemoryFrame {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..]
    }

    fn grow_front(&mut self, len: usize) -> bool {
        let fits = len <= self.start;
        if fits {
            self.start -= len;
        }
        fits
    }

    fn set_len(&mut self, len: usize) -> bool {
        let fits = len <= CAPACITY.max(self.bytes().len());
        if fits {
            self.buffer.resize(self.start + len, 0);
        }
        fits
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct MemoryNic {
    rx: Arc<ArrayQueue<MemoryFrame>>,
    tx: Arc<ArrayQueue<MemoryFrame>>,
}

/// The other end of the cable.
#[derive(Clone, Debug)]
pub struct Wire {
    to_nic: Arc<ArrayQueue<MemoryFrame>>,
    from_nic: Arc<ArrayQueue<MemoryFrame>>,
}

/// A NIC and its wire; each direction holds at most `depth` frames.
#[must_use]
pub fn pair(depth: usize) -> (MemoryNic, Wire) {
    let (to_nic, from_nic) = (Arc::new(ArrayQueue::new(depth)), Arc::new(ArrayQueue::new(depth)));
    (MemoryNic { rx: to_nic.clone(), tx: from_nic.clone() }, Wire { to_nic, from_nic })
}

impl Wire {
    /// Puts a frame on the wire toward the NIC; `false` when the wire is full.
    pub fn send(&self, bytes: &[u8]) -> bool {
        self.to_nic.push(MemoryFrame::new(bytes)).is_ok()
    }

    /// The next frame the NIC sent.
    #[must_use]
    pub fn receive(&self) -> Option<Vec<u8>> {
        self.from_nic.pop().map(|frame| frame.bytes().to_vec())
    }
}

impl Nic for MemoryNic {
    type Frame = MemoryFrame;

    fn receive(&mut self, burst: &mut Burst<MemoryFrame>) {
        while !burst.is_full() {
            let Some(frame) = self.rx.pop() else { break };
            burst.push(frame);
        }
    }

    fn transmit(&mut self, burst: &mut Burst<MemoryFrame>) {
        let room = self.tx.capacity() - self.tx.len();
        let count = burst.len().min(room);
        for frame in burst.drain(..count) {
            // This end is the queue's only producer, so the room counted above cannot shrink.
            drop(self.tx.push(frame));
        }
    }

    fn recycle(&mut self, burst: &mut Burst<MemoryFrame>) {
        burst.clear();
    }
}

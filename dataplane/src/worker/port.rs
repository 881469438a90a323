//! A worker's end of a port: what is about to leave is collected, and leaves in bursts.

use std::mem;

use crate::counters::WorkerCounters;
use crate::fib::PortId;
use crate::nic::{Burst, Frame, Nic};
use crate::verdict::DropReason;

/// The worker's queue of a port, and the frames about to leave by it.
#[derive(Debug)]
pub(super) struct Port<N: Nic> {
    pub(super) id: PortId,
    pub(super) queue: N,
    outbox: Burst<N::Frame>,
    /// Of all frames in it.
    bytes: usize,
    /// Bit n says that frame n of the outbox is an answer.
    answers: u32,
}

impl<N: Nic> Port<N> {
    pub(super) fn new(id: PortId, queue: N) -> Self {
        Self { id, queue, outbox: Burst::new(), bytes: 0, answers: 0 }
    }

    /// One frame; a full outbox leaves first.
    #[inline]
    pub(super) fn send(&mut self, frame: N::Frame, counters: &WorkerCounters) {
        let bytes = frame.bytes().len();
        if let Err(full) = self.outbox.try_push(frame) {
            self.transmit(counters);
            self.outbox.push(full.element());
        }
        self.bytes += bytes;
    }

    /// One that is the gateway's own, and counted as such.
    pub(super) fn answer(&mut self, frame: N::Frame, counters: &WorkerCounters) {
        self.send(frame, counters);
        self.answers |= 1 << (self.outbox.len() - 1);
    }

    /// A whole burst, of so many bytes.
    #[inline]
    pub(super) fn send_all(
        &mut self,
        frames: &mut Burst<N::Frame>,
        bytes: usize,
        counters: &WorkerCounters,
    ) {
        if self.outbox.is_empty() {
            mem::swap(&mut self.outbox, frames);
            self.bytes = bytes;
        } else {
            frames.drain(..).for_each(|frame| self.send(frame, counters));
        }
    }

    /// What is left at the end of a turn.
    #[inline]
    pub(super) fn flush(&mut self, counters: &WorkerCounters) {
        if !self.outbox.is_empty() {
            self.transmit(counters);
        }
    }

    /// One transmit burst. What the queue does not take is dropped: waiting would stall every other packet.
    #[inline(never)]
    fn transmit(&mut self, counters: &WorkerCounters) {
        let offered = self.outbox.len();
        self.queue.transmit(&mut self.outbox);
        let left = self.outbox.len();
        let left_bytes: usize = self.outbox.iter().map(|frame| frame.bytes().len()).sum();
        let sent = offered - left;
        let answered = (self.answers & mask(sent)).count_ones();
        self.answers = 0;
        let port = &counters.ports[usize::from(self.id)];
        port.tx_frames.add(sent as u64);
        port.tx_bytes.add((self.bytes - left_bytes) as u64);
        self.bytes = 0;
        counters.work.answered.add(u64::from(answered));
        counters.work.forwarded.add(sent as u64 - u64::from(answered));
        if left > 0 {
            counters.drops[DropReason::TransmitFull as usize].add(left as u64);
            self.queue.recycle(&mut self.outbox);
        }
    }
}

/// The low `count` bits.
fn mask(count: usize) -> u32 {
    match u32::try_from(count) {
        Ok(count) if count < u32::BITS => (1 << count) - 1,
        _ => u32::MAX,
    }
}

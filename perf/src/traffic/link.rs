//! One port of the generator: its queue pairs, what waits to be sent, and its neighbours.
//!
//! Frames wait in one outbox per queue, at most a burst; who finds it full keeps the frame. So nothing is lost on
//! this side: what was not sent is known ([`Link::unsent`]).

use dataplane::nic::{Burst, Nic};

use super::neighbor::Neighbors;

/// A port.
pub(super) struct Link<N: Nic> {
    queues: Vec<Queue<N>>,
    pub(super) neighbors: Neighbors,
}

struct Queue<N: Nic> {
    nic: N,
    outbox: Burst<N::Frame>,
}

impl<N: Nic> Link<N> {
    /// A port with these queue pairs, at least one.
    pub(super) fn new(nics: Vec<N>, neighbors: Neighbors) -> Self {
        let queues = nics.into_iter().map(|nic| Queue { nic, outbox: Burst::new() }).collect();
        Self { queues, neighbors }
    }

    pub(super) fn queues(&self) -> usize {
        self.queues.len()
    }

    /// Whether a frame for this queue finds room.
    pub(super) fn has_room(&mut self, queue: usize) -> bool {
        let queue = &mut self.queues[queue];
        if queue.outbox.is_full() {
            queue.nic.transmit(&mut queue.outbox);
        }
        !queue.outbox.is_full()
    }

    /// Puts a frame into the outbox of a queue; false, and the frame is gone, when there is no room.
    pub(super) fn send(&mut self, queue: usize, frame: N::Frame) -> bool {
        self.has_room(queue) && self.queues[queue].outbox.try_push(frame).is_ok()
    }

    /// Sends what waits; true when nothing is left.
    pub(super) fn flush(&mut self) -> bool {
        let mut clear = true;
        for queue in &mut self.queues {
            if !queue.outbox.is_empty() {
                queue.nic.transmit(&mut queue.outbox);
            }
            clear &= queue.outbox.is_empty();
        }
        clear
    }

    /// What waits on a queue, up to a burst.
    pub(super) fn receive(&mut self, queue: usize, inbox: &mut Burst<N::Frame>) {
        self.queues[queue].nic.receive(inbox);
    }

    /// Gives frames that nobody needs any more back.
    pub(super) fn recycle(&mut self, frames: &mut Burst<N::Frame>) {
        self.queues[0].nic.recycle(frames);
    }

    /// Frames that the queues did not take.
    pub(super) fn unsent(&self) -> impl Iterator<Item = &N::Frame> {
        self.queues.iter().flat_map(|queue| &queue.outbox)
    }
}

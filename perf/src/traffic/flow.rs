//! One connection as its two ends see it: what to send next, what has arrived, when it is over.
//!
//! Packets of a direction are numbered from 0, and the backend answers packet n with its own packet n; only the
//! acknowledgement that ends a TCP connection stays unanswered. TCP carries data in every segment, the SYN included
//! (RFC 9293 section 3.4 allows it), so that every packet can carry a tag; sequence numbers count it.
//! Nothing is sent again: a loss stays a loss.

use dataplane::flow::{Protocol, Tuple};
use dataplane::wire::tcp_flags::{ACK, FIN, SYN};

use super::frame::{Packet, Segment};
use super::tag::Direction;

/// A connection.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) number: u32,
    /// As the client sees it: from the client to the VIP.
    pub(super) tuple: Tuple,
    /// Which of the VIPs it is.
    pub(super) vip: usize,
    /// As the backend sees it; set by the first packet that arrives there.
    pub(super) translated: Option<Tuple>,
    pub(super) arrived: [Arrived; 2],
    sent: [u32; 2],
    state: State,
    ending: bool,
    acknowledged: u32,
    /// When something last happened, in cycles.
    active: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was sent.
    New,
    /// The SYN waits for its answer.
    Opening,
    Open,
    /// The FIN waits for its answer.
    Closing,
    /// The FIN was answered; the acknowledgement is due.
    Acknowledging,
    /// Nothing more to send.
    Closed,
}

/// What a client does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Sends a packet: [`Flow::send`].
    Send,
    /// Waits for a packet.
    Wait,
    /// Everything was said, and everything arrived.
    Done,
}

impl Flow {
    pub(super) fn new(number: u32, tuple: Tuple, vip: usize, now: u64) -> Self {
        Self {
            number,
            tuple,
            vip,
            translated: None,
            arrived: [Arrived::default(); 2],
            sent: [0; 2],
            state: State::New,
            ending: false,
            acknowledged: 0,
            active: now,
        }
    }

    /// Asks for the connection to be ended as its protocol ends connections.
    pub(super) fn end(&mut self) {
        self.ending = true;
    }

    /// The number of the client's next packet.
    pub(super) fn next(&self) -> u32 {
        self.sent[Direction::Forward.index()]
    }

    /// Whether anything was sent.
    pub(super) fn has_begun(&self) -> bool {
        self.state != State::New
    }

    /// Whether it waits for something that has not come for so long that it will not come.
    pub(super) fn is_stuck(&self, now: u64, patience: u64) -> bool {
        self.turn() == Turn::Wait && now.saturating_sub(self.active) > patience
    }

    pub(super) fn turn(&self) -> Turn {
        let everything = self.sent == self.arrived.map(|arrived| arrived.count);
        match self.state {
            State::New if self.ending => Turn::Done,
            State::New | State::Open | State::Acknowledging => Turn::Send,
            State::Closed if everything => Turn::Done,
            State::Opening | State::Closing | State::Closed => Turn::Wait,
        }
    }

    /// The client sends its next packet, with `payload` bytes: what TCP says in it. To be called on [`Turn::Send`].
    pub(super) fn send(&mut self, payload: u32, now: u64) -> Segment {
        self.active = now;
        let number = self.next();
        self.sent[Direction::Forward.index()] += 1;
        if self.tuple.protocol != Protocol::Tcp {
            // The last datagram is like any other.
            self.state = if self.ending { State::Closed } else { State::Open };
            return Segment::default();
        }
        let (flags, next) = match self.state {
            State::New => (SYN, State::Opening),
            State::Acknowledging => (ACK, State::Closed),
            _ if self.ending => (FIN | ACK, State::Closing),
            _ => (ACK, State::Open),
        };
        let mut sequence = position(self.start(Direction::Forward), number, payload);
        if self.state == State::Acknowledging {
            // The FIN counts as well.
            sequence = sequence.wrapping_add(1);
        }
        self.state = next;
        Segment { flags, sequence, acknowledged: self.acknowledged }
    }

    /// What the backend answers to a packet that arrived there; `None` when it needs no answer.
    pub(super) fn reply(&mut self, packet: &Packet) -> Option<Segment> {
        let index = Direction::Reverse.index();
        if self.tuple.protocol != Protocol::Tcp {
            self.sent[index] += 1;
            return Some(Segment::default());
        }
        let (segment, payload) = (packet.segment, packet.payload_len());
        let after_fin = self.state == State::Closed && packet.tag.sequence + 1 == self.sent[0];
        if after_fin {
            return None;
        }
        self.sent[index] += 1;
        Some(Segment {
            flags: ACK | segment.flags & (SYN | FIN),
            sequence: position(self.start(Direction::Reverse), packet.tag.sequence, payload),
            acknowledged: segment.next(payload),
        })
    }

    /// The client got a packet of the backend.
    pub(super) fn replied(&mut self, packet: &Packet, now: u64) {
        self.active = now;
        let Segment { flags, .. } = packet.segment;
        self.acknowledged = packet.segment.next(packet.payload_len());
        match self.state {
            State::Opening if flags & SYN != 0 => self.state = State::Open,
            State::Closing if flags & FIN != 0 => self.state = State::Acknowledging,
            _ => {}
        }
    }

    /// Where sequence numbers begin; different for every flow.
    fn start(&self, direction: Direction) -> u32 {
        let step = if direction == Direction::Forward { 0x9e37_79b1 } else { 0x85eb_ca6b };
        (self.number + 1).wrapping_mul(step)
    }
}

/// The sequence number of packet `number`: behind the SYN and all payload before.
fn position(start: u32, number: u32, payload: u32) -> u32 {
    start.wrapping_add(number.min(1)).wrapping_add(number.wrapping_mul(payload))
}

/// Which packets of a direction have arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrived {
    /// Different packets.
    pub(super) count: u32,
    /// One behind the highest number.
    next: u32,
    /// The numbers below `next`, the nearest in the lowest bit.
    window: u128,
}

/// What the number of a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Higher than all before.
    Ahead,
    /// Overtaken by a packet sent later.
    Behind,
    /// There before, or so late that nobody can tell.
    Again,
}

impl Arrived {
    /// Notes a packet.
    pub(super) fn note(&mut self, number: u32) -> Order {
        if number >= self.next {
            let ahead = number - self.next + 1;
            self.window = self.window.checked_shl(ahead).unwrap_or(0) | 1;
            self.next = number + 1;
            self.count += 1;
            return Order::Ahead;
        }
        let behind = self.next - 1 - number;
        let bit = 1u128.checked_shl(behind).unwrap_or(0);
        if bit == 0 || self.window & bit != 0 {
            return Order::Again;
        }
        self.window |= bit;
        self.count += 1;
        Order::Behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_tell_new_overtaken_and_repeated_packets_apart() {
        let mut arrived = Arrived::default();
        let orders: Vec<Order> =
            [0, 1, 4, 2, 2, 4, 200, 199, 3, 200].into_iter().map(|n| arrived.note(n)).collect();
        use Order::{Again, Ahead, Behind};
        assert_eq!(
            orders,
            [Ahead, Ahead, Ahead, Behind, Again, Again, Ahead, Behind, Again, Again]
        );
        assert_eq!(arrived.count, 6, "0, 1, 4, 2, 200, 199; 3 came too late to tell");
        assert_eq!(arrived.note(u32::MAX - 1), Ahead);
    }
}

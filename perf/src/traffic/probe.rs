//! Readiness: packets to every VIP, again and again, until all come back and every backend has seen one.
//!
//! Until then the gateway has neighbours to resolve and perhaps Services to load, and losing packets is its right.
//! Probes are like first packets of flows, but no flow, no count and no latency is kept of them.

use std::collections::HashSet;

use dataplane::flow::{Address, Protocol, Tuple};
use dataplane::wire::tcp_flags;

use super::frame::{Packet, Segment};
use super::plan::Plan;
use super::tag::{self, Direction, Tag};

/// Probes of a round per VIP and backend: the hash that chooses a backend rarely misses one this way.
const PER_BACKEND: usize = 8;
const MOST: usize = 512;

/// What the backend answers to a probe.
pub(super) fn reply(packet: &Packet) -> Segment {
    Segment {
        flags: tcp_flags::SYN | tcp_flags::ACK,
        sequence: packet.tag.flow,
        acknowledged: packet.segment.next(packet.payload_len()),
    }
}

/// Where probing stands.
#[derive(Debug)]
pub(super) struct Probes {
    round: u32,
    asked: u32,
    answered: u32,
    backends: HashSet<(Address, u16)>,
    each: u32,
}

impl Probes {
    pub(super) fn new(plan: &Plan) -> Self {
        let each = (plan.vips.len() * plan.backends.len() * PER_BACKEND).min(MOST);
        let each = u32::try_from(each).unwrap_or_default();
        Self { round: 0, asked: 0, answered: 0, backends: HashSet::new(), each }
    }

    /// Begins a round. Its probes have these numbers.
    pub(super) fn begin(&mut self) -> std::ops::Range<u32> {
        self.round += 1;
        (self.asked, self.answered) = (0, 0);
        0..self.each
    }

    /// The packet of a probe of this round.
    pub(super) fn packet(&self, number: u32, plan: &Plan, now: u64) -> (Tuple, Segment, Tag) {
        let (tuple, _) = plan.probe((self.round - 1).wrapping_mul(self.each).wrapping_add(number));
        let segment = match tuple.protocol {
            Protocol::Tcp => Segment { flags: tcp_flags::SYN, ..Segment::default() },
            _ => Segment::default(),
        };
        let (flow, sequence) = (tag::PROBES + number, self.round);
        (tuple, segment, Tag { direction: Direction::Forward, flow, sequence, sent: now })
    }

    pub(super) fn sent(&mut self) {
        self.asked += 1;
    }

    /// A probe reached this backend.
    pub(super) fn reached(&mut self, backend: (Address, u16)) {
        self.backends.insert(backend);
    }

    /// An answer reached its client.
    pub(super) fn answered(&mut self, tag: Tag) {
        if tag.sequence == self.round {
            self.answered += 1;
        }
    }

    /// Whether the round's probes all came back, by way of every backend so far.
    pub(super) fn complete(&self, plan: &Plan) -> bool {
        self.asked == self.each
            && self.answered == self.asked
            && plan.backends.iter().all(|backend| self.backends.contains(backend))
    }

    /// What is missing, for the operator.
    pub(super) fn missing(&self, plan: &Plan) -> String {
        let unseen: Vec<String> = plan
            .backends
            .iter()
            .filter(|backend| !self.backends.contains(backend))
            .map(|(address, port)| std::net::SocketAddr::new(address.ip(), *port).to_string())
            .collect();
        let unseen = if unseen.is_empty() { "none".into() } else { unseen.join(", ") };
        let (asked, answered) = (self.asked, self.answered);
        format!("{answered} of {asked} probes were answered; backends not reached: {unseen}")
    }
}

//! Opening connections, as many as a case wants, in the way their peers would.

use dataplane::flow::{Protocol, Tuple};
use dataplane::nic::Frame;
use vipgate::dpdk::Mbuf;

use super::bed::Bed;
use super::flows::{Choice, Kind};
use super::frames::{self, ACK, SYN, Sizes};
use super::gateway::Gateway;
use super::network::{IN, OUT};
use super::nic::RING;
use crate::bench::Error;

/// Connections that are open, and what is known of them.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) kind: Kind,
    pub(crate) services: u32,
    choices: Vec<Choice>,
    /// What it cost the gateway.
    pub(crate) cycles: u64,
}

impl Filled {
    /// Opens `connections` of a kind: handshakes for TCP, a datagram each way for UDP. Every one is checked.
    pub(crate) fn open(
        bed: &mut Bed<Gateway>,
        ring: &mut Vec<Mbuf>,
        kind: Kind,
        services: u32,
        connections: u32,
    ) -> Result<Self, Error> {
        let before = bed.tally();
        let choices = Vec::with_capacity(connections as usize);
        let mut filled = Self { kind, services, choices, cycles: 0 };
        let mut spare = Vec::with_capacity(RING);
        for first in (0..connections).step_by(RING) {
            let count = ((connections - first) as usize).min(RING);
            spare.extend(ring.drain(count..));
            filled.batch(bed, ring, first)?;
            ring.append(&mut spare);
        }
        let happened = bed.tally().since(&before);
        let expected = u64::from(connections);
        let all_there = happened.connections == before.connections + expected;
        if happened.created != expected || happened.expired + happened.evicted > 0 || !all_there {
            let words = happened.words();
            return Err(Error(format!("{connections} connections were to be opened: {words}")));
        }
        Ok(filled)
    }

    /// Number of connections.
    pub(crate) fn connections(&self) -> u32 {
        u32::try_from(self.choices.len()).unwrap_or(u32::MAX)
    }

    /// A connection as its client sees it.
    #[inline]
    pub(crate) fn flow(&self, number: u32) -> Tuple {
        self.kind.flow(number, self.services)
    }

    /// A connection as its pod sees it.
    #[inline]
    pub(crate) fn inside(&self, number: u32) -> Tuple {
        self.choices[number as usize].inside(&self.flow(number), self.kind.masquerade)
    }

    /// Sends a packet of every connection; returns how many are known no more.
    pub(crate) fn lost(&self, bed: &mut Bed<Gateway>, ring: &mut Vec<Mbuf>) -> Result<u64, Error> {
        let before = bed.tally();
        let mut numbers = (0..self.connections()).cycle();
        let rounds = self.choices.len().div_ceil(RING);
        bed.rounds(OUT, ring, rounds, |ring| {
            for (frame, number) in ring.iter_mut().zip(&mut numbers) {
                frames::write(frame, OUT, &self.flow(number), ACK, SMALL);
            }
        })?;
        // One that is not known is opened anew, or dropped.
        let happened = bed.tally().since(&before);
        Ok(happened.created + happened.received - happened.forwarded)
    }

    /// Opens one connection a frame.
    fn batch(
        &mut self,
        bed: &mut Bed<Gateway>,
        ring: &mut Vec<Mbuf>,
        first: u32,
    ) -> Result<(), Error> {
        let tcp = self.kind.protocol == Protocol::Tcp;
        let opening = if tcp { SYN } else { 0 };
        for (number, frame) in (first..).zip(ring.iter_mut()) {
            frames::write(frame, OUT, &self.flow(number), opening, SMALL);
        }
        self.sent(bed, ring, OUT)?;
        for (number, frame) in (first..).zip(ring.iter()) {
            let choice = frames::read(frame.bytes()).as_ref().and_then(Choice::of);
            self.choices.push(choice.ok_or_else(|| Error("a new flow went to no pod".into()))?);
            frames::judge(frame, IN, &self.inside(number))
                .map_err(|why| wrong("new flow", &why))?;
        }
        for (number, frame) in (first..).zip(ring.iter_mut()) {
            frames::write(frame, IN, &self.inside(number).reversed(), SYN | ACK, SMALL);
        }
        self.sent(bed, ring, IN)?;
        for (number, frame) in (first..).zip(ring.iter()) {
            frames::judge(frame, OUT, &self.flow(number).reversed())
                .map_err(|why| wrong("first reply", &why))?;
        }
        if tcp {
            for (number, frame) in (first..).zip(ring.iter_mut()) {
                frames::write(frame, OUT, &self.flow(number), ACK, SMALL);
            }
            self.sent(bed, ring, OUT)?;
        }
        Ok(())
    }

    /// All frames of the ring come in by `port` and must leave by the other.
    fn sent(
        &mut self,
        bed: &mut Bed<Gateway>,
        ring: &mut Vec<Mbuf>,
        port: u16,
    ) -> Result<(), Error> {
        let round = bed.round(port, ring)?;
        self.cycles += round.cycles;
        let sent = round.sent[usize::from(OUT + IN - port)];
        if sent == ring.len() {
            return Ok(());
        }
        let words = bed.tally().words();
        Err(Error(format!("{sent} of {} packets left while opening: {words}", ring.len())))
    }
}

/// Clients that were never seen before, without end: their first packets.
#[derive(Clone, Debug)]
pub(crate) struct Newcomers {
    kind: Kind,
    services: u32,
    next: u32,
}

impl Newcomers {
    /// None of them is a client of the first two thousand million connections.
    pub(crate) fn new(kind: Kind, services: u32) -> Self {
        Self { kind, services, next: 1 << 31 }
    }

    #[inline]
    pub(crate) fn write<'a>(&mut self, frames: impl IntoIterator<Item = &'a mut Mbuf>) {
        let flags = if self.kind.protocol == Protocol::Tcp { SYN } else { 0 };
        for frame in frames {
            frames::write(frame, OUT, &self.kind.flow(self.next, self.services), flags, SMALL);
            self.next = self.next.wrapping_add(1);
        }
    }
}

pub(crate) const SMALL: (Sizes, usize) = (Sizes::Shortest, 0);

fn wrong(what: &str, why: &str) -> Error {
    Error(format!("the frame of a {what} {why}"))
}

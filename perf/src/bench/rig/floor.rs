//! The least a connection-tracking forwarder can do: the measure for the engine.
//!
//! For a burst: load the headers, read addresses and ports, make of them the number of a cache line in a table as large
//! as the engine's connection table, ask for it; then, frame by frame, read that line and write addresses, ports and
//! MAC addresses. Nothing is checked, compared, counted or remembered: no parser, no checksum, no hop limit, no state,
//! no routes, no counters, no time. Receive and transmit are the engine's own, on the same frames.
//!
//! Two floors may hand over: each then reads the addresses of what it receives, gives all of it to the other through
//! the workers' own ring, and does the above with what it gets.

use std::hint::black_box;

use dataplane::clock::Moment;
use dataplane::engine::{Arrival, Origin};
use dataplane::fib::PortId;
use dataplane::handoff::{self, Batch, Handed, Links};
use dataplane::hash::{high32, reduce};
use dataplane::nic::{BURST, Burst, Frame, Nic};
use dataplane::prefetch::prefetch;
use vipgate::dpdk::Mbuf;

use super::bed::{Bed, Device};
use super::machine::{Machine, Table};
use super::network::PORTS;
use super::nic::BenchNic;
use crate::bench::Error;

/// Where a flow's line is, is decided by one multiplication with this odd number (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// Where the addresses begin in an untagged frame; the ports follow.
const V4: usize = 26;
const V6: usize = 22;

/// A worker that does the least.
#[derive(Debug)]
pub(crate) struct Floor {
    queues: [BenchNic; PORTS],
    table: Table,
    lines: usize,
    /// Where everything goes, if it does: the other's number, and the rings.
    other: Option<(u16, Links<Mbuf>)>,
}

impl Floor {
    /// Uses only the first `bytes` of its table from now on.
    pub(crate) fn resize(&mut self, bytes: usize) {
        self.lines = bytes.min(self.table.len()) / 64;
    }

    fn burst(&self, burst: &mut Burst<Mbuf>) {
        let (table, _) = self.table.as_chunks::<64>();
        let table = &table[..self.lines];
        burst.iter().for_each(Frame::prefetch);
        let mut lines = [0; BURST];
        for (line, frame) in lines.iter_mut().zip(burst.iter()) {
            let hash = key(frame.bytes()).wrapping_mul(SPREAD);
            *line = reduce(high32(hash), self.lines);
            prefetch(&table[*line]);
        }
        for (line, frame) in lines.iter().zip(burst.iter_mut()) {
            edit(frame.bytes_mut(), &table[*line]);
        }
    }

    /// Looks at the frames that one port received, and gives them away.
    fn hand_over(&mut self, port: usize, burst: &mut Burst<Mbuf>) {
        let Some((other, links)) = &mut self.other else { return };
        let port = PortId::try_from(port).unwrap_or_default();
        let arrival = Arrival { port, origin: Origin::Wire, fragment_ports: None };
        burst.iter().for_each(Frame::prefetch);
        for frame in burst.drain(..) {
            black_box(key(frame.bytes()));
            let refused = links.give(*other, Handed { frame, arrival });
            assert!(refused.is_none(), "the ring holds more than one floor is offered");
        }
        assert!(links.flush().is_none(), "the ring holds more than one floor is offered");
    }

    /// Takes what the other gave.
    fn take_over(&mut self) -> usize {
        let mut batch = Batch::new();
        if let Some((_, links)) = &mut self.other {
            links.look_ahead(0);
            links.take(0, &mut batch);
        }
        let Some(Handed { arrival, .. }) = batch.first() else { return 0 };
        let out = PORTS - 1 - usize::from(arrival.port);
        let mut burst: Burst<Mbuf> = batch.into_iter().map(|handed| handed.frame).collect();
        let frames = burst.len();
        self.burst(&mut burst);
        self.queues[out].transmit(&mut burst);
        frames
    }
}

impl Bed<Floor> {
    /// A floor with a table of `bytes`.
    pub(crate) fn floor(machine: &Machine, bytes: usize) -> Result<Self, Error> {
        let table = machine.table(bytes)?;
        let (bed, queues) = Bed::cabled(machine);
        Ok(bed.with(Floor { queues, lines: table.len() / 64, table, other: None }))
    }

    /// Two floors that hand over all that they receive.
    pub(crate) fn handing_floors(machine: &Machine, bytes: usize) -> Result<[Self; 2], Error> {
        let mut floors = [Self::floor(machine, bytes)?, Self::floor(machine, bytes)?];
        for ((floor, other), links) in floors.iter_mut().zip([1, 0]).zip(handoff::mesh(2)) {
            floor.device.other = Some((other, links));
        }
        Ok(floors)
    }
}

impl Device for Floor {
    fn poll(&mut self, _now: Moment) -> usize {
        let mut frames = 0;
        if let Some((_, links)) = &mut self.other {
            links.look(0);
        }
        for port in 0..PORTS {
            let mut burst = Burst::new();
            self.queues[port].receive(&mut burst);
            if burst.is_empty() {
                continue;
            }
            frames += burst.len();
            if self.other.is_some() {
                self.hand_over(port, &mut burst);
                continue;
            }
            self.burst(&mut burst);
            self.queues[PORTS - 1 - port].transmit(&mut burst);
        }
        frames + self.take_over()
    }
}

/// Addresses and ports, folded.
#[inline]
fn key(frame: &[u8]) -> u64 {
    if is_v4(frame) {
        return long(frame, V4).wrapping_add(u64::from(short(frame, V4 + 8)) << 32);
    }
    let source = long(frame, V6) ^ long(frame, V6 + 8).rotate_left(13);
    let destination = long(frame, V6 + 16) ^ long(frame, V6 + 24).rotate_left(13);
    source ^ destination.rotate_left(26) ^ u64::from(short(frame, V6 + 32)) << 32
}

/// Writes the header as a translation would. What it writes depends on the line, which holds zeros.
#[inline]
fn edit(frame: &mut [u8], line: &[u8; 64]) {
    let (change, ports) = (long(line, 0), short(line, 8));
    frame[..12].copy_from_slice(&line[16..28]);
    if is_v4(frame) {
        change_long(frame, V4, change);
        change_short(frame, V4 + 8, ports);
    } else {
        for at in [V6, V6 + 8, V6 + 16, V6 + 24] {
            change_long(frame, at, change);
        }
        change_short(frame, V6 + 32, ports);
    }
}

#[inline]
fn is_v4(frame: &[u8]) -> bool {
    frame[12] == 0x08
}

#[inline]
fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[inline]
fn short(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[inline]
fn change_long(bytes: &mut [u8], at: usize, change: u64) {
    let word = long(bytes, at) ^ change;
    bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes());
}

#[inline]
fn change_short(bytes: &mut [u8], at: usize, change: u32) {
    let word = short(bytes, at) ^ change;
    bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
}

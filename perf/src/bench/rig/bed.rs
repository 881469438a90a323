//! A device under test between two cables, driven ring by ring.

use std::sync::Arc;

use dataplane::clock::Moment;
use dataplane::fib::PortId;
use vipgate::dpdk::{Mbuf, cycles};

use super::machine::Machine;
use super::network::PORTS;
use super::nic::{self, BenchNic, Cable, Done};
use crate::bench::Error;

/// Polls that find nothing before a device is given up.
const PATIENCE: u32 = 1000;

/// Something that takes frames from one port and sends them by another.
pub(crate) trait Device {
    /// One turn; returns the number of frames taken.
    fn poll(&mut self, now: Moment) -> usize;
}

/// The bed.
#[derive(Debug)]
pub(crate) struct Bed<D> {
    pub(crate) device: D,
    cables: [Arc<Cable>; PORTS],
    clock: Clock,
}

/// Time as the device sees it: that of the work it did, and what the benchmark adds. So the share of what a worker does
/// once a millisecond is as large as in production at full load.
#[derive(Debug)]
struct Clock {
    millis: u64,
    cycles: u64,
    cycles_a_milli: u64,
}

/// What became of a ring of frames.
#[derive(Debug)]
pub(crate) struct Round {
    /// What it cost.
    pub(crate) cycles: u64,
    /// Frames sent, by port. They lie in this order in the ring, then those that were dropped.
    pub(crate) sent: [usize; PORTS],
}

impl<D: Device> Bed<D> {
    /// Makes a device with its queues.
    pub(crate) fn new(
        machine: &Machine,
        device: impl FnOnce([BenchNic; PORTS]) -> Result<D, Error>,
    ) -> Result<Self, Error> {
        let (pairs, cables): (Vec<_>, Vec<_>) = (0..PORTS).map(|_| nic::pair()).unzip();
        let count = "as many as there are ports";
        let device = device(pairs.try_into().expect(count))?;
        let cycles_a_milli = machine.eal.tsc_hz() / 1000;
        let clock = Clock { millis: 1_000_000, cycles: 0, cycles_a_milli };
        Ok(Self { device, cables: cables.try_into().expect(count), clock })
    }

    /// The device gets all frames of the ring at one port, and is polled until it has taken them. Only that is timed.
    pub(crate) fn round(&mut self, port: PortId, ring: &mut Vec<Mbuf>) -> Result<Round, Error> {
        let count = ring.len();
        self.cables[usize::from(port)].offer(ring);
        let now = self.clock.now();
        let (mut taken, mut idle) = (0, 0);
        let start = cycles();
        while taken < count && idle < PATIENCE {
            let frames = self.device.poll(now);
            taken += frames;
            idle += u32::from(frames == 0);
        }
        let cycles = cycles() - start;
        self.clock.worked(cycles);
        self.collect(ring, cycles, count)
    }

    /// So many rounds, each with fresh frames; returns what they cost.
    pub(crate) fn rounds(
        &mut self,
        port: PortId,
        ring: &mut Vec<Mbuf>,
        rounds: usize,
        mut write: impl FnMut(&mut [Mbuf]),
    ) -> Result<u64, Error> {
        let mut cycles = 0;
        for _ in 0..rounds {
            write(ring);
            cycles += self.round(port, ring)?.cycles;
        }
        Ok(cycles)
    }

    fn collect(&mut self, ring: &mut Vec<Mbuf>, cycles: u64, count: usize) -> Result<Round, Error> {
        self.cables.iter().for_each(|cable| cable.call());
        self.device.poll(self.clock.now());
        let mut done: [Done; PORTS] = std::array::from_fn(|port| self.cables[port].take());
        let sent = done.each_ref().map(|done| done.sent.len());
        for done in &mut done {
            ring.append(&mut done.sent);
        }
        for done in &mut done {
            ring.append(&mut done.dropped);
        }
        if ring.len() != count {
            let lost = count - ring.len();
            return Err(Error(format!("{lost} of {count} frames were neither sent nor dropped")));
        }
        Ok(Round { cycles, sent })
    }

    /// Polls without frames, once a millisecond; returns what it cost.
    pub(crate) fn idle(&mut self, millis: u64) -> u64 {
        let start = cycles();
        (0..millis).for_each(|_| self.wait(1));
        cycles() - start
    }

    /// Polls without frames, `millis` later.
    pub(crate) fn wait(&mut self, millis: u64) {
        self.clock.millis += millis;
        self.device.poll(self.clock.now());
    }
}

impl Clock {
    fn now(&self) -> Moment {
        Moment(self.millis + self.cycles / self.cycles_a_milli)
    }

    fn worked(&mut self, cycles: u64) {
        self.cycles += cycles;
    }
}

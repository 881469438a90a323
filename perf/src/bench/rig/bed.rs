//! A device under test between two cables, driven ring by ring.

use std::sync::Arc;

use dataplane::clock::Moment;
use dataplane::fib::PortId;
use vipgate::dpdk::{Mbuf, cycles};

use super::machine::Machine;
use super::network::PORTS;
use super::nic::{self, BenchNic, Cable, Done};
use super::times::Times;
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
    now: Moment,
    /// Of the millisecond that has begun.
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

impl Bed<()> {
    /// An empty bed, and the queues of the device that is to lie in it.
    pub(crate) fn cabled(machine: &Machine) -> (Self, [BenchNic; PORTS]) {
        let [(out, out_cable), (inside, inside_cable)] = [nic::pair(), nic::pair()];
        let cycles_a_milli = machine.eal.tsc_hz() / 1000;
        let clock = Clock { now: Moment(1_000_000), cycles: 0, cycles_a_milli };
        (Self { device: (), cables: [out_cable, inside_cable], clock }, [out, inside])
    }

    /// With its device.
    pub(crate) fn with<D>(self, device: D) -> Bed<D> {
        Bed { device, cables: self.cables, clock: self.clock }
    }
}

impl<D: Device> Bed<D> {
    /// The device gets all frames of the ring at one port, and is polled until it has taken them. Only that is timed.
    pub(crate) fn round(&mut self, port: PortId, ring: &mut Vec<Mbuf>) -> Result<Round, Error> {
        let count = ring.len();
        self.offer(port, ring);
        let (mut taken, mut idle) = (0, 0);
        let start = cycles();
        while taken < count && idle < PATIENCE {
            let frames = self.poll();
            taken += frames;
            idle += u32::from(frames == 0);
        }
        let cycles = cycles() - start;
        self.worked(cycles);
        let sent = self.collect(ring);
        if ring.len() != count {
            let lost = count - ring.len();
            return Err(Error(format!("{lost} of {count} frames were neither sent nor dropped")));
        }
        Ok(Round { cycles, sent })
    }

    /// Lays frames before a port. The clock stands still until the device is said to have worked.
    pub(crate) fn offer(&mut self, port: PortId, ring: &mut Vec<Mbuf>) {
        self.cables[usize::from(port)].offer(ring);
    }

    /// One turn of the device.
    #[inline]
    pub(crate) fn poll(&mut self) -> usize {
        self.device.poll(self.clock.now)
    }

    /// The device has worked for so long.
    pub(crate) fn worked(&mut self, cycles: u64) {
        self.clock.advance(cycles);
    }

    /// Takes the frames that the device is done with, for which it needs a turn. Returns how many were sent, by port:
    /// they lie in this order, then those that were dropped.
    pub(crate) fn collect(&mut self, ring: &mut Vec<Mbuf>) -> [usize; PORTS] {
        self.cables.iter().for_each(|cable| cable.call());
        self.poll();
        let mut done: [Done; PORTS] = std::array::from_fn(|port| self.cables[port].take());
        let sent = done.each_ref().map(|done| done.sent.len());
        done.iter_mut().for_each(|done| ring.append(&mut done.sent));
        done.iter_mut().for_each(|done| ring.append(&mut done.dropped));
        sent
    }

    /// So many rounds, each with fresh frames.
    pub(crate) fn rounds(
        &mut self,
        port: PortId,
        ring: &mut Vec<Mbuf>,
        rounds: usize,
        mut write: impl FnMut(&mut [Mbuf]),
    ) -> Result<Times, Error> {
        let mut times = Times::default();
        for _ in 0..rounds {
            write(ring);
            times.push(self.round(port, ring)?.cycles);
        }
        Ok(times)
    }

    /// So many turns without frames.
    pub(crate) fn turns(&mut self, turns: usize) {
        (0..turns).for_each(|_| _ = self.poll());
    }

    /// Time passes, and the device is not asked.
    pub(crate) fn pass(&mut self, millis: u64) {
        self.clock.now = self.clock.now.after(millis);
    }

    /// Time passes, and the device has a turn.
    pub(crate) fn wait(&mut self, millis: u64) {
        self.pass(millis);
        self.poll();
    }
}

impl Clock {
    fn advance(&mut self, cycles: u64) {
        self.cycles += cycles;
        self.now = self.now.after(self.cycles / self.cycles_a_milli);
        self.cycles %= self.cycles_a_milli;
    }
}

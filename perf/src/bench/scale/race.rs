//! Workers that run at the same time, round by round.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use core_affinity::CoreId;
use vipgate::dpdk::{Mbuf, cycles};

use super::fleet::Packets;
use super::{Error, WARM_UP};
use crate::bench::rig::bed::{Bed, Device};
use crate::bench::rig::network::OUT;
use crate::bench::rig::times::Times;

/// Cycles after which a round is given up: seconds.
const PATIENCE: u64 = 10_000_000_000;

/// One worker on its core, with what it is fed.
pub(super) struct Lane<'a, D> {
    pub(super) bed: &'a mut Bed<D>,
    pub(super) ring: &'a mut Vec<Mbuf>,
    pub(super) core: CoreId,
    pub(super) packets: Packets<'a>,
    /// Frames of a round that others hand over.
    pub(super) handed_in: usize,
}

/// Runs so many rounds in all lanes at once, after some that don't count. Returns the packets per cycle of all together.
pub(super) fn race<'a, D: Device + Send + 'a>(
    lanes: impl IntoIterator<Item = Lane<'a, D>>,
    rounds: usize,
) -> Result<f64, Error> {
    let lanes: Vec<Lane<'_, D>> = lanes.into_iter().collect();
    let gate = Gate { lanes: lanes.len(), ..Gate::default() };
    thread::scope(|scope| {
        let start = |mut lane: Lane<'a, D>| {
            let gate = &gate;
            scope.spawn(move || lane.run(rounds, gate).inspect_err(|_| gate.fail()))
        };
        let threads: Vec<_> = lanes.into_iter().map(start).collect();
        let rates = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(Error("a worker's thread has panicked".into())))
        });
        rates.sum()
    })
}

impl<D: Device> Lane<'_, D> {
    fn run(&mut self, rounds: usize, gate: &Gate) -> Result<f64, Error> {
        core_affinity::set_for_current(self.core);
        let (count, warm_up) = (self.ring.len(), rounds / WARM_UP);
        let mut times = Times::default();
        for round in 0..warm_up + rounds {
            self.packets.write(self.ring);
            self.bed.offer(OUT, self.ring);
            let worked = self.round(count, round, gate)?;
            self.bed.worked(worked);
            if round >= warm_up {
                times.push(worked);
            }
            self.bed.collect(self.ring);
            if self.ring.len() != count {
                let sent = self.ring.len();
                return Err(Error(format!("a worker sent {sent} frames of a round, not {count}")));
            }
        }
        Ok(count as f64 / times.mean())
    }

    /// From the moment that all are ready until all are done; returns the cycles of turns that found something.
    fn round(&mut self, count: usize, round: usize, gate: &Gate) -> Result<u64, Error> {
        gate.meet(round)?;
        let start = cycles();
        let mut taken = 0;
        // Each of these turns finds something, so that one look at the clock will do for all.
        while taken < count {
            match self.bed.poll() {
                0 => return Err(Error(format!("a worker took {taken} of {count} frames"))),
                frames => taken += frames,
            }
        }
        let mut busy = cycles() - start;
        let expected = count + self.handed_in;
        let mut told = false;
        while !gate.all_done(round) {
            if taken >= expected && !told {
                gate.done();
                told = true;
            }
            let before = cycles();
            let frames = self.bed.poll();
            if frames > 0 {
                busy += cycles() - before;
                taken += frames;
            }
            if gate.has_failed() || before - start > PATIENCE {
                return Err(Error(format!("a worker got {taken} of {expected} frames")));
            }
        }
        Ok(busy)
    }
}

/// Where lanes wait for each other. They turn on the spot: going to sleep would take longer than a round.
#[derive(Default)]
struct Gate {
    lanes: usize,
    arrived: AtomicUsize,
    done: AtomicUsize,
    failed: AtomicBool,
}

impl Gate {
    /// Waits until all lanes have come to this round.
    fn meet(&self, round: usize) -> Result<(), Error> {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        while self.arrived.load(Ordering::Acquire) < self.lanes * (round + 1) {
            if self.has_failed() {
                return Err(Error("another worker has failed".into()));
            }
            hint::spin_loop();
        }
        Ok(())
    }

    /// One lane has nothing more to expect in this round.
    fn done(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    fn all_done(&self, round: usize) -> bool {
        self.done.load(Ordering::Acquire) >= self.lanes * (round + 1)
    }

    fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

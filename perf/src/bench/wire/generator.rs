//! The generator: one thread that sends at a rate, receives, and compares.
//!
//! Every turn of the loop sends what is due by the clock, at most a burst, and receives what is there. Nothing is
//! allocated and no system call made. What the ring to the device does not take is lost, as on a NIC whose receive
//! ring is full. When the generator itself was held up, it does not make up for it with a burst that no device could
//! take: it offers less, and the trial tells.

use std::sync::Arc;

use dataplane::fib::Mac;
use dataplane::nic::{BURST, Burst, Frame, Nic};
use vipgate::dpdk::{Mbuf, Mempool, cycles};

use super::frames::{self, Ends, LEN, Tag, Template};
use super::pace::{Pace, Turns};
use super::trial::Trial;

/// Every so many frames (a power of two) are checked to the last bit.
const CHECKED: u32 = 64;
/// When nothing has come for so long, what is missing is lost, in seconds: a device may have lost its core meanwhile.
const QUIET: f64 = 0.06;
/// How long to wait for that at most, in seconds.
const PATIENCE: f64 = 0.3;

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From clients to the Service.
    Forward,
    /// From backends to clients.
    Reply,
}

/// What the device does to frames, MAC addresses aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: testpmd.
    Reflects,
    /// Translates between VIP and backends: vipgate.
    Translates,
}

/// What to send in a trial.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) direction: Direction,
    pub(super) flows: u32,
    /// Frames a second; infinite for as many as can be.
    pub(super) rate: f64,
    pub(super) seconds: f64,
    /// Whether to note latencies.
    pub(super) timed: bool,
}

/// Where new frames come from.
pub(super) trait Source<F> {
    /// Puts so many behind those of a burst; false when there are none.
    fn fill(&mut self, burst: &mut Burst<F>, count: usize) -> bool;
}

impl Source<Mbuf> for Arc<Mempool> {
    fn fill(&mut self, burst: &mut Burst<Mbuf>, count: usize) -> bool {
        Mempool::fill(self, burst, count)
    }
}

/// What is known of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    /// Where its first packet came out, if it was opened.
    pub(super) backend: Option<u8>,
    /// Whether the answer to that came back.
    pub(super) answered: bool,
}

/// A generator on one link.
#[derive(Debug)]
pub(super) struct Generator<N: Nic, S> {
    pub(super) nic: N,
    pub(super) source: S,
    pub(super) effect: Effect,
    pub(super) mac: Mac,
    pub(super) template: Template,
    pub(super) hz: u64,
    pub(super) known: Vec<Flow>,
    /// Numbers of frames go on from trial to trial, so that a straggler is noticed.
    pub(super) sequence: u32,
    pub(super) inbox: Burst<N::Frame>,
    pub(super) outbox: Burst<N::Frame>,
}

impl<N: Nic, S: Source<N::Frame>> Generator<N, S> {
    /// A generator whose port has the address `mac`.
    pub(super) fn new(nic: N, source: S, effect: Effect, mac: Mac, hz: u64) -> Self {
        Self {
            nic,
            source,
            effect,
            mac,
            template: Template::new(mac),
            hz,
            known: Vec::new(),
            sequence: 0,
            inbox: Burst::new(),
            outbox: Burst::new(),
        }
    }

    /// One trial, until its last frame has come back or is lost.
    pub(super) fn run(&mut self, load: &Load) -> Trial {
        let mut trial = Trial::new(self.sequence, load.timed);
        let mut turns = Turns::new(load.flows);
        let start = cycles();
        let end = start + self.cycles(load.seconds);
        let mut pace = Pace::new(load.rate, self.hz, start);
        let mut before = start;
        let stopped = loop {
            let now = cycles();
            trial.stall = trial.stall.max(now - before);
            before = now;
            if now >= end {
                break now;
            }
            let due = pace.due(now);
            if due > 0 {
                self.send(load, &mut turns, due, now, &mut trial);
            }
            self.receive(load, &mut trial);
        };
        let seconds = self.seconds(stopped - start);
        trial.intended = pace.intended(stopped).unwrap_or_else(|| trial.offered());
        self.settle(load, &mut trial);
        trial.close(self.sequence, seconds);
        trial
    }

    #[inline]
    fn send(&mut self, load: &Load, turns: &mut Turns, count: usize, now: u64, trial: &mut Trial) {
        if !self.source.fill(&mut self.outbox, count) {
            return;
        }
        for frame in &mut self.outbox {
            let flow = turns.next();
            let ends = match load.direction {
                Direction::Forward => Ends::forward(flow),
                Direction::Reply => backend_side(&self.known, flow).reversed(),
            };
            // Every buffer has room for a frame.
            let _ = frame.set_len(LEN);
            self.template.write(frame.bytes_mut(), ends, flow, self.sequence, now);
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.nic.transmit(&mut self.outbox);
        let refused = self.outbox.len();
        trial.taken += (count - refused) as u64;
        trial.refused += refused as u64;
        if refused > 0 {
            self.nic.recycle(&mut self.outbox);
        }
    }

    /// Up to two bursts, so that receiving never falls behind sending. Returns how many frames came.
    #[inline]
    fn receive(&mut self, load: &Load, trial: &mut Trial) -> usize {
        let mut received = 0;
        for _ in 0..2 {
            self.nic.receive(&mut self.inbox);
            let count = self.inbox.len();
            if count == 0 {
                break;
            }
            let now = if load.timed { cycles() } else { 0 };
            for frame in &self.inbox {
                // The gateway's kernel may talk, too: nobody listens.
                let Some(tag) = Tag::read(frame.bytes()) else { continue };
                trial.arrived(tag, now);
                if tag.sequence & (CHECKED - 1) == 0 {
                    trial.checked += 1;
                    trial.wrong += u64::from(!self.is_right(load, frame, tag));
                }
            }
            self.nic.recycle(&mut self.inbox);
            received += count;
            if count < BURST {
                break;
            }
        }
        received
    }

    /// Waits for the last frames, for as long as some are missing.
    fn settle(&mut self, load: &Load, trial: &mut Trial) {
        let (quiet, patience) = (self.cycles(QUIET), self.cycles(PATIENCE));
        let begin = cycles();
        let mut last = begin;
        loop {
            let now = cycles();
            if self.receive(load, trial) > 0 {
                last = now;
            }
            let missing = trial.received < trial.taken;
            if !missing || now - last > quiet || now - begin > patience {
                return;
            }
        }
    }

    /// Whether a frame that came back is what the device should have made of it.
    fn is_right(&self, load: &Load, frame: &N::Frame, tag: Tag) -> bool {
        let expected = match (self.effect, load.direction) {
            (Effect::Reflects, Direction::Forward) => Ends::forward(tag.flow),
            (Effect::Translates, Direction::Forward) => backend_side(&self.known, tag.flow),
            (Effect::Reflects, Direction::Reply) => backend_side(&self.known, tag.flow).reversed(),
            (Effect::Translates, Direction::Reply) => Ends::forward(tag.flow).reversed(),
        };
        frames::verify(frame.bytes()) == Some(expected)
    }

    #[expect(clippy::cast_possible_truncation, reason = "seconds of a trial are few")]
    pub(super) fn cycles(&self, seconds: f64) -> u64 {
        (seconds * self.hz as f64) as u64
    }

    pub(super) fn seconds(&self, cycles: u64) -> f64 {
        cycles as f64 / self.hz as f64
    }
}

/// A flow's ends between client and backend. Where nobody chooses one, flows go to all backends in turn.
#[inline]
fn backend_side(known: &[Flow], flow: u32) -> Ends {
    let backend = known.get(flow as usize).and_then(|known| known.backend);
    Ends::forwarded(flow, backend.unwrap_or_else(|| frames::backend_in_turn(flow)))
}

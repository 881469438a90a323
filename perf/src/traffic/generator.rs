//! The generator: one poll receives, judges, answers, and sends what is due.
//!
//! It goes through stages: find the gateway's MAC addresses, probe until everything answers, run at the rate, end all
//! flows, over. Every client packet is sent by the pace alone; a lost packet does not slow the others down.
//! Time comes from outside, in cycles, and so do the frames; neither DPDK nor the system is known here.

use std::collections::HashMap;

use dataplane::flow::Tuple;
use dataplane::nic::{BURST, Frame, Nic};

use super::flow::{Flow, Turn};
use super::frame::{self, Arrival};
use super::link::Link;
use super::pace::Pace;
use super::plan::Plan;
use super::probe::Probes;
use super::report::Tally;
use super::tag::{Direction, Tag};

/// The link of the clients; the backends' is the last one, which may be the same.
pub(super) const CLIENTS: usize = 0;
/// Flows looked at for one packet to send.
const TRIES: usize = 64;
/// Questions for MAC addresses and rounds of probes a second.
const ASKING: f64 = 5.0;

/// Times of a run, in cycles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Cycles per second.
    pub(super) hz: u64,
    /// How long everything may take to answer, from the start.
    pub(super) ready: u64,
    /// How long to run at the rate.
    pub(super) run: u64,
    /// A packet that has not arrived for so long is lost.
    pub(super) patience: u64,
}

/// Where a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Looks for the gateway.
    Resolving,
    /// Looks whether all VIPs and backends work.
    Probing,
    Running {
        until: u64,
    },
    /// Flows end.
    Ending {
        until: u64,
    },
    Over,
    /// It never came to running.
    NotReady(String),
}

/// Clients and backends around a gateway.
pub(super) struct Generator<N: Nic, M> {
    pub(super) plan: Plan,
    pub(super) links: Vec<Link<N>>,
    make: M,
    /// A frame of the right length, to be filled.
    blank: Vec<u8>,
    times: Times,
    ready_until: u64,
    pub(super) stage: Stage,
    asking: Pace,
    sending: Pace,
    renewing: Pace,
    pub(super) probes: Probes,
    /// A flow's number modulo the length is its place; none when it ended for good.
    flows: Vec<Option<Flow>>,
    /// Whose turn it is to send, and to end.
    turns: [usize; 2],
    /// What backends see, by whom: no two flows may look the same.
    pub(super) translated: HashMap<Tuple, u32>,
    pub(super) tally: Tally,
}

impl<N: Nic, M> Generator<N, M>
where
    M: FnMut(&[u8]) -> Option<N::Frame>,
{
    /// `make` gives a frame of some bytes, or none when there is no buffer.
    pub(super) fn new(plan: Plan, links: Vec<Link<N>>, times: Times, make: M, now: u64) -> Self {
        let idle = || Pace::new(0.0, times.hz, now);
        Self {
            links,
            make,
            blank: vec![0; plan.frame_len],
            times,
            ready_until: now + times.ready,
            stage: Stage::Resolving,
            asking: Pace::new(ASKING, times.hz, now),
            sending: idle(),
            renewing: idle(),
            probes: Probes::new(&plan),
            flows: Vec::new(),
            turns: [0; 2],
            translated: HashMap::new(),
            tally: Tally::new(times.hz),
            plan,
        }
    }

    /// One turn of everything; false when there was nothing to do.
    pub(super) fn poll(&mut self, now: u64) -> bool {
        let received = self.receive(now);
        let sent = match self.stage {
            Stage::Resolving => self.resolve(now),
            Stage::Probing => self.probe(now),
            Stage::Running { until } if now < until => {
                self.renew(now);
                self.send(now)
            }
            Stage::Running { .. } => self.end(now),
            Stage::Ending { until } if now < until && self.flows.iter().any(Option::is_some) => {
                self.send(now)
            }
            Stage::Ending { .. } => self.give_up_all(now),
            Stage::Over | Stage::NotReady(_) => false,
        };
        for link in &mut self.links {
            link.flush();
        }
        received || sent
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over | Stage::NotReady(_))
    }

    /// Ends the run early, but in order.
    pub(super) fn interrupt(&mut self, now: u64) {
        match self.stage {
            Stage::Running { .. } => {
                self.end(now);
            }
            Stage::Resolving | Stage::Probing => self.stage = Stage::NotReady("interrupted".into()),
            _ => {}
        }
    }

    /// What happened. What the queues never took counts as not sent.
    pub(super) fn into_tally(mut self) -> Tally {
        for frame in self.links.iter().flat_map(Link::unsent) {
            if let Arrival::Ours(packet) = frame::read(frame.bytes()) {
                self.tally.side(packet.tag.direction).sent -= 1;
            }
        }
        self.tally
    }

    /// The flow of this number, unless it is over.
    pub(super) fn flow(&mut self, number: u32) -> Option<&mut Flow> {
        let slot = number as usize % self.flows.len().max(1);
        self.flows.get_mut(slot)?.as_mut().filter(|flow| flow.number == number)
    }

    fn resolve(&mut self, now: u64) -> bool {
        if self.links.iter().all(|link| link.neighbors.gateway_mac().is_some()) {
            self.stage = Stage::Probing;
            return true;
        }
        if now > self.ready_until {
            let silent = self.links.iter().filter(|link| link.neighbors.gateway_mac().is_none());
            let silent: Vec<String> =
                silent.map(|link| format!("{:?}", link.neighbors.gateway())).collect();
            let what = format!("nobody says that it has {}", silent.join(" and "));
            self.stage = Stage::NotReady(what);
            return false;
        }
        if !self.asking.is_due(now) {
            return false;
        }
        self.asking.take();
        for link in &mut self.links {
            let waits = link.unsent().next().is_some();
            if link.neighbors.gateway_mac().is_none() && !waits {
                let question = (self.make)(&link.neighbors.question());
                question.map(|frame| link.send(0, frame));
            }
        }
        true
    }

    fn probe(&mut self, now: u64) -> bool {
        if self.probes.complete(&self.plan) {
            self.start(now);
            return true;
        }
        if now > self.ready_until {
            self.stage = Stage::NotReady(self.probes.missing(&self.plan));
            return false;
        }
        if !self.asking.is_due(now) {
            return false;
        }
        self.asking.take();
        for number in self.probes.begin() {
            let (tuple, segment, tag) = self.probes.packet(number, &self.plan, now);
            if self.transmit(tuple, tag, |_| segment) {
                self.probes.sent();
            }
        }
        true
    }

    fn start(&mut self, now: u64) {
        let Times { hz, ready, run, .. } = self.times;
        self.tally.ready = now - (self.ready_until - ready);
        self.sending = Pace::new(self.plan.rate, hz, now);
        self.renewing = Pace::new(self.plan.renewals, hz, now);
        self.flows = (0..self.plan.flows).map(|number| Some(self.new_flow(number, now))).collect();
        self.stage = Stage::Running { until: now + run };
    }

    /// Every flow says its farewell at the pace of everything else.
    fn end(&mut self, now: u64) -> bool {
        for flow in self.flows.iter_mut().flatten() {
            flow.end();
        }
        // At the end a flow still has a FIN and an acknowledgement to send, and an answer to wait for.
        let farewells =
            Pace::duration(2.0 * f64::from(self.plan.flows), self.plan.rate, self.times.hz);
        let until = now + farewells + 3 * self.times.patience;
        self.stage = Stage::Ending { until };
        true
    }

    fn give_up_all(&mut self, now: u64) -> bool {
        for slot in 0..self.flows.len() {
            self.finish(slot, false, now);
        }
        self.stage = Stage::Over;
        true
    }

    /// Ends flows so that others can begin.
    fn renew(&mut self, now: u64) {
        while self.renewing.is_due(now) {
            self.renewing.take();
            let slot = self.turns[1];
            self.turns[1] = (slot + 1) % self.flows.len();
            if let Some(flow) = self.flows[slot].as_mut().filter(|flow| flow.has_begun()) {
                flow.end();
            }
        }
    }

    /// Sends what is due, at most a burst, and no more than the window has room for.
    fn send(&mut self, now: u64) -> bool {
        let mut sent = false;
        for _ in 0..BURST {
            let open = self.plan.window.is_none_or(|window| self.tally.missing() < window);
            if !open || !self.sending.is_due(now) || !self.send_one(now) {
                break;
            }
            self.sending.take();
            sent = true;
        }
        sent
    }

    /// Uses a turn of the pace; false when the packet found no room, and the turn is kept.
    fn send_one(&mut self, now: u64) -> bool {
        for _ in 0..self.flows.len().min(TRIES) {
            let slot = self.turns[0];
            let Some(flow) = &self.flows[slot] else {
                self.next_turn();
                continue;
            };
            let (stuck, done) =
                (flow.is_stuck(now, self.times.patience), flow.turn() == Turn::Done);
            if stuck || done {
                self.finish(slot, done, now);
            }
            if self.flows[slot].as_ref().is_none_or(|flow| flow.turn() != Turn::Send) {
                self.next_turn();
                continue;
            }
            let sent = self.send_of(slot, now);
            if sent {
                self.next_turn();
            }
            return sent;
        }
        true
    }

    fn next_turn(&mut self) {
        self.turns[0] = (self.turns[0] + 1) % self.flows.len();
    }

    /// Sends the next packet of a flow that has one.
    fn send_of(&mut self, slot: usize, now: u64) -> bool {
        let Some(mut flow) = self.flows[slot].take() else { return true };
        let begins = !flow.has_begun();
        let tag = Tag {
            direction: Direction::Forward,
            flow: flow.number,
            sequence: flow.next(),
            sent: now,
        };
        let sent = self.transmit(flow.tuple, tag, |payload| flow.send(payload, now));
        self.flows[slot] = Some(flow);
        if sent {
            let first = self.tally.sending.map_or(now, |(first, _)| first);
            self.tally.sending = Some((first, now));
            self.tally.opened += u64::from(begins);
            self.tally.side(Direction::Forward).sent += 1;
        }
        sent
    }

    /// Builds a client's packet and hands it to a queue; false, and nothing has happened, when there is no room.
    fn transmit(
        &mut self,
        tuple: Tuple,
        tag: Tag,
        segment: impl FnOnce(u32) -> frame::Segment,
    ) -> bool {
        let link = &mut self.links[CLIENTS];
        let queue = tag.flow as usize % link.queues();
        let Some(gateway) = link.neighbors.gateway_mac() else { return false };
        if !link.has_room(queue) {
            return false;
        }
        let Some(mut frame) = (self.make)(&self.blank) else { return false };
        let payload = frame::payload_len(self.plan.frame_len, tuple);
        let macs = [gateway, link.neighbors.mac()];
        frame::build(frame.bytes_mut(), macs, tuple, segment(payload), tag);
        link.send(queue, frame)
    }

    /// Ends a flow, complete or given up. As long as the run lasts another one takes its place.
    fn finish(&mut self, slot: usize, complete: bool, now: u64) {
        let Some(flow) = self.flows[slot].take() else { return };
        if let Some(seen) = flow.translated {
            self.translated.remove(&seen);
        }
        match (flow.has_begun(), complete) {
            (false, _) => {}
            (true, true) => self.tally.completed += 1,
            (true, false) => self.tally.given_up += 1,
        }
        if let Stage::Running { .. } = self.stage {
            self.flows[slot] = Some(self.new_flow(flow.number.wrapping_add(self.plan.flows), now));
        }
    }

    fn new_flow(&self, number: u32, now: u64) -> Flow {
        let (tuple, vip) = self.plan.flow(number);
        Flow::new(number, tuple, vip, now)
    }
}

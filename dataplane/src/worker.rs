//! The poll loop: receive, decide, send, tick. The page to read first.
//!
//! A worker owns one queue of every port and everything it decides with; it shares nothing but rings and counters.
//! [`Worker::poll`] is one turn and does a bounded amount of work. No lock, no allocation, no system call, no log.

mod port;
mod waiting;

use std::mem;
use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;

use crate::clock::Moment;
use crate::counters::WorkerCounters;
use crate::engine::{Arrival, Engine, Origin, Prepared, Prospect, Stop};
use crate::fib::PortId;
use crate::flow::Address;
use crate::handoff::{Batch, Handed, Links};
use crate::held::Held;
use crate::nic::{BURST, Burst, Frame, Nic};
use crate::snapshot::Reader;
use crate::stages::{Stage, Stopwatch};
use crate::tables::Tables;
use crate::verdict::{DropReason, Verdict};
use port::Port;
use waiting::{PARKED, Parked};

/// Rings between the workers and the control thread.
#[derive(Debug)]
pub struct KernelPath<F> {
    /// Per port: frames for its kernel twin.
    pub punts: Vec<Arc<ArrayQueue<F>>>,
    /// Per port: frames the kernel sends. Read by worker 0 only.
    pub injects: Vec<Arc<ArrayQueue<F>>>,
    /// Next hops whose MAC address is wanted.
    pub wanted: Arc<ArrayQueue<(PortId, Address)>>,
}

impl<F> Clone for KernelPath<F> {
    fn clone(&self) -> Self {
        let Self { punts, injects, wanted } = self;
        Self { punts: punts.clone(), injects: injects.clone(), wanted: wanted.clone() }
    }
}

/// One worker.
#[derive(Debug)]
pub struct Worker<N: Nic> {
    /// Number of this worker.
    id: u16,
    /// By port, its queue and what is about to leave.
    ports: Vec<Port<N>>,
    engine: Engine,
    tables: Reader<Tables>,
    links: Links<N::Frame>,
    kernel: KernelPath<N::Frame>,
    counters: Arc<WorkerCounters>,
    /// What is known of the frames of the burst at hand.
    lanes: Box<[Prepared; BURST]>,
    /// How many of the last burst that was received were other workers'.
    others: Others,
    /// Never more than a burst.
    newcomers: Vec<Newcomer<N::Frame>>,
    finished: Burst<N::Frame>,
    parked: ArrayVec<Parked<N::Frame>, PARKED>,
    held: Held<N::Frame>,
    ticked: Moment,
}

/// What a burst was like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    None,
    Some,
    Most,
}

/// A frame of an unknown flow to a Service.
#[derive(Debug)]
struct Newcomer<F> {
    frame: F,
    arrival: Arrival,
    lane: usize,
}

impl<N: Nic> Worker<N> {
    /// A worker; `queues` and the counters' ports are in order of port ids.
    #[must_use]
    pub fn new(
        id: u16,
        queues: Vec<N>,
        engine: Engine,
        tables: Reader<Tables>,
        links: Links<N::Frame>,
        kernel: KernelPath<N::Frame>,
        counters: Arc<WorkerCounters>,
    ) -> Self {
        let ports = (0..).zip(queues).map(|(id, queue)| Port::new(id, queue)).collect();
        Self {
            id,
            ports,
            engine,
            tables,
            links,
            kernel,
            counters,
            lanes: Box::new([Prepared::Other; BURST]),
            others: Others::None,
            newcomers: Vec::with_capacity(BURST),
            finished: Burst::new(),
            parked: ArrayVec::new(),
            held: Held::default(),
            ticked: Moment::default(),
        }
    }

    /// One turn: everything that waits now, at most one burst a queue. Returns the number of frames handled.
    pub fn poll(&mut self, now: Moment) -> usize {
        self.poll_timed(now, &mut ())
    }

    /// The same, with a stopwatch that is told at the end of every stage.
    #[inline(always)]
    pub fn poll_timed(&mut self, now: Moment, watch: &mut impl Stopwatch) -> usize {
        let changed = self.tables.refresh();
        if changed {
            self.engine.tables_changed();
        }
        self.engine.begin_burst(now);
        let mut frames = 0;
        // Other workers' frames come from their caches. That takes long, so we ask first and see to our own queues.
        for peer in 0..self.links.peers() {
            self.links.look(peer);
        }
        for port in 0..self.ports.len() {
            frames += self.receive(port, now, watch);
        }
        self.links.look_ahead(0);
        self.engine.conntrack.sweep(now);
        watch.lap(Stage::Tick);
        for peer in 0..self.links.peers() {
            self.links.look_ahead(peer + 1);
            frames += self.take_over(peer, now, watch);
        }
        if self.id == 0 {
            frames += self.take_injected(now);
        }
        if now != self.ticked || changed {
            self.tick(now);
        }
        watch.lap(Stage::Tick);
        self.flush();
        watch.lap(Stage::Transmit);
        frames
    }

    /// One burst of one port: parse and hash all, then decide one after another.
    #[inline(always)]
    fn receive(&mut self, index: usize, now: Moment, watch: &mut impl Stopwatch) -> usize {
        let mut burst = Burst::new();
        let Port { id: port, queue, .. } = &mut self.ports[index];
        let port = *port;
        queue.receive(&mut burst);
        if burst.is_empty() {
            return 0;
        }
        burst.iter().for_each(Frame::prefetch);
        watch.lap(Stage::Receive);
        let mac = self.tables.get().fib.mac_word(port);
        let bytes = self.engine.prepare(&burst, mac, &mut self.lanes[..]);
        let count = burst.len();
        let counters = &self.counters.ports[index];
        counters.rx_frames.add(count as u64);
        counters.rx_bytes.add(bytes as u64);
        let arrival = Arrival { port, origin: Origin::Wire, fragment_ports: None };
        let before = self.links.given();
        // Traffic is much like it was: where most frames are others', that is what is looked for first.
        match self.others {
            Others::None => self.process(&mut burst, bytes, |_| arrival, now, watch),
            others => self.process_mixed(burst, arrival, others == Others::Most, now, watch),
        }
        self.others = match self.links.given() - before {
            0 => Others::None,
            given if given * 2 <= count as u64 => Others::Some,
            _ => Others::Most,
        };
        count
    }

    /// Frames of our connections that other workers received.
    #[inline(always)]
    fn take_over(&mut self, peer: usize, now: Moment, watch: &mut impl Stopwatch) -> usize {
        let mut batch = Batch::new();
        self.links.take(peer, &mut batch);
        if batch.is_empty() {
            return 0;
        }
        let count = batch.len();
        self.counters.work.handed_in.add(count as u64);
        watch.lap(Stage::Receive);
        let fib = &self.tables.get().fib;
        let mac = |handed: &Handed<N::Frame>| fib.mac_word(handed.arrival.port);
        let mut bytes = 0;
        for (handed, lane) in batch.iter().zip(self.lanes.iter_mut()) {
            self.engine.prepare_one(&handed.frame, mac(handed), lane);
            bytes += handed.frame.bytes().len();
        }
        let arrivals: ArrayVec<Arrival, BURST> =
            batch.iter().map(|handed| handed.arrival).collect();
        let mut frames = batch.into_iter().map(|handed| handed.frame).collect();
        self.process(&mut frames, bytes, |lane| arrivals[lane], now, watch);
        count
    }

    /// Frames the kernel sends: most leave as they are, those to a Service are its clients' like any other.
    fn take_injected(&mut self, now: Moment) -> usize {
        let mut count = 0;
        for index in 0..self.ports.len() {
            let port = self.ports[index].id;
            // Looking is cheaper than trying, which takes a fence.
            let waiting = self.kernel.injects[index].len().min(BURST);
            for _ in 0..waiting {
                let Some(frame) = self.kernel.injects[index].pop() else { break };
                let arrival = Arrival { port, origin: Origin::Kernel, fragment_ports: None };
                self.handle(frame, arrival, now);
                count += 1;
            }
        }
        self.counters.work.injected.add(count as u64);
        count
    }

    /// A burst whose frames were prepared: the express way for all that can, then together what opens connections.
    #[inline(always)]
    fn process(
        &mut self,
        frames: &mut Burst<N::Frame>,
        bytes: usize,
        arrival: impl Fn(usize) -> Arrival,
        now: Moment,
        watch: &mut impl Stopwatch,
    ) {
        watch.lap(Stage::Prepare);
        let lanes = &mut self.lanes[..frames.len()];
        self.engine.look_ahead(lanes);
        watch.lap(Stage::LookAhead);
        let mut exits = [0; BURST];
        let sent = self.engine.express(frames, lanes, &mut exits, self.tables.get());
        let exits = &exits[..sent];
        match only(exits) {
            Some(port) if sent == frames.len() => {
                self.ports[usize::from(port)].send_all(frames, bytes, &self.counters);
            }
            _ => self.process_in_turn::<false>(frames.take(), exits, arrival, false, now),
        }
        watch.lap(Stage::Rewrite);
        self.welcome(now);
        watch.lap(Stage::Open);
    }

    /// A burst in which other workers' frames are thought to be, perhaps most of it.
    #[inline(never)]
    fn process_mixed(
        &mut self,
        frames: Burst<N::Frame>,
        arrival: Arrival,
        most: bool,
        now: Moment,
        watch: &mut impl Stopwatch,
    ) {
        watch.lap(Stage::Prepare);
        for lane in &mut self.lanes[..frames.len()] {
            if !most {
                self.engine.look_ahead_one(lane);
            }
            self.engine.look_elsewhere(lane);
        }
        watch.lap(Stage::LookAhead);
        self.process_in_turn::<true>(frames, &[], |_| arrival, most, now);
        watch.lap(Stage::Rewrite);
        self.welcome(now);
        watch.lap(Stage::Open);
    }

    /// A burst frame by frame. The first ones may be rewritten already, and leave by these ports.
    #[inline(never)]
    fn process_in_turn<const MIXED: bool>(
        &mut self,
        frames: Burst<N::Frame>,
        exits: &[PortId],
        arrival: impl Fn(usize) -> Arrival,
        most: bool,
        now: Moment,
    ) {
        let count = frames.len();
        for (lane, mut frame) in frames.into_iter().enumerate() {
            if let Some(&port) = exits.get(lane) {
                self.send(frame, port);
                continue;
            }
            let prepared = &mut self.lanes[lane % BURST];
            if MIXED && let Some(owner) = self.engine.elsewhere(prepared) {
                self.hand_over(frame, arrival(lane), owner);
                continue;
            }
            if most {
                self.engine.look_ahead_one(prepared);
            }
            match self.engine.express_one(&mut frame, prepared, self.tables.get()) {
                Ok(port) => self.send(frame, port),
                Err(reason) => self.stopped(reason, frame, arrival(lane), lane..count, now),
            }
        }
    }

    /// A frame that left the express way as it came. `lanes` are its own and those behind it.
    #[inline(always)]
    fn stopped(
        &mut self,
        reason: Stop,
        frame: N::Frame,
        arrival: Arrival,
        lanes: Range<usize>,
        now: Moment,
    ) {
        let changes = self.engine.conntrack.changes();
        match reason {
            Stop::Unknown => self.announce(frame, arrival, lanes.start, now),
            Stop::Refer => self.handle_in_turn(frame, arrival, now),
        }
        if self.engine.conntrack.changes() != changes {
            self.lanes[lanes].iter_mut().for_each(Prepared::forget);
        }
    }

    /// A frame of an unknown flow: kept until the burst is through, if it is to a Service.
    #[inline(never)]
    fn announce(&mut self, mut frame: N::Frame, arrival: Arrival, lane: usize, now: Moment) {
        let prepared = &self.lanes[lane];
        match self.engine.announce(&mut frame, prepared, &arrival, self.tables.get()) {
            Prospect::Waits => self.newcomers.push(Newcomer { frame, arrival, lane }),
            // What a frame before it in the burst opens may be its connection.
            Prospect::Done(Verdict::Drop(_)) if !self.newcomers.is_empty() => {
                self.handle_in_turn(frame, arrival, now);
            }
            Prospect::Done(verdict) => self.finish(frame, arrival, verdict, now),
            Prospect::Refer => self.handle_in_turn(frame, arrival, now),
        }
    }

    /// A frame that needs a decision, which may depend on what those before it in the burst open.
    fn handle_in_turn(&mut self, frame: N::Frame, arrival: Arrival, now: Moment) {
        self.welcome(now);
        self.handle(frame, arrival, now);
    }

    /// Opens the connections of the frames that were kept, and sends them on.
    #[inline(never)]
    fn welcome(&mut self, now: Moment) {
        if self.newcomers.is_empty() {
            return;
        }
        let mut newcomers = mem::take(&mut self.newcomers);
        let waiting =
            newcomers.iter().map(|Newcomer { arrival, lane, .. }| (&self.lanes[*lane], arrival));
        self.engine.foresee(waiting, self.tables.get());
        for (number, newcomer) in newcomers.drain(..).enumerate() {
            let Newcomer { mut frame, arrival, lane } = newcomer;
            let prepared = &self.lanes[lane];
            match self.engine.welcome(&mut frame, prepared, number) {
                Some(port) => self.send(frame, port),
                // Opened by an earlier frame of the burst, most likely.
                None => self.handle(frame, arrival, now),
            }
        }
        self.newcomers = newcomers;
    }

    /// A frame that needs a decision.
    #[inline(never)]
    fn handle(&mut self, mut frame: N::Frame, mut arrival: Arrival, now: Moment) {
        let verdict = self.engine.decide(&mut frame, &mut arrival, self.tables.get(), now);
        self.finish(frame, arrival, verdict, now);
        if let Some(packet) = self.engine.begun()
            && !self.held.is_empty()
        {
            self.release(packet, now);
        }
    }

    /// Every frame that is decided ends in exactly one of the verdict's ways.
    fn finish(&mut self, frame: N::Frame, arrival: Arrival, verdict: Verdict, now: Moment) {
        match verdict {
            Verdict::Forward(port) => self.send(frame, port),
            Verdict::Answer(port) => self.answer(frame, port),
            Verdict::HandOver(worker) => self.hand_over(frame, arrival, worker),
            Verdict::Punt => match self.kernel.punts[usize::from(arrival.port)].push(frame) {
                Ok(()) => self.counters.work.punted.add(1),
                Err(frame) => self.drop(frame, DropReason::PuntFull),
            },
            Verdict::Park { port, next_hop, destination } => {
                self.park(frame, port, next_hop, destination, now);
            }
            Verdict::Hold(packet) => self.hold(frame, arrival, packet, now),
            Verdict::Drop(reason) => self.drop(frame, reason),
        }
    }

    #[inline]
    fn hand_over(&mut self, frame: N::Frame, arrival: Arrival, to: u16) {
        if let Some(refused) = self.links.give(to, Handed { frame, arrival }) {
            self.refused(refused);
        }
    }

    #[inline]
    fn send(&mut self, frame: N::Frame, port: PortId) {
        self.ports[usize::from(port)].send(frame, &self.counters);
    }

    fn answer(&mut self, frame: N::Frame, port: PortId) {
        self.ports[usize::from(port)].answer(frame, &self.counters);
    }

    fn drop(&mut self, frame: N::Frame, reason: DropReason) {
        self.counters.dropped(reason);
        self.give_back(frame);
    }

    /// Buffers go back in bursts, whichever port they came from: a pool takes them all.
    fn give_back(&mut self, frame: N::Frame) {
        if self.finished.is_full() {
            self.ports[0].queue.recycle(&mut self.finished);
        }
        self.finished.push(frame);
    }

    fn refused(&mut self, batch: Batch<N::Frame>) {
        for handed in batch {
            self.drop(handed.frame, DropReason::HandoverFull);
        }
    }

    /// The bounded extra of a turn, once a millisecond: parked and held frames, expiry, counters.
    fn tick(&mut self, now: Moment) {
        self.ticked = now;
        if !self.parked.is_empty() {
            self.retry_parked(now);
        }
        if !self.held.is_empty() {
            self.drop_held(now);
        }
        let (conntrack, counters) = (&self.engine.conntrack, &self.counters.conntrack);
        counters.capacity.set(conntrack.capacity() as u64);
        counters.entries.set(conntrack.len() as u64);
        counters.half_open.set(conntrack.half_open() as u64);
        counters.created.set(conntrack.events.created);
        counters.expired.set(conntrack.events.expired);
        counters.evicted_half_open.set(conntrack.events.evicted_half_open);
        counters.evicted_closing.set(conntrack.events.evicted_closing);
        counters.evicted_answered.set(conntrack.events.evicted_answered);
        counters.reclassified.set(self.engine.reclassified);
        counters.one_way.set(self.engine.one_way);
    }

    fn flush(&mut self) {
        self.ports.iter_mut().for_each(|port| port.flush(&self.counters));
        while let Some(refused) = self.links.flush() {
            self.refused(refused);
        }
        self.counters.work.handed_over.set(self.links.sent());
        if !self.finished.is_empty() {
            self.ports[0].queue.recycle(&mut self.finished);
        }
    }
}

/// The port by which all leave, if it is one.
fn only(exits: &[PortId]) -> Option<PortId> {
    let first = *exits.first()?;
    let others = exits.iter().fold(0, |others, exit| others | (exit ^ first));
    (others == 0).then_some(first)
}

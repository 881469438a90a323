//! The generator against a small gateway in memory: an honest one, and ones that each do one thing wrong.
//!
//! A judge that finds no fault proves nothing until it was seen to find faults.

use std::collections::HashMap;

use dataplane::fib::Mac;
use dataplane::flow::{Address, Protocol, Tuple};
use dataplane::nic::Frame;
use dataplane::nic::memory::{MemoryFrame, MemoryNic, Wire, pair};

use super::frame::{self, Arrival, Packet};
use super::generator::{Generator, Stage, Times};
use super::link::Link;
use super::neighbor::Neighbors;
use super::plan::{Plan, tests::plan};
use super::report::{Fault, Report};
use super::tag::{self, Direction};

/// A cycle is a microsecond here.
const HZ: u64 = 1_000_000;
const STEP: u64 = 20;
const TIMES: Times = Times { hz: HZ, ready: 2 * HZ, run: HZ / 2, patience: HZ / 10 };
const HOSTS: [Mac; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const GATEWAY: [Mac; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]];

/// What a gateway does wrong, once: with the packet `VICTIM` of direction forward or reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mischief {
    None,
    Silent,
    OneBackendOnly,
    Lose(Direction),
    Repeat(Direction),
    Overtake(Direction),
    Alter(Direction),
    OtherBackend,
    OtherPort,
    KeepSource,
    ShareSourcePort,
    Untranslated,
    WrongMac,
    Return,
    RawReply,
}

/// Not the first packet of its flow, and not the last.
const VICTIM: u32 = 300;

/// Translates as the plan says, one frame after another.
struct Gateway {
    plan: Plan,
    mischief: Mischief,
    neighbors: [Neighbors; 2],
    /// By what a client sends: what its backend sees.
    flows: HashMap<Tuple, Tuple>,
    seen: [u32; 2],
    held: Option<(usize, Vec<u8>)>,
}

impl Gateway {
    fn new(plan: &Plan, mischief: Mischief) -> Self {
        let side = |n: usize| {
            let own = std::iter::once(plan.gateways[n]).collect();
            Neighbors::new(GATEWAY[n], own, plan.gateways[n], plan.router)
        };
        let neighbors = [side(0), side(1)];
        let (plan, flows) = (plan.clone(), HashMap::new());
        Self { plan, mischief, neighbors, flows, seen: [0; 2], held: None }
    }

    /// Frames to send for a frame that came in by a port: port and bytes.
    fn forward(&mut self, port: usize, bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let mut frame = MemoryFrame::new(bytes);
        let answered = match frame::read(bytes) {
            Arrival::Ours(packet) => return self.translate(port, &packet, bytes.len()),
            _ if self.mischief == Mischief::Silent => false,
            Arrival::Arp(at) => self.neighbors[port].on_arp(frame.bytes_mut(), at),
            Arrival::Other(headers) => self.neighbors[port].on_other(&mut frame, &headers),
            other => panic!("{other:?}"),
        };
        if answered { vec![(port, frame.bytes().to_vec())] } else { Vec::new() }
    }

    fn translate(&mut self, port: usize, packet: &Packet, len: usize) -> Vec<(usize, Vec<u8>)> {
        let direction = packet.tag.direction;
        assert_eq!(port, direction.index(), "the generator sends by the right port");
        let tuple = match direction {
            Direction::Forward => self.for_backend(packet.tuple),
            Direction::Reverse => self.for_client(packet.tuple),
        };
        let turn = &mut self.seen[direction.index()];
        *turn += u32::from(packet.tag.flow < tag::PROBES);
        let is_victim = *turn == VICTIM && packet.tag.flow < tag::PROBES;
        let mischief = if is_victim { self.mischief } else { Mischief::None };
        self.send(mischief, packet, tuple, len)
    }

    fn send(
        &mut self,
        mischief: Mischief,
        packet: &Packet,
        mut tuple: Tuple,
        len: usize,
    ) -> Vec<(usize, Vec<u8>)> {
        let direction = packet.tag.direction;
        let mut port = 1 - direction.index();
        let mut mac = HOSTS[port];
        if direction == Direction::Forward {
            match mischief {
                Mischief::OtherBackend => {
                    let other = self.plan.backends.iter().find(|backend| backend.0 != tuple.dst);
                    tuple.dst = other.expect("two backends").0;
                }
                Mischief::OtherPort => tuple.dport += 1,
                Mischief::KeepSource => tuple.src = Address(tuple.src.0 ^ 0x100),
                Mischief::Untranslated => tuple.dst = packet.tuple.dst,
                Mischief::WrongMac => mac[5] ^= 1,
                Mischief::Return => (port, mac) = (0, HOSTS[0]),
                _ => {}
            }
        } else if mischief == Mischief::RawReply {
            tuple = packet.tuple;
            tuple.dst = self.plan.clients.first;
        }
        let mut bytes = vec![0; len];
        frame::build(&mut bytes, [mac, GATEWAY[port]], tuple, packet.segment, packet.tag);
        let mut out = vec![(port, bytes)];
        match mischief {
            Mischief::Lose(way) if way == direction => out.clear(),
            Mischief::Repeat(way) if way == direction => out.push(out[0].clone()),
            Mischief::Alter(way) if way == direction => out[0].1[len - 1] ^= 1,
            Mischief::Overtake(way) if way == direction => self.held = out.pop(),
            _ => {}
        }
        if out.is_empty() || self.seen[direction.index()] < VICTIM + 100 {
            return out;
        }
        out.extend(self.held.take());
        out
    }

    fn for_backend(&mut self, client: Tuple) -> Tuple {
        let port = 1024 + u16::try_from(self.flows.len()).expect("few flows");
        let port = if self.mischief == Mischief::ShareSourcePort { 5000 } else { port };
        let turn = usize::from(client.sport) % self.plan.backends.len();
        let turn = if self.mischief == Mischief::OneBackendOnly { 0 } else { turn };
        let (dst, dport) = self.plan.backends[turn];
        let vip = self.plan.vips.iter().find(|vip| vip.address == client.dst).expect("a VIP");
        *self.flows.entry(client).or_insert_with(|| match vip.masquerade {
            Some(src) => Tuple { src, sport: port, dst, dport, ..client },
            None => Tuple { dst, dport, ..client },
        })
    }

    fn for_client(&self, backend: Tuple) -> Tuple {
        let flow = self.flows.iter().find(|(_, seen)| **seen == backend.reversed());
        flow.expect("a flow").0.reversed()
    }
}

/// A run from start to end. `shape` may change the plan.
fn play(
    mischief: Mischief,
    v6: bool,
    queues: usize,
    shape: impl FnOnce(&mut Plan),
) -> (Report, Stage) {
    let mut plan = plan(v6);
    shape(&mut plan);
    let mut wires: Vec<Vec<Wire>> = Vec::new();
    let mut links = Vec::new();
    for (n, own) in plan.own().into_iter().enumerate() {
        let (nics, ends): (Vec<MemoryNic>, Vec<Wire>) = (0..queues).map(|_| pair(256)).unzip();
        let asker = if n == 0 { plan.router } else { plan.backends[0].0 };
        links.push(Link::new(nics, Neighbors::new(HOSTS[n], own, asker, plan.gateways[n])));
        wires.push(ends);
    }
    let mut gateway = Gateway::new(&plan, mischief);
    let make = |bytes: &[u8]| Some(MemoryFrame::new(bytes));
    let mut generator = Generator::new(plan, links, TIMES, make, 0);
    let mut now = 0;
    while !generator.is_over() {
        now += STEP;
        assert!(now < 10 * HZ, "it ends by itself");
        generator.poll(now);
        for (port, ends) in wires.iter().enumerate() {
            for (queue, end) in ends.iter().enumerate() {
                while let Some(bytes) = end.receive() {
                    for (to, bytes) in gateway.forward(port, &bytes) {
                        assert!(wires[to][queue].send(&bytes), "a wire is full");
                    }
                }
            }
        }
    }
    let stage = generator.stage.clone();
    let mut report = generator.into_tally().report(0);
    report.judge(true);
    (report, stage)
}

/// The run with a gateway that does one thing wrong.
fn faulty(mischief: Mischief) -> Report {
    let (report, stage) = play(mischief, false, 1, |_| {});
    assert_eq!(stage, Stage::Over, "{mischief:?}");
    assert!(!report.passed, "{mischief:?}: {report}");
    report
}

#[test]
fn an_honest_gateway_passes() {
    for v6 in [false, true] {
        for queues in [1, 2, 3] {
            let (report, stage) = play(Mischief::None, v6, queues, |_| {});
            assert_eq!(stage, Stage::Over);
            assert!(report.passed, "{report}");
            // Half a second at the rate, and at the end ten TCP flows say farewell with two packets, UDP with one.
            assert!((5000..5050).contains(&report.to_backends.sent), "{report}");
            assert_eq!(report.flows.completed, 20);
            assert_eq!(
                report.to_backends.sent,
                report.to_clients.sent + 10,
                "ten last acknowledgements"
            );
            assert_eq!(report.to_backends.reordered + report.to_clients.reordered, 0);
        }
    }
}

#[test]
fn flows_end_and_begin_at_the_new_connection_rate() {
    let (report, _) = play(Mischief::None, false, 1, |plan| plan.renewals = 400.0);
    assert!(report.passed, "{report}");
    assert!((210..=225).contains(&report.flows.opened), "{report}");
    assert_eq!(report.flows.opened, report.flows.completed);
}

#[test]
fn a_window_of_one_lets_one_packet_travel_at_a_time() {
    let (report, stage) = play(Mischief::None, false, 2, |plan| {
        (plan.window, plan.rate) = (Some(1), 1e6);
    });
    assert_eq!(stage, Stage::Over);
    assert!(report.passed, "{report}");
    // There and back takes two steps, and then the next one is sent.
    let most = TIMES.run / STEP / 2 + 60;
    assert!((most / 2..=most).contains(&report.to_backends.sent), "{report}");

    let (report, _) =
        play(Mischief::Lose(Direction::Forward), false, 1, |plan| plan.window = Some(1));
    assert_eq!(
        report.to_backends.sent,
        u64::from(VICTIM),
        "a lost packet holds its place: {report}"
    );
}

#[test]
fn udp_fits_frames_of_64_bytes() {
    let (report, _) = play(Mischief::None, false, 1, |plan| {
        plan.vips.retain(|vip| vip.protocol == Protocol::Udp);
        plan.frame_len = 64 - frame::FCS;
        plan.check().expect("it fits");
    });
    assert!(report.passed, "{report}");
}

#[test]
fn lost_repeated_and_overtaken_packets_are_counted() {
    use Direction::{Forward, Reverse};
    for way in [Forward, Reverse] {
        let counts = |report: &Report| {
            let side = if way == Forward { &report.to_backends } else { &report.to_clients };
            (side.lost, side.duplicates, side.reordered)
        };
        assert_eq!(counts(&faulty(Mischief::Lose(way))), (1, 0, 0));
        assert_eq!(counts(&faulty(Mischief::Repeat(way))), (0, 1, 0));
        let (report, _) = play(Mischief::Overtake(way), false, 1, |_| {});
        assert_eq!(counts(&report), (0, 0, 1), "{report}");
        assert!(report.passed, "order is told, not judged");
    }
}

#[test]
fn every_fault_has_its_name_and_counts_as_lost() {
    let cases = [
        (Mischief::Alter(Direction::Forward), Fault::BadChecksum),
        (Mischief::Alter(Direction::Reverse), Fault::BadChecksum),
        (Mischief::OtherBackend, Fault::BackendChanged),
        (Mischief::OtherPort, Fault::NotABackend),
        (Mischief::Untranslated, Fault::NotABackend),
        (Mischief::KeepSource, Fault::WrongSource),
        (Mischief::WrongMac, Fault::WrongMac),
        (Mischief::Return, Fault::WrongPort),
        (Mischief::RawReply, Fault::WrongReply),
    ];
    for (mischief, fault) in cases {
        let report = faulty(mischief);
        assert_eq!(report.faults, [(fault, 1)], "{mischief:?}: {report}");
        assert_eq!(report.to_backends.lost + report.to_clients.lost, 1, "{mischief:?}: {report}");
        assert_eq!(report.fault_examples.len(), 1);
    }
}

#[test]
fn two_flows_that_look_the_same_to_a_backend_collide() {
    let report = faulty(Mischief::ShareSourcePort);
    assert_eq!(report.faults[0].0, Fault::Collision, "{report}");
}

#[test]
fn a_gateway_that_is_not_ready_is_named() {
    let (_, stage) = play(Mischief::Silent, false, 1, |_| {});
    let Stage::NotReady(reason) = stage else { panic!("{stage:?}") };
    assert_eq!(reason, "nobody says that it has 192.0.2.1 and 10.0.1.1");

    let (_, stage) = play(Mischief::OneBackendOnly, true, 1, |_| {});
    let Stage::NotReady(reason) = stage else { panic!("{stage:?}") };
    assert!(reason.ends_with("backends not reached: [2001:db8:2::11]:8080"), "{reason}");
}

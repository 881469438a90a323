//! Everything that can be full, late or used up: each has a policy and a counter.

use dataplane::clock::Moment;
use dataplane::engine::{Arrival, Engine, Origin};
use dataplane::fib::NeighborSpec;
use dataplane::flow::Protocol::{Tcp, Udp};
use dataplane::handoff;
use dataplane::nic::Frame;
use dataplane::verdict::DropReason::*;
use dataplane::verdict::Verdict;

use super::*;
use crate::support::gateway::{FAMILIES, Family, IN, OUT, V4, V6, at, ip};
use crate::support::packet::*;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for f in FAMILIES {
        cases.extend([
            parked_and_sent(f, true),
            parked_and_sent(f, false),
            parked_too_long(f),
            parked_too_many(f),
            transmit_queue_full(f),
            ring_full(f),
            rejects_limited(f),
            errors_limited(f),
            ports_exhausted(f),
        ]);
    }
    cases.push(no_room());
    cases
}

fn web(f: Family) -> [Service; 2] {
    [Tcp, Udp].map(|protocol| {
        Service::new("ns/web:80", protocol, &[(f.backends[0], 8080)])
            .external_local()
            .load_balancer(f.load_balancer, 80, &[])
    })
}

fn named(name: &str, f: Family) -> Case {
    case(format!("{name}, v4 {}", f.v4)).service("ns/web", &web(f))
}

fn asked(f: Family, port: u16) -> Packet {
    udp(at(f.client, port), at(f.load_balancer, 80))
}

fn asked_inside(f: Family, port: u16) -> Fate {
    sent_in(udp(at(f.client, port), at(f.backends[0], 8080)).ttl(63))
}

fn forget_neighbor(setup: &mut Setup, address: &str) {
    let address = ip(address);
    setup.fib.neighbors.retain(|neighbor| neighbor.address != address);
}

/// A next hop that is not known yet: a destination on the link, or a router.
fn parked_and_sent(f: Family, on_link: bool) -> Case {
    let router = if f.v4 { "192.0.2.254" } else { "2001:db8:1::fe" };
    let hop = if on_link { f.backends[0] } else { router };
    let (port, mac) = if on_link { (IN, PODS) } else { (OUT, ROUTER) };
    let packet = if on_link { asked(f, 5000) } else { udp(at(f.pod, 9), at(f.client, 9)) };
    let sent = if on_link { asked_inside(f, 5000) } else { sent_out(packet.clone().ttl(63)) };
    named(&format!("parked until the next hop is known, on link {on_link}"), f)
        .setup(move |setup| forget_neighbor(setup, hop))
        .then(move |gateway| {
            let receive = |gateway: &mut Gateway| {
                if on_link { gateway.outside(&packet) } else { gateway.pods(&packet) }
            };
            assert_eq!(receive(gateway), Fate::Parked);
            assert_eq!(gateway.wanted(), [(port, ip(hop).into())]);
            let before = gateway.totals();
            gateway.wait(900);
            assert_eq!(gateway.collect(&before), []);
            gateway.setup.fib.neighbors.push(NeighborSpec { port, address: ip(hop), mac });
            gateway.publish();
            gateway.poll();
            assert_eq!(gateway.collect(&before), std::slice::from_ref(&sent));
            assert_eq!(receive(gateway), sent);
        })
}

fn parked_too_long(f: Family) -> Case {
    named("parked for a second at most", f)
        .setup(move |setup| forget_neighbor(setup, f.backends[0]))
        .covers(NeighborUnresolved)
        .then(move |gateway| {
            assert_eq!(gateway.outside(&asked(f, 5000)), Fate::Parked);
            let before = gateway.totals();
            gateway.wait(1_000);
            assert_eq!(gateway.collect(&before), [dropped(NeighborUnresolved)]);
        })
}

fn parked_too_many(f: Family) -> Case {
    named("so many are parked and no more", f)
        .setup(move |setup| forget_neighbor(setup, f.backends[0]))
        .then(move |gateway| {
            for port in 0..64 {
                assert_eq!(gateway.outside(&asked(f, 5000 + port)), Fate::Parked);
            }
            assert_eq!(gateway.outside(&asked(f, 6000)), dropped(NeighborUnresolved));
        })
}

fn transmit_queue_full(f: Family) -> Case {
    named("nobody takes what is sent", f)
        .setup(|setup| setup.queue_depth = 4)
        .covers(TransmitFull)
        .then(move |gateway| {
            let before = gateway.totals();
            for port in 0..6 {
                gateway.put(0, OUT, &asked(f, 5000 + port).macs(ROUTER, OUT_MAC).frame());
                gateway.poll();
            }
            let fates = gateway.collect(&before);
            assert_eq!(fates[..4], [5000, 5001, 5002, 5003].map(|port| asked_inside(f, port)));
            assert_eq!(fates[4..], [dropped(TransmitFull), dropped(TransmitFull)]);
            assert_eq!(gateway.outside(&asked(f, 5004)), asked_inside(f, 5004));
        })
}

/// A worker that does not come to take what is its own.
fn ring_full(f: Family) -> Case {
    let setup = |setup: &mut Setup| {
        setup.workers = 2;
        setup.queue_depth = 1 << 15;
    };
    named("a worker is stuck", f).setup(setup).covers(HandoverFull).then(move |gateway| {
        let before = gateway.totals();
        let polls = 20_000;
        for port in 0..polls {
            gateway.put(0, OUT, &asked(f, 5000 + port).macs(ROUTER, OUT_MAC).frame());
            gateway.poll_one(0);
        }
        gateway.poll();
        let fates = gateway.collect(&before);
        let lost = fates.iter().filter(|fate| **fate == dropped(HandoverFull)).count();
        let sent = fates.iter().filter(|fate| matches!(fate, Fate::Sent(IN, _))).count();
        assert_eq!(sent + lost, usize::from(polls));
        let foreign = gateway.counters[1].work.handed_in.get();
        assert_eq!(foreign, handoff::RING as u64, "handed over");
        assert!(lost > 500, "{lost} lost");
    })
}

/// REJ-5.
fn rejects_limited(f: Family) -> Case {
    let empty = Service::new("ns/none:80", Tcp, &[]).load_balancer(f.external_ip, 80, &[]);
    named("refusals are limited", f)
        .setup(|setup| setup.rejects_per_second = 2)
        .service("ns/none", &[empty])
        .covers(RejectLimited)
        .then(move |gateway| {
            let syn = tcp(at(f.client, 5000), at(f.external_ip, 80));
            for second in 0..3 {
                for _ in 0..2 {
                    let fate = gateway.outside(&syn);
                    assert!(matches!(fate, Fate::Answered(..)), "second {second}: {fate:?}");
                }
                assert_eq!(gateway.outside(&syn), dropped(RejectLimited));
                gateway.wait(1_000);
            }
        })
}

fn errors_limited(f: Family) -> Case {
    named("errors are limited", f)
        .setup(|setup| setup.icmp_errors_per_second = 1)
        .covers(IcmpLimited)
        .then(move |gateway| {
            let late = asked(f, 5000).ttl(1);
            assert!(matches!(gateway.outside(&late), Fate::Answered(..)));
            assert_eq!(gateway.outside(&late), dropped(IcmpLimited));
        })
}

/// MSQ-6: the fixture has one port to give.
fn ports_exhausted(f: Family) -> Case {
    let service = Service::new("ns/two:80", Tcp, &[(f.backends[0], 8080)]);
    let other = Service::new("ns/other:80", Tcp, &[(f.backends[1], 8080)]);
    let (vip, other_vip) = (at(f.external_ip, 80), at(f.external_ip, 81));
    named("no port left toward a backend", f)
        .service("ns/two", &[service.external(f.external_ip, 80)])
        .service("ns/other", &[other.external(f.external_ip, 81)])
        .outside(
            tcp(at(f.client, 5000), vip),
            sent_in(tcp(at(f.node_in, MASQUERADE_PORT), at(f.backends[0], 8080)).ttl(63)),
        )
        .outside(tcp(at(f.client, 5001), vip), dropped(MasqueradePortsExhausted))
        // The same port still serves toward another one.
        .outside(
            tcp(at(f.client, 5001), other_vip),
            sent_in(tcp(at(f.node_in, MASQUERADE_PORT), at(f.backends[1], 8080)).ttl(63)),
        )
        // And again when the connection is over.
        .wait(36_000)
        .outside(
            tcp(at(f.client, 5001), vip),
            sent_in(tcp(at(f.node_in, MASQUERADE_PORT), at(f.backends[0], 8080)).ttl(63)),
        )
}

fn no_room() -> Case {
    case("no room to build an answer").covers(NoRoom).then(|_| {
        for f in FAMILIES {
            // An error needs space in front, an advertisement behind.
            let late = udp(at(f.client, 5000), at(f.pod, 80)).ttl(1);
            odd_frame(late, true, 27, dropped(NoRoom));
        }
        let target = ip(V6.load_balancer);
        let std::net::IpAddr::V6(target) = target else { unreachable!() };
        let short = icmp("fe80::9", V6.load_balancer, 135, 0, [0; 4], &target.octets()).ttl(255);
        odd_frame(short, true, 0, dropped(NoRoom));
    })
}

/// A packet in a buffer of no DPDK-like shape: so much headroom, no tailroom, perhaps in segments.
pub fn odd_frame(packet: Packet, contiguous: bool, headroom: usize, fate: Fate) {
    let mut gateway = Gateway::new(Setup::default());
    gateway.apply("ns/web", &web(V6));
    gateway.apply("ns/web4", &web(V4));
    let mut engine: Engine = gateway.engine_of(0);
    let bytes = packet.macs(ROUTER, OUT_MAC).frame();
    let mut frame = OddFrame { bytes, contiguous, headroom };
    let mut arrival = Arrival { port: OUT, origin: Origin::Wire, fragment_ports: None };
    let tables = gateway.tables();
    let verdict = engine.decide(&mut frame, &mut arrival, &tables, Moment(1_000_000));
    let Fate::Dropped(reason) = fate else { panic!("only drops are odd") };
    assert_eq!(verdict, Verdict::Drop(reason));
}

struct OddFrame {
    bytes: Vec<u8>,
    contiguous: bool,
    headroom: usize,
}

impl Frame for OddFrame {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn grow_front(&mut self, len: usize) -> bool {
        len <= self.headroom
    }

    fn set_len(&mut self, len: usize) -> bool {
        let fits = len <= self.bytes.len();
        self.bytes.truncate(len);
        fits
    }

    fn is_contiguous(&self) -> bool {
        self.contiguous
    }
}

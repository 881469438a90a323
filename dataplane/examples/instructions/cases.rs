//! The cases: what is prepared, what counts, and which counter proves that the packets took the way meant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::counters::WorkerCounters;
use dataplane::fib::PortId;
use dataplane::flow::Protocol::{self, Tcp, Udp};
use dataplane::flow::Tuple;
use dataplane::verdict::DropReason;
use dataplane::wire::{self, Parsed};

use crate::rig::{Rig, Traffic};
use crate::support::gateway::{
    Family, Gateway, IN, IN_MAC, OUT, OUT_MAC, PODS, ROUTER, Service, Setup, V4, V6, at,
};
use crate::support::packet::*;

/// Flows of a case: enough for both slots of many buckets, and for many second choices.
const FLOWS: usize = 1024;
/// How often each flow's packet comes.
const PASSES: usize = 10;
/// Connections that tables have room for: about half used, but for the cases that open.
const CONNECTIONS: usize = 2 * FLOWS;
const OPENED: usize = FLOWS * PASSES;
/// Bytes of the shortest frame, without FCS.
const MIN_FRAME: usize = 60;

/// A name and what to run; the result is the number of packets (or connections) that the instructions are for.
pub(crate) type Case = (&'static str, fn() -> usize);

/// All of them, in the order of the table.
pub(crate) const CASES: &[Case] = &[
    ("udp4-request", || request(V4, Udp, Plain)),
    ("udp4-reply", || reply(V4, Udp, Plain)),
    ("udp4-masqueraded-request", || request(V4, Udp, Masqueraded)),
    ("udp4-masqueraded-reply", || reply(V4, Udp, Masqueraded)),
    ("tcp4-request", || request(V4, Tcp, Plain)),
    ("tcp4-reply", || reply(V4, Tcp, Plain)),
    ("tcp4-masqueraded-request", || request(V4, Tcp, Masqueraded)),
    ("tcp4-masqueraded-reply", || reply(V4, Tcp, Masqueraded)),
    ("udp6-request", || request(V6, Udp, Plain)),
    ("udp6-reply", || reply(V6, Udp, Plain)),
    ("tcp6-request", || request(V6, Tcp, Plain)),
    ("tcp6-reply", || reply(V6, Tcp, Plain)),
    ("udp4-new", || new(V4, Udp, Plain)),
    ("udp4-masqueraded-new", || new(V4, Udp, Masqueraded)),
    ("tcp4-new", || new(V4, Tcp, Plain)),
    ("udp6-new", || new(V6, Udp, Plain)),
    ("udp4-expiry", expiry),
    ("icmp4-error", error),
    ("icmp4-echo", echo),
    ("udp4-transit", transit),
    ("udp4-unknown-port", unknown_port),
    ("udp4-handed-over", || hand_over(0)),
    ("udp4-taken-over", || hand_over(1)),
];

/// Whether the backend sees the client.
#[derive(Clone, Copy, PartialEq)]
enum Nat {
    Plain,
    Masqueraded,
}
use Nat::{Masqueraded, Plain};

fn request(f: Family, protocol: Protocol, nat: Nat) -> usize {
    let (mut rig, requests) = established(f, protocol, nat);
    forwarded(&mut rig, &requests)
}

fn reply(f: Family, protocol: Protocol, nat: Nat) -> usize {
    let (mut rig, requests) = established(f, protocol, nat);
    let replies = replies(&rig.pass(&requests), ACK);
    forwarded(&mut rig, &replies)
}

/// A rig with open connections, and a packet of each client.
fn established(f: Family, protocol: Protocol, nat: Nat) -> (Rig, Traffic) {
    let mut rig = rig(CONNECTIONS);
    let opening = asks(f, protocol, nat, SYN, 0..FLOWS);
    let answers = replies(&rig.pass(&opening), SYN | ACK);
    assert_eq!(rig.pass(&answers).len(), FLOWS, "connections that are answered");
    let requests = asks(f, protocol, nat, ACK, 0..FLOWS);
    rig.pass(&requests);
    (rig, requests)
}

fn new(f: Family, protocol: Protocol, nat: Nat) -> usize {
    let mut rig = rig(2 * OPENED);
    let traffic = (0..PASSES).map(|pass| {
        let flows = pass * FLOWS..(pass + 1) * FLOWS;
        asks(f, protocol, nat, SYN, flows)
    });
    let counted = traffic.map(|traffic| rig.counted_pass(&traffic, 0)).sum();
    let counters = rig.counters(0);
    assert_eq!(counters.conntrack.created.get(), OPENED as u64, "connections made");
    assert_eq!(counters.work.forwarded.get(), OPENED as u64, "frames forwarded");
    counted
}

/// Connections that end by time, in the turns that sweep them.
fn expiry() -> usize {
    let mut rig = rig(2 * OPENED);
    rig.pass(&asks(V4, Udp, Plain, 0, 0..OPENED));
    // Past an unanswered flow's time.
    rig.counted_expiry(121_000, OPENED);
    OPENED
}

fn error() -> usize {
    let (mut rig, _) = established(V4, Udp, Plain);
    let frames = (0..FLOWS).map(|flow| {
        // A client complains about what the Service sent it.
        let vip = at(V4.load_balancer, 80);
        let client = client(V4, flow);
        framed(OUT, port_unreachable(client.0, vip.0, &udp(vip, client).ip()))
    });
    let errors = Traffic { port: OUT, frames: frames.collect() };
    forwarded(&mut rig, &errors)
}

fn echo() -> usize {
    let pings = from_clients(|client| ping(client.0, V4.load_balancer, b"twenty bytes of ping"));
    all(&mut rig(CONNECTIONS), &pings, 0, |counters| counters.work.answered.get())
}

fn transit() -> usize {
    let packets = from_clients(|client| udp(client, at(V4.pod, 53)));
    let mut rig = rig(CONNECTIONS);
    let counted = forwarded(&mut rig, &packets);
    assert_eq!(rig.counters(0).conntrack.created.get(), 0, "connections made");
    counted
}

fn unknown_port() -> usize {
    let quiet = |setup: &mut Setup| setup.node.reject_unknown_cluster_ip_ports = false;
    let packets = from_clients(|client| udp(client, at(V4.cluster_ip, 81)));
    let unknown =
        |counters: &WorkerCounters| counters.drops[DropReason::VipPortUnknown as usize].get();
    all(&mut Rig::new(quiet, services), &packets, 0, unknown)
}

/// Packets that worker 0 receives and worker 1 owns; the turns of one of them count.
fn hand_over(worker: usize) -> usize {
    let two = |setup: &mut Setup| {
        setup.workers = 2;
        setup.conntrack.connections_v4 = CONNECTIONS;
    };
    let handed = |rig: &mut Rig| rig.counters(0).work.handed_over.get();
    let mut probe = Rig::new(two, services);
    let mut frames = vec![];
    for flow in 0.. {
        let traffic = asks(V4, Udp, Plain, 0, flow..flow + 1);
        let before = handed(&mut probe);
        probe.pass(&traffic);
        if handed(&mut probe) > before {
            frames.extend(traffic.frames);
        }
        if frames.len() == FLOWS {
            break;
        }
    }
    let traffic = Traffic { port: OUT, frames };
    let mut rig = Rig::new(two, services);
    rig.pass(&traffic);
    all(
        &mut rig,
        &traffic,
        worker,
        match worker {
            0 => |counters| counters.work.handed_over.get(),
            _ => |counters| counters.work.forwarded.get(),
        },
    )
}

/// Counts some passes of packets that all are forwarded, and open nothing.
fn forwarded(rig: &mut Rig, traffic: &Traffic) -> usize {
    let created = rig.counters(0).conntrack.created.get();
    let counted = all(rig, traffic, 0, |counters| counters.work.forwarded.get());
    assert_eq!(rig.counters(0).conntrack.created.get(), created, "connections made");
    counted
}

/// Counts some passes of packets that all end in one way, in the turns of one worker.
fn all(
    rig: &mut Rig,
    traffic: &Traffic,
    worker: usize,
    ended: fn(&WorkerCounters) -> u64,
) -> usize {
    let before = ended(&rig.counters(worker));
    let counted = (0..PASSES).map(|_| rig.counted_pass(traffic, worker)).sum();
    let after = ended(&rig.counters(worker));
    assert_eq!((after - before, counted), ((PASSES * FLOWS) as u64, PASSES * FLOWS), "packets");
    counted
}

// --- Packets ---------------------------------------------------------------------------------------------------------

fn rig(connections: usize) -> Rig {
    let adjust = |setup: &mut Setup| {
        setup.conntrack.connections_v4 = connections;
        setup.conntrack.connections_v6 = connections;
    };
    Rig::new(adjust, services)
}

/// A Service whose clients are seen at the load balancer's address and masqueraded at the cluster IP.
fn services(gateway: &mut Gateway) {
    for f in [V4, V6] {
        let endpoints = f.backends.map(|backend| (backend, 8080));
        let rows = [Tcp, Udp].map(|protocol| {
            Service::new("ns/web:80", protocol, &endpoints)
                .external_local()
                .load_balancer(f.load_balancer, 80, &[])
                .cluster_ip(f.cluster_ip, 80)
        });
        gateway.apply(f.client, &rows);
    }
}

/// A client's end, each with an address and a port of its own.
fn client(f: Family, flow: usize) -> (IpAddr, u16) {
    let host = flow % 200 + 1;
    let address = match at(f.client, 0).0 {
        IpAddr::V4(address) => {
            Ipv4Addr::from_bits(address.to_bits() & !0xff | u32::try_from(host).expect("small"))
                .into()
        }
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !0xffff | host as u128).into()
        }
    };
    (address, u16::try_from(10_000 + flow).expect("a port"))
}

/// What clients send to the Service.
fn asks(
    f: Family,
    protocol: Protocol,
    nat: Nat,
    flags: u8,
    flows: impl Iterator<Item = usize>,
) -> Traffic {
    let vip = at(if nat == Plain { f.load_balancer } else { f.cluster_ip }, 80);
    let frames = flows.map(|flow| {
        let client = client(f, flow);
        let packet = if protocol == Tcp { tcp(client, vip).flags(flags) } else { udp(client, vip) };
        framed(OUT, packet)
    });
    Traffic { port: OUT, frames: frames.collect() }
}

/// What backends answer to frames as they got them.
fn replies(sent: &[Vec<u8>], flags: u8) -> Traffic {
    let frames = sent.iter().map(|frame| {
        let Ok(Parsed::Ip(headers)) = wire::parse(frame) else { panic!("not what was sent") };
        let Tuple { src, dst, sport, dport, protocol } = headers.tuple().expect("a flow");
        let (src, dst) = ((src.ip(), sport), (dst.ip(), dport));
        let packet = if protocol == Tcp { tcp(dst, src).flags(flags) } else { udp(dst, src) };
        framed(IN, packet)
    });
    Traffic { port: IN, frames: frames.collect() }
}

fn from_clients(packet: impl Fn((IpAddr, u16)) -> Packet) -> Traffic {
    let frames = (0..FLOWS).map(|flow| framed(OUT, packet(client(V4, flow))));
    Traffic { port: OUT, frames: frames.collect() }
}

/// A packet in a frame that comes in by this port, of at least the length that Ethernet wants.
fn framed(port: PortId, packet: Packet) -> Vec<u8> {
    let (from, to) = if port == OUT { (ROUTER, OUT_MAC) } else { (PODS, IN_MAC) };
    let mut frame = packet.macs(from, to).frame();
    frame.resize(frame.len().max(MIN_FRAME), 0);
    frame
}

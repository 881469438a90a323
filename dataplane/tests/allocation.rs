//! A worker allocates nothing and frees nothing, on any path a packet can take (I7).

#![allow(unsafe_code, reason = "an allocator that counts has to be one")]
#![allow(clippy::cast_possible_truncation, reason = "test data is small")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::array;
use std::cell::Cell;
use std::iter;

use dataplane::counters::WorkerCounters;
use dataplane::fib::{NeighborSpec, PortId};
use dataplane::flow::Protocol::{Tcp, Udp};
use dataplane::nic::BURST;
use dataplane::verdict::DropReason;
use support::frames::{self, damaged, golden};
use support::gateway::{
    FAMILIES, Family, Gateway, IN, IN_MAC, OUT, OUT_MAC, PODS, ROUTER, Service, Setup, V4, at, ip,
};
use support::packet::*;
use support::pooled::PooledWorkers;
use support::random::Random;

thread_local! {
    /// Calls of the allocator by this thread, while it is watched.
    static CALLS: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    CALLS.with(|calls| calls.set(calls.get().map(|n| n + 1)));
}

// SAFETY: every call is the system allocator's, with the caller's own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How often `work` called the allocator.
fn calls(work: impl FnOnce()) -> u64 {
    CALLS.with(|calls| calls.set(Some(0)));
    work();
    CALLS.with(|calls| calls.replace(None)).unwrap_or_default()
}

/// A gateway's tables and the workers that use them; the allocator is watched while they turn.
struct Watched {
    gateway: Gateway,
    workers: PooledWorkers,
}

impl Watched {
    fn new(setup: Setup, services: fn(Family) -> [Service; 2]) -> Self {
        let mut gateway = Gateway::new(setup);
        for f in FAMILIES {
            gateway.apply(f.client, &services(f));
        }
        let workers = PooledWorkers::new(&gateway);
        Self { gateway, workers }
    }

    /// Sends bursts by turns to all workers and polls them until all frames are through.
    fn run(&mut self, what: &str, frames: &[(PortId, Vec<u8>)]) {
        let count = self.workers.workers.len();
        for burst in frames.chunks(BURST) {
            for (number, (port, frame)) in burst.iter().enumerate() {
                self.workers.put(number % count, *port, iter::once(frame));
            }
            self.turns(what, 2);
        }
        self.turns(what, 2);
    }

    /// Turns of all workers, a millisecond each.
    fn turns(&mut self, what: &str, turns: usize) {
        let PooledWorkers { workers, now, .. } = &mut self.workers;
        let calls = calls(|| {
            for _ in 0..turns {
                *now = now.after(1);
                workers.iter_mut().for_each(|worker| {
                    worker.poll(*now);
                });
            }
        });
        assert_eq!(calls, 0, "{what}");
        self.workers.collect(|_| {});
    }

    /// A counter's sum over all workers.
    fn sum(&self, pick: impl Fn(&WorkerCounters) -> u64) -> u64 {
        self.workers.counters.iter().map(|counters| pick(counters)).sum()
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.sum(|counters| counters.drops[reason as usize].get())
    }

    /// Ends all connections by time, and sees that nothing was lost.
    fn end(&mut self) {
        // In steps: a deadline long past would look like one to come.
        for _ in 0..3 {
            self.workers.now = self.workers.now.after(3_000_000);
            self.turns("sweeps", 5_000);
        }
        assert_eq!(self.sum(|counters| counters.conntrack.entries.get()), 0);
        for counters in &self.workers.counters {
            let (received, ended) = counters.balance();
            assert_eq!(received, ended);
        }
    }
}

fn two_workers() -> Setup {
    Setup { workers: 2, ..Setup::default() }
}

fn services(f: Family) -> [Service; 2] {
    [Tcp, Udp].map(|protocol| {
        Service::new("ns/web:80", protocol, &[(f.backends[0], 8080)])
            .external_local()
            .load_balancer(f.load_balancer, 80, &[])
            .external(f.external_ip, 80)
            .cluster_ip(f.cluster_ip, 80)
    })
}

fn outside(packet: Packet) -> (PortId, Vec<u8>) {
    (OUT, packet.macs(ROUTER, OUT_MAC).frame())
}

fn pods(packet: Packet) -> (PortId, Vec<u8>) {
    (IN, packet.macs(PODS, IN_MAC).frame())
}

#[test]
fn workers_never_allocate() {
    let mut watched = Watched::new(two_workers(), services);
    for f in FAMILIES {
        let (vip, backend) = (at(f.load_balancer, 80), at(f.backends[0], 8080));
        let mut each = |what: &str, build: &dyn Fn((std::net::IpAddr, u16)) -> Vec<Packet>| {
            let frames: Vec<_> = (0..100)
                .flat_map(|i| build(at(f.client, 10_000 + i)))
                .map(
                    |packet| {
                        if packet.source() == backend.0 { pods(packet) } else { outside(packet) }
                    },
                )
                .collect();
            watched.run(what, &frames);
        };
        each("new connections", &|client| vec![tcp(client, vip), udp(client, vip)]);
        let replies = |client| vec![tcp(backend, client).flags(SYN | ACK), udp(backend, client)];
        each("replies", &replies);
        let established = |client| vec![tcp(client, vip).flags(ACK), udp(client, vip)];
        each("established", &established);
        each("clashes", &|client| vec![tcp(client, at(f.external_ip, 80))]);
        each("masqueraded", &|client| vec![udp(client, at(f.cluster_ip, 80))]);
        each("past the Service", &|client| {
            vec![tcp(client, (backend.0, 9090)), udp(client, backend)]
        });
        let fragmented =
            |client: (_, u16), id| udp(client, vip).payload(&[0; 64]).fragments(client.1 + id, 32);
        each("fragments", &|client| fragmented(client, 0));
        each("fragments that overtake", &|client| {
            fragmented(client, 1_000).into_iter().rev().collect()
        });
        each("later fragments alone", &|client| fragmented(client, 2_000).split_off(1));
        each("too many of them", &|client| {
            (3..10).flat_map(|id| fragmented(client, id * 1_000).split_off(1)).collect()
        });
        let unreachable = |client: (_, _)| {
            vec![port_unreachable(backend.0, client.0, &tcp(client, backend).ip())]
        };
        each("errors", &unreachable);
        each("half closed", &|client| vec![tcp(client, vip).flags(FIN | ACK)]);
        each("closing", &|client| vec![tcp(client, vip).flags(RST)]);
        each("reopened", &|client| vec![tcp(client, vip)]);
        each("drops", &|client| vec![tcp(client, at(f.load_balancer, 81)).flags(RST)]);
        each("refusals", &|client| {
            [f.cluster_ip, f.load_balancer]
                .into_iter()
                .flat_map(|address| [udp(client, at(address, 81)), tcp(client, at(address, 81))])
                .collect()
        });
        each("echoes", &|client| vec![ping(client.0, f.load_balancer, b"x")]);
        each("no hops left", &|client| vec![udp(client, vip).ttl(1)]);
        each("too big", &|client| vec![udp(client, vip).payload(&[0; 1_600])]);
        each("transit", &|client| vec![udp(client, at(f.pod, 9)), ping(client.0, f.pod, b"x")]);
        each("punts", &|client| vec![tcp(client, at(f.node_out, 22))]);
        let unknown = if f.v4 { "10.244.77.77" } else { "fd00:244::77:77" };
        each("parked", &|client| vec![udp(client, at(unknown, 9))]);
        let mac = PODS;
        watched.gateway.setup.fib.neighbors.push(NeighborSpec {
            port: IN,
            address: ip(unknown),
            mac,
        });
        watched.workers.publish(&watched.gateway);
        watched.turns("new tables, sent at last", 10);
        watched.gateway.apply(f.client, &[]);
        watched.workers.publish(&watched.gateway);
        let frames: Vec<_> =
            (0..100).map(|i| outside(udp(at(f.client, 10_000 + i), vip))).collect();
        watched.run("backends that no longer serve", &frames);
    }
    watched.run(
        "ARP",
        &[(OUT, arp(1, (ROUTER, "192.0.2.9"), ([0; 6], "198.51.100.10"), [0xff; 6], ROUTER))],
    );
    watched.run(
        "neighbour discovery",
        &[(OUT, solicitation(ROUTER, "fe80::9", "2001:db8:5::10").frame())],
    );
    for _ in 0..100 {
        let (_, frame) = pods(tcp(at(V4.node_out, 22), at(V4.client, 5000)).flags(ACK));
        watched.workers.put_injected(OUT, &frame);
    }
    watched.turns("from the kernel", 10);
    watched.end();
    let sum = |pick: fn(&WorkerCounters) -> u64| watched.sum(pick);
    assert!(sum(|c| c.work.handed_in.get()) > 1_000, "half of the frames come to the wrong worker");
    assert!(sum(|c| c.work.forwarded.get()) > 2_000);
    assert!(sum(|c| c.work.answered.get()) > 1_000);
    assert!(sum(|c| c.work.punted.get()) > 100);
    assert!(sum(|c| c.work.injected.get()) == 100);
    assert!(sum(|c| c.conntrack.created.get()) > 1_000);
    assert!(sum(|c| c.conntrack.expired.get()) > 500);
    assert!(sum(|c| c.conntrack.reclassified.get()) > 100);
}

/// What arrives may be anything.
#[test]
fn damaged_frames_do_not_make_workers_allocate() {
    let mut watched = Watched::new(two_workers(), frames::services);
    let golden: Vec<Vec<u8>> = FAMILIES.into_iter().flat_map(golden).collect();
    let mut random = Random::new(815);
    for _ in 0..1_000 {
        let burst: [_; BURST] =
            array::from_fn(|_| (random.pick(&[OUT, OUT, OUT, IN]), damaged(&mut random, &golden)));
        watched.run("damaged frames", &burst);
        watched.workers.now = watched.workers.now.after(random.below(3_000) as u64);
    }
    watched.end();
    let seen = DropReason::ALL.iter().filter(|&&reason| watched.drops(reason) > 0).count();
    assert!(seen > 15, "only {seen} reasons to drop");
}

/// Full tables and full rings have their own ways.
#[test]
fn workers_that_are_full_do_not_allocate() {
    let mut setup = two_workers();
    setup.conntrack.connections_v4 = 64;
    setup.conntrack.connections_v6 = 64;
    let mut watched = Watched::new(setup, services);
    for f in FAMILIES {
        let vip = at(f.load_balancer, 80);
        let clients = || (0..1_000).map(move |i| at(f.client, 10_000 + i));
        let frames: Vec<_> = clients().map(|client| outside(tcp(client, vip))).collect();
        watched.run("half-open connections push out others", &frames);
        // Picked up in the middle, they may stay.
        let frames: Vec<_> = clients()
            .flat_map(|client| {
                let backend = at(f.backends[0], 8080);
                [outside(tcp(client, vip).flags(ACK)), pods(tcp(backend, client).flags(ACK))]
            })
            .collect();
        watched.run("open connections fill the table", &frames);
    }
    assert!(watched.sum(|counters| counters.conntrack.evicted_half_open.get()) > 100);
    assert!(watched.drops(DropReason::ConntrackFull) > 100);
    // The other worker stands still.
    let strays: Vec<_> = (0..32)
        .map(|i| outside(tcp(at(V4.client, 20_000 + i), at(V4.load_balancer, 81))))
        .collect();
    while watched.drops(DropReason::HandoverFull) == 0 {
        watched.workers.put(0, OUT, strays.iter().map(|(_, frame)| frame));
        let PooledWorkers { workers, now, .. } = &mut watched.workers;
        let calls = calls(|| {
            workers[0].poll(*now);
        });
        assert_eq!(calls, 0, "a full ring");
        watched.workers.collect(|_| {});
    }
    watched.turns("a full ring is emptied", 100);
    watched.end();
}

//! A worker allocates nothing and frees nothing, on any path a packet can take (I7).

#![allow(unsafe_code, reason = "an allocator that counts has to be one")]
#![allow(clippy::cast_possible_truncation, reason = "test data is small")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use dataplane::clock::Moment;
use dataplane::counters::WorkerCounters;
use dataplane::flow::Protocol::{Tcp, Udp};
use dataplane::handoff;
use dataplane::nic::{Burst, Frame, Nic};
use dataplane::snapshot;
use dataplane::worker::{KernelPath, Worker};
use support::gateway::{
    FAMILIES, Family, Gateway, IN, IN_MAC, OUT, OUT_MAC, PODS, ROUTER, Service, Setup, at,
};
use support::packet::*;

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

/// A frame in a buffer of a pool, as a real NIC's are.
struct PooledFrame {
    buffer: Box<[u8; 2048]>,
    start: usize,
    len: usize,
}

impl Frame for PooledFrame {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.start + self.len]
    }

    fn grow_front(&mut self, len: usize) -> bool {
        let fits = len <= self.start;
        if fits {
            self.start -= len;
            self.len += len;
        }
        fits
    }

    fn set_len(&mut self, len: usize) -> bool {
        let fits = self.start + len <= self.buffer.len();
        if fits {
            self.len = len;
        }
        fits
    }
}

/// Queues with room for everything a test sends.
#[derive(Clone)]
struct PooledNic {
    rx: Arc<ArrayQueue<PooledFrame>>,
    tx: Arc<ArrayQueue<PooledFrame>>,
    pool: Arc<ArrayQueue<PooledFrame>>,
}

impl PooledNic {
    fn new() -> Self {
        let queue = || Arc::new(ArrayQueue::new(1024));
        Self { rx: queue(), tx: queue(), pool: queue() }
    }

    fn put(&self, bytes: &[u8]) {
        let mut buffer = Box::new([0; 2048]);
        buffer[128..128 + bytes.len()].copy_from_slice(bytes);
        let frame = PooledFrame { buffer, start: 128, len: bytes.len() };
        assert!(self.rx.push(frame).is_ok());
    }
}

impl Nic for PooledNic {
    type Frame = PooledFrame;

    fn receive(&mut self, burst: &mut Burst<PooledFrame>) {
        while !burst.is_full() {
            let Some(frame) = self.rx.pop() else { return };
            burst.push(frame);
        }
    }

    fn transmit(&mut self, burst: &mut Burst<PooledFrame>) {
        for frame in burst.drain(..) {
            assert!(self.tx.push(frame).is_ok());
        }
    }

    fn recycle(&mut self, burst: &mut Burst<PooledFrame>) {
        for frame in burst.drain(..) {
            assert!(self.pool.push(frame).is_ok());
        }
    }
}

/// Two workers on pooled NICs; the tables are those of the usual fixture.
struct Pair {
    workers: Vec<Worker<PooledNic>>,
    nics: Vec<[PooledNic; 2]>,
    counters: Vec<Arc<WorkerCounters>>,
    now: Moment,
}

impl Pair {
    fn new() -> Self {
        let mut tables = Gateway::new(Setup { workers: 2, ..Setup::default() });
        for f in FAMILIES {
            tables.apply(f.client, &services(f));
        }
        let (_, readers) = snapshot::channel(tables.tables(), 2);
        let ring = || Arc::new(ArrayQueue::new(1024));
        let kernel = KernelPath {
            punts: vec![ring(), ring()],
            injects: vec![ring(), ring()],
            wanted: Arc::new(ArrayQueue::new(64)),
        };
        let mut pair = Self { workers: vec![], nics: vec![], counters: vec![], now: Moment(1) };
        for ((id, links), reader) in (0..).zip(handoff::mesh(2)).zip(readers) {
            let nics = [PooledNic::new(), PooledNic::new()];
            let counters = Arc::new(WorkerCounters::new(2));
            let engine = tables.engine_of(id);
            let (queues, kernel) = (nics.to_vec(), kernel.clone());
            let worker = Worker::new(id, queues, engine, reader, links, kernel, counters.clone());
            pair.workers.push(worker);
            pair.nics.push(nics);
            pair.counters.push(counters);
        }
        pair
    }

    /// Sends by turns to both workers and polls them, watching the allocator.
    fn run(&mut self, what: &str, frames: &[(u16, Vec<u8>)]) {
        for (number, (port, frame)) in frames.iter().enumerate() {
            self.nics[number % 2][usize::from(*port)].put(frame);
        }
        let workers = &mut self.workers;
        let now = &mut self.now;
        let calls = calls(|| {
            for _ in 0..40 {
                *now = now.after(1);
                workers.iter_mut().for_each(|worker| {
                    worker.poll(*now);
                });
            }
        });
        assert_eq!(calls, 0, "{what}");
        for nic in self.nics.iter().flatten() {
            while nic.tx.pop().is_some() || nic.pool.pop().is_some() {}
        }
    }
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

fn outside(packet: Packet) -> (u16, Vec<u8>) {
    (OUT, packet.macs(ROUTER, OUT_MAC).frame())
}

fn pods(packet: Packet) -> (u16, Vec<u8>) {
    (IN, packet.macs(PODS, IN_MAC).frame())
}

#[test]
fn workers_never_allocate() {
    let mut pair = Pair::new();
    for f in FAMILIES {
        let clients = || (0..100).map(move |i| at(f.client, 10_000 + i));
        let (vip, backend) = (at(f.load_balancer, 80), at(f.backends[0], 8080));
        let each = |build: &dyn Fn((std::net::IpAddr, u16)) -> (u16, Vec<u8>)| -> Vec<_> {
            clients().map(build).collect()
        };
        pair.run("new connections", &each(&|client| outside(tcp(client, vip))));
        pair.run("replies", &each(&|client| pods(tcp(backend, client).flags(SYN | ACK))));
        pair.run("established", &each(&|client| outside(tcp(client, vip).flags(ACK))));
        pair.run("clashes", &each(&|client| outside(tcp(client, at(f.external_ip, 80)))));
        pair.run("masqueraded", &each(&|client| outside(udp(client, at(f.cluster_ip, 80)))));
        pair.run(
            "fragments",
            &each(&|client| {
                outside(udp(client, vip).payload(&[0; 64]).fragments(client.1, 32).remove(0))
            }),
        );
        pair.run(
            "errors",
            &each(&|client| {
                pods(port_unreachable(backend.0, client.0, &tcp(client, backend).ip()))
            }),
        );
        pair.run("closing", &each(&|client| outside(tcp(client, vip).flags(RST))));
        pair.run("reopened", &each(&|client| outside(tcp(client, vip))));
        pair.run("drops", &each(&|client| outside(tcp(client, at(f.load_balancer, 81)))));
        pair.run("refusals", &each(&|client| outside(udp(client, at(f.cluster_ip, 81)))));
        pair.run("echoes", &each(&|client| outside(ping(client.0, f.load_balancer, b"x"))));
        pair.run("punts", &each(&|client| outside(tcp(client, at(f.node_out, 22)))));
        let unknown = if f.v4 { "10.244.77.77" } else { "fd00:244::77:77" };
        pair.run("parked", &each(&|client| outside(udp(client, at(unknown, 9)))));
        pair.run("garbage", &each(&|_| (OUT, vec![0x55; 60])));
    }
    // Everything ends: parked frames and connections.
    pair.now = pair.now.after(600_000);
    for _ in 0..100 {
        pair.run("sweeps", &[]);
    }
    let handed: u64 = pair.counters.iter().map(|counters| counters.work.handed_in.get()).sum();
    assert!(handed > 500, "half of the frames should have come to the wrong worker: {handed}");
    for counters in &pair.counters {
        let (received, ended) = counters.balance();
        assert_eq!(received, ended);
        assert_eq!(counters.conntrack.entries.get(), 0);
    }
}

//! A gateway of any number of workers over memory NICs, with a small network around it.
//!
//! ```text
//!   clients 203.0.113.0/24 -- router 192.0.2.254 --[port 0: 192.0.2.1]  gateway  [port 1: 10.0.0.1]-- pods 10.244.0.0/16
//! ```
//! IPv6 alike: 2001:db8:f::/48, 2001:db8:1::fe, 2001:db8:1::1, fd00::1, fd00:244::/32.

use std::iter;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam::queue::ArrayQueue;
use dataplane::affinity::Affinity;
use dataplane::clock::Moment;
use dataplane::conntrack::ConntrackConfig;
use dataplane::counters::WorkerCounters;
use dataplane::engine::{Engine, EngineConfig};
use dataplane::fib::{Fib, FibSpec, NeighborSpec, PortId, PortSpec, RouteSpec, RouteTo};
use dataplane::flow::{Address, Protocol};
use dataplane::handoff;
use dataplane::hash::HashKey;
use dataplane::nic::Frame;
use dataplane::nic::memory::{self, MemoryFrame, MemoryNic, Wire};
use dataplane::ranges::Pool;
use dataplane::rss::Rss;
use dataplane::service::tally::{Counts, Tallies};
use dataplane::service::writer::ServiceWriter;
use dataplane::service::{Class, Frontend, FrontendAt, ServicePort};
use dataplane::snapshot::{self, Publisher};
use dataplane::tables::{MasqueradePorts, Node, Tables};
use dataplane::verdict::DropReason;
use dataplane::worker::{KernelPath, Worker};

use super::judge::judge;
use super::packet::{Mac, Packet};

/// The port toward clients, and its own MAC address.
pub const OUT: PortId = 0;
pub const OUT_MAC: Mac = [2, 0, 0, 0, 0, 0x10];
/// The router on the way to clients.
pub const ROUTER: Mac = [2, 0, 0, 0, 0, 0x1f];
/// The port toward pods, and its own MAC address.
pub const IN: PortId = 1;
pub const IN_MAC: Mac = [2, 0, 0, 0, 0, 0x20];
/// The pods' side of the inner port: one MAC address stands for all of them.
pub const PODS: Mac = [2, 0, 0, 0, 0, 0x2f];

/// Rows of Services that are counted.
const ROWS: u32 = 64;
/// Depth of every ring that is not a queue of a port.
const KERNEL_RING: usize = 8;

/// What a test may set before the gateway starts.
#[derive(Clone, Debug)]
pub struct Setup {
    pub workers: u16,
    pub fib: FibSpec,
    pub node: Node,
    pub conntrack: ConntrackConfig,
    pub fragmented_packets: usize,
    pub rejects_per_second: u64,
    pub icmp_errors_per_second: u64,
    pub queue_depth: usize,
    pub affinity: Arc<Affinity>,
    /// What the NICs do, by port.
    pub rss: Arc<[Option<Rss>]>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            workers: 1,
            fib: network(),
            node: node(),
            conntrack: ConntrackConfig {
                connections_v4: 4096,
                connections_v6: 4096,
                ..ConntrackConfig::default()
            },
            fragmented_packets: 1024,
            rejects_per_second: 1000,
            icmp_errors_per_second: 1000,
            queue_depth: 1024,
            affinity: Arc::new(Affinity::new(1024, HashKey::new(3))),
            rss: Arc::new([]),
        }
    }
}

impl Setup {
    fn engine(&self, worker: u16, tallies: Arc<Tallies>) -> Engine {
        let config = EngineConfig {
            worker,
            workers: self.workers,
            ports: PortId::try_from(self.fib.ports.len()).expect("few ports"),
            secret: HashKey::new(22),
            affinity: self.affinity.clone(),
            tallies,
            conntrack: self.conntrack.clone(),
            fragmented_packets: self.fragmented_packets,
            rejects_per_second: self.rejects_per_second,
            icmp_errors_per_second: self.icmp_errors_per_second,
        };
        let memory = self.conntrack.plain_memory();
        let mut engine = Engine::new(config, memory).expect("memory fits");
        engine.steer(self.rss.clone());
        engine
    }

    fn tables(&self, writer: &ServiceWriter) -> Tables {
        Tables {
            services: writer.table(),
            fib: Arc::new(Fib::new(&self.fib)),
            node: Arc::new(self.node.clone()),
        }
    }
}

/// Addresses of one family in the network above.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub v4: bool,
    /// Of this node, on the outer and the inner port.
    pub node_out: &'static str,
    pub node_in: &'static str,
    /// Somebody outside.
    pub client: &'static str,
    /// A pod that is no endpoint, and three that may be.
    pub pod: &'static str,
    pub backends: [&'static str; 3],
    pub cluster_ip: &'static str,
    pub load_balancer: &'static str,
    pub external_ip: &'static str,
    /// In the service range, but no Service's.
    pub unallocated: &'static str,
    /// Somewhere that no route leads to.
    pub nowhere: &'static str,
}

pub const V4: Family = Family {
    v4: true,
    node_out: "192.0.2.1",
    node_in: "10.0.0.1",
    client: "203.0.113.7",
    pod: "10.244.9.9",
    backends: ["10.244.0.2", "10.244.0.3", "10.244.0.4"],
    cluster_ip: "10.96.0.10",
    load_balancer: "198.51.100.10",
    external_ip: "198.51.100.20",
    unallocated: "10.96.7.7",
    nowhere: "172.31.0.1",
};

pub const V6: Family = Family {
    v4: false,
    node_out: "2001:db8:1::1",
    node_in: "fd00::1",
    client: "2001:db8:f::7",
    pod: "fd00:244::9:9",
    backends: ["fd00:244::2", "fd00:244::3", "fd00:244::4"],
    cluster_ip: "fd00:96::10",
    load_balancer: "2001:db8:5::10",
    external_ip: "2001:db8:5::20",
    unallocated: "fd00:96::7:7",
    nowhere: "fd77::1",
};

pub const FAMILIES: [Family; 2] = [V4, V6];

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

/// `address:port`, with the brackets IPv6 wants.
pub fn at(address: &str, port: u16) -> (IpAddr, u16) {
    (ip(address), port)
}

fn network() -> FibSpec {
    let port = |mac, addresses: [&str; 2]| PortSpec {
        mac,
        mtu: 1500,
        addresses: addresses.map(ip).to_vec(),
        mss_clamp: None,
    };
    let to = |prefix: &str, port, gateway: Option<&str>| RouteSpec {
        prefix: prefix.parse().expect("a prefix"),
        to: RouteTo::Port { port, gateway: gateway.map(ip) },
    };
    let neighbor = |port, address, mac| NeighborSpec { port, address: ip(address), mac };
    let pods =
        [V4, V6].into_iter().flat_map(|f| [f.pod, f.backends[0], f.backends[1], f.backends[2]]);
    FibSpec {
        ports: vec![
            port(OUT_MAC, [V4.node_out, V6.node_out]),
            port(IN_MAC, [V4.node_in, V6.node_in]),
        ],
        routes: vec![
            to("192.0.2.0/24", OUT, None),
            to("2001:db8:1::/48", OUT, None),
            to("203.0.113.0/24", OUT, Some("192.0.2.254")),
            to("2001:db8:f::/48", OUT, Some("2001:db8:1::fe")),
            to("10.0.0.0/16", IN, None),
            to("10.244.0.0/16", IN, None),
            to("fd00::/32", IN, None),
            to("fd00:244::/32", IN, None),
        ],
        neighbors: [neighbor(OUT, "192.0.2.254", ROUTER), neighbor(OUT, "2001:db8:1::fe", ROUTER)]
            .into_iter()
            .chain(pods.map(|pod| neighbor(IN, pod, PODS)))
            .collect(),
        locals: [V4, V6].iter().flat_map(|f| [ip(f.node_out), ip(f.node_in)]).collect(),
    }
}

fn node() -> Node {
    let prefix = |text: &str| text.parse().expect("a prefix");
    Node {
        addresses: [V4, V6].iter().flat_map(|f| [ip(f.node_out), ip(f.node_in)]).collect(),
        node_port_addresses: [V4, V6].iter().map(|f| ip(f.node_out)).collect(),
        cluster_cidrs: ["10.244.0.0/16", "fd00:244::/32"].into_iter().map(prefix).collect(),
        service_cidrs: ["10.96.0.0/12", "fd00:96::/32"].into_iter().map(prefix).collect(),
        masquerade_all: false,
        reject_unknown_cluster_ip_ports: true,
        reject_unknown_external_ports: true,
        masquerade_pool: Pool::default(),
        masquerade_ports: MasqueradePorts(40_000..=49_999),
        announced: vec![(OUT, prefix("198.51.100.0/24")), (OUT, prefix("2001:db8:5::/48"))],
    }
}

/// A Service of one port, described in few words.
#[derive(Clone, Debug)]
pub struct Service(pub ServicePort, Vec<SocketAddr>);

impl Service {
    /// A row with these endpoints, all of them local.
    pub fn new(name: &str, protocol: Protocol, endpoints: &[(&str, u16)]) -> Self {
        let mut list: Vec<_> =
            endpoints.iter().map(|(host, port)| at(host, *port).into()).collect();
        list.sort();
        let row = ServicePort {
            name: name.into(),
            protocol,
            cluster: list.clone(),
            internal_local: None,
            external_local: None,
            serving: vec![],
            has_endpoints: !endpoints.is_empty(),
            affinity: None,
            frontends: vec![],
        };
        Self(row, list)
    }

    /// Which of the endpoints are local.
    pub fn local(mut self, endpoints: &[(&str, u16)]) -> Self {
        self.1 = endpoints.iter().map(|(host, port)| at(host, *port).into()).collect();
        self.1.sort();
        for list in [&mut self.0.internal_local, &mut self.0.external_local].into_iter().flatten() {
            list.clone_from(&self.1);
        }
        self
    }

    /// Usable endpoints exist, whatever the lists say (SEL-7).
    pub fn with_endpoints_elsewhere(mut self) -> Self {
        self.0.has_endpoints = true;
        self
    }

    pub fn internal_local(mut self) -> Self {
        self.0.internal_local = Some(self.1.clone());
        self
    }

    pub fn external_local(mut self) -> Self {
        self.0.external_local = Some(self.1.clone());
        self
    }

    pub fn cluster_ip(self, address: &str, port: u16) -> Self {
        self.frontend(FrontendAt::Address(at(address, port).into()), Class::Cluster, &[])
    }

    pub fn external(self, address: &str, port: u16) -> Self {
        self.frontend(FrontendAt::Address(at(address, port).into()), Class::External, &[])
    }

    pub fn load_balancer(self, address: &str, port: u16, ranges: &[&str]) -> Self {
        self.frontend(FrontendAt::Address(at(address, port).into()), Class::External, ranges)
    }

    pub fn node_port(self, v4: bool, port: u16) -> Self {
        self.frontend(FrontendAt::NodePort { v4, port }, Class::External, &[])
    }

    fn frontend(mut self, at: FrontendAt, class: Class, ranges: &[&str]) -> Self {
        let allowed_sources = ranges.iter().map(|net| net.parse().expect("a prefix")).collect();
        self.0.frontends.push(Frontend { at, class, allowed_sources });
        self
    }
}

/// How a frame ended.
#[derive(Clone, PartialEq, Eq)]
pub enum Fate {
    /// Left by this port.
    Sent(PortId, Vec<u8>),
    /// Left by this port as the answer to what came in.
    Answered(PortId, Vec<u8>),
    /// Given to the kernel twin of this port.
    Punted(PortId, Vec<u8>),
    Dropped(DropReason),
    /// Waits for a next hop.
    Parked,
    /// A later fragment that waits for the first one.
    Held,
}

impl std::fmt::Debug for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        match self {
            Self::Sent(port, frame) => write!(f, "sent by {port}\n  {}", hex(frame)),
            Self::Answered(port, frame) => write!(f, "answered by {port}\n  {}", hex(frame)),
            Self::Punted(port, frame) => write!(f, "punted at {port}\n  {}", hex(frame)),
            Self::Dropped(reason) => write!(f, "dropped: {}", reason.name()),
            Self::Parked => f.write_str("parked"),
            Self::Held => f.write_str("held"),
        }
    }
}

/// The control side: tables and their publisher.
pub struct Control {
    pub setup: Setup,
    pub writer: ServiceWriter,
    publisher: Publisher<Tables>,
}

impl Control {
    /// Publishes what the writer, `setup.fib` and `setup.node` say now.
    pub fn publish(&mut self) {
        self.publisher.publish(self.tables());
    }

    /// What [`Self::publish`] publishes.
    pub fn tables(&self) -> Tables {
        self.setup.tables(&self.writer)
    }

    /// Sets the rows of a Service; none removes it.
    pub fn apply(&mut self, name: &str, rows: &[Service]) {
        self.writer.apply(name, rows.iter().map(|row| row.0.clone()).collect());
        self.publish();
    }
}

/// The fixture.
pub struct Gateway {
    control: Control,
    pub now: Moment,
    pub counters: Vec<Arc<WorkerCounters>>,
    tallies: Vec<Arc<Tallies>>,
    workers: Vec<Worker<MemoryNic>>,
    /// By worker, then port.
    wires: Vec<Vec<Wire>>,
    kernel: KernelPath<MemoryFrame>,
    /// Checksums of what leaves are judged unless a test sends wrong ones on purpose.
    pub judged: bool,
}

impl Gateway {
    pub fn new(setup: Setup) -> Self {
        let ports = PortId::try_from(setup.fib.ports.len()).expect("few ports");
        let writer = ServiceWriter::new(HashKey::new(11));
        let tables = setup.tables(&writer);
        let (publisher, readers) = snapshot::channel(tables, usize::from(setup.workers));
        let ring = |depth| Arc::new(ArrayQueue::new(depth));
        let kernel = KernelPath {
            punts: (0..ports).map(|_| ring(KERNEL_RING)).collect(),
            injects: (0..ports).map(|_| ring(KERNEL_RING)).collect(),
            wanted: Arc::new(ArrayQueue::new(64)),
        };
        let (mut workers, mut wires, mut counters, mut tallies) = (vec![], vec![], vec![], vec![]);
        for ((id, links), reader) in (0..).zip(handoff::mesh(setup.workers)).zip(readers) {
            let tally = Arc::new(Tallies::new(ROWS));
            let engine = setup.engine(id, tally.clone());
            tallies.push(tally);
            let (nics, ends): (Vec<_>, Vec<_>) =
                (0..ports).map(|_| memory::pair(setup.queue_depth)).unzip();
            let own = Arc::new(WorkerCounters::new(ports));
            workers.push(Worker::new(id, nics, engine, reader, links, kernel.clone(), own.clone()));
            wires.push(ends);
            counters.push(own);
        }
        let now = Moment(1_000_000);
        let control = Control { setup, writer, publisher };
        Self { control, now, counters, tallies, workers, wires, kernel, judged: true }
    }

    /// An engine like that of a worker, to decide frames without it.
    pub fn engine_of(&self, worker: u16) -> Engine {
        self.setup.engine(worker, Arc::new(Tallies::new(0)))
    }

    /// A frame on the wire of a worker's queue; nothing is polled yet.
    pub fn put(&self, worker: usize, port: PortId, frame: &[u8]) {
        assert!(self.wires[worker][usize::from(port)].send(frame), "the test's wire is full");
    }

    /// A frame from the kernel twin of a port; nothing is polled yet.
    pub fn put_injected(&self, port: PortId, frame: &[u8]) {
        let pushed = self.kernel.injects[usize::from(port)].push(MemoryFrame::new(frame));
        assert!(pushed.is_ok(), "the test's ring is full");
    }

    pub fn poll_one(&mut self, worker: usize) -> usize {
        self.workers[worker].poll(self.now)
    }

    /// Polls every worker in a thread of its own while `drive` plays the network and the control plane.
    pub fn threaded(&mut self, drive: impl FnOnce(&[Vec<Wire>], &mut Control)) {
        let Self { workers, wires, control, now, .. } = self;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for worker in workers.iter_mut() {
                let (stop, now) = (&stop, *now);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        if worker.poll(now) == 0 {
                            thread::yield_now();
                        }
                    }
                });
            }
            drive(wires, control);
            stop.store(true, Ordering::Relaxed);
        });
        self.poll();
    }

    /// Polls all workers until nothing moves any more.
    pub fn poll(&mut self) {
        loop {
            let frames: usize = self.workers.iter_mut().map(|worker| worker.poll(self.now)).sum();
            if frames == 0 {
                return;
            }
        }
    }

    /// Lets time pass: in big steps at first, then every millisecond, for longer than a sweep takes.
    pub fn wait(&mut self, millis: u64) {
        const SWEPT: u64 = 5_000;
        let target = self.now.after(millis);
        while self.now < target {
            let left = target.0 - self.now.0;
            self.now = self.now.after(left.saturating_sub(SWEPT).clamp(1, 500));
            self.poll();
        }
    }

    /// What became of all frames since `before`. Sent frames come without order between ports and workers.
    pub fn collect(&mut self, before: &Totals) -> Vec<Fate> {
        let answered = self.totals().answered - before.answered;
        let mut fates = self.collect_mixed(before);
        let left = fates.iter().filter(|fate| matches!(fate, Fate::Sent(..))).count();
        assert!(
            answered == 0 || answered == left as u64,
            "answers and forwarded frames in one go cannot be told apart"
        );
        if answered > 0 {
            for fate in &mut fates {
                if let Fate::Sent(port, frame) = fate {
                    *fate = Fate::Answered(*port, std::mem::take(frame));
                }
            }
        }
        fates
    }

    /// The same, with answers among the frames sent.
    pub fn collect_mixed(&mut self, before: &Totals) -> Vec<Fate> {
        let after = self.totals();
        let mut fates = vec![];
        for (port, wire) in self.wires.iter().flat_map(|wires| (0..).zip(wires)) {
            fates.extend(iter::from_fn(|| wire.receive()).map(|frame| Fate::Sent(port, frame)));
        }
        for (port, ring) in (0..).zip(&self.kernel.punts) {
            let punted = iter::from_fn(|| ring.pop()).map(|frame| frame.bytes().to_vec());
            fates.extend(punted.map(|frame| Fate::Punted(port, frame)));
        }
        for (i, reason) in DropReason::ALL.into_iter().enumerate() {
            let count = after.drops[i] - before.drops[i];
            fates.extend((0..count).map(|_| Fate::Dropped(reason)));
        }
        fates.extend((before.parked..after.parked).map(|_| Fate::Parked));
        fates.extend((before.held..after.held).map(|_| Fate::Held));
        if self.judged {
            fates.iter().for_each(|fate| {
                if let Fate::Sent(_, frame) = fate {
                    judge(frame);
                }
            });
        }
        self.assert_balanced();
        fates
    }

    /// A frame at a worker's queue and what became of it: exactly one thing.
    pub fn receive_at(&mut self, worker: usize, port: PortId, frame: &[u8]) -> Fate {
        let before = self.totals();
        self.put(worker, port, frame);
        self.poll();
        one(self.collect(&before))
    }

    pub fn receive(&mut self, port: PortId, frame: &[u8]) -> Fate {
        self.receive_at(0, port, frame)
    }

    /// A frame at a worker's queue, and what became of it and of those that waited for it.
    pub fn receive_all_at(&mut self, worker: usize, port: PortId, frame: &[u8]) -> Vec<Fate> {
        let before = self.totals();
        self.put(worker, port, frame);
        self.poll();
        self.collect(&before)
    }

    /// A frame from the kernel and what became of it.
    pub fn inject(&mut self, port: PortId, frame: &[u8]) -> Fate {
        let before = self.totals();
        self.put_injected(port, frame);
        self.poll();
        one(self.collect(&before))
    }

    /// A packet from outside, as the router delivers it.
    pub fn outside(&mut self, packet: &Packet) -> Fate {
        self.receive(OUT, &packet.clone().macs(ROUTER, OUT_MAC).frame())
    }

    /// A packet from a pod.
    pub fn pods(&mut self, packet: &Packet) -> Fate {
        self.receive(IN, &packet.clone().macs(PODS, IN_MAC).frame())
    }

    /// I1: every frame is accounted for.
    pub fn assert_balanced(&self) {
        for (worker, counters) in self.counters.iter().enumerate() {
            let (received, ended) = counters.balance();
            assert_eq!(received, ended, "worker {worker} lost or invented a frame");
        }
        let sum = |pick: fn(&WorkerCounters) -> u64| {
            self.counters.iter().map(|counters| pick(counters)).sum::<u64>()
        };
        let (given, taken) = (sum(|c| c.work.handed_over.get()), sum(|c| c.work.handed_in.get()));
        assert_eq!(given, taken, "a frame was lost between workers");
    }

    pub fn totals(&self) -> Totals {
        let mut totals = Totals { drops: [0; DropReason::COUNT], answered: 0, parked: 0, held: 0 };
        for counters in &self.counters {
            for (total, counter) in totals.drops.iter_mut().zip(counters.drops.iter()) {
                *total += counter.get();
            }
            totals.answered += counters.work.answered.get();
            totals.parked += counters.work.parked.get();
            totals.held += counters.work.held.get();
        }
        totals
    }

    /// What all workers have counted for the rows of this name.
    pub fn counted(&self, row: &str) -> Counts {
        let mut sum = Counts::default();
        let places = self.control.writer.places().filter(|(_, port, _)| *port.name == *row);
        for (_, _, place) in places {
            for counts in self.tallies.iter().map(|tallies| tallies.read(place)) {
                sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
        }
        sum
    }

    /// Connections of all workers, as their counters said at the last tick.
    pub fn connections(&mut self) -> u64 {
        self.now = self.now.after(1);
        self.poll();
        self.counters.iter().map(|counters| counters.conntrack.entries.get()).sum()
    }

    /// Next hops asked for.
    pub fn wanted(&self) -> Vec<(PortId, Address)> {
        iter::from_fn(|| self.kernel.wanted.pop()).collect()
    }
}

impl Deref for Gateway {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl DerefMut for Gateway {
    fn deref_mut(&mut self) -> &mut Control {
        &mut self.control
    }
}

/// Counters summed over workers, as far as they tell a frame's fate.
#[derive(Clone, Debug)]
pub struct Totals {
    drops: [u64; DropReason::COUNT],
    answered: u64,
    parked: u64,
    held: u64,
}

impl Totals {
    /// Later fragments that wait for their first one.
    pub fn held(&self) -> u64 {
        self.held
    }
}

fn one(mut fates: Vec<Fate>) -> Fate {
    assert_eq!(fates.len(), 1, "one frame, one fate: {fates:?}");
    fates.remove(0)
}

/// A packet as it leaves by the outer port toward clients.
pub fn sent_out(packet: Packet) -> Fate {
    Fate::Sent(OUT, packet.macs(OUT_MAC, ROUTER).frame())
}

/// A packet as it leaves by the inner port toward pods.
pub fn sent_in(packet: Packet) -> Fate {
    Fate::Sent(IN, packet.macs(IN_MAC, PODS).frame())
}

/// A packet as it goes back out of the outer port as an answer.
pub fn answered_out(packet: Packet) -> Fate {
    Fate::Answered(OUT, packet.macs(OUT_MAC, ROUTER).frame())
}

/// A packet as it goes back out of the inner port as an answer.
pub fn answered_in(packet: Packet) -> Fate {
    Fate::Answered(IN, packet.macs(IN_MAC, PODS).frame())
}

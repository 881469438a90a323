//! What the cases start from: a twin with its queues, a mirror and a resolver, as the process wires them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use control::kernel::mirror::Mirror;
use control::kernel::resolve::{self, NextHop, ResolverCounters};
use control::kernel::twin::{Queues, Twin, TwinConfig, TwinCounters};
use crossbeam::queue::ArrayQueue;
use dataplane::fib::{FibSpec, Mac, RouteTo};
use dataplane::nic::Frame;
use dataplane::nic::memory::MemoryFrame;
use ipnet::IpNet;
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{Handle, RouteMessageBuilder};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// The port's MAC address.
pub(crate) const MAC: Mac = [0x02, 0, 0, 0, 0, 0x01];
/// The MAC address of whoever is on the wire.
pub(crate) const PEER: Mac = [0x02, 0, 0, 0, 0, 0xfe];
/// The twin's name.
pub(crate) const NAME: &str = "vg0";

/// The twin's addresses in most cases.
pub(crate) const V4: &str = "192.0.2.1/24";
pub(crate) const V6: &str = "2001:db8::1/64";
/// The address in [`V4`].
pub(crate) const NODE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The peer's address.
pub(crate) const PEER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// Longest wait for anything; a pass needs milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A gateway without workers: the case plays them.
pub(crate) struct Node {
    pub(crate) netlink: Handle,
    pub(crate) index: u32,
    pub(crate) punts: Arc<ArrayQueue<MemoryFrame>>,
    pub(crate) injects: Arc<ArrayQueue<MemoryFrame>>,
    pub(crate) counters: Arc<TwinCounters>,
    pub(crate) specs: watch::Receiver<Arc<FibSpec>>,
    pub(crate) requests: Arc<ArrayQueue<NextHop>>,
    pub(crate) resolver: Arc<ResolverCounters>,
}

pub(crate) fn config(addresses: &[&str]) -> TwinConfig {
    let addresses = addresses.iter().map(|net| net.parse().expect("a prefix")).collect();
    TwinConfig { name: NAME.into(), mac: MAC, mtu: 1400, mss_clamp: None, addresses }
}

/// Runs a case on a runtime of its own; whatever it started ends with it.
pub(crate) fn run<T>(case: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(case)
}

impl Node {
    pub(crate) async fn start(addresses: &[&str]) -> Self {
        let netlink = control::kernel::connect().expect("a netlink socket");
        let twin = Twin::create(&netlink, config(addresses)).await.expect("a twin");
        Self::with(netlink, twin).await
    }

    pub(crate) async fn with(netlink: Handle, twin: Twin) -> Self {
        let queue = || Arc::new(ArrayQueue::new(16));
        let (punts, injects) = (queue(), queue());
        let index = twin.index();
        let mirror = Mirror::open(vec![twin.mirrored()]).await.expect("a mirror");
        let (sender, specs) = watch::channel(Arc::new(mirror.spec()));
        tokio::spawn(mirror.run(sender));
        let (requests, resolver) = (Arc::new(ArrayQueue::new(16)), Arc::default());
        tokio::spawn(resolve::run(
            netlink.clone(),
            vec![index],
            Arc::clone(&requests),
            Arc::default(),
            specs.clone(),
            Arc::clone(&resolver),
        ));
        let counters = Arc::new(TwinCounters::default());
        let queues = Queues {
            punts: Arc::clone(&punts),
            injects: Arc::clone(&injects),
            bell: Arc::default(),
        };
        let alloc = |bytes: &[u8]| Some(MemoryFrame::new(bytes));
        tokio::spawn(twin.run(queues, alloc, Arc::clone(&counters)));
        Self { netlink, index, punts, injects, counters, specs, requests, resolver }
    }

    /// A frame as if a worker had punted it.
    pub(crate) fn punt(&self, bytes: &[u8]) {
        self.punts.push(MemoryFrame::new(bytes)).expect("room");
    }

    /// The first frame of the kernel that `accept` takes; others are dropped.
    pub(crate) async fn injected(&self, what: &str, accept: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            while let Some(frame) = self.injects.pop() {
                if accept(frame.bytes()) {
                    return frame.bytes().to_vec();
                }
            }
            sleep(Duration::from_millis(1)).await;
        }
        panic!("the kernel sent no {what}");
    }

    /// The first table that `accept` takes.
    pub(crate) async fn mirrored(
        &self,
        what: &str,
        accept: impl Fn(&FibSpec) -> bool,
    ) -> Arc<FibSpec> {
        let mut specs = self.specs.clone();
        let found = tokio::time::timeout(PATIENCE, specs.wait_for(|spec| accept(spec))).await;
        match found {
            Ok(spec) => Arc::clone(&spec.expect("the mirror runs")),
            Err(_elapsed) => panic!("{what}: not in {:#?}", self.specs.borrow()),
        }
    }
}

/// Where the table leads a prefix.
pub(crate) fn leads(spec: &FibSpec, prefix: &str) -> Option<RouteTo> {
    let prefix: IpNet = prefix.parse().expect("a prefix");
    spec.routes.iter().find(|route| route.prefix == prefix).map(|route| route.to)
}

/// A route over the twin, as `ip route` would ask for it.
pub(crate) fn route(node: &Node, prefix: &str, via: Option<&str>, metric: u32) -> RouteMessage {
    let prefix: IpNet = prefix.parse().expect("a prefix");
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(prefix.addr(), prefix.prefix_len())
        .expect("a prefix")
        .output_interface(node.index);
    if metric != 0 {
        builder = builder.priority(metric);
    }
    match via {
        Some(via) => builder.gateway(ip(via)).expect("a gateway").build(),
        None => builder.scope(RouteScope::Link).build(),
    }
}

pub(crate) async fn permanent(node: &Node, address: IpAddr) {
    let add = node.netlink.neighbours().add(node.index, address);
    let add = add.state(NeighbourState::Permanent).link_layer_address(&PEER);
    add.execute().await.expect("a neighbour");
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

//! The network around the gateway, and the Services in it.
//!
//! ```text
//!   clients 100.64.0.0/10 -- router 192.0.2.254 --[OUT: 192.0.2.1]  gateway  [IN: 10.0.0.1]-- 500 nodes 10.0.0.0/16
//!   2001:db8:c000::/36       2001:db8:1::fe        2001:db8:1::1              fd00::1            with a /24 of pods each
//! ```
//! Services are at 198.18.0.0/16, those that masquerade at 198.19.0.0/16; both have a cluster IP in 10.96.0.0/16, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use dataplane::fib::{Fib, FibSpec, Mac, NeighborSpec, PortId, PortSpec, RouteSpec, RouteTo};
use dataplane::flow::{Address, Protocol};
use dataplane::hash::HashKey;
use dataplane::service::writer::ServiceWriter;
use dataplane::service::{Class, Frontend, FrontendAt, ServicePort};
use dataplane::tables::{MasqueradePorts, Node, Tables};

use super::flows::Kind;

/// Number of ports.
pub(crate) const PORTS: usize = 2;
/// The port toward clients.
pub(crate) const OUT: PortId = 0;
/// The port toward pods.
pub(crate) const IN: PortId = 1;

/// The gateway's own MAC addresses, by port, and a neighbour's that sends to each.
pub(crate) const MACS: [Mac; PORTS] = [[2, 0, 0, 0, 0, 0x10], [2, 0, 0, 0, 0, 0x20]];
pub(crate) const NEIGHBORS: [Mac; PORTS] = [[2, 0, 0, 0, 0, 0x1f], [2, 1, 0, 0, 0, 0]];

/// The port of every Service, and of every pod.
pub(crate) const SERVICE_PORT: u16 = 80;
pub(crate) const POD_PORT: u16 = 8080;
/// Endpoints of a Service.
const ENDPOINTS: u32 = 10;
/// Nodes with pods.
const NODES: u32 = 500;

const CLIENTS_V4: u32 = 100 << 24 | 64 << 16;
const SERVICES_V4: u32 = 198 << 24 | 18 << 16;
const CLUSTER_V4: u32 = 10 << 24 | 96 << 16;
const PODS_V4: u32 = 10 << 24 | 128 << 16;
const NODES_V4: u32 = 10 << 24;
const TRANSIT_V4: u32 = 172 << 24 | 16 << 16;
const MASQUERADE_V4: u32 = 192 << 24 | 2 << 8 | 100;

const CLIENTS_V6: u128 = 0x2001_0db8_c000 << 80;
const SERVICES_V6: u128 = 0x2001_0db8_0005 << 80;
const CLUSTER_V6: u128 = 0xfd00_0096 << 96;
const PODS_V6: u128 = 0xfd00_0128 << 96;
const NODES_V6: u128 = 0xfd00 << 112;
const TRANSIT_V6: u128 = 0x2001_0db8_0007 << 80;
const MASQUERADE_V6: u128 = (0x2001_0db8_0001 << 80) + 0x100;

fn choose(v4: bool, low: u32, high: u128) -> Address {
    if v4 { Address::v4(low.to_be_bytes()) } else { Address(high) }
}

/// A client; `number` is less than 2^22.
pub(crate) fn client(v4: bool, number: u32) -> Address {
    // A household has a prefix of its own.
    choose(v4, CLIENTS_V4 + number, CLIENTS_V6 | u128::from(number) << 64 | 0x1d)
}

/// The number of a client.
pub(crate) fn client_number(address: Address) -> u32 {
    if address.is_v4() {
        address.low32().wrapping_sub(CLIENTS_V4)
    } else {
        u32::try_from(address.0.wrapping_sub(CLIENTS_V6) >> 64).unwrap_or(u32::MAX)
    }
}

/// The external address of a Service.
pub(crate) fn service(v4: bool, masquerade: bool, number: u32) -> Address {
    let number = number + 1 + (u32::from(masquerade) << 16);
    choose(v4, SERVICES_V4 + number, SERVICES_V6 | u128::from(number))
}

/// The cluster address of a Service.
pub(crate) fn cluster_ip(v4: bool, number: u32) -> Address {
    choose(v4, CLUSTER_V4 + number + 1, CLUSTER_V6 | u128::from(number + 1))
}

/// A pod: they are spread over the nodes.
pub(crate) fn pod(v4: bool, number: u32) -> Address {
    let (node, host) = (number % NODES, number / NODES + 2);
    choose(v4, PODS_V4 + (node << 8) + host, PODS_V6 | u128::from(node) << 64 | u128::from(host))
}

/// The number of a pod; `None` for another address.
pub(crate) fn pod_number(address: Address) -> Option<u32> {
    let (node, host) = if address.is_v4() {
        let offset = address.low32().wrapping_sub(PODS_V4);
        (offset >> 8, offset & 0xff)
    } else {
        let node = u32::try_from(address.0.wrapping_sub(PODS_V6) >> 64).ok()?;
        (node, address.low32())
    };
    (node < NODES).then_some(host.checked_sub(2)? * NODES + node)
}

/// A node with pods.
pub(crate) fn node_address(v4: bool, number: u32) -> Address {
    choose(v4, NODES_V4 + 256 + number, NODES_V6 | u128::from(256 + number))
}

/// Somebody behind the gateway who is no Service's.
pub(crate) fn elsewhere(v4: bool, number: u32) -> Address {
    choose(v4, TRANSIT_V4 + (number & 0xffff), TRANSIT_V6 | u128::from(number & 0xffff))
}

/// The address under which the gateway masquerades.
pub(crate) fn masquerade(v4: bool) -> Address {
    choose(v4, MASQUERADE_V4, MASQUERADE_V6)
}

/// The tables of a gateway with this many Services of a kind.
pub(crate) fn tables(kind: Kind, services: u32) -> Tables {
    let mut writer = ServiceWriter::new(HashKey::new(11));
    for number in 0..services {
        writer.apply(&format!("ns/s{number}"), vec![row(kind, number)]);
    }
    Tables { services: writer.table(), fib: Arc::new(Fib::new(&fib())), node: Arc::new(node()) }
}

fn row(kind: Kind, number: u32) -> ServicePort {
    let Kind { v4, protocol, masquerade } = kind;
    let pods = (0..ENDPOINTS).map(|i| (pod(v4, number * ENDPOINTS + i).ip(), POD_PORT).into());
    let mut endpoints: Vec<_> = pods.collect();
    endpoints.sort_unstable();
    let frontend = |address: Address, class| Frontend {
        at: FrontendAt::Address((address.ip(), SERVICE_PORT).into()),
        class,
        allowed_sources: Arc::new([]),
    };
    ServicePort {
        name: format!("ns/s{number}:web").into(),
        protocol,
        // Local keeps the client's address; with Cluster it is masqueraded.
        external_local: (!masquerade).then(|| endpoints.clone()),
        internal_local: None,
        cluster: endpoints,
        serving: vec![],
        has_endpoints: true,
        affinity: None,
        frontends: vec![
            frontend(service(v4, masquerade, number), Class::External),
            frontend(cluster_ip(v4, number), Class::Cluster),
        ],
    }
}

fn fib() -> FibSpec {
    let addresses = |v4, v6| vec![IpAddr::V4(v4), IpAddr::V6(v6)];
    let port = |mac, addresses| PortSpec { mac, mtu: 1500, addresses, mss_clamp: None };
    let out =
        addresses(Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1));
    let inside = addresses(Ipv4Addr::new(10, 0, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
    let routers =
        addresses(Ipv4Addr::new(192, 0, 2, 254), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe));
    let route = |prefix: &str, port, gateway| RouteSpec {
        prefix: prefix.parse().expect("a prefix"),
        to: RouteTo::Port { port, gateway },
    };
    let mut spec = FibSpec {
        routes: vec![
            route("192.0.2.0/24", OUT, None),
            route("2001:db8:1::/64", OUT, None),
            route("0.0.0.0/0", OUT, Some(routers[0])),
            route("::/0", OUT, Some(routers[1])),
            route("10.0.0.0/16", IN, None),
            route("fd00::/64", IN, None),
            route("172.16.0.0/16", IN, Some(node_address(true, 0).ip())),
            route("2001:db8:7::/48", IN, Some(node_address(false, 0).ip())),
        ],
        locals: [&out[..], &inside[..]].concat(),
        ports: vec![port(MACS[0], out), port(MACS[1], inside)],
        neighbors: vec![],
    };
    let router = |address| NeighborSpec { port: OUT, address, mac: NEIGHBORS[0] };
    spec.neighbors.extend(routers.into_iter().map(router));
    for (number, v4) in (0..NODES).flat_map(|number| [(number, true), (number, false)]) {
        let (address, [_, _, high, low]) = (node_address(v4, number).ip(), number.to_be_bytes());
        spec.neighbors.push(NeighborSpec { port: IN, address, mac: [2, 1, 0, 0, high, low] });
        let prefix = match pod(v4, number).ip() {
            IpAddr::V4(ip) => format!("{}/24", Ipv4Addr::from_bits(ip.to_bits() & !0xff)),
            IpAddr::V6(ip) => format!("{}/64", Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        };
        spec.routes.push(route(&prefix, IN, Some(address)));
    }
    spec
}

fn node() -> Node {
    let prefixes = |list: [&str; 2]| {
        list.map(|prefix| prefix.parse().expect("a prefix")).into_iter().collect()
    };
    Node {
        addresses: fib().locals.into_iter().collect(),
        cluster_cidrs: prefixes(["10.128.0.0/9", "fd00:128::/32"]),
        service_cidrs: prefixes(["10.96.0.0/12", "fd00:96::/32"]),
        // A port of a cluster IP that no Service has is then a drop without a limit, and no answer.
        reject_unknown_cluster_ip_ports: false,
        masquerade_pool: [true, false].map(|v4| masquerade(v4).ip()).into_iter().collect(),
        masquerade_ports: MasqueradePorts(1024..=u16::MAX),
        ..Node::default()
    }
}

/// What a flow's protocol is called in a case's name.
pub(crate) fn protocol_name(v4: bool, protocol: Protocol) -> String {
    format!("{}{}", protocol.name(), if v4 { 4 } else { 6 })
}

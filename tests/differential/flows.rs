//! Which first packets a cluster is asked about: every way to every port of every Service, and some that lead nowhere,
//! from everybody.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::cluster::{Cluster, NODE, Port, Protocol, Service, parse};
use crate::endpoints::{is_served, lists};

/// Who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum From {
    /// By the port toward the clients.
    Outside,
    /// By the port toward the pods.
    Pod,
    /// The node's own kernel.
    Node,
}

/// First packets of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) from: From,
    pub(crate) protocol: Protocol,
    pub(crate) client: IpAddr,
    pub(crate) to: SocketAddr,
    /// Clients behind `client` to be asked for: more than one where a client sticks to its endpoint.
    pub(crate) clients: u8,
}

impl Flow {
    /// The client of the packet of this number.
    pub(crate) fn client(&self, number: usize) -> IpAddr {
        let offset = number % usize::from(self.clients);
        match self.client {
            IpAddr::V4(ip) => {
                let offset = u32::try_from(offset).expect("few");
                IpAddr::V4((ip.to_bits() + offset).into())
            }
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() + offset as u128).into()),
        }
    }
}

/// Clients of a Service with affinity.
pub(crate) const MANY: u8 = 48;
const OUTSIDE: [[&str; 2]; 2] =
    [["203.0.113.64", "2001:db8:bad::40"], ["198.18.0.9", "2001:db8:18::9"]];
const POD: [&str; 2] = ["10.244.200.64", "fd00:244::200:40"];

pub(crate) fn flows(cluster: &Cluster) -> BTreeSet<Flow> {
    let mut flows = BTreeSet::new();
    for service in &cluster.services {
        for (index, port) in service.ports.iter().enumerate() {
            for v4 in [true, false] {
                let ways = ways(service, port, v4);
                let lists = lists(service, index, v4);
                let endpoints = lists.cluster.iter().chain(&lists.local).map(SocketAddr::ip);
                let sticky = service.affinity && is_served(service);
                for to in &ways {
                    for (from, client) in clients(service, *to, v4) {
                        let clients = if sticky && from != From::Node { MANY } else { 1 };
                        flows.insert(Flow {
                            from,
                            protocol: port.protocol,
                            client,
                            to: *to,
                            clients,
                        });
                    }
                    // To itself, one of them.
                    let itself = endpoints
                        .clone()
                        .find(|ip| !NODE.as_flattened().iter().any(|n| parse(n) == *ip));
                    if let Some(client) = itself.filter(|_| !sticky) {
                        let from = match client {
                            IpAddr::V4(ip) if ip.octets()[0] != 10 => From::Outside,
                            IpAddr::V6(ip) if ip.segments()[0] != 0xfd00 => From::Outside,
                            _ => From::Pod,
                        };
                        flows.insert(Flow {
                            from,
                            protocol: port.protocol,
                            client,
                            to: *to,
                            clients: 1,
                        });
                    }
                }
                for to in nowhere(&ways, port.number) {
                    for (from, client) in clients(service, to, v4) {
                        flows.insert(Flow {
                            from,
                            protocol: port.protocol,
                            client,
                            to,
                            clients: 1,
                        });
                    }
                }
            }
        }
    }
    // A node cannot be asked for stickiness with several addresses.
    flows.retain(|flow| !(flow.from == From::Node && has_affinity(cluster, flow)));
    flows
}

fn has_affinity(cluster: &Cluster, flow: &Flow) -> bool {
    let with = cluster.services.iter().filter(|service| service.affinity);
    let mut ports = with.flat_map(|service| &service.ports);
    ports.any(|port| port.number == flow.to.port() || port.node_port == Some(flow.to.port()))
}

/// All destinations of a port.
fn ways(service: &Service, port: &Port, v4: bool) -> Vec<SocketAddr> {
    let addresses = service.cluster_ips.iter().chain(&service.external_ips).copied();
    let addresses = addresses.chain(service.balancers.iter().map(|balancer| balancer.ip));
    let addresses = addresses.filter(|ip| ip.is_ipv4() == v4);
    let mut ways: Vec<SocketAddr> = addresses.map(|ip| SocketAddr::new(ip, port.number)).collect();
    let node = NODE.map(|addresses| parse(addresses[usize::from(!v4)]));
    ways.extend(port.node_port.iter().flat_map(|n| node.map(|ip| SocketAddr::new(ip, *n))));
    ways
}

/// Ports that nobody has, and a service address that nobody has.
fn nowhere(ways: &[SocketAddr], number: u16) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> =
        ways.iter().take(3).map(|to| SocketAddr::new(to.ip(), number + 5000)).collect();
    if let Some(first) = ways.first() {
        let unallocated = if first.is_ipv4() { "172.30.99.99" } else { "fd00:30::9999" };
        all.push(SocketAddr::new(parse(unallocated), number));
    }
    all
}

fn clients(service: &Service, to: SocketAddr, v4: bool) -> Vec<(From, IpAddr)> {
    let family = usize::from(!v4);
    let mut all: Vec<(From, IpAddr)> =
        OUTSIDE.iter().map(|pair| (From::Outside, parse(pair[family]))).collect();
    all.push((From::Pod, parse(POD[family])));
    all.push((From::Node, parse(NODE[0][family])));
    // Where balancers stand on loopback addresses, a node's packet to one may have the address of another (LSR-5).
    let balancers = service.balancers.iter().map(|balancer| balancer.ip);
    let mut balancers = balancers.filter(|ip| ip.is_ipv4() == v4);
    let is_balancer = balancers.clone().any(|ip| ip == to.ip());
    let other = balancers.find(|ip| *ip != to.ip()).filter(|_| is_balancer && !service.affinity);
    all.extend(other.map(|ip| (From::Outside, ip)));
    all
}

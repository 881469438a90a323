//! Everything a worker decides with: one immutable value, swapped as a whole.
//!
//! Cloning is cheap (the parts are shared), so control changes one part and publishes.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;

use crate::fib::{Fib, PortId};
use crate::flow::Address;
use crate::ranges::{Addresses, Networks, Pool};
use crate::service::{ServiceTable, Source, SourceClass};

/// What [`crate::snapshot`] publishes to workers.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Services and backends.
    pub services: ServiceTable,
    /// Routes and neighbours.
    pub fib: Arc<Fib>,
    /// Facts about this node and the policy of the configuration.
    pub node: Arc<Node>,
}

/// This node: its addresses, ranges and settings that decide verdicts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// All addresses of the node: sources in here are the node itself.
    pub addresses: Addresses,
    /// Addresses that serve node ports (NPT-2).
    pub node_port_addresses: Addresses,
    /// Pod ranges; with none of a family that family has no detector (VER-4).
    pub cluster_cidrs: Networks,
    /// Ranges cluster IPs come from: unallocated addresses in them are dropped (REJ-10).
    pub service_cidrs: Networks,
    /// Masquerade all traffic to cluster IPs (MSQ-1 c).
    pub masquerade_all: bool,
    /// Refuse unknown ports of cluster IPs (REJ-10).
    pub reject_unknown_cluster_ip_ports: bool,
    /// Refuse unknown ports of external addresses (OPN-6), which upstream leaves to a host that has nobody there.
    pub reject_unknown_external_ports: bool,
    /// Masquerade addresses; when none of a family is set, the egress port's address serves.
    pub masquerade_pool: Pool,
    /// Source ports masquerading may use; split among workers.
    pub masquerade_ports: MasqueradePorts,
    /// VIPs that workers answer ARP and neighbour solicitations for, per port: any VIP inside one of the prefixes.
    pub announced: Vec<(PortId, IpNet)>,
}

/// The source ports of masqueraded connections, in equal blocks, one a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasqueradePorts(pub RangeInclusive<u16>);

impl Default for MasqueradePorts {
    /// Above Linux's ephemeral range (32768-60999), so that addresses can be shared with the kernel.
    fn default() -> Self {
        Self(61_000..=65_535)
    }
}

impl MasqueradePorts {
    /// The block of a worker: first port and number of ports.
    #[must_use]
    pub fn block(&self, worker: u16, workers: u16) -> (u16, u16) {
        let size = self.block_size(workers);
        (self.0.start() + worker * size, size)
    }

    /// The worker whose block holds `port`.
    #[must_use]
    pub fn owner(&self, port: u16, workers: u16) -> Option<u16> {
        let offset = port.checked_sub(*self.0.start())?;
        let owner = offset.checked_div(self.block_size(workers))?;
        (owner < workers).then_some(owner)
    }

    fn block_size(&self, workers: u16) -> u16 {
        let size = self.0.len() / usize::from(workers.max(1));
        u16::try_from(size).unwrap_or(u16::MAX)
    }
}

impl Node {
    /// What a source address is to this node.
    #[must_use]
    pub fn classify_source(&self, source: IpAddr) -> SourceClass {
        let source = self.source(source.into());
        let (pod, node, detector) = (source.is_pod(), source.is_node(), source.has_detector());
        SourceClass { pod, node, detector }
    }

    /// The same, each question answered when it is asked.
    #[must_use]
    pub fn source(&self, source: Address) -> impl Source {
        SourceOn { node: self, source }
    }

    /// Whether this address serves node ports.
    #[must_use]
    pub fn serves_node_ports(&self, address: Address) -> bool {
        self.node_port_addresses.contains(address)
    }

    /// Whether a port that no Service has is refused at a Service's cluster IP, or at an external address.
    #[must_use]
    pub fn rejects_unknown_port(&self, cluster: bool) -> bool {
        if cluster {
            self.reject_unknown_cluster_ip_ports
        } else {
            self.reject_unknown_external_ports
        }
    }

    /// Whether the workers of `port` answer ARP and neighbour solicitations for a VIP.
    #[must_use]
    pub fn announces(&self, port: PortId, vip: IpAddr) -> bool {
        self.announced.iter().any(|(on, net)| *on == port && net.contains(&vip))
    }

    /// The worker that masquerades under this address and port.
    #[must_use]
    pub fn masquerade_owner(
        &self,
        fib: &Fib,
        address: Address,
        port: u16,
        ports: PortId,
        workers: u16,
    ) -> Option<u16> {
        let owner = self.masquerade_ports.owner(port, workers)?;
        self.is_masquerade_address(fib, address, ports).then_some(owner)
    }

    /// Whether an address is one that masquerading may use as a source.
    fn is_masquerade_address(&self, fib: &Fib, address: Address, ports: PortId) -> bool {
        let v4 = address.is_v4();
        match self.masquerade_pool.of(v4) {
            [] => (0..ports).any(|port| fib.port_address(port, v4) == Some(address)),
            pool => pool.contains(&address),
        }
    }
}

struct SourceOn<'a> {
    node: &'a Node,
    source: Address,
}

impl Source for SourceOn<'_> {
    fn is_pod(&self) -> bool {
        self.node.cluster_cidrs.contains(self.source)
    }

    fn is_node(&self) -> bool {
        self.node.addresses.contains(self.source)
    }

    fn has_detector(&self) -> bool {
        self.node.cluster_cidrs.has_family(self.source.is_v4())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_of_a_block_leads_back_to_its_worker() {
        for workers in [1, 2, 3, 7, 64] {
            let ports = MasqueradePorts(1024..=65_535);
            for worker in 0..workers {
                let (first, size) = ports.block(worker, workers);
                assert_eq!(ports.owner(first, workers), Some(worker));
                assert_eq!(ports.owner(first + (size - 1), workers), Some(worker));
            }
            assert_eq!(ports.owner(1023, workers), None);
        }
    }

    #[test]
    fn blocks_never_overlap_however_few_ports_there_are() {
        for (ports, workers) in [(100..=100, 1), (100..=100, 2), (100..=106, 3), (0..=65_535, 1)] {
            let ports = MasqueradePorts(ports);
            let mut owners = std::collections::HashMap::new();
            for worker in 0..workers {
                let (first, size) = ports.block(worker, workers);
                for port in (0..size).map(|i| first + i) {
                    assert_eq!(owners.insert(port, worker), None, "port {port} lent twice");
                    assert_eq!(ports.owner(port, workers), Some(worker));
                }
            }
            for port in 0..=u16::MAX {
                assert_eq!(ports.owner(port, workers), owners.get(&port).copied());
            }
        }
    }

    #[test]
    fn sources_are_classified_per_family() {
        let node = Node {
            addresses: Addresses::from_iter(["192.0.2.1".parse().expect("valid")]),
            cluster_cidrs: Networks::from_iter(["10.0.0.0/8".parse().expect("valid")]),
            ..Node::default()
        };
        let class = |text: &str| node.classify_source(text.parse().expect("valid"));
        assert_eq!(class("10.1.1.1"), SourceClass { pod: true, node: false, detector: true });
        assert_eq!(class("192.0.2.1"), SourceClass { pod: false, node: true, detector: true });
        assert_eq!(class("fd00::1"), SourceClass { pod: false, node: false, detector: false });
    }
}

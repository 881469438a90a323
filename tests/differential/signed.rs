//! The differences that are meant, each with its reason. One that does not occur any more fails the test.

use std::net::IpAddr;

use crate::cluster::{Cluster, NODE, Protocol, parse};
use crate::endpoints::is_served;
use crate::fate::{Fate, Fates};
use crate::flows::{Flow, From};

/// A difference that is meant.
pub(crate) struct Signed {
    pub(crate) id: &'static str,
    pub(crate) reason: &'static str,
    /// Whether this is one: the objects, the flow, what the kernel does with it, what vipgate does.
    is: fn(&Cluster, &Flow, &Fates, &Fates) -> bool,
}

pub(crate) const SIGNED: [Signed; 4] = [
    Signed {
        id: "REJ-4",
        reason: "a TCP client is refused by a reset: it learns the same, and no firewall on the way drops it as ICMP",
        is: |_, flow, kernel, vipgate| {
            flow.protocol == Protocol::Tcp
                && kernel.iter().eq([&Fate::Unreachable { code: port_unreachable(flow) }])
                && vipgate.iter().eq([&Fate::Reset])
        },
    },
    Signed {
        id: "LBR-8",
        reason: "an unknown port of an external address: there is no host behind that could have it, and sending the \
                 packet back to the router it came from would have it go round until its hop limit",
        is: |cluster, flow, kernel, vipgate| {
            let untouched = |fate: &Fate| matches!(fate, Fate::Sent { to, masqueraded: None, .. } if *to == flow.to);
            is_external(cluster, flow.to.ip())
                && kernel.iter().all(untouched)
                && vipgate.iter().eq([&Fate::Silence])
        },
    },
    Signed {
        id: "NODE-TO-ITSELF",
        reason: "what the node's kernel sends to one of the node's own addresses stays in the kernel: it never comes by",
        is: |_, flow, _, vipgate| {
            flow.from == From::Node
                && is_own(flow.to.ip())
                && !vipgate.iter().any(Fate::left_the_node)
        },
    },
    Signed {
        id: "NODE-BY-SERVICE-TO-ITSELF",
        reason: "the node by way of a Service to an endpoint in its own network: the answer would stay in the kernel, and \
                 come from the endpoint's address instead of the Service's; over IPv4 the kernel takes a packet with its own \
                 source for a forgery",
        is: |_, flow, kernel, vipgate| {
            let stays = |fate: &Fate| match fate {
                Fate::Sent { by: From::Node, .. } => true,
                // The kernel has no SCTP.
                Fate::Unreachable { code: 2 } => flow.protocol == Protocol::Sctp,
                _ => false,
            };
            let leave = |fates: &Fates| -> Fates {
                fates.iter().filter(|fate| fate.left_the_node()).copied().collect()
            };
            flow.from == From::Node
                && flow.to.is_ipv4()
                && kernel.iter().any(stays)
                && kernel.iter().all(|fate| stays(fate) || fate.left_the_node())
                && vipgate.iter().all(|fate| *fate == Fate::Silence || fate.left_the_node())
                && leave(kernel) == leave(vipgate)
        },
    },
];

impl Signed {
    pub(crate) fn covers(
        &self,
        cluster: &Cluster,
        flow: &Flow,
        kernel: &Fates,
        vipgate: &Fates,
    ) -> bool {
        (self.is)(cluster, flow, kernel, vipgate)
    }
}

impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.id, self.reason)
    }
}

fn port_unreachable(flow: &Flow) -> u8 {
    if flow.to.is_ipv4() { 3 } else { 4 }
}

fn is_own(ip: IpAddr) -> bool {
    NODE.as_flattened().iter().any(|address| parse(address) == ip)
}

/// Whether a Service claims it beside its cluster IP.
fn is_external(cluster: &Cluster, ip: IpAddr) -> bool {
    let served = cluster.services.iter().filter(|service| is_served(service));
    let mut served = served.filter(|service| {
        service.cluster_ips.iter().any(|cluster_ip| cluster_ip.is_ipv4() == ip.is_ipv4())
    });
    served.any(|service| {
        let mut balancers = service.balancers.iter().filter(|balancer| !balancer.proxy);
        service.external_ips.contains(&ip) || balancers.any(|balancer| balancer.ip == ip)
    })
}

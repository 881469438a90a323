//! Where a packet that belongs to no connection wants to go. The order is GWY-1's.

use crate::fib::{PortId, Route};
use crate::flow::{Address, Tuple};
use crate::service::Match;
use crate::tables::Tables;

/// The class of a destination.
#[derive(Clone, Copy, Debug)]
pub enum Destination<'a> {
    /// A Service's frontend.
    Service(Match<'a>),
    /// An address of a Service, at a port it does not have.
    VipPortUnknown {
        /// Whether the address is a cluster IP.
        cluster: bool,
    },
    /// In a service range, but no Service's (REJ-10).
    Unallocated,
    /// A masquerade address.
    Masquerade {
        /// The owner of the block its port is in.
        owner: u16,
    },
    /// The node itself.
    Local,
    /// From a backend's service port: the reply of a connection nobody remembers, or over UDP perhaps a question.
    Reply,
    /// From a backend's service port, and no reply: remembered, as the rest of the connection looks like replies.
    Outbound,
    /// To a backend's service port, past its Services: remembered, so that its replies are told from strays.
    Direct,
    /// Somebody else's traffic.
    Transit,
}

/// Classifies a packet by its flow. `opens` says that it can't be a reply (a TCP SYN).
#[must_use]
pub fn destination<'a>(
    tables: &'a Tables,
    tuple: &Tuple,
    opens: bool,
    ports: PortId,
    workers: u16,
) -> Destination<'a> {
    match tables.services.find(tuple.dst, tuple.dport, tuple.protocol) {
        Some(found) => Destination::Service(found),
        None => beside_frontends(tables, tuple, opens, ports, workers),
    }
}

/// The same for a packet to an address and port that are no frontend.
#[must_use]
pub fn beside_frontends<'a>(
    tables: &'a Tables,
    tuple: &Tuple,
    opens: bool,
    ports: PortId,
    workers: u16,
) -> Destination<'a> {
    let Tuple { src, dst, sport, dport, protocol } = *tuple;
    let Tables { services, fib, node } = tables;
    if node.serves_node_ports(dst)
        && let Some(found) = services.find_node_port(dst.is_v4(), dport, protocol)
    {
        return Destination::Service(found);
    }
    if let Some(owner) = node.masquerade_owner(fib, dst, dport, ports, workers) {
        return Destination::Masquerade { owner };
    }
    if let Some(other) = address_only(tables, dst) {
        return other;
    }
    if !opens && services.is_endpoint(src, sport, protocol) {
        return Destination::Reply;
    }
    if services.is_endpoint(dst, dport, protocol) {
        return Destination::Direct;
    }
    if opens && services.is_endpoint(src, sport, protocol) {
        return Destination::Outbound;
    }
    Destination::Transit
}

/// The classes that an address alone decides; for packets without ports, too. `None` leaves the ports to decide.
#[must_use]
pub fn address_only<'a>(tables: &'a Tables, dst: Address) -> Option<Destination<'a>> {
    // A node address stays the node's at ports no Service has, even when some Service claims it (NPT-10, LBR-8).
    if tables.fib.route(dst) == Route::Local {
        return Some(Destination::Local);
    }
    // An address of the pool is nobody's at the ports it does not lend; routing it would only send it back.
    if tables.node.masquerade_pool.contains(dst) {
        return Some(Destination::Masquerade { owner: 0 });
    }
    let vip = tables.services.vip(dst);
    if vip.is_some_and(|vip| vip.cluster > 0) {
        return Some(Destination::VipPortUnknown { cluster: true });
    }
    // Even where a Service uses an address of these ranges as an external one (REJ-10).
    if tables.node.service_cidrs.contains(dst) {
        return Some(Destination::Unallocated);
    }
    vip.map(|_| Destination::VipPortUnknown { cluster: false })
}

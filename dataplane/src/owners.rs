//! Which worker decides about a flow, whichever queue its packets arrive on.
//!
//! Invariants: all workers say the same, and of both directions of a connection they say the same worker. A reply does not
//! tell which Service it is of, so what both directions have in common decides: the client's end, or the masquerade port,
//! which is one of its owner's block. Where a frontend's connections are all masqueraded, nothing else has to be in common,
//! and the whole flow decides. That holds on any NIC; what is known of NICs makes the owner the worker whose queue the
//! packets come to.

use std::sync::Arc;

use crate::classify::Destination;
use crate::fib::PortId;
use crate::flow::{Address, Protocol, Tuple};
use crate::hash::{HashKey, high32, reduce};
use crate::rss::Rss;
use crate::service::OwnedBy;
use crate::tables::Tables;

/// The rule, the same for all workers of a process.
#[derive(Clone, Debug)]
pub struct Owners {
    workers: u16,
    ports: PortId,
    secret: HashKey,
    /// By port, where it is known what its NIC does.
    nics: Arc<[Option<Rss>]>,
    /// The first port at which one end decides the queue: it then decides the owner as well.
    ends: Option<usize>,
    /// The first port at which both do, if there is none of the other kind.
    flows: Option<usize>,
}

impl Owners {
    /// Owners on NICs of which nothing is known.
    #[must_use]
    pub fn new(workers: u16, ports: PortId, secret: HashKey) -> Self {
        Self { workers, ports, secret, nics: Arc::new([]), ends: None, flows: None }
    }

    /// Tells what the NICs do, by port. One that leads to queues without a worker is as good as unknown.
    pub fn steer(&mut self, nics: Arc<[Option<Rss>]>) {
        let first = |flows: bool| {
            let fits = |nic: &Rss| nic.hashes_flows() == flows && nic.is_within(self.workers);
            nics.iter().position(|nic| nic.as_ref().is_some_and(fits))
        };
        self.ends = first(false);
        self.flows = if self.ends.is_none() { first(true) } else { None };
        self.nics = nics;
    }

    /// What is known of a port's NIC.
    #[inline]
    pub(crate) fn nic(&self, port: PortId) -> Option<&Rss> {
        self.nics.get(usize::from(port))?.as_ref()
    }

    /// The worker that decides about a flow, which was classified as `destination`.
    #[must_use]
    pub fn owner(&self, tables: &Tables, destination: &Destination<'_>, tuple: &Tuple) -> u16 {
        if self.workers == 1 {
            return 0;
        }
        match destination {
            Destination::Masquerade { owner } => *owner,
            Destination::Service(found) => self.of_frontend(tables, tuple, found.owned_by()),
            Destination::Direct => self.of_client(tables, tuple),
            Destination::VipPortUnknown { .. } | Destination::Unallocated => {
                let owned_by = former(tables, tuple).unwrap_or(OwnedBy::Client);
                self.of_frontend(tables, tuple, owned_by)
            }
            Destination::Local
            | Destination::Reply
            | Destination::Outbound
            | Destination::Transit => match former(tables, tuple) {
                Some(owned_by) => self.of_frontend(tables, tuple, owned_by),
                None => self.of_end(tuple.dst, tuple.dport, tuple.protocol),
            },
        }
    }

    /// The worker that keeps the fragments of a pair of addresses together.
    #[must_use]
    pub fn keeper(&self, src: Address, dst: Address, number: u8) -> u16 {
        let (src, dst) = (self.secret.address(src), self.secret.address(dst));
        self.worker(self.secret.pair(src, dst ^ u64::from(number)))
    }

    fn of_frontend(&self, tables: &Tables, tuple: &Tuple, owned_by: OwnedBy) -> u16 {
        match (owned_by, self.flows.and_then(|port| self.nics[port].as_ref())) {
            (OwnedBy::Flow, Some(nic)) => nic.queue(tuple),
            _ => self.of_client(tables, tuple),
        }
    }

    /// By the source of a flow. A client of this node may use a port of a masquerade block: its replies then look
    /// masqueraded.
    fn of_client(&self, tables: &Tables, tuple: &Tuple) -> u16 {
        let Tuple { src, sport, protocol, .. } = *tuple;
        let Tables { node, fib, .. } = tables;
        let block = node.masquerade_owner(fib, src, sport, self.ports, self.workers);
        block.unwrap_or_else(|| self.of_end(src, sport, protocol))
    }

    fn of_end(&self, address: Address, port: u16, protocol: Protocol) -> u16 {
        match self.ends.and_then(|port| self.nics[port].as_ref()) {
            Some(nic) => nic.queue_of_end(address, port, protocol),
            None => self.worker(self.secret.end(address, port, protocol)),
        }
    }

    fn worker(&self, hash: u64) -> u16 {
        let worker = reduce(high32(hash), usize::from(self.workers));
        u16::try_from(worker).unwrap_or_default()
    }
}

/// Whether connections may be left of a frontend that is gone, and what decides whose they are.
fn former(tables: &Tables, tuple: &Tuple) -> Option<OwnedBy> {
    let Tuple { dst, dport, protocol, .. } = *tuple;
    let Tables { services, node, .. } = tables;
    services.was_frontend(dst, dport, protocol).or_else(|| {
        let node_port = node.serves_node_ports(dst);
        if node_port { services.was_node_port(dst.is_v4(), dport, protocol) } else { None }
    })
}

//! The service table: which address and port is a Service's, and who may answer.
//!
//! Job: answer one lookup per new connection. Immutable once published; [`writer::ServiceWriter`] on the control
//! thread makes the next version by changing only what a Service's change touches.
//! Not known here: Kubernetes. Rows arrive ready-made as [`ServicePort`].

pub mod backends;
pub mod maglev;
mod retired;
pub mod shard_map;
pub mod tally;
pub mod writer;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::conntrack::key::Key;
use crate::flow::{Address, Protocol, Tuple};
use crate::hash::HashKey;
use crate::prefetch::prefetch_whole;
use crate::verdict::DropReason;
use backends::{BackendId, Backends};
use maglev::Maglev;
use shard_map::ShardMap;
use tally::Place;

/// One port of one Service in one address family, as control describes it (rules OBJ-1, OBJ-2, GWY-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// `namespace/name:port`; the port's name, or its number when it has none.
    pub name: Arc<str>,
    /// Transport protocol of every frontend and backend of this row.
    pub protocol: Protocol,
    /// Endpoints for Cluster policy (SEL-4), sorted, each once.
    pub cluster: Vec<SocketAddr>,
    /// Endpoints for clients to which internalTrafficPolicy Local applies (SEL-5), sorted, each once; `None` when the
    /// policy is Cluster.
    pub internal_local: Option<Vec<SocketAddr>>,
    /// The same for externalTrafficPolicy Local. On a node these are the same endpoints, on an edge gateway others.
    pub external_local: Option<Vec<SocketAddr>>,
    /// Endpoints that are in no list but still serve: UDP flows to them live on (CTK-3). Sorted, each once.
    pub serving: Vec<SocketAddr>,
    /// Whether the Service has a usable endpoint anywhere: decides reject against drop (SEL-7).
    pub has_endpoints: bool,
    /// Seconds from its last new connection for which a client keeps its backend (AFF-1); `None` without affinity.
    pub affinity: Option<u32>,
    /// Where clients reach this row.
    pub frontends: Vec<Frontend>,
}

impl ServicePort {
    /// The lists of its Local policies.
    pub fn locals(&self) -> impl Iterator<Item = &[SocketAddr]> {
        [&self.internal_local, &self.external_local].into_iter().flatten().map(Vec::as_slice)
    }
}

/// One address and port that leads to a [`ServicePort`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// Where it is.
    pub at: FrontendAt,
    /// Which policies apply.
    pub class: Class,
    /// Client ranges allowed (LSR-1); empty allows all.
    pub allowed_sources: Arc<[IpNet]>,
}

/// The destination a frontend matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrontendAt {
    /// Exactly this address and port.
    Address(SocketAddr),
    /// This port of every selected node address of the family (NPT-1).
    NodePort {
        /// Whether the family is IPv4.
        v4: bool,
        /// Node port number.
        port: u16,
    },
}

/// Source of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A cluster IP: internalTrafficPolicy applies.
    Cluster,
    /// An external IP, load-balancer address or node port: externalTrafficPolicy applies.
    External,
}

/// The immutable table workers read.
#[derive(Clone, Debug)]
pub struct ServiceTable {
    key: HashKey,
    frontends: ShardMap<End, Entry>,
    /// Frontends that are gone, see [`retired`].
    former: ShardMap<End, OwnedBy>,
    vips: ShardMap<Address, Vip>,
    /// How many rows have it; zero for one that is gone, see [`retired`].
    endpoints: ShardMap<End, u32>,
    backends: Backends,
}

/// An address, port and protocol; node ports stand under the family's unspecified address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct End {
    address: Address,
    port: u16,
    protocol: Protocol,
}

#[derive(Clone, Debug)]
struct Entry {
    class: Class,
    owned_by: OwnedBy,
    allowed_sources: Arc<[IpNet]>,
    row: Arc<Row>,
}

/// What decides which worker's the connections through a frontend are (see [`crate::owners`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnedBy {
    /// The client's end: it may be what replies come to.
    Client,
    /// The whole flow: all are masqueraded, and were so from the first.
    Flow,
}

/// An address some Service claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vip {
    /// Frontends at this address that are cluster IPs.
    pub cluster: u32,
    /// Frontends at this address that are external.
    pub external: u32,
}

/// A compiled [`ServicePort`]: what a new connection is decided with.
#[derive(Debug)]
pub struct Row {
    /// `namespace/name:port`.
    pub name: Arc<str>,
    /// Its number, which no other row has had, and where it is counted.
    pub place: Place,
    /// Cluster list.
    pub cluster: Arc<Choice>,
    /// See [`ServicePort::internal_local`].
    pub internal_local: Option<Arc<Choice>>,
    /// See [`ServicePort::external_local`].
    pub external_local: Option<Arc<Choice>>,
    /// See [`ServicePort::has_endpoints`].
    pub has_endpoints: bool,
    /// See [`ServicePort::affinity`].
    pub affinity: Option<u32>,
}

/// A list of backends with its lookup table.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Address and id, in the list's order.
    pub backends: Box<[(SocketAddr, BackendId)]>,
    maglev: Maglev,
}

impl Choice {
    /// The backend for a flow hash; `None` when the list is empty.
    #[must_use]
    pub fn pick(&self, hash: u64) -> Option<(SocketAddr, BackendId)> {
        self.backends.get(self.maglev.choose(hash)?).copied()
    }

    /// Asks for what [`Self::pick`] reads first.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.maglev.prefetch(hash);
    }

    /// Once that has come: asks for what is read then.
    #[inline]
    pub fn prefetch_backend(&self, hash: u64) {
        let index = self.maglev.choose(hash);
        if let Some(backend) = index.and_then(|index| self.backends.get(index)) {
            prefetch_whole(backend);
        }
    }

    /// The backend whose id has this index, if it is in the list. Looks through all of it: for affinity only.
    #[must_use]
    pub fn with_index(&self, index: usize) -> Option<(SocketAddr, BackendId)> {
        self.backends.iter().copied().find(|(_, id)| id.index() == index)
    }
}

/// What the source of a packet is to this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceClass {
    /// Inside clusterCIDR.
    pub pod: bool,
    /// One of this node's own addresses.
    pub node: bool,
    /// Whether a clusterCIDR of the family is configured; without one nobody is a pod (VER-4).
    pub detector: bool,
}

/// Answers what the source of a packet is, each question only when it matters.
pub trait Source {
    /// See [`SourceClass::pod`].
    fn is_pod(&self) -> bool;
    /// See [`SourceClass::node`].
    fn is_node(&self) -> bool;
    /// See [`SourceClass::detector`].
    fn has_detector(&self) -> bool;
}

impl Source for SourceClass {
    fn is_pod(&self) -> bool {
        self.pod
    }

    fn is_node(&self) -> bool {
        self.node
    }

    fn has_detector(&self) -> bool {
        self.detector
    }
}

/// What to do with the first packet of a connection to a frontend.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'a> {
    /// Send to one of these; masquerade if asked, or if the backend is the client itself (MSQ-2).
    Forward {
        /// The candidate list.
        choice: &'a Choice,
        /// Whether the client's address is replaced whatever the backend.
        masquerade: bool,
    },
    /// Answer with a refusal (REJ-1).
    Reject,
    /// Say nothing (REJ-2, REJ-3, LSR-3).
    Drop(DropReason),
}

/// A frontend that was found.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    entry: &'a Entry,
}

impl<'a> Match<'a> {
    /// The row behind it.
    #[must_use]
    #[inline]
    pub fn row(&self) -> &'a Row {
        &self.entry.row
    }

    /// Asks for the row.
    #[inline]
    pub fn prefetch_row(&self) {
        prefetch_whole(&*self.entry.row);
    }

    /// Once that has come: asks for the list that clients are most likely sent to.
    #[inline]
    pub fn prefetch_choice(&self) {
        let Entry { class, row, .. } = self.entry;
        let local = match class {
            Class::Cluster => &row.internal_local,
            Class::External => &row.external_local,
        };
        prefetch_whole(&**local.as_ref().unwrap_or(&row.cluster));
    }

    /// Which policies apply.
    #[must_use]
    pub fn class(&self) -> Class {
        self.entry.class
    }

    /// What decides whose its connections are.
    #[must_use]
    pub fn owned_by(&self) -> OwnedBy {
        self.entry.owned_by
    }

    /// Client ranges allowed; empty allows all.
    #[must_use]
    pub fn allowed_sources(&self) -> &'a [IpNet] {
        &self.entry.allowed_sources
    }

    /// The list of the Local policy that applies to this client; `None` when all endpoints may be chosen.
    #[must_use]
    pub fn local(&self, source: &impl Source) -> Option<&'a Choice> {
        match self.entry.class {
            Class::Cluster => self.row().internal_local.as_deref(),
            Class::External => {
                let local = self.row().external_local.as_deref()?;
                // Short circuit (VER-2, VER-3): as if the packet had left to the balancer and come back.
                (!source.is_pod() && !source.is_node()).then_some(local)
            }
        }
    }

    /// What upstream decides by destination, policy and source (VER), in its order: source ranges (LSR), no endpoints
    /// (REJ-1), the policy's list, an empty list (REJ-2, REJ-3).
    #[must_use]
    #[inline]
    pub fn decide(
        &self,
        client: IpAddr,
        source: &impl Source,
        masquerade_all: bool,
    ) -> Decision<'a> {
        let Entry { class, allowed_sources, row, .. } = self.entry;
        if !allowed_sources.is_empty() && !allowed_sources.iter().any(|net| net.contains(&client)) {
            return Decision::Drop(DropReason::SourceNotAllowed);
        }
        if !row.has_endpoints {
            return Decision::Reject;
        }
        let local = self.local(source);
        let choice = local.unwrap_or(&row.cluster);
        if choice.backends.is_empty() {
            return Decision::Drop(match class {
                Class::Cluster => DropReason::NoLocalEndpointInternal,
                Class::External => DropReason::NoLocalEndpointExternal,
            });
        }
        let masquerade = match class {
            Class::Cluster => masquerade_all || (source.has_detector() && !source.is_pod()),
            // Of those that come in short circuit the node is hidden, pods are not.
            Class::External => {
                row.external_local.is_none() || (local.is_none() && !source.is_pod())
            }
        };
        Decision::Forward { choice, masquerade }
    }
}

impl ServiceTable {
    /// An empty table; `key` is the fleet's key for choosing backends.
    #[must_use]
    pub fn new(key: HashKey) -> Self {
        Self {
            key,
            frontends: ShardMap::default(),
            former: ShardMap::default(),
            vips: ShardMap::default(),
            endpoints: ShardMap::default(),
            backends: Backends::default(),
        }
    }

    /// The frontend at exactly this address and port.
    #[must_use]
    pub fn find(&self, address: Address, port: u16, protocol: Protocol) -> Option<Match<'_>> {
        let end = End { address, port, protocol };
        self.frontends.get(self.hash(&end), &end).map(|entry| Match { entry })
    }

    /// The hash of the address and port that a flow goes to.
    #[must_use]
    #[inline]
    pub fn end_hash(&self, flow: &Tuple) -> u64 {
        self.hash(&destination(flow))
    }

    /// The frontend at exactly the address and port that a flow goes to, by their [`Self::end_hash`].
    #[must_use]
    #[inline]
    pub fn find_hashed(&self, flow: &Tuple, hash: u64) -> Option<Match<'_>> {
        self.frontends.get(hash, &destination(flow)).map(|entry| Match { entry })
    }

    /// The node port of this number. The caller has checked that the address is a selected node address (NPT-2).
    #[must_use]
    pub fn find_node_port(&self, v4: bool, port: u16, protocol: Protocol) -> Option<Match<'_>> {
        self.find(unspecified(v4), port, protocol)
    }

    /// Whether there was a frontend at exactly this address and port lately, and what decided whose its connections are.
    #[must_use]
    pub fn was_frontend(&self, address: Address, port: u16, protocol: Protocol) -> Option<OwnedBy> {
        // Asked for every packet in transit, and mostly there is none.
        if self.former.is_empty() {
            return None;
        }
        let end = End { address, port, protocol };
        self.former.get(self.hash(&end), &end).copied()
    }

    /// The same of a node port of this number.
    #[must_use]
    pub fn was_node_port(&self, v4: bool, port: u16, protocol: Protocol) -> Option<OwnedBy> {
        self.was_frontend(unspecified(v4), port, protocol)
    }

    /// The claim on an address, if any Service has one.
    #[must_use]
    pub fn vip(&self, address: Address) -> Option<Vip> {
        self.vips.get(self.key.address(address), &address).copied()
    }

    /// Every address some Service claims, in no particular order.
    pub fn vips(&self) -> impl Iterator<Item = (IpAddr, Vip)> {
        self.vips.iter().map(|(address, vip)| (address.ip(), *vip))
    }

    /// Whether some Service sends traffic to exactly this address and port, or did so lately.
    #[must_use]
    pub fn is_endpoint(&self, address: Address, port: u16, protocol: Protocol) -> bool {
        let end = End { address, port, protocol };
        self.endpoints.get(self.hash(&end), &end).is_some()
    }

    /// The addresses of all endpoints, each once per port and protocol, in no particular order.
    pub fn endpoints(&self) -> impl Iterator<Item = (SocketAddr, Protocol)> {
        self.endpoints
            .iter()
            .filter(|&(_, rows)| *rows > 0)
            .map(|(end, _)| (SocketAddr::new(end.address.ip(), end.port), end.protocol))
    }

    /// Whether a backend remembered by a connection still serves its Service.
    #[must_use]
    #[inline]
    pub fn serves(&self, backend: BackendId) -> bool {
        self.backends.lives(backend)
    }

    /// The fleet-wide hash of a client's flow, for choosing a backend.
    #[must_use]
    pub fn flow_hash(&self, tuple: &Tuple) -> u64 {
        self.key.tuple(tuple)
    }

    /// The same, of a flow as it stands in headers.
    #[must_use]
    #[inline]
    pub fn key_hash(&self, key: &impl Key) -> u64 {
        key.hash(&self.key)
    }

    fn hash(&self, end: &End) -> u64 {
        self.key.end(end.address, end.port, end.protocol)
    }
}

fn destination(flow: &Tuple) -> End {
    End { address: flow.dst, port: flow.dport, protocol: flow.protocol }
}

fn unspecified(v4: bool) -> Address {
    if v4 { Address::v4([0; 4]) } else { Address::v6([0; 16]) }
}

//! What happens to one packet. The story, top to bottom: [`Engine::prepare`] parses and hashes, [`Engine::decide`] finds
//! the connection or opens one, the packet is rewritten in place, and the [`Verdict`] says where it goes.
//!
//! Three cases, as three functions: [`Engine::tracked`] (the connection is known), [`Engine::untracked`] (it is not:
//! classify, find the owner), [`Engine::open`] (the first packet to a Service). What they need is beside them: `connect`
//! finds a free translation, `forward` routes and rewrites, `answers` is what the gateway says in its own name.
//! Not known here: queues, rings, counters. Tables and time are arguments.

mod answers;
mod connect;
mod elsewhere;
mod express;
mod family;
mod forward;
mod masquerade;
mod newcomers;
mod strays;

use std::net::SocketAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::affinity::{Affinity, Visit};
use crate::answer;
use crate::classify::{self, Destination};
use crate::clock::{Moment, RateLimit};
use crate::conntrack::state::State;
use crate::conntrack::{Conntrack, ConntrackConfig, Hit, InsertError, Memory};
use crate::fib::{Hop, PortId, Route};
use crate::flow::{Address, Protocol, Tuple};
use crate::fragments::Fragments;
use crate::hash::{HashKey, low32, reduce};
use crate::nic::{BURST, Frame};
use crate::owners::Owners;
use crate::rss::Rss;
use crate::service::backends::BackendId;
use crate::service::tally::{Count, Place, Tallies};
use crate::service::{Choice, Decision, Match, Row};
use crate::tables::Tables;
use crate::verdict::{DropReason, Verdict};
use crate::wire::tcp_flags::{ACK, RST, SYN};
use crate::wire::{self, Fragment, Headers, Kind, Parsed, ethernet, sctp_chunks, word};
use answers::{advertise, announces, answered, arp};
use elsewhere::Elsewhere;
pub use express::{Prepared, Stop};
use forward::lacks_checksum;
use newcomers::Foreseen;
pub use newcomers::Prospect;
use strays::Strays;

/// What all workers of a process agree on, and what is one's own.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// This worker.
    pub worker: u16,
    /// All workers.
    pub workers: u16,
    /// Number of ports.
    pub ports: PortId,
    /// Secret; the same for all workers, because it decides ownership.
    pub secret: HashKey,
    /// What all workers know of clients with affinity.
    pub affinity: Arc<Affinity>,
    /// What it counts for the rows of Services.
    pub tallies: Arc<Tallies>,
    /// The connection table.
    pub conntrack: ConntrackConfig,
    /// Packets in fragments remembered at a time.
    pub fragmented_packets: usize,
    /// Refusals (resets, port unreachable) a second.
    pub rejects_per_second: u64,
    /// Other ICMP errors a second.
    pub icmp_errors_per_second: u64,
}

/// The state of one worker's decisions.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    /// The connections this worker owns.
    pub conntrack: Conntrack,
    fragments: Fragments,
    /// The packet whose first fragment came last, until somebody asks for it.
    begun: Option<u64>,
    rejects: RateLimit,
    icmp_errors: RateLimit,
    /// Hashes of the frontends that the newcomers of the burst at hand are sent to, and what was found out about each
    /// newcomer; never more than a burst.
    announced: Vec<u64>,
    foreseen: Vec<Foreseen>,
    elsewhere: Elsewhere,
    strays: Strays,
    owners: Owners,
    /// UDP flows that were moved away from a backend that no longer serves.
    pub reclassified: u64,
    /// Connections of clients whose address was kept, on which nothing came back through here.
    pub one_way: u64,
}

/// How a frame came to this worker.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The port it came in by (or, from the kernel, is meant to leave by).
    pub port: PortId,
    /// From whom.
    pub origin: Origin,
    /// For fragments that their keeper has passed on: the ports of the whole packet, as they stand in it. As bytes, since
    /// that makes of a frame on its way to its owner a quarter of a cache line.
    pub fragment_ports: Option<[u8; 4]>,
}

/// Who gave a frame to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A receive queue.
    Wire,
    /// The kernel, through a twin.
    Kernel,
}

/// What to edit when a packet is sent on.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Nothing,
    Packet { from: Tuple, to: Tuple },
    Quoted { answer: Tuple, to: Tuple, quoted_l3: usize, quoted_l4: usize },
}

/// Everything about the packet at hand that does not change while it is decided.
struct Packet<'a> {
    headers: &'a Headers,
    tables: &'a Tables,
    now: Moment,
}

impl Engine {
    /// An engine with an empty connection table; `None` when the memory does not fit the configuration.
    #[must_use]
    pub fn new(config: EngineConfig, memory: Memory) -> Option<Self> {
        let ConntrackConfig { connections_v4, connections_v6, .. } = config.conntrack;
        let foreign = if config.workers > 1 { connections_v4 + connections_v6 } else { 0 };
        Some(Self {
            conntrack: Conntrack::new(&config.conntrack, config.secret, memory)?,
            fragments: Fragments::new(config.fragmented_packets, config.secret),
            begun: None,
            rejects: RateLimit::new(config.rejects_per_second),
            icmp_errors: RateLimit::new(config.icmp_errors_per_second),
            announced: Vec::with_capacity(BURST),
            foreseen: Vec::with_capacity(BURST),
            elsewhere: Elsewhere::new(foreign),
            strays: Strays::new(),
            owners: Owners::new(config.workers, config.ports, config.secret),
            reclassified: 0,
            one_way: 0,
            config,
        })
    }

    /// Sets the time of the packets that follow.
    #[inline]
    pub fn begin_burst(&mut self, now: Moment) {
        self.conntrack.begin_burst(now);
    }

    /// The packet whose first fragment came since this was asked last: those that were held for it may follow.
    #[inline]
    pub fn begun(&mut self) -> Option<u64> {
        self.begun.take()
    }

    /// Decides a frame, and rewrites it for where it goes.
    #[inline]
    pub fn decide(
        &mut self,
        frame: &mut impl Frame,
        arrival: &mut Arrival,
        tables: &Tables,
        now: Moment,
    ) -> Verdict {
        if !frame.is_contiguous() {
            return Verdict::Drop(DropReason::NotContiguous);
        }
        let parsed = match wire::parse(frame.bytes()) {
            Ok(parsed) => parsed,
            // The kernel may speak protocols that the engine does not.
            Err(_) if arrival.origin == Origin::Kernel => return Verdict::Forward(arrival.port),
            Err(reason) => return Verdict::Drop(reason),
        };
        let group = match arrival.origin {
            Origin::Wire => {
                let destination = ethernet::destination(frame.bytes());
                let group = ethernet::is_group(destination);
                if !group && destination != tables.fib.port(arrival.port).mac {
                    return Verdict::Drop(DropReason::NotOurMac);
                }
                group
            }
            Origin::Kernel => false,
        };
        let headers = match parsed {
            Parsed::Arp { at } => return arp(frame, arrival, at, tables),
            Parsed::Ip(headers) => headers,
        };
        if let Kind::NeighborSolicitation { target } = headers.kind
            && arrival.origin == Origin::Wire
            && announces(tables, arrival.port, target)
        {
            return advertise(frame, arrival, &headers, target, tables);
        }
        if group || is_group(headers.dst) {
            return to_kernel(arrival);
        }
        let packet = Packet { headers: &headers, tables, now };
        let tuple = match headers.fragment {
            Fragment::Whole => headers.tuple(),
            _ => match self.fragment_flow(&packet, arrival) {
                Ok(tuple) => tuple,
                Err(verdict) => return verdict,
            },
        };
        let Some(tuple) = tuple else { return self.portless(frame, arrival, &packet) };
        let hash = self.conntrack.hash(&tuple);
        match self.conntrack.find(&tuple, hash, now) {
            Some(hit) => self.tracked(frame, arrival, &packet, &tuple, hit),
            None => self.untracked(frame, arrival, &packet, &tuple),
        }
    }

    /// The connection is known: keep its state, translate, send on.
    #[inline]
    fn tracked(
        &mut self,
        frame: &mut impl Frame,
        arrival: &Arrival,
        packet: &Packet<'_>,
        tuple: &Tuple,
        mut hit: Hit,
    ) -> Verdict {
        let edit = match packet.headers.kind {
            Kind::IcmpError { quoted_l3, quoted_l4, .. } => {
                // Sent to anybody but the sender of what it quotes, it is made up.
                if packet.headers.dst != tuple.dst {
                    return Verdict::Drop(DropReason::NoConnection);
                }
                // An error neither refreshes nor ends a connection (I6).
                Edit::Quoted { answer: *tuple, to: hit.to, quoted_l3, quoted_l4 }
            }
            Kind::Tcp { flags, .. } => {
                if !hit.reply && flags & (SYN | ACK | RST) == SYN && hit.state.reopens() {
                    self.conntrack.remove(&hit);
                    return self.untracked(frame, arrival, packet, tuple);
                }
                let next = hit.state.after_tcp(hit.reply, flags);
                self.pass(&mut hit, next, packet, tuple);
                Edit::Packet { from: *tuple, to: hit.to }
            }
            Kind::Sctp { chunk, .. } => {
                if !hit.reply && chunk == sctp_chunks::INIT && hit.state.reopens() {
                    self.conntrack.remove(&hit);
                    return self.untracked(frame, arrival, packet, tuple);
                }
                let next = hit.state.after_sctp(hit.reply, chunk);
                self.pass(&mut hit, next, packet, tuple);
                Edit::Packet { from: *tuple, to: hit.to }
            }
            _ => {
                let gone =
                    hit.backend != BackendId::NONE && !packet.tables.services.serves(hit.backend);
                if gone && !hit.reply && tuple.protocol == Protocol::Udp {
                    self.conntrack.remove(&hit);
                    self.strays.add(self.conntrack.hash(&hit.to.reversed()), packet.now);
                    self.reclassified += 1;
                    return self.untracked(frame, arrival, packet, tuple);
                }
                let replied = hit.reply && hit.state == State::Unreplied;
                let next = if replied { State::UdpReplied } else { hit.state };
                self.pass(&mut hit, next, packet, tuple);
                Edit::Packet { from: *tuple, to: hit.to }
            }
        };
        // A client's connection past the Service is known, but not touched.
        let direct = hit.backend == BackendId::NONE && hit.to == *tuple;
        self.forward(frame, arrival, packet, if direct { Edit::Nothing } else { edit })
    }

    #[inline]
    fn pass(&mut self, hit: &mut Hit, next: State, packet: &Packet<'_>, tuple: &Tuple) {
        if next == hit.state {
            self.conntrack.touch(hit, packet.now);
        } else {
            self.conntrack.advance(hit, next, packet.now);
            if next == State::OneWay {
                self.note_one_way(hit, packet.tables, tuple);
            }
        }
    }

    /// A connection turned out to be one-way. What a masqueraded client is answered comes here or not at all, which is
    /// another matter.
    #[cold]
    fn note_one_way(&mut self, hit: &Hit, tables: &Tables, tuple: &Tuple) {
        if hit.backend == BackendId::NONE || hit.to.src != tuple.src {
            return;
        }
        self.one_way += 1;
        let EngineConfig { ports, workers, tallies, .. } = &self.config;
        if let Destination::Service(found) =
            classify::destination(tables, tuple, true, *ports, *workers)
        {
            tallies.add(found.row().place, Count::OneWay);
        }
    }

    /// No connection here: say whose business it is, and do it if it is ours.
    #[cold]
    fn untracked(
        &mut self,
        frame: &mut impl Frame,
        arrival: &Arrival,
        packet: &Packet<'_>,
        tuple: &Tuple,
    ) -> Verdict {
        let opens = match packet.headers.kind {
            Kind::Tcp { flags, .. } => flags & (SYN | ACK) == SYN,
            Kind::Sctp { chunk, .. } => chunk == sctp_chunks::INIT,
            _ => false,
        };
        let EngineConfig { ports, workers, worker, .. } = self.config;
        let destination = classify::destination(packet.tables, tuple, opens, ports, workers);
        let owner = self.owners.owner(packet.tables, &destination, tuple);
        if owner != worker {
            return Verdict::HandOver(owner);
        }
        if let Kind::IcmpError { .. } = packet.headers.kind {
            // About no connection of ours: whose it is, its own destination says.
            return self.portless(frame, arrival, packet);
        }
        match destination {
            Destination::Service(found) => self.open(frame, arrival, packet, tuple, &found),
            Destination::VipPortUnknown { cluster } => {
                if packet.tables.node.rejects_unknown_port(cluster) {
                    self.reject(frame, arrival, packet)
                } else {
                    Verdict::Drop(DropReason::VipPortUnknown)
                }
            }
            Destination::Unallocated => Verdict::Drop(DropReason::ServiceAddressUnallocated),
            // An endpoint in the node's own network may be asked past its Services without our knowledge.
            Destination::Reply if arrival.origin == Origin::Kernel => to_kernel(arrival),
            // A question of the backend's own, most likely. A datagram to nobody it talked to through a Service lately
            // is let go as it is, and does not make a connection: whoever answers makes one.
            Destination::Reply
                if tuple.protocol == Protocol::Udp
                    && !self.strays.contain(self.conntrack.hash(tuple), packet.now) =>
            {
                self.forward(frame, arrival, packet, Edit::Nothing)
            }
            Destination::Masquerade { .. } | Destination::Reply => {
                Verdict::Drop(DropReason::NoConnection)
            }
            Destination::Local => to_kernel(arrival),
            Destination::Direct | Destination::Outbound => {
                self.open_direct(frame, arrival, packet, tuple)
            }
            Destination::Transit => self.forward(frame, arrival, packet, Edit::Nothing),
        }
    }

    /// The first packet of a connection to a Service, or one whose connection was forgotten (CTK-11): the fleet-wide
    /// choice then finds the same backend again.
    fn open(
        &mut self,
        frame: &mut impl Frame,
        arrival: &Arrival,
        packet: &Packet<'_>,
        tuple: &Tuple,
        found: &Match<'_>,
    ) -> Verdict {
        let Some(state) = opening(packet.headers.kind) else {
            let segment = matches!(packet.headers.kind, Kind::Tcp { .. } | Kind::Sctp { .. });
            let reason =
                if segment { DropReason::NoConnection } else { DropReason::FragmentUnknown };
            return Verdict::Drop(reason);
        };
        let Tables { services, node, .. } = packet.tables;
        let client = tuple.src.ip();
        let decision = found.decide(client, &node.source(tuple.src), node.masquerade_all);
        let (place, tallies) = (found.row().place, &self.config.tallies);
        let (choice, masquerade) = match decision {
            Decision::Forward { choice, masquerade } => (choice, masquerade),
            Decision::Reject => {
                tallies.add(place, Count::NoEndpoints);
                return self.reject(frame, arrival, packet);
            }
            Decision::Drop(reason) => {
                if let Some(count) = Count::of(reason) {
                    tallies.add(place, count);
                }
                return Verdict::Drop(reason);
            }
        };
        let Some((backend, id)) =
            self.pick(found.row(), choice, tuple, services.flow_hash(tuple), packet.now)
        else {
            return self.reject(frame, arrival, packet);
        };
        if lacks_checksum(frame.bytes(), packet.headers) {
            return Verdict::Drop(DropReason::ZeroUdpChecksum);
        }
        let to = Tuple { dst: backend.ip().into(), dport: backend.port(), ..*tuple };
        // A backend that calls its own Service must not see itself as the client (MSQ-2).
        let hairpin = to.dst == tuple.src;
        // A backend on this very host answers by way of the twin anyhow (MSQ-9), and the kernel would take a packet
        // from one of its own addresses for a forgery.
        let here =
            arrival.origin == Origin::Wire && packet.tables.fib.route(to.dst) == Route::Local;
        let masquerade = (masquerade || hairpin) && !here;
        match self.connect(arrival, packet, tuple, &to, masquerade, state, id) {
            Ok(hit) => {
                self.config.tallies.add(place, Count::Connections);
                self.forward(frame, arrival, packet, Edit::Packet { from: *tuple, to: hit.to })
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// The backend of a new connection: the fleet's choice, or what the client had before (AFF-3, AFF-4).
    #[inline]
    fn pick(
        &self,
        row: &Row,
        choice: &Choice,
        tuple: &Tuple,
        flow_hash: u64,
        now: Moment,
    ) -> Option<(SocketAddr, BackendId)> {
        let fresh = choice.pick(flow_hash)?;
        let Some(timeout) = row.affinity else { return Some(fresh) };
        let visit = Visit { client: tuple.src, row: row.place.row, timeout, now };
        Some(self.config.affinity.choose(&visit, fresh, |index| choice.with_index(index)))
    }

    /// A client that talks to a backend past the Service, or a backend that is somebody's client itself: replies must be
    /// known, and told from those of connections through the Service (CTK-12). Nothing is translated unless they clash.
    fn open_direct(
        &mut self,
        frame: &mut impl Frame,
        arrival: &Arrival,
        packet: &Packet<'_>,
        tuple: &Tuple,
    ) -> Verdict {
        let routed = packet.tables.fib.route(tuple.dst) != Route::Nowhere;
        let Some(state) = opening(packet.headers.kind).filter(|_| routed) else {
            return self.forward(frame, arrival, packet, Edit::Nothing);
        };
        match self.connect(arrival, packet, tuple, tuple, false, state, BackendId::NONE) {
            Ok(hit) if hit.to != *tuple => {
                self.forward(frame, arrival, packet, Edit::Packet { from: *tuple, to: hit.to })
            }
            // Without room the packet still goes; its replies then count as strays.
            Ok(_) | Err(DropReason::ConntrackFull) => {
                self.forward(frame, arrival, packet, Edit::Nothing)
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// The flow of a fragment. The worker that keeps a pair's fragments sees them all first.
    fn fragment_flow(
        &mut self,
        packet: &Packet<'_>,
        arrival: &mut Arrival,
    ) -> Result<Option<Tuple>, Verdict> {
        let headers = packet.headers;
        let protocol = match headers.number {
            wire::TCP => Protocol::Tcp,
            wire::UDP => Protocol::Udp,
            wire::SCTP => Protocol::Sctp,
            _ => return Ok(None),
        };
        if arrival.fragment_ports.is_none() {
            let keeper = self.owners.keeper(headers.src, headers.dst, headers.number);
            if keeper != self.config.worker {
                return Err(Verdict::HandOver(keeper));
            }
            arrival.fragment_ports = match (headers.fragment, headers.tuple()) {
                (Fragment::First(id), Some(tuple)) => {
                    self.fragments.remember(headers, id, tuple.ports(), packet.now);
                    self.begun = Some(self.fragments.name(headers, id));
                    Some(tuple.ports())
                }
                (Fragment::Later(id), _) => {
                    let ports = self.fragments.ports(headers, id, packet.now);
                    let name = || Verdict::Hold(self.fragments.name(headers, id));
                    Some(ports.ok_or_else(name)?)
                }
                _ => None,
            }
            .map(u32::to_be_bytes);
        }
        // Without ports there is no flow.
        let Some([a, b, c, d]) = arrival.fragment_ports else { return Ok(None) };
        let (sport, dport) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Ok(Some(Tuple { src: headers.src, dst: headers.dst, sport, dport, protocol }))
    }

    /// A packet without ports (or an error about nothing of ours): its address alone decides.
    #[cold]
    fn portless(
        &mut self,
        frame: &mut impl Frame,
        arrival: &Arrival,
        packet: &Packet<'_>,
    ) -> Verdict {
        let headers = packet.headers;
        let vip = packet.tables.services.vip(headers.dst).is_some();
        match (classify::address_only(packet.tables, headers.dst), headers.kind) {
            (None, _) => self.forward(frame, arrival, packet, Edit::Nothing),
            (Some(Destination::Local), _) => to_kernel(arrival),
            (_, Kind::EchoRequest) if vip => {
                let mac = packet.tables.fib.port(arrival.port).mac;
                answer::echo_reply(frame.bytes_mut(), headers, mac);
                answered(true, arrival)
            }
            (_, Kind::IcmpError { .. }) => Verdict::Drop(DropReason::NoConnection),
            (Some(Destination::Unallocated), _) => {
                Verdict::Drop(DropReason::ServiceAddressUnallocated)
            }
            _ => Verdict::Drop(DropReason::UnsupportedProtocol),
        }
    }
}

/// The state a connection begins in, by the first packet seen; `None` for one that begins nothing.
fn opening(kind: Kind) -> Option<State> {
    match kind {
        Kind::Udp { .. } => Some(State::Unreplied),
        Kind::Tcp { flags, .. } => opening_segment(flags),
        Kind::Sctp { chunk, .. } => opening_chunk(chunk),
        _ => None,
    }
}

fn opening_segment(flags: u8) -> Option<State> {
    match flags & (SYN | ACK | RST) {
        SYN => Some(State::SynSent),
        ACK => Some(State::PickedUp),
        // Resets, answers and segments without ACK belong to no connection that could go on.
        _ => None,
    }
}

fn opening_chunk(chunk: u8) -> Option<State> {
    use sctp_chunks::{
        ABORT, COOKIE_ACK, ERROR, INIT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK, SHUTDOWN_COMPLETE,
    };
    match chunk {
        INIT => Some(State::SynSent),
        // Answers and ends belong to no association that could go on.
        INIT_ACK | COOKIE_ACK | ABORT | ERROR | SHUTDOWN | SHUTDOWN_ACK | SHUTDOWN_COMPLETE => None,
        _ => Some(State::PickedUp),
    }
}

fn is_group(address: Address) -> bool {
    if address.is_v4() { address.low32() >> 28 >= 14 } else { address.0 >> 120 == 0xff }
}

fn to_kernel(arrival: &Arrival) -> Verdict {
    match arrival.origin {
        Origin::Wire => Verdict::Punt,
        Origin::Kernel => Verdict::Forward(arrival.port),
    }
}

//! Ordinary packets of unknown flows. Whose each is, is found out as it comes: [`Engine::announce`]. Those to Services wait
//! until the burst is through, since to find out where one goes means to wait for memory again and again: each place
//! names the next, the row, the list of backends, the backend, the connection's places in the table. So all take one
//! step, which asks for what the next step reads, before any takes the next: [`Engine::foresee`]. Then connections are
//! added and packets sent, one after another as they came: [`Engine::welcome`].
//!
//! Invariant: like the express way, it does byte for byte what [`Engine::decide`] would do, or nothing.

use super::express::{Prepared, Sought};
use super::family::Family;
use super::*;
use crate::conntrack::Opening;
use crate::conntrack::key::{Key, KeyV4, KeyV6};
use crate::rewrite;

/// What an ordinary packet of an unknown flow is about to do.
#[derive(Clone, Copy, Debug)]
pub enum Prospect {
    /// It is to a Service, and the next of those to be given to [`Engine::foresee`] and [`Engine::welcome`].
    Waits,
    /// It is nobody's connection here, and done with.
    Done(Verdict),
    /// Anything else, as it came: see [`Engine::decide`].
    Refer,
}

/// What will be done with a newcomer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Foreseen {
    /// It opens a connection, over IPv4,
    V4(Way<KeyV4>),
    /// or over IPv6.
    V6(Way<KeyV6>),
    /// Anything else: see [`Engine::decide`].
    Refer,
}

/// A connection that the burst at hand opens, and the way of its first packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<K> {
    opening: Opening<K>,
    hop: Hop,
    /// The largest segment that a SYN may announce.
    mss: Option<u16>,
    /// Where it is counted.
    place: Place,
}

/// Who may answer the first packet of a connection.
struct Candidates<'t> {
    choice: &'t Choice,
    /// What the choice depends on.
    flow_hash: u64,
    masquerade: bool,
    state: State,
    place: Place,
}

impl Engine {
    /// Finds out whose an ordinary packet of an unknown flow is, and is done with it unless it is to a Service.
    pub fn announce(
        &mut self,
        frame: &mut impl Frame,
        prepared: &Prepared,
        arrival: &Arrival,
        tables: &Tables,
    ) -> Prospect {
        match prepared {
            Prepared::V4(sought) => self.announce_one(frame, sought, arrival, tables),
            Prepared::V6(sought) => self.announce_one(frame, sought, arrival, tables),
            Prepared::Other => Prospect::Refer,
        }
    }

    #[inline]
    fn announce_one<K: Family>(
        &mut self,
        frame: &mut impl Frame,
        sought: &Sought<K>,
        arrival: &Arrival,
        tables: &Tables,
    ) -> Prospect {
        let Sought { lookup, flags, .. } = sought;
        let tuple = lookup.key.tuple();
        if wire::is_martian(K::V4, tuple.src, tuple.dst) || is_group(tuple.dst) {
            return Prospect::Refer;
        }
        let EngineConfig { ports, workers, worker, .. } = self.config;
        let opens = flags & (SYN | ACK) == SYN;
        let end = tables.services.end_hash(&tuple);
        let destination = match tables.services.find_hashed(&tuple, end) {
            Some(found) => Destination::Service(found),
            None => classify::beside_frontends(tables, &tuple, opens, ports, workers),
        };
        if workers > 1 {
            let owner = self.owners.owner(tables, &destination, &tuple);
            if owner != worker {
                self.remember_elsewhere(lookup.hash, *flags, owner);
                return Prospect::Done(Verdict::HandOver(owner));
            }
        }
        match destination {
            Destination::Service(found) => {
                found.prefetch_row();
                self.announced.push(end);
                Prospect::Waits
            }
            // Whether a SYN announces too large segments is looked at on the whole way.
            Destination::Transit if flags & SYN == 0 || !tables.fib.clamps_mss() => {
                let sent = transit(frame, sought, tables).map(Verdict::Forward);
                sent.map_or(Prospect::Refer, Prospect::Done)
            }
            Destination::VipPortUnknown { cluster }
                if !tables.node.rejects_unknown_port(cluster) =>
            {
                Prospect::Done(Verdict::Drop(DropReason::VipPortUnknown))
            }
            Destination::Unallocated => {
                Prospect::Done(Verdict::Drop(DropReason::ServiceAddressUnallocated))
            }
            // What comes from a backend over UDP may be no reply.
            Destination::Masquerade { .. } | Destination::Reply
                if arrival.origin == Origin::Wire && tuple.protocol != Protocol::Udp =>
            {
                Prospect::Done(Verdict::Drop(DropReason::NoConnection))
            }
            _ => Prospect::Refer,
        }
    }

    /// Finds out where the packets that wait go, in the order in which they were announced.
    pub fn foresee<'a>(
        &mut self,
        newcomers: impl Iterator<Item = (&'a Prepared, &'a Arrival)> + Clone,
        tables: &Tables,
    ) {
        let mut found: ArrayVec<Option<Match<'_>>, BURST> = ArrayVec::new();
        for ((prepared, _), &end) in newcomers.clone().zip(&self.announced) {
            found.push(match prepared {
                Prepared::V4(sought) => self.frontend(&sought.lookup.key, end, tables),
                Prepared::V6(sought) => self.frontend(&sought.lookup.key, end, tables),
                Prepared::Other => None,
            });
        }
        self.announced.clear();
        found.iter().flatten().for_each(Match::prefetch_choice);
        let mut candidates: ArrayVec<Option<Candidates<'_>>, BURST> = ArrayVec::new();
        for ((prepared, _), found) in newcomers.clone().zip(&found) {
            candidates.push(match (prepared, found) {
                (Prepared::V4(sought), Some(found)) => self.candidates(sought, found, tables),
                (Prepared::V6(sought), Some(found)) => self.candidates(sought, found, tables),
                _ => None,
            });
        }
        for Candidates { choice, flow_hash, .. } in candidates.iter().flatten() {
            choice.prefetch_backend(*flow_hash);
        }
        self.foreseen.clear();
        for ((prepared, arrival), candidates) in newcomers.zip(&candidates) {
            let way = match (prepared, candidates) {
                (Prepared::V4(sought), Some(candidates)) => {
                    self.find_way(sought, candidates, arrival, tables)
                }
                (Prepared::V6(sought), Some(candidates)) => {
                    self.find_way(sought, candidates, arrival, tables)
                }
                _ => None,
            };
            if way.is_none() {
                self.foreseen.push(Foreseen::Refer);
            }
        }
    }

    /// The frontend of a packet that was announced: most have an address of their own, the others are node ports.
    #[inline]
    fn frontend<'t>(&self, key: &impl Key, end: u64, tables: &'t Tables) -> Option<Match<'t>> {
        let tuple = key.tuple();
        tables.services.find_hashed(&tuple, end).or_else(|| {
            let node_port = tables.node.serves_node_ports(tuple.dst);
            let v4 = tuple.dst.is_v4();
            let found = tables.services.find_node_port(v4, tuple.dport, tuple.protocol);
            found.filter(|_| node_port)
        })
    }

    /// Who may answer a packet to a Service, if it opens a connection in the usual way.
    #[inline]
    fn candidates<'t, K: Family>(
        &self,
        sought: &Sought<K>,
        found: &Match<'t>,
        tables: &Tables,
    ) -> Option<Candidates<'t>> {
        let Sought { lookup, flags, .. } = sought;
        let tuple = lookup.key.tuple();
        let state = match tuple.protocol {
            Protocol::Tcp => opening_segment(*flags)?,
            _ => State::Unreplied,
        };
        // What its client was given before counts more than the flow.
        if found.row().affinity.is_some() {
            return None;
        }
        let Tables { services, node, .. } = tables;
        let (client, source) = (tuple.src.ip(), node.source(tuple.src));
        let decision = found.decide(client, &source, node.masquerade_all);
        let Decision::Forward { choice, masquerade } = decision else { return None };
        let flow_hash = services.key_hash(&lookup.key);
        choice.prefetch(flow_hash);
        let place = found.row().place;
        self.config.tallies.prefetch(place);
        Some(Candidates { choice, flow_hash, masquerade, state, place })
    }

    /// Notes the connection that a packet opens, and its way to the backend.
    // Noted here, not returned: copying a value just written field by field stalls the copy.
    #[inline]
    fn find_way<K: Family>(
        &mut self,
        sought: &Sought<K>,
        candidates: &Candidates<'_>,
        arrival: &Arrival,
        tables: &Tables,
    ) -> Option<()> {
        let Candidates { choice, flow_hash, masquerade, state, place } = *candidates;
        let Sought { lookup, ip_len, flags } = sought;
        let (backend, id) = choice.pick(flow_hash)?;
        let mut to = lookup.key.redirected(backend)?;
        // Only what can be sent at once: no route, no neighbour and this very host need more thought.
        let hop = *to.hop(&tables.fib);
        if *ip_len > hop.mtu {
            return None;
        }
        if masquerade || to.is_to_itself() {
            let mut seen = to.tuple();
            seen.src = self.masquerade_address(tables, &seen, hop.port)?;
            let near = self.near_ports(tables, &seen, hop.port, low32(lookup.hash)).next();
            seen.sport = near.or_else(|| self.own_ports(tables, low32(lookup.hash)).next())?;
            to = K::of(&seen);
        }
        let opening = self.conntrack.foresee(to, state, id);
        self.elsewhere.prefetch(lookup.hash);
        self.elsewhere.prefetch(opening.reply_hash);
        let syn = flags & SYN != 0;
        let mss = if syn { tables.fib.mss([arrival.port, hop.port], K::V4) } else { None };
        self.foreseen.push(K::foreseen(Way { opening, hop, mss, place }));
        Some(())
    }

    /// Adds the connection that was foreseen as number `newcomer` of those that wait, and sends its first packet: the port
    /// to leave by. `None`, and no change, if it can't.
    pub fn welcome(
        &mut self,
        frame: &mut impl Frame,
        prepared: &Prepared,
        newcomer: usize,
    ) -> Option<PortId> {
        let Self { config, conntrack, foreseen, elsewhere, .. } = self;
        // In place: copying them stalls.
        match (foreseen.get(newcomer)?, prepared) {
            (Foreseen::V4(way), Prepared::V4(sought)) => {
                way.open(frame, sought, conntrack, elsewhere, &config.tallies)
            }
            (Foreseen::V6(way), Prepared::V6(sought)) => {
                way.open(frame, sought, conntrack, elsewhere, &config.tallies)
            }
            _ => None,
        }
    }
}

impl<K: Family> Way<K> {
    /// Adds the connection, and sends its first packet on: the port to leave by.
    #[inline]
    fn open(
        &self,
        frame: &mut impl Frame,
        sought: &Sought<K>,
        conntrack: &mut Conntrack,
        elsewhere: &mut Elsewhere,
        tallies: &Tallies,
    ) -> Option<PortId> {
        let Sought { lookup, ip_len, .. } = sought;
        let Self { opening, hop, mss, place } = self;
        if !conntrack.open(&lookup.key, lookup.hash, opening) {
            return None;
        }
        tallies.add(*place, Count::Connections);
        elsewhere.forget(lookup.hash);
        elsewhere.forget(opening.reply_hash);
        let bytes = frame.bytes_mut();
        lookup.key.rewrite(bytes, &opening.to, &hop.ethernet)?;
        if let Some(most) = *mss {
            let header = if K::V4 { 20 } else { 40 };
            let (l4, end) = (ethernet::HEADER + header, ethernet::HEADER + usize::from(*ip_len));
            rewrite::clamp_mss(bytes, l4, end, most);
        }
        Some(hop.port)
    }
}

/// Sends on what is no Service's: the port to leave by.
fn transit<K: Family>(
    frame: &mut impl Frame,
    sought: &Sought<K>,
    tables: &Tables,
) -> Option<PortId> {
    let hop = sought.lookup.key.hop(&tables.fib);
    if sought.ip_len > hop.mtu {
        return None;
    }
    K::pass_on(frame.bytes_mut(), &hop.ethernet)?;
    Some(hop.port)
}

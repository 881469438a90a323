//! Ordinary packets of unknown flows, a burst at a time: first it is decided for all where each goes, which asks for the
//! memory that adding connections needs, then they are added and sent.
//!
//! Invariant: like the express way, it does byte for byte what [`Engine::decide`] would do, or nothing.

use super::express::{Prepared, Sought};
use super::*;
use crate::conntrack::key::Key;
use crate::rewrite;

/// What an ordinary packet of an unknown flow is about to do.
#[derive(Clone, Copy, Debug)]
pub enum Prospect {
    /// It opens a connection, and is the next to be given to [`Engine::welcome`].
    Opens,
    /// It is nobody's connection here, and done with.
    Done(Verdict),
    /// Anything else, as it came: see [`Engine::decide`].
    Refer,
}

/// A connection that the burst at hand opens, and the way of its first packet.
#[derive(Debug)]
pub(super) struct Foreseen {
    opening: Opening,
    hop: Hop,
    /// The largest segment that a SYN may announce.
    mss: Option<u16>,
    /// Where it is counted.
    place: Place,
}

impl Engine {
    /// Where an ordinary packet of an unknown flow goes.
    pub fn foresee(
        &mut self,
        frame: &mut impl Frame,
        prepared: &Prepared,
        arrival: &Arrival,
        tables: &Tables,
    ) -> Prospect {
        let (v4, tuple, hash, flags) = match prepared {
            Prepared::V4(Sought { lookup, flags, .. }) => {
                (true, lookup.key.tuple(), lookup.hash, *flags)
            }
            Prepared::V6(Sought { lookup, flags, .. }) => {
                (false, lookup.key.tuple(), lookup.hash, *flags)
            }
            Prepared::Other => return Prospect::Refer,
        };
        if wire::is_martian(v4, tuple.src, tuple.dst) || is_group(tuple.dst) {
            return Prospect::Refer;
        }
        let EngineConfig { ports, workers, worker, .. } = self.config;
        let opens = flags & (SYN | ACK) == SYN;
        let destination = classify::destination(tables, &tuple, opens, ports, workers);
        if workers > 1 {
            let owner = self.owners.owner(tables, &destination, &tuple);
            if owner != worker {
                self.remember_elsewhere(hash, flags, owner);
                return Prospect::Done(Verdict::HandOver(owner));
            }
        }
        match destination {
            Destination::Service(found) => {
                match self.opening(&tuple, hash, flags, &found, arrival, tables) {
                    Some(()) => Prospect::Opens,
                    None => Prospect::Refer,
                }
            }
            Destination::Transit => {
                // Whether a SYN announces too large segments is looked at on the whole way.
                let clamped = flags & SYN != 0 && tables.fib.clamps_mss();
                let sent = (!clamped).then(|| transit(frame, prepared, &tuple, tables)).flatten();
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

    /// Notes the connection that a packet to a Service opens, if it does so in the usual way.
    #[inline]
    fn opening(
        &mut self,
        tuple: &Tuple,
        hash: u64,
        flags: u8,
        found: &Match<'_>,
        arrival: &Arrival,
        tables: &Tables,
    ) -> Option<()> {
        let state = match tuple.protocol {
            Protocol::Tcp => opening_segment(flags)?,
            _ => State::Unreplied,
        };
        let Tables { services, node, .. } = tables;
        let client = tuple.src.ip();
        // What its client was given before counts more than the flow.
        if found.row.affinity.is_some() {
            return None;
        }
        let decision = found.decide(client, &node.source(tuple.src), node.masquerade_all);
        let Decision::Forward { choice, masquerade } = decision else { return None };
        let (backend, id) = choice.pick(services.flow_hash(tuple))?;
        let mut to = Tuple { dst: backend.ip().into(), dport: backend.port(), ..*tuple };
        // Only what can be sent at once: no route, no neighbour and this very host need more thought.
        let hop = *hop(tables, &to);
        if hop.mtu == 0 {
            return None;
        }
        if masquerade || to.dst == tuple.src {
            to.src = self.masquerade_address(tables, &to, hop.port)?;
            let near = self.near_ports(tables, &to, hop.port, low32(hash)).next();
            to.sport = near.or_else(|| self.own_ports(tables, low32(hash)).next())?;
        }
        let opening = self.conntrack.foresee(tuple, hash, &to, state, id);
        opening.hashes.iter().for_each(|&hash| self.elsewhere.prefetch(hash));
        let place = found.row.place;
        self.config.tallies.prefetch(place);
        let syn = flags & SYN != 0;
        let mss = if syn { tables.fib.mss([arrival.port, hop.port], to.dst.is_v4()) } else { None };
        self.openings.push(Foreseen { opening, hop, mss, place });
        Some(())
    }

    /// Adds the connection that was foreseen as number `newcomer` of the burst, and sends its first packet: the port to
    /// leave by. `None`, and no change, if it can't.
    pub fn welcome(
        &mut self,
        frame: &mut impl Frame,
        prepared: &Prepared,
        newcomer: usize,
    ) -> Option<PortId> {
        let Foreseen { opening, hop, mss, place } = self.openings.get(newcomer)?;
        let (Prepared::V4(Sought { ip_len, .. }) | Prepared::V6(Sought { ip_len, .. })) = prepared
        else {
            return None;
        };
        if *ip_len > hop.mtu || !self.conntrack.open(opening) {
            return None;
        }
        self.config.tallies.add(*place, Count::Connections);
        opening.hashes.iter().for_each(|&hash| self.elsewhere.forget(hash));
        let bytes = frame.bytes_mut();
        match prepared {
            Prepared::V4(Sought { lookup, .. }) => {
                rewrite::ordinary_v4(bytes, &lookup.key, &Key::of(&opening.to), &hop.ethernet)?;
            }
            Prepared::V6(Sought { lookup, .. }) => {
                rewrite::ordinary_v6(bytes, &lookup.key, &Key::of(&opening.to), &hop.ethernet)?;
            }
            Prepared::Other => return None,
        }
        if let Some(most) = *mss {
            let header = if opening.to.dst.is_v4() { 20 } else { 40 };
            let (l4, end) = (ethernet::HEADER + header, ethernet::HEADER + usize::from(*ip_len));
            rewrite::clamp_mss(bytes, l4, end, most);
        }
        Some(hop.port)
    }
}

/// Sends on what is no Service's.
fn transit(
    frame: &mut impl Frame,
    prepared: &Prepared,
    tuple: &Tuple,
    tables: &Tables,
) -> Option<Verdict> {
    let hop = hop(tables, tuple);
    match prepared {
        Prepared::V4(Sought { ip_len, .. }) if *ip_len <= hop.mtu => {
            rewrite::hop_v4(frame.bytes_mut(), &hop.ethernet)?;
        }
        Prepared::V6(Sought { ip_len, .. }) if *ip_len <= hop.mtu => {
            rewrite::hop_v6(frame.bytes_mut(), &hop.ethernet)?;
        }
        _ => return None,
    }
    Some(Verdict::Forward(hop.port))
}

fn hop<'a>(tables: &'a Tables, to: &Tuple) -> &'a Hop {
    if to.dst.is_v4() { tables.fib.hop_v4(&Key::of(to)) } else { tables.fib.hop_v6(&Key::of(to)) }
}

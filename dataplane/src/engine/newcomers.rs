//! First packets of connections to Services, a burst at a time: first it is decided for all where each goes, which asks
//! for the memory that adding them needs, then they are added and sent.
//!
//! Invariant: like the express way, it does byte for byte what [`Engine::decide`] would do, or nothing.

use super::express::Prepared;
use super::*;
use crate::conntrack::Opening;
use crate::conntrack::key::Key;
use crate::rewrite;

impl Engine {
    /// Where an ordinary packet of an unknown flow goes, if it opens a connection to a Service in the usual way.
    pub fn foresee(
        &self,
        prepared: &Prepared,
        arrival: &Arrival,
        tables: &Tables,
    ) -> Option<Opening> {
        let (v4, tuple, hash, flags) = match prepared {
            Prepared::V4(sought) => {
                (true, sought.packet.key.tuple(), sought.hash, sought.packet.flags)
            }
            Prepared::V6(sought) => {
                (false, sought.packet.key.tuple(), sought.hash, sought.packet.flags)
            }
            Prepared::Other => return None,
        };
        if wire::is_martian(v4, tuple.src, tuple.dst) {
            return None;
        }
        let state = match tuple.protocol {
            Protocol::Tcp => opening_segment(flags)?,
            _ => State::Unreplied,
        };
        let Tables { services, node, .. } = tables;
        let found = services.find(tuple.dst, tuple.dport, tuple.protocol)?;
        let EngineConfig { ports, workers, worker, secret, .. } = self.config;
        if workers > 1 {
            let destination = Destination::Service(found);
            let owner = classify::owner(tables, &destination, &tuple, ports, &secret, workers);
            if owner != worker {
                return None;
            }
        }
        let client = tuple.src.ip();
        let source = || node.classify_source(client);
        let Decision::Forward { choice, masquerade } =
            found.decide(client, source, node.masquerade_all)
        else {
            return None;
        };
        let (backend, id) = choice.pick(services.flow_hash(&tuple))?;
        let mut to = Tuple { dst: backend.ip().into(), dport: backend.port(), ..tuple };
        // Only what can be sent at once: no route, no neighbour and this very host need more thought.
        let hop =
            if v4 { tables.fib.hop_v4(&Key::of(&to)) } else { tables.fib.hop_v6(&Key::of(&to)) };
        if hop.mtu == 0 {
            return None;
        }
        if masquerade || to.dst == tuple.src {
            to.src = self.masquerade_address(arrival, tables, &to)?;
            to.sport = self.masquerade_port(tables, low32(hash), 0)?;
        }
        Some(self.conntrack.foresee(&tuple, hash, &to, state, id))
    }

    /// Adds the connection and sends its first packet: the port to leave by. `None`, and no change, if it can't.
    pub fn welcome(
        &mut self,
        frame: &mut impl Frame,
        prepared: &Prepared,
        opening: &Opening,
        tables: &Tables,
    ) -> Option<PortId> {
        match prepared {
            Prepared::V4(sought) => {
                let to = Key::of(&opening.to);
                let hop = tables.fib.hop_v4(&to);
                if sought.packet.ip_len > hop.mtu || !self.conntrack.open(opening) {
                    return None;
                }
                let key = &sought.packet.key;
                rewrite::ordinary_v4(frame.bytes_mut(), key, &to, &hop.ethernet)?;
                Some(hop.port)
            }
            Prepared::V6(sought) => {
                let to = Key::of(&opening.to);
                let hop = tables.fib.hop_v6(&to);
                if sought.packet.ip_len > hop.mtu || !self.conntrack.open(opening) {
                    return None;
                }
                let key = &sought.packet.key;
                rewrite::ordinary_v6(frame.bytes_mut(), key, &to, &hop.ethernet)?;
                Some(hop.port)
            }
            Prepared::Other => None,
        }
    }
}

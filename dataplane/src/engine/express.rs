//! Ordinary packets of known connections, which are nearly all: one cache line read, one header written.
//!
//! Invariant: does byte for byte what [`Engine::decide`] would do, or nothing. Whatever is not ordinary (a segment that
//! moves the state, a backend that no longer serves, a route without neighbour, a packet too big) is left to it.

use super::*;
use crate::conntrack::key::{KeyV4, KeyV6};
use crate::rewrite;
use crate::wire::ordinary::{self, MacWord, Ordinary};

/// A frame after the first look.
#[derive(Clone, Copy, Debug)]
pub enum Prepared {
    /// An ordinary IPv4 packet and the hash of its flow.
    V4(Ordinary<KeyV4>, u64),
    /// An ordinary IPv6 packet and the hash of its flow.
    V6(Ordinary<KeyV6>, u64),
    /// Anything else.
    Other,
}

impl Engine {
    /// Takes the first look at a frame that came in by a port with this MAC address, and asks for the memory that
    /// its lookup will need.
    #[inline]
    pub fn prepare(&self, frame: &impl Frame, mac: MacWord) -> Prepared {
        if !frame.is_contiguous() {
            return Prepared::Other;
        }
        if let Some(packet) = ordinary::v4(frame.bytes(), mac) {
            let hash = self.conntrack.hash_v4(&packet.key);
            self.conntrack.prefetch_v4(hash);
            Prepared::V4(packet, hash)
        } else if let Some(packet) = ordinary::v6(frame.bytes(), mac) {
            let hash = self.conntrack.hash_v6(&packet.key);
            self.conntrack.prefetch_v6(hash);
            Prepared::V6(packet, hash)
        } else {
            Prepared::Other
        }
    }

    /// Asks for the rest of the memory, for a flow that is not where most are.
    #[inline]
    pub fn look_ahead(&self, prepared: &Prepared) {
        match prepared {
            Prepared::V4(packet, hash) => self.conntrack.look_ahead_v4(&packet.key, *hash),
            Prepared::V6(packet, hash) => self.conntrack.look_ahead_v6(&packet.key, *hash),
            Prepared::Other => {}
        }
    }

    /// Sends an ordinary packet of a known connection on: the port to leave by. `None`, and no change, for all others.
    #[inline]
    pub fn express(
        &mut self,
        frame: &mut impl Frame,
        prepared: &Prepared,
        tables: &Tables,
    ) -> Option<PortId> {
        let serves = |backend| tables.services.serves(backend);
        match prepared {
            Prepared::V4(packet, hash) if packet.plain => {
                let to = self.conntrack.pass_v4(&packet.key, *hash, serves)?;
                let hop = tables.fib.hop_v4(&to);
                if packet.ip_len > hop.mtu {
                    return None;
                }
                rewrite::ordinary_v4(frame.bytes_mut(), &packet.key, &to, &hop.ethernet)?;
                Some(hop.port)
            }
            Prepared::V6(packet, hash) if packet.plain => {
                let to = self.conntrack.pass_v6(&packet.key, *hash, serves)?;
                let hop = tables.fib.hop_v6(&to);
                if packet.ip_len > hop.mtu {
                    return None;
                }
                rewrite::ordinary_v6(frame.bytes_mut(), &packet.key, &to, &hop.ethernet)?;
                Some(hop.port)
            }
            _ => None,
        }
    }
}

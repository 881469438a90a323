//! Ordinary packets of known connections, which are nearly all: one cache line read, one header written.
//!
//! Invariant: does byte for byte what [`Engine::decide`] would do, or nothing. Whatever is not ordinary (a segment that
//! moves the state, a backend that no longer serves, a route without neighbour, a packet too big) is left to it.

use super::*;
use crate::conntrack::Lookup;
use crate::conntrack::Pass;
use crate::conntrack::key::{KeyV4, KeyV6};
use crate::rewrite;
use crate::wire::ordinary::{self, MacWord, Ordinary};
use crate::wire::tcp_flags::FIN;

/// A frame after the first look: what to look up, and after [`Engine::look_ahead`] where it probably is.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Prepared {
    /// An ordinary IPv4 packet.
    V4(Sought<KeyV4>),
    /// An ordinary IPv6 packet.
    V6(Sought<KeyV6>),
    /// Anything else.
    Other,
}

/// An ordinary packet on its way to its table entry.
#[derive(Clone, Copy, Debug)]
pub struct Sought<K> {
    pub(super) lookup: Lookup<K>,
    pub(super) ip_len: u16,
    pub(super) flags: u8,
}

impl<K> Sought<K> {
    /// No SYN, FIN or RST: in most states it changes nothing.
    #[inline]
    fn is_plain(&self) -> bool {
        self.flags & (SYN | FIN | RST) == 0
    }
}

/// What became of a frame on the express way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It is rewritten and leaves by this port.
    Sent(PortId),
    /// An ordinary packet of no known flow, as it came: see [`Engine::foresee`].
    Unknown,
    /// Anything else, as it came: see [`Engine::decide`].
    Refer,
}

impl Engine {
    /// Takes the first look at a frame that came in by a port with this MAC address, and asks for the memory that
    /// its lookup will need.
    #[inline(always)]
    pub fn prepare(&self, frame: &impl Frame, mac: MacWord, prepared: &mut Prepared) {
        let contiguous = frame.is_contiguous();
        let Some(Ordinary { key, ip_len, flags }) = ordinary::v4(frame.bytes(), mac) else {
            return self.prepare_v6(frame.bytes(), mac, prepared);
        };
        let hash = self.conntrack.hash_v4(&key);
        self.conntrack.prefetch_v4(hash);
        let lookup = Lookup::new(key, hash);
        *prepared = Prepared::V4(Sought { lookup, ip_len, flags });
        if !contiguous {
            *prepared = Prepared::Other;
        }
    }

    // Into the lane, not returned: copying a value just written field by field stalls the copy.
    #[inline(never)]
    fn prepare_v6(&self, frame: &[u8], mac: MacWord, prepared: &mut Prepared) {
        let Some(Ordinary { key, ip_len, flags }) = ordinary::v6(frame, mac) else {
            *prepared = Prepared::Other;
            return;
        };
        let hash = self.conntrack.hash_v6(&key);
        self.conntrack.prefetch_v6(hash);
        *prepared = Prepared::V6(Sought { lookup: Lookup::new(key, hash), ip_len, flags });
    }

    /// Finds what most likely has come by now, and asks for what else is needed.
    #[inline(always)]
    pub fn look_ahead(&self, prepared: &mut Prepared) {
        match prepared {
            Prepared::V4(sought) => self.conntrack.look_ahead_v4(&mut sought.lookup),
            Prepared::V6(sought) => self.conntrack.look_ahead_v6(&mut sought.lookup),
            Prepared::Other => {}
        }
    }

    /// Sends an ordinary packet of a known connection on. All others stay as they are. `changes` is what
    /// [`crate::conntrack::Conntrack::changes`] said before the look ahead.
    #[inline(always)]
    pub fn express(
        &mut self,
        frame: &mut impl Frame,
        prepared: &Prepared,
        changes: u64,
        tables: &Tables,
    ) -> Passage {
        let current = self.conntrack.changes() == changes;
        let sought = match prepared {
            Prepared::V4(sought) => sought,
            Prepared::V6(sought) => {
                return self.express_v6(frame.bytes_mut(), sought, current, tables);
            }
            Prepared::Other => return Passage::Refer,
        };
        let serves = |backend| tables.services.serves(backend);
        let to = match self.conntrack.pass_v4(&sought.lookup, current, sought.is_plain(), serves) {
            Pass::To(to) => to,
            Pass::Unknown => return Passage::Unknown,
            Pass::Refer => return Passage::Refer,
        };
        let hop = tables.fib.hop_v4(&to);
        if sought.ip_len > hop.mtu {
            return Passage::Refer;
        }
        match rewrite::ordinary_v4(frame.bytes_mut(), &sought.lookup.key, &to, &hop.ethernet) {
            Some(()) => Passage::Sent(hop.port),
            None => Passage::Refer,
        }
    }

    #[inline(never)]
    fn express_v6(
        &mut self,
        frame: &mut [u8],
        sought: &Sought<KeyV6>,
        current: bool,
        tables: &Tables,
    ) -> Passage {
        let serves = |backend| tables.services.serves(backend);
        let to = match self.conntrack.pass_v6(&sought.lookup, current, sought.is_plain(), serves) {
            Pass::To(to) => to,
            Pass::Unknown => return Passage::Unknown,
            Pass::Refer => return Passage::Refer,
        };
        let hop = tables.fib.hop_v6(&to);
        if sought.ip_len > hop.mtu {
            return Passage::Refer;
        }
        match rewrite::ordinary_v6(frame, &sought.lookup.key, &to, &hop.ethernet) {
            Some(()) => Passage::Sent(hop.port),
            None => Passage::Refer,
        }
    }
}

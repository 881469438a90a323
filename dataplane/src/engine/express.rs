//! Ordinary packets of known connections, which are nearly all: one cache line read, one header written.
//!
//! Each of its stages goes through a whole burst in a function of its own, so that the loop has all registers for itself.
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

impl Prepared {
    /// The connection table has changed since looking ahead.
    pub fn forget(&mut self) {
        match self {
            Self::V4(sought) => sought.lookup.forget(),
            Self::V6(sought) => sought.lookup.forget(),
            Self::Other => {}
        }
    }
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

/// Why a frame leaves the express way, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// An ordinary packet of no known flow: see [`Engine::foresee`].
    Unknown,
    /// Anything else: see [`Engine::decide`].
    Refer,
}

impl Engine {
    /// Takes the first look at frames that came in by a port with this MAC address, and asks for the memory that their
    /// lookups will need. Returns how many bytes they have.
    #[inline(never)]
    pub fn prepare<F: Frame>(&self, frames: &[F], mac: MacWord, lanes: &mut [Prepared]) -> usize {
        let mut bytes = 0;
        for (frame, lane) in frames.iter().zip(lanes) {
            self.prepare_one(frame, mac, lane);
            bytes += frame.bytes().len();
        }
        bytes
    }

    /// The same for one frame.
    #[inline(always)]
    pub fn prepare_one(&self, frame: &impl Frame, mac: MacWord, prepared: &mut Prepared) {
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
    #[inline(always)]
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
    #[inline(never)]
    pub fn look_ahead(&self, lanes: &mut [Prepared]) {
        lanes.iter_mut().for_each(|lane| self.look_ahead_one(lane));
    }

    /// The same for one frame.
    #[inline(always)]
    pub fn look_ahead_one(&self, prepared: &mut Prepared) {
        match prepared {
            Prepared::V4(sought) => self.conntrack.look_ahead_v4(&mut sought.lookup),
            Prepared::V6(sought) => self.conntrack.look_ahead_v6(&mut sought.lookup),
            Prepared::Other => {}
        }
    }

    /// Rewrites the frames of a burst that are ordinary packets of known connections, up to one that is not, and notes by
    /// which ports they leave. Returns how many there were.
    #[inline(never)]
    pub fn express<F: Frame>(
        &mut self,
        frames: &mut [F],
        lanes: &[Prepared],
        exits: &mut [PortId; BURST],
        tables: &Tables,
    ) -> usize {
        let burst = frames.iter_mut().zip(lanes).zip(exits);
        for (number, ((frame, prepared), exit)) in burst.enumerate() {
            match self.express_one(frame, prepared, tables) {
                Ok(port) => *exit = port,
                Err(_) => return number,
            }
        }
        frames.len()
    }

    /// The same for one frame: the port it leaves by.
    #[inline(always)]
    pub fn express_one(
        &mut self,
        frame: &mut impl Frame,
        prepared: &Prepared,
        tables: &Tables,
    ) -> Result<PortId, Stop> {
        let sought = match prepared {
            Prepared::V4(sought) => sought,
            Prepared::V6(sought) => return self.express_v6(frame.bytes_mut(), sought, tables),
            Prepared::Other => return Err(Stop::Refer),
        };
        let serves = |backend| tables.services.serves(backend);
        let to = match self.conntrack.pass_v4(&sought.lookup, sought.is_plain(), serves) {
            Pass::To(to) => to,
            Pass::Unknown => return Err(Stop::Unknown),
            Pass::Refer => return Err(Stop::Refer),
        };
        let hop = tables.fib.hop_v4(&to);
        if sought.ip_len > hop.mtu {
            return Err(Stop::Refer);
        }
        rewrite::ordinary_v4(frame.bytes_mut(), &sought.lookup.key, &to, &hop.ethernet)
            .map(|()| hop.port)
            .ok_or(Stop::Refer)
    }

    #[inline(always)]
    fn express_v6(
        &mut self,
        frame: &mut [u8],
        sought: &Sought<KeyV6>,
        tables: &Tables,
    ) -> Result<PortId, Stop> {
        let serves = |backend| tables.services.serves(backend);
        let to = match self.conntrack.pass_v6(&sought.lookup, sought.is_plain(), serves) {
            Pass::To(to) => to,
            Pass::Unknown => return Err(Stop::Unknown),
            Pass::Refer => return Err(Stop::Refer),
        };
        let hop = tables.fib.hop_v6(&to);
        if sought.ip_len > hop.mtu {
            return Err(Stop::Refer);
        }
        rewrite::ordinary_v6(frame, &sought.lookup.key, &to, &hop.ethernet)
            .map(|()| hop.port)
            .ok_or(Stop::Refer)
    }
}

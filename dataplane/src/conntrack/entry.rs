//! One direction of a connection in the table: 32 bytes for IPv4, 80 for IPv6, all that rewriting needs included.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::state::State;
use crate::flow::{Address, Protocol, Tuple};
use crate::service::backends::BackendId;

/// What [`super::table::Table`] stores. All-zero bytes are a free slot.
pub trait Entry: Copy + FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static {
    /// The entry of a flow and what its packets are rewritten to.
    fn new(tuple: &Tuple, to: &Tuple, meta: Meta) -> Self;
    /// The flow it matches.
    fn tuple(&self) -> Tuple;
    /// What its packets become.
    fn translated(&self) -> Tuple;
    /// Whether it is this flow's. Cheaper than comparing tuples.
    fn matches(&self, tuple: &Tuple) -> bool;
    /// Everything but the addresses.
    fn meta(&self) -> &Meta;
    /// The same, to change.
    fn meta_mut(&mut self) -> &mut Meta;
}

const OCCUPIED: u8 = 0x80;
const REPLY: u8 = 0x40;
const PROTOCOL_SHIFT: u8 = 4;
const STATE_MASK: u8 = 0x0f;

/// Eight bytes: backend, deadline, direction, protocol, state.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Meta {
    backend: u32,
    /// Seconds on a 16-bit clock; see [`super::Conntrack`].
    pub deadline: u16,
    flags: u8,
    reserved: u8,
}

impl Meta {
    /// Of a fresh entry.
    #[must_use]
    pub fn new(
        protocol: Protocol,
        reply: bool,
        state: State,
        backend: BackendId,
        deadline: u16,
    ) -> Self {
        let direction = if reply { REPLY } else { 0 };
        let flags = OCCUPIED | direction | (protocol as u8) << PROTOCOL_SHIFT | state as u8;
        Self { backend: backend.0, deadline, flags, reserved: 0 }
    }

    /// Whether the slot is in use.
    #[must_use]
    #[inline]
    pub fn is_occupied(&self) -> bool {
        self.flags & OCCUPIED != 0
    }

    /// Whether this is the direction from the backend to the client.
    #[must_use]
    #[inline]
    pub fn is_reply(&self) -> bool {
        self.flags & REPLY != 0
    }

    /// Transport protocol.
    #[must_use]
    #[inline]
    pub fn protocol(&self) -> Protocol {
        Protocol::ALL[usize::from(self.flags >> PROTOCOL_SHIFT & 3).min(2)]
    }

    /// Connection state.
    #[must_use]
    #[inline]
    pub fn state(&self) -> State {
        State::ALL[usize::from(self.flags & STATE_MASK).min(State::ALL.len() - 1)]
    }

    /// Changes the state.
    pub fn set_state(&mut self, state: State) {
        self.flags = self.flags & !STATE_MASK | state as u8;
    }

    /// The backend the connection was given.
    #[must_use]
    #[inline]
    pub fn backend(&self) -> BackendId {
        BackendId(self.backend)
    }
}

/// An IPv4 direction: two fit a cache line.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EntryV4 {
    src: u32,
    dst: u32,
    ports: u32,
    new_src: u32,
    new_dst: u32,
    new_ports: u32,
    meta: Meta,
}

/// An IPv6 direction.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EntryV6 {
    // Halves instead of u128: the entry keeps its 8-byte alignment and has no padding.
    src: [u64; 2],
    dst: [u64; 2],
    new_src: [u64; 2],
    new_dst: [u64; 2],
    ports: u32,
    new_ports: u32,
    meta: Meta,
}

impl Entry for EntryV4 {
    fn new(tuple: &Tuple, to: &Tuple, meta: Meta) -> Self {
        Self {
            src: tuple.src.low32(),
            dst: tuple.dst.low32(),
            ports: tuple.ports(),
            new_src: to.src.low32(),
            new_dst: to.dst.low32(),
            new_ports: to.ports(),
            meta,
        }
    }

    fn tuple(&self) -> Tuple {
        let address = |bits: u32| Address::v4(bits.to_be_bytes());
        join(address(self.src), address(self.dst), self.ports, self.meta.protocol())
    }

    fn translated(&self) -> Tuple {
        let address = |bits: u32| Address::v4(bits.to_be_bytes());
        join(address(self.new_src), address(self.new_dst), self.new_ports, self.meta.protocol())
    }

    #[inline]
    fn matches(&self, tuple: &Tuple) -> bool {
        self.src == tuple.src.low32()
            && self.dst == tuple.dst.low32()
            && self.ports == tuple.ports()
            && self.meta.is_occupied()
            && self.meta.protocol() == tuple.protocol
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }
}

impl Entry for EntryV6 {
    fn new(tuple: &Tuple, to: &Tuple, meta: Meta) -> Self {
        Self {
            src: split(tuple.src),
            dst: split(tuple.dst),
            new_src: split(to.src),
            new_dst: split(to.dst),
            ports: tuple.ports(),
            new_ports: to.ports(),
            meta,
        }
    }

    fn tuple(&self) -> Tuple {
        join(unsplit(self.src), unsplit(self.dst), self.ports, self.meta.protocol())
    }

    fn translated(&self) -> Tuple {
        join(unsplit(self.new_src), unsplit(self.new_dst), self.new_ports, self.meta.protocol())
    }

    #[inline]
    fn matches(&self, tuple: &Tuple) -> bool {
        self.src == split(tuple.src)
            && self.dst == split(tuple.dst)
            && self.ports == tuple.ports()
            && self.meta.is_occupied()
            && self.meta.protocol() == tuple.protocol
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each half of the port pair has 16 bits")]
fn join(src: Address, dst: Address, ports: u32, protocol: Protocol) -> Tuple {
    Tuple { src, dst, sport: (ports >> 16) as u16, dport: ports as u16, protocol }
}

#[expect(clippy::cast_possible_truncation, reason = "both halves are kept")]
fn split(address: Address) -> [u64; 2] {
    [(address.0 >> 64) as u64, address.0 as u64]
}

fn unsplit(halves: [u64; 2]) -> Address {
    Address(u128::from(halves[0]) << 64 | u128::from(halves[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ipv4_directions_fit_a_cache_line() {
        assert_eq!(size_of::<EntryV4>() * 2, 64);
        assert_eq!(size_of::<EntryV6>(), 80);
    }

    #[test]
    fn an_entry_gives_back_what_it_was_made_of() {
        let tuple = |a: Address, b: Address| Tuple {
            src: a,
            dst: b,
            sport: 1,
            dport: 65_535,
            protocol: Protocol::Udp,
        };
        let meta = Meta::new(Protocol::Udp, true, State::UdpReplied, BackendId(7), 9);
        let (a, b) = (Address::v4([1, 2, 3, 4]), Address::v4([255, 0, 0, 9]));
        let entry = EntryV4::new(&tuple(a, b), &tuple(b, a), meta);
        assert_eq!((entry.tuple(), entry.translated()), (tuple(a, b), tuple(b, a)));
        assert!(entry.matches(&tuple(a, b)) && !entry.matches(&tuple(b, a)));
        let (a, b) = (Address::v6([7; 16]), Address::v6([8; 16]));
        let entry = EntryV6::new(&tuple(a, b), &tuple(b, a), meta);
        assert_eq!((entry.tuple(), entry.translated()), (tuple(a, b), tuple(b, a)));
        assert!(entry.meta().is_reply() && entry.meta().state() == State::UdpReplied);
    }
}

//! One direction of a connection in the table: 32 bytes for IPv4, 80 for IPv6, all that rewriting needs included.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::key::{Key, KeyV4, KeyV6};
use super::state::State;
use crate::flow::{Protocol, Tuple};
use crate::service::backends::BackendId;

/// What [`super::table::Table`] stores. All-zero bytes are a free slot.
pub trait Entry: Copy + FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static {
    /// The flows of this family.
    type Key: Key;

    /// The entry of a flow and what its packets are rewritten to.
    fn new(tuple: &Tuple, to: &Tuple, meta: Meta) -> Self;
    /// The flow it matches.
    fn key(&self) -> Self::Key;
    /// What its packets become.
    fn translated(&self) -> Self::Key;
    /// Whether it is this flow's. Without a branch: which slot of a bucket matches is beyond prediction.
    fn matches(&self, key: &Self::Key) -> bool;
    /// Everything but the addresses.
    fn meta(&self) -> &Meta;
    /// The same, to change.
    fn meta_mut(&mut self) -> &mut Meta;
}

/// Set in a used slot.
const OCCUPIED: u8 = 0x80;
const REPLY: u8 = 0x10;
const STATE_MASK: u8 = 0x0f;
/// Numbers a state may have.
pub(super) const STATE_NUMBERS: usize = STATE_MASK as usize + 1;

/// Eight bytes: backend, deadline, protocol, direction, state.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Meta {
    backend: u32,
    /// Seconds on a 16-bit clock; see [`super::Conntrack`].
    pub deadline: u16,
    /// [`OCCUPIED`] and the protocol: a part of the key.
    kind: u8,
    /// [`REPLY`] and the state.
    state: u8,
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
        Self { backend: backend.0, deadline, kind: kind(protocol), state: direction | state as u8 }
    }

    /// Whether the slot is in use.
    #[must_use]
    #[inline]
    pub fn is_occupied(&self) -> bool {
        self.kind & OCCUPIED != 0
    }

    /// Whether this is the direction from the backend to the client.
    #[must_use]
    #[inline]
    pub fn is_reply(&self) -> bool {
        self.state & REPLY != 0
    }

    /// Transport protocol.
    #[must_use]
    #[inline]
    pub fn protocol(&self) -> Protocol {
        Protocol::ALL[usize::from(self.kind & 3).min(Protocol::ALL.len() - 1)]
    }

    /// Connection state.
    #[must_use]
    #[inline]
    pub fn state(&self) -> State {
        State::ALL[usize::from(self.state & STATE_MASK).min(State::ALL.len() - 1)]
    }

    /// Whether an ordinary packet in this direction leaves the state as it is; see [`State::moves_by_any_packet`].
    #[must_use]
    #[inline]
    pub fn is_settled(&self) -> bool {
        UNSETTLED >> (self.state & (REPLY | STATE_MASK)) & 1 == 0
    }

    /// The number of the state.
    #[must_use]
    #[inline]
    pub(super) fn state_number(&self) -> usize {
        usize::from(self.state & STATE_MASK)
    }

    /// Changes the state.
    pub fn set_state(&mut self, state: State) {
        self.state = self.state & !STATE_MASK | state as u8;
    }

    /// The backend the connection was given.
    #[must_use]
    #[inline]
    pub fn backend(&self) -> BackendId {
        BackendId(self.backend)
    }
}

/// Bit n is set when n is a state and direction that an ordinary packet changes.
const UNSETTLED: u32 = {
    let mut bits = 0;
    let mut i = 0;
    while i < State::ALL.len() {
        let state = State::ALL[i];
        bits |= (state.moves_by_any_packet(false) as u32) << state as u8;
        bits |= (state.moves_by_any_packet(true) as u32) << (state as u8 | REPLY);
        i += 1;
    }
    bits
};

#[inline]
fn kind(protocol: Protocol) -> u8 {
    OCCUPIED | protocol as u8
}

/// An IPv4 direction: two fit a cache line.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EntryV4 {
    addresses: u64,
    new_addresses: u64,
    ports: u32,
    new_ports: u32,
    meta: Meta,
}

/// An IPv6 direction.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EntryV6 {
    src: [u64; 2],
    dst: [u64; 2],
    new_src: [u64; 2],
    new_dst: [u64; 2],
    ports: u32,
    new_ports: u32,
    meta: Meta,
}

impl Entry for EntryV4 {
    type Key = KeyV4;

    fn new(tuple: &Tuple, to: &Tuple, meta: Meta) -> Self {
        let (key, new) = (KeyV4::of(tuple), KeyV4::of(to));
        Self {
            addresses: key.addresses,
            new_addresses: new.addresses,
            ports: key.ports,
            new_ports: new.ports,
            meta,
        }
    }

    fn key(&self) -> KeyV4 {
        let protocol = self.meta.protocol();
        KeyV4 { addresses: self.addresses, ports: self.ports, protocol }
    }

    #[inline]
    fn translated(&self) -> KeyV4 {
        let protocol = self.meta.protocol();
        KeyV4 { addresses: self.new_addresses, ports: self.new_ports, protocol }
    }

    #[inline]
    fn matches(&self, key: &KeyV4) -> bool {
        let ports = u64::from(self.ports ^ key.ports);
        let kind = u64::from(self.meta.kind ^ kind(key.protocol));
        (self.addresses ^ key.addresses) | ports | kind == 0
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }
}

impl Entry for EntryV6 {
    type Key = KeyV6;

    fn new(tuple: &Tuple, to: &Tuple, meta: Meta) -> Self {
        let (key, new) = (KeyV6::of(tuple), KeyV6::of(to));
        Self {
            src: key.src,
            dst: key.dst,
            new_src: new.src,
            new_dst: new.dst,
            ports: key.ports,
            new_ports: new.ports,
            meta,
        }
    }

    fn key(&self) -> KeyV6 {
        let protocol = self.meta.protocol();
        KeyV6 { src: self.src, dst: self.dst, ports: self.ports, protocol }
    }

    #[inline]
    fn translated(&self) -> KeyV6 {
        let protocol = self.meta.protocol();
        KeyV6 { src: self.new_src, dst: self.new_dst, ports: self.new_ports, protocol }
    }

    #[inline]
    fn matches(&self, key: &KeyV6) -> bool {
        let src = (self.src[0] ^ key.src[0]) | (self.src[1] ^ key.src[1]);
        let dst = (self.dst[0] ^ key.dst[0]) | (self.dst[1] ^ key.dst[1]);
        let ports = u64::from(self.ports ^ key.ports);
        let kind = u64::from(self.meta.kind ^ kind(key.protocol));
        src | dst | ports | kind == 0
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Address;

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
        assert_eq!((entry.key().tuple(), entry.translated().tuple()), (tuple(a, b), tuple(b, a)));
        assert!(entry.matches(&Key::of(&tuple(a, b))) && !entry.matches(&Key::of(&tuple(b, a))));
        let (a, b) = (Address::v6([7; 16]), Address::v6([8; 16]));
        let entry = EntryV6::new(&tuple(a, b), &tuple(b, a), meta);
        assert_eq!((entry.key().tuple(), entry.translated().tuple()), (tuple(a, b), tuple(b, a)));
        assert!(entry.meta().is_reply() && entry.meta().state() == State::UdpReplied);
    }
}

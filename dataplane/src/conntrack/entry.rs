//! One direction of a connection in the table: 32 bytes for IPv4, 64 for IPv6, all that rewriting needs included.
//!
//! An IPv6 direction has four addresses and room for three: see [`EntryV6`].

use std::fmt::Debug;
use std::hint::select_unpredictable;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::key::{Key, KeyV4, KeyV6};
use super::lent::{self, Lent};
use super::state::State;
use crate::flow::Protocol;
use crate::service::backends::BackendId;

/// What [`super::table::Table`] stores. All-zero bytes are a free slot.
pub trait Entry: Copy + FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static {
    /// The flows of this family.
    type Key: Key;
    /// The slots of one cache line: an array.
    type Bucket: AsRef<[Self]>
        + AsMut<[Self]>
        + FromBytes
        + IntoBytes
        + Immutable
        + KnownLayout
        + Debug
        + Send
        + 'static;
    /// What the entries of a table have in common, so that each need not hold it.
    type Shared: Default + Debug + Send;
    /// Of a hundred slots, those used at full capacity: displacement then finds room within a few moves.
    const FULL_PERCENT: usize;
    /// Buckets beyond that, for tables so small that they can be unlucky.
    const SPARE_BUCKETS: usize;
    /// Slots of a bucket.
    const SLOTS: usize = size_of::<Self::Bucket>() / size_of::<Self>();

    /// The slots of all buckets, in a row.
    fn entries(buckets: &[Self::Bucket]) -> &[Self];
    /// The same, to change.
    fn entries_mut(buckets: &mut [Self::Bucket]) -> &mut [Self];
    /// The entry of a flow and what its packets are rewritten to. `None` when what is shared has no room for it; else
    /// the entry must be given to [`Entry::release`] in the end.
    fn new(key: &Self::Key, to: &Self::Key, meta: Meta, shared: &mut Self::Shared) -> Option<Self>;
    /// The entry is no longer used.
    fn release(&self, shared: &mut Self::Shared);
    /// The flow it matches.
    fn key(&self, shared: &Self::Shared) -> Self::Key;
    /// What its packets become.
    fn translated(&self, shared: &Self::Shared) -> Self::Key;
    /// Whether it is this flow's. Without a branch: which slot of a bucket matches is beyond prediction.
    fn matches(&self, key: &Self::Key, shared: &Self::Shared) -> bool;
    /// Everything but the addresses.
    fn meta(&self) -> &Meta;
    /// The same, to change.
    fn meta_mut(&mut self) -> &mut Meta;
}

/// Set in a used slot.
const OCCUPIED: u8 = 0x80;
/// Where the number of a lent address begins in [`Meta::kind`], above the protocol.
const LENT_SHIFT: u32 = 2;
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
    /// [`OCCUPIED`], the number of a lent address (IPv6), and the protocol: a part of the key.
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

    /// The number of the lent address in this direction, if it is IPv6.
    #[inline]
    fn lent(&self) -> u8 {
        (self.kind & !OCCUPIED) >> LENT_SHIFT
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

/// An IPv6 direction: one fills a cache line.
///
/// Client and backend, and the frontend between them, are here; the source that the backend sees is the client, or is
/// lent and named by [`Meta::lent`]. The client's direction becomes such a source, the reply direction comes to it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct EntryV6 {
    /// Where packets come from: the client, or the backend.
    src: [u64; 2],
    /// Where they go to: the frontend; in the reply direction the client, to whom they may come by a lent address.
    dst: [u64; 2],
    /// The end that translation puts in: the backend as destination; in the reply direction the frontend as source.
    put_in: [u64; 2],
    ports: u32,
    new_ports: u32,
    meta: Meta,
}

impl EntryV6 {
    /// The address the packets of the flow are sent to.
    #[inline]
    fn key_dst<'a>(&'a self, lent: &'a Lent) -> &'a [u64; 2] {
        // Only in the reply direction; in the client's the lent address is what the source becomes.
        let reply = u8::from(self.meta.is_reply()).wrapping_neg();
        let number = self.meta.lent() & reply;
        select_unpredictable(number == lent::OWN, &self.dst, lent.address(number))
    }
}

impl Entry for EntryV4 {
    type Key = KeyV4;
    type Bucket = [Self; 2];
    type Shared = ();
    const FULL_PERCENT: usize = 60;
    const SPARE_BUCKETS: usize = 4;

    #[inline]
    fn entries(buckets: &[Self::Bucket]) -> &[Self] {
        buckets.as_flattened()
    }

    #[inline]
    fn entries_mut(buckets: &mut [Self::Bucket]) -> &mut [Self] {
        buckets.as_flattened_mut()
    }

    #[inline]
    fn new(key: &KeyV4, to: &KeyV4, meta: Meta, (): &mut ()) -> Option<Self> {
        Some(Self {
            addresses: key.addresses,
            new_addresses: to.addresses,
            ports: key.ports,
            new_ports: to.ports,
            meta,
        })
    }

    fn release(&self, (): &mut ()) {}

    fn key(&self, (): &()) -> KeyV4 {
        let protocol = self.meta.protocol();
        KeyV4 { addresses: self.addresses, ports: self.ports, protocol }
    }

    #[inline]
    fn translated(&self, (): &()) -> KeyV4 {
        let protocol = self.meta.protocol();
        KeyV4 { addresses: self.new_addresses, ports: self.new_ports, protocol }
    }

    #[inline]
    fn matches(&self, key: &KeyV4, (): &()) -> bool {
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
    type Bucket = [Self; 1];
    type Shared = Lent;
    // Two choices of one slot hold up to 50 %: below that a random graph is trees, and a tree has room. At 40 % a full
    // table of 2000 entries that come and go refuses one of 160000, one of 500000 none of 20 million.
    const FULL_PERCENT: usize = 40;
    const SPARE_BUCKETS: usize = 256;

    #[inline]
    fn entries(buckets: &[Self::Bucket]) -> &[Self] {
        buckets.as_flattened()
    }

    #[inline]
    fn entries_mut(buckets: &mut [Self::Bucket]) -> &mut [Self] {
        buckets.as_flattened_mut()
    }

    #[inline]
    fn new(key: &KeyV6, to: &KeyV6, mut meta: Meta, lent: &mut Lent) -> Option<Self> {
        let (end, seen, dst, put_in) = if meta.is_reply() {
            (to.dst, key.dst, to.dst, to.src)
        } else {
            (key.src, to.src, key.dst, to.dst)
        };
        if seen != end {
            meta.kind |= lent.hold(seen)? << LENT_SHIFT;
        }
        Some(Self { src: key.src, dst, put_in, ports: key.ports, new_ports: to.ports, meta })
    }

    fn release(&self, lent: &mut Lent) {
        lent.release(self.meta.lent());
    }

    fn key(&self, lent: &Lent) -> KeyV6 {
        let protocol = self.meta.protocol();
        KeyV6 { src: self.src, dst: *self.key_dst(lent), ports: self.ports, protocol }
    }

    // Not through memory: what is written in halves and read as a whole costs a stall.
    #[inline(always)]
    fn translated(&self, lent: &Lent) -> KeyV6 {
        let (reply, number) = (self.meta.is_reply(), self.meta.lent());
        let seen = select_unpredictable(number == lent::OWN, &self.src, lent.address(number));
        let src = *select_unpredictable(reply, &self.put_in, seen);
        let dst = *select_unpredictable(reply, &self.dst, &self.put_in);
        KeyV6 { src, dst, ports: self.new_ports, protocol: self.meta.protocol() }
    }

    #[inline]
    fn matches(&self, key: &KeyV6, lent: &Lent) -> bool {
        let own_dst = self.key_dst(lent);
        let src = (self.src[0] ^ key.src[0]) | (self.src[1] ^ key.src[1]);
        let dst = (own_dst[0] ^ key.dst[0]) | (own_dst[1] ^ key.dst[1]);
        let ports = u64::from(self.ports ^ key.ports);
        // The lent address is compared already, so its number may be any.
        let number = self.meta.lent() << LENT_SHIFT;
        let kind = u64::from(self.meta.kind ^ number ^ kind(key.protocol));
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
    use zerocopy::FromZeros;

    use super::*;
    use crate::flow::{Address, Tuple};

    fn meta(reply: bool) -> Meta {
        Meta::new(Protocol::Udp, reply, State::UdpReplied, BackendId(7), 9)
    }

    fn tuple(src: Address, dst: Address) -> Tuple {
        Tuple { src, dst, sport: 1, dport: 65_535, protocol: Protocol::Udp }
    }

    #[test]
    fn a_bucket_is_a_cache_line() {
        assert_eq!((size_of::<<EntryV4 as Entry>::Bucket>(), EntryV4::SLOTS), (64, 2));
        assert_eq!((size_of::<<EntryV6 as Entry>::Bucket>(), EntryV6::SLOTS), (64, 1));
        assert_eq!(align_of::<EntryV6>(), 64);
    }

    #[test]
    fn an_entry_gives_back_what_it_was_made_of() {
        let (a, b) = (Address::v4([1, 2, 3, 4]), Address::v4([255, 0, 0, 9]));
        let (from, to) = (tuple(a, b), tuple(b, a));
        let entry = EntryV4::new(&Key::of(&from), &Key::of(&to), meta(true), &mut ())
            .expect("needs nothing");
        assert_eq!((entry.key(&()).tuple(), entry.translated(&()).tuple()), (from, to));
        assert!(entry.matches(&Key::of(&from), &()) && !entry.matches(&Key::of(&to), &()));
        assert!(entry.meta().is_reply() && entry.meta().state() == State::UdpReplied);
    }

    /// Every way in which the four addresses of a connection can be equal or not, and in both directions.
    #[test]
    fn an_ipv6_entry_gives_back_any_four_addresses() {
        let address = |number: u8| Address::v6([number; 16]);
        for choice in 0..=u8::MAX {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| address(choice >> (2 * i) & 3));
            for reply in [false, true] {
                let mut lent = Lent::default();
                let (from, to) = (tuple(a, b), tuple(c, d));
                let entry = EntryV6::new(&Key::of(&from), &Key::of(&to), meta(reply), &mut lent);
                let entry = entry.expect("one number");
                let read = (entry.key(&lent).tuple(), entry.translated(&lent).tuple());
                assert_eq!(read, (from, to), "reply {reply}");
                assert!(entry.meta().is_occupied() && entry.meta().is_reply() == reply);
                assert_eq!(entry.meta().protocol(), Protocol::Udp);
                assert!(entry.matches(&Key::of(&from), &lent));
                for other in (0..4).map(address) {
                    let same =
                        |flow: Tuple| entry.matches(&Key::of(&flow), &lent) == (flow == from);
                    assert!(same(tuple(a, other)) && same(tuple(other, b)));
                }
                assert!(!entry.matches(&Key::of(&Tuple { sport: 2, ..from }), &lent));
                let tcp = Tuple { protocol: Protocol::Tcp, ..from };
                assert!(!entry.matches(&Key::of(&tcp), &lent));
            }
        }
    }

    #[test]
    fn a_free_slot_matches_nothing() {
        let zero = tuple(Address(0), Address(0));
        let key = KeyV6::of(&Tuple { sport: 0, dport: 0, protocol: Protocol::Tcp, ..zero });
        assert!(!EntryV6::new_zeroed().matches(&key, &Lent::default()));
    }
}

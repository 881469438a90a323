//! 5-tuples the way tables keep them: the bytes of the header's fields, read as little-endian words.
//!
//! An ordinary packet is then hashed and compared with a few loads and no byte swap, on every architecture with the
//! same result.

use std::net::SocketAddr;

use crate::flow::{Address, Protocol, Tuple};
use crate::hash::{HashKey, high32, low32};

/// The flow of an IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyV4 {
    /// Source and destination address: bytes 12 to 19 of the header.
    pub addresses: u64,
    /// Source and destination port: bytes 0 to 3 of the transport header.
    pub ports: u32,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// The flow of an IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyV6 {
    /// Source address: bytes 8 to 23 of the header.
    pub src: [u64; 2],
    /// Destination address: bytes 24 to 39.
    pub dst: [u64; 2],
    /// Source and destination port: bytes 0 to 3 of the transport header.
    pub ports: u32,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// A flow in this form, of either family.
pub trait Key: Copy + PartialEq {
    /// The key of a flow of this family.
    fn of(tuple: &Tuple) -> Self;
    /// The flow.
    fn tuple(&self) -> Tuple;
    /// Transport protocol.
    fn protocol(&self) -> Protocol;
    /// Its hash.
    fn hash(&self, key: &HashKey) -> u64;
    /// The flow of packets that answer.
    fn reversed(&self) -> Self;
    /// The same from the same source to another destination; `None` for one of the other family.
    fn redirected(&self, to: SocketAddr) -> Option<Self>;
    /// Whether source and destination are one address.
    fn is_to_itself(&self) -> bool;
}

impl Key for KeyV4 {
    #[inline]
    fn of(tuple: &Tuple) -> Self {
        let (src, dst) = (tuple.src.low32().swap_bytes(), tuple.dst.low32().swap_bytes());
        Self {
            addresses: u64::from(src) | u64::from(dst) << 32,
            ports: tuple.ports().swap_bytes(),
            protocol: tuple.protocol,
        }
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "each half of the word is an address")]
    fn tuple(&self) -> Tuple {
        let address = |bits: u32| Address::v4(bits.to_le_bytes());
        let (src, dst) = (address(self.addresses as u32), address((self.addresses >> 32) as u32));
        join(src, dst, self.ports, self.protocol)
    }

    #[inline]
    fn protocol(&self) -> Protocol {
        self.protocol
    }

    #[inline]
    fn hash(&self, key: &HashKey) -> u64 {
        key.v4(self)
    }

    #[inline]
    fn reversed(&self) -> Self {
        let (addresses, ports) = (self.addresses.rotate_left(32), self.ports.rotate_left(16));
        Self { addresses, ports, protocol: self.protocol }
    }

    #[inline]
    fn redirected(&self, to: SocketAddr) -> Option<Self> {
        let SocketAddr::V4(to) = to else { return None };
        let dst = u32::from_le_bytes(to.ip().octets());
        let addresses = u64::from(low32(self.addresses)) | u64::from(dst) << 32;
        Some(Self { addresses, ports: with_dport(self.ports, to.port()), protocol: self.protocol })
    }

    #[inline]
    fn is_to_itself(&self) -> bool {
        low32(self.addresses) == high32(self.addresses)
    }
}

impl Key for KeyV6 {
    #[inline]
    fn of(tuple: &Tuple) -> Self {
        Self {
            src: split(tuple.src),
            dst: split(tuple.dst),
            ports: tuple.ports().swap_bytes(),
            protocol: tuple.protocol,
        }
    }

    #[inline]
    fn tuple(&self) -> Tuple {
        join(unsplit(self.src), unsplit(self.dst), self.ports, self.protocol)
    }

    #[inline]
    fn protocol(&self) -> Protocol {
        self.protocol
    }

    #[inline]
    fn hash(&self, key: &HashKey) -> u64 {
        key.v6(self)
    }

    #[inline]
    fn reversed(&self) -> Self {
        let ports = self.ports.rotate_left(16);
        Self { src: self.dst, dst: self.src, ports, protocol: self.protocol }
    }

    #[inline]
    fn redirected(&self, to: SocketAddr) -> Option<Self> {
        let SocketAddr::V6(to) = to else { return None };
        let dst = split(Address::v6(to.ip().octets()));
        Some(Self { dst, ports: with_dport(self.ports, to.port()), ..*self })
    }

    #[inline]
    fn is_to_itself(&self) -> bool {
        self.src == self.dst
    }
}

/// The destination's port is in the last two bytes.
#[inline]
fn with_dport(ports: u32, dport: u16) -> u32 {
    ports & 0xffff | u32::from(dport.swap_bytes()) << 16
}

#[inline]
fn join(src: Address, dst: Address, ports: u32, protocol: Protocol) -> Tuple {
    let [a, b, c, d] = ports.to_le_bytes();
    let (sport, dport) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Tuple { src, dst, sport, dport, protocol }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "both halves are kept")]
fn split(address: Address) -> [u64; 2] {
    let bits = address.0.swap_bytes();
    [bits as u64, (bits >> 64) as u64]
}

#[inline]
fn unsplit(halves: [u64; 2]) -> Address {
    Address((u128::from(halves[0]) | u128::from(halves[1]) << 64).swap_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_the_bytes_of_the_header_in_order() {
        let tuple = Tuple {
            src: Address::v4([192, 0, 2, 1]),
            dst: Address::v4([10, 96, 0, 7]),
            sport: 0x1234,
            dport: 80,
            protocol: Protocol::Tcp,
        };
        let key = KeyV4::of(&tuple);
        assert_eq!(key.addresses.to_le_bytes(), [192, 0, 2, 1, 10, 96, 0, 7]);
        assert_eq!(key.ports.to_le_bytes(), [0x12, 0x34, 0, 80]);
        assert_eq!(key.tuple(), tuple);
        edits_equal_those_of_tuples::<KeyV4>(&tuple, "10.0.0.1:8080", "[2001:db8::1]:8080");
        let src: [u8; 16] = std::array::from_fn(|i| i as u8 + 1);
        let tuple = Tuple { src: Address::v6(src), dst: Address::v6([9; 16]), ..tuple };
        let key = KeyV6::of(&tuple);
        assert_eq!([key.src[0].to_le_bytes(), key.src[1].to_le_bytes()].concat(), src);
        assert_eq!(key.tuple(), tuple);
        edits_equal_those_of_tuples::<KeyV6>(&tuple, "[2001:db8::1]:8080", "10.0.0.1:8080");
    }

    fn edits_equal_those_of_tuples<K: Key>(flow: &Tuple, other: &str, other_family: &str) {
        let (key, hash_key) = (K::of(flow), HashKey::new(5));
        assert_eq!(key.hash(&hash_key), hash_key.tuple(flow));
        assert_eq!(key.reversed().tuple(), flow.reversed());
        let to: SocketAddr = other.parse().expect("an address and a port");
        let redirected = key.redirected(to).expect("the same family");
        assert_eq!(redirected.tuple(), Tuple { dst: to.ip().into(), dport: to.port(), ..*flow });
        assert!(key.redirected(other_family.parse().expect("an address and a port")).is_none());
        let back = key.redirected(SocketAddr::new(flow.src.ip(), 1)).expect("the same family");
        assert!(back.is_to_itself() && !key.is_to_itself());
    }
}

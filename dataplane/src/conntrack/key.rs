//! 5-tuples the way tables keep them: the bytes of the header's fields, read as little-endian words.
//!
//! An ordinary packet is then hashed and compared with a few loads and no byte swap, on every architecture with the
//! same result.

use crate::flow::{Address, Protocol, Tuple};

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

/// Converts between a [`Tuple`] and what stands in headers.
pub trait Key: Copy + PartialEq {
    /// The key of a flow of this family.
    fn of(tuple: &Tuple) -> Self;
    /// The flow.
    fn tuple(&self) -> Tuple;
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
        let src: [u8; 16] = std::array::from_fn(|i| i as u8 + 1);
        let tuple = Tuple { src: Address::v6(src), dst: Address::v6([9; 16]), ..tuple };
        let key = KeyV6::of(&tuple);
        assert_eq!([key.src[0].to_le_bytes(), key.src[1].to_le_bytes()].concat(), src);
        assert_eq!(key.tuple(), tuple);
    }
}

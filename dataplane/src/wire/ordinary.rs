//! The first look at a frame: is it an ordinary packet? Then its flow is read with a few loads at fixed places.
//!
//! Ordinary: addressed to this port, untagged, IPv4 without options or IPv6 without extension headers, whole, more
//! than one hop to live, right lengths and header checksum, TCP or UDP with checksum. Everything [`super::parse`]
//! checks is checked here too, but for sources that cannot be: a connection of such a one is never in the table.

use super::checksum::add;
use super::{TCP, UDP};
use crate::conntrack::key::{KeyV4, KeyV6};
use crate::fib::Mac;
use crate::flow::Protocol;

/// What was seen of an ordinary packet.
#[derive(Clone, Copy, Debug)]
pub struct Ordinary<K> {
    /// Its flow.
    pub key: K,
    /// Length of the IP packet in bytes.
    pub ip_len: u16,
    /// TCP flags; none for UDP.
    pub flags: u8,
}

/// Bytes of the headers: Ethernet, IPv4, UDP.
pub(crate) const V4_UDP: usize = 42;
/// Ethernet, IPv4, TCP.
const V4_TCP: usize = 54;
/// Ethernet, IPv6, UDP.
pub(crate) const V6_UDP: usize = 62;
/// Ethernet, IPv6, TCP.
const V6_TCP: usize = 74;

/// A MAC address as [`v4`] and [`v6`] want it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MacWord(u64);

impl From<Mac> for MacWord {
    fn from([a, b, c, d, e, f]: Mac) -> Self {
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }
}

impl MacWord {
    #[inline]
    fn is_destination<const N: usize>(self, frame: &[u8; N]) -> bool {
        u64_at(frame, 0) << 16 == self.0 << 16
    }
}

/// An ordinary IPv4 packet for `mac`; `None` for anything else.
#[inline]
#[must_use]
pub fn v4(frame: &[u8], mac: MacWord) -> Option<Ordinary<KeyV4>> {
    // EtherType, version 4 and five words of header, as they lie in memory.
    const TYPE: u32 = u32::from_le_bytes([0x08, 0x00, 0x45, 0]);
    let header: &[u8; V4_UDP] = frame.first_chunk()?;
    let ip_len = u16_at(header, 16);
    let addresses = u64_at(header, 26);
    // Hop limit, protocol and checksum.
    let middle = u32_at(header, 22);
    let sane = u32_at(header, 12) & 0x00ff_ffff == TYPE
        && mac.is_destination(header)
        && usize::from(ip_len) + 14 <= frame.len()
        && u16_at(header, 20) & 0x3fff == 0
        && middle & 0xff > 1
        && is_whole_sum(u64_at(header, 14), u64::from(middle), addresses);
    if !sane {
        return None;
    }
    let (protocol, flags) = match header[23] {
        UDP => (Protocol::Udp, flags_of_datagram(u16_at(header, 38), ip_len, 20)?),
        TCP => {
            let header: &[u8; V4_TCP] = frame.first_chunk()?;
            (Protocol::Tcp, flags_of_segment(header[46], header[47], ip_len, 20)?)
        }
        _ => return None,
    };
    let key = KeyV4 { addresses, ports: u32_at(header, 34), protocol };
    Some(Ordinary { key, ip_len, flags })
}

/// An ordinary IPv6 packet for `mac`; `None` for anything else.
#[inline]
#[must_use]
pub fn v6(frame: &[u8], mac: MacWord) -> Option<Ordinary<KeyV6>> {
    const TYPE: u32 = u32::from_le_bytes([0x86, 0xdd, 0x60, 0]);
    let header: &[u8; V6_UDP] = frame.first_chunk()?;
    let ip_len = u16_at(header, 18).checked_add(40)?;
    let sane = u32_at(header, 12) & 0x00f0_ffff == TYPE
        && mac.is_destination(header)
        && usize::from(ip_len) + 14 <= frame.len()
        && header[21] > 1;
    if !sane {
        return None;
    }
    let (protocol, flags) = match header[20] {
        // Without a checksum it can't be translated (RFC 8200 section 8.1).
        UDP if u16_at(header, 60) != 0 => {
            (Protocol::Udp, flags_of_datagram(u16_at(header, 58), ip_len, 40)?)
        }
        TCP => {
            let header: &[u8; V6_TCP] = frame.first_chunk()?;
            (Protocol::Tcp, flags_of_segment(header[66], header[67], ip_len, 40)?)
        }
        _ => return None,
    };
    let key = KeyV6 {
        src: [u64_at(header, 22), u64_at(header, 30)],
        dst: [u64_at(header, 38), u64_at(header, 46)],
        ports: u32_at(header, 54),
        protocol,
    };
    Some(Ordinary { key, ip_len, flags })
}

/// Whether the words of a header, its checksum among them, add up to a sum of all ones, which is a multiple of that:
/// one's-complement addition is modulo 0xffff. Only zeros add up to zero, and a header has its version.
#[inline]
fn is_whole_sum(a: u64, b: u64, c: u64) -> bool {
    add(add(a, b), c).is_multiple_of(0xffff)
}

/// None at all, if the lengths of UDP and IP fit each other.
#[inline]
fn flags_of_datagram(udp_len: u16, ip_len: u16, header: u16) -> Option<u8> {
    (udp_len >= 8 && u32::from(udp_len) + u32::from(header) <= u32::from(ip_len)).then_some(0)
}

/// The flags, if the segment's header lies inside the IP packet.
#[inline]
fn flags_of_segment(offset: u8, flags: u8, ip_len: u16, header: u16) -> Option<u8> {
    let len = u16::from(offset >> 4) * 4;
    (len >= 20 && len + header <= ip_len).then_some(flags)
}

#[inline]
fn u16_at<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    let word = bytes[at..].first_chunk();
    word.map_or(0, |word| u32::from_le_bytes(*word))
}

#[inline]
fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    let word = bytes[at..].first_chunk();
    word.map_or(0, |word| u64::from_le_bytes(*word))
}

//! Header edits: addresses, ports, hop limit, and every checksum they touch.
//!
//! Invariants: translating and translating back restores every byte (I3); a right checksum stays right and a wrong one
//! wrong (I9); payload is never touched.

use crate::conntrack::key::{KeyV4, KeyV6};
use crate::flow::{Address, Protocol, Tuple};
use crate::wire::checksum::{self, Delta, add, add32, fold, fold16, fold32};
use crate::wire::{Headers, ICMPV6, Kind, SCTP, TCP, UDP, crc32c, ordinary, set_word, word};

const V4_TTL: usize = 8;
const V4_CHECKSUM: usize = 10;
const V4_SRC: usize = 12;
const V4_DST: usize = 16;
const V6_HOP_LIMIT: usize = 7;
const V6_SRC: usize = 8;
const V6_DST: usize = 24;
const TCP_DATA_OFFSET: usize = 12;
const TCP_CHECKSUM: usize = 16;
const TCP_HEADER: usize = 20;
const UDP_CHECKSUM: usize = 6;
const SCTP_CHECKSUM: usize = 8;

/// Rewrites a packet of flow `from` to flow `to`. A later fragment has no transport header to rewrite.
pub fn translate(frame: &mut [u8], headers: &Headers, from: &Tuple, to: &Tuple) {
    let addresses = Delta::default().address(from.src, to.src).address(from.dst, to.dst);
    set_addresses(frame, headers.l3, headers.v4, to);
    if headers.v4 {
        update(frame, headers.l3 + V4_CHECKSUM, addresses);
    }
    if headers.kind == Kind::Later {
        return;
    }
    if headers.number == SCTP {
        return set_sctp_ports(frame, headers, from, to);
    }
    set_ports(frame, headers.l4, to);
    let delta = addresses.word(from.sport, to.sport).word(from.dport, to.dport);
    update_transport(frame, headers.number, headers.l4, headers.end, delta);
}

/// Rewrites an ordinary IPv4 packet of flow `from` to flow `to`, one hop on, behind new MAC addresses: what
/// [`translate`], [`decrement_ttl`] and [`crate::wire::ethernet::address`] do, at fixed places and with one sum. `None`,
/// and no change, for a frame too short to be one.
#[inline(always)]
pub fn ordinary_v4(frame: &mut [u8], from: &KeyV4, to: &KeyV4, ethernet: &[u8; 12]) -> Option<()> {
    let header: &mut [u8; ordinary::V4_UDP] = frame.first_chunk_mut()?;
    // The words of a sum may have any size and order as long as the result is stored in the same (RFC 1071 section 2).
    let addresses = fold32(change(0, from.addresses, to.addresses));
    header[..12].copy_from_slice(ethernet);
    header[22] -= 1;
    // TTL is the first byte of its word: one less makes the sum less by one.
    let sum = fold16(add32(addresses, u32::from(!u16_at(header, 24)) + 0xfffe));
    header[24..26].copy_from_slice(&(!sum).to_le_bytes());
    header[26..34].copy_from_slice(&to.addresses.to_le_bytes());
    header[34..38].copy_from_slice(&to.ports.to_le_bytes());
    let delta = add32(add32(addresses, !from.ports), to.ports);
    if from.protocol == Protocol::Udp {
        let old = u16_at(header, 40);
        header[40..42].copy_from_slice(&udp_checksum(old, delta).to_le_bytes());
    } else {
        tcp_checksum(frame, 50, delta)?;
    }
    Some(())
}

/// Sends an ordinary IPv4 packet one hop on as it is, behind new MAC addresses.
#[inline]
pub fn hop_v4(frame: &mut [u8], ethernet: &[u8; 12]) -> Option<()> {
    let header: &mut [u8; ordinary::V4_UDP] = frame.first_chunk_mut()?;
    header[..12].copy_from_slice(ethernet);
    header[22] -= 1;
    let sum = fold(u64::from(!u16_at(header, 24)) + 0xfffe);
    header[24..26].copy_from_slice(&(!sum).to_le_bytes());
    Some(())
}

/// The same for IPv6.
#[inline]
pub fn hop_v6(frame: &mut [u8], ethernet: &[u8; 12]) -> Option<()> {
    let header: &mut [u8; ordinary::V6_UDP] = frame.first_chunk_mut()?;
    header[..12].copy_from_slice(ethernet);
    header[21] -= 1;
    Some(())
}

/// As [`ordinary_v4`], for IPv6.
#[inline(always)]
pub fn ordinary_v6(frame: &mut [u8], from: &KeyV6, to: &KeyV6, ethernet: &[u8; 12]) -> Option<()> {
    let header: &mut [u8; ordinary::V6_UDP] = frame.first_chunk_mut()?;
    header[..12].copy_from_slice(ethernet);
    header[21] -= 1;
    header[22..30].copy_from_slice(&to.src[0].to_le_bytes());
    header[30..38].copy_from_slice(&to.src[1].to_le_bytes());
    header[38..46].copy_from_slice(&to.dst[0].to_le_bytes());
    header[46..54].copy_from_slice(&to.dst[1].to_le_bytes());
    header[54..58].copy_from_slice(&to.ports.to_le_bytes());
    let mut addresses = 0;
    for half in 0..2 {
        addresses = change(addresses, from.src[half], to.src[half]);
        addresses = change(addresses, from.dst[half], to.dst[half]);
    }
    let delta = add32(add32(fold32(addresses), !from.ports), to.ports);
    if from.protocol == Protocol::Udp {
        let old = u16_at(header, 60);
        header[60..62].copy_from_slice(&udp_checksum(old, delta).to_le_bytes());
    } else {
        tcp_checksum(frame, 70, delta)?;
    }
    Some(())
}

/// Adds to a sum what replacing one word by another does.
#[inline]
fn change(sum: u64, old: u64, new: u64) -> u64 {
    add(add(sum, !old), new)
}

#[inline]
fn tcp_checksum(frame: &mut [u8], at: usize, delta: u32) -> Option<()> {
    let checksum: &mut [u8; 2] = frame.get_mut(at..)?.first_chunk_mut()?;
    let sum = fold16(add32(delta, u32::from(!u16::from_le_bytes(*checksum))));
    *checksum = (!sum).to_le_bytes();
    Some(())
}

/// See [`Delta::apply_udp`].
#[inline]
fn udp_checksum(old: u16, delta: u32) -> u16 {
    let new = !fold16(add32(delta, u32::from(!old)));
    match (old, new) {
        (0, _) => 0,
        (_, 0) => 0xffff,
        _ => new,
    }
}

#[inline]
fn u16_at<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Rewrites an ICMP error about a packet of a translated connection (RFC 5508 section 4).
///
/// `answer` is the flow of packets that answer the quoted one, `to` what they become. The quoted packet becomes what
/// its sender sent, the destination that sender; the source stays a router's own, unless it is the translated host.
pub fn translate_error(
    frame: &mut [u8],
    headers: &Headers,
    quoted_l3: usize,
    quoted_l4: usize,
    answer: &Tuple,
    to: &Tuple,
) {
    let (before, after) = (answer.reversed(), to.reversed());
    // Inner: addresses, ports and the checksums over them, as far as they are quoted.
    let addresses = Delta::default().address(before.src, after.src).address(before.dst, after.dst);
    set_addresses(frame, quoted_l3, headers.v4, &after);
    if headers.v4 {
        update(frame, quoted_l3 + V4_CHECKSUM, addresses);
    }
    set_ports(frame, quoted_l4, &after);
    let delta = addresses.word(before.sport, after.sport).word(before.dport, after.dport);
    update_transport(frame, answer.protocol.number(), quoted_l4, headers.end, delta);
    // Outer.
    let src = if headers.src == answer.src { to.src } else { headers.src };
    let outer = Tuple { src, dst: to.dst, ..*to };
    set_addresses(frame, headers.l3, headers.v4, &outer);
    if headers.v4 {
        let delta = Delta::default().address(headers.src, src).address(headers.dst, to.dst);
        update(frame, headers.l3 + V4_CHECKSUM, delta);
    }
    // The parser dropped errors with a wrong checksum, so computing it anew repairs nothing.
    icmp_checksum(frame, headers, src, to.dst);
}

/// Lowers the maximum segment size (RFC 9293 section 3.7.1) that the TCP header from `l4` on announces to `most`, if it
/// announces more. Nothing of it lies beyond `end`; options that contradict themselves stay as they are.
pub fn clamp_mss(frame: &mut [u8], l4: usize, end: usize, most: u16) {
    const OPTION_END: u8 = 0;
    const OPTION_NOP: u8 = 1;
    const OPTION_MSS: [u8; 2] = [2, 4];
    let Some(header) = frame.get_mut(l4..end) else { return };
    let len = header.get(TCP_DATA_OFFSET).map_or(0, |offset| usize::from(offset >> 4) * 4);
    let len = len.min(header.len());
    let mut at = TCP_HEADER;
    while at + 4 <= len {
        at += match [header[at], header[at + 1]] {
            [OPTION_END, _] => return,
            [OPTION_NOP, _] => 1,
            OPTION_MSS => {
                let [old, new] = [word(header, at + 2), most];
                if old > new {
                    set_word(header, at + 2, new);
                    // At an odd place each of its bytes is in the other half of a word of the sum.
                    let odd = at % 2 == 1;
                    let [old, new] = if odd { [old, new].map(u16::swap_bytes) } else { [old, new] };
                    update(header, TCP_CHECKSUM, Delta::default().word(old, new));
                }
                return;
            }
            [_, len] if len >= 2 => usize::from(len),
            _ => return,
        };
    }
}

/// One hop: TTL or hop limit minus one. The caller has checked that it is above one.
pub fn decrement_ttl(frame: &mut [u8], headers: &Headers) {
    let l3 = headers.l3;
    if headers.v4 {
        let old = word(frame, l3 + V4_TTL);
        frame[l3 + V4_TTL] -= 1;
        let delta = Delta::default().word(old, word(frame, l3 + V4_TTL));
        update(frame, l3 + V4_CHECKSUM, delta);
    } else {
        frame[l3 + V6_HOP_LIMIT] -= 1;
    }
}

/// Sets the checksum of the ICMP or ICMPv6 message that the packet carries.
pub fn icmp_checksum(frame: &mut [u8], headers: &Headers, src: Address, dst: Address) {
    set_word(frame, headers.l4 + 2, 0);
    let message = &frame[headers.l4..headers.end];
    let pseudo =
        if headers.v4 { 0 } else { checksum::pseudo_header(src, dst, ICMPV6, message.len()) };
    let value = checksum::finish(pseudo + checksum::sum(message));
    set_word(frame, headers.l4 + 2, value);
}

fn set_addresses(frame: &mut [u8], l3: usize, v4: bool, to: &Tuple) {
    if v4 {
        frame[l3 + V4_SRC..l3 + V4_SRC + 4].copy_from_slice(&to.src.low32().to_be_bytes());
        frame[l3 + V4_DST..l3 + V4_DST + 4].copy_from_slice(&to.dst.low32().to_be_bytes());
    } else {
        frame[l3 + V6_SRC..l3 + V6_SRC + 16].copy_from_slice(&to.src.0.to_be_bytes());
        frame[l3 + V6_DST..l3 + V6_DST + 16].copy_from_slice(&to.dst.0.to_be_bytes());
    }
}

fn set_ports(frame: &mut [u8], l4: usize, to: &Tuple) {
    frame[l4..l4 + 4].copy_from_slice(&to.ports().to_be_bytes());
}

/// SCTP's checksum knows nothing of addresses, but ports stand in what it covers (RFC 9260 section 6.8).
fn set_sctp_ports(frame: &mut [u8], headers: &Headers, from: &Tuple, to: &Tuple) {
    let difference = from.ports() ^ to.ports();
    if difference == 0 {
        return;
    }
    set_ports(frame, headers.l4, to);
    let packet = &mut frame[headers.l4..headers.end];
    let change = crc32c::change(difference.to_be_bytes(), packet.len() - 4);
    let checksum = &mut packet[SCTP_CHECKSUM..SCTP_CHECKSUM + 4];
    for (byte, change) in checksum.iter_mut().zip(change.to_le_bytes()) {
        *byte ^= change;
    }
}

/// Updates the transport checksum if it lies before `end`: a quoted packet may be cut in front of it.
fn update_transport(frame: &mut [u8], number: u8, l4: usize, end: usize, delta: Delta) {
    match number {
        TCP if l4 + TCP_CHECKSUM + 2 <= end => update(frame, l4 + TCP_CHECKSUM, delta),
        UDP if l4 + UDP_CHECKSUM + 2 <= end => {
            let old = word(frame, l4 + UDP_CHECKSUM);
            set_word(frame, l4 + UDP_CHECKSUM, delta.apply_udp(old));
        }
        _ => {}
    }
}

fn update(frame: &mut [u8], at: usize, delta: Delta) {
    let old = word(frame, at);
    set_word(frame, at, delta.apply(old));
}

//! Frames turned into their own answers: ARP and neighbour advertisements, echo replies, resets, ICMP errors.
//!
//! Everything is built in the buffer of the frame that asked, so a worker never needs a fresh one. The answer leaves by
//! the port the question came in by, to the MAC address it came from.

use crate::fib::Mac;
use crate::flow::Address;
use crate::nic::Frame;
use crate::rewrite::icmp_checksum;
use crate::wire::checksum::{self, Delta};
use crate::wire::{Headers, ICMP, ICMPV6, Kind, TCP, ethernet, set_word, tcp_flags, word};

const HOP_LIMIT: u8 = 64;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const ICMP_HEADER: usize = 8;
/// An IPv4 error quotes as much as fits 576 bytes (RFC 1812 section 4.3.2.3), an IPv6 one 1280 (RFC 4443 section 2.4).
const V4_ERROR_MAX: usize = 576;
const V6_ERROR_MAX: usize = 1280;

/// ICMP errors this gateway sends in its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Destination unreachable, port unreachable.
    PortUnreachable,
    /// Time exceeded in transit.
    TimeExceeded,
    /// Fragmentation needed, packet too big: the MTU of the next link in bytes.
    TooBig(u16),
}

impl Error {
    /// Type, code and the word behind the checksum.
    fn fields(self, v4: bool) -> (u8, u8, u32) {
        match (self, v4) {
            (Self::PortUnreachable, true) => (3, 3, 0),
            (Self::PortUnreachable, false) => (1, 4, 0),
            (Self::TimeExceeded, true) => (11, 0, 0),
            (Self::TimeExceeded, false) => (3, 0, 0),
            (Self::TooBig(mtu), true) => (3, 4, u32::from(mtu)),
            (Self::TooBig(mtu), false) => (2, 0, u32::from(mtu)),
        }
    }
}

/// Whether a packet may be answered with an error or a reset at all (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e).
#[must_use]
pub fn may_answer(frame: &[u8], headers: &Headers) -> bool {
    let refused = match headers.kind {
        Kind::IcmpError { .. } | Kind::Later => true,
        Kind::Tcp { flags, .. } => flags & tcp_flags::RST != 0,
        // An ICMP message that is no request may be an error about something untranslatable.
        Kind::Other => matches!(headers.number, ICMP | ICMPV6),
        _ => false,
    };
    !refused && !ethernet::is_group(ethernet::destination(frame))
}

/// "Target is at `mac`", to the sender of an ARP request.
pub fn arp(frame: &mut [u8], at: usize, mac: Mac) {
    let asker: [u8; 10] = std::array::from_fn(|i| frame[at + 8 + i]);
    let target: [u8; 4] = std::array::from_fn(|i| frame[at + 24 + i]);
    set_word(frame, at + 6, ethernet::ARP_REPLY);
    frame[at + 8..at + 14].copy_from_slice(&mac);
    frame[at + 14..at + 18].copy_from_slice(&target);
    frame[at + 18..at + 28].copy_from_slice(&asker);
    turn_back(frame, mac);
}

/// A neighbour advertisement (RFC 4861 section 4.4) for `target`. `false` when the buffer is too small.
pub fn neighbor_advertisement<F: Frame>(
    frame: &mut F,
    headers: &Headers,
    target: Address,
    mac: Mac,
) -> bool {
    const ADVERTISEMENT: u8 = 136;
    const SOLICITED_OVERRIDE: u8 = 0x60;
    const OVERRIDE: u8 = 0x20;
    const LEN: usize = 32;
    const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let l4 = headers.l3 + V6_HEADER;
    if !frame.set_len(l4 + LEN) {
        return false;
    }
    // An unspecified source asks during duplicate address detection: everybody must hear the answer.
    let probing = headers.src.0 == 0;
    let dst = if probing { Address::v6(ALL_NODES) } else { headers.src };
    let bytes = frame.bytes_mut();
    if probing {
        ethernet::address(bytes, [0x33, 0x33, 0, 0, 0, 1], mac);
    } else {
        turn_back(bytes, mac);
    }
    v6_header(bytes, headers.l3, target, dst, ICMPV6, LEN, 255);
    let message = &mut bytes[l4..l4 + LEN];
    message.fill(0);
    message[0] = ADVERTISEMENT;
    message[4] = if probing { OVERRIDE } else { SOLICITED_OVERRIDE };
    message[8..24].copy_from_slice(&target.0.to_be_bytes());
    message[24..26].copy_from_slice(&[2, 1]);
    message[26..32].copy_from_slice(&mac);
    let answer = Headers { l4, end: l4 + LEN, ..*headers };
    icmp_checksum(bytes, &answer, target, dst);
    true
}

/// The reply to an echo request: the same payload, from the address that was asked.
pub fn echo_reply(frame: &mut [u8], headers: &Headers, mac: Mac) {
    let Headers { l3, l4, src, dst, .. } = *headers;
    turn_back(frame, mac);
    let old = word(frame, l4);
    frame[l4] = if headers.v4 { 0 } else { 129 };
    let delta = Delta::default().word(old, word(frame, l4));
    let updated = delta.apply(word(frame, l4 + 2));
    set_word(frame, l4 + 2, updated);
    // Swapping addresses leaves both sums as they are, but for the hop limit that starts anew.
    if headers.v4 {
        frame[l3 + 12..l3 + 16].copy_from_slice(&dst.low32().to_be_bytes());
        frame[l3 + 16..l3 + 20].copy_from_slice(&src.low32().to_be_bytes());
        frame[l3 + 8] = HOP_LIMIT;
        v4_checksum(frame, l3, l4 - l3);
    } else {
        frame[l3 + 8..l3 + 24].copy_from_slice(&dst.0.to_be_bytes());
        frame[l3 + 24..l3 + 40].copy_from_slice(&src.0.to_be_bytes());
        frame[l3 + 7] = HOP_LIMIT;
    }
}

/// The reset that answers a TCP segment (RFC 9293 section 3.10.7.1). `false` when the buffer is too small.
pub fn reset<F: Frame>(frame: &mut F, headers: &Headers, mac: Mac) -> bool {
    let Headers { l3, l4, end, v4, src, dst, .. } = *headers;
    let segment = &frame.bytes()[l4..end];
    let number = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| segment[at + i]));
    let flags = segment[13];
    let payload = segment.len() - usize::from(segment[12] >> 4) * 4;
    let occupied =
        [tcp_flags::SYN, tcp_flags::FIN].iter().filter(|&flag| flags & flag != 0).count();
    let len = u32::try_from(payload + occupied).unwrap_or_default();
    let (seq, ack, reply_flags) = if flags & tcp_flags::ACK != 0 {
        (number(8), 0, tcp_flags::RST)
    } else {
        (0, number(4).wrapping_add(len), tcp_flags::RST | tcp_flags::ACK)
    };
    let ports: [u8; 4] = [segment[2], segment[3], segment[0], segment[1]];
    let l4 = l3 + if v4 { V4_HEADER } else { V6_HEADER };
    if !frame.set_len(l4 + TCP_HEADER) {
        return false;
    }
    let bytes = frame.bytes_mut();
    turn_back(bytes, mac);
    ip_header(bytes, l3, v4, dst, src, TCP, TCP_HEADER);
    let header = &mut bytes[l4..l4 + TCP_HEADER];
    header.fill(0);
    header[..4].copy_from_slice(&ports);
    header[4..8].copy_from_slice(&seq.to_be_bytes());
    header[8..12].copy_from_slice(&ack.to_be_bytes());
    header[12] = 5 << 4;
    header[13] = reply_flags;
    let pseudo = checksum::pseudo_header(dst, src, TCP, TCP_HEADER);
    let value = checksum::finish(pseudo + checksum::sum(header));
    set_word(header, 16, value);
    true
}

/// An ICMP error about the packet, from `source`. `false` when the buffer has no room for it.
pub fn error<F: Frame>(
    frame: &mut F,
    headers: &Headers,
    error: Error,
    source: Address,
    mac: Mac,
) -> bool {
    let Headers { l3, v4, src, .. } = *headers;
    let (header, max) = if v4 { (V4_HEADER, V4_ERROR_MAX) } else { (V6_HEADER, V6_ERROR_MAX) };
    let shift = header + ICMP_HEADER;
    let quoted = headers.ip_len().min(max - shift);
    if !frame.set_len(l3 + quoted) || !frame.grow_front(shift) {
        return false;
    }
    let bytes = frame.bytes_mut();
    bytes.copy_within(shift..shift + l3, 0);
    turn_back(bytes, mac);
    let l4 = l3 + header;
    let (kind, code, rest) = error.fields(v4);
    let number = if v4 { ICMP } else { ICMPV6 };
    ip_header(bytes, l3, v4, source, src, number, ICMP_HEADER + quoted);
    bytes[l4..l4 + 4].copy_from_slice(&[kind, code, 0, 0]);
    bytes[l4 + 4..l4 + 8].copy_from_slice(&rest.to_be_bytes());
    let answer = Headers { l4, end: l4 + ICMP_HEADER + quoted, ..*headers };
    icmp_checksum(bytes, &answer, source, src);
    true
}

/// Ethernet addresses of an answer.
fn turn_back(frame: &mut [u8], mac: Mac) {
    let asker = ethernet::source(frame);
    ethernet::address(frame, asker, mac);
}

fn ip_header(
    frame: &mut [u8],
    l3: usize,
    v4: bool,
    src: Address,
    dst: Address,
    number: u8,
    payload: usize,
) {
    if !v4 {
        v6_header(frame, l3, src, dst, number, payload, HOP_LIMIT);
        return;
    }
    let header = &mut frame[l3..l3 + V4_HEADER];
    header.fill(0);
    header[0] = 4 << 4 | 5;
    set_word(header, 2, len16(V4_HEADER + payload));
    header[8] = HOP_LIMIT;
    header[9] = number;
    header[12..16].copy_from_slice(&src.low32().to_be_bytes());
    header[16..20].copy_from_slice(&dst.low32().to_be_bytes());
    v4_checksum(frame, l3, V4_HEADER);
}

fn v6_header(
    frame: &mut [u8],
    l3: usize,
    src: Address,
    dst: Address,
    number: u8,
    payload: usize,
    hop_limit: u8,
) {
    let header = &mut frame[l3..l3 + V6_HEADER];
    header[..4].copy_from_slice(&[6 << 4, 0, 0, 0]);
    set_word(header, 4, len16(payload));
    header[6] = number;
    header[7] = hop_limit;
    header[8..24].copy_from_slice(&src.0.to_be_bytes());
    header[24..40].copy_from_slice(&dst.0.to_be_bytes());
}

fn v4_checksum(frame: &mut [u8], l3: usize, len: usize) {
    set_word(frame, l3 + 10, 0);
    let value = checksum::finish(checksum::sum(&frame[l3..l3 + len]));
    set_word(frame, l3 + 10, value);
}

/// Answers are at most 1280 bytes long.
fn len16(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

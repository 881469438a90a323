//! Header edits: addresses, ports, hop limit, and every checksum they touch.
//!
//! Invariants: translating and translating back restores every byte (I3); a right checksum stays right and a wrong one
//! wrong (I9); payload is never touched.

use crate::flow::{Address, Tuple};
use crate::wire::checksum::{self, Delta};
use crate::wire::{Headers, ICMPV6, Kind, TCP, UDP, set_word, word};

const V4_TTL: usize = 8;
const V4_CHECKSUM: usize = 10;
const V4_SRC: usize = 12;
const V4_DST: usize = 16;
const V6_HOP_LIMIT: usize = 7;
const V6_SRC: usize = 8;
const V6_DST: usize = 24;
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

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
    set_ports(frame, headers.l4, to);
    let delta = addresses.word(from.sport, to.sport).word(from.dport, to.dport);
    update_transport(frame, headers.number, headers.l4, headers.end, delta);
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

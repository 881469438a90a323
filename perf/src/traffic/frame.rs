//! Frames: built by a client, judged on arrival, turned into the backend's reply.
//!
//! Every checksum is complete, computed over the bytes that are sent, and verified over the bytes that arrived.
//! Behind its tag a payload holds a fixed pattern, so that an altered byte shows even where a checksum would not.

use dataplane::fib::Mac;
use dataplane::flow::{Protocol, Tuple};
use dataplane::verdict::DropReason;
use dataplane::wire::{self, Headers, Kind, Parsed, checksum, ethernet, set_word, tcp_flags, word};

use super::tag::{self, Direction, Tag};

/// Bytes of a frame that DPDK does not see but frame sizes count.
pub(super) const FCS: usize = 4;
const ETHERNET: usize = 14;
const HOP_LIMIT: u8 = 64;

/// What TCP says in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) flags: u8,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
}

impl Segment {
    /// The acknowledgement number that confirms this segment with `payload` bytes.
    pub(super) fn next(self, payload: u32) -> u32 {
        let flags = [tcp_flags::SYN, tcp_flags::FIN];
        let extra: u32 = flags.iter().map(|flag| u32::from(self.flags & flag != 0)).sum();
        self.sequence.wrapping_add(payload).wrapping_add(extra)
    }
}

/// One of our packets, complete and correct as far as a packet alone can tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) headers: Headers,
    pub(super) tuple: Tuple,
    /// All zero for UDP.
    pub(super) segment: Segment,
    pub(super) tag: Tag,
    /// Offset of the payload.
    pub(super) payload: usize,
}

impl Packet {
    /// Length of the payload in bytes.
    pub(super) fn payload_len(&self) -> u32 {
        u32::try_from(self.headers.end - self.payload).unwrap_or_default()
    }
}

/// What a frame that arrived turns out to be.
#[derive(Debug)]
pub(super) enum Arrival {
    Ours(Packet),
    /// An ARP packet at this offset.
    Arp(usize),
    /// Anything else; its headers are fine.
    Other(Headers),
    /// Ours or not, a checksum is wrong.
    BadChecksum,
    /// Our tag on an altered payload.
    Altered,
    /// Not a packet the parser takes.
    Unreadable,
}

/// Length of the shortest frame, with FCS, that has room for a tag.
pub(super) fn shortest(v4: bool, protocol: Protocol) -> usize {
    (ETHERNET + ip_header(v4) + transport_header(protocol) + tag::LEN + FCS).max(64)
}

/// Length of the payload of a client's packet in a frame of `len` bytes, without FCS.
pub(super) fn payload_len(len: usize, tuple: Tuple) -> u32 {
    let headers = ETHERNET + ip_header(tuple.src.is_v4()) + transport_header(tuple.protocol);
    u32::try_from(len - headers).unwrap_or_default()
}

/// Builds a client's packet; `frame` has the length of the whole frame, without FCS.
pub(super) fn build(frame: &mut [u8], macs: [Mac; 2], tuple: Tuple, segment: Segment, tag: Tag) {
    let v4 = tuple.src.is_v4();
    let [destination, source] = macs;
    ethernet::address(frame, destination, source);
    let ether_type = if v4 { ethernet::IPV4 } else { ethernet::IPV6 };
    set_word(frame, 12, ether_type);
    let (l3, l4, end) = (ETHERNET, ETHERNET + ip_header(v4), frame.len());
    if v4 {
        frame[l3..l4].fill(0);
        frame[l3] = 4 << 4 | 5;
        set_word(frame, l3 + 2, length(end - l3));
        // Don't fragment.
        set_word(frame, l3 + 6, 0x4000);
        frame[l3 + 9] = tuple.protocol.number();
    } else {
        frame[l3..l3 + 4].copy_from_slice(&[6 << 4, 0, 0, 0]);
        set_word(frame, l3 + 4, length(end - l4));
        frame[l3 + 6] = tuple.protocol.number();
    }
    let payload = l4 + transport_header(tuple.protocol);
    frame[l4..payload].fill(0);
    match tuple.protocol {
        // A header of five words and a window that is always open.
        Protocol::Tcp => frame[l4 + 12..l4 + 16].copy_from_slice(&[5 << 4, 0, 0xff, 0xff]),
        _ => set_word(frame, l4 + 4, length(end - l4)),
    }
    for (at, byte) in frame[payload + tag::LEN..].iter_mut().enumerate() {
        *byte = pattern(at);
    }
    seal(frame, l3, l4, payload, tuple, segment, tag);
}

/// Turns a packet that reached its backend into the backend's reply.
pub(super) fn reply(frame: &mut [u8], packet: &Packet, macs: [Mac; 2], segment: Segment, now: u64) {
    let [destination, source] = macs;
    ethernet::address(frame, destination, source);
    let Headers { l3, l4, end, .. } = packet.headers;
    let tag = Tag { direction: Direction::Reverse, sent: now, ..packet.tag };
    seal(&mut frame[..end], l3, l4, packet.payload, packet.tuple.reversed(), segment, tag);
}

/// Reads and judges a frame.
pub(super) fn read(frame: &[u8]) -> Arrival {
    let headers = match wire::parse(frame) {
        Ok(Parsed::Ip(headers)) => headers,
        Ok(Parsed::Arp { at }) => return Arrival::Arp(at),
        Err(DropReason::BadIpChecksum | DropReason::BadIcmpChecksum) => {
            return Arrival::BadChecksum;
        }
        Err(_) => return Arrival::Unreadable,
    };
    let Headers { l4, end, .. } = headers;
    let (tuple, header) = match headers.kind {
        Kind::Tcp { tuple, .. } => (tuple, usize::from(frame[l4 + 12] >> 4) * 4),
        Kind::Udp { tuple } => (tuple, transport_header(Protocol::Udp)),
        _ => return Arrival::Other(headers),
    };
    let pseudo = checksum::pseudo_header(tuple.src, tuple.dst, tuple.protocol.number(), end - l4);
    let udp_without = tuple.protocol == Protocol::Udp && word(frame, l4 + 6) == 0;
    if udp_without || checksum::finish(pseudo + checksum::sum(&frame[l4..end])) != 0 {
        return Arrival::BadChecksum;
    }
    let payload = l4 + header;
    let Some(tag) = Tag::read(&frame[payload..end]) else { return Arrival::Other(headers) };
    let rest = &frame[payload + tag::LEN..end];
    if !rest.iter().enumerate().all(|(at, &byte)| byte == pattern(at)) {
        return Arrival::Altered;
    }
    let segment = match headers.kind {
        Kind::Tcp { flags, .. } => {
            Segment { flags, sequence: number(frame, l4 + 4), acknowledged: number(frame, l4 + 8) }
        }
        _ => Segment::default(),
    };
    Arrival::Ours(Packet { headers, tuple, segment, tag, payload })
}

/// Writes all that differs from packet to packet, and the checksums.
fn seal(
    frame: &mut [u8],
    l3: usize,
    l4: usize,
    payload: usize,
    tuple: Tuple,
    segment: Segment,
    tag: Tag,
) {
    let Tuple { src, dst, .. } = tuple;
    if src.is_v4() {
        frame[l3 + 12..l3 + 16].copy_from_slice(&src.low32().to_be_bytes());
        frame[l3 + 16..l3 + 20].copy_from_slice(&dst.low32().to_be_bytes());
        frame[l3 + 8] = HOP_LIMIT;
        set_word(frame, l3 + 10, 0);
        let value = checksum::finish(checksum::sum(&frame[l3..l4]));
        set_word(frame, l3 + 10, value);
    } else {
        frame[l3 + 8..l3 + 24].copy_from_slice(&src.0.to_be_bytes());
        frame[l3 + 24..l3 + 40].copy_from_slice(&dst.0.to_be_bytes());
        frame[l3 + 7] = HOP_LIMIT;
    }
    set_word(frame, l4, tuple.sport);
    set_word(frame, l4 + 2, tuple.dport);
    if tuple.protocol == Protocol::Tcp {
        frame[l4 + 4..l4 + 8].copy_from_slice(&segment.sequence.to_be_bytes());
        frame[l4 + 8..l4 + 12].copy_from_slice(&segment.acknowledged.to_be_bytes());
        frame[l4 + 13] = segment.flags;
    }
    tag.write(&mut frame[payload..]);
    let at = l4 + if tuple.protocol == Protocol::Tcp { 16 } else { 6 };
    set_word(frame, at, 0);
    let len = frame.len() - l4;
    let pseudo = checksum::pseudo_header(src, dst, tuple.protocol.number(), len);
    let value = match checksum::finish(pseudo + checksum::sum(&frame[l4..])) {
        // For UDP zero would say that there is none; for TCP both mean the same.
        0 => 0xffff,
        value => value,
    };
    set_word(frame, at, value);
}

fn ip_header(v4: bool) -> usize {
    if v4 { 20 } else { 40 }
}

fn transport_header(protocol: Protocol) -> usize {
    if protocol == Protocol::Tcp { 20 } else { 8 }
}

#[expect(clippy::cast_possible_truncation, reason = "the low byte makes the pattern")]
fn pattern(at: usize) -> u8 {
    (at as u8).wrapping_mul(37).wrapping_add(11)
}

fn number(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(std::array::from_fn(|i| frame[at + i]))
}

/// Frames are at most as long as the largest MTU takes.
fn length(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const MACS: [Mac; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

    fn tuple(v4: bool, protocol: Protocol) -> Tuple {
        let [src, dst]: [&str; 2] =
            if v4 { ["198.18.0.1", "203.0.113.10"] } else { ["2001:db8::1", "2001:db8:53::10"] };
        let address = |text: &str| text.parse::<IpAddr>().unwrap().into();
        Tuple { src: address(src), dst: address(dst), sport: 5000, dport: 80, protocol }
    }

    fn ours(frame: &[u8]) -> Packet {
        match read(frame) {
            Arrival::Ours(packet) => packet,
            other => panic!("{other:?}"),
        }
    }

    fn built(v4: bool, protocol: Protocol, size: usize) -> Vec<u8> {
        let mut frame = vec![0xee; size - FCS];
        let tag = Tag { direction: Direction::Forward, flow: 3, sequence: 9, sent: 77 };
        let segment = match protocol {
            Protocol::Tcp => Segment { flags: tcp_flags::ACK, sequence: 1000, acknowledged: 2000 },
            _ => Segment::default(),
        };
        build(&mut frame, MACS, tuple(v4, protocol), segment, tag);
        frame
    }

    fn every_kind() -> impl Iterator<Item = (bool, Protocol, usize)> {
        let kinds = [true, false].into_iter().flat_map(|v4| {
            [Protocol::Tcp, Protocol::Udp].map(|protocol| (v4, protocol, shortest(v4, protocol)))
        });
        kinds.flat_map(|(v4, protocol, least)| {
            [least, least + 1, 1518].map(|size| (v4, protocol, size))
        })
    }

    #[test]
    fn frames_read_as_built_and_replies_swap_the_tuple() {
        for (v4, protocol, size) in every_kind() {
            let mut frame = built(v4, protocol, size);
            let packet = ours(&frame);
            assert_eq!(packet.tuple, tuple(v4, protocol));
            assert_eq!((packet.tag.flow, packet.tag.sequence, packet.tag.sent), (3, 9, 77));
            assert_eq!(packet.headers.end, size - FCS);

            let segment = Segment { flags: 0x12, sequence: 5, acknowledged: 6 };
            reply(&mut frame, &packet, [MACS[1], MACS[0]], segment, 99);
            let answer = ours(&frame);
            assert_eq!(answer.tuple, packet.tuple.reversed());
            assert_eq!(answer.tag.direction, Direction::Reverse);
            assert_eq!((answer.tag.flow, answer.tag.sequence, answer.tag.sent), (3, 9, 99));
            assert_eq!(answer.segment == segment, protocol == Protocol::Tcp);
            assert_eq!(ethernet::destination(&frame), MACS[1]);
        }
    }

    #[test]
    fn an_altered_bit_anywhere_behind_the_ethernet_header_is_noticed() {
        for (v4, protocol, size) in every_kind().filter(|(.., size)| *size < 200) {
            let frame = built(v4, protocol, size);
            // Not covered by any checksum of IPv6: traffic class, flow label, hop limit.
            let covered = |at: usize| v4 || !matches!(at, 14..=17 | 21);
            for at in (ETHERNET..frame.len()).filter(|&at| covered(at)) {
                let mut altered = frame.clone();
                altered[at] ^= 0x10;
                let seen = read(&altered);
                assert!(!matches!(seen, Arrival::Ours(_)), "byte {at} of {protocol:?}: {seen:?}");
            }
        }
    }

    #[test]
    fn swapped_payload_words_keep_the_checksum_but_not_the_pattern() {
        let mut frame = built(true, Protocol::Udp, 128);
        frame.swap(80, 82);
        frame.swap(81, 83);
        assert!(matches!(read(&frame), Arrival::Altered));
    }
}

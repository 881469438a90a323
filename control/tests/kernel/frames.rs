//! Frames as a peer on the wire would send them.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::node::{MAC, PEER};

const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// Whether a frame is an ARP message of this operation (1 request, 2 reply) about this target.
pub(crate) fn is_arp(frame: &[u8], operation: u8, target: Ipv4Addr) -> bool {
    frame[12..14] == ARP && frame[21] == operation && frame[38..42] == target.octets()
}

/// An ARP message of the peer at `from`.
pub(crate) fn arp(operation: u8, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let receiver = if operation == 1 { [0xff; 6] } else { MAC };
    let asked = if operation == 1 { [0; 6] } else { MAC };
    let fixed = [0, 1, 8, 0, 6, 4, 0, operation];
    [&receiver[..], &PEER, &ARP, &fixed, &PEER, &from.octets(), &asked, &to.octets()].concat()
}

/// A UDP datagram of the peer, without a UDP checksum.
pub(crate) fn udp(from: Ipv4Addr, to: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = |n: usize| u16::try_from(n).expect("a short datagram").to_be_bytes();
    let ports = [4000u16.to_be_bytes(), port.to_be_bytes()].concat();
    let udp = [&ports[..], &length(8 + payload.len()), &[0, 0], payload].concat();
    let start = [&[0x45, 0], &length(20 + udp.len())[..], &[0, 0, 0, 0, 64, 17, 0, 0]].concat();
    let mut header = [&start[..], &from.octets(), &to.octets()].concat();
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [&MAC[..], &PEER, &IPV4, &header, &udp].concat()
}

/// A neighbour solicitation of the peer for `target`.
pub(crate) fn solicitation(from: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group =
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let option = [&[1, 1][..], &PEER].concat();
    let mut icmp = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &option].concat();
    let pseudo = [&from.octets()[..], &group.octets(), &[0, 0, 0, 32, 0, 0, 0, 58], &icmp].concat();
    icmp[2..4].copy_from_slice(&checksum(&pseudo));
    let header = [&[0x60, 0, 0, 0, 0, 32, 58, 255][..], &from.octets(), &group.octets()].concat();
    [&[0x33, 0x33, 0xff, a, b, c][..], &PEER, &IPV6, &header, &icmp].concat()
}

/// Whether a frame is a neighbour advertisement of `target`.
pub(crate) fn is_advertisement(frame: &[u8], target: Ipv6Addr) -> bool {
    frame[12..14] == IPV6
        && frame.get(54) == Some(&136)
        && frame.get(62..78) == Some(&target.octets()[..])
}

/// Whether a frame is a neighbour solicitation for `target`.
pub(crate) fn is_solicitation(frame: &[u8], target: Ipv6Addr) -> bool {
    frame[12..14] == IPV6
        && frame.get(54) == Some(&135)
        && frame.get(62..78) == Some(&target.octets()[..])
}

/// The Internet checksum (RFC 1071) of bytes of even length.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded")).to_be_bytes()
}

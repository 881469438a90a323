//! First packets, and what becomes of them, as bytes.
//!
//! A packet's number is its source port. It is also where no translation looks: in the sequence number, the initiate tag or
//! the payload. So whatever comes out anywhere can be told apart, refusals too: they name the source port.

use std::net::{IpAddr, SocketAddr};

use crate::cluster::Protocol;

const ETHERNET: usize = 14;
const SYN: u8 = 2;
const RST: u8 = 4;

/// What one frame or datagram says about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sight {
    /// It goes on.
    First { from: SocketAddr, to: SocketAddr },
    /// Somebody says that nobody is there.
    Unreachable { code: u8 },
    /// The connection is refused.
    Reset,
}

/// The IP packet that opens a connection.
pub(crate) fn first(protocol: Protocol, from: IpAddr, number: u16, to: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(number.to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    let mark = u32::from(number).to_be_bytes();
    let checksum_at = match protocol {
        Protocol::Tcp => {
            bytes.extend(mark);
            bytes.extend([0, 0, 0, 0, 5 << 4, SYN, 0x20, 0, 0, 0, 0, 0]);
            16
        }
        Protocol::Udp => {
            bytes.extend([0, 12, 0, 0]);
            bytes.extend(mark);
            6
        }
        Protocol::Sctp => {
            // Verification tag and checksum; then INIT: length, tag, window, streams, first TSN.
            bytes.extend([0; 8]);
            bytes.extend([1, 0, 0, 20]);
            bytes.extend(mark);
            bytes.extend([0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
            let crc = crc32c(&bytes).to_le_bytes();
            bytes[8..12].copy_from_slice(&crc);
            return ip(protocol, from, to.ip(), &bytes);
        }
    };
    let length = u32::try_from(bytes.len()).expect("short");
    let mut pseudo = [octets(from), octets(to.ip())].concat();
    pseudo.extend((length + u32::from(code(protocol))).to_be_bytes());
    pseudo.extend(&bytes);
    let sum = match internet_sum(&pseudo) {
        0 => 0xffff,
        sum => sum,
    };
    bytes[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
    ip(protocol, from, to.ip(), &bytes)
}

pub(crate) fn frame(to: [u8; 6], from: [u8; 6], ip: &[u8]) -> Vec<u8> {
    let ether_type = if ip[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&to[..], &from, &ether_type, ip].concat()
}

/// What a frame says, and about which packet.
pub(crate) fn read_frame(bytes: &[u8]) -> Option<(u16, Sight)> {
    match bytes.get(12..ETHERNET)? {
        [0x08, 0x00] | [0x86, 0xdd] => read_ip(&bytes[ETHERNET..]),
        _ => None,
    }
}

pub(crate) fn read_ip(bytes: &[u8]) -> Option<(u16, Sight)> {
    let (protocol, from, to, rest) = split(bytes)?;
    read_transport(protocol, from, to, rest)
}

/// Of a raw IPv6 socket, whose datagrams lack the header: the destination is not told.
pub(crate) fn read_transport(
    protocol: u8,
    from: IpAddr,
    to: IpAddr,
    bytes: &[u8],
) -> Option<(u16, Sight)> {
    if protocol == 1 || protocol == 58 {
        let (kind, code) = (*bytes.first()?, *bytes.get(1)?);
        if (protocol, kind) != (1, 3) && (protocol, kind) != (58, 1) {
            return None;
        }
        // The quoted packet is as the sender sent it.
        let (.., quoted) = split(bytes.get(8..)?)?;
        return Some((word(quoted, 0)?, Sight::Unreachable { code }));
    }
    let ends = (word(bytes, 0)?, word(bytes, 2)?);
    if protocol == 6 && bytes.get(13)? & RST != 0 {
        return Some((ends.1, Sight::Reset));
    }
    let mark = match protocol {
        6 if bytes.get(13)? & SYN != 0 => 4,
        17 => 8,
        132 => 16,
        _ => return None,
    };
    let [0, 0] = bytes.get(mark..mark + 2)? else { return None };
    let (from, to) = (SocketAddr::new(from, ends.0), SocketAddr::new(to, ends.1));
    Some((word(bytes, mark + 2)?, Sight::First { from, to }))
}

/// Protocol, source, destination and payload of an IP packet.
fn split(bytes: &[u8]) -> Option<(u8, IpAddr, IpAddr, &[u8])> {
    let address = |at: usize, len: usize| -> Option<IpAddr> {
        let octets = bytes.get(at..at + len)?;
        match len {
            4 => Some(<[u8; 4]>::try_from(octets).ok()?.into()),
            _ => Some(<[u8; 16]>::try_from(octets).ok()?.into()),
        }
    };
    if bytes.first()? >> 4 == 4 {
        let header = usize::from(bytes[0] & 15) * 4;
        Some((*bytes.get(9)?, address(12, 4)?, address(16, 4)?, bytes.get(header..)?))
    } else {
        Some((*bytes.get(6)?, address(8, 16)?, address(24, 16)?, bytes.get(40..)?))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn ip(protocol: Protocol, from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short");
    let mut header = if from.is_ipv4() {
        let [a, b] = (length + 20).to_be_bytes();
        vec![0x45, 0, a, b, 0, 0, 0x40, 0, 64, code(protocol), 0, 0]
    } else {
        let [a, b] = length.to_be_bytes();
        vec![0x60, 0, 0, 0, a, b, code(protocol), 64]
    };
    header.extend(octets(from));
    header.extend(octets(to));
    if from.is_ipv4() {
        let sum = internet_sum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    header.extend(payload);
    header
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn code(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn internet_sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

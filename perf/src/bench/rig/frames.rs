//! Frames: written by the generator, judged when they come out.
//!
//! Payloads are all zeros, so that a checksum costs the generator no more than the headers. The arithmetic is its own,
//! not the engine's, which is what it checks.

use dataplane::fib::{Mac, PortId};
use dataplane::flow::{Address, Protocol, Tuple};
use dataplane::nic::Frame;
use vipgate::dpdk::Mbuf;

use super::machine::LARGEST;
use super::network::{IN, MACS, NEIGHBORS};

/// Bytes of a frame that DPDK does not see but frame sizes count.
const FCS: usize = 4;
/// The shortest frame, without FCS.
const SHORTEST: usize = 64 - FCS;
const ETHERNET: usize = 14;
const TTL: u8 = 64;
const ICMP: u8 = 1;
/// Bytes of an ICMP error before what it quotes, and the bytes of transport header that it quotes.
const ICMP_HEADER: usize = 8;
const QUOTED: usize = 8;

/// TCP flags of a segment in the middle of a connection.
pub(crate) const ACK: u8 = 0x10;
pub(crate) const SYN: u8 = 0x02;

/// Sizes of frames, in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// As short as they can be.
    Shortest,
    /// 7 of 64 bytes, 4 of 594, 1 of 1518, FCS counted.
    Imix,
}

impl Sizes {
    /// The least size of frame `number`, without FCS.
    fn of(self, number: usize) -> usize {
        const IMIX: [usize; 12] = [64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 594, 64];
        match self {
            Self::Shortest => SHORTEST,
            Self::Imix => IMIX[number % IMIX.len()] - FCS,
        }
    }
}

/// Writes the packet of a flow, as a neighbour of `port` sends it. `number` decides its size.
pub(crate) fn write(
    frame: &mut Mbuf,
    port: PortId,
    tuple: &Tuple,
    flags: u8,
    (sizes, number): (Sizes, usize),
) {
    let v4 = tuple.src.is_v4();
    let l4 = ETHERNET + ip_header(v4);
    let header = transport_header(tuple.protocol);
    let len = sizes.of(number).max(l4 + header);
    let bytes = resize(frame, len);
    ethernet(bytes, port, v4);
    let transport = len - l4;
    ip(&mut bytes[ETHERNET..], tuple.src, tuple.dst, tuple.protocol.number(), transport);
    put(bytes, l4, tuple.sport);
    put(bytes, l4 + 2, tuple.dport);
    let mut sum = pseudo_header(tuple.src, tuple.dst, tuple.protocol.number(), transport);
    let field = match tuple.protocol {
        Protocol::Tcp => {
            bytes[l4 + 4..l4 + 12].fill(0);
            bytes[l4 + 12..l4 + 20].copy_from_slice(&[5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
            l4 + 16
        }
        _ => {
            put(bytes, l4 + 4, length(transport));
            put(bytes, l4 + 6, 0);
            l4 + 6
        }
    };
    sum += add(&bytes[l4..l4 + header]);
    let checksum = match (finish(sum), tuple.protocol) {
        // A UDP checksum of zero would say that there is none.
        (0, Protocol::Udp) => 0xffff,
        (checksum, _) => checksum,
    };
    put(bytes, field, checksum);
}

/// Writes what a router behind `port` says about a packet that it can't pass on: too big (IPv4).
pub(crate) fn write_too_big(frame: &mut Mbuf, port: PortId, from: Address, about: &Tuple) {
    let l4 = ETHERNET + ip_header(true);
    let quoted = l4 + ICMP_HEADER;
    let len = quoted + ip_header(true) + QUOTED;
    let bytes = resize(frame, len);
    ethernet(bytes, port, true);
    ip(&mut bytes[ETHERNET..], from, about.src, ICMP, len - l4);
    // Fragmentation needed, next hop's MTU 1400.
    bytes[l4..quoted].copy_from_slice(&[3, 4, 0, 0, 0, 0, 0x05, 0x78]);
    ip(&mut bytes[quoted..], about.src, about.dst, about.protocol.number(), 1400);
    let transport = quoted + ip_header(true);
    put(bytes, transport, about.sport);
    put(bytes, transport + 2, about.dport);
    put(bytes, transport + 4, 1400);
    put(bytes, transport + 6, 0xbeef);
    let checksum = finish(add(&bytes[l4..]));
    put(bytes, l4 + 2, checksum);
}

/// What a frame that left by `port` should be: of this flow, one hop further, with right checksums. Says what is wrong.
pub(crate) fn judge(frame: &Mbuf, port: PortId, tuple: &Tuple) -> Result<(), String> {
    let bytes = frame.bytes();
    let found = read(bytes).ok_or("too short, or neither IPv4 nor IPv6")?;
    if found != *tuple {
        return Err(format!("is of {found:?} instead of {tuple:?}"));
    }
    judge_headers(bytes, port)?;
    let (_, l4, end) = offsets(bytes);
    let transport = &bytes[l4..end];
    let sum = pseudo_header(tuple.src, tuple.dst, tuple.protocol.number(), transport.len());
    if finish(sum + add(transport)) != 0 {
        return Err("has a wrong transport checksum".into());
    }
    Ok(())
}

/// The same for an error about `about`.
pub(crate) fn judge_too_big(frame: &Mbuf, port: PortId, about: &Tuple) -> Result<(), String> {
    let bytes = frame.bytes();
    judge_headers(bytes, port)?;
    let l4 = ETHERNET + ip_header(true);
    if address(bytes, ETHERNET + 16, true) != about.src {
        return Err("goes to somebody else".into());
    }
    if finish(add(&bytes[l4..])) != 0 {
        return Err("has a wrong ICMP checksum".into());
    }
    // The quoted packet, with an Ethernet header's room in front of it.
    let found = read(&bytes[l4 + ICMP_HEADER - ETHERNET..]);
    if found != Some(*about) {
        return Err(format!("quotes {found:?} instead of {about:?}"));
    }
    Ok(())
}

/// The flow of an untagged frame.
pub(crate) fn read(bytes: &[u8]) -> Option<Tuple> {
    let v4 = match bytes.get(ETHERNET)? >> 4 {
        4 => true,
        6 => false,
        _ => return None,
    };
    let l4 = ETHERNET + ip_header(v4);
    let ports = bytes.get(l4..l4 + 4)?;
    let (number, from, to) = if v4 { (9, 12, 16) } else { (6, 8, 24) };
    let number = bytes[ETHERNET + number];
    Some(Tuple {
        src: address(bytes, ETHERNET + from, v4),
        dst: address(bytes, ETHERNET + to, v4),
        sport: u16::from_be_bytes([ports[0], ports[1]]),
        dport: u16::from_be_bytes([ports[2], ports[3]]),
        protocol: Protocol::ALL.into_iter().find(|protocol| protocol.number() == number)?,
    })
}

/// The flags of a TCP segment in an untagged IPv4 frame.
pub(crate) fn tcp_flags(frame: &Mbuf) -> u8 {
    frame.bytes()[ETHERNET + ip_header(true) + 13]
}

/// MAC addresses, hop limit and header checksum of a packet that went one hop.
fn judge_headers(bytes: &[u8], port: PortId) -> Result<(), String> {
    let (v4, l4, _) = offsets(bytes);
    let [own, to] = [MACS, NEIGHBORS].map(|macs: [Mac; 2]| macs[usize::from(port)]);
    // Behind the inner port are many nodes; what they have in common are the first bytes.
    let shared = if port == IN { 2 } else { 6 };
    if bytes[6..12] != own || bytes[..shared] != to[..shared] {
        return Err("has wrong MAC addresses".into());
    }
    let ttl = bytes[ETHERNET + if v4 { 8 } else { 7 }];
    if ttl != TTL - 1 {
        return Err(format!("has a hop limit of {ttl}"));
    }
    if v4 && finish(add(&bytes[ETHERNET..l4])) != 0 {
        return Err("has a wrong header checksum".into());
    }
    Ok(())
}

/// Whether an untagged frame is IPv4, where its transport header begins, and where its packet ends.
fn offsets(bytes: &[u8]) -> (bool, usize, usize) {
    let v4 = bytes[ETHERNET] >> 4 == 4;
    let l4 = ETHERNET + ip_header(v4);
    let word = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let end = if v4 { ETHERNET + word(ETHERNET + 2) } else { l4 + word(ETHERNET + 4) };
    (v4, l4, end.min(bytes.len()))
}

fn resize(frame: &mut Mbuf, len: usize) -> &mut [u8] {
    assert!(len <= LARGEST && frame.set_len(len), "a buffer holds the largest frame");
    frame.bytes_mut()
}

fn ethernet(bytes: &mut [u8], port: PortId, v4: bool) {
    bytes[..6].copy_from_slice(&MACS[usize::from(port)]);
    bytes[6..12].copy_from_slice(&NEIGHBORS[usize::from(port)]);
    put(bytes, 12, if v4 { 0x0800 } else { 0x86dd });
}

/// An IP header for `payload` bytes behind it.
fn ip(bytes: &mut [u8], src: Address, dst: Address, protocol: u8, payload: usize) {
    if src.is_v4() {
        let header = &mut bytes[..20];
        // Don't fragment.
        header[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, TTL, protocol, 0, 0]);
        header[12..16].copy_from_slice(&src.low32().to_be_bytes());
        header[16..20].copy_from_slice(&dst.low32().to_be_bytes());
        put(header, 2, length(payload + 20));
        let checksum = finish(add(header));
        put(header, 10, checksum);
    } else {
        let header = &mut bytes[..40];
        header[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, protocol, TTL]);
        put(header, 4, length(payload));
        header[8..24].copy_from_slice(&src.0.to_be_bytes());
        header[24..40].copy_from_slice(&dst.0.to_be_bytes());
    }
}

fn ip_header(v4: bool) -> usize {
    if v4 { 20 } else { 40 }
}

fn transport_header(protocol: Protocol) -> usize {
    if protocol == Protocol::Tcp { 20 } else { 8 }
}

fn address(bytes: &[u8], at: usize, v4: bool) -> Address {
    if v4 {
        Address::v4(bytes[at..at + 4].try_into().expect("four bytes"))
    } else {
        Address::v6(bytes[at..at + 16].try_into().expect("sixteen bytes"))
    }
}

fn put(bytes: &mut [u8], at: usize, word: u16) {
    bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

fn length(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// Sum of big-endian words (RFC 1071), not folded.
fn add(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2);
    words.map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |&low| u64::from(low))).sum()
}

fn pseudo_header(src: Address, dst: Address, protocol: u8, len: usize) -> u64 {
    let sum = |address: Address| {
        if address.is_v4() {
            add(&address.low32().to_be_bytes())
        } else {
            add(&address.0.to_be_bytes())
        }
    };
    sum(src) + sum(dst) + u64::from(protocol) + len as u64
}

/// The checksum field for a sum.
fn finish(sum: u64) -> u16 {
    let mut sum = sum;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

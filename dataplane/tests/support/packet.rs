//! Builds frames byte by byte, from the RFCs' pictures: a second opinion on the engine's own wire code.
//!
//! Everything has a sensible default and right checksums; any field, and at last any byte, can be set otherwise.

use std::net::{IpAddr, SocketAddr};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const FRAGMENT: u8 = 44;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;

pub type Mac = [u8; 6];

/// An IP packet in an Ethernet frame, to be.
#[derive(Clone, Debug)]
pub struct Packet {
    dst_mac: Mac,
    src_mac: Mac,
    tags: Vec<(u16, u16)>,
    src: IpAddr,
    dst: IpAddr,
    ttl: u8,
    id: u16,
    /// IPv4: flags and offset as they stand in the header.
    fragment: u16,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    body: Body,
    ip_checksum: Option<u16>,
    checksum: Option<u16>,
    padding: Vec<u8>,
    edits: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Body {
    Tcp {
        ports: (u16, u16),
        seq: u32,
        ack: u32,
        flags: u8,
        window: u16,
        options: Vec<u8>,
        payload: Vec<u8>,
    },
    Udp {
        ports: (u16, u16),
        payload: Vec<u8>,
    },
    /// Type, code, the four bytes behind the checksum, the rest.
    Icmp {
        kind: u8,
        code: u8,
        word: [u8; 4],
        rest: Vec<u8>,
    },
    Raw {
        number: u8,
        bytes: Vec<u8>,
    },
}

/// A TCP segment; both ends as `address:port`. A SYN unless told otherwise.
pub fn tcp(src: impl End, dst: impl End) -> Packet {
    let (src, dst) = (src.end(), dst.end());
    let ports = (src.port(), dst.port());
    let (options, payload) = (vec![], vec![]);
    Packet::new(
        src.ip(),
        dst.ip(),
        Body::Tcp { ports, seq: 1000, ack: 0, flags: SYN, window: 0xffff, options, payload },
    )
}

/// A UDP datagram.
pub fn udp(src: impl End, dst: impl End) -> Packet {
    let (src, dst) = (src.end(), dst.end());
    let ports = (src.port(), dst.port());
    Packet::new(src.ip(), dst.ip(), Body::Udp { ports, payload: b"question".to_vec() })
}

/// An SCTP packet that holds one chunk of this type and some payload, with its checksum.
pub fn sctp(src: impl End, dst: impl End, chunk: u8, payload: &[u8]) -> Packet {
    let (src, dst) = (src.end(), dst.end());
    let len = u16::try_from(4 + payload.len()).expect("short");
    let mut bytes = [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat();
    bytes.extend([0, 0, 0, 9, 0, 0, 0, 0, chunk, 0]);
    bytes.extend(len.to_be_bytes());
    bytes.extend(payload);
    let checksum = sctp_checksum(&bytes);
    bytes[8..12].copy_from_slice(&checksum);
    raw(src.ip(), dst.ip(), SCTP, &bytes)
}

/// CRC32c a bit at a time (RFC 9260 appendix A), over a packet whose checksum field counts as zero.
pub fn sctp_checksum(packet: &[u8]) -> [u8; 4] {
    let mut packet = packet.to_vec();
    packet[8..12].fill(0);
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    let crc = packet.iter().fold(u32::MAX, |crc, b| (0..8).fold(crc ^ u32::from(*b), step));
    (!crc).to_le_bytes()
}

/// Any other protocol.
pub fn raw(src: impl Host, dst: impl Host, number: u8, bytes: &[u8]) -> Packet {
    Packet::new(src.host(), dst.host(), Body::Raw { number, bytes: bytes.to_vec() })
}

/// An ICMP or ICMPv6 message, by the addresses' family.
pub fn icmp(
    src: impl Host,
    dst: impl Host,
    kind: u8,
    code: u8,
    word: [u8; 4],
    rest: &[u8],
) -> Packet {
    Packet::new(src.host(), dst.host(), Body::Icmp { kind, code, word, rest: rest.to_vec() })
}

/// An echo request.
pub fn ping(src: impl Host, dst: impl Host, payload: &[u8]) -> Packet {
    let kind = if src.host().is_ipv4() { 8 } else { 128 };
    icmp(src, dst, kind, 0, [0x12, 0x34, 0, 1], payload)
}

/// The reply to [`ping`].
pub fn pong(src: impl Host, dst: impl Host, payload: &[u8]) -> Packet {
    let kind = if src.host().is_ipv4() { 0 } else { 129 };
    icmp(src, dst, kind, 0, [0x12, 0x34, 0, 1], payload)
}

/// Destination unreachable, port unreachable, about an IP packet.
pub fn port_unreachable(src: impl Host, dst: impl Host, quoted: &[u8]) -> Packet {
    let (kind, code) = if src.host().is_ipv4() { (3, 3) } else { (1, 4) };
    icmp(src, dst, kind, code, [0; 4], quoted)
}

/// Time exceeded in transit, about an IP packet.
pub fn time_exceeded(src: impl Host, dst: impl Host, quoted: &[u8]) -> Packet {
    let kind = if src.host().is_ipv4() { 11 } else { 3 };
    icmp(src, dst, kind, 0, [0; 4], quoted)
}

/// Fragmentation needed, or packet too big, about an IP packet.
pub fn too_big(src: impl Host, dst: impl Host, mtu: u16, quoted: &[u8]) -> Packet {
    let (kind, code) = if src.host().is_ipv4() { (3, 4) } else { (2, 0) };
    let [high, low] = mtu.to_be_bytes();
    icmp(src, dst, kind, code, [0, 0, high, low], quoted)
}

/// A neighbour solicitation for `target`, with the sender's MAC address unless it is a probe from `::`.
pub fn solicitation(src_mac: Mac, src: &str, target: &str) -> Packet {
    let target: IpAddr = target.host();
    let IpAddr::V6(ip) = target else { panic!("an IPv6 target") };
    let bytes = ip.octets();
    let group = [0x33, 0x33, 0xff, bytes[13], bytes[14], bytes[15]];
    let mut dst = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    dst[13..].copy_from_slice(&bytes[13..]);
    let mut rest = bytes.to_vec();
    if src != "::" {
        rest.extend([1, 1]);
        rest.extend(src_mac);
    }
    icmp(src, IpAddr::from(dst), 135, 0, [0; 4], &rest).ttl(255).macs(src_mac, group)
}

/// A neighbour advertisement of `target` at `src_mac`.
pub fn advertisement(src_mac: Mac, target: &str, dst: &str, flags: u8) -> Packet {
    let IpAddr::V6(ip) = target.host() else { panic!("an IPv6 target") };
    let mut rest = ip.octets().to_vec();
    rest.extend([2, 1]);
    rest.extend(src_mac);
    icmp(target, dst, 136, 0, [flags, 0, 0, 0], &rest).ttl(255)
}

/// An ARP packet as a frame: operation, then sender and target.
pub fn arp(
    operation: u16,
    sender: (Mac, &str),
    target: (Mac, &str),
    dst_mac: Mac,
    src_mac: Mac,
) -> Vec<u8> {
    let ip = |text: &str| match text.host() {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(_) => panic!("ARP is for IPv4"),
    };
    let mut frame = [dst_mac, src_mac].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(sender.0);
    frame.extend(ip(sender.1));
    frame.extend(target.0);
    frame.extend(ip(target.1));
    frame
}

impl Packet {
    fn new(src: IpAddr, dst: IpAddr, body: Body) -> Self {
        Self {
            dst_mac: [0; 6],
            src_mac: [0; 6],
            tags: vec![],
            src,
            dst,
            ttl: 64,
            id: 0x4242,
            fragment: 0x4000,
            options: vec![],
            extensions: vec![],
            body,
            ip_checksum: None,
            checksum: None,
            padding: vec![],
            edits: vec![],
        }
    }

    pub fn macs(mut self, src: Mac, dst: Mac) -> Self {
        (self.src_mac, self.dst_mac) = (src, dst);
        self
    }

    /// Adds an 802.1Q tag inside those already there.
    pub fn vlan(self, id: u16) -> Self {
        self.tag(0x8100, id)
    }

    pub fn tag(mut self, ether_type: u16, id: u16) -> Self {
        self.tags.push((ether_type, id));
        self
    }

    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// IPv4 options, padded to four bytes by the caller.
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        assert_eq!(options.len() % 4, 0);
        self.options = options.to_vec();
        self
    }

    /// Appends an IPv6 extension header: its type and its bytes, whose first is filled in.
    pub fn extension(mut self, kind: u8, bytes: &[u8]) -> Self {
        self.extensions.push((kind, bytes.to_vec()));
        self
    }

    /// Clears or sets the IPv4 "don't fragment" flag.
    pub fn dont_fragment(mut self, on: bool) -> Self {
        self.fragment = if on { 0x4000 } else { 0 };
        self
    }

    /// IPv4 identification, flags and offset as they stand in the header.
    pub fn ip_fragment(mut self, id: u16, word: u16) -> Self {
        (self.id, self.fragment) = (id, word);
        self
    }

    pub fn flags(mut self, new: u8) -> Self {
        let Body::Tcp { flags, .. } = &mut self.body else { panic!("only TCP has flags") };
        *flags = new;
        self
    }

    pub fn seq(mut self, new: u32) -> Self {
        let Body::Tcp { seq, .. } = &mut self.body else { panic!("only TCP has numbers") };
        *seq = new;
        self
    }

    pub fn ack(mut self, new: u32) -> Self {
        let Body::Tcp { ack, .. } = &mut self.body else { panic!("only TCP has numbers") };
        *ack = new;
        self
    }

    pub fn window(mut self, new: u16) -> Self {
        let Body::Tcp { window, .. } = &mut self.body else { panic!("only TCP has a window") };
        *window = new;
        self
    }

    pub fn tcp_options(mut self, bytes: &[u8]) -> Self {
        let Body::Tcp { options, .. } = &mut self.body else { panic!("only TCP has options") };
        *options = bytes.to_vec();
        self
    }

    pub fn payload(mut self, bytes: &[u8]) -> Self {
        match &mut self.body {
            Body::Tcp { payload, .. } | Body::Udp { payload, .. } => *payload = bytes.to_vec(),
            Body::Icmp { rest, .. } => *rest = bytes.to_vec(),
            Body::Raw { bytes: all, .. } => *all = bytes.to_vec(),
        }
        self
    }

    /// Transport or ICMP checksum, right or wrong.
    pub fn checksum(mut self, value: u16) -> Self {
        self.checksum = Some(value);
        self
    }

    pub fn ip_checksum(mut self, value: u16) -> Self {
        self.ip_checksum = Some(value);
        self
    }

    /// Bytes behind the IP packet, as Ethernet's minimum length demands.
    pub fn padding(mut self, bytes: &[u8]) -> Self {
        self.padding = bytes.to_vec();
        self
    }

    /// Overwrites bytes of the finished IP packet; checksums stay as they were.
    pub fn edit(mut self, at: usize, bytes: &[u8]) -> Self {
        self.edits.push((at, bytes.to_vec()));
        self
    }

    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = [self.dst_mac, self.src_mac].concat();
        for (ether_type, id) in &self.tags {
            frame.extend(ether_type.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        frame.extend(if self.src.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
        frame.extend(self.ip());
        frame.extend(&self.padding);
        frame
    }

    /// The IP packet.
    pub fn ip(&self) -> Vec<u8> {
        let mut ip = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.v4(src.octets(), dst.octets()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.v6(src.octets(), dst.octets()),
            _ => panic!("both addresses of one family"),
        };
        for (at, bytes) in &self.edits {
            ip[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        ip
    }

    pub fn source(&self) -> IpAddr {
        self.src
    }

    pub fn destination(&self) -> IpAddr {
        self.dst
    }

    /// The transport header and payload alone.
    pub fn transport(&self) -> Vec<u8> {
        self.body()
    }

    /// This packet cut into fragments whose payloads (but the last) hold `size` bytes, a multiple of eight.
    pub fn fragments(&self, id: u16, size: usize) -> Vec<Self> {
        assert_eq!(size % 8, 0);
        let (body, number) = (self.body(), self.number());
        let count = body.len().div_ceil(size);
        (0..count)
            .map(|i| {
                let bytes = &body[i * size..(i * size + size).min(body.len())];
                let more = i + 1 < count;
                let mut piece = self.clone();
                let offset = u16::try_from(i * size).expect("an IP packet");
                piece.body = Body::Raw { number, bytes: bytes.to_vec() };
                if self.src.is_ipv4() {
                    piece.ip_fragment(id, (offset / 8) | if more { 0x2000 } else { 0 })
                } else {
                    piece.extension(FRAGMENT, &fragment_header(u32::from(id), offset, more))
                }
            })
            .collect()
    }

    fn number(&self) -> u8 {
        match &self.body {
            Body::Tcp { .. } => TCP,
            Body::Udp { .. } => UDP,
            Body::Icmp { .. } if self.src.is_ipv4() => ICMP,
            Body::Icmp { .. } => ICMPV6,
            Body::Raw { number, .. } => *number,
        }
    }

    fn v4(&self, src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
        let body = self.body();
        let header_len = 20 + self.options.len();
        let mut ip = vec![0; header_len];
        ip[0] = 0x40 | u8::try_from(header_len / 4).expect("options fit");
        let total = u16::try_from(header_len + body.len()).expect("an IP packet");
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        ip[4..6].copy_from_slice(&self.id.to_be_bytes());
        ip[6..8].copy_from_slice(&self.fragment.to_be_bytes());
        ip[8] = self.ttl;
        ip[9] = self.number();
        ip[12..16].copy_from_slice(&src);
        ip[16..20].copy_from_slice(&dst);
        ip[20..].copy_from_slice(&self.options);
        let checksum = self.ip_checksum.unwrap_or_else(|| internet_checksum(&ip));
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        ip.extend(body);
        ip
    }

    fn v6(&self, src: [u8; 16], dst: [u8; 16]) -> Vec<u8> {
        let mut chain = vec![];
        for (i, (_, bytes)) in self.extensions.iter().enumerate() {
            let next = self.extensions.get(i + 1).map_or_else(|| self.number(), |(kind, _)| *kind);
            chain.push(next);
            chain.extend(&bytes[1..]);
        }
        chain.extend(self.body());
        let mut ip = vec![0x60, 0, 0, 0];
        ip.extend(u16::try_from(chain.len()).expect("an IP packet").to_be_bytes());
        ip.push(self.extensions.first().map_or_else(|| self.number(), |(kind, _)| *kind));
        ip.push(self.ttl);
        ip.extend(src);
        ip.extend(dst);
        ip.extend(chain);
        ip
    }

    fn body(&self) -> Vec<u8> {
        let mut bytes = match &self.body {
            Body::Tcp { ports, seq, ack, flags, window, options, payload } => {
                let mut bytes = vec![];
                bytes.extend(ports.0.to_be_bytes());
                bytes.extend(ports.1.to_be_bytes());
                bytes.extend(seq.to_be_bytes());
                bytes.extend(ack.to_be_bytes());
                let words = u8::try_from(5 + options.len() / 4).expect("options fit");
                bytes.extend([words << 4, *flags]);
                bytes.extend(window.to_be_bytes());
                bytes.extend([0; 4]);
                bytes.extend(options);
                bytes.extend(payload);
                bytes
            }
            Body::Udp { ports, payload } => {
                let mut bytes = vec![];
                bytes.extend(ports.0.to_be_bytes());
                bytes.extend(ports.1.to_be_bytes());
                bytes.extend(u16::try_from(8 + payload.len()).expect("a datagram").to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(payload);
                bytes
            }
            Body::Icmp { kind, code, word, rest } => {
                let mut bytes = vec![*kind, *code, 0, 0];
                bytes.extend(word);
                bytes.extend(rest);
                bytes
            }
            Body::Raw { bytes, .. } => return bytes.clone(),
        };
        let at = match self.body {
            Body::Tcp { .. } => 16,
            Body::Udp { .. } => 6,
            _ => 2,
        };
        let right = self.transport_checksum(&bytes);
        let value = self.checksum.unwrap_or(right);
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        bytes
    }

    fn transport_checksum(&self, bytes: &[u8]) -> u16 {
        let number = self.number();
        let mut covered = vec![];
        if number != ICMP {
            match (self.src, self.dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    covered.extend(src.octets());
                    covered.extend(dst.octets());
                }
                (IpAddr::V6(src), IpAddr::V6(dst)) => {
                    covered.extend(src.octets());
                    covered.extend(dst.octets());
                }
                _ => panic!("both addresses of one family"),
            }
            covered.extend(u32::try_from(bytes.len()).expect("an IP packet").to_be_bytes());
            covered.extend([0, 0, 0, number]);
        }
        covered.extend(bytes);
        match internet_checksum(&covered) {
            0 if number == UDP => 0xffff,
            value => value,
        }
    }
}

/// An IPv6 fragment header.
pub fn fragment_header(id: u32, offset: u16, more: bool) -> [u8; 8] {
    let mut header = [0; 8];
    header[2..4].copy_from_slice(&(offset | u16::from(more)).to_be_bytes());
    header[4..].copy_from_slice(&id.to_be_bytes());
    header
}

/// RFC 1071, in the slowest and plainest way.
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u64 = 0;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) * 256 + u64::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = sum % 0x1_0000 + sum / 0x1_0000;
    }
    0xffff - u16::try_from(sum).expect("folded")
}

/// What names an address and a port.
pub trait End {
    fn end(&self) -> SocketAddr;
}

/// What names an address.
pub trait Host {
    fn host(&self) -> IpAddr;
}

impl End for &str {
    fn end(&self) -> SocketAddr {
        self.parse().unwrap_or_else(|_| panic!("{self} is no address and port"))
    }
}

impl End for SocketAddr {
    fn end(&self) -> SocketAddr {
        *self
    }
}

impl End for (IpAddr, u16) {
    fn end(&self) -> SocketAddr {
        (*self).into()
    }
}

impl Host for &str {
    fn host(&self) -> IpAddr {
        self.parse().unwrap_or_else(|_| panic!("{self} is no address"))
    }
}

impl Host for IpAddr {
    fn host(&self) -> IpAddr {
        *self
    }
}

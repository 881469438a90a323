//! Who talks to whom: addresses, transport protocols and the 5-tuple of one direction of a connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The upper 96 bits of an IPv4 address in its IPv6-mapped form (RFC 4291 section 2.5.5.2).
const V4_MAPPED: u128 = 0xffff << 32;

/// An IPv4 or IPv6 address as one number in host byte order; IPv4 in its mapped form `::ffff:a.b.c.d`.
///
/// One representation keeps the engine free of a second code path per family wherever the family does not matter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Address(pub u128);

impl Address {
    /// From the four bytes of an IPv4 header field.
    #[must_use]
    pub fn v4(bytes: [u8; 4]) -> Self {
        Self(V4_MAPPED | u128::from(u32::from_be_bytes(bytes)))
    }

    /// From the sixteen bytes of an IPv6 header field.
    #[must_use]
    pub fn v6(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Whether this is an IPv4 address.
    #[must_use]
    pub fn is_v4(self) -> bool {
        self.0 >> 32 == V4_MAPPED >> 32
    }

    /// The low 32 bits: the IPv4 address of a mapped one, in host byte order.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are what is asked for")]
    pub fn low32(self) -> u32 {
        self.0 as u32
    }

    /// The standard library's form.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from_bits(self.low32()))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(self.0))
        }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::v4(ip.octets()),
            IpAddr::V6(ip) => Self::v6(ip.octets()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

/// Transport protocols that have ports or are answered. Numbers fit two bits of a connection entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// RFC 9293.
    Tcp = 0,
    /// RFC 768.
    Udp = 1,
    /// RFC 9260.
    Sctp = 2,
}

impl Protocol {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The name in lower case, as in metrics and flow descriptions.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The IANA protocol number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// One direction of a connection: the 5-tuple, ports in host byte order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: Address,
    /// Destination address.
    pub dst: Address,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl Tuple {
    /// The tuple of a packet that answers this one.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, ..self }
    }

    /// Both ports as they stand in the packet: source in the upper half.
    #[must_use]
    pub fn ports(self) -> u32 {
        u32::from(self.sport) << 16 | u32::from(self.dport)
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |address: Address, port| std::net::SocketAddr::new(address.ip(), port);
        let (src, dst) = (end(self.src, self.sport), end(self.dst, self.dport));
        write!(f, "{} {src} -> {dst}", self.protocol.name())
    }
}

//! Packet formats: from bytes to checked offsets.
//!
//! Job: [`parse`] a frame once; everything behind it relies on what it checked and indexes without asking again.
//! Checked: lengths of all headers, header checksum (IPv4), that the IP packet lies inside the frame, source sanity.
//! Not checked: transport checksums (a NAT updates them; the receiver judges, I9).
//! Bytes behind the IP packet (Ethernet padding) are never looked at.

pub mod checksum;
pub mod crc32c;
pub mod ethernet;
mod icmp;
mod ipv4;
mod ipv6;
pub mod ordinary;

use crate::flow::{Address, Protocol, Tuple};
use crate::verdict::DropReason;

/// IANA protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IANA protocol number of TCP.
pub const TCP: u8 = 6;
/// IANA protocol number of UDP.
pub const UDP: u8 = 17;
/// IANA protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// IANA protocol number of SCTP.
pub const SCTP: u8 = 132;

/// TCP flag bits (RFC 9293 section 3.1).
pub mod tcp_flags {
    /// No more data from sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
}

/// SCTP chunk types (RFC 9260 section 3.2) that begin or end an association.
pub mod sctp_chunks {
    /// Begins an association.
    pub const INIT: u8 = 1;
    /// Answers it.
    pub const INIT_ACK: u8 = 2;
    /// Ends it at once.
    pub const ABORT: u8 = 6;
    /// Ends it in order.
    pub const SHUTDOWN: u8 = 7;
    /// Answers that.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Reports an error.
    pub const ERROR: u8 = 9;
    /// The initiator's second packet.
    pub const COOKIE_ECHO: u8 = 10;
    /// The association is open.
    pub const COOKIE_ACK: u8 = 11;
    /// The last packet.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// A frame that passed [`parse`].
#[derive(Clone, Copy, Debug)]
pub enum Parsed {
    /// ARP for IPv4 over Ethernet, complete.
    Arp {
        /// Offset of the ARP packet.
        at: usize,
    },
    /// IPv4 or IPv6.
    Ip(Headers),
}

/// Offsets and facts of an IP packet, all inside the frame.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// Offset of the IP header; also the length of the Ethernet header with its tag.
    pub l3: usize,
    /// Offset behind the IP header, its options and extension headers.
    pub l4: usize,
    /// End of the IP packet.
    pub end: usize,
    /// Whether this is IPv4.
    pub v4: bool,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// IANA number of the transport protocol.
    pub number: u8,
    /// Source address.
    pub src: Address,
    /// Destination address.
    pub dst: Address,
    /// What it carries.
    pub kind: Kind,
    /// Its place in a fragmented packet.
    pub fragment: Fragment,
}

/// What an IP packet carries, as far as the engine cares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A TCP segment, or the first fragment of one.
    Tcp {
        /// The flow.
        tuple: Tuple,
        /// The flag bits.
        flags: u8,
    },
    /// A UDP datagram, or the first fragment of one.
    Udp {
        /// The flow.
        tuple: Tuple,
    },
    /// An SCTP packet, or the first fragment of one.
    Sctp {
        /// The flow.
        tuple: Tuple,
        /// Type of the first chunk.
        chunk: u8,
    },
    /// An echo request with a correct checksum.
    EchoRequest,
    /// An ICMP error with a correct checksum about a packet with ports.
    IcmpError {
        /// The flow of a packet that *answers* the quoted one: what a connection table knows it under.
        tuple: Tuple,
        /// Offset of the quoted IP header.
        quoted_l3: usize,
        /// Offset of the quoted transport header; at least four bytes of it are there.
        quoted_l4: usize,
    },
    /// A neighbour solicitation (RFC 4861 section 4.3) for this target.
    NeighborSolicitation {
        /// Whom it looks for.
        target: Address,
    },
    /// A later fragment: no ports.
    Later,
    /// Anything else that can be routed but not translated.
    Other,
}

/// Whether and how a packet is a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// It is whole.
    Whole,
    /// The first fragment, with the identification all fragments share.
    First(u32),
    /// A later one.
    Later(u32),
}

impl Headers {
    /// The flow the packet belongs to, if it has one.
    #[must_use]
    #[inline]
    pub fn tuple(&self) -> Option<Tuple> {
        match self.kind {
            Kind::Tcp { tuple, .. }
            | Kind::Udp { tuple }
            | Kind::Sctp { tuple, .. }
            | Kind::IcmpError { tuple, .. } => Some(tuple),
            _ => None,
        }
    }

    /// Length of the IP packet in bytes.
    #[must_use]
    pub fn ip_len(&self) -> usize {
        self.end - self.l3
    }
}

/// Checks a frame and finds its headers.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Parsed, DropReason> {
    match ethernet::parse(frame)? {
        (ethernet::ARP, at) => ethernet::check_arp(frame, at).map(|()| Parsed::Arp { at }),
        (ethernet::IPV4, at) => ipv4::parse(frame, at).map(Parsed::Ip),
        (ethernet::IPV6, at) => ipv6::parse(frame, at).map(Parsed::Ip),
        _ => Err(DropReason::UnsupportedEtherType),
    }
}

/// Whether a flow's addresses can't be a sender's and a destination's.
#[must_use]
pub fn is_martian(v4: bool, src: Address, dst: Address) -> bool {
    if v4 { ipv4::is_martian(src, dst) } else { ipv6::is_martian(src, dst) }
}

/// Addresses and limits of an IP header, before the transport header is looked at.
struct Ip {
    l3: usize,
    l4: usize,
    end: usize,
    v4: bool,
    ttl: u8,
    number: u8,
    src: Address,
    dst: Address,
    fragment: Fragment,
}

/// Looks into the transport header.
fn transport(frame: &[u8], ip: Ip) -> Result<Headers, DropReason> {
    let Ip { l3, l4, end, v4, ttl, number, src, dst, fragment } = ip;
    let whole = fragment == Fragment::Whole;
    // A first fragment too short for its ports hides them on purpose (RFC 1858, RFC 7112).
    let short = if whole { DropReason::Truncated } else { DropReason::FragmentBad };
    let kind = match number {
        _ if matches!(fragment, Fragment::Later(_)) => Kind::Later,
        TCP => {
            let header = frame[l4..end].first_chunk::<20>().ok_or(short)?;
            let len = usize::from(header[12] >> 4) * 4;
            if len < 20 || (whole && len > end - l4) {
                return Err(DropReason::Malformed);
            }
            Kind::Tcp { tuple: tuple(src, dst, header, Protocol::Tcp), flags: header[13] }
        }
        UDP => {
            let header = frame[l4..end].first_chunk::<8>().ok_or(short)?;
            let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
            if len < 8 || (whole && len > end - l4) {
                return Err(DropReason::Malformed);
            }
            Kind::Udp { tuple: tuple(src, dst, header, Protocol::Udp) }
        }
        SCTP => {
            let header = frame[l4..end].first_chunk::<16>().ok_or(short)?;
            Kind::Sctp { tuple: tuple(src, dst, header, Protocol::Sctp), chunk: header[12] }
        }
        ICMP if v4 && whole => icmp::parse_v4(frame, l4, end)?,
        ICMPV6 if !v4 && whole => icmp::parse_v6(frame, src, dst, l4, end, ttl)?,
        _ => Kind::Other,
    };
    Ok(Headers { l3, l4, end, v4, ttl, number, src, dst, kind, fragment })
}

fn tuple<const N: usize>(
    src: Address,
    dst: Address,
    header: &[u8; N],
    protocol: Protocol,
) -> Tuple {
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    Tuple { src, dst, sport: port(0), dport: port(2), protocol }
}

/// Reads a big-endian 16-bit word.
#[inline]
#[must_use]
pub fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Writes a big-endian 16-bit word.
#[inline]
pub fn set_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

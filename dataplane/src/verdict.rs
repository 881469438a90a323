//! What becomes of a frame: every frame ends in exactly one outcome, and every drop has a name.

use crate::fib::PortId;
use crate::flow::Address;

/// Why a frame was dropped. Closed: each reason is a counter, a line in `vipgate status` and a row in a packet test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// Shorter than its headers say.
    Truncated,
    /// A length, version or header field contradicts itself.
    Malformed,
    /// The buffer is in several segments.
    NotContiguous,
    /// Neither IPv4, IPv6 nor ARP, or more than one VLAN tag.
    UnsupportedEtherType,
    /// IPv4 header checksum wrong.
    BadIpChecksum,
    /// ICMP checksum wrong (RFC 5508 REQ-3).
    BadIcmpChecksum,
    /// Source address can't be a sender's: multicast, loopback, unspecified, broadcast, or equal to the destination.
    Martian,
    /// IPv4 loose or strict source route option.
    SourceRoute,
    /// More IPv6 extension headers than are walked.
    ExtensionHeaders,
    /// IPv6 UDP without checksum (RFC 8200 section 8.1).
    ZeroUdpChecksum,
    /// Destination MAC is another host's.
    NotOurMac,
    /// The protocol has no translation here.
    UnsupportedProtocol,
    /// A later fragment whose first fragment did not come in time, or was refused.
    FragmentUnknown,
    /// A later fragment that waited for its first one, and made room for others.
    FragmentOverflow,
    /// A fragment of an SCTP packet whose port would have to change.
    FragmentSctp,
    /// An overlapping, tiny or otherwise hostile fragment.
    FragmentBad,
    /// TTL or hop limit ran out and no answer was due.
    TtlExpired,
    /// Larger than the egress port's MTU.
    TooBig,
    /// No route to the destination.
    NoRoute,
    /// The next hop's MAC address is not known (yet) and no room or time was left to wait.
    NeighborUnresolved,
    /// Source is outside loadBalancerSourceRanges.
    SourceNotAllowed,
    /// internalTrafficPolicy Local without local endpoint.
    NoLocalEndpointInternal,
    /// externalTrafficPolicy Local without local endpoint.
    NoLocalEndpointExternal,
    /// No endpoint, and the refusal was not sent because of the rate limit.
    RejectLimited,
    /// Refused, but what was refused may not be answered: a reset, an error, a later fragment.
    RejectUnanswerable,
    /// A VIP's port that no Service has.
    VipPortUnknown,
    /// An unallocated address of a service range.
    ServiceAddressUnallocated,
    /// A reply, reset or error that belongs to no connection.
    NoConnection,
    /// The connection table is full of connections that may not be evicted.
    ConntrackFull,
    /// No free source port toward this backend.
    MasqueradePortsExhausted,
    /// Masquerade is due and no address of the family is configured.
    NoMasqueradeAddress,
    /// The ring to the worker that owns the connection is full.
    HandoverFull,
    /// The ring to the kernel twin is full.
    PuntFull,
    /// The transmit queue is full.
    TransmitFull,
    /// No room in the buffer to build the answer.
    NoRoom,
    /// An ICMP error was due and the rate limit was reached.
    IcmpLimited,
}

impl DropReason {
    /// Number of reasons.
    pub const COUNT: usize = Self::ALL.len();

    /// All reasons, in order.
    pub const ALL: [Self; 36] = [
        Self::Truncated,
        Self::Malformed,
        Self::NotContiguous,
        Self::UnsupportedEtherType,
        Self::BadIpChecksum,
        Self::BadIcmpChecksum,
        Self::Martian,
        Self::SourceRoute,
        Self::ExtensionHeaders,
        Self::ZeroUdpChecksum,
        Self::NotOurMac,
        Self::UnsupportedProtocol,
        Self::FragmentUnknown,
        Self::FragmentOverflow,
        Self::FragmentSctp,
        Self::FragmentBad,
        Self::TtlExpired,
        Self::TooBig,
        Self::NoRoute,
        Self::NeighborUnresolved,
        Self::SourceNotAllowed,
        Self::NoLocalEndpointInternal,
        Self::NoLocalEndpointExternal,
        Self::RejectLimited,
        Self::RejectUnanswerable,
        Self::VipPortUnknown,
        Self::ServiceAddressUnallocated,
        Self::NoConnection,
        Self::ConntrackFull,
        Self::MasqueradePortsExhausted,
        Self::NoMasqueradeAddress,
        Self::HandoverFull,
        Self::PuntFull,
        Self::TransmitFull,
        Self::NoRoom,
        Self::IcmpLimited,
    ];

    /// The name in metrics, status and explain.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::NotContiguous => "not_contiguous",
            Self::UnsupportedEtherType => "unsupported_ether_type",
            Self::BadIpChecksum => "bad_ip_checksum",
            Self::BadIcmpChecksum => "bad_icmp_checksum",
            Self::Martian => "martian",
            Self::SourceRoute => "source_route",
            Self::ExtensionHeaders => "extension_headers",
            Self::ZeroUdpChecksum => "zero_udp_checksum",
            Self::NotOurMac => "not_our_mac",
            Self::UnsupportedProtocol => "unsupported_protocol",
            Self::FragmentUnknown => "fragment_unknown",
            Self::FragmentOverflow => "fragment_overflow",
            Self::FragmentSctp => "fragment_sctp",
            Self::FragmentBad => "fragment_bad",
            Self::TtlExpired => "ttl_expired",
            Self::TooBig => "too_big",
            Self::NoRoute => "no_route",
            Self::NeighborUnresolved => "neighbor_unresolved",
            Self::SourceNotAllowed => "source_not_allowed",
            Self::NoLocalEndpointInternal => "no_local_endpoint_internal",
            Self::NoLocalEndpointExternal => "no_local_endpoint_external",
            Self::RejectLimited => "reject_limited",
            Self::RejectUnanswerable => "reject_unanswerable",
            Self::VipPortUnknown => "vip_port_unknown",
            Self::ServiceAddressUnallocated => "service_address_unallocated",
            Self::NoConnection => "no_connection",
            Self::ConntrackFull => "conntrack_full",
            Self::MasqueradePortsExhausted => "masquerade_ports_exhausted",
            Self::NoMasqueradeAddress => "no_masquerade_address",
            Self::HandoverFull => "handover_full",
            Self::PuntFull => "punt_full",
            Self::TransmitFull => "transmit_full",
            Self::NoRoom => "no_room",
            Self::IcmpLimited => "icmp_limited",
        }
    }
}

/// What the engine decided for one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send out of this port, rewritten.
    Forward(PortId),
    /// Send back out of this port: the frame now is the answer (ARP, NDP, echo, refusal, ICMP error).
    Answer(PortId),
    /// Give to the worker that owns the connection.
    HandOver(u16),
    /// Give to the kernel twin of the port it came from.
    Punt,
    /// Hold until this next hop on this port is resolved.
    Park {
        /// Port to leave by.
        port: PortId,
        /// Whose MAC address is missing.
        next_hop: Address,
        /// What is to be routed again when it is known.
        destination: Address,
    },
    /// A later fragment: hold until the first one of its packet, which has this name, has come.
    Hold(u64),
    /// Drop for this reason.
    Drop(DropReason),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_explained_to_operators() {
        let page = include_str!("../../docs/drops.md");
        for reason in DropReason::ALL {
            assert!(page.contains(&format!("| `{}` |", reason.name())), "{}", reason.name());
        }
    }

    #[test]
    fn every_reason_stands_at_its_number_under_its_own_name() {
        let mut names = std::collections::HashSet::new();
        for (number, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            assert!(names.insert(reason.name()), "{} twice", reason.name());
        }
    }
}

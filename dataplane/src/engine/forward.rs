//! Sending on: route, hop limit, MTU, edits.

use super::*;
use crate::answer::Error;
use crate::rewrite;

const IPV4_DF_OFFSET: usize = 6;
const IPV4_DF: u16 = 0x4000;

impl Engine {
    /// Sends on: route, hop limit and MTU first, since errors quote the packet as it came; then the edits.
    #[inline]
    pub(super) fn forward(
        &mut self,
        frame: &mut impl Frame,
        arrival: &Arrival,
        packet: &Packet<'_>,
        edit: Edit,
    ) -> Verdict {
        let Packet { headers, tables, .. } = packet;
        let dst = match edit {
            Edit::Nothing if arrival.origin == Origin::Kernel => {
                return Verdict::Forward(arrival.port);
            }
            Edit::Nothing => headers.dst,
            Edit::Packet { to, .. } | Edit::Quoted { to, .. } => to.dst,
        };
        let (verdict, port, mac) = match tables.fib.route(dst) {
            Route::Egress { port, mac } => (Verdict::Forward(port), port, mac),
            Route::Unresolved { port, via } => {
                let next_hop = via.unwrap_or(dst);
                (Verdict::Park { port, next_hop, destination: dst }, port, [0; 6])
            }
            // For this very host, by way of the twin.
            Route::Local => (Verdict::Punt, arrival.port, tables.fib.port(arrival.port).mac),
            Route::Nowhere => return Verdict::Drop(DropReason::NoRoute),
        };
        let egress = tables.fib.port(port);
        if verdict != Verdict::Punt {
            if headers.ttl <= 1 {
                return self.icmp_error(
                    frame,
                    arrival,
                    packet,
                    Error::TimeExceeded,
                    DropReason::TtlExpired,
                );
            }
            if headers.ip_len() > usize::from(egress.mtu) {
                return self.too_big(frame, arrival, packet, egress.mtu);
            }
        }
        let bytes = frame.bytes_mut();
        match edit {
            Edit::Nothing => {}
            Edit::Packet { from, to } => {
                if lacks_checksum(bytes, headers) {
                    return Verdict::Drop(DropReason::ZeroUdpChecksum);
                }
                if is_sctp_fragment(headers) && from.ports() != to.ports() {
                    return Verdict::Drop(DropReason::FragmentSctp);
                }
                rewrite::translate(bytes, headers, &from, &to);
            }
            Edit::Quoted { answer, to, quoted_l3, quoted_l4 } => {
                rewrite::translate_error(bytes, headers, quoted_l3, quoted_l4, &answer, &to);
            }
        }
        if verdict != Verdict::Punt {
            rewrite::decrement_ttl(bytes, headers);
        }
        if let Kind::Tcp { flags, .. } = headers.kind
            && flags & SYN != 0
            && let Some(most) = tables.fib.mss([arrival.port, port], headers.v4)
        {
            rewrite::clamp_mss(bytes, headers.l4, headers.end, most);
        }
        ethernet::address(bytes, mac, egress.mac);
        verdict
    }

    pub(super) fn too_big(
        &mut self,
        frame: &mut impl Frame,
        arrival: &Arrival,
        packet: &Packet<'_>,
        mtu: u16,
    ) -> Verdict {
        let headers = packet.headers;
        let flags = word(frame.bytes(), headers.l3 + IPV4_DF_OFFSET);
        if headers.v4 && flags & IPV4_DF == 0 {
            // This gateway does not fragment; the sender did not ask to be told.
            return Verdict::Drop(DropReason::TooBig);
        }
        self.icmp_error(frame, arrival, packet, Error::TooBig(mtu), DropReason::TooBig)
    }
}

/// Whether a packet can be given other addresses only: what other ports change in SCTP's checksum, which stands in the
/// first fragment, depends on the length of the whole packet, which the last one tells.
fn is_sctp_fragment(headers: &Headers) -> bool {
    headers.number == wire::SCTP && headers.fragment != Fragment::Whole
}

/// Whether a packet can't be translated for want of a checksum: IPv6 demands one (RFC 8200 section 8.1).
pub(super) fn lacks_checksum(frame: &[u8], headers: &Headers) -> bool {
    !headers.v4 && matches!(headers.kind, Kind::Udp { .. }) && word(frame, headers.l4 + 6) == 0
}

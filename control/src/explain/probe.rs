//! The first packet of a flow, as a client would send it: a SYN, a short datagram, an INIT.

use std::net::SocketAddr;

use dataplane::fib::Mac;
use dataplane::flow::Protocol;
use dataplane::wire::crc32c;
use etherparse::{IpNumber, PacketBuilder};

use super::Flow;

/// Hops a packet may still make; any number that does not run out here.
const HOPS: u8 = 64;
/// Of whoever hands the packet to the gateway.
const NEIGHBOR: Mac = [0x02, 0, 0, 0, 0, 1];
/// An INIT chunk (RFC 9260 section 3.3.2): one stream each way, 64 KiB of window.
const SCTP_INIT: [u8; 20] = [1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];

/// The packet in a frame to a port with this MAC address.
pub(super) fn frame(flow: &Flow, mac: Mac) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(NEIGHBOR, mac);
    let (sport, dport) = (flow.client.port(), flow.destination.port());
    let ip = match (flow.client, flow.destination) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            ethernet.ipv4(from.ip().octets(), to.ip().octets(), HOPS)
        }
        (from, to) => ethernet.ipv6(octets(from), octets(to), HOPS),
    };
    let mut frame = Vec::with_capacity(128);
    let written = match flow.protocol {
        Protocol::Tcp => ip.tcp(sport, dport, 1, u16::MAX).syn().write(&mut frame, &[]),
        Protocol::Udp => ip.udp(sport, dport).write(&mut frame, b"vipgate"),
        Protocol::Sctp => ip.write(&mut frame, IpNumber::SCTP, &sctp(sport, dport)),
    };
    written.expect("a vector takes what is written");
    frame
}

/// An INIT with its common header (RFC 9260 section 3.1) and checksum (CRC32c, least significant byte first).
fn sctp(sport: u16, dport: u16) -> Vec<u8> {
    let mut packet = Vec::with_capacity(12 + SCTP_INIT.len());
    packet.extend(sport.to_be_bytes());
    packet.extend(dport.to_be_bytes());
    // Verification tag 0, as an INIT must have it, and no checksum yet.
    packet.extend([0; 8]);
    packet.extend(SCTP_INIT);
    let checksum = crc32c::checksum(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet
}

fn octets(end: SocketAddr) -> [u8; 16] {
    match end {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped().octets(),
        SocketAddr::V6(v6) => v6.ip().octets(),
    }
}

#[cfg(test)]
mod tests {
    use dataplane::wire::{Parsed, parse};

    use super::*;

    #[test]
    fn the_engine_reads_the_flow_back() {
        for text in [
            "tcp 203.0.113.7:40000 -> 172.30.0.41:80",
            "udp 203.0.113.7:40000 -> 172.30.0.41:53",
            "tcp [2001:db8::7]:40000 -> [fd00::41]:80",
            "udp [2001:db8::7]:40000 -> [fd00::41]:53",
            "sctp 203.0.113.7:40000 -> 172.30.0.41:9",
            "sctp [2001:db8::7]:40000 -> [fd00::41]:9",
        ] {
            let flow: Flow = text.parse().expect(text);
            let Ok(Parsed::Ip(headers)) = parse(&frame(&flow, [2; 6])) else {
                panic!("{text}: not read")
            };
            assert_eq!(headers.tuple(), Some(flow.tuple()), "{text}");
        }
    }
}

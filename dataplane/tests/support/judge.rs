//! Looks at frames that leave with somebody else's eyes: the etherparse crate reads them, every checksum must be right.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::packet::internet_checksum;

/// Panics unless every length and checksum of the frame is right. Fragments have no transport checksum of their own.
pub fn judge(frame: &[u8]) {
    if let Err(complaint) = checked(frame) {
        panic!("a bad frame left, {complaint}: {frame:02x?}");
    }
}

/// What is wrong with a frame, if anything is.
pub fn checked(frame: &[u8]) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    match packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            same(
                "IPv4 header",
                header.header_checksum(),
                header.to_header().calc_header_checksum(),
            )?;
            if ip.payload().fragmented {
                return Ok(());
            }
            let (src, dst) = (header.source(), header.destination());
            match packet.transport {
                Some(TransportSlice::Tcp(tcp)) => {
                    let right = tcp.calc_checksum_ipv4(src, dst).map_err(|e| e.to_string())?;
                    same("TCP", tcp.checksum(), right)
                }
                Some(TransportSlice::Udp(udp)) if udp.checksum() != 0 => {
                    let header = udp.to_header();
                    let right = header.calc_checksum_ipv4_raw(src, dst, udp.payload());
                    same("UDP", udp.checksum(), right.map_err(|e| e.to_string())?)
                }
                Some(TransportSlice::Icmpv4(icmp)) => {
                    // Read field by field, the length of RFC 4884 would be lost.
                    same("ICMP", internet_checksum(icmp.slice()), 0)
                }
                _ => Ok(()),
            }
        }
        Some(NetSlice::Ipv6(ip)) if !ip.payload().fragmented => {
            let (src, dst) = (ip.header().source(), ip.header().destination());
            match packet.transport {
                Some(TransportSlice::Tcp(tcp)) => {
                    let right = tcp.calc_checksum_ipv6(src, dst).map_err(|e| e.to_string())?;
                    same("TCP", tcp.checksum(), right)
                }
                Some(TransportSlice::Udp(udp)) => {
                    let header = udp.to_header();
                    let right = header.calc_checksum_ipv6_raw(src, dst, udp.payload());
                    same("UDP", udp.checksum(), right.map_err(|e| e.to_string())?)
                }
                Some(TransportSlice::Icmpv6(icmp)) if !icmp.is_checksum_valid(src, dst) => {
                    Err(format!("ICMPv6 checksum {:#06x} is wrong", icmp.checksum()))
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn same(what: &str, found: u16, right: u16) -> Result<(), String> {
    if found == right {
        Ok(())
    } else {
        Err(format!("{what} checksum {found:#06x} should be {right:#06x}"))
    }
}

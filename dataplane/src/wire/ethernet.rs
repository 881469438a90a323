//! Ethernet II with at most one 802.1Q tag, and ARP (RFC 826) for IPv4.

use crate::fib::Mac;
use crate::verdict::DropReason;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;

/// Bytes of the header, without a tag.
pub const HEADER: usize = 14;
const TAG: usize = 4;

/// Length of an ARP packet for IPv4 over Ethernet.
pub const ARP_LEN: usize = 28;
/// ARP operation: who has.
pub const ARP_REQUEST: u16 = 1;
/// ARP operation: is at.
pub const ARP_REPLY: u16 = 2;

/// The EtherType and the offset of what it announces.
pub(super) fn parse(frame: &[u8]) -> Result<(u16, usize), DropReason> {
    let header = frame.first_chunk::<HEADER>().ok_or(DropReason::Truncated)?;
    let ether_type = u16::from_be_bytes([header[12], header[13]]);
    if ether_type != VLAN {
        return Ok((ether_type, HEADER));
    }
    let tagged = frame.first_chunk::<{ HEADER + TAG }>().ok_or(DropReason::Truncated)?;
    Ok((u16::from_be_bytes([tagged[16], tagged[17]]), HEADER + TAG))
}

/// Hardware Ethernet, protocol IPv4, address lengths 6 and 4, complete.
pub(super) fn check_arp(frame: &[u8], at: usize) -> Result<(), DropReason> {
    let arp = frame.get(at..at + ARP_LEN).ok_or(DropReason::Truncated)?;
    if arp[..6] == [0, 1, 8, 0, 6, 4] { Ok(()) } else { Err(DropReason::Malformed) }
}

/// Destination MAC address of a frame that was parsed.
#[must_use]
pub fn destination(frame: &[u8]) -> Mac {
    mac(frame, 0)
}

/// Source MAC address of a frame that was parsed.
#[must_use]
pub fn source(frame: &[u8]) -> Mac {
    mac(frame, 6)
}

/// Whether a MAC address is a group's (multicast or broadcast).
#[must_use]
#[inline]
pub fn is_group(mac: Mac) -> bool {
    mac[0] & 1 == 1
}

/// Writes both MAC addresses.
#[inline]
pub fn address(frame: &mut [u8], destination: Mac, source: Mac) {
    frame[..6].copy_from_slice(&destination);
    frame[6..12].copy_from_slice(&source);
}

fn mac(frame: &[u8], at: usize) -> Mac {
    std::array::from_fn(|i| frame[at + i])
}

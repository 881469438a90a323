//! IPv4 (RFC 791).

use super::{Fragment, Headers, Ip, checksum, transport, word};
use crate::flow::Address;
use crate::verdict::DropReason;

const MIN_HEADER: usize = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LOOSE_SOURCE_ROUTE: u8 = 131;
const OPTION_STRICT_SOURCE_ROUTE: u8 = 137;

pub(super) fn parse(frame: &[u8], l3: usize) -> Result<Headers, DropReason> {
    let header = frame[l3..].first_chunk::<MIN_HEADER>().ok_or(DropReason::Truncated)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_len < MIN_HEADER || total_len < header_len {
        return Err(DropReason::Malformed);
    }
    if frame.len() < l3 + total_len {
        return Err(DropReason::Truncated);
    }
    let (l4, end) = (l3 + header_len, l3 + total_len);
    if checksum::finish(checksum::sum(&frame[l3..l4])) != 0 {
        return Err(DropReason::BadIpChecksum);
    }
    if header_len > MIN_HEADER {
        refuse_source_route(&frame[l3 + MIN_HEADER..l4])?;
    }
    let src = Address::v4([header[12], header[13], header[14], header[15]]);
    let dst = Address::v4([header[16], header[17], header[18], header[19]]);
    if is_martian(src, dst) {
        return Err(DropReason::Martian);
    }
    let fragment = fragment(header, end - l4)?;
    let (ttl, number) = (header[8], header[9]);
    transport(frame, Ip { l3, l4, end, v4: true, ttl, number, src, dst, fragment })
}

/// A source that cannot be a sender's, no destination, or LAND. 0.0.0.0 is DHCP's, and only toward a group.
pub(super) fn is_martian(src: Address, dst: Address) -> bool {
    let first = src.low32() >> 24;
    let unspecified = src.low32() == 0 && dst.low32() != u32::MAX;
    src == dst || dst.low32() == 0 || first == 127 || first >= 224 || unspecified
}

fn fragment(header: &[u8; MIN_HEADER], payload: usize) -> Result<Fragment, DropReason> {
    let flags = word(header, 6);
    let (more, offset) = (flags & MORE_FRAGMENTS != 0, usize::from(flags & OFFSET_MASK) * 8);
    let id = u32::from(word(header, 4));
    match (offset, more) {
        (0, false) => Ok(Fragment::Whole),
        (0, true) => Ok(Fragment::First(id)),
        // Past 65,535 bytes, empty, or overlaying the transport header of the first (RFC 1858, RFC 3128).
        _ if offset + payload > 65_535
            || payload == 0
            || offset == 8 && header[9] == super::TCP =>
        {
            Err(DropReason::FragmentBad)
        }
        _ => Ok(Fragment::Later(id)),
    }
}

fn refuse_source_route(options: &[u8]) -> Result<(), DropReason> {
    let mut rest = options;
    while let [kind, tail @ ..] = rest {
        match *kind {
            OPTION_END => break,
            OPTION_NOP => rest = tail,
            OPTION_LOOSE_SOURCE_ROUTE | OPTION_STRICT_SOURCE_ROUTE => {
                return Err(DropReason::SourceRoute);
            }
            _ => {
                let len = tail.first().map_or(0, |&len| usize::from(len));
                if len < 2 || len > rest.len() {
                    return Err(DropReason::Malformed);
                }
                rest = &rest[len..];
            }
        }
    }
    Ok(())
}

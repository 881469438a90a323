//! IPv6 (RFC 8200) and its extension headers, of which a bounded number is walked.

use super::{Fragment, Headers, Ip, transport, word};
use crate::flow::Address;
use crate::verdict::DropReason;

const HEADER: usize = 40;
const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

pub(super) fn parse(frame: &[u8], l3: usize) -> Result<Headers, DropReason> {
    let header = frame[l3..].first_chunk::<HEADER>().ok_or(DropReason::Truncated)?;
    if header[0] >> 4 != 6 {
        return Err(DropReason::Malformed);
    }
    let end = l3 + HEADER + usize::from(word(header, 4));
    if frame.len() < end {
        return Err(DropReason::Truncated);
    }
    let address = |at: usize| Address::v6(std::array::from_fn(|i| header[at + i]));
    let (src, dst) = (address(8), address(24));
    if is_martian(src, dst) {
        return Err(DropReason::Martian);
    }
    let Chain { number, l4, fragment } = walk(&frame[..end], l3 + HEADER, header[6])?;
    transport(frame, Ip { l3, l4, end, v4: false, ttl: header[7], number, src, dst, fragment })
}

/// A source that cannot be a sender's, no destination, or LAND. `::` is duplicate address detection's, and only toward a group.
/// Mapped IPv4 addresses have no business on the wire (RFC 4942 section 2.2).
pub(super) fn is_martian(src: Address, dst: Address) -> bool {
    let unspecified = src.0 == 0 && dst.0 >> 120 != 0xff;
    src == dst
        || dst.0 == 0
        || src.0 == 1
        || src.0 >> 120 == 0xff
        || unspecified
        || src.is_v4()
        || dst.is_v4()
}

/// Where a chain of extension headers ends.
pub(super) struct Chain {
    pub(super) number: u8,
    pub(super) l4: usize,
    pub(super) fragment: Fragment,
}

/// Walks from the extension header at `at`, of type `next`, to the transport header. `packet` ends where the IP
/// packet (or what is quoted of it) ends.
pub(super) fn walk(packet: &[u8], mut at: usize, mut next: u8) -> Result<Chain, DropReason> {
    let mut fragment = Fragment::Whole;
    for _ in 0..=MAX_EXTENSIONS {
        let len = match next {
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING => {
                let header = packet.get(at..at + 8).ok_or(DropReason::Truncated)?;
                // Type 0 is a source route, deprecated for its amplification (RFC 5095).
                if next == ROUTING && header[2] == 0 && header[3] > 0 {
                    return Err(DropReason::SourceRoute);
                }
                next = header[0];
                usize::from(header[1]) * 8 + 8
            }
            FRAGMENT => {
                let header = packet.get(at..at + 8).ok_or(DropReason::Truncated)?;
                if fragment != Fragment::Whole {
                    return Err(DropReason::FragmentBad);
                }
                fragment = fragment_of(header, packet.len() - at - 8)?;
                next = header[0];
                if let Fragment::Later(_) = fragment {
                    return Ok(Chain { number: next, l4: at + 8, fragment });
                }
                8
            }
            _ => return Ok(Chain { number: next, l4: at, fragment }),
        };
        at += len;
        if at > packet.len() {
            return Err(DropReason::Truncated);
        }
    }
    Err(DropReason::ExtensionHeaders)
}

fn fragment_of(header: &[u8], payload: usize) -> Result<Fragment, DropReason> {
    let field = word(header, 2);
    let (offset, more) = (usize::from(field & 0xfff8), field & 1 != 0);
    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    match (offset, more) {
        // An atomic fragment (RFC 6946) is a whole packet.
        (0, false) => Ok(Fragment::Whole),
        (0, true) => Ok(Fragment::First(id)),
        _ if offset + payload > 65_535 || payload == 0 => Err(DropReason::FragmentBad),
        _ => Ok(Fragment::Later(id)),
    }
}

//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo, errors with the packet they quote, neighbour solicitation.

use super::{Fragment, ICMPV6, Kind, SCTP, TCP, UDP, checksum, ipv6, tuple};
use crate::flow::{Address, Protocol, Tuple};
use crate::verdict::DropReason;

const HEADER: usize = 8;

pub(super) fn parse_v4(frame: &[u8], l4: usize, end: usize) -> Result<Kind, DropReason> {
    let message = &frame[l4..end];
    let header = message.first_chunk::<HEADER>().ok_or(DropReason::Truncated)?;
    let is_error = matches!(header[0], 3 | 4 | 11 | 12);
    if (is_error || header[0] == 8) && checksum::finish(checksum::sum(message)) != 0 {
        return Err(DropReason::BadIcmpChecksum);
    }
    if header[0] == 8 {
        return Ok(Kind::EchoRequest);
    }
    Ok(is_error.then(|| quoted_v4(frame, l4 + HEADER, end)).flatten().unwrap_or(Kind::Other))
}

pub(super) fn parse_v6(
    frame: &[u8],
    src: Address,
    dst: Address,
    l4: usize,
    end: usize,
    hop_limit: u8,
) -> Result<Kind, DropReason> {
    const SOLICITATION: u8 = 135;
    let message = &frame[l4..end];
    let header = message.first_chunk::<HEADER>().ok_or(DropReason::Truncated)?;
    let is_error = matches!(header[0], 1..=4);
    if !is_error && !matches!(header[0], 128 | SOLICITATION) {
        return Ok(Kind::Other);
    }
    let pseudo = checksum::pseudo_header(src, dst, ICMPV6, message.len());
    if checksum::finish(pseudo + checksum::sum(message)) != 0 {
        return Err(DropReason::BadIcmpChecksum);
    }
    match header[0] {
        128 => Ok(Kind::EchoRequest),
        // Only from the link itself (RFC 4861 section 7.1.1).
        SOLICITATION if hop_limit == 255 => {
            let target = message.get(8..24).ok_or(DropReason::Truncated)?;
            let target = Address::v6(std::array::from_fn(|i| target[i]));
            // A mapped IPv4 address must not pass for the address itself.
            if target.is_v4() {
                return Err(DropReason::Malformed);
            }
            Ok(Kind::NeighborSolicitation { target })
        }
        SOLICITATION => Err(DropReason::Malformed),
        _ => Ok(quoted_v6(frame, l4 + HEADER, end).unwrap_or(Kind::Other)),
    }
}

/// The quoted packet may be cut behind eight bytes of its payload (RFC 792); its checksums may be anything.
fn quoted_v4(frame: &[u8], at: usize, end: usize) -> Option<Kind> {
    let header = frame[at..end].first_chunk::<20>()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let later = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    if header[0] >> 4 != 4 || header_len < 20 || later {
        return None;
    }
    let src = Address::v4([header[12], header[13], header[14], header[15]]);
    let dst = Address::v4([header[16], header[17], header[18], header[19]]);
    quoted(frame, src, dst, header[9], at, at + header_len, end)
}

fn quoted_v6(frame: &[u8], at: usize, end: usize) -> Option<Kind> {
    let header = frame[at..end].first_chunk::<40>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let address = |at: usize| Address::v6(std::array::from_fn(|i| header[at + i]));
    let (src, dst) = (address(8), address(24));
    // Mapped IPv4 addresses would name an IPv4 connection.
    if src.is_v4() || dst.is_v4() {
        return None;
    }
    let chain = ipv6::walk(&frame[..end], at + 40, header[6]).ok()?;
    if let Fragment::Later(_) = chain.fragment {
        return None;
    }
    quoted(frame, src, dst, chain.number, at, chain.l4, end)
}

fn quoted(
    frame: &[u8],
    src: Address,
    dst: Address,
    number: u8,
    quoted_l3: usize,
    quoted_l4: usize,
    end: usize,
) -> Option<Kind> {
    let protocol = match number {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        SCTP => Protocol::Sctp,
        _ => return None,
    };
    let ports = frame[..end].get(quoted_l4..)?.first_chunk::<4>()?;
    let tuple: Tuple = tuple(src, dst, ports, protocol).reversed();
    Some(Kind::IcmpError { tuple, quoted_l3, quoted_l4 })
}

//! The frames: 64 bytes with FCS, IPv4 and UDP, with right checksums.

use std::net::Ipv4Addr;

use dataplane::fib::Mac;

/// Length of a frame without FCS.
pub(super) const LEN: usize = 60;
const IP: usize = 14;
const UDP: usize = 34;
const UDP_PROTOCOL: u8 = 17;

pub(super) type Bytes = [u8; LEN];

/// Who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) source: (Ipv4Addr, u16),
    pub(super) destination: (Ipv4Addr, u16),
}

/// A frame without payload, from one neighbour to the other.
pub(super) fn build(from: Mac, to: Mac, ends: Ends) -> Bytes {
    let mut frame = [0; LEN];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..14].copy_from_slice(&[8, 0]);
    let (ip_len, udp_len) = (word(LEN - IP), word(LEN - UDP));
    frame[IP] = 0x45;
    frame[IP + 2..IP + 4].copy_from_slice(&ip_len);
    frame[IP + 8..IP + 10].copy_from_slice(&[64, UDP_PROTOCOL]);
    for (side, (address, port)) in [ends.source, ends.destination].into_iter().enumerate() {
        frame[IP + 12 + 4 * side..IP + 16 + 4 * side].copy_from_slice(&address.octets());
        frame[UDP + 2 * side..UDP + 2 + 2 * side].copy_from_slice(&port.to_be_bytes());
    }
    frame[UDP + 4..UDP + 6].copy_from_slice(&udp_len);
    let header = checksum(sum(&frame[IP..UDP]));
    frame[IP + 10..IP + 12].copy_from_slice(&header);
    let pseudo_header = sum(&frame[IP + 12..UDP]) + sum(&[0, UDP_PROTOCOL]) + sum(&udp_len);
    let transport = match checksum(pseudo_header + sum(&frame[UDP..])) {
        // Zero would say that there is none.
        [0, 0] => [0xff, 0xff],
        sum => sum,
    };
    frame[UDP + 6..UDP + 8].copy_from_slice(&transport);
    frame
}

/// Who sends a frame to whom; `None` unless it is UDP over IPv4 with right checksums.
pub(super) fn read(frame: &[u8]) -> Option<Ends> {
    let frame: &Bytes = frame.get(..LEN)?.try_into().ok()?;
    let is_udp = frame[12..15] == [8, 0, 0x45] && frame[IP + 9] == UDP_PROTOCOL;
    let end = |side: usize| {
        let at = IP + 12 + 4 * side;
        let address = Ipv4Addr::from([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        let at = UDP + 2 * side;
        (address, u16::from_be_bytes([frame[at], frame[at + 1]]))
    };
    let ends = Ends { source: end(0), destination: end(1) };
    // What is not in a checksum can be anything: the hop limit is taken as it comes.
    let right = checksum(sum(&frame[IP..UDP])) == [0, 0]
        && frame[UDP + 6..UDP + 8] == build([0; 6], [0; 6], ends)[UDP + 6..UDP + 8];
    (is_udp && right).then_some(ends)
}

/// The answer to a frame.
pub(super) fn answer(frame: &[u8], ends: Ends) -> Bytes {
    let mac = |at: usize| std::array::from_fn(|index| frame[at + index]);
    build(mac(0), mac(6), Ends { source: ends.destination, destination: ends.source })
}

fn word(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes()
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
}

fn checksum(sum: u32) -> [u8; 2] {
    let folded = (sum >> 16) + (sum & 0xffff);
    let folded = (folded >> 16) + (folded & 0xffff);
    (!u16::try_from(folded).unwrap_or(u16::MAX)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: Ends = Ends {
        source: (Ipv4Addr::new(10, 244, 0, 10), 1024),
        destination: (Ipv4Addr::new(10, 96, 0, 1), 80),
    };

    #[test]
    fn what_is_built_can_be_read_and_answered() {
        let frame = build([1; 6], [2; 6], ENDS);
        assert_eq!(read(&frame), Some(ENDS));
        let back = answer(&frame, ENDS);
        assert_eq!((&back[..6], &back[6..12]), (&[1; 6][..], &[2; 6][..]));
        let reversed = Ends { source: ENDS.destination, destination: ENDS.source };
        assert_eq!(read(&back), Some(reversed));
    }

    #[test]
    fn a_wrong_checksum_is_no_frame() {
        for at in [IP + 10, IP + 12, UDP, UDP + 6] {
            let mut frame = build([1; 6], [2; 6], ENDS);
            frame[at] ^= 1;
            assert_eq!(read(&frame), None, "byte {at}");
        }
    }
}

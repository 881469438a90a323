//! What a generated packet says about itself: the first bytes of its payload.
//!
//! 18 bytes, so that a UDP datagram over IPv4 in a frame of 64 bytes (with FCS) has room for them.

/// Length of a tag in bytes.
pub(super) const LEN: usize = 18;

/// Marks a packet as ours; the lowest bit is the direction.
const MAGIC: u16 = 0xb5a6;

/// Flow numbers from here on belong to probes.
pub(super) const PROBES: u32 = 0xf000_0000;

/// Which way a packet travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From a client through the VIP to a backend.
    Forward,
    /// From a backend back to the client.
    Reverse,
}

impl Direction {
    /// Place of a direction in arrays.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Forward => 0,
            Self::Reverse => 1,
        }
    }
}

/// The identity of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) direction: Direction,
    pub(super) flow: u32,
    /// Counts the packets of a flow and direction, from 0; a reply has the number of what it answers.
    pub(super) sequence: u32,
    /// When it was built, in cycles.
    pub(super) sent: u64,
}

impl Tag {
    /// The tag of a payload; `None` when the packet is not ours.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let bytes = payload.first_chunk::<LEN>()?;
        let magic = u16::from_be_bytes([bytes[0], bytes[1]]);
        if magic & !1 != MAGIC {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| bytes[at + i]));
        Some(Self {
            direction: if magic & 1 == 0 { Direction::Forward } else { Direction::Reverse },
            flow: word(2),
            sequence: word(6),
            sent: u64::from_be_bytes(std::array::from_fn(|i| bytes[10 + i])),
        })
    }

    /// Puts the tag in front of a payload, which must have room for it.
    pub(super) fn write(self, payload: &mut [u8]) {
        let magic = MAGIC | u16::from(self.direction == Direction::Reverse);
        payload[..2].copy_from_slice(&magic.to_be_bytes());
        payload[2..6].copy_from_slice(&self.flow.to_be_bytes());
        payload[6..10].copy_from_slice(&self.sequence.to_be_bytes());
        payload[10..18].copy_from_slice(&self.sent.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_reads_as_written_and_nothing_else_reads_as_one() {
        for direction in [Direction::Forward, Direction::Reverse] {
            let tag = Tag { direction, flow: 7, sequence: u32::MAX, sent: 1 << 40 };
            let mut payload = [0; LEN];
            tag.write(&mut payload);
            assert_eq!(Tag::read(&payload), Some(tag));
            assert_eq!(Tag::read(&payload[1..]), None);
        }
        assert_eq!(Tag::read(&[0; 64]), None);
    }
}

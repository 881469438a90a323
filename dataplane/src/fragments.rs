//! What later fragments need to follow the first one: its ports.
//!
//! Nothing is reassembled: the first fragment leaves its ports here, later ones pick them up; those that overtook it wait
//! in [`crate::held`]. So an overlap is not looked for: it changes no header, and is for the receiver to refuse (RFC 5722).
//! A bounded cache; under a flood of first fragments the oldest of a bucket makes room (RFC 4787 REQ-14).

use crate::clock::Moment;
use crate::hash::{HashKey, high32, low32, reduce};
use crate::wire::Headers;

const WAYS: usize = 4;
/// Fragments of one packet arrive together; a longer life only invites identification wrap (RFC 4963).
pub const LIFE_MILLIS: u64 = 2_000;

/// Ports by source, destination, identification and protocol.
#[derive(Debug)]
pub struct Fragments {
    key: HashKey,
    buckets: Box<[[Slot; WAYS]]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    src: u128,
    dst: u128,
    id: u32,
    ports: u32,
    until: Moment,
    number: u8,
}

impl Fragments {
    /// Room for about this many packets in fragments.
    #[must_use]
    pub fn new(packets: usize, key: HashKey) -> Self {
        Self { key, buckets: vec![[Slot::default(); WAYS]; packets.div_ceil(WAYS).max(1)].into() }
    }

    /// What all fragments of a packet have in common, in one number. Keyed, so that nobody makes two packets share it.
    #[must_use]
    pub fn name(&self, headers: &Headers, id: u32) -> u64 {
        let addresses =
            self.key.address(headers.src) ^ self.key.address(headers.dst).rotate_left(32);
        self.key.pair(addresses, u64::from(id) << 8 | u64::from(headers.number))
    }

    /// A first fragment: remembers its ports.
    pub fn remember(&mut self, headers: &Headers, id: u32, ports: u32, now: Moment) {
        let bucket = self.bucket(headers, id);
        let bucket = &mut self.buckets[bucket];
        let same = bucket.iter().position(|slot| slot.is_of(headers, id));
        let slot = same.unwrap_or_else(|| {
            let oldest = bucket.iter().enumerate().min_by_key(|(_, slot)| slot.until);
            oldest.map_or(0, |(way, _)| way)
        });
        bucket[slot] = Slot {
            src: headers.src.0,
            dst: headers.dst.0,
            id,
            ports,
            until: now.after(LIFE_MILLIS),
            number: headers.number,
        };
    }

    /// The ports of the packet a later fragment belongs to.
    #[must_use]
    pub fn ports(&self, headers: &Headers, id: u32, now: Moment) -> Option<u32> {
        let bucket = &self.buckets[self.bucket(headers, id)];
        let slot = bucket.iter().find(|slot| slot.is_of(headers, id) && slot.until > now)?;
        Some(slot.ports)
    }

    fn bucket(&self, headers: &Headers, id: u32) -> usize {
        let hash = self.name(headers, id);
        reduce(high32(hash) ^ low32(hash), self.buckets.len())
    }
}

impl Slot {
    fn is_of(&self, headers: &Headers, id: u32) -> bool {
        self.id == id
            && self.number == headers.number
            && self.src == headers.src.0
            && self.dst == headers.dst.0
    }
}

//! Keyed hashing of small fixed-size keys.
//!
//! The construction is the folded 64 x 64 -> 128 bit multiplication known from wyhash: a few cycles for a 5-tuple,
//! and with a secret key nobody outside can craft tuples that collide (a flood then finds no long probe sequences).
//! Two keys exist: a secret one per process for tables, and one shared by the fleet for choosing backends.

use crate::conntrack::key::{Key, KeyV4, KeyV6};
use crate::flow::{Address, Protocol, Tuple};

/// A hash key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey([u64; 4]);

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A secret key has no business in a log.
        f.write_str("HashKey(..)")
    }
}

impl HashKey {
    /// Expands 64 bits (random for a secret key, configured for the fleet's) to a key.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        let mut key = [0; 4];
        let mut state = seed;
        let mut i = 0;
        while i < key.len() {
            // splitmix64: every output differs and has about half its bits set, whatever the seed.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            key[i] = (z ^ (z >> 31)) | 1;
            i += 1;
        }
        Self(key)
    }

    /// Hash of a 5-tuple.
    #[must_use]
    #[inline]
    pub fn tuple(&self, tuple: &Tuple) -> u64 {
        if tuple.src.is_v4() { self.v4(&KeyV4::of(tuple)) } else { self.v6(&KeyV6::of(tuple)) }
    }

    /// Hash of an IPv4 flow.
    #[must_use]
    #[inline]
    pub fn v4(&self, key: &KeyV4) -> u64 {
        self.pair(key.addresses, u64::from(key.ports) | (key.protocol as u64) << 32)
    }

    /// Hash of an IPv6 flow.
    #[must_use]
    #[inline]
    pub fn v6(&self, key: &KeyV6) -> u64 {
        let addresses = fold(key.src[0] ^ self.0[2], key.src[1] ^ self.0[3])
            .wrapping_add(fold(key.dst[0] ^ self.0[1], key.dst[1] ^ self.0[0]).rotate_left(17));
        self.pair(addresses, u64::from(key.ports) | (key.protocol as u64) << 32)
    }

    /// Hash of one end of a flow: address, port, protocol.
    #[must_use]
    #[inline]
    pub fn end(&self, address: Address, port: u16, protocol: Protocol) -> u64 {
        let rest = u64::from(port) | (protocol as u64) << 16;
        let (high, low) = halves(address);
        self.pair(high ^ low.rotate_left(29), rest ^ low.wrapping_mul(self.0[3]))
    }

    /// Hash of an address.
    #[must_use]
    pub fn address(&self, address: Address) -> u64 {
        let (high, low) = halves(address);
        self.pair(high, low)
    }

    /// Hash of two numbers.
    #[must_use]
    #[inline]
    pub fn pair(&self, a: u64, b: u64) -> u64 {
        let once = fold(a ^ self.0[0], b ^ self.0[1]);
        fold(once ^ self.0[2], self.0[3])
    }
}

/// Maps a uniform 32-bit number to `0..n` without division (Lemire's multiply-shift).
#[must_use]
#[inline]
pub fn reduce(hash: u32, n: usize) -> usize {
    ((u64::from(hash) * n as u64) >> 32) as usize
}

/// The upper half of a hash.
#[must_use]
#[inline]
pub fn high32(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The lower half of a hash.
#[must_use]
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
pub fn low32(hash: u64) -> u32 {
    hash as u32
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "both halves of the product are folded")]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

/// The upper and the lower half of an address.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "both halves are returned")]
pub(crate) fn halves(address: Address) -> (u64, u64) {
    ((address.0 >> 64) as u64, address.0 as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_sequential_tuples_are_balanced() {
        let key = HashKey::new(7);
        let mut ones = [0u32; 64];
        for i in 0..10_000u32 {
            let tuple = Tuple {
                src: Address::v4((0x0a00_0000 + i / 100).to_be_bytes()),
                dst: Address::v4([10, 96, 0, 1]),
                sport: 1024 + (i % 100) as u16,
                dport: 80,
                protocol: Protocol::Tcp,
            };
            let hash = key.tuple(&tuple);
            for (bit, count) in ones.iter_mut().enumerate() {
                *count += u32::from(hash >> bit & 1 == 1);
            }
        }
        for (bit, count) in ones.iter().enumerate() {
            assert!((4_700..5_300).contains(count), "bit {bit} set in {count} of 10000");
        }
    }

    #[test]
    fn keys_differ() {
        let tuple = Tuple {
            src: Address::v6([1; 16]),
            dst: Address::v6([2; 16]),
            sport: 1,
            dport: 2,
            protocol: Protocol::Udp,
        };
        assert_ne!(HashKey::new(1).tuple(&tuple), HashKey::new(2).tuple(&tuple));
        assert_ne!(HashKey::new(1).tuple(&tuple), HashKey::new(1).tuple(&tuple.reversed()));
    }
}

//! Keys for the Toeplitz hash. Whoever knows the key can send everything to one queue, so they are made of random numbers.

/// Bytes of a key; NICs take the first 40 or 52.
pub const BYTES: usize = 64;

/// A key, as NICs take it.
pub type Key = [u8; BYTES];

/// A key that mixes all fields.
#[must_use]
pub fn of_flows(mut random: impl FnMut() -> u64) -> Key {
    std::array::from_fn(|_| random().to_be_bytes()[0])
}

/// A key whose bits repeat every 16. An address and a port then add the same to the hash whether they are source or
/// destination, and wherever among the hashed fields a NIC puts them, which drivers don't tell.
///
/// Half of its bits are set, about, and an odd number of them: then the lower 16 bits of the hash differ wherever the sum
/// of the hashed 16-bit words does.
#[must_use]
pub fn of_ends(mut random: impl FnMut() -> u64) -> Key {
    let [a, b, ..] = loop {
        let bytes = random().to_be_bytes();
        let ones = u16::from_be_bytes([bytes[0], bytes[1]]).count_ones();
        if matches!(ones, 7 | 9) {
            break bytes;
        }
    };
    std::array::from_fn(|at| if at % 2 == 0 { a } else { b })
}

/// Whether its bits repeat every 16.
pub(super) fn repeats(key: &[u8]) -> bool {
    key.windows(3).all(|bytes| bytes[0] == bytes[2])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Numbers that differ.
    fn numbers() -> impl FnMut() -> u64 {
        let mut number = 0_u64;
        move || {
            number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
            number ^ number >> 29
        }
    }

    #[test]
    fn only_a_key_of_ends_repeats() {
        let mut random = numbers();
        for _ in 0..100 {
            assert!(repeats(&of_ends(&mut random)));
            assert!(!repeats(&of_flows(&mut random)));
        }
    }

    #[test]
    fn sums_that_differ_differ_in_the_lower_bits_of_the_hash() {
        let mut random = numbers();
        for _ in 0..20 {
            let [a, b, ..] = of_ends(&mut random);
            let window = u32::from_be_bytes([a, b, a, b]);
            let hash = |sum: u16| {
                let bits = (0..16).filter(|bit| sum & 0x8000 >> bit != 0);
                bits.fold(0, |hash, bit| hash ^ window.rotate_left(bit)) & 0xffff
            };
            let hashes: HashSet<u32> = (0..=u16::MAX).map(hash).collect();
            assert_eq!(hashes.len(), 1 << 16);
        }
    }
}

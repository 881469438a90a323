//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Never repairs corruption (I9): an update keeps a wrong checksum wrong by the same amount.

use crate::flow::Address;

/// One's-complement sum of big-endian 16-bit words; an odd last byte is padded with zero. Not folded.
#[must_use]
pub fn sum(bytes: &[u8]) -> u32 {
    let mut words = bytes.chunks_exact(2);
    let total: u64 =
        words.by_ref().map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let odd = words.remainder().first().map_or(0, |&byte| u64::from(byte) << 8);
    u32::from(fold(total + odd))
}

/// The checksum field for data whose sum (with the field taken as zero) is `sum`.
#[must_use]
pub fn finish(sum: u32) -> u16 {
    !fold(u64::from(sum))
}

/// Sum of the pseudo header of TCP, UDP and ICMPv6 (RFC 9293 section 3.1, RFC 8200 section 8.1).
#[must_use]
pub fn pseudo_header(src: Address, dst: Address, protocol: u8, len: usize) -> u32 {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    address_sum(src) + address_sum(dst) + u32::from(protocol) + (len >> 16) + (len & 0xffff)
}

/// The change that an edit makes to a checksum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delta(u32);

impl Delta {
    /// A 16-bit word changed.
    #[must_use]
    #[inline]
    pub fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + u32::from(!old) + u32::from(new))
    }

    /// An address changed.
    #[must_use]
    #[inline]
    pub fn address(self, old: Address, new: Address) -> Self {
        Self(self.0 + u32::from(!fold(u64::from(address_sum(old)))) + address_sum(new))
    }

    /// The checksum after the edit: `~(~HC + ~m + m')`, equation 3 of RFC 1624.
    #[must_use]
    #[inline]
    pub fn apply(self, checksum: u16) -> u16 {
        !fold(u64::from(!checksum) + u64::from(self.0))
    }

    /// The same for UDP, where zero means "none" (RFC 768): none stays none, and a computed zero is sent as 0xffff.
    #[must_use]
    #[inline]
    pub fn apply_udp(self, checksum: u16) -> u16 {
        match checksum {
            0 => 0,
            _ => match self.apply(checksum) {
                0 => 0xffff,
                changed => changed,
            },
        }
    }
}

#[inline]
fn address_sum(address: Address) -> u32 {
    if address.is_v4() {
        let bits = address.low32();
        return (bits >> 16) + (bits & 0xffff);
    }
    let mut bits = address.0;
    let mut total = 0;
    for _ in 0..8 {
        total += crate::hash::low32(u64::try_from(bits & 0xffff).unwrap_or_default());
        bits >>= 16;
    }
    total
}

/// One's-complement addition, in words of 64 bits: zero only if both are.
#[inline]
pub(crate) fn add(sum: u64, word: u64) -> u64 {
    let (sum, carry) = sum.overflowing_add(word);
    sum + u64::from(carry)
}

/// The same in words of 32 bits.
#[inline]
pub(crate) fn add32(sum: u32, word: u32) -> u32 {
    let (sum, carry) = sum.overflowing_add(word);
    sum + u32::from(carry)
}

/// Folds a sum of words of 16 or 32 bits to 16 bits. Zero only if the sum is.
///
/// Adding a number to itself turned by half its width leaves, in the upper half, the sum of both halves with its carry
/// added back in.
#[inline]
pub(crate) fn fold(sum: u64) -> u16 {
    fold16(fold32(sum))
}

/// The first half of it.
#[inline]
pub(crate) fn fold32(sum: u64) -> u32 {
    (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32
}

/// The second half.
#[inline]
pub(crate) fn fold16(sum: u32) -> u16 {
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The checksum as RFC 1071 words it, one addition at a time.
    fn reference(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for (i, &byte) in bytes.iter().enumerate() {
            total += if i % 2 == 0 { u32::from(byte) << 8 } else { u32::from(byte) };
            total = (total & 0xffff) + (total >> 16);
        }
        !(total as u16)
    }

    #[test]
    fn every_old_checksum_updates_as_if_recomputed() {
        // The data is one word and filler, so that every checksum value occurs.
        for word in 0..=0xffffu16 {
            for (filler, new) in [(1u16, 0u16), (0xfffe, 0xffff), (0x1234, 0x8000), (0xffff, 1)] {
                let data = |word: u16| [word.to_be_bytes(), filler.to_be_bytes()].concat();
                let old = reference(&data(word));
                let updated = Delta::default().word(word, new).apply(old);
                assert_eq!(
                    updated,
                    reference(&data(new)),
                    "{word:#x} to {new:#x} beside {filler:#x}"
                );
            }
        }
    }

    #[test]
    fn udp_none_stays_none_and_zero_is_never_sent() {
        assert_eq!(Delta::default().word(1, 2).apply_udp(0), 0);
        // Data 0x0001 has checksum 0xfffe; changed to 0xffff its checksum would be 0.
        assert_eq!(Delta::default().word(1, 0xffff).apply_udp(0xfffe), 0xffff);
    }

    proptest! {
        #[test]
        fn sum_equals_the_reference(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(finish(sum(&bytes)), reference(&bytes));
        }

        #[test]
        fn addresses_update_as_if_recomputed(old: [u8; 16], new: [u8; 16], rest: [u8; 20], v4: bool) {
            let cut = if v4 { 12 } else { 0 };
            let address = |bytes: [u8; 16]| {
                if v4 { Address::v4([bytes[12], bytes[13], bytes[14], bytes[15]]) } else { Address::v6(bytes) }
            };
            // A packet is never all zero: the protocol number alone sees to that.
            let data = |bytes: &[u8; 16]| [&bytes[cut..], &rest[..], &[1, 1]].concat();
            let updated = Delta::default().address(address(old), address(new)).apply(reference(&data(&old)));
            prop_assert_eq!(updated, reference(&data(&new)));
        }
    }
}

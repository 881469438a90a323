//! CRC32c (Castagnoli), the checksum of SCTP (RFC 9260 section 6.8, appendix A).
//!
//! Eight bytes at a time by eight tables that are made at compile time: 8 KiB, which only SCTP ever pulls into a cache.

/// The polynomial 0x1EDC6F41, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLES: [[u32; 256]; 8] = tables();
/// Element k advances a state by 2^k bytes of zeros: x to the power of 8 times that, modulo the polynomial.
const POWERS: [u32; 17] = powers();

/// The checksum of these bytes, as a number; SCTP writes its least significant byte first.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    !extend(u32::MAX, bytes)
}

/// What another value of four bytes changes in the checksum of the packet that they stand in, as a number to xor:
/// `difference` is old xor new, and `behind` the number of bytes that follow, below 2^17.
///
/// A CRC is linear, so a right checksum stays right and a wrong one wrong, and the bytes that follow need not be read.
#[must_use]
pub fn change(difference: [u8; 4], behind: usize) -> u32 {
    let mut moved = extend(0, &difference);
    for (bit, power) in POWERS.iter().enumerate() {
        if behind >> bit & 1 == 1 {
            moved = multiply(*power, moved);
        }
    }
    moved
}

/// Goes on with the inner state `crc`, which begins as all ones and is inverted at the end.
#[must_use]
pub(crate) fn extend(mut crc: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let [a, b, c, d, e, f, g, h] = *word;
        let [p, q, r, s] = (crc ^ u32::from_le_bytes([a, b, c, d])).to_le_bytes();
        crc = 0;
        for (table, byte) in TABLES.iter().rev().zip([p, q, r, s, e, f, g, h]) {
            crc ^= table[usize::from(byte)];
        }
    }
    for byte in rest {
        crc = step(crc, *byte);
    }
    crc
}

fn step(crc: u32, byte: u8) -> u32 {
    let [low, ..] = crc.to_le_bytes();
    crc >> 8 ^ TABLES[0][usize::from(low ^ byte)]
}

/// The product of two polynomials modulo the CRC's; the highest bit is the coefficient of x^0.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        bit >>= 1;
        b = if b & 1 == 1 { b >> 1 ^ POLYNOMIAL } else { b >> 1 };
    }
    product
}

const fn powers() -> [u32; 17] {
    // x^8, a byte's worth.
    let mut powers = [1 << 23; 17];
    let mut k = 1;
    while k < powers.len() {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
}

/// Table k advances a byte by k more bytes of zeros.
#[expect(clippy::cast_possible_truncation, reason = "an index below 256")]
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][i] = crc;
        i += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut i = 0;
        while i < 256 {
            let before = tables[k - 1][i];
            tables[k][i] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            i += 1;
        }
        k += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_rfc_3720_appendix_b_4() {
        let ascending: [u8; 32] = std::array::from_fn(|i| i as u8);
        let descending: [u8; 32] = std::array::from_fn(|i| 31 - i as u8);
        for (bytes, expected) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&descending, 0x113f_db5c),
            (b"123456789", 0xe306_9283),
        ] {
            assert_eq!(checksum(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn a_change_of_ports_changes_what_a_new_sum_would() {
        let old: Vec<u8> = (0..1500).map(|i: u32| (i * 7 + i / 256) as u8).collect();
        for len in [12, 13, 16, 40, 255, 256, 1000, 1500] {
            let mut new = old[..len].to_vec();
            new[..4].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
            let difference = std::array::from_fn(|i| old[i] ^ new[i]);
            let expected = checksum(&old[..len]) ^ checksum(&new);
            assert_eq!(change(difference, len - 4), expected, "{len} bytes");
        }
    }

    #[test]
    fn any_split_gives_the_same() {
        let bytes: Vec<u8> = (0..100).map(|i: u32| (i * i) as u8).collect();
        for at in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(at);
            assert_eq!(!extend(extend(u32::MAX, head), tail), checksum(&bytes));
        }
    }
}

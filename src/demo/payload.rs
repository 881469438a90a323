//! The bytes of the download: the same every time, never repeating soon, so that a wrong, missing or doubled segment
//! shows in the sum.

/// Bytes of the download.
pub(super) const SIZE: u64 = 6 << 20;

/// A source of the bytes.
#[derive(Debug)]
pub(super) struct Payload(u64);

impl Payload {
    pub(super) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// The next bytes (xorshift).
    pub(super) fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *byte = self.0.to_be_bytes()[0];
        }
    }
}

/// A sum of bytes that depends on their order (FNV-1a).
#[derive(Debug)]
pub(super) struct Sum(pub(super) u64);

impl Sum {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// What the sum of a whole download must be.
pub(super) fn expected_sum() -> u64 {
    let (mut payload, mut sum) = (Payload::new(), Sum::new());
    let mut chunk = [0; 4096];
    for _ in 0..SIZE / chunk.len() as u64 {
        payload.fill(&mut chunk);
        sum.add(&chunk);
    }
    sum.0
}

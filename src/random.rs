//! Random numbers for secrets, from the operating system by way of the standard library.

use std::hash::{BuildHasher, Hasher, RandomState};

/// 64 random bits.
#[must_use]
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

//! Pauses between attempts: exponential, with jitter, so that a fleet does not return in step.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// The pauses of one chain of failures.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    random: RandomState,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST, random: RandomState::new() }
    }

    /// The attempt succeeded.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// How long to wait after a failure: between half and the whole of a time that doubles.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        // The standard library's only source of randomness is the key of its hasher.
        self.random = RandomState::new();
        let random = self.random.build_hasher().finish() >> 48;
        let share = u32::try_from(random).unwrap_or_default();
        whole / 2 + whole / 2 * share / (1 << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        let mut backoff = Backoff::new();
        let mut whole = FIRST;
        for _ in 0..20 {
            let pause = backoff.pause();
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
            whole = (whole * 2).min(LONGEST);
        }
        assert!((0..20).any(|_| backoff.pause() != backoff.pause()));
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }
}

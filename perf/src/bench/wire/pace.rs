//! When frames are due, and whose turn it is.

use dataplane::nic::BURST;

/// Frames that may be due at a time, some of which the smallest ring takes at once. What is more was missed, and is not
/// made up for.
const BACKLOG: u64 = 512;
/// Rates are kept in frames a cycle, times two to the power of so many bits.
const SHIFT: u32 = 48;

/// A rate, by the clock.
#[derive(Debug)]
pub(super) struct Pace {
    /// Frames a cycle, shifted; none when as many as can be.
    rate: Option<u128>,
    start: u64,
    granted: u64,
}

impl Pace {
    /// `rate` frames a second from `start` on, by a clock of `hz`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive and far below the clock's"
    )]
    pub(super) fn new(rate: f64, hz: u64, start: u64) -> Self {
        let shifted = rate / hz as f64 * (1_u64 << SHIFT) as f64;
        Self { rate: rate.is_finite().then_some(shifted as u128), start, granted: 0 }
    }

    /// How many frames to send now, at most a burst.
    #[inline]
    pub(super) fn due(&mut self, now: u64) -> usize {
        let Some(total) = self.intended(now) else { return BURST };
        let owed = total - self.granted;
        if owed > BACKLOG {
            self.granted = total - BACKLOG;
        }
        let count = owed.min(BURST as u64);
        self.granted += count;
        usize::try_from(count).unwrap_or(BURST)
    }

    /// How many frames were due until now, in all; none without a rate.
    #[inline]
    pub(super) fn intended(&self, now: u64) -> Option<u64> {
        let elapsed = u128::from(now.saturating_sub(self.start));
        self.rate.map(|rate| u64::try_from((elapsed * rate) >> SHIFT).unwrap_or(u64::MAX))
    }
}

/// The order of flows: each once a round, far from its neighbours.
#[derive(Debug)]
pub(super) struct Turns {
    flows: u32,
    stride: u32,
    at: u32,
}

impl Turns {
    /// Of so many flows, at least one.
    pub(super) fn new(flows: u32) -> Self {
        // About the golden section, which spreads evenly; without a common divisor it comes by everybody.
        let mut stride = u32::try_from(u64::from(flows) * 618 / 1000).unwrap_or(1).max(1);
        while common_divisor(stride, flows) != 1 {
            stride += 1;
        }
        Self { flows, stride, at: 0 }
    }

    #[inline]
    pub(super) fn next(&mut self) -> u32 {
        let flow = self.at;
        self.at += self.stride;
        if self.at >= self.flows {
            self.at -= self.flows;
        }
        flow
    }
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 2_600_000_000;

    #[test]
    fn the_rate_is_kept_however_often_one_looks() {
        for rate in [1000.0, 123_456.0, 9_876_543.0] {
            for step in [100, 2_000] {
                let mut pace = Pace::new(rate, HZ, 77);
                let sent: usize = (0..HZ / 10 / step).map(|i| pace.due(77 + i * step)).sum();
                // What fell due since the last look is not sent yet.
                let (expected, unseen) = (rate / 10.0, rate * step as f64 / HZ as f64);
                assert!((sent as f64 - expected).abs() < 3.0 + unseen, "{sent} at {rate}");
            }
        }
    }

    #[test]
    fn what_was_missed_is_intended_and_not_sent() {
        let mut pace = Pace::new(1e6, HZ, 0);
        let sent: usize = (0..100).map(|_| pace.due(HZ)).sum();
        assert_eq!((sent as u64, pace.intended(HZ)), (BACKLOG, Some(999_999)));
        let mut unbounded = Pace::new(f64::INFINITY, HZ, 0);
        assert_eq!((unbounded.due(0), unbounded.intended(HZ)), (BURST, None));
    }

    #[test]
    fn every_flow_has_its_turn_once_a_round() {
        for flows in [1, 2, 10, 10_000, 65_536] {
            let mut turns = Turns::new(flows);
            for _ in 0..2 {
                let seen: std::collections::HashSet<u32> =
                    (0..flows).map(|_| turns.next()).collect();
                assert_eq!(seen.len(), flows as usize);
            }
        }
    }
}

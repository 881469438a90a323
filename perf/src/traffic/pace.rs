//! Evenly spaced turns: so many a second, by the clock of CPU cycles.

/// Turns that come due with time.
#[derive(Debug)]
pub(super) struct Pace {
    /// Cycles from one turn to the next, in 1/65536 of a cycle; none when there are no turns at all.
    interval: Option<u128>,
    /// When the next turn is due, in the same unit.
    next: u128,
    /// How far behind it may fall before turns are given up.
    patience: u128,
}

const SHIFT: u32 = 16;

impl Pace {
    /// `rate` turns a second from `now` on. What was not taken after 20 ms is not made up for: a generator that lost
    /// its core for a while shall not become a burst.
    pub(super) fn new(rate: f64, hz: u64, now: u64) -> Self {
        let interval = (rate > 0.0).then(|| u128::from(cycles(65536.0 / rate, hz)).max(1));
        let patience = (u128::from(hz) << SHIFT) / 50;
        Self { interval, next: u128::from(now) << SHIFT, patience }
    }

    /// Whether a turn is due.
    pub(super) fn is_due(&mut self, now: u64) -> bool {
        let now = u128::from(now) << SHIFT;
        self.next = self.next.max(now.saturating_sub(self.patience));
        self.interval.is_some() && self.next <= now
    }

    /// Cycles that this many turns take, all told.
    pub(super) fn duration(turns: f64, rate: f64, hz: u64) -> u64 {
        if rate > 0.0 { cycles(turns / rate, hz) } else { 0 }
    }

    /// Takes a turn.
    pub(super) fn take(&mut self) {
        self.next += self.interval.unwrap_or_default();
    }
}

/// Cycles in some seconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "clock rates are exact in 53 bits; what does not fit at all saturates"
)]
pub(super) fn cycles(seconds: f64, hz: u64) -> u64 {
    (seconds * hz as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 2_000_000_000;

    fn taken(pace: &mut Pace, now: u64) -> u64 {
        let mut turns = 0;
        while pace.is_due(now) {
            pace.take();
            turns += 1;
        }
        turns
    }

    #[test]
    fn turns_come_at_the_rate_however_often_one_looks() {
        for step in [1_000, 77_777, 10_000_000] {
            let mut pace = Pace::new(30_000.0, HZ, 5);
            let turns: u64 = (0..)
                .map(|i| 5 + i * step)
                .take_while(|&now| now < 5 + HZ)
                .map(|now| taken(&mut pace, now))
                .sum();
            assert!((29_699..=30_001).contains(&turns), "{turns} with steps of {step}");
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for_and_no_rate_is_no_turns() {
        let mut pace = Pace::new(1000.0, HZ, 0);
        assert!(taken(&mut pace, HZ) <= 21);
        assert_eq!(taken(&mut Pace::new(0.0, HZ, 0), HZ), 0);
    }
}

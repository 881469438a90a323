//! Where a worker's cycles go, by stage of a turn. Measured on a sample of turns, so that it costs next to nothing; the
//! others run code in which the stopwatch does not exist.

use crate::counters::StageCounters;

/// The stages of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Receiving bursts, and looking for a newer table.
    Receive,
    /// The first look: parse, hash, ask for the connection's line.
    Prepare,
    /// Finding connections.
    LookAhead,
    /// Deciding and rewriting.
    Rewrite,
    /// Finding out where connections to Services go that the burst opens, and adding them.
    Open,
    /// Expiry and counters.
    Tick,
    /// Sending, handing over, giving buffers back.
    Transmit,
}

impl Stage {
    /// Number of stages.
    pub const COUNT: usize = Self::ALL.len();

    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Receive,
        Self::Prepare,
        Self::LookAhead,
        Self::Rewrite,
        Self::Open,
        Self::Tick,
        Self::Transmit,
    ];

    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Prepare => "prepare",
            Self::LookAhead => "look_ahead",
            Self::Rewrite => "rewrite",
            Self::Open => "open",
            Self::Tick => "tick",
            Self::Transmit => "transmit",
        }
    }
}

/// Told at the end of every stage.
pub trait Stopwatch {
    /// The time since the last call was this stage's.
    fn lap(&mut self, stage: Stage);
}

/// Measures nothing.
impl Stopwatch for () {
    #[inline(always)]
    fn lap(&mut self, _stage: Stage) {}
}

/// Measures one turn with a clock of cycles.
#[derive(Debug)]
pub struct Laps<F> {
    clock: F,
    last: u64,
    cycles: [u64; Stage::COUNT],
}

impl<F: Fn() -> u64> Laps<F> {
    /// Starts now.
    pub fn start(clock: F) -> Self {
        let last = clock();
        Self { clock, last, cycles: [0; Stage::COUNT] }
    }

    /// Counts the turn, if it handled frames.
    pub fn count(&self, frames: usize, counters: &StageCounters) {
        if frames == 0 {
            return;
        }
        counters.frames.add(frames as u64);
        for (counter, cycles) in counters.cycles.iter().zip(self.cycles) {
            counter.add(cycles);
        }
    }
}

impl<F: Fn() -> u64> Stopwatch for Laps<F> {
    fn lap(&mut self, stage: Stage) {
        let now = (self.clock)();
        self.cycles[stage as usize] += now.wrapping_sub(self.last);
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn every_stage_gets_the_time_before_its_end() {
        let time = Cell::new(100);
        let tick = |cycles| time.set(time.get() + cycles);
        let mut laps = Laps::start(|| time.get());
        tick(5);
        laps.lap(Stage::Receive);
        tick(7);
        laps.lap(Stage::Transmit);
        tick(1);
        laps.lap(Stage::Receive);
        let counters = StageCounters::default();
        laps.count(0, &counters);
        assert_eq!(counters.cycles[0].get(), 0, "an idle turn counts nowhere");
        laps.count(3, &counters);
        assert_eq!(counters.frames.get(), 3);
        assert_eq!(counters.cycles.each_ref().map(|c| c.get()), [6, 0, 0, 0, 0, 0, 7]);
        for (number, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, number);
        }
    }
}

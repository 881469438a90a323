//! One trial: what was offered, what came back, and how it differs.
//!
//! Frames of a link are numbered, and both devices keep their order: every gap is a loss of so many in a row, and a
//! number that goes back is a frame that came twice or late.

use hdrhistogram::Histogram;

use super::frames::Tag;

/// Every so many frames (a power of two) have their latency noted, when that is asked for.
const TIMED: u32 = 8;
/// The largest latency that is told from larger ones, in cycles: some ten seconds.
const LONGEST: u64 = 1 << 35;
/// Least share of a rate that the generator must have kept, or else the trial says nothing about the device.
const KEPT: f64 = 0.99;

/// A trial so far.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    /// Frames that were to be sent.
    pub(super) intended: u64,
    /// Frames that the ring to the device took, and did not take.
    pub(super) taken: u64,
    pub(super) refused: u64,
    pub(super) received: u64,
    /// Frames of an earlier trial, whose end they missed: a device may have lost its core for long.
    pub(super) stragglers: u64,
    /// Frames that came twice or late.
    pub(super) disordered: u64,
    /// Frames with wrong ends or checksums, of those looked at.
    pub(super) wrong: u64,
    pub(super) checked: u64,
    /// Longest loss in a row, and how often there was one.
    pub(super) longest_gap: u64,
    pub(super) gaps: u64,
    /// The longest time between two turns of the generator, in cycles.
    pub(super) stall: u64,
    /// How long frames were sent for.
    pub(super) seconds: f64,
    /// Cycles from transmission to arrival.
    pub(super) latency: Option<Histogram<u64>>,
    first: u32,
    next: u32,
}

impl Trial {
    /// Nothing so far; `first` is the number of the first frame.
    pub(super) fn new(first: u32, timed: bool) -> Self {
        Self {
            intended: 0,
            taken: 0,
            refused: 0,
            received: 0,
            stragglers: 0,
            disordered: 0,
            wrong: 0,
            checked: 0,
            longest_gap: 0,
            gaps: 0,
            stall: 0,
            seconds: 0.0,
            latency: timed.then(|| Histogram::new_with_max(LONGEST, 3).ok()).flatten(),
            first,
            next: first,
        }
    }

    /// A frame came back.
    #[inline]
    pub(super) fn arrived(&mut self, tag: Tag, now: u64) {
        if behind(self.first, tag.sequence) {
            self.stragglers += 1;
            return;
        }
        self.received += 1;
        let ahead = tag.sequence.wrapping_sub(self.next);
        if ahead == 0 {
            self.next = self.next.wrapping_add(1);
        } else if behind(self.next, tag.sequence) {
            self.disordered += 1;
        } else {
            self.gap(u64::from(ahead));
            self.next = tag.sequence.wrapping_add(1);
        }
        if tag.sequence & (TIMED - 1) == 0
            && let Some(latency) = &mut self.latency
        {
            latency.saturating_record(now.saturating_sub(tag.sent));
        }
    }

    /// The trial is over; the frame after its last one would have had this number.
    pub(super) fn close(&mut self, end: u32, seconds: f64) {
        let missing = end.wrapping_sub(self.next);
        if missing != 0 {
            self.gap(u64::from(missing));
        }
        self.next = end;
        self.seconds = seconds;
    }

    /// Frames that were offered.
    pub(super) fn offered(&self) -> u64 {
        self.taken + self.refused
    }

    /// Whether every frame offered came back, once and in order.
    pub(super) fn lossless(&self) -> bool {
        self.received == self.offered() && self.disordered == 0
    }

    /// Whether the generator kept the rate that it was given.
    pub(super) fn kept(&self) -> bool {
        self.offered() as f64 >= self.intended as f64 * KEPT
    }

    pub(super) fn lost(&self) -> u64 {
        self.offered().saturating_sub(self.received)
    }

    /// Frames a second that came back.
    pub(super) fn received_rate(&self) -> f64 {
        self.received as f64 / self.seconds
    }

    pub(super) fn offered_rate(&self) -> f64 {
        self.offered() as f64 / self.seconds
    }

    fn gap(&mut self, frames: u64) {
        self.gaps += 1;
        self.longest_gap = self.longest_gap.max(frames);
    }
}

/// Whether a number comes before another; numbers wrap.
fn behind(number: u32, other: u32) -> bool {
    other.wrapping_sub(number) > u32::MAX / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(first: u32, offered: u64, arrivals: &[u32]) -> Trial {
        let mut trial = Trial::new(first, true);
        (trial.intended, trial.taken) = (offered, offered);
        for &sequence in arrivals {
            trial.arrived(Tag { flow: 0, sequence, sent: 10 }, 110);
        }
        trial.close(first.wrapping_add(u32::try_from(offered).unwrap()), 0.5);
        trial
    }

    #[test]
    fn gaps_are_losses_in_a_row_even_at_the_end_and_over_the_wrap() {
        let first = u32::MAX - 1;
        let all = trial(first, 6, &[first, u32::MAX, 0, 1, 2, 3]);
        assert!(all.lossless() && all.kept());
        assert_eq!((all.gaps, all.longest_gap, all.received_rate()), (0, 0, 12.0));
        assert_eq!(all.latency.unwrap().max(), 100);
        let some = trial(first, 9, &[u32::MAX, 3, 4]);
        assert!(!some.lossless());
        assert_eq!((some.lost(), some.gaps, some.longest_gap), (6, 3, 3));
    }

    #[test]
    fn stragglers_of_an_earlier_trial_do_not_count() {
        let late = trial(5, 2, &[3, 4, 5, 6]);
        assert!(late.lossless());
        assert_eq!((late.received, late.stragglers), (2, 2));
    }

    #[test]
    fn what_comes_twice_does_not_make_up_for_a_loss() {
        let twice = trial(0, 4, &[0, 1, 1, 3]);
        assert_eq!((twice.lost(), twice.disordered, twice.gaps), (0, 1, 1));
        assert!(!twice.lossless());
    }
}

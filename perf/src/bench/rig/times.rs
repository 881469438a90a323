//! What rounds took, on a core that may be taken away.
//!
//! The core of a virtual machine, and one that others use too, is now and then given to somebody else for some
//! milliseconds, in which a round of a tenth of a millisecond seems to have worked. Such rounds are left out, and what
//! they were is told. Nothing of ours takes so long: the heaviest turn of a worker, the one in which a millisecond
//! begins, is a fraction of a round.

/// Rounds that took so many times the median one were interrupted.
const INTERRUPTED: u64 = 4;

/// Cycles of rounds of the same size.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<u64>);

impl Times {
    pub(crate) fn push(&mut self, cycles: u64) {
        self.0.push(cycles);
    }

    /// The mean of the rounds that were not interrupted.
    pub(crate) fn mean(&self) -> f64 {
        let whole = self.whole();
        whole.iter().sum::<u64>() as f64 / whole.len() as f64
    }

    /// The share of rounds that were.
    pub(crate) fn interrupted(&self) -> f64 {
        1.0 - self.whole().len() as f64 / self.0.len() as f64
    }

    fn whole(&self) -> Vec<u64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        sorted.retain(|&cycles| cycles < median.saturating_mul(INTERRUPTED));
        sorted
    }
}

/// What to say about figures of which so large a share was left out, if it is worth a word.
pub(crate) fn note(interrupted: f64) -> Option<String> {
    let percent = interrupted * 100.0;
    (percent >= 1.0).then(|| format!("{percent:.0} % of the rounds left out: interrupted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_in_which_the_core_was_away_do_not_count() {
        let times = Times([vec![100; 90], vec![150; 9], vec![9_000]].concat());
        assert!((times.mean() - (9_000.0 + 1_350.0) / 99.0).abs() < 1e-9);
        assert!((times.interrupted() - 0.01).abs() < 1e-9);
        assert_eq!(note(times.interrupted() / 2.0), None);
    }
}

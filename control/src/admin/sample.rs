//! Two looks at the workers' counters: what a worker did lately, and whether it does anything at all.

use super::facts::WorkerFacts;

/// The last two looks.
#[derive(Debug, Default)]
pub(super) struct Samples {
    before: Vec<Sample>,
    last: Vec<Sample>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    polls: u64,
    cycles: u64,
    busy_cycles: u64,
}

impl Samples {
    pub(super) fn take(&mut self, workers: &[WorkerFacts]) {
        self.before = std::mem::take(&mut self.last);
        self.last = workers.iter().map(Sample::of).collect();
    }

    /// Whether worker `index` polled between the last two looks; `None` before there were two.
    pub(super) fn polls(&self, index: usize) -> Option<bool> {
        let (before, last) = (self.before.get(index)?, self.last.get(index)?);
        Some(last.polls != before.polls)
    }

    /// Percent of a worker's cycles that found packets: between the last two looks, or since its start.
    pub(super) fn busy_percent(&self, index: usize, worker: &WorkerFacts) -> f64 {
        let pair = self.before.get(index).copied().zip(self.last.get(index).copied());
        let (before, last) = pair.unwrap_or_else(|| (Sample::default(), Sample::of(worker)));
        let cycles = last.cycles.saturating_sub(before.cycles);
        ratio(last.busy_cycles.saturating_sub(before.busy_cycles), cycles) * 100.0
    }
}

impl Sample {
    fn of(worker: &WorkerFacts) -> Self {
        let work = &worker.counters.work;
        Self {
            polls: work.polls.get(),
            cycles: work.cycles.get(),
            busy_cycles: work.busy_cycles.get(),
        }
    }
}

/// Rounded to a thousandth; 0 of nothing. Counters are read one after the other while they move, so a part can seem
/// larger than its whole.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 1000.0).round() / 1000.0 }
}

//! What became of Events.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why an Event was not posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The API server, or the lack of a right.
    Refused,
    /// There were more to say than are remembered.
    TooMany,
}

/// Figures about Events.
#[derive(Debug, Default)]
pub struct Counters {
    sent: AtomicU64,
    refused: AtomicU64,
    too_many: AtomicU64,
}

impl Cause {
    /// As a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::TooMany => "too_many",
        }
    }
}

impl Counters {
    /// Events that were posted, or posted again.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Events that were not, by cause.
    pub fn dropped(&self) -> impl Iterator<Item = (Cause, u64)> {
        let counts = [(Cause::Refused, &self.refused), (Cause::TooMany, &self.too_many)];
        counts.into_iter().map(|(cause, count)| (cause, count.load(Ordering::Relaxed)))
    }

    pub(super) fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_dropped(&self, cause: Cause, events: usize) {
        let counter = match cause {
            Cause::Refused => &self.refused,
            Cause::TooMany => &self.too_many,
        };
        counter.fetch_add(events as u64, Ordering::Relaxed);
    }
}

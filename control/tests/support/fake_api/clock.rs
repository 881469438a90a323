//! The server's time: the real one, or what a test says it is.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{self, Instant};

/// Time since the server began.
#[derive(Clone, Copy, Debug)]
pub(super) enum Clock {
    Real(Instant),
    Told(Duration),
}

impl Clock {
    pub(super) fn now(self) -> Duration {
        match self {
            Self::Real(start) => start.elapsed(),
            Self::Told(now) => now,
        }
    }
}

/// Waits for whatever an open request must look at again.
pub(super) struct Waiter(pub(super) watch::Receiver<u64>);

impl Waiter {
    /// What happened so far is known.
    pub(super) fn see(&mut self) {
        self.0.borrow_and_update();
    }

    /// Waits for a change, or for a time. A told clock wakes everybody when it moves.
    pub(super) async fn wait(&mut self, clock: Clock, until: Option<Duration>) {
        let change = self.0.changed();
        match (clock, until) {
            (Clock::Real(start), Some(until)) => {
                // Either is a reason to look.
                let _ = time::timeout_at(start + until, change).await;
            }
            _ => change.await.expect("the server lives"),
        }
    }
}

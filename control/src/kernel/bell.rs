//! How the control thread hears that workers have something for it, without looking all the time.
//!
//! Invariants: a worker that rings reads one flag while nobody waits, and wakes the control thread at most once a wait. A ring
//! in the very moment in which somebody begins to wait may be missed: it then takes [`LONGEST`] until he looks.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Between two looks while something comes.
const SHORTEST: Duration = Duration::from_millis(1);
/// Between two looks when nothing has come for a while.
const LONGEST: Duration = Duration::from_millis(50);

/// One bell; somebody waits at it.
#[derive(Debug, Default)]
pub struct Bell {
    waits: AtomicBool,
    heard: Notify,
}

impl Bell {
    /// Something is there to be looked at. For any thread.
    #[inline]
    pub fn ring(&self) {
        if self.waits.load(Relaxed) && self.waits.swap(false, Relaxed) {
            self.heard.notify_one();
        }
    }
}

/// All bells of a process.
#[derive(Clone, Debug)]
pub struct Bells {
    /// By port: for frames to the kernel.
    pub twins: Arc<[Arc<Bell>]>,
    /// For next hops that are wanted.
    pub resolver: Arc<Bell>,
}

impl Bells {
    /// Bells for so many ports.
    #[must_use]
    pub fn new(ports: usize) -> Self {
        Self { twins: (0..ports).map(|_| Arc::default()).collect(), resolver: Arc::default() }
    }

    /// Rings all: whoever finds nothing waits again.
    #[inline]
    pub fn ring(&self) {
        self.twins.iter().chain([&self.resolver]).for_each(|bell| bell.ring());
    }
}

/// The pauses between looks: longer and longer while nothing is found, and the longest ends when the bell rings.
#[derive(Debug)]
pub(super) struct Pace {
    bell: Arc<Bell>,
    pause: Duration,
}

impl Pace {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self { bell, pause: SHORTEST }
    }

    /// Whether the last look found something.
    pub(super) fn found(&mut self, something: bool) {
        self.pause = if something { SHORTEST } else { (self.pause * 2).min(LONGEST) };
    }

    /// Waits for the next look. It may be given up at any time.
    pub(super) async fn wait(&self) {
        if self.pause < LONGEST {
            return sleep(self.pause).await;
        }
        self.bell.waits.store(true, Relaxed);
        // Either way it is time to look.
        let _ = timeout(self.pause, self.bell.heard.notified()).await;
        self.bell.waits.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_until_something_comes_and_the_longest_ends_with_the_bell() {
        let bell = Arc::new(Bell::default());
        let mut pace = Pace::new(bell.clone());
        let mut waited = Vec::new();
        for _ in 0..8 {
            let start = Instant::now();
            // Nobody waits at it yet.
            bell.ring();
            pace.wait().await;
            waited.push(start.elapsed().as_millis());
            pace.found(false);
        }
        assert_eq!(waited, [1, 2, 4, 8, 16, 32, 50, 50]);
        let start = Instant::now();
        let ring = async {
            sleep(Duration::from_millis(7)).await;
            bell.ring();
            bell.ring();
        };
        tokio::join!(pace.wait(), ring);
        assert_eq!(start.elapsed().as_millis(), 7);
        let start = Instant::now();
        pace.wait().await;
        assert_eq!(start.elapsed().as_millis(), 50, "two rings are one");
        pace.found(true);
        let start = Instant::now();
        pace.wait().await;
        assert_eq!(start.elapsed().as_millis(), 1);
    }
}

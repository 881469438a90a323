//! How busy the gateway's core is, with whatever runs there: interrupts, kernel threads, a worker.
//!
//! The kernel's own accounting looks at a core once a tick and misses most of what interrupts do. So a thread of the
//! lowest class (SCHED_IDLE) runs on the core and reads the clock all the time: the time between two readings that are
//! far apart was not its own.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use core_affinity::CoreId;
use nix::unistd::gettid;
use vipgate::dpdk::cycles;

use super::super::Error;
use super::namespace::feed;

/// Cycles between two readings that say that something else ran.
const GAP: u64 = 1000;

/// Measures one core until it is dropped.
#[derive(Debug)]
pub(super) struct Meter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Cycles that nobody wanted.
    idle: AtomicU64,
}

/// A moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    idle: u64,
    cycles: u64,
    at: Instant,
}

/// A core between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Use {
    /// Share of the time that the core was busy.
    pub(super) busy: f64,
    /// Cycles of the time stamp counter a second.
    pub(super) hz: f64,
}

impl Meter {
    pub(super) fn start(core: usize) -> Result<Self, Error> {
        let shared = Arc::<Shared>::default();
        let (tell, told) = std::sync::mpsc::channel();
        let counting = shared.clone();
        let thread = thread::spawn(move || {
            core_affinity::set_for_current(CoreId { id: core });
            // Nobody listens when the thread that asked has panicked.
            let _ = tell.send(gettid());
            count(&counting);
        });
        let meter = Self { shared, thread: Some(thread) };
        let failed = || Error("the thread that measures a core does not run".into());
        let id = told.recv().map_err(|_| failed())?;
        feed(Command::new("chrt").args(["--idle", "--pid", "0", &id.to_string()]), "")?;
        Ok(meter)
    }

    pub(super) fn read(&self) -> Reading {
        let idle = self.shared.idle.load(Ordering::Relaxed);
        Reading { idle, cycles: cycles(), at: Instant::now() }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Reading {
    /// From then to now.
    pub(super) fn to(self, now: Self) -> Use {
        #[expect(clippy::cast_precision_loss, reason = "a run has fewer than 2^53 cycles")]
        let (idle, all) = ((now.idle - self.idle) as f64, (now.cycles - self.cycles) as f64);
        let seconds = (now.at - self.at).as_secs_f64();
        Use { busy: (1.0 - idle / all).clamp(0.0, 1.0), hz: all / seconds }
    }
}

fn count(shared: &Shared) {
    let (mut idle, mut last) = (0, cycles());
    while !shared.stop.load(Ordering::Relaxed) {
        let now = cycles();
        let passed = now.wrapping_sub(last);
        last = now;
        if passed < GAP {
            idle += passed;
            shared.idle.store(idle, Ordering::Relaxed);
        }
    }
}

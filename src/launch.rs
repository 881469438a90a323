//! Worker threads: one per configured core, pinned, known to EAL, polling until told to stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use control::config::Idle;
use control::kernel::bell::Bells;
use core_affinity::CoreId;
use dataplane::clock::Moment;
use dataplane::counters::WorkerCounters;
use dataplane::stages::Laps;
use dataplane::worker::Worker;
use tracing::{error, warn};

use crate::dpdk::{Eal, QueuePair, cycles};

/// Empty polls after which a worker pauses between polls, and after which it sleeps.
const PAUSE_AFTER: u32 = 16;
const SLEEP_AFTER: u32 = 2_000;
/// Of so many turns the stages of one are timed.
const SAMPLED_TURNS: u64 = 64;
/// How long it sleeps then: what a packet may wait at most, beside the timer's own slack.
const NAP: Duration = Duration::from_micros(50);

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What a thread needs beside its worker.
#[derive(Debug)]
pub struct Post {
    /// The core it runs on.
    pub core: usize,
    /// What it does without traffic.
    pub idle: Idle,
    /// Its counters, for the cycles.
    pub counters: Arc<WorkerCounters>,
    /// Rung when it has something for the control thread.
    pub bells: Bells,
}

impl Workers {
    /// Starts a thread for every worker. Errors when the system refuses one; those already running are stopped.
    pub fn start(eal: &Eal, workers: Vec<(Worker<QueuePair>, Post)>) -> io::Result<Self> {
        let mut started = Self { stop: Arc::default(), threads: Vec::new() };
        for (number, (worker, post)) in workers.into_iter().enumerate() {
            let (eal, stop) = (eal.clone(), started.stop.clone());
            let thread = thread::Builder::new().name(format!("worker-{number}"));
            match thread.spawn(move || run(worker, &post, &eal, &stop)) {
                Ok(thread) => started.threads.push(thread),
                Err(error) => {
                    started.stop();
                    return Err(error);
                }
            }
        }
        Ok(started)
    }

    /// Stops all workers and waits for them; their queue pairs are dropped then.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                error!("a worker thread has panicked");
            }
        }
    }

    /// Whether every thread still runs.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }
}

fn run(mut worker: Worker<QueuePair>, post: &Post, eal: &Eal, stop: &AtomicBool) {
    if !core_affinity::set_for_current(CoreId { id: post.core }) {
        warn!(core = post.core, "cannot pin the worker to its core");
    }
    let _registered = match eal.register_thread() {
        Ok(registered) => registered,
        Err(error) => return error!(%error, "worker cannot register with EAL"),
    };
    let cycles_per_milli = (eal.tsc_hz() / 1000).max(1);
    let work = &post.counters.work;
    let mut empty: u32 = 0;
    let mut told = (0, 0);
    let mut before = cycles();
    while !stop.load(Ordering::Relaxed) {
        let frames = turn(&mut worker, Moment(before / cycles_per_milli), &post.counters);
        let after = cycles();
        let spent = after.wrapping_sub(before);
        before = after;
        work.polls.add(1);
        work.cycles.add(spent);
        // Frames for the kernel, and frames that wait for a next hop.
        let tidings = (work.punted.get(), work.parked.get());
        if tidings != told {
            told = tidings;
            post.bells.ring();
        }
        if frames > 0 {
            work.busy_polls.add(1);
            work.busy_cycles.add(spent);
            empty = 0;
            continue;
        }
        empty = empty.saturating_add(1);
        if rest(post.idle, empty) {
            // A nap is idle time, and the next poll must not work with the time before it.
            before = cycles();
            work.cycles.add(before.wrapping_sub(after));
        }
    }
}

/// One turn; of every so many the stages are timed.
#[inline]
fn turn(worker: &mut Worker<QueuePair>, now: Moment, counters: &WorkerCounters) -> usize {
    if !counters.work.polls.get().is_multiple_of(SAMPLED_TURNS) {
        return worker.poll(now);
    }
    let mut laps = Laps::start(cycles);
    let frames = worker.poll_timed(now, &mut laps);
    laps.count(frames, &counters.stages);
    frames
}

/// Nothing came: how a worker waits for the next packet. Returns whether it took a nap.
fn rest(idle: Idle, empty: u32) -> bool {
    match idle {
        Idle::Busy => false,
        _ if empty < PAUSE_AFTER => false,
        Idle::Sleep if empty >= SLEEP_AFTER => {
            thread::sleep(NAP);
            true
        }
        Idle::Pause | Idle::Sleep => {
            std::hint::spin_loop();
            false
        }
    }
}

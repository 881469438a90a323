//! Passes of packets through workers, some of whose turns count.

use std::sync::Arc;

use dataplane::counters::WorkerCounters;
use dataplane::fib::PortId;
use dataplane::nic::BURST;

use crate::counted_turn;
use crate::support::gateway::{Gateway, Setup};
use crate::support::pooled::PooledWorkers;

/// Between two passes, so that deadlines and sweeps move on as they do under traffic.
const PASS_MILLIS: u64 = 100;

/// Frames for one port of worker 0.
pub(crate) struct Traffic {
    pub(crate) port: PortId,
    pub(crate) frames: Vec<Vec<u8>>,
}

/// Workers of two ports each.
pub(crate) struct Rig {
    workers: PooledWorkers,
}

impl Rig {
    /// Workers by a setup that `adjust` may change, with the Services that `apply` sets.
    pub(crate) fn new(adjust: impl FnOnce(&mut Setup), apply: impl FnOnce(&mut Gateway)) -> Self {
        let mut setup = Setup::default();
        adjust(&mut setup);
        let mut gateway = Gateway::new(setup);
        apply(&mut gateway);
        Self { workers: PooledWorkers::new(&gateway) }
    }

    /// Frames through all workers, uncounted; returns those that were sent.
    pub(crate) fn pass(&mut self, traffic: &Traffic) -> Vec<Vec<u8>> {
        let mut sent = vec![];
        self.run(traffic, None, |frame| sent.push(frame.to_vec()));
        sent
    }

    /// Frames through all workers; the turns of one of them count. Returns how many frames that one handled.
    pub(crate) fn counted_pass(&mut self, traffic: &Traffic, worker: usize) -> usize {
        self.run(traffic, Some(worker), |_| {})
    }

    fn run(
        &mut self,
        traffic: &Traffic,
        counted: Option<usize>,
        mut sent: impl FnMut(&[u8]),
    ) -> usize {
        let PooledWorkers { now, .. } = &mut self.workers;
        *now = now.after(PASS_MILLIS);
        let mut handled = 0;
        for burst in traffic.frames.chunks(BURST) {
            self.workers.put(0, traffic.port, burst);
            handled += self.turn(counted);
            self.workers.collect(&mut sent);
        }
        handled
    }

    /// One turn of every worker, in order; returns how many frames the counted one handled.
    fn turn(&mut self, counted: Option<usize>) -> usize {
        let mut handled = 0;
        let PooledWorkers { workers, now, .. } = &mut self.workers;
        for (id, worker) in workers.iter_mut().enumerate() {
            if counted == Some(id) {
                handled += counted_turn(worker, *now);
            } else {
                worker.poll(*now);
            }
        }
        handled
    }

    /// Time passes at once, and then millisecond by millisecond in counted turns without frames, until worker 0 has
    /// ended so many connections.
    pub(crate) fn counted_expiry(&mut self, millis: u64, connections: usize) {
        const TURNS: usize = 10_000;
        self.workers.now = self.workers.now.after(millis);
        for _ in 0..TURNS {
            self.workers.now = self.workers.now.after(1);
            self.turn(Some(0));
            if self.workers.counters[0].conntrack.expired.get() >= connections as u64 {
                return;
            }
        }
        panic!("connections outlive their time by more than {TURNS} ms");
    }

    /// The counters of a worker, brought up to date.
    pub(crate) fn counters(&mut self, worker: usize) -> Arc<WorkerCounters> {
        self.workers.now = self.workers.now.after(1);
        self.turn(None);
        self.workers.counters[worker].clone()
    }
}

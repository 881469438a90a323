//! The worker of production with its tables, and no other part of the process.

use std::iter;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use dataplane::affinity::Affinity;
use dataplane::clock::Moment;
use dataplane::conntrack::ConntrackConfig;
use dataplane::conntrack::state::Timeouts;
use dataplane::counters::{Counter, WorkerCounters};
use dataplane::engine::{Engine, EngineConfig};
use dataplane::fib::PortId;
use dataplane::handoff;
use dataplane::hash::HashKey;
use dataplane::service::tally::{self, Tallies};
use dataplane::snapshot::{self, Publisher};
use dataplane::stages::{Laps, Stage};
use dataplane::tables::Tables;
use dataplane::worker::{KernelPath, Worker};
use vipgate::dpdk::{Mbuf, cycles};

use super::bed::{Bed, Device};
use super::machine::Machine;
use super::network::PORTS;
use super::nic::BenchNic;
use super::tally::Tally;
use crate::bench::Error;

/// Of every ring that is not a queue of a port: nothing should come there.
const KERNEL_RING: usize = 64;
/// As in the process.
const FRAGMENTED_PACKETS: usize = 4096;
const ANSWERS_PER_SECOND: u64 = 1000;
const SAMPLED_TURNS: u64 = 64;
/// Milliseconds in which a table of any size is swept.
const SWEPT_MILLIS: u32 = 1_000_000;
/// Turns in such a millisecond, and bytes of a table that are swept in one at least.
const TURNS: usize = 16;
const SWEPT_A_TURN: usize = 1024;

/// A worker and what the rest of the process would hold of it.
#[derive(Debug)]
pub(crate) struct Gateway {
    worker: Worker<BenchNic>,
    publisher: Arc<Mutex<Publisher<Tables>>>,
    counters: Arc<WorkerCounters>,
    longest_idle: Duration,
    turns_to_sweep: usize,
    turns: u64,
    sampled: Sampled,
}

/// What the stages of sampled turns have cost.
#[derive(Clone, Debug, Default)]
struct Sampled {
    frames: u64,
    cycles: [u64; Stage::COUNT],
}

/// A table for so many connections, of which open ones may idle for 1000 seconds, and those that began or end for
/// `short`. The default times, two hours and more, are longer than the clock of the table may jump.
pub(crate) fn conntrack(v4: usize, v6: usize, short: Duration) -> ConntrackConfig {
    let long = Duration::from_secs(1000);
    let timeouts = Timeouts {
        tcp_established: long,
        tcp_half_closed: long,
        tcp_transitory: short,
        tcp_half_open: short,
        udp_unreplied: short,
        udp_replied: long,
        sctp_established: long,
    };
    ConntrackConfig { connections_v4: v4, connections_v6: v6, timeouts }
}

impl Device for Gateway {
    #[inline]
    fn poll(&mut self, now: Moment) -> usize {
        self.turns = self.turns.wrapping_add(1);
        if !self.turns.is_multiple_of(SAMPLED_TURNS) {
            return self.worker.poll(now);
        }
        let mut laps = Laps::start(cycles);
        let frames = self.worker.poll_timed(now, &mut laps);
        laps.count(frames, &self.counters.stages);
        frames
    }
}

impl Bed<Gateway> {
    /// A gateway of one worker, with an empty connection table.
    pub(crate) fn gateway(
        machine: &Machine,
        config: ConntrackConfig,
        tables: Tables,
    ) -> Result<Self, Error> {
        Ok(Self::gateways(machine, &config, tables, 1)?.remove(0))
    }

    /// A gateway of so many workers, each with an empty connection table and queues of its own.
    pub(crate) fn gateways(
        machine: &Machine,
        config: &ConntrackConfig,
        tables: Tables,
        workers: u16,
    ) -> Result<Vec<Self>, Error> {
        let (publisher, readers) = snapshot::channel(tables, usize::from(workers));
        let publisher = Arc::new(Mutex::new(publisher));
        let kernel = kernel_path();
        let ports = PortId::try_from(PORTS).unwrap_or(PortId::MAX);
        let ends = readers.into_iter().zip(handoff::mesh(workers));
        let bed = |(id, (reader, links))| {
            let engine = EngineConfig {
                worker: id,
                workers,
                ports,
                secret: HashKey::new(22),
                affinity: Arc::new(Affinity::new(0, HashKey::new(22))),
                tallies: Arc::new(Tallies::new(tally::ROWS)),
                conntrack: config.clone(),
                fragmented_packets: FRAGMENTED_PACKETS,
                rejects_per_second: ANSWERS_PER_SECOND,
                icmp_errors_per_second: ANSWERS_PER_SECOND,
            };
            let too_small = || Error("memory for the connection table is too small".into());
            let engine = Engine::new(engine, machine.conntrack(config)?).ok_or_else(too_small)?;
            let (bed, queues) = Bed::cabled(machine);
            let counters = Arc::new(WorkerCounters::new(ports));
            let own = counters.clone();
            let queues = queues.into_iter().collect();
            Ok(bed.with(Gateway {
                worker: Worker::new(id, queues, engine, reader, links, kernel.clone(), own),
                publisher: publisher.clone(),
                counters,
                longest_idle: config.timeouts.tcp_established,
                turns: 0,
                sampled: Sampled::default(),
                turns_to_sweep: (config.bytes().0 + config.bytes().1) / SWEPT_A_TURN,
            }))
        };
        (0..workers).zip(ends).map(bed).collect()
    }

    /// The worker reads other tables from now on.
    pub(crate) fn publish(&mut self, tables: Tables) {
        self.lock().publish(tables);
        self.wait(0);
        self.lock().reclaim();
    }

    fn lock(&self) -> MutexGuard<'_, Publisher<Tables>> {
        self.device.publisher.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What the counters say; those of the connection table are kept once a millisecond, so one passes.
    pub(crate) fn tally(&mut self) -> Tally {
        self.wait(1);
        Tally::read(&self.device.counters)
    }

    /// Cycles a packet by stage since the last call, as far as turns were sampled.
    pub(crate) fn stages(&mut self) -> [f64; Stage::COUNT] {
        let stages = &self.device.counters.stages;
        let now = Sampled {
            frames: stages.frames.get(),
            cycles: stages.cycles.each_ref().map(Counter::get),
        };
        let before = std::mem::replace(&mut self.device.sampled, now.clone());
        let frames = (now.frames - before.frames) as f64;
        std::array::from_fn(|stage| (now.cycles[stage] - before.cycles[stage]) as f64 / frames)
    }

    /// Lets all connections end by time.
    pub(crate) fn clear(&mut self) -> Result<(), Error> {
        self.expire(self.device.longest_idle, 0)
    }

    /// Lets connections that may idle so long end, until so many are left.
    pub(crate) fn expire(&mut self, idle: Duration, left: u64) -> Result<(), Error> {
        let connections = |bed: &Self| bed.device.counters.conntrack.entries.get();
        // Deadlines are kept in whole seconds.
        self.wait(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX) + 1000);
        for _ in 0..SWEPT_MILLIS {
            self.wait(1);
            self.turns(TURNS);
            if connections(self) <= left {
                // Nobody's cost but this jump's: what is still to be swept because of it.
                self.turns(self.device.turns_to_sweep);
                return Ok(());
            }
        }
        let outlived = connections(self) - left;
        Err(Error(format!("{outlived} connections outlive their time of {} s", idle.as_secs())))
    }
}

fn kernel_path() -> KernelPath<Mbuf> {
    fn ring<T>() -> Arc<ArrayQueue<T>> {
        Arc::new(ArrayQueue::new(KERNEL_RING))
    }
    KernelPath {
        punts: iter::repeat_with(ring).take(PORTS).collect(),
        injects: iter::repeat_with(ring).take(PORTS).collect(),
        wanted: ring(),
    }
}

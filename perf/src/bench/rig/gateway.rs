//! The worker of production, alone, with its tables and counters.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use dataplane::clock::Moment;
use dataplane::conntrack::ConntrackConfig;
use dataplane::conntrack::state::Timeouts;
use dataplane::counters::{Counter, WorkerCounters};
use dataplane::engine::{Engine, EngineConfig};
use dataplane::fib::PortId;
use dataplane::handoff;
use dataplane::hash::HashKey;
use dataplane::snapshot::{self, Publisher};
use dataplane::tables::Tables;
use dataplane::verdict::DropReason;
use dataplane::worker::{KernelPath, Worker};
use vipgate::dpdk::Mbuf;

use super::bed::{Bed, Device};
use super::machine::Machine;
use super::network::PORTS;
use super::nic::BenchNic;
use crate::bench::Error;

/// Of every ring that is not a queue of a port: nothing should come there.
const KERNEL_RING: usize = 64;
/// As in the process.
const FRAGMENTED_PACKETS: usize = 4096;
const ANSWERS_PER_SECOND: u64 = 1000;
/// Milliseconds in which a table of any size is swept.
const SWEPT_MILLIS: u32 = 1_000_000;

/// A worker and what the rest of the process would hold of it.
#[derive(Debug)]
pub(crate) struct Gateway {
    worker: Worker<BenchNic>,
    publisher: Publisher<Tables>,
    counters: Arc<WorkerCounters>,
    longest_idle: Duration,
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
    };
    ConntrackConfig { connections_v4: v4, connections_v6: v6, timeouts }
}

impl Device for Gateway {
    #[inline]
    fn poll(&mut self, now: Moment) -> usize {
        self.worker.poll(now)
    }
}

impl Bed<Gateway> {
    /// A gateway with an empty connection table.
    pub(crate) fn gateway(
        machine: &Machine,
        config: ConntrackConfig,
        tables: Tables,
    ) -> Result<Self, Error> {
        let memory = machine.conntrack(&config)?;
        let longest_idle = config.timeouts.tcp_established;
        let ports = PortId::try_from(PORTS).unwrap_or(PortId::MAX);
        let engine = EngineConfig {
            worker: 0,
            workers: 1,
            ports,
            secret: HashKey::new(22),
            conntrack: config,
            fragmented_packets: FRAGMENTED_PACKETS,
            rejects_per_second: ANSWERS_PER_SECOND,
            icmp_errors_per_second: ANSWERS_PER_SECOND,
        };
        let too_small = || Error("memory for the connection table is too small".into());
        let engine = Engine::new(engine, memory).ok_or_else(too_small)?;
        let (publisher, mut readers) = snapshot::channel(tables, 1);
        let (reader, links) = (readers.remove(0), handoff::mesh(1).remove(0));
        let counters = Arc::new(WorkerCounters::new(ports));
        Self::new(machine, |queues| {
            let queues = queues.into_iter().collect();
            let own = counters.clone();
            let worker = Worker::new(0, queues, engine, reader, links, kernel_path(), own);
            Ok(Gateway { worker, publisher, counters, longest_idle })
        })
    }

    /// The worker reads other tables from now on.
    pub(crate) fn publish(&mut self, tables: Tables) {
        self.device.publisher.publish(tables);
        self.wait(0);
        self.device.publisher.reclaim();
    }

    /// What the counters say; those of the connection table are kept once a millisecond, so one passes.
    pub(crate) fn tally(&mut self) -> Tally {
        self.wait(1);
        Tally::read(&self.device.counters)
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
            if connections(self) <= left {
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

/// Counters, or what they went up by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) received: u64,
    pub(crate) forwarded: u64,
    pub(crate) handed_over: u64,
    pub(crate) handed_in: u64,
    /// Answered, punted, parked.
    pub(crate) other: u64,
    pub(crate) drops: [u64; DropReason::COUNT],
    pub(crate) created: u64,
    pub(crate) expired: u64,
    pub(crate) evicted: u64,
    /// Not a difference: connections now.
    pub(crate) connections: u64,
}

impl Tally {
    /// Nothing happened.
    pub(crate) const NONE: Self = Self {
        received: 0,
        forwarded: 0,
        handed_over: 0,
        handed_in: 0,
        other: 0,
        drops: [0; DropReason::COUNT],
        created: 0,
        expired: 0,
        evicted: 0,
        connections: 0,
    };

    pub(crate) fn read(counters: &WorkerCounters) -> Self {
        let (work, table) = (&counters.work, &counters.conntrack);
        let evicted = [&table.evicted_half_open, &table.evicted_closing, &table.evicted_answered];
        Self {
            received: counters.ports.iter().map(|port| port.rx_frames.get()).sum(),
            forwarded: work.forwarded.get(),
            handed_over: work.handed_over.get(),
            handed_in: work.handed_in.get(),
            other: work.answered.get() + work.punted.get() + work.parked.get(),
            drops: std::array::from_fn(|reason| counters.drops[reason].get()),
            created: table.created.get(),
            expired: table.expired.get(),
            evicted: evicted.map(Counter::get).into_iter().sum(),
            connections: table.entries.get(),
        }
    }

    /// What happened since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            received: self.received - before.received,
            forwarded: self.forwarded - before.forwarded,
            handed_over: self.handed_over - before.handed_over,
            handed_in: self.handed_in - before.handed_in,
            other: self.other - before.other,
            drops: std::array::from_fn(|reason| self.drops[reason] - before.drops[reason]),
            created: self.created - before.created,
            expired: self.expired - before.expired,
            evicted: self.evicted - before.evicted,
            connections: self.connections,
        }
    }

    /// Fails, and says both, when this is not what was to happen.
    pub(crate) fn must_be(&self, expected: &Self) -> Result<(), Error> {
        if self == expected {
            return Ok(());
        }
        let (happened, expected) = (self.words(), expected.words());
        Err(Error(format!("counted {happened} instead of {expected}")))
    }

    /// In words, as far as not zero.
    pub(crate) fn words(&self) -> String {
        let drops =
            DropReason::ALL.into_iter().map(|reason| (reason.name(), self.drops[reason as usize]));
        let named = [
            ("received", self.received),
            ("forwarded", self.forwarded),
            ("handed over", self.handed_over),
            ("handed in", self.handed_in),
            ("answered, punted or parked", self.other),
            ("connections", self.connections),
            ("connections made", self.created),
            ("connections expired", self.expired),
            ("connections evicted", self.evicted),
        ];
        let all = named.into_iter().chain(drops).filter(|(_, count)| *count > 0);
        all.map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    }
}

//! `vipgate run`: the process from start to end. Reads top to bottom.
//!
//! Order matters twice. At the start, whatever can refuse (configuration, sockets, memory, ports, twins) comes before
//! the workers, so that nothing has moved when it does. At the end, queue pairs go before ports, ports before EAL, and
//! the buffers are counted last: a missing one is a defect, and says so.

use std::sync::Arc;
use std::time::Duration;

use control::admin::{Admin, AdminError, Servers, WorkerFacts};
use control::config::Config;
use control::kernel::bell::Bells;
use crossbeam::queue::ArrayQueue;
use dataplane::affinity::Affinity;
use dataplane::conntrack::ConntrackConfig;
use dataplane::counters::WorkerCounters;
use dataplane::engine::{Engine, EngineConfig};
use dataplane::handoff;
use dataplane::hash::HashKey;
use dataplane::service::tally::{self, Tallies};
use dataplane::snapshot;
use dataplane::worker::{KernelPath, Worker};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tracing::{info, warn};

use crate::dpdk::{Mbuf, QueuePair};
use crate::hardware::{Hardware, HardwareError, port_count};
use crate::launch::{Post, Workers};
use crate::notify;
use crate::plane::{Plane, PlaneError, Prepared};
use crate::random::random;

/// Frames a ring between workers and the kernel path holds.
const KERNEL_RING: usize = 1024;
/// Next hops that may be asked for at a time.
const WANTED_RING: usize = 256;
/// Packets in fragments that a worker remembers at a time.
const FRAGMENTED_PACKETS: usize = 4096;
/// How often the workers' threads are looked after.
const WORKER_CHECK: Duration = Duration::from_millis(500);
/// Refusals and ICMP errors a worker sends a second: Linux's own default (icmp_msgs_per_sec).
const ANSWERS_PER_SECOND: u64 = 1000;

/// Why the process does not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// Cores.
    #[error("workers: {0}")]
    Cores(String),
    /// EAL, memory, ports.
    #[error(transparent)]
    Hardware(#[from] HardwareError),
    /// Kernel twins, routes, the source of Services, DNS.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// Admin socket or HTTP.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A control task ended: better start anew than forward with tables nobody keeps up to date.
    #[error("control plane: {0}")]
    ControlPlane(String),
    /// Worker threads.
    #[error("cannot start a worker thread: {0}")]
    Threads(#[source] std::io::Error),
    /// A worker thread ended, which none does by itself: its queues would be served by nobody.
    #[error("a worker has ended; the log says why")]
    WorkerLost,
    /// Connection tables.
    #[error("memory for the connection tables is too small: this is a defect of vipgate")]
    Tables,
    /// The runtime.
    #[error("cannot start the control runtime: {0}")]
    Runtime(#[from] std::io::Error),
    /// Packet buffers were lost.
    #[error("{0} packet buffers are missing at the end: this is a defect of vipgate")]
    Leak(u32),
}

/// Runs until SIGTERM or SIGINT.
pub fn run(config: &Config) -> Result<(), RunError> {
    let available: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    let (main_core, cores) = config.workers.place(&available).map_err(RunError::Cores)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let servers = runtime.block_on(Servers::bind(&config.admin_socket, config.http))?;

    let count = u16::try_from(cores.len()).unwrap_or(u16::MAX);
    let conntrack = conntrack_config(config);
    let (hardware, queues) = Hardware::start(config, &conntrack, count, main_core)?;
    core_affinity::set_for_current(core_affinity::CoreId { id: main_core });

    let kernel = kernel_path(config.ports.len());
    let bells = Bells::new(config.ports.len());
    let local = LocalSet::new();
    let prepared = local.block_on(&runtime, Prepared::new(config, &hardware.macs()))?;
    let first = prepared.tables(config);
    let (publisher, readers) = snapshot::channel(first.clone(), cores.len());

    // From here on packets move.
    let secret = HashKey::new(random());
    let affinity = Arc::new(Affinity::new(config.conntrack.affinity_clients as usize, secret));
    let rss = hardware.rss();
    let mut facts = Vec::new();
    let mut workers = Vec::new();
    let links = handoff::mesh(count);
    for (((id, queues), reader), links) in (0..count).zip(queues).zip(readers).zip(links) {
        let counters = Arc::new(WorkerCounters::new(port_count(config)));
        let tallies = Arc::new(Tallies::new(tally::ROWS));
        let core = cores[usize::from(id)];
        let engine = EngineConfig {
            worker: id,
            workers: count,
            ports: port_count(config),
            secret,
            affinity: affinity.clone(),
            tallies: tallies.clone(),
            conntrack: conntrack.clone(),
            fragmented_packets: FRAGMENTED_PACKETS,
            rejects_per_second: ANSWERS_PER_SECOND,
            icmp_errors_per_second: ANSWERS_PER_SECOND,
        };
        let mut engine =
            Engine::new(engine, hardware.table_memory(&conntrack)?).ok_or(RunError::Tables)?;
        engine.steer(rss.clone());
        facts.push(WorkerFacts { core, counters: counters.clone(), tallies });
        let worker: Worker<QueuePair> =
            Worker::new(id, queues, engine, reader, links, kernel.clone(), counters.clone());
        workers.push((
            worker,
            Post { core, idle: config.workers.idle, counters, bells: bells.clone() },
        ));
    }
    let workers = Workers::start(&hardware.eal, workers).map_err(RunError::Threads)?;
    info!(?cores, main_core, "vipgate forwards");

    let outcome = local.block_on(&runtime, async {
        let plane =
            Plane::start(config, prepared, publisher, first, &kernel, &bells, &hardware.pool);
        let (control, dns) = (plane.control.clone(), plane.dns.clone());
        let events = plane.events.clone();
        let admin = Arc::new(Admin::new(facts, hardware.devices(), control, dns, events));
        tokio::select! {
            () = servers.run(admin.clone()) => Ok(()),
            () = notify::report(&admin) => Ok(()),
            reason = plane.run() => Err(RunError::ControlPlane(reason)),
            () = worker_lost(&workers) => Err(RunError::WorkerLost),
            () = ended() => Ok(()),
        }
    });

    info!("stopping");
    notify::stopping();
    workers.stop();
    drop(local);
    drop(runtime);
    drain(&kernel);
    match hardware.stop() {
        0 => outcome,
        missing => Err(RunError::Leak(missing)),
    }
}

/// Resolves when a worker thread has ended.
async fn worker_lost(workers: &Workers) {
    while workers.alive() {
        tokio::time::sleep(WORKER_CHECK).await;
    }
}

/// Resolves at SIGTERM or SIGINT.
async fn ended() {
    let listen =
        |kind| signal(kind).inspect_err(|error| warn!(%error, "cannot listen for signals"));
    let (Ok(mut term), Ok(mut int)) =
        (listen(SignalKind::terminate()), listen(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

fn kernel_path(ports: usize) -> KernelPath<Mbuf> {
    let rings = || (0..ports).map(|_| Arc::new(ArrayQueue::new(KERNEL_RING))).collect();
    KernelPath { punts: rings(), injects: rings(), wanted: Arc::new(ArrayQueue::new(WANTED_RING)) }
}

/// Frames that were on their way when everything stopped.
fn drain(kernel: &KernelPath<Mbuf>) {
    for ring in kernel.punts.iter().chain(&kernel.injects) {
        while ring.pop().is_some() {}
    }
}

fn conntrack_config(config: &Config) -> ConntrackConfig {
    let control::config::Conntrack { connections, connections_v6, timeouts, .. } =
        &config.conntrack;
    ConntrackConfig {
        connections_v4: *connections as usize,
        connections_v6: *connections_v6 as usize,
        timeouts: *timeouts,
    }
}

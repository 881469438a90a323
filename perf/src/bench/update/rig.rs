//! A gateway without NIC: the control loop on this thread, on its own core, and a worker on another core that really
//! polls. Beside the worker's, a second seat (the probe) on its thread tells the time when the worker has a table.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use control::assembly::Assembly;
use control::control::{Control, Handle, Update};
use control::publish::TablesPublisher;
use control::settings::Settings;
use control::source::Event;
use core_affinity::CoreId;
use crossbeam::queue::ArrayQueue;
use dataplane::affinity::Affinity;
use dataplane::clock::Moment;
use dataplane::conntrack::ConntrackConfig;
use dataplane::counters::WorkerCounters;
use dataplane::engine::{Engine, EngineConfig};
use dataplane::fib::Fib;
use dataplane::handoff;
use dataplane::hash::HashKey;
use dataplane::service::ServiceTable;
use dataplane::service::tally::{self, Tallies};
use dataplane::snapshot::{self, Reader};
use dataplane::tables::{Node, Tables};
use dataplane::worker::{KernelPath, Worker};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use super::super::Error;
use super::traffic::{self, Port, Tally, Traffic};

/// A change that is not seen by then is a failure, not a slow change.
const LIMIT: Duration = Duration::from_secs(20);

/// See the module.
pub(super) struct Rig {
    runtime: Runtime,
    tasks: LocalSet,
    pub(super) gateway: Rc<Gateway>,
    thread: Option<JoinHandle<()>>,
}

/// What steps of the suite work with.
pub(super) struct Gateway {
    pub(super) handle: Handle,
    pub(super) worker: Arc<Shared>,
}

/// Between the worker's thread and this one.
#[derive(Debug)]
pub(super) struct Shared {
    epoch: Instant,
    stop: AtomicBool,
    /// The newest tables' version that the worker decides with, and since when, in nanoseconds of `epoch`.
    seen: AtomicU64,
    since: AtomicU64,
    /// Clients talk.
    pub(super) talk: AtomicBool,
    /// New flows allowed so far, beside the established ones.
    pub(super) new_flows: AtomicU64,
    /// Nanoseconds in turns with frames, and frames in them.
    pub(super) busy_nanos: AtomicU64,
    pub(super) frames: AtomicU64,
    pub(super) tally: Mutex<Tally>,
    pub(super) counters: Arc<WorkerCounters>,
}

/// Where the two threads run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cores {
    control: CoreId,
    worker: CoreId,
}

impl Cores {
    /// The first two cores that this thread may use.
    pub(super) fn choose() -> Result<Self, Error> {
        match core_affinity::get_core_ids().unwrap_or_default()[..] {
            [control, worker, ..] => Ok(Self { control, worker }),
            _ => Err(Error(
                "two cores are needed, one for control and one for a worker: allow it another (taskset)".into(),
            )),
        }
    }
}

/// Clients of a rig.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clients {
    pub(super) services: usize,
    pub(super) established: usize,
}

impl Rig {
    /// A gateway with empty tables.
    pub(super) fn start(cores: Cores, clients: Clients, connections: usize) -> Result<Self, Error> {
        core_affinity::set_for_current(cores.control);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error(format!("no tokio runtime: {error}")))?;

        let key = HashKey::new(1);
        let first = Tables {
            services: ServiceTable::new(key),
            fib: Fib::new(&traffic::network()).into(),
            node: Node::default().into(),
        };
        let (publisher, readers) = snapshot::channel(first.clone(), 2);
        let [reader, probe] = <[_; 2]>::try_from(readers).expect("as many as asked for");
        let assembly = Assembly::new(Settings::default(), key);
        let (control, handle) = Control::new(assembly, TablesPublisher::new(publisher, first));
        let tasks = LocalSet::new();
        tasks.spawn_local(control.run());

        let shared = Arc::new(Shared {
            epoch: Instant::now(),
            stop: AtomicBool::new(false),
            seen: AtomicU64::new(1),
            since: AtomicU64::new(0),
            talk: AtomicBool::new(false),
            new_flows: AtomicU64::new(0),
            busy_nanos: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            tally: Mutex::default(),
            counters: Arc::new(WorkerCounters::new(1)),
        });
        let worker = {
            let shared = shared.clone();
            move || {
                core_affinity::set_for_current(cores.worker);
                let port = Port::default();
                let traffic = Traffic::new(port.clone(), clients.services, clients.established);
                run(worker(port, reader, &shared, connections), probe, traffic, &shared);
            }
        };
        let thread = std::thread::Builder::new().name("worker".into()).spawn(worker);
        let thread = thread.map_err(|error| Error(format!("no thread for the worker: {error}")))?;
        let gateway = Rc::new(Gateway { handle, worker: shared });
        Ok(Self { runtime, tasks, gateway, thread: Some(thread) })
    }

    /// Runs a step of the suite beside the control loop.
    pub(super) fn run<T>(&self, step: impl AsyncFnOnce(Rc<Gateway>) -> T) -> T {
        self.tasks.block_on(&self.runtime, step(self.gateway.clone()))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.gateway.worker.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and made the step wait in vain.
            let _ = thread.join();
        }
    }
}

impl Gateway {
    /// Hands an event to the control loop.
    pub(super) async fn send(&self, event: Event) -> Result<(), Error> {
        let sent = self.handle.send(Update::Object(event)).await;
        sent.map_err(|error| Error(error.to_string()))
    }

    /// The version of the tables that the worker has.
    pub(super) fn seen(&self) -> u64 {
        self.worker.seen.load(Ordering::Acquire)
    }

    /// Waits until the worker has tables newer than `version`; when it took them.
    pub(super) async fn newer_than(&self, version: u64) -> Result<Instant, Error> {
        let limit = Instant::now() + LIMIT;
        while self.seen() <= version {
            if Instant::now() > limit {
                let why = format!("no tables newer than {version} within {LIMIT:?}");
                return Err(Error(why));
            }
            tokio::task::yield_now().await;
        }
        Ok(self.worker.epoch + Duration::from_nanos(self.worker.since.load(Ordering::Relaxed)))
    }
}

fn worker(port: Port, tables: Reader<Tables>, shared: &Shared, connections: usize) -> Worker<Port> {
    let config = EngineConfig {
        worker: 0,
        workers: 1,
        ports: 1,
        secret: HashKey::new(2),
        affinity: Arc::new(Affinity::new(0, HashKey::new(2))),
        tallies: Arc::new(Tallies::new(tally::ROWS)),
        conntrack: ConntrackConfig {
            connections_v4: connections,
            connections_v6: 1,
            ..ConntrackConfig::default()
        },
        fragmented_packets: 16,
        rejects_per_second: 1000,
        icmp_errors_per_second: 1000,
    };
    let memory = config.conntrack.plain_memory();
    let engine = Engine::new(config, memory).expect("memory of the size asked for");
    let links = handoff::mesh(1).into_iter().next().expect("one worker");
    let ring = || Arc::new(ArrayQueue::new(64));
    let kernel = KernelPath {
        punts: vec![ring()],
        injects: vec![ring()],
        wanted: Arc::new(ArrayQueue::new(64)),
    };
    Worker::new(0, vec![port], engine, tables, links, kernel, shared.counters.clone())
}

/// The worker's thread. Only the worker's own turns are timed, not those of clients and backends.
fn run(mut worker: Worker<Port>, mut probe: Reader<Tables>, mut traffic: Traffic, shared: &Shared) {
    let nanos = || u64::try_from(shared.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let mut start = nanos();
    while !shared.stop.load(Ordering::Relaxed) {
        let new_flows = shared.new_flows.load(Ordering::Relaxed);
        traffic.arrive(shared.talk.load(Ordering::Relaxed), new_flows);
        let fresh = probe.refresh();
        let before = nanos();
        // As in the process, the clock has begun long ago.
        let frames = worker.poll(Moment(1_000_000 + before / 1_000_000));
        let now = nanos();
        if fresh {
            // The worker has looked after the probe has.
            shared.since.store(now, Ordering::Relaxed);
            shared.seen.store(probe.version(), Ordering::Release);
        }
        if frames > 0 {
            traffic.leave();
            shared.busy_nanos.fetch_add(now - before, Ordering::Relaxed);
            shared.frames.fetch_add(frames as u64, Ordering::Relaxed);
        }
        // Told now and then: a lock, and another thread's cache line.
        if now - start > 1_000_000 {
            start = now;
            *shared.tally.lock().expect("nobody panics with the lock") = traffic.tally;
        }
    }
}

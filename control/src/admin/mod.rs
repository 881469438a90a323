//! What the process says about itself: `vipgate status` over a unix socket, metrics and health over HTTP.
//!
//! [`Admin`] joins three sources and owns none of them: the workers' counters, a [`Devices`] that knows ports and
//! packet pools (the process fills it in), and the control loop's [`Handle`]. [`Servers`] answers from it, on the
//! control thread.
//!
//! Invariants:
//! - Asking costs the workers nothing: counters are read, never written, and nothing waits for a worker.
//! - A client can't hurt: requests, clients and the time of each are bounded.
//! - Health follows from what packets need. A lost API server makes neither `/livez` nor `/readyz` fail.

mod client;
mod facts;
mod health;
mod http;
mod metrics;
mod node_health;
mod protocol;
mod sample;
mod servers;
mod service_health;
mod services;
mod socket;
mod status;
mod table;
mod traffic;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub use client::{ClientError, explain, status};
pub use facts::{Devices, PoolFacts, PortFacts, WorkerFacts};
pub use health::{Check, Readiness};
pub use servers::{AdminError, Servers};
pub use status::{
    Connections, DropCount, PoolStatus, PortStatus, ServiceStatus, SourceStatus, Status,
    TableStatus, WorkerStatus,
};
pub use table::render;

use health::FirstTables;
use node_health::{Asked, Progress};
use sample::Samples;
use traffic::{OneWay, Series};

use crate::control::{Ended, Handle, View};
use crate::explain::{Explainer, Explanation, Flow, Scene};
use crate::{dns, events};

/// How long the control loop may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// Everything there is to say; shared by the servers.
#[derive(Debug)]
pub struct Admin {
    started: Instant,
    workers: Vec<WorkerFacts>,
    devices: Arc<dyn Devices>,
    control: Handle,
    dns: Arc<dns::Counters>,
    events: Arc<events::Counters>,
    seen: Mutex<Seen>,
    asked: Asked,
    /// How long workers may take to pick up tables before the process counts as ill (HCK-11).
    patience: Duration,
    /// Made when somebody asks.
    explainer: Arc<Mutex<Option<Explainer>>>,
}

/// What must be remembered from one look to the next.
#[derive(Debug, Default)]
struct Seen {
    samples: Samples,
    tables: FirstTables,
    progress: Option<Progress>,
    series: Series,
    one_way: OneWay,
}

impl Admin {
    /// For these workers, in order of their ids.
    #[must_use]
    pub fn new(
        workers: Vec<WorkerFacts>,
        devices: Arc<dyn Devices>,
        control: Handle,
        dns: Arc<dns::Counters>,
        events: Arc<events::Counters>,
    ) -> Self {
        Self {
            started: Instant::now(),
            workers,
            devices,
            control,
            dns,
            events,
            seen: Mutex::default(),
            asked: Asked::default(),
            patience: node_health::PATIENCE,
            explainer: Arc::default(),
        }
    }

    /// With another limit to how long workers may take to pick up tables than a minute.
    #[must_use]
    pub fn patient_for(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Looks at what workers have done since the last look; [`Servers::run`] does so every second. Until the second
    /// look no worker counts as polling.
    pub fn sample(&self) {
        self.seen().samples.take(&self.workers);
        self.note_progress();
    }

    /// What would happen to these flows, by the tables as they are. Errors with a sentence for the client.
    async fn explain(&self, flows: Vec<Flow>) -> Result<Vec<Explanation>, String> {
        let explainer = self.explainer.clone();
        let explain = move |view: &View<'_>| {
            let tables = view.publisher.tables();
            let scene =
                Scene { assembly: view.assembly, tables, ports: tables.fib.ports(), routes: true };
            let mut explainer = explainer.lock().unwrap_or_else(|e| e.into_inner());
            let explainer = explainer.get_or_insert_with(|| Explainer::new(scene.ports));
            flows.iter().map(|flow| explainer.explain(flow, &scene)).collect()
        };
        self.control.inspect(explain).await.map_err(|error: Ended| error.to_string())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|e| e.into_inner())
    }
}

//! The answer of `vipgate status`, made from counters and notes. Its JSON form is stable: fields are added, not changed.

use std::time::SystemTime;

use dataplane::counters::Counter;
use dataplane::verdict::DropReason;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::facts::{PoolFacts, PortFacts, WorkerFacts};
use super::sample::{Samples, ratio};
use super::{ANSWER, Admin, services};
use crate::cluster::NodeFacts;
use crate::source::Link;

/// The process at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of vipgate.
    pub version: String,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// What keeps the process from being ready; empty when it is.
    pub not_ready: Vec<String>,
    /// The ports, in order of the configuration.
    pub ports: Vec<PortStatus>,
    /// The workers.
    pub workers: Vec<WorkerStatus>,
    /// The ports of Services in the tables, by name.
    pub services: Vec<ServiceStatus>,
    /// Connections of all workers.
    pub connections: Connections,
    /// Reasons that dropped something, most first.
    pub drops: Vec<DropCount>,
    /// Where Services come from.
    pub source: SourceStatus,
    /// What is in effect of the node that the configuration names: by it and by the Node object.
    #[serde(default)]
    pub node: Option<NodeFacts>,
    /// Ranges of cluster IPs that are in effect.
    #[serde(default, rename = "serviceCIDRs")]
    pub service_cidrs: Vec<IpNet>,
    /// The tables workers decide with.
    pub tables: TableStatus,
    /// Packet buffers.
    pub pools: Vec<PoolStatus>,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortStatus {
    /// Name in the configuration.
    pub name: String,
    /// Driver.
    pub driver: String,
    /// Whether the link is up.
    pub link_up: bool,
    /// Speed of the link in Mbit/s, if known.
    pub link_mbps: Option<u32>,
    /// MAC address.
    pub mac: String,
    /// MTU in bytes.
    pub mtu: u16,
    /// Frames received by workers.
    pub rx_packets: u64,
    /// Bytes of them, without FCS.
    pub rx_bytes: u64,
    /// Frames sent by workers.
    pub tx_packets: u64,
    /// Bytes of them, without FCS.
    pub tx_bytes: u64,
    /// Frames the device dropped because the workers were too slow.
    pub missed: u64,
    /// Frames the device dropped because no packet buffer was free.
    pub no_buffer: u64,
    /// Frames received with an error.
    pub rx_errors: u64,
    /// Frames the device failed to send.
    pub tx_errors: u64,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// The core it runs on.
    pub core: usize,
    /// Whether it polled lately; `None` in the first two seconds.
    pub polling: Option<bool>,
    /// Percent of its cycles in the last second that found packets.
    pub busy_percent: f64,
    /// Frames per poll that found some, since the start.
    pub packets_per_burst: f64,
    /// Polls since the start.
    pub polls: u64,
    /// Connections in its table.
    pub connections: u64,
    /// Connections there is room for.
    pub capacity: u64,
    /// Connections of those that are half open or unanswered.
    pub half_open: u64,
    /// Frames given to other workers.
    pub handed_over: u64,
    /// Frames given to the kernel.
    pub punted: u64,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// `namespace/name:port`.
    pub name: String,
    /// Frontends, as in `tcp 203.0.113.10:443`.
    pub frontends: Vec<String>,
    /// Distinct backends that new connections may get.
    pub backends: usize,
    /// Connections opened, since the port is there.
    #[serde(default)]
    pub connections: u64,
    /// First packets turned away: no endpoints, no local ones, or a client out of the source ranges.
    #[serde(default)]
    pub refused: u64,
    /// Connections of clients whose address was kept, on which nothing came back through the gateway.
    #[serde(default)]
    pub one_way: u64,
}

/// Connections of all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connections {
    /// Now.
    pub entries: u64,
    /// Room for.
    pub capacity: u64,
    /// Half open or unanswered.
    pub half_open: u64,
    /// Made since the start.
    pub created: u64,
    /// Ended by time.
    pub expired: u64,
    /// Removed to make room.
    pub evicted: u64,
}

/// Frames dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropCount {
    /// The reason.
    pub reason: String,
    /// Frames.
    pub packets: u64,
}

/// Where Services come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// `connecting`, `connected` or `stale`.
    pub state: String,
    /// How long nothing was heard, when stale.
    pub stale_seconds: u64,
    /// Why, when stale.
    pub error: Option<String>,
    /// Things that are wrong with objects, or worth knowing.
    pub problem_count: usize,
    /// The first of them.
    pub problems: Vec<String>,
}

/// The tables workers decide with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableStatus {
    /// Generation handed out last.
    pub generation: u64,
    /// Generation that every worker holds or has passed.
    pub acknowledged: u64,
    /// Older tables that some worker still holds.
    pub retired: usize,
    /// Services.
    pub services: usize,
    /// Their ports, times families.
    pub rows: usize,
    /// Endpoints of all rows.
    pub endpoints: usize,
    /// Rows whose internalTrafficPolicy is Local and whose endpoints are all elsewhere (REJ-11).
    pub no_local_internal: usize,
    /// The same of externalTrafficPolicy.
    pub no_local_external: usize,
}

/// A pool of packet buffers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// Name.
    pub name: String,
    /// Buffers.
    pub size: u64,
    /// Buffers nobody uses now.
    pub free: u64,
}

impl Admin {
    /// The process now, with its Services, for which the control loop is asked.
    pub async fn status(&self) -> Status {
        let mut status = self.figures();
        let tallies = self.tallies();
        let services = self.control.inspect(move |view| services::of(view, &tallies));
        match timeout(ANSWER, services).await {
            Ok(Ok(services)) => status.services = services,
            _ => status.not_ready.push("control: the control loop does not answer".to_owned()),
        }
        status
    }

    /// The process now, without its Services.
    pub(super) fn figures(&self) -> Status {
        let readiness = self.readiness();
        let control = self.control.status();
        let seen = self.seen();
        let workers = self.workers.iter().enumerate();
        let ports = self.devices.ports().into_iter().enumerate();
        let pools = self.devices.pools().into_iter();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            not_ready: readiness.failed().map(|check| check.to_string()).collect(),
            ports: ports.map(|(id, facts)| self.port(id, facts)).collect(),
            workers: workers.map(|(id, facts)| worker(id, facts, &seen.samples)).collect(),
            connections: self.connections(),
            drops: self.drops(),
            source: source(&control, SystemTime::now()),
            node: control.node,
            service_cidrs: control.service_cidrs,
            tables: TableStatus {
                generation: control.generation,
                acknowledged: control.acknowledged,
                retired: control.retired,
                services: control.sizes.services,
                rows: control.sizes.rows,
                endpoints: control.sizes.endpoints,
                no_local_internal: control.sizes.no_local_internal,
                no_local_external: control.sizes.no_local_external,
            },
            pools: pools
                .map(|PoolFacts { name, size, free }| PoolStatus { name, size, free })
                .collect(),
            services: Vec::new(),
        }
    }

    fn port(&self, id: usize, facts: PortFacts) -> PortStatus {
        let shares = || self.workers.iter().filter_map(|worker| worker.counters.ports.get(id));
        PortStatus {
            mac: facts.mac.map(|byte| format!("{byte:02x}")).join(":"),
            name: facts.name,
            driver: facts.driver,
            link_up: facts.link_up,
            link_mbps: facts.link_mbps,
            mtu: facts.mtu,
            rx_packets: shares().map(|port| port.rx_frames.get()).sum(),
            rx_bytes: shares().map(|port| port.rx_bytes.get()).sum(),
            tx_packets: shares().map(|port| port.tx_frames.get()).sum(),
            tx_bytes: shares().map(|port| port.tx_bytes.get()).sum(),
            missed: facts.missed,
            no_buffer: facts.no_buffer,
            rx_errors: facts.rx_errors,
            tx_errors: facts.tx_errors,
        }
    }

    fn connections(&self) -> Connections {
        let mut all = Connections::default();
        for worker in &self.workers {
            let table = &worker.counters.conntrack;
            all.entries += table.entries.get();
            all.capacity += table.capacity.get();
            all.half_open += table.half_open.get();
            all.created += table.created.get();
            all.expired += table.expired.get();
            all.evicted += table.evicted_half_open.get()
                + table.evicted_closing.get()
                + table.evicted_answered.get();
        }
        all
    }

    /// Frames dropped by all workers for a reason.
    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        let counter = |worker: &WorkerFacts| worker.counters.drops[reason as usize].get();
        self.workers.iter().map(counter).sum()
    }

    fn drops(&self) -> Vec<DropCount> {
        let counted = DropReason::ALL.map(|reason| (reason, self.dropped(reason)));
        let mut drops: Vec<DropCount> = counted
            .into_iter()
            .filter(|(_, packets)| *packets > 0)
            .map(|(reason, packets)| DropCount { reason: reason.name().to_owned(), packets })
            .collect();
        drops.sort_by_key(|drop| std::cmp::Reverse(drop.packets));
        drops
    }
}

fn source(control: &crate::control::Status, now: SystemTime) -> SourceStatus {
    let (state, stale_seconds, error) = match &control.source {
        Link::Connecting => ("connecting", 0, None),
        Link::Connected => ("connected", 0, None),
        Link::Stale { since, error } => {
            // A clock that was set back makes the age unknown, not negative.
            let age = now.duration_since(*since).unwrap_or_default();
            ("stale", age.as_secs(), Some(error.clone()))
        }
    };
    SourceStatus {
        state: state.to_owned(),
        stale_seconds,
        error,
        problem_count: control.problem_count,
        problems: control.problems.iter().map(ToString::to_string).collect(),
    }
}

fn worker(id: usize, facts: &WorkerFacts, samples: &Samples) -> WorkerStatus {
    let (work, table) = (&facts.counters.work, &facts.counters.conntrack);
    let received: u64 = facts.counters.ports.iter().map(|port| port.rx_frames.get()).sum();
    let get = Counter::get;
    WorkerStatus {
        core: facts.core,
        polling: samples.polls(id),
        busy_percent: samples.busy_percent(id, facts),
        packets_per_burst: ratio(received, get(&work.busy_polls)),
        polls: get(&work.polls),
        connections: get(&table.entries),
        capacity: get(&table.capacity),
        half_open: get(&table.half_open),
        handed_over: get(&work.handed_over),
        punted: get(&work.punted),
    }
}

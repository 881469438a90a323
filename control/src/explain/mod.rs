//! `vipgate explain`: what happens to the first packet of a flow, and why.
//!
//! There is no second set of rules here. The verdict is the engine's: a real first packet is built ([`probe`]), decided by
//! [`Engine::decide`] over the tables that the compile step made, and looked at as it would leave. The list of backends
//! is that of the [`Decision`] the engine acts on. Only the words around it ([`story`]) are made here, from the same
//! objects and lists. One exception: a packet that a host sends to itself never reaches an engine, so that its fate is
//! read from the same destination and decision (`unsent`).
//!
//! Invariant: a flow leaves nothing behind that another could meet.

mod flow;
mod offline;
mod probe;
mod render;
mod story;

use std::net::SocketAddr;
use std::sync::Arc;

use dataplane::affinity::Affinity;
use dataplane::classify::{self, Destination};
use dataplane::clock::Moment;
use dataplane::conntrack::ConntrackConfig;
use dataplane::conntrack::state::Timeouts;
use dataplane::engine::{Arrival, Engine, EngineConfig, Origin};
use dataplane::fib::{PortId, Route};
use dataplane::flow::{Protocol, Tuple};
use dataplane::hash::HashKey;
use dataplane::nic::Frame;
use dataplane::nic::memory::MemoryFrame;
use dataplane::service::tally::Tallies;
use dataplane::service::{Decision, Match};
use dataplane::tables::Tables;
use dataplane::verdict::{self, DropReason};
use dataplane::wire::{self, Parsed};
use serde::{Deserialize, Serialize};

use crate::assembly::Assembly;
pub use flow::{Flow, FlowError};
pub use offline::{OfflineError, explain_manifests, explain_text};
pub use render::render;

/// Connections the engine has room for: it sees one at a time.
const CONNECTIONS: usize = 64;

/// What would happen to one flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The flow, as `tcp 203.0.113.7:40000 -> 172.30.0.41:80`.
    pub flow: String,
    /// What becomes of it.
    pub verdict: Verdict,
    /// `namespace/name:port` of the Service that was addressed; the port's name, or its number when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Every backend that a new connection of this client could get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backends: Option<Vec<Backend>>,
    /// The backend that exactly this flow gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// Why it does not get to a backend: the name of a drop reason, or one of [`NOT_SERVED`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How it came to that, in order.
    pub steps: Vec<Step>,
}

/// What becomes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is translated to a backend.
    Dnat,
    /// Nobody hears of it.
    Drop,
    /// The client is told that there is nobody.
    Reject,
    /// It is no Service's business.
    NotService,
}

impl Verdict {
    /// As in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dnat => "dnat",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::NotService => "not-service",
        }
    }
}

/// Reasons besides those of drops.
pub const NOT_SERVED: [&str; 4] = [NO_ENDPOINTS, UNKNOWN_PORT, NODE_ADDRESS, NO_SERVICE];
/// The Service has no usable endpoint anywhere (REJ-1).
const NO_ENDPOINTS: &str = "no_endpoints";
/// The address is a Service's, the port is not (REJ-10, LBR-8).
const UNKNOWN_PORT: &str = "unknown_port";
/// The node's own address, at a port that is no node port there (NPT-6).
const NODE_ADDRESS: &str = "node_address";
/// No Service has the address.
const NO_SERVICE: &str = "no_service";

/// A backend in reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Address and port.
    pub address: String,
    /// Whether it would see the gateway's address instead of the client's.
    pub masquerade: bool,
}

/// One step on the way to the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was looked at: one word.
    pub about: String,
    /// What was found.
    pub text: String,
}

/// What flows are explained against.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Objects, settings, problems.
    pub assembly: &'a Assembly,
    /// What workers decide with.
    pub tables: &'a Tables,
    /// Number of ports.
    pub ports: PortId,
    /// Whether routes and neighbours are the kernel's, and worth a word.
    pub routes: bool,
}

/// An engine of its own, to send first packets through.
#[derive(Debug)]
pub struct Explainer {
    engine: Engine,
}

impl Explainer {
    /// An engine for so many ports. Its memory is never given back: make one and keep it.
    #[must_use]
    pub fn new(ports: PortId) -> Self {
        let conntrack = ConntrackConfig {
            connections_v4: CONNECTIONS,
            connections_v6: CONNECTIONS,
            timeouts: Timeouts::default(),
        };
        let memory = conntrack.plain_memory();
        let config = EngineConfig {
            worker: 0,
            workers: 1,
            ports,
            // Decides where connections stand in a table of this process alone, and source ports.
            secret: HashKey::new(0),
            // Nothing may be left behind.
            affinity: Arc::new(Affinity::new(0, HashKey::new(0))),
            tallies: Arc::new(Tallies::new(0)),
            conntrack,
            fragmented_packets: 1,
            rejects_per_second: u64::from(u32::MAX),
            icmp_errors_per_second: u64::from(u32::MAX),
        };
        Self { engine: Engine::new(config, memory).expect("memory made for this size") }
    }

    /// What would happen to a new connection with this first packet.
    pub fn explain(&mut self, flow: &Flow, scene: &Scene<'_>) -> Explanation {
        let tables = scene.tables;
        let tuple = flow.tuple();
        // A SYN or an INIT.
        let opens = flow.protocol != Protocol::Udp;
        let destination = classify::destination(tables, &tuple, opens, scene.ports, 1);
        let decision = match &destination {
            Destination::Service(found) => Some(decide(flow, found, tables)),
            _ => None,
        };
        let outcome = if wire::is_martian(tuple.src.is_v4(), tuple.src, tuple.dst) {
            unsent(&tuple, &destination, decision, tables)
        } else {
            self.send(flow, &tuple, tables)
        };
        let mut told = Explanation {
            flow: flow.to_string(),
            verdict: Verdict::NotService,
            service: None,
            backends: None,
            chosen: None,
            reason: None,
            steps: Vec::new(),
        };
        match (&destination, decision) {
            (Destination::Service(found), Some(decision)) => {
                told.of_service(flow, found, decision, outcome, tables);
            }
            _ => told.of_others(&destination, outcome),
        }
        let left_as = outcome.left_as.filter(|_| told.verdict == Verdict::Dnat);
        told.steps = story::tell(flow, &destination, decision, &told, left_as, scene);
        told
    }

    /// Sends the first packet through the engine, and has it forget the connection.
    fn send(&mut self, flow: &Flow, tuple: &Tuple, tables: &Tables) -> Outcome {
        // The node's own packets come from its kernel; others' by the port that leads back to them.
        let origin = if is_node(flow, tables) { Origin::Kernel } else { Origin::Wire };
        let port = match tables.fib.route(tuple.src) {
            Route::Egress { port, .. } | Route::Unresolved { port, .. } => port,
            Route::Local | Route::Nowhere => 0,
        };
        let mut arrival = Arrival { port, origin, fragment_ports: None };
        let mut frame = MemoryFrame::new(&probe::frame(flow, tables.fib.port(port).mac));
        let now = Moment::default();
        self.engine.begin_burst(now);
        let verdict = self.engine.decide(&mut frame, &mut arrival, tables, now);
        let hash = self.engine.conntrack.hash(tuple);
        if let Some(hit) = self.engine.conntrack.find(tuple, hash, now) {
            self.engine.conntrack.remove(&hit);
        }
        Outcome { verdict, left_as: tuple_of(&frame) }
    }
}

fn is_node(flow: &Flow, tables: &Tables) -> bool {
    tables.node.classify_source(flow.client.ip()).node
}

/// What the engine decides with.
fn decide<'a>(flow: &Flow, found: &Match<'a>, tables: &Tables) -> Decision<'a> {
    let client = flow.client.ip();
    found.decide(client, &tables.node.source(client.into()), tables.node.masquerade_all)
}

/// The outcome for addresses that no wire brings: a host's packet to itself stays in its kernel, so the engine takes one
/// that comes for a forgery. The decision is the same as for any other.
fn unsent(
    tuple: &Tuple,
    destination: &Destination<'_>,
    decision: Option<Decision<'_>>,
    tables: &Tables,
) -> Outcome {
    let (verdict, backend) = match (destination, decision) {
        (_, Some(Decision::Forward { choice, .. })) => {
            (verdict::Verdict::Punt, choice.pick(tables.services.flow_hash(tuple)))
        }
        (_, Some(Decision::Drop(reason))) => (verdict::Verdict::Drop(reason), None),
        (Destination::VipPortUnknown { cluster }, _)
            if !tables.node.rejects_unknown_port(*cluster) =>
        {
            (verdict::Verdict::Drop(DropReason::VipPortUnknown), None)
        }
        (Destination::Unallocated, _) => {
            (verdict::Verdict::Drop(DropReason::ServiceAddressUnallocated), None)
        }
        _ => (verdict::Verdict::Punt, None),
    };
    let to = backend.map(|(at, _)| Tuple { dst: at.ip().into(), dport: at.port(), ..*tuple });
    Outcome { verdict, left_as: to }
}

/// What the engine did with a first packet.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    verdict: verdict::Verdict,
    /// The flow that the frame holds now: of the client and its backend, if it was sent on.
    left_as: Option<Tuple>,
}

fn tuple_of(frame: &MemoryFrame) -> Option<Tuple> {
    match wire::parse(frame.bytes()) {
        Ok(Parsed::Ip(headers)) => headers.tuple(),
        _ => None,
    }
}

impl Explanation {
    fn of_service(
        &mut self,
        flow: &Flow,
        found: &Match<'_>,
        decision: Decision<'_>,
        outcome: Outcome,
        tables: &Tables,
    ) {
        self.service = Some(found.row().name.to_string());
        if let verdict::Verdict::Drop(reason) = outcome.verdict {
            self.verdict = Verdict::Drop;
            self.reason = Some(reason.name().into());
            return;
        }
        let Decision::Forward { choice, masquerade } = decision else {
            self.verdict = Verdict::Reject;
            self.reason = Some(NO_ENDPOINTS.into());
            return;
        };
        let client = flow.client.ip();
        let from_outside = !is_node(flow, tables);
        let backend = |(at, _): &(SocketAddr, _)| Backend {
            address: at.to_string(),
            // As in the engine: replies of a backend on this very host come by it anyhow (MSQ-9).
            masquerade: (masquerade || at.ip() == client)
                && !(from_outside && tables.fib.route(at.ip().into()) == Route::Local),
        };
        self.verdict = Verdict::Dnat;
        self.backends = Some(choice.backends.iter().map(backend).collect());
        self.chosen = outcome.left_as.map(|to| SocketAddr::new(to.dst.ip(), to.dport).to_string());
    }

    fn of_others(&mut self, destination: &Destination<'_>, outcome: Outcome) {
        let (verdict, reason) = match (destination, outcome.verdict) {
            // The node's own packets are answered by way of its kernel.
            (
                Destination::VipPortUnknown { .. },
                verdict::Verdict::Answer(_) | verdict::Verdict::Punt,
            ) => (Verdict::Reject, UNKNOWN_PORT),
            // Not refused: the host's business, which has nobody there either (LBR-8).
            (Destination::VipPortUnknown { .. }, _) => (Verdict::NotService, UNKNOWN_PORT),
            (_, verdict::Verdict::Drop(reason)) => (Verdict::Drop, reason.name()),
            (Destination::Local, _) => (Verdict::NotService, NODE_ADDRESS),
            _ => (Verdict::NotService, NO_SERVICE),
        };
        self.verdict = verdict;
        self.reason = Some(reason.into());
    }
}

#[cfg(test)]
mod tests;

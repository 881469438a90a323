//! The cases: which packets, over which connections, and what they may cost.

use dataplane::fib::PortId;
use dataplane::verdict::DropReason;

use crate::bench::rig::flows::Kind;
use crate::bench::rig::frames::Sizes;
use crate::bench::rig::network::{IN, OUT};

/// Connections that the table of most cases has room for: the default.
pub(super) const SMALL_TABLE: u32 = 1_000_000;
/// The same for the largest cases.
pub(super) const LARGE_TABLE: u32 = 10_000_000;
/// Services, where their number is not what a case is about.
const SERVICES: u32 = 100;
/// New connections a repetition: what a table of the default size takes without evicting.
pub(super) const NEW: u32 = 400_000;

/// What is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fill {
    pub(super) kind: Kind,
    pub(super) connections: u32,
    pub(super) services: u32,
}

/// What packets there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// From clients, of open connections.
    Forward,
    /// From pods.
    Reply,
    /// ICMP errors about packets to pods, by a router on their way.
    TooBig,
    /// Of a new connection each.
    New,
    /// To addresses that are no Service's.
    Transit,
    /// To a port that the Service does not have: dropped.
    UnknownPort,
}

impl Traffic {
    /// The reason for which all packets are dropped, if they are.
    pub(super) fn drop_reason(self) -> Option<DropReason> {
        (self == Self::UnknownPort).then_some(DropReason::VipPortUnknown)
    }
}

/// In which order connections are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    Uniform,
    Zipf,
}

/// One case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) fill: Fill,
    pub(super) traffic: Traffic,
    pub(super) pattern: Pattern,
    pub(super) sizes: Sizes,
    /// Cycles a packet may cost.
    pub(super) target: Option<f64>,
}

impl Case {
    /// From general to special.
    pub(super) fn name(&self) -> String {
        let Fill { kind, connections, services } = self.fill;
        let flows = format!("{}/{}", kind.name(), short(connections));
        let masquerade = if kind.masquerade { "masquerade/" } else { "" };
        match self.traffic {
            Traffic::Forward => {
                let pattern = match self.pattern {
                    Pattern::Uniform => "uniform",
                    Pattern::Zipf => "zipf",
                };
                let imix = if self.sizes == Sizes::Imix { "/imix" } else { "" };
                let services = match services {
                    SERVICES => String::new(),
                    1 => "/1-service".into(),
                    services => format!("/{}-services", short(services)),
                };
                format!("established/{masquerade}{flows}/{pattern}{imix}{services}")
            }
            Traffic::Reply => format!("reply/{masquerade}{flows}/uniform"),
            Traffic::TooBig => format!("icmp-error/{flows}/uniform"),
            Traffic::New => format!("new/{masquerade}{}", kind.name()),
            Traffic::Transit => format!("not-service/{}", kind.name()),
            Traffic::UnknownPort => format!("drop/{}/unknown-port", kind.name()),
        }
    }

    /// The port by which the packets come in.
    pub(super) fn port(&self) -> PortId {
        match self.traffic {
            Traffic::Reply | Traffic::TooBig => IN,
            Traffic::Forward | Traffic::New | Traffic::Transit | Traffic::UnknownPort => OUT,
        }
    }

    /// Whether it is told where the cycles go: for the plainest case of each size, and for new connections.
    pub(super) fn tells_stages(&self) -> bool {
        let Fill { kind, services, .. } = self.fill;
        let packets = (self.pattern, self.sizes) == (Pattern::Uniform, Sizes::Shortest);
        let traffic = matches!(self.traffic, Traffic::Forward | Traffic::New);
        kind == Kind::UDP4 && services == SERVICES && packets && traffic
    }

    /// Whether packets belong to connections that are open already, as the floor takes for granted.
    pub(super) fn is_established(&self) -> bool {
        matches!(self.traffic, Traffic::Forward | Traffic::Reply)
    }
}

/// All cases; those that share a fill are neighbours.
pub(super) fn all() -> Vec<Case> {
    use Traffic::{Forward, New, Reply, TooBig, Transit, UnknownPort};
    let (udp4, tcp4, udp6, tcp6) = (Kind::UDP4, Kind::TCP4, Kind::UDP6, Kind::TCP6);
    let masqueraded = udp4.masqueraded();
    let mut cases = Cases(vec![]);
    for connections in [1, 10_000] {
        for kind in [udp4, udp6, tcp4, tcp6] {
            cases.add(kind, connections, Forward);
        }
    }
    cases.add(udp6, 10_000, Reply);
    cases.add(udp4, 10_000, Reply);
    cases.add(udp4, 10_000, TooBig);
    cases.add(udp4, 10_000, Transit);
    cases.add(udp4, 10_000, UnknownPort);
    cases.add(udp4, 10_000, Forward).sizes = Sizes::Imix;
    for services in [1, 1_000, 10_000] {
        cases.add(udp4, 10_000, Forward).fill.services = services;
    }
    cases.add(masqueraded, 10_000, Forward);
    cases.add(masqueraded, 10_000, Reply);
    for kind in [udp4, tcp4, masqueraded] {
        cases.add(kind, 0, New);
    }
    cases.add(udp4, SMALL_TABLE, Forward);
    cases.add(udp4, SMALL_TABLE, Forward).pattern = Pattern::Zipf;
    cases.add(udp4, SMALL_TABLE, Reply);
    cases.add(udp6, SMALL_TABLE, Forward);
    cases.add(udp6, SMALL_TABLE, Reply);
    cases.add(tcp4, SMALL_TABLE, Forward);
    cases.add(tcp6, SMALL_TABLE, Forward);
    cases.add(masqueraded, SMALL_TABLE, Forward);
    cases.add(masqueraded, SMALL_TABLE, Reply);
    cases.add(udp4, LARGE_TABLE, Forward);
    cases.add(udp4, LARGE_TABLE, Reply);
    cases.add(tcp4, LARGE_TABLE, Forward);
    cases.0
}

struct Cases(Vec<Case>);

impl Cases {
    fn add(&mut self, kind: Kind, connections: u32, traffic: Traffic) -> &mut Case {
        let mut case = Case {
            fill: Fill { kind, connections, services: SERVICES },
            traffic,
            pattern: Pattern::Uniform,
            sizes: Sizes::Shortest,
            target: None,
        };
        case.target = (kind.v4 && case.is_established()).then(|| limit(connections));
        self.0.push(case);
        let last = self.0.len() - 1;
        &mut self.0[last]
    }
}

/// Cycles that a packet of so many IPv4 connections may cost.
fn limit(connections: u32) -> f64 {
    match connections {
        1 => 60.0,
        10_000 => 80.0,
        1_000_000 => 130.0,
        _ => 200.0,
    }
}

/// `10k`, `1M`.
fn short(number: u32) -> String {
    match number {
        n if n >= 1_000_000 => format!("{}M", n / 1_000_000),
        n if n >= 1_000 => format!("{}k", n / 1_000),
        n => n.to_string(),
    }
}

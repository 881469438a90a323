//! Tables of packets: what comes in, what becomes of it, byte by byte.
//!
//! A [`Case`] is a fresh gateway and a story of steps. Every drop reason must appear in some story:
//! see [`every_drop_reason_has_a_case`].

#![allow(clippy::cast_possible_truncation, reason = "test data is small")]
#![allow(unreachable_pub, missing_debug_implementations, reason = "a test crate has no users")]

mod support;

#[path = "packets/affinity.rs"]
mod affinity;
#[path = "packets/answers.rs"]
mod answers;
#[path = "packets/bursts.rs"]
mod bursts;
#[path = "packets/fragments.rs"]
mod fragments;
#[path = "packets/icmp.rs"]
mod icmp;
#[path = "packets/kernel.rs"]
mod kernel;
#[path = "packets/lifetime.rs"]
mod lifetime;
#[path = "packets/limits.rs"]
mod limits;
#[path = "packets/malformed.rs"]
mod malformed;
#[path = "packets/mss.rs"]
mod mss;
#[path = "packets/sctp.rs"]
mod sctp;
#[path = "packets/tallies.rs"]
mod tallies;
#[path = "packets/timeouts.rs"]
mod timeouts;
#[path = "packets/transit.rs"]
mod transit;
#[path = "packets/udp_moves.rs"]
mod udp_moves;
#[path = "packets/untouched.rs"]
mod untouched;
#[path = "packets/verdicts.rs"]
mod verdicts;

use std::panic::AssertUnwindSafe;

use dataplane::fib::PortId;
use dataplane::flow::Protocol;
use dataplane::tables::MasqueradePorts;
use dataplane::verdict::DropReason;
use support::gateway::{
    Family, Fate, Gateway, IN, IN_MAC, OUT, OUT_MAC, PODS, ROUTER, Service, Setup, answered_in,
    answered_out, sent_in, sent_out,
};
use support::packet::Packet;

/// The only source port for masquerading, so that tables can name it.
pub const MASQUERADE_PORT: u16 = 40_000;

type Step = Box<dyn FnOnce(&mut Gateway)>;

/// One story.
pub struct Case {
    name: String,
    setup: Setup,
    services: Vec<(String, Vec<Service>)>,
    steps: Vec<Step>,
    reasons: Vec<DropReason>,
}

pub fn case(name: impl Into<String>) -> Case {
    let mut setup = Setup::default();
    setup.node.masquerade_ports = MasqueradePorts(MASQUERADE_PORT..=MASQUERADE_PORT);
    Case { name: name.into(), setup, services: vec![], steps: vec![], reasons: vec![] }
}

impl Case {
    pub fn named(mut self, name: String) -> Self {
        self.name = name;
        self
    }

    pub fn setup(mut self, change: impl FnOnce(&mut Setup)) -> Self {
        change(&mut self.setup);
        self
    }

    /// A Service that exists from the start.
    pub fn service(mut self, name: &str, rows: &[Service]) -> Self {
        self.services.push((name.into(), rows.to_vec()));
        self
    }

    /// A packet from outside.
    pub fn outside(self, packet: Packet, fate: Fate) -> Self {
        self.frame(OUT, packet.macs(ROUTER, OUT_MAC).frame(), fate)
    }

    /// A packet from the pods' side.
    pub fn pods(self, packet: Packet, fate: Fate) -> Self {
        self.frame(IN, packet.macs(PODS, IN_MAC).frame(), fate)
    }

    /// A packet from the kernel twin of a port, with the MAC addresses the kernel would write.
    pub fn kernel(self, port: PortId, packet: Packet, fate: Fate) -> Self {
        let frame = from_kernel(port, packet);
        self.expecting(&fate.clone()).then(move |gateway| {
            assert_eq!(gateway.inject(port, &frame), fate);
        })
    }

    /// Any bytes.
    pub fn frame(self, port: PortId, frame: Vec<u8>, fate: Fate) -> Self {
        self.expecting(&fate.clone()).then(move |gateway| {
            assert_eq!(gateway.receive(port, &frame), fate);
        })
    }

    pub fn then(mut self, step: impl FnOnce(&mut Gateway) + 'static) -> Self {
        self.steps.push(Box::new(step));
        self
    }

    pub fn wait(self, millis: u64) -> Self {
        self.then(move |gateway| gateway.wait(millis))
    }

    /// Sets a Service's rows in mid-story.
    pub fn apply(self, name: &'static str, rows: Vec<Service>) -> Self {
        self.then(move |gateway| gateway.apply(name, &rows))
    }

    /// Says that a step written out by hand ends in this drop.
    pub fn covers(mut self, reason: DropReason) -> Self {
        self.reasons.push(reason);
        self
    }

    fn expecting(self, fate: &Fate) -> Self {
        match fate {
            Fate::Dropped(reason) => self.covers(*reason),
            _ => self,
        }
    }

    fn run(self) {
        let mut gateway = Gateway::new(self.setup);
        for (name, rows) in &self.services {
            gateway.apply(name, rows);
        }
        for step in self.steps {
            step(&mut gateway);
        }
    }
}

/// The same Service for TCP and UDP, whose first backend serves port 8080.
pub fn web(f: Family, masquerade: bool) -> Vec<Service> {
    [Protocol::Tcp, Protocol::Udp]
        .map(|protocol| {
            let service = Service::new("ns/web:80", protocol, &[(f.backends[0], 8080)])
                .load_balancer(f.load_balancer, 80, &[]);
            if masquerade { service } else { service.external_local() }
        })
        .to_vec()
}

/// A frame as the kernel sends it through the twin of a port.
pub fn from_kernel(port: PortId, packet: Packet) -> Vec<u8> {
    if port == OUT { packet.macs(OUT_MAC, ROUTER) } else { packet.macs(IN_MAC, PODS) }.frame()
}

/// As a packet comes in.
pub fn punted_out(packet: Packet) -> Fate {
    Fate::Punted(OUT, packet.macs(ROUTER, OUT_MAC).frame())
}

pub fn punted_in(packet: Packet) -> Fate {
    Fate::Punted(IN, packet.macs(PODS, IN_MAC).frame())
}

pub fn dropped(reason: DropReason) -> Fate {
    Fate::Dropped(reason)
}

fn all() -> Vec<Case> {
    [
        malformed::cases(),
        verdicts::cases(),
        transit::cases(),
        answers::cases(),
        icmp::cases(),
        fragments::cases(),
        kernel::cases(),
        lifetime::cases(),
        limits::cases(),
        mss::cases(),
        sctp::cases(),
        affinity::cases(),
        timeouts::cases(),
        udp_moves::cases(),
        untouched::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Runs all cases of a table before it fails: which ones fail together says more than the first one.
fn run(cases: Vec<Case>) {
    let failed: Vec<String> = cases
        .into_iter()
        .filter_map(|case| {
            let name = case.name.clone();
            std::panic::catch_unwind(AssertUnwindSafe(|| case.run())).is_err().then_some(name)
        })
        .collect();
    assert!(failed.is_empty(), "failed cases:\n{}", failed.join("\n"));
}

macro_rules! run_tables {
    ($($module:ident),*) => {
        $(#[test]
        fn $module() {
            crate::run(crate::$module::cases());
        })*
    };
}

mod tables {
    run_tables!(
        malformed, verdicts, transit, answers, icmp, fragments, kernel, lifetime, limits, mss,
        sctp, affinity, timeouts, udp_moves, untouched
    );
}

#[test]
fn every_drop_reason_has_a_case() {
    let covered: Vec<DropReason> = all().into_iter().flat_map(|case| case.reasons).collect();
    let missing: Vec<&str> = DropReason::ALL
        .into_iter()
        .filter(|reason| !covered.contains(reason))
        .map(DropReason::name)
        .collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

//! A burst against its packets one by one: which of them are looked at together must not matter to any flow.
//!
//! An input is the family, then nine bytes a step.

use std::collections::BTreeMap;

use dataplane::fib::PortId;
use dataplane::flow::Protocol::{Tcp, Udp};
use dataplane::flow::Tuple;
use dataplane::nic::BURST;
use dataplane::wire::{self, Parsed};

use super::Target;
use super::express::oddity;
use crate::model::twins::{FLAGS, answer, odd};
use crate::support::gateway::{
    Family, Fate, Gateway, IN, OUT, OUT_MAC, ROUTER, Service, Setup, V4, V6, at,
};
use crate::support::packet::*;

/// Bytes of a step.
const STEP: usize = 9;
const CLIENTS: u16 = 4;

pub struct Bursts([Pair; 2]);

/// Two gateways with the same past.
struct Pair {
    f: Family,
    together: Gateway,
    apart: Gateway,
}

impl Bursts {
    pub fn new() -> Self {
        Self([V4, V6].map(|f| Pair { f, together: gateway(f), apart: gateway(f) }))
    }
}

fn gateway(f: Family) -> Gateway {
    let mut setup = Setup::default();
    setup.conntrack.connections_v4 = 256;
    setup.conntrack.connections_v6 = 256;
    let mut gateway = Gateway::new(setup);
    gateway.judged = false;
    let rows = [Tcp, Udp].map(|protocol| {
        Service::new("ns/web:80", protocol, &[(f.backends[0], 8080), (f.backends[1], 8080)])
            .external_local()
            .load_balancer(f.load_balancer, 80, &[])
            .cluster_ip(f.cluster_ip, 80)
    });
    gateway.apply("ns/web", &rows);
    gateway
}

impl Target for Bursts {
    fn run(&mut self, input: &[u8]) {
        let Some((&family, steps)) = input.split_first() else { return };
        let pair = &mut self.0[usize::from(family & 1)];
        pair.renew();
        let (mut burst, mut answers) = (vec![], vec![]);
        for bytes in steps.as_chunks::<STEP>().0 {
            let &[kind, a, b, flags, reply, ref odd @ ..] = bytes;
            if burst.len() < BURST && kind % 8 != 0 {
                burst.push(pair.ask(a, b, flags, odd));
                answers.push(FLAGS[usize::from(reply) % FLAGS.len()]);
                continue;
            }
            let sent = pair.both(OUT, &burst);
            let replies =
                sent.iter().zip(&answers).filter_map(|(frame, flags)| answer(frame, *flags));
            pair.both(IN, &replies.take(BURST).collect::<Vec<_>>());
            pair.after(u64::from(a) * 100);
            burst.clear();
            answers.clear();
        }
        pair.both(OUT, &burst);
    }
}

impl Pair {
    /// What a client sends.
    fn ask(&self, a: u8, b: u8, flags: u8, odd_bytes: &[u8; 4]) -> Vec<u8> {
        let f = self.f;
        let client = at(f.client, 1_000 + u16::from(a) % CLIENTS);
        let to = [
            at(f.load_balancer, 80),
            at(f.cluster_ip, 80),
            at(f.backends[0], 8080),
            at(f.pod, 53),
            at(f.load_balancer, 81),
        ][usize::from(b >> 1) % 5];
        let packet = if b & 1 == 1 {
            tcp(client, to).flags(FLAGS[usize::from(flags) % FLAGS.len()])
        } else {
            udp(client, to)
        };
        odd(packet.macs(ROUTER, OUT_MAC), f.v4, &oddity(odd_bytes))
    }

    /// Ends everything, in both.
    fn renew(&mut self) {
        for gateway in [&mut self.together, &mut self.apart] {
            let before = gateway.totals();
            for _ in 0..3 {
                gateway.now = gateway.now.after(4_000_000);
                for _ in 0..600 {
                    gateway.now = gateway.now.after(1);
                    gateway.poll();
                }
            }
            assert_eq!(gateway.connections(), 0);
            gateway.collect_mixed(&before);
            gateway.wanted();
        }
    }

    fn after(&mut self, millis: u64) {
        for gateway in [&mut self.together, &mut self.apart] {
            gateway.now = gateway.now.after(millis);
        }
    }

    /// The same frames as one burst, and one by one; returns what was sent.
    fn both(&mut self, port: PortId, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        // What time alone does comes first, in both.
        let (before, before_apart) = (self.together.totals(), self.apart.totals());
        self.together.poll();
        self.apart.poll();
        frames.iter().for_each(|frame| self.together.put(0, port, frame));
        self.together.poll();
        let together = self.together.collect_mixed(&before);
        for frame in frames {
            self.apart.put(0, port, frame);
            self.apart.poll();
        }
        let apart = self.apart.collect_mixed(&before_apart);
        let (together, apart_by_flow) = (by_flow(&together), by_flow(&apart));
        for (flow, fates) in &apart_by_flow {
            assert_eq!(together.get(flow), Some(fates), "flow {flow} of {frames:02x?}");
        }
        assert_eq!(together.len(), apart_by_flow.len(), "flows of {frames:02x?}");
        let created = [&mut self.together, &mut self.apart].map(|gateway| {
            gateway.connections();
            gateway.counters[0].conntrack.created.get()
        });
        assert_eq!(created[0], created[1], "connections made by {frames:02x?}");
        let sent = apart.into_iter().filter_map(|fate| match fate {
            Fate::Sent(IN, frame) => Some(frame),
            _ => None,
        });
        sent.collect()
    }
}

/// What became of frames: of each flow in order, of the rest in any.
fn by_flow(fates: &[Fate]) -> BTreeMap<String, Vec<String>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for fate in fates {
        let key = match fate {
            Fate::Sent(_, frame) => flow(frame).map(|tuple| format!("{tuple:?}")),
            _ => None,
        };
        flows.entry(key.unwrap_or_default()).or_default().push(format!("{fate:?}"));
    }
    if let Some(rest) = flows.get_mut("") {
        rest.sort();
    }
    flows
}

fn flow(frame: &[u8]) -> Option<Tuple> {
    match wire::parse(frame) {
        Ok(Parsed::Ip(headers)) => headers.tuple(),
        _ => None,
    }
}

//! A network around several workers that picks the queues of packets.

use std::net::IpAddr;
use std::sync::Arc;

use dataplane::flow::Protocol::{Tcp, Udp};
use dataplane::flow::Tuple;
use dataplane::rss::{Ends, Rss, key};
use dataplane::tables::MasqueradePorts;

use super::gateway::{
    Family, Fate, Gateway, IN, IN_MAC, OUT, OUT_MAC, PODS, ROUTER, Service, Setup,
};
use super::packet::Packet;
use super::random::Random;

pub const WORKERS: [u16; 3] = [2, 3, 8];

/// How the NIC spreads packets.
#[derive(Clone, Copy, Debug)]
pub enum Steering {
    /// Never to the worker that owns the connection.
    Wrong,
    Random,
    /// As NICs do, by addresses and ports.
    Toeplitz,
}

/// What the NICs do, as far as the workers know.
#[derive(Clone, Copy, Debug)]
pub enum Nics {
    Unknown,
    /// They hash whole flows.
    Flows,
    /// The outer one hashes the source, where clients are; the inner one the destination, where they are of replies.
    Ends,
}

impl Nics {
    /// By port.
    fn rss(self, workers: u16) -> Arc<[Option<Rss>]> {
        let table: Vec<u16> = (0..128).map(|entry| entry % workers).collect();
        let mut random = Random::new(5);
        let of_flows = key::of_flows(|| random.next());
        let of_ends = key::of_ends(|| random.next());
        let rss = |ends| {
            let key = if ends == Ends::Both { &of_flows } else { &of_ends };
            Some(Rss::new(ends, key, &table, |_, _| true).expect("a key and a table"))
        };
        match self {
            Self::Unknown => Arc::new([]),
            Self::Flows => [Ends::Both, Ends::Both].map(rss).into(),
            Self::Ends => [Ends::Source, Ends::Destination].map(rss).into(),
        }
    }
}

/// A gateway, the network's choice of queues, and what it knows of owners.
pub struct Net {
    pub gateway: Gateway,
    steering: Steering,
    pub random: Random,
    pub workers: usize,
}

pub fn service(f: Family, masquerade: bool) -> [Service; 2] {
    [Tcp, Udp].map(|protocol| {
        let endpoints = [(f.backends[0], 8080), (f.backends[1], 8080)];
        let service =
            Service::new("ns/web:80", protocol, &endpoints).load_balancer(f.load_balancer, 80, &[]);
        if masquerade { service } else { service.external_local() }
    })
}

impl Net {
    pub fn new(workers: u16, steering: Steering) -> Self {
        Self::on(Nics::Unknown, workers, steering)
    }

    pub fn on(nics: Nics, workers: u16, steering: Steering) -> Self {
        let mut setup = Setup { workers, rss: nics.rss(workers), ..Setup::default() };
        // Enough for every worker to find ports whose replies come back to it.
        setup.node.masquerade_ports = MasqueradePorts(40_000..=u16::MAX);
        Self {
            gateway: Gateway::new(setup),
            steering,
            random: Random::new(u64::from(workers)),
            workers: usize::from(workers),
        }
    }

    /// How many frames went from worker to worker.
    pub fn handed_over(&self) -> u64 {
        self.gateway.counters.iter().map(|counters| counters.work.handed_over.get()).sum()
    }

    /// Receives a frame at a queue of the network's choice. `owner` is learnt, and must never change.
    pub fn receive(&mut self, port: u16, frame: &[u8], owner: &mut Option<usize>) -> Fate {
        let queue = match (self.steering, *owner) {
            (Steering::Wrong, Some(owner)) => {
                (owner + 1 + self.random.below(self.workers - 1)) % self.workers
            }
            (Steering::Toeplitz, _) => {
                let rss = self.gateway.setup.rss[usize::from(port)].as_ref().expect("known");
                usize::from(rss.queue(&flow(frame)))
            }
            _ => self.random.below(self.workers),
        };
        let decided = |gateway: &Gateway| -> Vec<u64> {
            gateway.counters.iter().map(|counters| counters.work.forwarded.get()).collect()
        };
        let before = decided(&self.gateway);
        let fate = self.gateway.receive_at(queue, port, frame);
        let after = decided(&self.gateway);
        let worker = (0..self.workers).find(|&worker| after[worker] > before[worker]);
        assert!(owner.is_none() || *owner == worker, "{owner:?} owned it, {worker:?} decided");
        *owner = worker;
        fate
    }

    pub fn outside(&mut self, packet: &Packet, owner: &mut Option<usize>) -> Fate {
        self.receive(OUT, &packet.clone().macs(ROUTER, OUT_MAC).frame(), owner)
    }

    pub fn pods(&mut self, packet: &Packet, owner: &mut Option<usize>) -> Fate {
        self.receive(IN, &packet.clone().macs(PODS, IN_MAC).frame(), owner)
    }
}

/// The flow of a TCP packet.
fn flow(frame: &[u8]) -> Tuple {
    let ((src, sport), (dst, dport)) = ends(frame);
    Tuple { src: src.into(), dst: dst.into(), sport, dport, protocol: Tcp }
}

/// Source and destination of an IP packet with ports in an untagged frame.
pub fn ends(frame: &[u8]) -> ((IpAddr, u16), (IpAddr, u16)) {
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).expect("four"));
    let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).expect("sixteen"));
    if frame[12] == 8 {
        ((v4(26), port(34)), (v4(30), port(36)))
    } else {
        ((v6(22), port(54)), (v6(38), port(56)))
    }
}

//! Two engines that must not differ: one takes the express way where it can, the other never does.

use std::net::SocketAddr;

use dataplane::clock::Moment;
use dataplane::engine::{Arrival, Engine, Origin, Prepared, Prospect, Stop};
use dataplane::fib::PortId;
use dataplane::flow::Protocol;
use dataplane::nic::Frame;
use dataplane::nic::memory::MemoryFrame;
use dataplane::tables::Tables;
use dataplane::verdict::Verdict;
use dataplane::wire::{self, Parsed};

use crate::support::gateway::{
    Family, Gateway, IN, IN_MAC, OUT, OUT_MAC, PODS, ROUTER, Service, Setup, at,
};
use crate::support::packet::*;

pub const CLIENTS: u16 = 4;
pub const FLAGS: [u8; 8] = [SYN, ACK, ACK | PSH, ACK, FIN | ACK, RST, SYN | ACK, 0];
pub const SECONDS: [u64; 8] = [0, 0, 0, 1, 31, 121, 301, 7_441];
pub const BACKENDS: [&[usize]; 5] = [&[0], &[1, 2], &[0, 1, 2], &[], &[2]];

/// A step of their common past.
#[derive(Clone, Debug)]
pub enum Step {
    /// A client sends; then the backend answers so many times.
    Ask { client: u16, is_tcp: bool, masquerade: bool, flags: u8, answers: Vec<u8>, oddity: Oddity },
    /// The Services get other backends, by this number in [`BACKENDS`].
    Backends(usize),
    /// Time passes, by this number in [`SECONDS`].
    Sleep(usize),
}

/// What is unusual about a client's frame.
#[derive(Clone, Debug)]
pub enum Oddity {
    Nothing,
    Ttl(u8),
    Vlan,
    Options,
    NoChecksum,
    Padding(u8),
    Payload(u16),
    /// The payload is this word.
    Word(u16),
    /// These bytes are changed, wherever that leads.
    Edits(Vec<(u8, u8)>),
    Cut(u8),
}

/// Two engines with the same past, one of which never takes the express way.
pub struct Twins {
    f: Family,
    gateway: Gateway,
    tables: Tables,
    quick: Engine,
    whole: Engine,
    now: Moment,
    /// Packets that took the express way.
    pub expressed: usize,
    /// Packets that opened a connection the quick way.
    pub welcomed: usize,
}

impl Twins {
    pub fn new(f: Family) -> Self {
        let mut setup = Setup::default();
        setup.fib.ports[usize::from(IN)].mtu = 1_280;
        setup.conntrack.connections_v4 = 256;
        setup.conntrack.connections_v6 = 256;
        let gateway = Gateway::new(setup);
        let (quick, whole) = (gateway.engine_of(0), gateway.engine_of(0));
        let tables = gateway.tables();
        let mut twins = Self {
            f,
            gateway,
            tables,
            quick,
            whole,
            now: Moment(5_000),
            expressed: 0,
            welcomed: 0,
        };
        twins.backends(BACKENDS[2]);
        twins
    }

    fn backends(&mut self, chosen: &[usize]) {
        let f = self.f;
        let endpoints: Vec<_> = chosen.iter().map(|&i| (f.backends[i], 8080)).collect();
        let rows = [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(|protocol| {
            let service = Service::new("ns/web:80", protocol, &endpoints);
            let kept = service.clone().external_local().load_balancer(f.load_balancer, 80, &[]);
            [kept, service.external(f.external_ip, 80)]
        });
        self.gateway.apply("ns/web", &rows.collect::<Vec<_>>());
        self.tables = self.gateway.tables();
    }

    /// Takes a step. Panics where the two differ.
    pub fn run(&mut self, step: &Step) {
        match step {
            Step::Ask { client, is_tcp, masquerade, flags, answers, oddity } => {
                let f = self.f;
                let vip = if *masquerade { f.external_ip } else { f.load_balancer };
                let (from, to) = (at(f.client, 1_000 + client), at(vip, 80));
                let packet = if *is_tcp { tcp(from, to) } else { udp(from, to) };
                let packet =
                    if *is_tcp { packet.flags(FLAGS[usize::from(*flags)]) } else { packet };
                let frame = odd(packet.macs(ROUTER, OUT_MAC), f.v4, oddity);
                let Some((IN, sent)) = self.both(OUT, &frame) else { return };
                for flags in answers {
                    let Some(frame) = answer(&sent, FLAGS[usize::from(*flags)]) else { return };
                    self.both(IN, &frame);
                }
            }
            Step::Backends(choice) => self.backends(BACKENDS[*choice]),
            Step::Sleep(choice) => self.sleep(SECONDS[*choice]),
        }
    }

    /// Begins anew in the same engines, whose memory is never given back.
    pub fn renew(&mut self) {
        // Longer than any connection lives.
        self.sleep(8_000);
        assert!(self.quick.conntrack.is_empty() && self.whole.conntrack.is_empty());
        self.backends(BACKENDS[2]);
    }

    /// Time passes, in steps after which the tables are swept as they have to be.
    fn sleep(&mut self, seconds: u64) {
        let mut left = seconds;
        loop {
            let step = left.min(4_000);
            self.now = self.now.after(step * 1000);
            for engine in [&mut self.quick, &mut self.whole] {
                // Each a step at least: enough to pass the table.
                (0..600).for_each(|_| engine.conntrack.sweep(self.now.after(10)));
            }
            self.now = self.now.after(10);
            left -= step;
            if left == 0 {
                return;
            }
        }
    }

    /// Gives a frame to both engines; returns what they sent, if they did.
    fn both(&mut self, port: PortId, bytes: &[u8]) -> Option<(PortId, Vec<u8>)> {
        let (mut one, mut other) = (MemoryFrame::new(bytes), MemoryFrame::new(bytes));
        let arrival = Arrival { port, origin: Origin::Wire, fragment_ports: None };
        self.quick.begin_burst(self.now);
        let mut prepared = Prepared::Other;
        self.quick.prepare_one(&one, self.tables.fib.mac_word(port), &mut prepared);
        self.quick.look_ahead_one(&mut prepared);
        let passage = self.quick.express_one(&mut one, &prepared, &self.tables);
        self.expressed += usize::from(passage.is_ok());
        let quickly = match passage {
            Ok(port) => Some(Verdict::Forward(port)),
            Err(Stop::Refer) => None,
            Err(Stop::Unknown) => {
                match self.quick.announce(&mut one, &prepared, &arrival, &self.tables) {
                    Prospect::Refer => None,
                    Prospect::Done(verdict) => Some(verdict),
                    Prospect::Waits => {
                        let waiting = [(&prepared, &arrival)].into_iter();
                        self.quick.foresee(waiting, &self.tables);
                        let port = self.quick.welcome(&mut one, &prepared, 0);
                        self.welcomed += usize::from(port.is_some());
                        port.map(Verdict::Forward)
                    }
                }
            }
        };
        let quick = quickly.unwrap_or_else(|| {
            self.quick.decide(&mut one, &mut arrival.clone(), &self.tables, self.now)
        });
        let whole = self.whole.decide(&mut other, &mut arrival.clone(), &self.tables, self.now);
        assert_eq!(quick, whole, "{bytes:02x?}");
        assert_eq!(one.bytes(), other.bytes(), "{bytes:02x?}");
        assert_eq!(self.quick.conntrack.len(), self.whole.conntrack.len());
        match quick {
            Verdict::Forward(port) => Some((port, one.bytes().to_vec())),
            _ => None,
        }
    }
}

pub fn odd(packet: Packet, v4: bool, oddity: &Oddity) -> Vec<u8> {
    let packet = match oddity {
        Oddity::Ttl(ttl) => packet.ttl(*ttl),
        Oddity::Vlan => packet.vlan(7),
        Oddity::Options if v4 => packet.ip_options(&[1; 4]),
        Oddity::Options => packet.extension(60, &[0; 8]),
        Oddity::NoChecksum => packet.checksum(0),
        Oddity::Padding(len) => packet.padding(&vec![7; usize::from(*len)]),
        Oddity::Payload(len) => packet.payload(&vec![9; usize::from(*len)]),
        Oddity::Word(word) => packet.payload(&word.to_be_bytes()),
        Oddity::Nothing | Oddity::Edits(_) | Oddity::Cut(_) => packet,
    };
    let mut frame = packet.frame();
    match oddity {
        Oddity::Edits(edits) => {
            for (at, value) in edits {
                if let Some(byte) = frame.get_mut(usize::from(*at)) {
                    *byte = *value;
                }
            }
        }
        Oddity::Cut(len) => frame.truncate(usize::from(*len)),
        _ => {}
    }
    frame
}

/// What a backend that got this frame sends back.
pub fn answer(frame: &[u8], flags: u8) -> Option<Vec<u8>> {
    let Ok(Parsed::Ip(headers)) = wire::parse(frame) else { return None };
    let tuple = headers.tuple()?.reversed();
    let end = |address: dataplane::flow::Address, port| SocketAddr::new(address.ip(), port);
    let (from, to) = (end(tuple.src, tuple.sport), end(tuple.dst, tuple.dport));
    let packet = match tuple.protocol {
        Protocol::Tcp => tcp(from, to).flags(flags),
        _ => udp(from, to),
    };
    Some(packet.payload(b"the answer").macs(PODS, IN_MAC).frame())
}

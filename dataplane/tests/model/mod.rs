//! A NAT in plain maps: what the engine should do, said once more and as simply as possible.
//!
//! Where the engine may choose (a backend of the list, a source port of the range) the model takes the choice from the
//! frame that left, checks that it was allowed, and from then on holds the engine to it.
//! One worker, no limits: capacity and rates have their own tests.

#![allow(dead_code, reason = "every test crate uses its own part")]

pub mod story;
pub mod twins;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use dataplane::flow::Protocol::{self, Tcp, Udp};
use dataplane::verdict::DropReason;

use crate::support::gateway::{
    Family, Fate, IN, IN_MAC, OUT, OUT_MAC, PODS, ROUTER, Service, answered_in, answered_out, at,
    ip, sent_in, sent_out,
};
use crate::support::packet::*;

pub type Ends = (IpAddr, u16);

/// One direction of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub protocol: Protocol,
    pub src: Ends,
    pub dst: Ends,
}

impl Flow {
    pub fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, ..self }
    }

    pub fn packet(self, flags: u8) -> Packet {
        match self.protocol {
            Tcp => tcp(self.src, self.dst).flags(flags),
            _ => udp(self.src, self.dst),
        }
    }
}

/// A Service's policy, by its number; endpoints all listen on 8080.
pub const SERVICES: usize = 3;
const PORT: u16 = 8080;
const MASQUERADE: std::ops::RangeInclusive<u16> = 40_000..=49_999;

#[derive(Debug)]
struct Connection {
    client: Flow,
    inside: Flow,
    /// Service number, backend, and how often that backend had come to the Service by then.
    of: Option<(usize, Ends, u32)>,
    phase: Phase,
    fins: [bool; 2],
    /// By direction, in whole seconds.
    deadlines: [u64; 2],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Opening,
    /// The client has said so twice.
    Repeated,
    /// It goes on, or says so for the third time, and nobody has answered.
    OneWay,
    Answered,
    Open,
    PickedUp,
    Reset,
    Unreplied,
    Replied,
}

pub struct Model {
    f: Family,
    now: u64,
    connections: Vec<Connection>,
    /// By Service: `None` when it is deleted.
    endpoints: [Option<Vec<Ends>>; SERVICES],
    arrivals: HashMap<(usize, Ends), u32>,
    /// Up to when what a backend sends is known for a late answer.
    late: HashMap<Flow, u64>,
    /// What is or was anybody's endpoint.
    known: HashSet<Ends>,
    /// The choice for a flow among given endpoints must never change.
    choices: HashMap<(Flow, Vec<Ends>), Ends>,
}

impl Model {
    pub fn new(f: Family) -> Self {
        Self {
            f,
            now: 0,
            connections: vec![],
            endpoints: [None, None, None],
            arrivals: HashMap::new(),
            late: HashMap::new(),
            known: HashSet::new(),
            choices: HashMap::new(),
        }
    }

    pub fn vip(f: Family, service: usize) -> &'static str {
        [f.cluster_ip, f.external_ip, f.load_balancer][service]
    }

    /// The rows to publish for these endpoints.
    pub fn rows(f: Family, service: usize, backends: &[usize]) -> Vec<Service> {
        let list: Vec<_> = backends.iter().map(|&i| (f.backends[i], PORT)).collect();
        [Tcp, Udp]
            .map(|protocol| {
                let row = Service::new("ns/x:80", protocol, &list);
                match service {
                    0 => row.cluster_ip(f.cluster_ip, 80),
                    1 => row.external(f.external_ip, 80),
                    _ => row.external_local().load_balancer(f.load_balancer, 80, &[]),
                }
            })
            .to_vec()
    }

    pub fn set_endpoints(&mut self, service: usize, backends: Option<&[usize]>) {
        let new = backends
            .map(|list| list.iter().map(|&i| at(self.f.backends[i], PORT)).collect::<Vec<_>>());
        let old = self.endpoints[service].take().unwrap_or_default();
        for end in new.iter().flatten().filter(|end| !old.contains(end)) {
            *self.arrivals.entry((service, *end)).or_default() += 1;
            self.known.insert(*end);
        }
        self.endpoints[service] = new;
    }

    pub fn set_seconds(&mut self, now: u64) {
        self.now = now;
    }

    /// Connections that are not past their time.
    pub fn live(&self) -> usize {
        self.live_since(0)
    }

    /// Connections that are not past their time, or were not so many seconds ago.
    pub fn live_since(&self, seconds: u64) -> usize {
        let then = self.now.saturating_sub(seconds);
        let lived = |c: &&Connection| c.deadlines.iter().any(|&deadline| deadline > then);
        self.connections.iter().filter(lived).count()
    }

    fn lives(&self, connection: &Connection) -> bool {
        connection.deadlines.iter().any(|&deadline| deadline > self.now)
    }

    /// How the connection of this number (in order of creation, wrapping) looks from both sides.
    pub fn views(&self, number: usize) -> Option<(Flow, Flow)> {
        let connection = self.connections.get(number.checked_rem(self.connections.len())?)?;
        Some((connection.client, connection.inside))
    }

    /// Checks what became of a packet, and remembers it.
    pub fn packet(&mut self, flow: Flow, flags: u8, fate: &Fate) {
        let Some((number, reply)) = self.find(flow) else {
            return self.untracked(flow, flags, fate);
        };
        let connection = &self.connections[number];
        let reopens = connection.phase == Phase::Reset || connection.fins == [true, true];
        let moved = flow.protocol == Udp && connection.of.is_some_and(|of| !self.serves(of));
        if !reply && (moved || flow.protocol == Tcp && reopens && flags & (SYN | ACK | RST) == SYN)
        {
            if moved {
                self.late.insert(connection.inside.reversed(), self.now + 60);
            }
            self.connections.remove(number);
            return self.untracked(flow, flags, fate);
        }
        let (client, inside) = (connection.client, connection.inside);
        let to = if reply { client.reversed() } else { inside };
        assert_eq!(*fate, self.forwarded(to.packet(flags)), "{flow:?} of {client:?}");
        let now = self.now;
        self.connections[number].pass(usize::from(reply), flags, now);
    }

    /// Checks what became of an ICMP error, about a packet of a connection, from the host it was sent to.
    pub fn error(&self, about: Flow, fate: &Fate) {
        let (from, to) = (about.dst.0, about.src.0);
        // Errors neither find dead connections nor wake them.
        let Some((number, reply)) = self.find(about.reversed()) else {
            assert!(!matches!(fate, Fate::Parked | Fate::Answered(..)), "{fate:?}");
            if let Fate::Sent(_, frame) = fate {
                let same = port_unreachable(from, to, &about.packet(ACK).ip());
                assert_eq!(
                    self.forwarded(same),
                    *fate,
                    "translated without a connection: {frame:?}"
                );
            }
            return;
        };
        let connection = &self.connections[number];
        let original = if reply { connection.client } else { connection.inside.reversed() };
        let expected = port_unreachable(original.dst.0, original.src.0, &original.packet(ACK).ip());
        assert_eq!(*fate, self.forwarded(expected), "an error about {about:?}");
    }

    /// The error message [`Self::error`] is about.
    pub fn error_packet(about: Flow) -> Packet {
        port_unreachable(about.dst.0, about.src.0, &about.packet(ACK).ip())
    }

    /// The port a host's packets come in by.
    pub fn frame(&self, from: IpAddr, packet: Packet) -> (u16, Vec<u8>) {
        if from == ip(self.f.client) {
            (OUT, packet.macs(ROUTER, OUT_MAC).frame())
        } else {
            (IN, packet.macs(PODS, IN_MAC).frame())
        }
    }

    /// A live connection and whether the flow is its reply direction.
    fn find(&self, flow: Flow) -> Option<(usize, bool)> {
        self.connections.iter().enumerate().find_map(|(number, connection)| {
            let reply = connection.inside.reversed() == flow;
            let found = (connection.client == flow || reply) && self.lives(connection);
            found.then_some((number, reply && connection.client != flow))
        })
    }

    fn serves(&self, (service, end, arrival): (usize, Ends, u32)) -> bool {
        let present = self.endpoints[service].as_ref().is_some_and(|list| list.contains(&end));
        present && self.arrivals.get(&(service, end)) == Some(&arrival)
    }

    fn untracked(&mut self, flow: Flow, flags: u8, fate: &Fate) {
        let dropped = |reason| assert_eq!(*fate, Fate::Dropped(reason), "{flow:?} {flags:#x}");
        let opens = flow.protocol == Tcp && flags & (SYN | ACK) == SYN;
        let vip = (0..SERVICES).find(|&service| ip(Self::vip(self.f, service)) == flow.dst.0);
        match vip.map(|service| (service, self.endpoints[service].clone())) {
            Some((service, Some(endpoints))) if flow.dst.1 == 80 => {
                return self.ask_service(service, &endpoints, flow, flags, fate);
            }
            Some((_, Some(_))) => return self.refused(flow, flags, fate),
            // The cluster IP lies in the service range; to the others there is no route.
            Some((0, None)) => return dropped(DropReason::ServiceAddressUnallocated),
            _ => {}
        }
        let masqueraded = flow.dst.0 == ip(self.f.node_in) && MASQUERADE.contains(&flow.dst.1);
        let late = flow.protocol == Tcp || self.late.get(&flow).is_some_and(|&t| t > self.now);
        if masqueraded || late && !opens && self.known.contains(&flow.src) {
            return dropped(DropReason::NoConnection);
        }
        if vip.is_some() {
            return dropped(DropReason::NoRoute);
        }
        let question = flow.protocol == Udp && self.known.contains(&flow.src);
        if !question && (self.known.contains(&flow.dst) || self.known.contains(&flow.src)) {
            return self.direct(flow, flags, fate);
        }
        assert_eq!(*fate, self.forwarded(flow.packet(flags)), "transit {flow:?}");
    }

    fn ask_service(
        &mut self,
        service: usize,
        endpoints: &[Ends],
        flow: Flow,
        flags: u8,
        fate: &Fate,
    ) {
        if flow.protocol == Tcp && opening(flags).is_none() {
            return assert_eq!(*fate, Fate::Dropped(DropReason::NoConnection), "{flow:?}");
        }
        if endpoints.is_empty() {
            return self.refused(flow, flags, fate);
        }
        let inside = self.sent(fate);
        assert!(endpoints.contains(&inside.dst), "{:?} is no endpoint", inside.dst);
        let chosen = self.choices.entry((flow, endpoints.to_vec())).or_insert(inside.dst);
        assert_eq!(*chosen, inside.dst, "the choice for {flow:?} changed");
        let pod = flow.src.0 != ip(self.f.client);
        let masquerade = match service {
            0 => !pod,
            1 => true,
            _ => false,
        } || flow.src.0 == inside.dst.0;
        if masquerade {
            assert_eq!(inside.src.0, ip(self.f.node_in), "{flow:?} is masqueraded");
            assert!(MASQUERADE.contains(&inside.src.1));
        } else {
            self.keeps_source(flow, inside);
        }
        let arrival = self.arrivals[&(service, inside.dst)];
        self.opened(flow, inside, flags, Some((service, inside.dst, arrival)), fate);
    }

    fn direct(&mut self, flow: Flow, flags: u8, fate: &Fate) {
        if flow.protocol == Tcp && opening(flags).is_none() {
            return assert_eq!(*fate, self.forwarded(flow.packet(flags)), "{flow:?}");
        }
        let inside = self.sent(fate);
        assert_eq!(inside.dst, flow.dst);
        self.keeps_source(flow, inside);
        self.opened(flow, inside, flags, None, fate);
    }

    /// The source stays, unless another connection's replies would be mistaken for this one's (CTK-12).
    fn keeps_source(&self, flow: Flow, inside: Flow) {
        assert_eq!(inside.src.0, flow.src.0, "{flow:?} keeps its address");
        let plain = Flow { src: flow.src, ..inside };
        assert_eq!(inside.src.1 == flow.src.1, self.find(plain.reversed()).is_none(), "{flow:?}");
    }

    fn opened(
        &mut self,
        client: Flow,
        inside: Flow,
        flags: u8,
        of: Option<(usize, Ends, u32)>,
        fate: &Fate,
    ) {
        assert_eq!(*fate, self.forwarded(inside.packet(flags)), "{client:?}");
        assert_eq!(self.find(inside.reversed()), None, "I2: {inside:?} is taken");
        let phase = if client.protocol == Tcp { opening(flags) } else { Some(Phase::Unreplied) };
        let phase = phase.expect("the caller has checked");
        let mut connection =
            Connection { client, inside, of, phase, fins: [false; 2], deadlines: [0; 2] };
        connection.deadlines = [self.now + connection.seconds() + 1; 2];
        // A dead one of the same name is gone for good.
        self.connections
            .retain(|c| c.client != client || c.deadlines.iter().any(|&d| d > self.now));
        self.connections.push(connection);
    }

    fn refused(&self, flow: Flow, flags: u8, fate: &Fate) {
        let outside = flow.src.0 == ip(self.f.client);
        let packet = flow.packet(flags);
        let answer = if flow.protocol == Udp {
            let own = if outside { self.f.node_out } else { self.f.node_in };
            port_unreachable(ip(own), flow.src.0, &packet.ip())
        } else if flags & RST != 0 {
            return assert_eq!(*fate, Fate::Dropped(DropReason::RejectUnanswerable));
        } else {
            let reset = flow.reversed().packet(RST).window(0);
            let length = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
            if flags & ACK != 0 {
                reset.seq(0).ack(0)
            } else {
                reset.flags(RST | ACK).seq(0).ack(1000 + length)
            }
        };
        let answer = answer.ip_fragment(0, 0);
        let expected = if outside { answered_out(answer) } else { answered_in(answer) };
        assert_eq!(*fate, expected, "{flow:?} is refused");
    }

    /// The flow of a packet that left.
    fn sent(&self, fate: &Fate) -> Flow {
        let Fate::Sent(_, frame) = fate else { panic!("should have been sent: {fate:?}") };
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let host = |at: usize, len: usize| -> IpAddr {
            let bytes = &frame[at..at + len];
            <[u8; 4]>::try_from(bytes)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
                .expect("an address")
        };
        let (number, src, dst, l4) = if self.f.v4 {
            (frame[23], host(26, 4), host(30, 4), 34)
        } else {
            (frame[20], host(22, 16), host(38, 16), 54)
        };
        let protocol = if number == TCP { Tcp } else { Udp };
        Flow { protocol, src: (src, port(l4)), dst: (dst, port(l4 + 2)) }
    }

    fn forwarded(&self, packet: Packet) -> Fate {
        let packet = packet.ttl(63);
        if packet.destination() == ip(self.f.client) { sent_out(packet) } else { sent_in(packet) }
    }
}

impl Connection {
    fn pass(&mut self, direction: usize, flags: u8, now: u64) {
        let before = (self.phase, self.fins);
        let reply = direction == 1;
        self.phase = match self.phase {
            Phase::Unreplied if reply => Phase::Replied,
            Phase::Unreplied | Phase::Replied => self.phase,
            _ if flags & RST != 0 => Phase::Reset,
            Phase::Reset => Phase::Reset,
            phase if flags & FIN != 0 => phase,
            phase if self.fins != [false; 2] => phase,
            Phase::Opening | Phase::Repeated | Phase::OneWay if reply && flags & SYN != 0 => {
                Phase::Answered
            }
            Phase::OneWay if reply => Phase::Open,
            Phase::Opening if !reply && flags & (SYN | ACK) == SYN => Phase::Repeated,
            Phase::Repeated if !reply && flags & (SYN | ACK) == SYN => Phase::OneWay,
            Phase::Opening | Phase::Repeated if !reply && flags & (SYN | ACK) == ACK => {
                Phase::OneWay
            }
            Phase::Answered if !reply && flags & (SYN | ACK) == ACK => Phase::Open,
            Phase::PickedUp if reply => Phase::Open,
            phase => phase,
        };
        let tcp = self.client.protocol == Tcp;
        // Nothing is closed by who has not opened it.
        let opened = match self.phase {
            Phase::Reset => false,
            Phase::Opening | Phase::Repeated => self.fins != [false; 2],
            Phase::PickedUp | Phase::OneWay => reply || self.fins != [false; 2],
            Phase::Answered => reply || flags & ACK != 0 || self.fins != [false; 2],
            _ => true,
        };
        if tcp && flags & (FIN | RST) == FIN && opened {
            self.fins[direction] = true;
        }
        let deadline = now + self.seconds() + 1;
        self.deadlines[direction] = deadline;
        if before != (self.phase, self.fins) {
            self.deadlines = [deadline; 2];
        }
    }

    /// How long it may be idle.
    fn seconds(&self) -> u64 {
        match (self.phase, self.fins) {
            (Phase::Unreplied, _) => 120,
            (Phase::Replied, _) => 300,
            (Phase::Reset, _) | (_, [true, true]) => 240,
            (_, [true, false] | [false, true]) => 3600,
            (Phase::Opening | Phase::Repeated | Phase::OneWay | Phase::Answered, _) => 30,
            (Phase::PickedUp, _) => 240,
            (Phase::Open, _) => 7440,
        }
    }
}

/// How a TCP connection begins, if it does.
fn opening(flags: u8) -> Option<Phase> {
    match flags & (SYN | ACK | RST) {
        SYN => Some(Phase::Opening),
        ACK => Some(Phase::PickedUp),
        _ => None,
    }
}

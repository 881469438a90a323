//! Stories that the engine and the model live through together.

use dataplane::flow::Protocol::{Tcp, Udp};

use super::{Flow, Model, SERVICES};
use crate::support::gateway::{Family, Gateway, Setup, at};
use crate::support::packet::*;

/// A step of a story, in small numbers that shrink well.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A client sends to a Service (or one of its unknown ports), or to a backend directly.
    Ask {
        client: u8,
        port: bool,
        destination: u8,
        is_tcp: bool,
        flags: u8,
    },
    /// Whoever a connection leads to answers, however long ago that was.
    Reply {
        connection: u8,
        flags: u8,
    },
    /// The client of a connection goes on.
    Continue {
        connection: u8,
        flags: u8,
    },
    /// Either end complains about the last packet it got.
    Error {
        connection: u8,
        by_client: bool,
    },
    /// A Service gets these endpoints; above seven it is deleted.
    Endpoints {
        service: u8,
        backends: u8,
    },
    Sleep {
        choice: u8,
    },
}

const FLAGS: [u8; 8] = [SYN, SYN | ACK, ACK, ACK, FIN | ACK, RST, RST | ACK, FIN];
/// Seconds after which nothing stands that has ended: a pass of the sweep, and the second it began in.
const SWEEP: u64 = 5;
const SLEEPS: [u64; 12] = [0, 1, 5, 29, 31, 119, 121, 239, 241, 301, 3601, 7441];

/// The same steps for both, compared after each.
pub struct Story {
    f: Family,
    pub gateway: Gateway,
    model: Model,
}

impl Story {
    pub fn new(f: Family) -> Self {
        let mut setup = Setup::default();
        setup.conntrack.connections_v4 = 256;
        setup.conntrack.connections_v6 = 256;
        let mut story = Self { f, gateway: Gateway::new(setup), model: Model::new(f) };
        story.begin();
        story
    }

    /// Takes a step. Panics where engine and model differ.
    pub fn run(&mut self, step: Step) {
        match step {
            Step::Ask { client, port, destination, is_tcp, flags } => {
                let f = self.f;
                let client = [f.client, f.pod, f.backends[0]][usize::from(client)];
                let destination = usize::from(destination);
                let dst = match destination {
                    0..SERVICES => at(Model::vip(f, destination), 80),
                    3 | 4 => at(Model::vip(f, destination - 3), 81),
                    _ => at(f.backends[destination - 5], 8080),
                };
                let src = at(client, if port { 8080 } else { 5000 });
                let protocol = if is_tcp { Tcp } else { Udp };
                self.packet(Flow { protocol, src, dst }, flags);
            }
            Step::Reply { connection, flags } => {
                if let Some((_, inside)) = self.model.views(usize::from(connection)) {
                    self.packet(inside.reversed(), flags);
                }
            }
            Step::Continue { connection, flags } => {
                if let Some((client, _)) = self.model.views(usize::from(connection)) {
                    self.packet(client, flags);
                }
            }
            Step::Error { connection, by_client } => {
                let Some((client, inside)) = self.model.views(usize::from(connection)) else {
                    return;
                };
                let about = if by_client { client.reversed() } else { inside };
                let (port, frame) = self.model.frame(about.dst.0, Model::error_packet(about));
                let fate = self.gateway.receive(port, &frame);
                self.model.error(about, &fate);
            }
            Step::Endpoints { service, backends } => {
                let service = usize::from(service);
                let list: Vec<usize> = (0..3).filter(|i| backends >> i & 1 == 1).collect();
                let list = (backends < 8).then_some(list);
                let rows = list.as_ref().map(|list| Model::rows(self.f, service, list));
                self.gateway.apply(&format!("ns/{service}"), &rows.unwrap_or_default());
                self.model.set_endpoints(service, list.as_deref());
            }
            Step::Sleep { choice } => {
                let sleep = SLEEPS[usize::from(choice)];
                let mut left = sleep;
                loop {
                    let step = left.min(4_000);
                    self.gateway.now = self.gateway.now.after(step * 1000);
                    // What time has ended is swept in a few turns, see the table's size.
                    for _ in 0..60 {
                        self.gateway.now = self.gateway.now.after(1);
                        self.gateway.poll();
                    }
                    left -= step;
                    if left == 0 {
                        break;
                    }
                }
                self.model.set_seconds(self.gateway.now.secs());
                let connections = self.gateway.counters[0].conntrack.entries.get();
                let live = self.model.live() as u64;
                assert!(connections >= live, "{connections} connections, {live} live");
                // A sweep passes the whole table in four seconds, not earlier: what has ended in the last ones may stand.
                if sleep > 4 {
                    let lately = self.model.live_since(SWEEP) as u64;
                    assert!(connections <= lately, "{connections} connections, {lately} lately");
                }
            }
        }
    }

    fn packet(&mut self, flow: Flow, flags: u8) {
        // LAND is a martian, and has its own test.
        if flow.src.0 == flow.dst.0 {
            return;
        }
        let flags = FLAGS[usize::from(flags)];
        let (port, frame) = self.model.frame(flow.src.0, flow.packet(flags));
        let fate = self.gateway.receive(port, &frame);
        self.model.packet(flow, flags, &fate);
    }

    /// Begins anew in the same gateway, whose memory is never given back.
    pub fn renew(&mut self) {
        for service in 0..SERVICES as u8 {
            self.run(Step::Endpoints { service, backends: 8 });
        }
        self.run(Step::Sleep { choice: SLEEPS.len() as u8 - 1 });
        for _ in 0..2 {
            self.gateway.writer.forget_retired();
        }
        self.model = Model::new(self.f);
        self.begin();
    }

    fn begin(&mut self) {
        self.model.set_seconds(self.gateway.now.secs());
        for service in 0..SERVICES as u8 {
            self.run(Step::Endpoints { service, backends: 3 });
        }
    }

    /// In the end nothing is left.
    pub fn end(&mut self) {
        self.gateway.wait(7_450_000);
        assert_eq!(self.gateway.connections(), 0);
    }
}

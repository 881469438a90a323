//! Clients and backends around one worker, in its own thread: what is sent must come back, or was lost.
//!
//! A client's frame enters the worker and leaves for a backend; the backend of a TCP Service turns it round, and it comes
//! back to its client. UDP is one way: the answer of a backend that has just gone is nobody's, rightly. Every frame that
//! leaves is judged by its addresses and its checksums.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};

use dataplane::fib::{FibSpec, Mac, NeighborSpec, PortSpec, RouteSpec, RouteTo};
use dataplane::flow::{Address, Protocol};
use dataplane::nic::{BURST, Burst, Frame, Nic};
use dataplane::wire::{checksum, ethernet, set_word, tcp_flags, word};

use super::cluster::{self, PORT, TARGET_PORT};

const GATEWAY: Mac = [2, 0, 0, 0, 0, 1];
const ROUTER: Mac = [2, 0, 0, 0, 0, 2];
/// 100.64.0.0/10: every flow is another client.
const CLIENTS: u32 = 0x6440_0000;
/// Flows there can be.
pub(super) const MAX_FLOWS: usize = 1 << 22;
const CLIENT_PORT: u16 = 40_000;
/// A shortest frame, without FCS.
const LEN: usize = 60;
const L3: usize = 14;
const L4: usize = 34;

/// The network around the worker: one port, one router that knows everybody.
pub(super) fn network() -> FibSpec {
    let route = |prefix: &str, gateway: Option<&str>| RouteSpec {
        prefix: prefix.parse().expect("a prefix"),
        to: RouteTo::Port { port: 0, gateway: gateway.map(|ip| ip.parse().expect("an address")) },
    };
    let router = "192.0.2.2".parse().expect("an address");
    FibSpec {
        ports: vec![PortSpec {
            mac: GATEWAY,
            mtu: 1500,
            addresses: vec!["192.0.2.1".parse().expect("an address")],
            mss_clamp: None,
        }],
        routes: vec![
            route("192.0.2.0/24", None),
            route("100.64.0.0/10", Some("192.0.2.2")),
            route("10.0.0.0/8", Some("192.0.2.2")),
        ],
        neighbors: vec![NeighborSpec { port: 0, address: router, mac: ROUTER }],
        locals: vec!["192.0.2.1".parse().expect("an address")],
    }
}

/// A frame in a buffer that is used again and again.
pub(super) struct Buffer(Box<[u8; LEN]>);

impl Frame for Buffer {
    fn bytes(&self) -> &[u8] {
        &self.0[..]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0[..]
    }

    fn grow_front(&mut self, _len: usize) -> bool {
        false
    }

    fn set_len(&mut self, len: usize) -> bool {
        len == LEN
    }
}

/// The worker's queue and the wire's end of it.
#[derive(Clone, Default)]
pub(super) struct Port(Arc<Mutex<Queues>>);

#[derive(Default)]
struct Queues {
    arriving: Burst<Buffer>,
    sent: Vec<Buffer>,
    /// Buffers the worker gave back: frames it did not forward.
    returned: Vec<Buffer>,
}

impl Port {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().expect("nobody panics with the lock")
    }
}

impl Nic for Port {
    type Frame = Buffer;

    fn receive(&mut self, burst: &mut Burst<Buffer>) {
        std::mem::swap(burst, &mut self.queues().arriving);
    }

    fn transmit(&mut self, burst: &mut Burst<Buffer>) {
        self.queues().sent.extend(burst.drain(..));
    }

    fn recycle(&mut self, burst: &mut Burst<Buffer>) {
        self.queues().returned.extend(burst.drain(..));
    }
}

/// What was sent and what came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Frames that clients sent.
    pub(super) sent: u64,
    /// Frames that reached where they were to go: UDP a backend, TCP a backend and its client again.
    pub(super) completed: u64,
    /// Frames that left with an address or checksum that is wrong.
    pub(super) wrong: u64,
    /// Flows begun.
    pub(super) flows: u64,
}

impl Tally {
    /// Frames that are neither where they were to go nor on their way.
    pub(super) fn lost(&self) -> u64 {
        self.sent - self.completed
    }
}

/// All clients and backends.
pub(super) struct Traffic {
    port: Port,
    services: usize,
    pool: Vec<Buffer>,
    /// Turned round by a backend, on the way to the worker.
    replies: Vec<Buffer>,
    /// Flows that go on for ever.
    established: usize,
    next: usize,
    /// New flows whose first frame was answered.
    opening: Vec<usize>,
    pub(super) tally: Tally,
}

impl Traffic {
    pub(super) fn new(port: Port, services: usize, established: usize) -> Self {
        let pool = (0..BURST * 4).map(|_| Buffer(Box::new([0; LEN]))).collect();
        let (replies, opening) = (Vec::with_capacity(BURST * 4), Vec::with_capacity(BURST * 4));
        let tally = Tally::default();
        Self { port, services, pool, replies, established, next: 0, opening, tally }
    }

    /// Puts up to a burst on the wire: first what backends answered, then new flows up to `new` ones in all, then
    /// the next of the established flows, if clients `talk`.
    pub(super) fn arrive(&mut self, talk: bool, new: u64) {
        let port = self.port.clone();
        let mut queues = port.queues();
        let room = BURST.min(self.pool.len() + self.replies.len());
        while queues.arriving.len() < room {
            let frame = match self.replies.pop() {
                Some(frame) => frame,
                None => match self.client_frame(talk, new) {
                    Some(frame) => frame,
                    None => break,
                },
            };
            queues.arriving.push(frame);
        }
    }

    fn client_frame(&mut self, talk: bool, new: u64) -> Option<Buffer> {
        let (flow, flags) = if let Some(flow) = self.opening.pop() {
            (flow, tcp_flags::ACK)
        } else if talk && self.tally.flows < (self.established as u64).saturating_add(new) {
            self.tally.flows += 1;
            (usize::try_from(self.tally.flows - 1).ok()? % MAX_FLOWS, tcp_flags::SYN)
        } else if talk {
            self.next = (self.next + 1) % self.established;
            (self.next, tcp_flags::ACK)
        } else {
            return None;
        };
        let mut frame = self.pool.pop()?;
        write(&mut frame.0, flow, self.service(flow), flags);
        self.tally.sent += 1;
        Some(frame)
    }

    /// The Service a flow goes to: spread without a pattern.
    fn service(&self, flow: usize) -> usize {
        flow.wrapping_mul(0x9e37_79b1) % self.services
    }

    /// Takes what the worker sent and gave back.
    pub(super) fn leave(&mut self) {
        let port = self.port.clone();
        let mut queues = port.queues();
        self.pool.append(&mut queues.returned);
        for mut frame in queues.sent.drain(..) {
            match self.judge(&frame.0) {
                Some(Judged::AtBackend(Protocol::Tcp)) => {
                    turn_round(&mut frame.0);
                    self.replies.push(frame);
                    continue;
                }
                Some(Judged::AtBackend(_)) => self.tally.completed += 1,
                Some(Judged::Back { flow, flags }) => {
                    self.tally.completed += 1;
                    if flags & tcp_flags::SYN != 0 {
                        self.opening.push(flow);
                    }
                }
                None => self.tally.wrong += 1,
            }
            self.pool.push(frame);
        }
    }

    /// Where a frame that left has come to; `None` when it is not as it must be.
    fn judge(&self, frame: &[u8; LEN]) -> Option<Judged> {
        let (src, dst) = (ip(frame, L3 + 12), ip(frame, L3 + 16));
        let (src_port, dst_port) = (word(frame, L4), word(frame, L4 + 2));
        let flow = |client: Ipv4Addr| client.to_bits().wrapping_sub(CLIENTS) as usize;
        let sound = ethernet::destination(frame) == ROUTER && checksums(frame);
        if dst_port == TARGET_PORT {
            let service = self.service(flow(src));
            let right = cluster::service_of(dst) == Some(service) && src_port == CLIENT_PORT;
            (right && sound).then_some(Judged::AtBackend(cluster::protocol(service)))
        } else {
            let flow = flow(dst);
            let right = src == cluster::vip(self.service(flow)) && dst_port == CLIENT_PORT;
            let flags = frame[L4 + 13];
            (right && sound && src_port == PORT).then_some(Judged::Back { flow, flags })
        }
    }
}

enum Judged {
    AtBackend(Protocol),
    Back { flow: usize, flags: u8 },
}

/// A client's frame to its Service.
fn write(frame: &mut [u8; LEN], flow: usize, service: usize, flags: u8) {
    frame.fill(0);
    ethernet::address(frame, GATEWAY, ROUTER);
    set_word(frame, 12, 0x0800);
    let tcp = cluster::protocol(service) == Protocol::Tcp;
    let (protocol, transport) = if tcp { (6, 20) } else { (17, 8) };
    frame[L3] = 0x45;
    set_word(frame, L3 + 2, 20 + transport);
    frame[L3 + 8] = 64;
    frame[L3 + 9] = protocol;
    let client = CLIENTS + u32::try_from(flow).expect("few enough");
    frame[L3 + 12..L3 + 16].copy_from_slice(&client.to_be_bytes());
    frame[L3 + 16..L3 + 20].copy_from_slice(&cluster::vip(service).octets());
    set_word(frame, L4, CLIENT_PORT);
    set_word(frame, L4 + 2, PORT);
    if tcp {
        frame[L4 + 12] = 5 << 4;
        frame[L4 + 13] = flags;
    } else {
        set_word(frame, L4 + 4, transport);
    }
    let header = checksum::finish(checksum::sum(&frame[L3..L4]));
    set_word(frame, L3 + 10, header);
    let at = if tcp { L4 + 16 } else { L4 + 6 };
    // Zero would say that a datagram has no checksum.
    let transport = match checksum::finish(transport_sum(frame)) {
        0 => 0xffff,
        sum => sum,
    };
    set_word(frame, at, transport);
}

/// A backend's answer: the same, the other way. Sums over swapped words stay.
fn turn_round(frame: &mut [u8; LEN]) {
    ethernet::address(frame, GATEWAY, ROUTER);
    let (src, dst) = (ip(frame, L3 + 12), ip(frame, L3 + 16));
    frame[L3 + 12..L3 + 16].copy_from_slice(&dst.octets());
    frame[L3 + 16..L3 + 20].copy_from_slice(&src.octets());
    let (src, dst) = (word(frame, L4), word(frame, L4 + 2));
    set_word(frame, L4, dst);
    set_word(frame, L4 + 2, src);
}

fn checksums(frame: &[u8; LEN]) -> bool {
    checksum::finish(checksum::sum(&frame[L3..L4])) == 0
        && checksum::finish(transport_sum(frame)) == 0
}

fn transport_sum(frame: &[u8; LEN]) -> u32 {
    let end = L3 + usize::from(word(frame, L3 + 2));
    let address = |at| Address::v4(ip(frame, at).octets());
    let (src, dst) = (address(L3 + 12), address(L3 + 16));
    checksum::pseudo_header(src, dst, frame[L3 + 9], end - L4) + checksum::sum(&frame[L4..end])
}

fn ip(frame: &[u8; LEN], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3])
}

//! A case's packets: written into rings, and judged when they come out.

use dataplane::fib::PortId;
use dataplane::flow::{Protocol, Tuple};
use dataplane::nic::Frame;
use vipgate::dpdk::Mbuf;

use super::Error;
use super::cases::{Case, Pattern, Traffic};
use crate::bench::rig::bed::Round;
use crate::bench::rig::fill::Filled;
use crate::bench::rig::flows::{Choice, Order};
use crate::bench::rig::frames::{self, ACK, SYN};
use crate::bench::rig::network::{self, IN, OUT};

/// A port that no Service has.
const UNKNOWN_PORT: u16 = 81;

/// The packets of a case, one ring after the other.
#[derive(Debug)]
pub(super) struct Feed<'a> {
    case: &'a Case,
    open: &'a Filled,
    order: Order,
}

impl<'a> Feed<'a> {
    pub(super) fn new(case: &'a Case, open: &'a Filled) -> Self {
        let order = match (case.traffic, case.pattern) {
            (Traffic::New | Traffic::Transit | Traffic::UnknownPort, _) => Order::Sequence(0),
            (_, Pattern::Uniform) => Order::uniform(open.connections()),
            (_, Pattern::Zipf) => Order::zipf(open.connections()),
        };
        Self { case, open, order }
    }

    /// The port by which the packets come in.
    pub(super) fn port(&self) -> PortId {
        self.case.port()
    }

    /// Writes the next packets.
    pub(super) fn write(&mut self, ring: &mut [Mbuf]) {
        for (at, frame) in ring.iter_mut().enumerate() {
            let number = self.order.next();
            self.write_one(frame, number, at);
        }
    }

    fn write_one(&self, frame: &mut Mbuf, number: u32, at: usize) {
        let tuple = self.tuple(number);
        if self.case.traffic == Traffic::TooBig {
            let router = network::node_address(tuple.src.is_v4(), 0);
            return frames::write_too_big(frame, self.port(), router, &tuple);
        }
        let opens = self.case.traffic == Traffic::New;
        let flags = match tuple.protocol {
            Protocol::Tcp if opens => SYN,
            Protocol::Tcp => ACK,
            _ => 0,
        };
        frames::write(frame, self.port(), &tuple, flags, (self.case.sizes, at));
    }

    /// The flow that packet `number` is of, or is about.
    fn tuple(&self, number: u32) -> Tuple {
        let v4 = self.case.fill.kind.v4;
        match self.case.traffic {
            Traffic::Forward => self.open.flow(number),
            Traffic::New => self.case.fill.kind.flow(number, self.case.fill.services),
            Traffic::Reply => self.open.inside(number).reversed(),
            Traffic::TooBig => self.open.inside(number),
            Traffic::Transit => {
                Tuple { dst: network::elsewhere(v4, number), ..self.open.flow(number) }
            }
            Traffic::UnknownPort => {
                let dst = network::cluster_ip(v4, number % self.open.services);
                Tuple { dst, dport: UNKNOWN_PORT, ..self.open.flow(number) }
            }
        }
    }

    /// Judges a ring of these flows as it came out.
    fn judge(&self, numbers: &[u32], ring: &[Mbuf], round: &Round) -> Result<(), Error> {
        let port = OUT + IN - self.port();
        let expected = if self.case.traffic.drop_reason().is_some() { 0 } else { ring.len() };
        let sent = round.sent[usize::from(port)];
        if sent != expected || round.sent.iter().sum::<usize>() != expected {
            let (count, sent) = (ring.len(), round.sent);
            return Err(Error(format!("of {count} frames, {sent:?} left by each port")));
        }
        for (&number, frame) in numbers.iter().zip(&ring[..expected]) {
            let tuple = self.tuple(number);
            let judged = match self.case.traffic {
                Traffic::Forward => frames::judge(frame, port, &self.open.inside(number)),
                Traffic::Reply => frames::judge(frame, port, &self.open.flow(number).reversed()),
                Traffic::TooBig => frames::judge_too_big(frame, port, &self.open.flow(number)),
                Traffic::New => {
                    let found = frames::read(frame.bytes());
                    match found.as_ref().and_then(Choice::of) {
                        Some(choice) => {
                            let inside = choice.inside(&tuple, self.case.fill.kind.masquerade);
                            frames::judge(frame, port, &inside)
                        }
                        None => Err(format!("went to no pod: {found:?}")),
                    }
                }
                Traffic::Transit | Traffic::UnknownPort => frames::judge(frame, port, &tuple),
            };
            judged.map_err(|why| Error(format!("the frame of flow {number} {why}")))?;
        }
        Ok(())
    }

    /// Sends one ring by `round` and judges every frame of it.
    pub(super) fn inspect(
        &mut self,
        ring: &mut Vec<Mbuf>,
        round: impl FnOnce(&mut Vec<Mbuf>) -> Result<Round, Error>,
    ) -> Result<(), Error> {
        let numbers: Vec<u32> = ring.iter().map(|_| self.order.next()).collect();
        for (at, (frame, &number)) in ring.iter_mut().zip(&numbers).enumerate() {
            self.write_one(frame, number, at);
        }
        let round = round(ring)?;
        self.judge(&numbers, ring, &round)
    }
}

//! What becomes of a frame that arrived: judged, counted, answered.
//!
//! A packet counts as received once, when it is where it belongs and as it was sent. A faulty one does not count as
//! received, so it shows twice: by the name of its fault, and as lost.

use dataplane::nic::{Burst, Frame, Nic};
use dataplane::wire::{Headers, Kind, ethernet, tcp_flags};

use super::flow::Order;
use super::frame::{self, Arrival, Packet};
use super::generator::{CLIENTS, Generator};
use super::link::Link;
use super::probe;
use super::report::Fault;
use super::tag::{self, Direction};

impl<N: Nic, M> Generator<N, M>
where
    M: FnMut(&[u8]) -> Option<N::Frame>,
{
    /// A burst of every queue. Frames that wait to be sent go first: an answer always finds room.
    pub(super) fn receive(&mut self, now: u64) -> bool {
        let mut inbox = Burst::<N::Frame>::new();
        let mut spent = Burst::<N::Frame>::new();
        let mut received = false;
        for link in 0..self.links.len() {
            for queue in 0..self.links[link].queues() {
                if !self.links.iter_mut().all(Link::flush) {
                    return received;
                }
                self.links[link].receive(queue, &mut inbox);
                received |= !inbox.is_empty();
                spent.extend(inbox.drain(..).filter_map(|frame| self.take(link, frame, now)));
                self.links[link].recycle(&mut spent);
            }
        }
        received
    }

    /// Takes a frame; gives it back when it was not made into an answer.
    fn take(&mut self, link: usize, mut frame: N::Frame, now: u64) -> Option<N::Frame> {
        let answered = match frame::read(frame.bytes()) {
            Arrival::Ours(packet) => {
                return match self.misplaced(link, &frame, &packet) {
                    Some(fault) => {
                        self.fault(fault, &packet);
                        Some(frame)
                    }
                    None if packet.tag.direction == Direction::Forward => {
                        self.at_backend(frame, &packet, now)
                    }
                    None => {
                        self.at_client(&packet, now);
                        Some(frame)
                    }
                };
            }
            Arrival::Arp(at) => self.links[link].neighbors.on_arp(frame.bytes_mut(), at),
            Arrival::Other(headers) => self.other(link, &mut frame, &headers),
            Arrival::BadChecksum => {
                self.tally.fault(Fault::BadChecksum, || dump(frame.bytes()));
                false
            }
            Arrival::Altered => {
                self.tally.fault(Fault::Altered, || dump(frame.bytes()));
                false
            }
            Arrival::Unreadable => {
                self.tally.other += 1;
                false
            }
        };
        if answered {
            self.links[link].send(0, frame);
            return None;
        }
        Some(frame)
    }

    /// Whether a packet is on a link, or has a MAC address, that it should not have.
    fn misplaced(&self, link: usize, frame: &N::Frame, packet: &Packet) -> Option<Fault> {
        let place = match packet.tag.direction {
            Direction::Forward => self.links.len() - 1,
            Direction::Reverse => CLIENTS,
        };
        let mac = self.links[link].neighbors.mac();
        match () {
            () if link != place => Some(Fault::WrongPort),
            () if ethernet::destination(frame.bytes()) != mac => Some(Fault::WrongMac),
            () => None,
        }
    }

    /// A client's packet reached a backend, which answers it in the same buffer.
    fn at_backend(&mut self, mut frame: N::Frame, packet: &Packet, now: u64) -> Option<N::Frame> {
        let number = packet.tag.flow;
        let segment = if number >= tag::PROBES {
            self.probes.reached((packet.tuple.dst, packet.tuple.dport));
            Some(probe::reply(packet))
        } else {
            match self.accept(packet) {
                Ok(order) => {
                    self.count(packet, order, now);
                    let flow = self.flow(number).filter(|_| order != Order::Again);
                    flow.and_then(|flow| flow.reply(packet))
                }
                Err(fault) => {
                    self.fault(fault, packet);
                    None
                }
            }
        };
        let backends = self.links.len() - 1;
        let link = &mut self.links[backends];
        let (Some(segment), Some(gateway)) = (segment, link.neighbors.gateway_mac()) else {
            return Some(frame);
        };
        frame::reply(frame.bytes_mut(), packet, [gateway, link.neighbors.mac()], segment, now);
        // Not always the queue of the way there: that leads to the worker that does not have the flow.
        let queue = number as usize / link.queues() % link.queues();
        if link.send(queue, frame) && number < tag::PROBES {
            self.tally.side(Direction::Reverse).sent += 1;
        }
        None
    }

    /// Whether a packet of a flow is at the right backend, and looks as it should there.
    fn accept(&mut self, packet: &Packet) -> Result<Order, Fault> {
        let seen = packet.tuple;
        let is_backend = self.plan.backends.contains(&(seen.dst, seen.dport));
        let flow = self.flow(packet.tag.flow).ok_or(Fault::Stale)?;
        let (sent, vip, before) = (flow.tuple, flow.vip, flow.translated);
        if !is_backend || seen.protocol != sent.protocol {
            return Err(Fault::NotABackend);
        }
        let right_source = match self.plan.vips[vip].masquerade {
            Some(address) => seen.src == address,
            None => (seen.src, seen.sport) == (sent.src, sent.sport),
        };
        match before {
            _ if !right_source => return Err(Fault::WrongSource),
            Some(before) if before == seen => {}
            Some(before) if before.dst != seen.dst || before.dport != seen.dport => {
                return Err(Fault::BackendChanged);
            }
            Some(_) => return Err(Fault::SourceChanged),
            None => {
                if self.translated.insert(seen, packet.tag.flow).is_some() {
                    return Err(Fault::Collision);
                }
            }
        }
        let flow = self.flow(packet.tag.flow).ok_or(Fault::Stale)?;
        flow.translated = Some(seen);
        Ok(flow.arrived[Direction::Forward.index()].note(packet.tag.sequence))
    }

    /// A backend's packet reached a client.
    fn at_client(&mut self, packet: &Packet, now: u64) {
        if packet.tag.flow >= tag::PROBES {
            self.probes.answered(packet.tag);
            return;
        }
        let Some(flow) = self.flow(packet.tag.flow) else {
            return self.fault(Fault::Stale, packet);
        };
        if packet.tuple != flow.tuple.reversed() {
            return self.fault(Fault::WrongReply, packet);
        }
        let order = flow.arrived[Direction::Reverse.index()].note(packet.tag.sequence);
        flow.replied(packet, now);
        self.count(packet, order, now);
    }

    fn count(&mut self, packet: &Packet, order: Order, now: u64) {
        let direction = packet.tag.direction;
        let side = self.tally.side(direction);
        match order {
            Order::Again => {
                side.duplicates += 1;
                return;
            }
            Order::Behind => side.reordered += 1,
            Order::Ahead => {}
        }
        side.received += 1;
        side.bytes += packet.headers.end as u64;
        self.tally.latency(direction, now.saturating_sub(packet.tag.sent));
    }

    /// A packet that is none of ours; true when the frame is an answer now.
    fn other(&mut self, link: usize, frame: &mut N::Frame, headers: &Headers) -> bool {
        match headers.kind {
            Kind::Tcp { flags, .. } if flags & tcp_flags::RST != 0 => self.tally.refusals += 1,
            Kind::IcmpError { .. } => self.tally.refusals += 1,
            _ => {
                let answered = self.links[link].neighbors.on_other(frame, headers);
                self.tally.other += u64::from(!answered);
                return answered;
            }
        }
        false
    }

    fn fault(&mut self, fault: Fault, packet: &Packet) {
        let number = packet.tag.flow;
        let flow = self.flow(number).map(|flow| (flow.tuple, flow.translated));
        self.tally.fault(fault, || {
            let sent = match flow {
                Some((tuple, Some(seen))) => format!("{tuple:?}, seen as {seen:?}"),
                Some((tuple, None)) => format!("{tuple:?}"),
                None => "unknown".into(),
            };
            let (tag, tuple) = (packet.tag, packet.tuple);
            format!(
                "{tuple:?}, {:?} packet {} of flow {number} ({sent})",
                tag.direction, tag.sequence
            )
        });
    }
}

fn dump(frame: &[u8]) -> String {
    frame.iter().take(80).map(|byte| format!("{byte:02x}")).collect()
}

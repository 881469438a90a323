//! What the engine says in its own name: refusals, ICMP errors, ARP and neighbour advertisements.

use super::*;
use crate::answer::{self, Error};

impl Engine {
    /// An error in our own name, or the reason why there is none.
    #[cold]
    pub(super) fn icmp_error(
        &mut self,
        frame: &mut impl Frame,
        arrival: &Arrival,
        packet: &Packet<'_>,
        error: Error,
        unanswerable: DropReason,
    ) -> Verdict {
        let Packet { headers, tables, now } = packet;
        if !answer::may_answer(frame.bytes(), headers) {
            return Verdict::Drop(unanswerable);
        }
        let Some(source) = speaker(arrival, headers, tables) else {
            return Verdict::Drop(unanswerable);
        };
        if !self.icmp_errors.allow(*now) {
            return Verdict::Drop(DropReason::IcmpLimited);
        }
        let mac = tables.fib.port(arrival.port).mac;
        answered(answer::error(frame, headers, error, source, mac), arrival)
    }

    /// A refusal: a reset for TCP, port unreachable for the rest (REJ-4).
    #[cold]
    pub(super) fn reject(
        &mut self,
        frame: &mut impl Frame,
        arrival: &Arrival,
        packet: &Packet<'_>,
    ) -> Verdict {
        let Packet { headers, tables, now } = packet;
        if !answer::may_answer(frame.bytes(), headers) {
            return Verdict::Drop(DropReason::RejectUnanswerable);
        }
        if !self.rejects.allow(*now) {
            return Verdict::Drop(DropReason::RejectLimited);
        }
        let mac = tables.fib.port(arrival.port).mac;
        if matches!(headers.kind, Kind::Tcp { .. }) && headers.fragment == Fragment::Whole {
            return answered(answer::reset(frame, headers, mac), arrival);
        }
        let Some(source) = speaker(arrival, headers, tables) else {
            return Verdict::Drop(DropReason::RejectUnanswerable);
        };
        answered(answer::error(frame, headers, Error::PortUnreachable, source, mac), arrival)
    }
}

/// In whose name an ICMP error is sent: the port's, where the packet came from. Our own kernel would take an error from one
/// of its own addresses for a forgery (a martian source) and drop it: to it speaks whom it has asked.
fn speaker(arrival: &Arrival, headers: &Headers, tables: &Tables) -> Option<Address> {
    match arrival.origin {
        Origin::Wire => tables.fib.port_address(arrival.port, headers.v4),
        Origin::Kernel => Some(headers.dst),
    }
}

pub(super) fn announces(tables: &Tables, port: PortId, target: Address) -> bool {
    tables.services.vip(target).is_some() && tables.node.announces(port, target.ip())
}

pub(super) fn answered(built: bool, arrival: &Arrival) -> Verdict {
    if !built {
        return Verdict::Drop(DropReason::NoRoom);
    }
    match arrival.origin {
        Origin::Wire => Verdict::Answer(arrival.port),
        Origin::Kernel => Verdict::Punt,
    }
}

pub(super) fn arp(
    frame: &mut impl Frame,
    arrival: &Arrival,
    at: usize,
    tables: &Tables,
) -> Verdict {
    let arp = &frame.bytes()[at..];
    let target = Address::v4([arp[24], arp[25], arp[26], arp[27]]);
    let asked = word(arp, 6) == ethernet::ARP_REQUEST;
    if asked && arrival.origin == Origin::Wire && announces(tables, arrival.port, target) {
        answer::arp(frame.bytes_mut(), at, tables.fib.port(arrival.port).mac);
        return Verdict::Answer(arrival.port);
    }
    to_kernel(arrival)
}

pub(super) fn advertise(
    frame: &mut impl Frame,
    arrival: &Arrival,
    headers: &Headers,
    target: Address,
    tables: &Tables,
) -> Verdict {
    let mac = tables.fib.port(arrival.port).mac;
    answered(answer::neighbor_advertisement(frame, headers, target, mac), arrival)
}

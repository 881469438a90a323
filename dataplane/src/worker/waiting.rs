//! Frames that a worker keeps for a while: until their next hop is known, or until the fragment comes that says where they
//! go. Bounded in number and time.

use std::mem;

use super::{Arrival, Worker};
use crate::clock::Moment;
use crate::fib::{PortId, Route};
use crate::flow::Address;
use crate::nic::{Frame, Nic};
use crate::verdict::DropReason;
use crate::wire::ethernet;

/// Frames that may wait for a next hop at a time, and how long each may.
pub(super) const PARKED: usize = 64;
const PARK_MILLIS: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Parked<F> {
    frame: F,
    port: PortId,
    destination: Address,
    until: Moment,
}

impl<N: Nic> Worker<N> {
    /// Keeps a frame until its next hop is known, for a bounded time and number; the kernel is asked to find out.
    pub(super) fn park(
        &mut self,
        frame: N::Frame,
        port: PortId,
        next_hop: Address,
        destination: Address,
        now: Moment,
    ) {
        // A full queue of wishes is no loss: the next packet asks again.
        let _ = self.kernel.wanted.push((port, next_hop));
        if self.parked.is_full() {
            return self.drop(frame, DropReason::NeighborUnresolved);
        }
        self.parked.push(Parked { frame, port, destination, until: now.after(PARK_MILLIS) });
        self.counters.work.parked.set(self.parked.len() as u64);
    }

    /// Keeps a later fragment until the first one comes, for a bounded time and number.
    pub(super) fn hold(&mut self, frame: N::Frame, arrival: Arrival, packet: u64, now: Moment) {
        if let Some(oldest) = self.held.add(packet, frame, arrival, now) {
            self.drop(oldest, DropReason::FragmentOverflow);
        }
        self.counters.work.held.set(self.held.len() as u64);
    }

    /// The first fragment has gone its way: those that were held for it follow, in the order in which they came.
    #[cold]
    pub(super) fn release(&mut self, packet: u64, now: Moment) {
        // Counted before, so that it ends even if one is held again.
        for _ in 0..self.held.count(packet) {
            if let Some((frame, arrival)) = self.held.release(packet) {
                self.handle(frame, arrival, now);
            }
        }
        self.counters.work.held.set(self.held.len() as u64);
    }

    pub(super) fn retry_parked(&mut self, now: Moment) {
        for mut parked in mem::take(&mut self.parked) {
            match self.tables.get().fib.route(parked.destination) {
                Route::Egress { port, mac } if port == parked.port => {
                    let own = self.tables.get().fib.port(port).mac;
                    ethernet::address(parked.frame.bytes_mut(), mac, own);
                    self.send(parked.frame, port);
                }
                _ if parked.until <= now => self.drop(parked.frame, DropReason::NeighborUnresolved),
                _ => self.parked.push(parked),
            }
        }
        self.counters.work.parked.set(self.parked.len() as u64);
    }

    pub(super) fn drop_held(&mut self, now: Moment) {
        while let Some(frame) = self.held.expired(now) {
            self.drop(frame, DropReason::FragmentUnknown);
        }
        self.counters.work.held.set(self.held.len() as u64);
    }
}

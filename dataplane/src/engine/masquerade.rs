//! What a masqueraded connection is lent: an address, and a port of this worker's block.
//!
//! Whichever port it is, its replies are this worker's to decide. Of the ports of the block, those whose replies the NIC
//! also brings to this worker's queue come first: then no worker has to hand them over.

use super::connect::{PORT_TRIES, place};
use super::*;

/// Ports that lead back to this worker's queue and are tried before any others.
pub(super) const NEAR_PORTS: usize = 8;
/// Ports looked at in search of such, for every worker there is: about one in as many is one.
const LOOKED_AT: u16 = 16;
/// Of a range of 32 bits, about the golden section: steps of that length come everywhere, and late to where they were.
const STRIDE: u32 = 0x9e37_79b9;

impl Engine {
    /// Tells what the NICs do with packets of several queues, by port.
    pub fn steer(&mut self, nics: Arc<[Option<Rss>]>) {
        self.owners.steer(nics);
    }

    /// The ports to try first for a connection that becomes `to` and leaves by a port; `start` is any number. None where
    /// nothing is known of its NIC.
    #[inline]
    pub(super) fn near_ports(
        &self,
        tables: &Tables,
        to: &Tuple,
        leaves_by: PortId,
        start: u32,
    ) -> impl Iterator<Item = u16> + use<'_> {
        let EngineConfig { worker, workers, .. } = self.config;
        let (first, size) = tables.node.masquerade_ports.block(worker, workers);
        let toward = self.owners.nic(leaves_by).and_then(|nic| nic.toward(&to.reversed()));
        let near = toward.into_iter().flat_map(move |toward| {
            let looked_at = 0..LOOKED_AT.saturating_mul(workers).min(size);
            // Far from each other: neighbours differ in few bits, which may be just those that change nothing.
            let number = move |i: u16| start.wrapping_add(STRIDE.wrapping_mul(i.into()));
            let ports = looked_at.map(move |i| first + place(number(i), 0, size));
            ports.filter(move |port| toward.queue(*port) == worker)
        });
        near.take(NEAR_PORTS)
    }

    /// The ports to try then.
    #[inline]
    pub(super) fn own_ports(
        &self,
        tables: &Tables,
        start: u32,
    ) -> impl Iterator<Item = u16> + use<> {
        let EngineConfig { worker, workers, .. } = self.config;
        let (first, size) = tables.node.masquerade_ports.block(worker, workers);
        (0..PORT_TRIES.min(size)).map(move |i| first + place(start, i, size))
    }

    /// An address of the pool, or the egress port's own (MSQ-4).
    pub(super) fn masquerade_address(
        &self,
        tables: &Tables,
        to: &Tuple,
        leaves_by: PortId,
    ) -> Option<Address> {
        let v4 = to.dst.is_v4();
        match tables.node.masquerade_pool.of(v4) {
            [] => tables.fib.port_address(leaves_by, v4),
            [only] => Some(*only),
            pool => Some(pool[reduce(low32(self.conntrack.hash(to)), pool.len())]),
        }
    }
}

/// The port by which a packet to a backend leaves; that of its arrival, if there is no way to the backend.
pub(super) fn leaves_by(tables: &Tables, backend: Address, arrival: &Arrival) -> PortId {
    match tables.fib.route(backend) {
        Route::Egress { port, .. } | Route::Unresolved { port, .. } => port,
        Route::Local | Route::Nowhere => arrival.port,
    }
}

//! Giving a new connection its translation: a source that nobody else uses toward the backend (I2).

use arrayvec::ArrayVec;

use super::masquerade::{NEAR_PORTS, leaves_by};
use super::*;

/// Source ports tried before a connection is given up: a range in which so many in a row are taken is as good as full.
pub(super) const PORT_TRIES: u16 = 32;
/// What an unmasqueraded client's port may be changed to: those above the well-known ones.
const FIRST_PORT: u16 = 1024;
const PORTS: u16 = u16::MAX - FIRST_PORT;

impl Engine {
    /// Adds the connection under a source nobody else uses toward this backend (I2).
    #[expect(
        clippy::too_many_arguments,
        reason = "one call, and every argument is a different thing"
    )]
    pub(super) fn connect(
        &mut self,
        arrival: &Arrival,
        packet: &Packet<'_>,
        tuple: &Tuple,
        to: &Tuple,
        masquerade: bool,
        state: State,
        backend: BackendId,
    ) -> Result<Hit, DropReason> {
        // With a backend on this very host it may be another worker to whom the client's own end leads.
        if !masquerade
            && self.comes_back(packet.tables, &to.reversed())
            && let Some(outcome) = self.attempt(tuple, to, state, backend, packet.now)
        {
            return outcome;
        }
        let start = low32(self.conntrack.hash(tuple));
        if masquerade {
            let port = leaves_by(packet.tables, to.dst, arrival);
            let src = self.masquerade_address(packet.tables, to, port);
            let to = Tuple { src: src.ok_or(DropReason::NoMasqueradeAddress)?, ..*to };
            let near: ArrayVec<u16, NEAR_PORTS> =
                self.near_ports(packet.tables, &to, port, start).collect();
            for sport in near.into_iter().chain(self.own_ports(packet.tables, start)) {
                let to = Tuple { sport, ..to };
                if let Some(outcome) = self.attempt(tuple, &to, state, backend, packet.now) {
                    return outcome;
                }
            }
            return Err(DropReason::MasqueradePortsExhausted);
        }
        // Another VIP's connection of the same client: change the port, as Linux does (CTK-12). Only one in so many leads
        // replies back to this worker.
        for i in 0..PORT_TRIES * self.config.workers {
            let to = Tuple { sport: FIRST_PORT + place(start, i, PORTS), ..*to };
            if self.comes_back(packet.tables, &to.reversed())
                && let Some(outcome) = self.attempt(tuple, &to, state, backend, packet.now)
            {
                return outcome;
            }
        }
        Err(DropReason::MasqueradePortsExhausted)
    }

    /// Adds the connection, unless its source is somebody's toward this backend: then `None`.
    fn attempt(
        &mut self,
        tuple: &Tuple,
        to: &Tuple,
        state: State,
        backend: BackendId,
        now: Moment,
    ) -> Option<Result<Hit, DropReason>> {
        match self.insert(tuple, to, state, backend, now) {
            Ok(hit) => Some(Ok(hit)),
            Err(InsertError::Full) => Some(Err(DropReason::ConntrackFull)),
            Err(InsertError::Addresses) => Some(Err(DropReason::MasqueradePortsExhausted)),
            Err(InsertError::Clash) => None,
        }
    }

    fn insert(
        &mut self,
        tuple: &Tuple,
        to: &Tuple,
        state: State,
        backend: BackendId,
        now: Moment,
    ) -> Result<Hit, InsertError> {
        let hit = self.conntrack.insert(tuple, to, state, backend, now)?;
        if self.config.workers > 1 {
            for flow in [*tuple, to.reversed()] {
                self.elsewhere.forget(self.conntrack.hash(&flow));
            }
        }
        Ok(hit)
    }

    /// Whether a reply will be this worker's to decide.
    pub(super) fn comes_back(&self, tables: &Tables, reply: &Tuple) -> bool {
        let EngineConfig { ports, workers, worker, .. } = self.config;
        if workers == 1 {
            return true;
        }
        let destination = classify::destination(tables, reply, false, ports, workers);
        self.owners.owner(tables, &destination, reply) == worker
    }
}

/// A place among `size`: any number gives one, and `i` counts on from there, round and round.
#[inline]
pub(super) fn place(number: u32, i: u16, size: u16) -> u16 {
    let (place, size) = (reduce(number, size.into()) + usize::from(i), usize::from(size));
    u16::try_from(if place < size { place } else { place - size }).unwrap_or_default()
}

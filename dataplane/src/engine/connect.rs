//! Giving a new connection its translation: a source that nobody else uses toward the backend (I2).

use super::*;

/// Source ports tried before a connection is given up: a range in which so many in a row are taken is as good as full.
const PORT_TRIES: u16 = 32;

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
        if !masquerade {
            match self.insert(tuple, to, state, backend, packet.now) {
                Ok(hit) => return Ok(hit),
                Err(InsertError::Full) => return Err(DropReason::ConntrackFull),
                Err(InsertError::Addresses) => return Err(DropReason::MasqueradePortsExhausted),
                // Another VIP's connection of the same client: change the port, as Linux does (CTK-12).
                Err(InsertError::Clash) => {}
            }
        }
        let src = if masquerade {
            self.masquerade_address(arrival, packet.tables, to)
                .ok_or(DropReason::NoMasqueradeAddress)?
        } else {
            tuple.src
        };
        let start = low32(self.conntrack.hash(tuple));
        // Of the ports of an unmasqueraded client only one in so many leads replies back to this worker.
        let tries = if masquerade { PORT_TRIES } else { PORT_TRIES * self.config.workers };
        for i in 0..tries {
            let sport = if masquerade {
                match self.masquerade_port(packet.tables, start, i) {
                    Some(sport) => sport,
                    None => break,
                }
            } else {
                // Above the well-known ports; the reply must still be ours.
                let sport = 1024 + offset(start, i, u16::MAX - 1024);
                if !self.comes_back(packet.tables, &Tuple { sport, ..*to }.reversed()) {
                    continue;
                }
                sport
            };
            let to = Tuple { src, sport, ..*to };
            match self.insert(tuple, &to, state, backend, packet.now) {
                Ok(hit) => return Ok(hit),
                Err(InsertError::Full) => return Err(DropReason::ConntrackFull),
                Err(InsertError::Addresses) => return Err(DropReason::MasqueradePortsExhausted),
                Err(InsertError::Clash) => {}
            }
        }
        Err(DropReason::MasqueradePortsExhausted)
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
        for flow in [*tuple, to.reversed()] {
            self.elsewhere.forget(self.conntrack.hash(&flow));
        }
        Ok(hit)
    }

    /// Whether a reply will be this worker's to decide.
    pub(super) fn comes_back(&self, tables: &Tables, reply: &Tuple) -> bool {
        let EngineConfig { ports, secret, workers, worker, .. } = self.config;
        let destination = classify::destination(tables, reply, false, ports, workers);
        classify::owner(tables, &destination, reply, ports, &secret, workers) == worker
    }

    /// The port to try after `i` others, of this worker's; `None` after the last.
    pub(super) fn masquerade_port(&self, tables: &Tables, start: u32, i: u16) -> Option<u16> {
        let EngineConfig { worker, workers, .. } = self.config;
        let (first, size) = tables.node.masquerade_ports.block(worker, workers);
        (i < size).then(|| first + offset(start, i, size))
    }

    /// An address of the pool, or the egress port's own (MSQ-4).
    pub(super) fn masquerade_address(
        &self,
        arrival: &Arrival,
        tables: &Tables,
        to: &Tuple,
    ) -> Option<Address> {
        let Tables { fib, node, .. } = tables;
        let v4 = to.dst.is_v4();
        match node.masquerade_pool.of(v4) {
            [] => {
                let port = match fib.route(to.dst) {
                    Route::Egress { port, .. } | Route::Unresolved { port, .. } => port,
                    Route::Local | Route::Nowhere => arrival.port,
                };
                fib.port_address(port, v4)
            }
            [only] => Some(*only),
            pool => Some(pool[reduce(low32(self.conntrack.hash(to)), pool.len())]),
        }
    }
}

fn offset(start: u32, i: u16, size: u16) -> u16 {
    let size = u32::from(size);
    u16::try_from((start % size + u32::from(i)) % size).unwrap_or_default()
}

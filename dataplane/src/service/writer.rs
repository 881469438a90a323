//! The control thread's side of the service table: applies whole Services, keeps what did not change.
//!
//! A row that is unchanged keeps its backends' ids, so that UDP flows stay; a changed row keeps the ids of those
//! endpoints that still serve. Applying equal rows changes nothing (OBJ-12).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::backends::{BackendId, BackendIds};
use super::maglev::Maglev;
use super::retired::{Former, Retired};
use super::{
    Choice, Class, End, Entry, FrontendAt, Row, ServicePort, ServiceTable, Vip, unspecified,
};
use crate::flow::Address;
use crate::hash::HashKey;

/// Owner of the next version of the table.
#[derive(Debug)]
pub struct ServiceWriter {
    table: ServiceTable,
    services: HashMap<Arc<str>, Vec<Applied>>,
    ids: BackendIds,
    rows: u32,
    retired: Retired,
}

#[derive(Debug)]
struct Applied {
    port: ServicePort,
    row: Arc<Row>,
    backends: HashMap<SocketAddr, BackendId>,
}

impl ServiceWriter {
    /// An empty table; `key` is the fleet's key for choosing backends.
    #[must_use]
    pub fn new(key: HashKey) -> Self {
        Self {
            table: ServiceTable::new(key),
            services: HashMap::new(),
            ids: BackendIds::default(),
            rows: 0,
            retired: Retired::default(),
        }
    }

    /// The table as it stands: a cheap clone to publish.
    #[must_use]
    pub fn table(&self) -> ServiceTable {
        self.table.clone()
    }

    /// Rows of a Service, as last applied.
    pub fn rows(&self, service: &str) -> impl Iterator<Item = &ServicePort> {
        self.services.get(service).into_iter().flatten().map(|applied| &applied.port)
    }

    /// All rows of all Services, in no particular order.
    pub fn all_rows(&self) -> impl Iterator<Item = &ServicePort> {
        self.services.values().flatten().map(|applied| &applied.port)
    }

    /// Sets the rows of a Service (`namespace/name`); none removes it. Two Services must not claim one frontend: the
    /// caller has decided (OBJ-14). Returns whether anything changed.
    pub fn apply(&mut self, service: &str, ports: Vec<ServicePort>) -> bool {
        let mut old = self.services.remove(service).unwrap_or_default();
        // The rows themselves: a pointer alone could name a new row in the memory of an old one.
        let before: Vec<Arc<Row>> = old.iter().map(|applied| applied.row.clone()).collect();
        // New rows are merged before old ones go, so that a row present in both never disappears (OBJ-13).
        let new: Vec<Applied> = ports.into_iter().map(|port| self.merge(port, &mut old)).collect();
        for gone in &old {
            self.retire(gone, &[]);
        }
        let same = |(applied, row): (&Applied, &Arc<Row>)| Arc::ptr_eq(&applied.row, row);
        let changed = new.len() != before.len() || !new.iter().zip(&before).all(same);
        if !new.is_empty() {
            self.services.insert(service.into(), new);
        }
        changed
    }

    /// Forgets frontends and endpoints that were gone at the last call already. Until then they count for the rule
    /// which worker owns a packet, so that connections outlive them: call this as rarely as connections may idle.
    /// Returns whether anything changed.
    pub fn forget_retired(&mut self) -> bool {
        let forgotten = self.retired.forget();
        forgotten.iter().for_each(|former| self.forget(former));
        !forgotten.is_empty()
    }

    /// One row: reuses the old row of the same name and protocol, as far as it goes.
    fn merge(&mut self, port: ServicePort, old: &mut Vec<Applied>) -> Applied {
        let same = |a: &Applied| {
            a.port.name == port.name && a.port.protocol == port.protocol && {
                // A Service has one row per family under one name.
                family(&a.port) == family(&port)
            }
        };
        let former = old.iter().position(same).map(|found| old.swap_remove(found));
        let (id, mut ids) = match former {
            Some(former) if former.port == port => return former,
            Some(former) => {
                self.retire(&former, &serving(&port));
                (former.row.id, former.backends)
            }
            None => {
                self.rows += 1;
                (self.rows, HashMap::new())
            }
        };
        let wanted = serving(&port);
        ids.retain(|backend, _| wanted.binary_search(backend).is_ok());
        for backend in &wanted {
            if !ids.contains_key(backend)
                && let Some(id) = self.ids.take(&mut self.table.backends)
            {
                ids.insert(*backend, id);
            }
            self.count_endpoint(backend, &port, 1);
        }
        let cluster = Arc::new(self.choice(&port.cluster, &port, &ids));
        let local = if port.local == port.cluster {
            cluster.clone()
        } else {
            Arc::new(self.choice(&port.local, &port, &ids))
        };
        let row = Arc::new(Row {
            name: port.name.clone(),
            id,
            cluster,
            local,
            has_endpoints: port.has_endpoints,
            internal_local: port.internal_local,
            external_local: port.external_local,
        });
        self.link(&port, &row);
        Applied { port, row, backends: ids }
    }

    fn choice(
        &self,
        list: &[SocketAddr],
        port: &ServicePort,
        ids: &HashMap<SocketAddr, BackendId>,
    ) -> Choice {
        let backends =
            list.iter().filter_map(|backend| Some((*backend, *ids.get(backend)?))).collect();
        Choice { backends, maglev: Maglev::new(list, port.protocol, &self.table.key) }
    }

    fn link(&mut self, port: &ServicePort, row: &Arc<Row>) {
        let key = self.table.key;
        for frontend in &port.frontends {
            let end = end(frontend.at, port);
            let entry = Entry {
                class: frontend.class,
                allowed_sources: frontend.allowed_sources.clone(),
                row: row.clone(),
            };
            let hash = |end: &End| key.end(end.address, end.port, end.protocol);
            self.table.frontends.insert(end, entry, hash);
            self.table.former.remove(&end, hash);
            self.retired.revive(Former::Frontend(end));
            if let FrontendAt::Address(_) = frontend.at {
                self.count_vip(end.address, frontend.class, 1);
            }
        }
    }

    /// Takes a row's frontends and backends out of the table, but for the ids of those in `keep`.
    fn retire(&mut self, applied: &Applied, keep: &[SocketAddr]) {
        let key = self.table.key;
        let hash = |end: &End| key.end(end.address, end.port, end.protocol);
        for frontend in &applied.port.frontends {
            let end = end(frontend.at, &applied.port);
            let found = self.table.frontends.get(hash(&end), &end);
            // Another row may have taken the frontend over in the same batch: then it is not ours to remove.
            if found.is_some_and(|entry| Arc::ptr_eq(&entry.row, &applied.row)) {
                self.table.frontends.remove(&end, hash);
                self.table.former.insert(end, (), hash);
                self.retire_one(Former::Frontend(end));
            }
            if let FrontendAt::Address(_) = frontend.at {
                self.count_vip(end.address, frontend.class, -1);
            }
        }
        for backend in serving(&applied.port) {
            self.count_endpoint(&backend, &applied.port, -1);
        }
        for (backend, id) in &applied.backends {
            if keep.binary_search(backend).is_err() {
                self.ids.give_back(*id, &mut self.table.backends);
            }
        }
    }

    fn count_vip(&mut self, address: Address, class: Class, by: i32) {
        let key = self.table.key;
        let mut vip = self.table.vip(address).unwrap_or(Vip { cluster: 0, external: 0 });
        let count = match class {
            Class::Cluster => &mut vip.cluster,
            Class::External => &mut vip.external,
        };
        *count = count.saturating_add_signed(by);
        if vip.cluster + vip.external == 0 {
            self.table.vips.remove(&address, |address| key.address(*address));
        } else {
            self.table.vips.insert(address, vip, |address| key.address(*address));
        }
    }

    fn count_endpoint(&mut self, backend: &SocketAddr, port: &ServicePort, by: i32) {
        let key = self.table.key;
        let hash = |end: &End| key.end(end.address, end.port, end.protocol);
        let end = End {
            address: Address::from(backend.ip()),
            port: backend.port(),
            protocol: port.protocol,
        };
        let count = self.table.endpoints.get(hash(&end), &end).copied().unwrap_or(0);
        let count = count.saturating_add_signed(by);
        self.table.endpoints.insert(end, count, hash);
        if count == 0 {
            self.retire_one(Former::Endpoint(end));
        } else {
            self.retired.revive(Former::Endpoint(end));
        }
    }

    fn retire_one(&mut self, former: Former) {
        if let Some(oldest) = self.retired.add(former) {
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, former: &Former) {
        let key = self.table.key;
        let hash = |end: &End| key.end(end.address, end.port, end.protocol);
        match former {
            Former::Frontend(end) => drop(self.table.former.remove(end, hash)),
            Former::Endpoint(end) => drop(self.table.endpoints.remove(end, hash)),
        }
    }
}

/// All endpoints of a row that serve, sorted, each once.
fn serving(port: &ServicePort) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> =
        [&port.cluster, &port.local, &port.serving].into_iter().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn end(at: FrontendAt, port: &ServicePort) -> End {
    let (address, number) = match at {
        FrontendAt::Address(socket) => (Address::from(socket.ip()), socket.port()),
        FrontendAt::NodePort { v4, port } => (unspecified(v4), port),
    };
    End { address, port: number, protocol: port.protocol }
}

fn family(port: &ServicePort) -> Option<bool> {
    port.frontends.first().map(|frontend| match frontend.at {
        FrontendAt::Address(socket) => socket.is_ipv4(),
        FrontendAt::NodePort { v4, .. } => v4,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Protocol;
    use crate::service::Frontend;

    fn at(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 80).into()
    }

    fn row(name: &str, vip: u8, endpoints: &[u8]) -> ServicePort {
        let list: Vec<SocketAddr> = endpoints.iter().map(|&last| at(last)).collect();
        ServicePort {
            name: name.into(),
            protocol: Protocol::Tcp,
            has_endpoints: !list.is_empty(),
            cluster: list.clone(),
            local: list,
            serving: vec![],
            internal_local: false,
            external_local: false,
            frontends: vec![Frontend {
                at: FrontendAt::Address(at(vip)),
                class: Class::Cluster,
                allowed_sources: Arc::new([]),
            }],
        }
    }

    fn finds(writer: &ServiceWriter, last: u8) -> Option<Arc<str>> {
        let found = writer.table.find(Address::from(at(last).ip()), 80, Protocol::Tcp)?;
        Some(found.row.name.clone())
    }

    #[test]
    fn every_change_and_nothing_else_is_reported() {
        let mut writer = ServiceWriter::new(HashKey::new(1));
        // No published table keeps old rows, so that their memory is used again.
        for round in 0..100 {
            let endpoints: &[u8] = if round % 2 == 0 { &[1, 2] } else { &[1, 3] };
            assert!(writer.apply("ns/a", vec![row("a", 100, endpoints)]), "round {round}");
            assert!(!writer.apply("ns/a", vec![row("a", 100, endpoints)]), "round {round}");
        }
        assert!(writer.apply("ns/a", vec![]));
        assert!(!writer.apply("ns/a", vec![]));
    }

    #[test]
    fn rows_may_swap_their_frontends() {
        let mut writer = ServiceWriter::new(HashKey::new(1));
        writer.apply("ns/a", vec![row("a", 100, &[1]), row("b", 101, &[1])]);
        writer.apply("ns/a", vec![row("a", 101, &[1]), row("b", 100, &[1])]);
        assert_eq!(
            (finds(&writer, 100), finds(&writer, 101)),
            (Some("b".into()), Some("a".into()))
        );
        assert_eq!(writer.table.vips().count(), 2);
        assert!(writer.table.former.is_empty());
        writer.apply("ns/a", vec![]);
        assert_eq!((finds(&writer, 100), finds(&writer, 101)), (None, None));
        assert_eq!((writer.table.vips().count(), writer.table.endpoints().count()), (0, 0));
    }

    #[test]
    fn what_is_gone_is_remembered_until_it_is_forgotten_or_back() {
        let mut writer = ServiceWriter::new(HashKey::new(1));
        let was = |writer: &ServiceWriter, last| {
            let ip = Address::from(at(last).ip());
            let table = &writer.table;
            (table.was_frontend(ip, 80, Protocol::Tcp), table.is_endpoint(ip, 80, Protocol::Tcp))
        };
        writer.apply("ns/a", vec![row("a", 100, &[1, 2])]);
        writer.apply("ns/a", vec![row("a", 101, &[1])]);
        assert_eq!((was(&writer, 100), was(&writer, 101)), ((true, false), (false, false)));
        assert_eq!((was(&writer, 1), was(&writer, 2)), ((false, true), (false, true)));
        assert_eq!(writer.table.endpoints().count(), 1, "the other one is gone");
        assert!(!writer.forget_retired());
        writer.apply("ns/b", vec![row("b", 100, &[3])]);
        assert_eq!(was(&writer, 100), (false, false), "it is back");
        assert!(writer.forget_retired());
        assert_eq!((was(&writer, 1), was(&writer, 2)), ((false, true), (false, false)));
        assert_eq!(finds(&writer, 100), Some("b".into()));
    }
}

//! The control thread's side of the service table: applies whole Services, keeps what did not change.
//!
//! A row that is unchanged keeps its backends' ids, so that UDP flows stay; a changed row keeps the ids of those
//! endpoints that still serve. Applying equal rows changes nothing (OBJ-12). Of a changed row only what differs is
//! touched: the maps are shared with published tables, and every key set in them copies a shard.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::backends::{BackendId, BackendIds};
use super::maglev::Maglev;
use super::retired::{Former, Retired};
use super::tally::{Place, Places};
use super::{
    Choice, Class, End, Entry, Frontend, FrontendAt, OwnedBy, Row, ServicePort, ServiceTable, Vip,
    unspecified,
};
use crate::flow::{Address, Protocol};
use crate::hash::HashKey;

/// Frontends and endpoints forgotten by one call: about a millisecond's work.
const FORGET: usize = 512;

/// Owner of the next version of the table.
#[derive(Debug)]
pub struct ServiceWriter {
    table: ServiceTable,
    services: HashMap<Arc<str>, Vec<Applied>>,
    ids: BackendIds,
    places: Places,
    retired: Retired,
}

#[derive(Debug)]
struct Applied {
    port: ServicePort,
    row: Arc<Row>,
    /// Ids of endpoints that serve but are not in the row's cluster list. Sorted.
    others: Box<[Backend]>,
}

/// An endpoint with its id.
type Backend = (SocketAddr, BackendId);

impl ServiceWriter {
    /// An empty table; `key` is the fleet's key for choosing backends.
    #[must_use]
    pub fn new(key: HashKey) -> Self {
        Self {
            table: ServiceTable::new(key),
            services: HashMap::new(),
            ids: BackendIds::default(),
            places: Places::default(),
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

    /// All rows, each with the name of its Service and the place where workers count for it.
    pub fn places(&self) -> impl Iterator<Item = (&Arc<str>, &ServicePort, Place)> {
        let place = |applied: &Applied| applied.row.place;
        let rows = self.services.iter();
        rows.flat_map(move |(name, rows)| rows.iter().map(move |row| (name, &row.port, place(row))))
    }

    /// Sets the rows of a Service (`namespace/name`); none removes it. Two Services must not claim one frontend: the
    /// caller has decided (OBJ-14). Returns whether anything changed.
    pub fn apply(&mut self, service: &str, ports: Vec<ServicePort>) -> bool {
        let mut old = self.services.get_mut(service).map(std::mem::take).unwrap_or_default();
        // The rows themselves: a pointer alone could name a new row in the memory of an old one.
        let before: Vec<Arc<Row>> = old.iter().map(|applied| applied.row.clone()).collect();
        // New rows are merged before old ones go, so that a row present in both never disappears (OBJ-13).
        let new: Vec<Applied> = ports.into_iter().map(|port| self.merge(port, &mut old)).collect();
        for gone in &old {
            self.retire(gone);
        }
        let same = |(applied, row): (&Applied, &Arc<Row>)| Arc::ptr_eq(&applied.row, row);
        let changed = new.len() != before.len() || !new.iter().zip(&before).all(same);
        if new.is_empty() {
            self.services.remove(service);
        } else if let Some(applied) = self.services.get_mut(service) {
            *applied = new;
        } else {
            self.services.insert(service.into(), new);
        }
        changed
    }

    /// Forgets frontends and endpoints that were gone when this round of calls began, some of them a call; without any
    /// left the next round begins. Until then they count for the rule which worker owns a packet, so that connections
    /// outlive them: begin rounds as rarely as connections may idle. Returns whether anything changed.
    pub fn forget_retired(&mut self) -> bool {
        let forgotten = self.retired.forget(FORGET);
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
        let former = match old.iter().position(same).map(|found| old.swap_remove(found)) {
            Some(former) if former.port == port => return former,
            other => other,
        };
        let former = former.as_ref();
        let backends = self.backends(&port, former);
        let place = former.map_or_else(|| self.places.take(), |former| former.row.place);
        let known = former.map(|former| &former.row.cluster);
        let cluster = self.choice(&port.cluster, port.protocol, &backends, known);
        let local = |list: &Option<Vec<SocketAddr>>, known: Option<&Arc<Choice>>| {
            let list = list.as_ref()?;
            // Lists are often the same endpoints.
            let known = known.into_iter().chain([&cluster]);
            Some(self.choice(list, port.protocol, &backends, known))
        };
        let known = former.and_then(|former| former.row.internal_local.as_ref());
        let internal_local = local(&port.internal_local, known);
        let known = former.and_then(|former| former.row.external_local.as_ref());
        let external_local = local(&port.external_local, known.or(internal_local.as_ref()));
        let others = backends
            .into_iter()
            .filter(|(at, _)| port.cluster.binary_search(at).is_err())
            .collect();
        let row = Arc::new(Row {
            name: port.name.clone(),
            place,
            cluster,
            internal_local,
            external_local,
            has_endpoints: port.has_endpoints,
            affinity: port.affinity,
        });
        if let Some(former) = former {
            let frontends = former.port.frontends.iter();
            for gone in frontends.filter(|frontend| !has(&port, frontend)) {
                self.unlink(gone, former);
            }
        }
        for frontend in &port.frontends {
            let new = former.is_none_or(|former| !has(&former.port, frontend));
            self.link(frontend, &port, &row, new);
        }
        Applied { port, row, others }
    }

    /// Ids for all endpoints of a row that serve, sorted: those of its former version keep theirs.
    fn backends(&mut self, port: &ServicePort, former: Option<&Applied>) -> Vec<Backend> {
        let wanted = serving(port);
        for (gone, id) in former.into_iter().flat_map(Applied::backends) {
            if wanted.binary_search(gone).is_err() {
                self.ids.give_back(*id, &mut self.table.backends);
                self.count_endpoint(gone, port.protocol, -1);
            }
        }
        let mut backends = Vec::with_capacity(wanted.len());
        for at in wanted {
            let known = former.and_then(|former| former.id(&at));
            let id = known.or_else(|| {
                let id = self.ids.take(&mut self.table.backends)?;
                self.count_endpoint(&at, port.protocol, 1);
                Some(id)
            });
            backends.extend(id.map(|id| (at, id)));
        }
        backends
    }

    /// A list of backends with its table, or that of `known` which it is.
    fn choice<'a>(
        &self,
        list: &[SocketAddr],
        protocol: Protocol,
        ids: &[Backend],
        known: impl IntoIterator<Item = &'a Arc<Choice>>,
    ) -> Arc<Choice> {
        let listed = ids.iter().filter(|(at, _)| list.binary_search(at).is_ok());
        let backends: Box<[Backend]> = listed.copied().collect();
        if let Some(known) = known.into_iter().find(|known| known.backends == backends) {
            return known.clone();
        }
        let list: Vec<SocketAddr> = backends.iter().map(|(at, _)| *at).collect();
        let maglev = Maglev::new(&list, protocol, &self.table.key);
        Arc::new(Choice { backends, maglev })
    }

    /// Lets a frontend lead to a row; `new` if the row did not have it before.
    fn link(&mut self, frontend: &Frontend, port: &ServicePort, row: &Arc<Row>, new: bool) {
        let key = self.table.key;
        let end = end(frontend.at, port.protocol);
        let hash = |end: &End| key.end(end.address, end.port, end.protocol);
        let masquerades = frontend.class == Class::External && port.external_local.is_none();
        let entry = Entry {
            class: frontend.class,
            owned_by: self.owned_by(&end, masquerades),
            allowed_sources: frontend.allowed_sources.clone(),
            row: row.clone(),
        };
        self.table.frontends.insert(end, entry, hash);
        if new {
            self.table.former.remove(&end, hash);
            self.retired.revive(Former::Frontend(end));
            if let FrontendAt::Address(_) = frontend.at {
                self.count_vip(end.address, frontend.class, 1);
            }
        }
    }

    /// What decides whose a frontend's connections are. Where it was the client's end it stays so, because connections of
    /// that time are looked for where they are; the other way round they are at the worker where their packets arrive.
    fn owned_by(&self, end: &End, masquerades: bool) -> OwnedBy {
        let ServiceTable { key, frontends, former, .. } = &self.table;
        let hash = key.end(end.address, end.port, end.protocol);
        let known = frontends.get(hash, end).map(|entry| entry.owned_by);
        match known.or_else(|| former.get(hash, end).copied()) {
            Some(OwnedBy::Client) => OwnedBy::Client,
            _ if masquerades => OwnedBy::Flow,
            _ => OwnedBy::Client,
        }
    }

    /// Takes a frontend of a row out of the table.
    fn unlink(&mut self, frontend: &Frontend, applied: &Applied) {
        let key = self.table.key;
        let hash = |end: &End| key.end(end.address, end.port, end.protocol);
        let end = end(frontend.at, applied.port.protocol);
        // Another row may have taken the frontend over in the same batch: then it is not ours to remove.
        let found = self.table.frontends.get(hash(&end), &end);
        if let Some(entry) = found.filter(|entry| Arc::ptr_eq(&entry.row, &applied.row)) {
            let owned_by = entry.owned_by;
            self.table.frontends.remove(&end, hash);
            self.table.former.insert(end, owned_by, hash);
            self.retire_one(Former::Frontend(end));
        }
        if let FrontendAt::Address(_) = frontend.at {
            self.count_vip(end.address, frontend.class, -1);
        }
    }

    /// Takes a row's frontends and backends out of the table.
    fn retire(&mut self, applied: &Applied) {
        for frontend in &applied.port.frontends {
            self.unlink(frontend, applied);
        }
        for (backend, id) in applied.backends() {
            self.ids.give_back(*id, &mut self.table.backends);
            self.count_endpoint(backend, applied.port.protocol, -1);
        }
        self.places.give_back(applied.row.place);
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

    fn count_endpoint(&mut self, backend: &SocketAddr, protocol: Protocol, by: i32) {
        let key = self.table.key;
        let hash = |end: &End| key.end(end.address, end.port, end.protocol);
        let end = End { address: Address::from(backend.ip()), port: backend.port(), protocol };
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

impl Applied {
    /// All its endpoints that serve.
    fn backends(&self) -> impl Iterator<Item = &Backend> {
        self.row.cluster.backends.iter().chain(&self.others)
    }

    fn id(&self, at: &SocketAddr) -> Option<BackendId> {
        let find = |list: &[Backend]| {
            let found = list.binary_search_by_key(at, |(at, _)| *at).ok()?;
            Some(list[found].1)
        };
        find(&self.row.cluster.backends).or_else(|| find(&self.others))
    }
}

/// All endpoints of a row that serve, sorted, each once.
fn serving(port: &ServicePort) -> Vec<SocketAddr> {
    let lists = [&port.cluster[..], &port.serving].into_iter().chain(port.locals());
    let mut all: Vec<SocketAddr> = lists.flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether a row has this frontend, counted as the same kind of address.
fn has(port: &ServicePort, wanted: &Frontend) -> bool {
    port.frontends.iter().any(|frontend| (frontend.at, frontend.class) == (wanted.at, wanted.class))
}

fn end(at: FrontendAt, protocol: Protocol) -> End {
    let (address, port) = match at {
        FrontendAt::Address(socket) => (Address::from(socket.ip()), socket.port()),
        FrontendAt::NodePort { v4, port } => (unspecified(v4), port),
    };
    End { address, port, protocol }
}

fn family(port: &ServicePort) -> Option<bool> {
    port.frontends.first().map(|frontend| match frontend.at {
        FrontendAt::Address(socket) => socket.is_ipv4(),
        FrontendAt::NodePort { v4, .. } => v4,
    })
}

#[cfg(test)]
mod tests;

//! From events to service tables: keeps the state, compiles what changed, settles who owns what.
//!
//! No I/O and no time: the publishing loop ([`crate::publish`]) and the offline tools use the same code. The cost of
//! an event is that of the Service it concerns and its rivals, never that of the cluster.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dataplane::hash::HashKey;
use dataplane::service::writer::ServiceWriter;
use dataplane::service::{FrontendAt, ServicePort, ServiceTable};
use k8s_openapi::jiff::Timestamp;

use crate::claims::{Claim, Claims};
use crate::compile::compile;
use crate::object::{Kind, ObjectKey, ObjectName, Problem, Reason};
use crate::settings::Settings;
use crate::source::{self, Change, Event, Link};
use crate::state::{Changed, State};

/// See the module.
#[derive(Debug)]
pub struct Assembly {
    settings: Settings,
    state: State,
    claims: Claims,
    writer: ServiceWriter,
    dirty: Changed,
    /// Kinds of which a complete list has arrived.
    listed: BTreeSet<Kind>,
    sizes: HashMap<ObjectName, Sizes>,
    total: Sizes,
    problems: Problems,
    links: BTreeMap<Kind, Link>,
}

/// How much there is of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Services with rows.
    pub services: usize,
    /// Rows: ports times families.
    pub rows: usize,
    /// Endpoints over all rows.
    pub endpoints: usize,
}

#[derive(Debug, Default)]
struct Problems {
    /// From files, as a whole.
    files: Vec<Problem>,
    objects: BTreeMap<ObjectKey, Vec<Problem>>,
    conflicts: BTreeMap<ObjectName, Vec<Problem>>,
}

impl Assembly {
    /// Nothing yet; `key` is the fleet's key for choosing backends.
    #[must_use]
    pub fn new(settings: Settings, key: HashKey) -> Self {
        Self {
            settings,
            state: State::default(),
            claims: Claims::default(),
            writer: ServiceWriter::new(key),
            dirty: Changed::new(),
            listed: BTreeSet::new(),
            sizes: HashMap::new(),
            total: Sizes::default(),
            problems: Problems::default(),
            links: BTreeMap::new(),
        }
    }

    /// Takes in what a source said. Returns the instants that the changed objects name as their cause.
    pub fn take(&mut self, event: Event) -> Vec<Timestamp> {
        match event {
            Event::Apply(change) => self.apply(change).into_iter().collect(),
            Event::Delete(key) => {
                self.problems.objects.remove(&key);
                self.dirty.append(&mut self.state.delete(&key));
                Vec::new()
            }
            Event::Unreadable(key, problem) => {
                self.problems.objects.insert(key, vec![problem]);
                Vec::new()
            }
            Event::Reset { kind, objects, unreadable } => self.reset(kind, objects, unreadable),
            Event::Problems(problems) => {
                self.problems.files = problems;
                Vec::new()
            }
            Event::Link(kind, link) => {
                self.links.insert(kind, link);
                Vec::new()
            }
        }
    }

    /// The next table, if one is due: something changed, and each kind was listed completely once (SYN-1).
    pub fn build(&mut self) -> Option<ServiceTable> {
        if !self.complete() || self.dirty.is_empty() {
            return None;
        }
        let mut compiled: BTreeMap<ObjectName, Vec<ServicePort>> = BTreeMap::new();
        let mut rivals = Changed::new();
        for name in std::mem::take(&mut self.dirty) {
            let rows = self.compile(&name);
            let created = self.state.service(&name).and_then(|service| service.created);
            rivals.append(&mut self.claims.set(&name, created, claims(&rows)));
            compiled.insert(name, rows);
        }
        for name in rivals {
            if !compiled.contains_key(&name) {
                compiled.insert(name.clone(), self.compile(&name));
            }
        }
        let mut changed = false;
        for (name, rows) in compiled {
            changed |= self.put(&name, rows);
        }
        changed.then(|| self.writer.table())
    }

    /// Forgets which frontends and endpoints are gone since before the last call (see
    /// [`ServiceWriter::forget_retired`]). The next table, if that changed it.
    pub fn forget_retired(&mut self) -> Option<ServiceTable> {
        self.writer.forget_retired().then(|| self.writer.table())
    }

    /// Whether a complete list of Services and of slices has arrived.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.listed.contains(&Kind::Service) && self.listed.contains(&Kind::EndpointSlice)
    }

    /// Replaces the settings; every Service is compiled anew at the next build (TOP-9).
    pub fn set_settings(&mut self, settings: Settings) {
        if settings != self.settings {
            self.settings = settings;
            self.dirty.extend(self.state.services().map(|service| service.name.clone()));
        }
    }

    /// The settings in use.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The objects.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The rows, as last built.
    #[must_use]
    pub fn writer(&self) -> &ServiceWriter {
        &self.writer
    }

    /// How much there is.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.total
    }

    /// State of the source: that of the kind that is stale for longest, or connected when no kind is stale.
    #[must_use]
    pub fn link(&self) -> Link {
        let stale = self.links.values().filter_map(|link| match link {
            Link::Stale { since, .. } => Some((since, link)),
            Link::Connecting | Link::Connected => None,
        });
        match stale.min_by_key(|(since, _)| *since) {
            Some((_, link)) => link.clone(),
            None if self.links.is_empty() => Link::Connecting,
            None => Link::Connected,
        }
    }

    /// All that is wrong with the objects: files first, then objects, then contested addresses.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        let Problems { files, objects, conflicts } = &self.problems;
        files.iter().chain(objects.values().flatten()).chain(conflicts.values().flatten())
    }

    fn apply(&mut self, change: Change) -> Option<Timestamp> {
        let Change { object, problems, trigger } = change;
        let key = object.key();
        if problems.is_empty() {
            self.problems.objects.remove(&key);
        } else {
            self.problems.objects.insert(key, problems);
        }
        let mut changed = self.state.apply(object);
        let trigger = trigger.filter(|_| !changed.is_empty());
        self.dirty.append(&mut changed);
        trigger
    }

    fn reset(
        &mut self,
        kind: Kind,
        objects: Vec<Change>,
        unreadable: Vec<(ObjectName, Problem)>,
    ) -> Vec<Timestamp> {
        self.listed.insert(kind);
        let keep = source::names(&unreadable);
        self.problems.objects.retain(|key, _| key.kind != kind);
        for (name, problem) in unreadable {
            self.problems.objects.insert(ObjectKey { kind, name }, vec![problem]);
        }
        let mut list = Vec::with_capacity(objects.len());
        for Change { object, problems, .. } in objects {
            if !problems.is_empty() {
                self.problems.objects.insert(object.key(), problems);
            }
            list.push(object);
        }
        self.dirty.append(&mut self.state.reset(kind, list, &keep));
        // How long a change took is unknown for what a list brings: it may have been served all along.
        Vec::new()
    }

    fn compile(&self, name: &ObjectName) -> Vec<ServicePort> {
        let service = self.state.service(name);
        service.map_or_else(Vec::new, |service| {
            compile(service, self.state.slices(name), &self.settings)
        })
    }

    /// Hands a Service's rows to the writer, without frontends that belong to another Service.
    fn put(&mut self, name: &ObjectName, mut rows: Vec<ServicePort>) -> bool {
        let mut conflicts = Vec::new();
        for row in &mut rows {
            let protocol = row.protocol;
            row.frontends.retain(|frontend| {
                let owner =
                    self.claims.owner(&(frontend.at, protocol)).filter(|owner| *owner != name);
                if let Some(owner) = owner {
                    let frontend = describe(frontend.at, protocol.name());
                    let reason = Reason::Conflict { frontend, owner: owner.to_string() };
                    let object = Some(ObjectKey { kind: Kind::Service, name: name.clone() });
                    conflicts.push(Problem { place: None, object, field: String::new(), reason });
                }
                owner.is_none()
            });
        }
        rows.retain(|row| !row.frontends.is_empty());
        if conflicts.is_empty() {
            self.problems.conflicts.remove(name);
        } else {
            self.problems.conflicts.insert(name.clone(), conflicts);
        }
        self.count(name, &rows);
        self.writer.apply(name.as_str(), rows)
    }

    fn count(&mut self, name: &ObjectName, rows: &[ServicePort]) {
        let endpoints = rows
            .iter()
            .map(|row| if row.cluster.is_empty() { row.local.len() } else { row.cluster.len() });
        let new = Sizes {
            services: usize::from(!rows.is_empty()),
            rows: rows.len(),
            endpoints: endpoints.sum(),
        };
        let old = if rows.is_empty() {
            self.sizes.remove(name)
        } else {
            self.sizes.insert(name.clone(), new)
        };
        let old = old.unwrap_or_default();
        self.total.services = self.total.services + new.services - old.services;
        self.total.rows = self.total.rows + new.rows - old.rows;
        self.total.endpoints = self.total.endpoints + new.endpoints - old.endpoints;
    }
}

fn claims(rows: &[ServicePort]) -> Vec<Claim> {
    let claims = rows
        .iter()
        .flat_map(|row| row.frontends.iter().map(|frontend| (frontend.at, row.protocol)));
    claims.collect()
}

fn describe(at: FrontendAt, protocol: &str) -> String {
    match at {
        FrontendAt::Address(socket) => format!("{protocol} {socket}"),
        FrontendAt::NodePort { v4, port } => {
            format!("{protocol} node port {port} (IPv{})", if v4 { 4 } else { 6 })
        }
    }
}

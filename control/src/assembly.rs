//! From events to service tables: keeps the state, compiles what changed, settles who owns what.
//!
//! No I/O, and time only as an argument: the control loop ([`crate::control`]) and the offline tools use the same code.
//! The cost of an event is that of the Service it concerns and its rivals, never that of the cluster.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::ops::{Add, Sub};
use std::time::Instant;

use dataplane::hash::HashKey;
use dataplane::service::writer::ServiceWriter;
use dataplane::service::{FrontendAt, ServicePort, ServiceTable};
use serde::Serialize;

use crate::claims::{Claim, Claims};
use crate::cluster::NodeFacts;
use crate::compile::{self, compile};
use crate::empty::Empty;
use crate::object::{Kind, ObjectKey, ObjectName, Problem, Reason};
use crate::pending::Pending;
use crate::problems::Problems;
use crate::publish::Causes;
use crate::settings::Settings;
use crate::source::{self, Change, Event, Link};
use crate::state::{Changed, State};

/// See the module.
#[derive(Debug)]
pub struct Assembly {
    configured: Settings,
    /// In use: what is configured, and what the cluster says of itself.
    settings: Settings,
    /// That, or what is known of the node, is to be told.
    settings_are_news: bool,
    state: State,
    claims: Claims,
    writer: ServiceWriter,
    pending: Pending,
    /// Kinds of which a complete list has arrived.
    listed: BTreeSet<Kind>,
    sizes: HashMap<ObjectName, Sizes>,
    total: Sizes,
    problems: Problems,
    empty: Empty,
    links: BTreeMap<Kind, Link>,
}

/// How much there is of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sizes {
    /// Services with rows.
    pub services: usize,
    /// Rows: ports times families.
    pub rows: usize,
    /// Endpoints over all rows.
    pub endpoints: usize,
    /// Rows that drop what comes to the cluster IP: internalTrafficPolicy is Local and all endpoints are elsewhere
    /// (REJ-2, REJ-11).
    pub no_local_internal: usize,
    /// Rows that drop what comes from outside: externalTrafficPolicy is Local and all endpoints are elsewhere (REJ-3,
    /// REJ-11).
    pub no_local_external: usize,
}

impl Sizes {
    fn with(self, other: Self) -> Self {
        self.join(other, usize::add)
    }

    fn without(self, other: Self) -> Self {
        self.join(other, usize::sub)
    }

    fn join(self, other: Self, each: fn(usize, usize) -> usize) -> Self {
        Self {
            services: each(self.services, other.services),
            rows: each(self.rows, other.rows),
            endpoints: each(self.endpoints, other.endpoints),
            no_local_internal: each(self.no_local_internal, other.no_local_internal),
            no_local_external: each(self.no_local_external, other.no_local_external),
        }
    }
}

impl Assembly {
    /// Nothing yet; `key` is the fleet's key for choosing backends.
    #[must_use]
    pub fn new(settings: Settings, key: HashKey) -> Self {
        Self {
            configured: settings.clone(),
            settings,
            settings_are_news: true,
            state: State::default(),
            claims: Claims::default(),
            writer: ServiceWriter::new(key),
            pending: Pending::default(),
            listed: BTreeSet::new(),
            sizes: HashMap::new(),
            total: Sizes::default(),
            problems: Problems::default(),
            empty: Empty::default(),
            links: BTreeMap::new(),
        }
    }

    /// Takes in what a source said, and when it was heard.
    pub fn take(&mut self, event: Event, arrived: Instant) {
        match event {
            Event::Apply(Change { object, problems, trigger }) => {
                let key = object.key();
                self.problems.set_object(&key, problems);
                let changed = self.state.apply(object);
                self.pending.add(changed, Some(arrived), trigger);
                self.settle_settings(key.kind, arrived);
            }
            Event::Delete(key) => {
                self.problems.set_object(&key, Vec::new());
                let changed = self.state.delete(&key);
                self.pending.add(changed, Some(arrived), None);
                self.settle_settings(key.kind, arrived);
            }
            Event::Unreadable(key, problem) => self.problems.set_object(&key, vec![problem]),
            Event::Reset { kind, objects, unreadable } => {
                let changed = self.reset(kind, objects, unreadable);
                // How long a change took is unknown for what a list brings: it may have been served all along.
                self.pending.add(changed, Some(arrived), None);
                self.settle_settings(kind, arrived);
            }
            Event::Problems(problems) => self.problems.set_files(problems),
            Event::Link(kind, link) => drop(self.links.insert(kind, link)),
        }
    }

    /// The next table, if one is due: something changed, and each kind was listed completely once (SYN-1). A Service
    /// whose endpoints may be on their way from one slice to another is left as it is, until they have arrived or
    /// [`Self::due`] (EPS-8).
    pub fn build(&mut self, now: Instant) -> Option<(ServiceTable, Causes)> {
        if !self.complete() {
            return None;
        }
        // What was never served can't be missed.
        let Self { pending, state, sizes, .. } = self;
        let ripe = pending.ripe(now, |name| sizes.contains_key(name) && state.is_moving(name));
        self.build_these(ripe)
    }

    /// The next table as it will be when nothing is on its way any more.
    pub fn build_all(&mut self) -> Option<ServiceTable> {
        if !self.complete() {
            return None;
        }
        let all = self.pending.all();
        self.build_these(all).map(|(table, _)| table)
    }

    /// When to build next even if nothing happens until then.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.pending.due()
    }

    fn build_these(
        &mut self,
        names: BTreeMap<ObjectName, Causes>,
    ) -> Option<(ServiceTable, Causes)> {
        let mut compiled: BTreeMap<ObjectName, (Vec<ServicePort>, Causes)> = BTreeMap::new();
        let mut rivals = Changed::new();
        for (name, causes) in names {
            self.state.settle(&name);
            let rows = self.compile(&name);
            let created = self.state.service(&name).and_then(|service| service.created);
            rivals.extend(self.claims.set(&name, created, claims(&rows)));
            compiled.insert(name, (rows, causes));
        }
        for name in rivals {
            if let Entry::Vacant(rival) = compiled.entry(name) {
                let rows = self.compile(rival.key());
                rival.insert((rows, Causes::default()));
            }
        }
        let mut changed = None;
        for (name, (rows, causes)) in compiled {
            if self.put(&name, rows) {
                changed.get_or_insert_with(Causes::default).join(causes);
            }
        }
        changed.map(|causes| (self.writer.table(), causes))
    }

    /// Forgets some of the frontends and endpoints that are gone since before this round of calls (see
    /// [`ServiceWriter::forget_retired`]). The next table, if that changed it; if not, the round is over.
    pub fn forget_retired(&mut self) -> Option<ServiceTable> {
        self.writer.forget_retired().then(|| self.writer.table())
    }

    /// Whether a complete list of Services and of slices has arrived.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.listed.contains(&Kind::Service) && self.listed.contains(&Kind::EndpointSlice)
    }

    /// Replaces what is configured.
    pub fn set_settings(&mut self, settings: Settings) {
        self.configured = settings;
        self.renew_settings(None);
    }

    /// The settings in use.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is in effect of the node that the settings name.
    #[must_use]
    pub fn node_facts(&self) -> Option<NodeFacts> {
        self.state.cluster().node_facts(&self.settings)
    }

    /// Whether [`Self::settings`] or [`Self::node_facts`] may be others than at the last call.
    pub fn has_new_settings(&mut self) -> bool {
        std::mem::take(&mut self.settings_are_news)
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

    /// Takes in what a watcher has found wrong with objects, instead of what it found before.
    pub fn set_found(&mut self, by: &'static str, problems: Vec<Problem>) {
        self.problems.set_found(by, problems);
    }

    /// All that is wrong with the objects: files first, then objects, contested addresses, and what watchers found.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// How many [`Self::problems`] there are.
    #[must_use]
    pub fn problem_count(&self) -> usize {
        self.problems.count()
    }

    /// Whether [`Self::problems`] are others than at the last call.
    pub fn has_new_problems(&mut self) -> bool {
        self.problems.are_news()
    }

    /// Services with ports whose new connections are refused, because no endpoint is ready for them: in order of their
    /// names, with these ports in words.
    pub fn without_endpoints(&self) -> impl Iterator<Item = (&ObjectName, &[String])> {
        self.empty.iter()
    }

    /// Grows whenever [`Self::problems`] or [`Self::without_endpoints`] change.
    #[must_use]
    pub fn findings_version(&self) -> u64 {
        self.problems.changes() + self.empty.changes()
    }

    fn settle_settings(&mut self, changed: Kind, arrived: Instant) {
        if changed.is_cluster_wide() {
            self.renew_settings(Some(arrived));
        }
    }

    /// Takes new settings into use: every Service is compiled anew at the next build if its rows may differ (TOP-9).
    fn renew_settings(&mut self, arrived: Option<Instant>) {
        self.settings_are_news = true;
        let settings = self.state.cluster().settings(&self.configured);
        if !settings.compile_like(&self.settings) {
            let all = self.state.services().map(|service| service.name.clone()).collect();
            self.pending.add(all, arrived, None);
        }
        self.settings = settings;
    }

    fn reset(
        &mut self,
        kind: Kind,
        objects: Vec<Change>,
        unreadable: Vec<(ObjectName, Problem)>,
    ) -> Changed {
        self.listed.insert(kind);
        let keep = source::names(&unreadable);
        let mut problems: BTreeMap<ObjectKey, Vec<Problem>> = unreadable
            .into_iter()
            .map(|(name, problem)| (ObjectKey { kind, name }, vec![problem]))
            .collect();
        let mut list = Vec::with_capacity(objects.len());
        for change in objects {
            if !change.problems.is_empty() {
                problems.insert(change.object.key(), change.problems);
            }
            list.push(change.object);
        }
        self.problems.reset(kind, problems);
        self.state.reset(kind, list, &keep)
    }

    fn compile(&self, name: &ObjectName) -> Vec<ServicePort> {
        let service = self.state.service(name);
        service.map_or_else(Vec::new, |service| {
            compile(service, self.state.slices(name), &self.settings)
        })
    }

    /// Hands a Service's rows to the writer, without frontends that belong to another Service.
    fn put(&mut self, name: &ObjectName, mut rows: Vec<ServicePort>) -> bool {
        let service = self.state.service(name);
        let mut conflicts = service.map_or_else(Vec::new, |service| {
            compile::refused(service, self.state.slices(name), &self.settings)
        });
        for row in &mut rows {
            let protocol = row.protocol;
            row.frontends.retain(|frontend| {
                let owner =
                    self.claims.owner(&(frontend.at, protocol)).filter(|owner| *owner != name);
                if let Some(owner) = owner {
                    let frontend = describe(frontend.at, protocol.name());
                    let reason = Reason::Conflict { frontend, owner: owner.to_string() };
                    let service = ObjectKey { kind: Kind::Service, name: name.clone() };
                    conflicts.push(Problem::of(service, "", reason));
                }
                owner.is_none()
            });
        }
        rows.retain(|row| !row.frontends.is_empty());
        self.problems.set_conflicts(name, conflicts);
        self.empty.set(name, &rows);
        self.count(name, &rows);
        self.writer.apply(name.as_str(), rows)
    }

    fn count(&mut self, name: &ObjectName, rows: &[ServicePort]) {
        let endpoints = rows.iter().map(|row| {
            let local = row.locals().map(<[_]>::len).max().unwrap_or_default();
            if row.cluster.is_empty() { local } else { row.cluster.len() }
        });
        let no_local = |list: fn(&ServicePort) -> &Option<Vec<SocketAddr>>| {
            let is_empty = |row: &ServicePort| list(row).as_ref().is_some_and(Vec::is_empty);
            rows.iter().filter(|row| row.has_endpoints && is_empty(row)).count()
        };
        let new = Sizes {
            services: usize::from(!rows.is_empty()),
            rows: rows.len(),
            endpoints: endpoints.sum(),
            no_local_internal: no_local(|row| &row.internal_local),
            no_local_external: no_local(|row| &row.external_local),
        };
        let old = if rows.is_empty() {
            self.sizes.remove(name)
        } else {
            self.sizes.insert(name.clone(), new)
        };
        let old = old.unwrap_or_default();
        self.total = self.total.with(new).without(old);
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

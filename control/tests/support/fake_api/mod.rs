//! An API server as far as its clients can tell: any resource, list in pages, watch, bookmarks, writes, roles, and every
//! way to fail. It runs no controllers, gives out no addresses and checks no fields.
//!
//! [`FakeApi::apply`] and [`FakeApi::delete`] are the short way for tests to change objects; clients use HTTP.
//! `tests/transcripts/` holds its answers against those of a real one.

mod access;
mod apart;
mod clock;
mod defaults;
mod failure;
mod faults;
mod list;
mod request;
mod resources;
mod selector;
mod serve;
mod store;
mod watch;
mod write;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use access::Access;
use clock::{Clock, Waiter};
pub(crate) use faults::{BadWatch, Faults};
pub(crate) use request::Recorded;
use resources::Resource;
use store::Store;

/// Where objects are that don't say so.
const NAMESPACE: &str = "demo";

/// A running server; clones share it.
#[derive(Clone)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
    /// Counts whatever an open request must look at again.
    changes: tokio::sync::watch::Sender<u64>,
}

struct State {
    store: Store,
    access: Access,
    faults: Faults,
    clock: Clock,
    requests: Vec<Recorded>,
    /// How often all watches were cut, and how the last time.
    cuts: u64,
    last_cut: Cut,
}

/// How a watch ends against its will.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// As if its time were up.
    Clean,
    /// The connection breaks.
    Reset,
}

impl FakeApi {
    /// Serves on a free port of loopback and returns its address.
    pub(crate) async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::serve(listener)
    }

    pub(crate) fn serve(listener: TcpListener) -> (Self, String) {
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let api = Self::new();
        let router = api.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (api, url)
    }

    /// A server without a socket.
    pub(crate) fn new() -> Self {
        let state = State {
            store: Store::new(),
            access: Access::default(),
            faults: Faults::default(),
            clock: Clock::Real(Instant::now()),
            requests: Vec::new(),
            cuts: 0,
            last_cut: Cut::Clean,
        };
        let changes = tokio::sync::watch::Sender::new(0);
        let api = Self { state: Arc::new(Mutex::new(state)), changes };
        for namespace in ["default", "kube-system", "kube-public", NAMESPACE] {
            api.add_namespace(namespace);
        }
        api
    }

    /// What it answers, for a server that answers some requests itself.
    pub(crate) fn router(&self) -> Router {
        Router::new().fallback(serve::answer).with_state(self.clone())
    }

    /// Creates or changes objects of any kind, written as YAML in any number of documents.
    pub(crate) fn apply(&self, yaml: &str) {
        for object in serde_saphyr::from_multiple::<Value>(yaml).expect("readable") {
            self.put(object);
        }
    }

    /// Writes an object as it stands, with a version of its own.
    pub(crate) fn put(&self, mut object: Value) {
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        let resource = resources::of_kind(&kind, object["apiVersion"].as_str());
        let resource = resource.unwrap_or_else(|| panic!("no resource of kind {kind}"));
        object["apiVersion"] = resource.api_version().into();
        if resource.namespaced {
            let namespace =
                object["metadata"]["namespace"].as_str().unwrap_or(NAMESPACE).to_owned();
            object["metadata"]["namespace"] = namespace.as_str().into();
            self.add_namespace(&namespace);
        }
        let mut state = self.lock();
        let known = state.store.get(resource, &store::key_of(&object));
        if object["metadata"].get("uid").is_none() {
            object["metadata"]["uid"] = match known {
                Ok(known) => known["metadata"]["uid"].clone(),
                Err(_) => state.store.uid().into(),
            };
        }
        state.store.put(resource, object);
        drop(state);
        self.wake();
    }

    /// Deletes an object of the default namespace, or of none.
    pub(crate) fn delete(&self, kind: &str, name: &str) {
        let resource = resource(kind);
        let namespace = if resource.namespaced { NAMESPACE } else { "" };
        self.delete_from(namespace, kind, name);
    }

    pub(crate) fn delete_from(&self, namespace: &str, kind: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.lock().store.remove(resource(kind), &key).expect("it exists");
        self.wake();
    }

    /// All objects of a kind.
    pub(crate) fn objects(&self, kind: &str, api_version: Option<&str>) -> Vec<Value> {
        let resource = resources::of_kind(kind, api_version).expect("a kind");
        self.lock().store.of(resource).objects.values().map(|object| (**object).clone()).collect()
    }

    /// Sends a bookmark to all watches of Services and returns its version.
    pub(crate) fn bookmark(&self) -> u64 {
        let version = self.lock().store.bookmark(resource("Service"));
        self.wake();
        version
    }

    /// From now on everybody needs a token, which is a user's name, and a role. `admin` may do everything.
    pub(crate) fn guard(&self, users: &[&str]) {
        let users = users.iter().map(ToString::to_string).collect();
        self.lock().access = Access(Some(users));
    }

    /// From now on those who send no token may do this and nothing else: verb, group, resource (`services`, or
    /// `services/status`).
    pub(crate) fn allow_only(&self, rules: &[(&str, &str, &str)]) {
        self.guard(&[]);
        let rules: Vec<Value> = rules
            .iter()
            .map(|(verb, group, resource)| {
                json!({"verbs": [verb], "apiGroups": [group], "resources": [resource]})
            })
            .collect();
        self.put(json!({"kind": "ClusterRole", "metadata": {"name": "allowed"}, "rules": rules}));
        self.put(json!({"kind": "ClusterRoleBinding", "metadata": {"name": "allowed"},
            "roleRef": {"kind": "ClusterRole", "name": "allowed"},
            "subjects": [{"kind": "User", "name": access::ANONYMOUS}]}));
    }

    /// Changes how the server misbehaves.
    pub(crate) fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
        self.wake();
    }

    /// Ends all watches.
    pub(crate) fn cut(&self) {
        self.cut_by(Cut::Clean);
    }

    pub(crate) fn cut_by(&self, cut: Cut) {
        let mut state = self.lock();
        state.cuts += 1;
        state.last_cut = cut;
        drop(state);
        self.wake();
    }

    /// Forgets all events: every watch that resumes gets 410.
    pub(crate) fn compact(&self) {
        self.lock().store.compact();
    }

    /// Forgets all events and how late it is, as when the store comes back from a backup.
    pub(crate) fn rewind(&self) {
        self.lock().store.rewind();
    }

    /// Takes the clock into the test's hands and sets it: time since the server began.
    pub(crate) fn set_clock(&self, now: Duration) {
        self.lock().clock = Clock::Told(now);
        self.wake();
    }

    /// The number of requests so far whose path and query contain `text`.
    pub(crate) fn requests(&self, text: &str) -> usize {
        let contains =
            |request: &&Recorded| format!("{}?{}", request.path, request.query).contains(text);
        self.lock().requests.iter().filter(contains).count()
    }

    /// All requests so far.
    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        self.lock().requests.clone()
    }

    fn add_namespace(&self, name: &str) {
        let namespaces = resource("Namespace");
        let store = &mut self.lock().store;
        if store.get(namespaces, &(String::new(), name.into())).is_err() {
            let uid = store.uid();
            let metadata = json!({"name": name, "uid": uid});
            store.put(
                namespaces,
                json!({"kind": "Namespace", "apiVersion": "v1", "metadata": metadata}),
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    fn wake(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn waiter(&self) -> Waiter {
        Waiter(self.changes.subscribe())
    }
}

fn resource(kind: &str) -> &'static Resource {
    resources::of_kind(kind, None).unwrap_or_else(|| panic!("no resource of kind {kind}"))
}

//! An API server as far as a gateway asks: list in pages, watch, bookmarks, and every way to fail.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A running server; clones share it.
#[derive(Clone)]
pub(crate) struct FakeApi {
    inner: Arc<Mutex<Inner>>,
    /// Counts whatever a waiting request must look at again.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    version: u64,
    services: Collection,
    slices: Collection,
    faults: Faults,
    /// Path and query of every request.
    requests: Vec<String>,
    /// Watches older than this are ended.
    cut: u64,
}

#[derive(Default)]
struct Collection {
    objects: BTreeMap<String, Value>,
    /// Version, type and object of every event.
    log: Vec<(u64, &'static str, Value)>,
    /// Watches from before this version get 410.
    oldest: u64,
}

/// How the server misbehaves.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    /// Every request is refused.
    pub(crate) refuse: bool,
    /// Lists of slices hang.
    pub(crate) hold_slices: bool,
    /// Objects per page, whatever the client asks.
    pub(crate) page: Option<usize>,
    /// Every page but the first fails with this status.
    pub(crate) later_pages: Option<u16>,
}

/// Which collection a request is about.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Services,
    Slices,
}

impl FakeApi {
    /// Serves on a free port of loopback and returns its address.
    pub(crate) async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::serve(listener)
    }

    pub(crate) fn serve(listener: TcpListener) -> (Self, String) {
        let api = Self { inner: Arc::default(), changes: watch::Sender::new(0) };
        api.lock().version = 1000;
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let services =
            |State(api): State<Self>, RawQuery(query): RawQuery| api.answer(Kind::Services, query);
        let slices =
            |State(api): State<Self>, RawQuery(query): RawQuery| api.answer(Kind::Slices, query);
        let router = Router::new()
            .route("/api/v1/services", get(services))
            .route("/apis/discovery.k8s.io/v1/endpointslices", get(slices))
            .with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (api, url)
    }

    /// Creates or changes objects, written as YAML in any number of documents.
    pub(crate) fn apply(&self, yaml: &str) {
        for object in serde_saphyr::from_multiple::<Value>(yaml).expect("readable") {
            self.put(object, None);
        }
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, kind: &str, name: &str) {
        self.put(json!({"kind": kind, "metadata": {"name": name}}), Some("DELETED"));
    }

    /// Sends a bookmark to all watches of Services.
    pub(crate) fn bookmark(&self) {
        self.put(
            json!({"kind": "Service", "apiVersion": "v1", "metadata": {}, "spec": {}}),
            Some("BOOKMARK"),
        );
    }

    fn put(&self, mut object: Value, event: Option<&'static str>) {
        let mut inner = self.lock();
        inner.version += 1;
        let version = inner.version;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let collection =
            if object["kind"] == "Service" { &mut inner.services } else { &mut inner.slices };
        if event == Some("DELETED") {
            object = collection.objects.remove(&name).expect("it exists");
        }
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = version.to_string().into();
        if event != Some("BOOKMARK") {
            metadata["namespace"] = "demo".into();
        }
        let known = collection.objects.contains_key(&name);
        let event = event.unwrap_or(if known { "MODIFIED" } else { "ADDED" });
        if matches!(event, "ADDED" | "MODIFIED") {
            collection.objects.insert(name, object.clone());
        }
        collection.log.push((version, event, object));
        drop(inner);
        self.wake();
    }

    /// Changes how the server misbehaves.
    pub(crate) fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
        self.wake();
    }

    /// Ends all watches.
    pub(crate) fn cut(&self) {
        let mut inner = self.lock();
        inner.version += 1;
        inner.cut = inner.version;
        drop(inner);
        self.wake();
    }

    /// Forgets all events: every watch that resumes gets 410.
    pub(crate) fn compact(&self) {
        let inner = &mut *self.lock();
        inner.version += 1;
        let version = inner.version;
        for collection in [&mut inner.services, &mut inner.slices] {
            collection.oldest = version;
            collection.log.clear();
        }
    }

    /// The requests so far whose path and query contain `text`.
    pub(crate) fn requests(&self, text: &str) -> usize {
        self.lock().requests.iter().filter(|request| request.contains(text)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics with it")
    }

    fn wake(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    async fn answer(self, kind: Kind, query: Option<String>) -> Response {
        let query = query.unwrap_or_default();
        let path = if kind == Kind::Services { "services" } else { "endpointslices" };
        self.lock().requests.push(format!("{path}?{query}"));
        if self.lock().faults.refuse {
            return status(503, "ServiceUnavailable");
        }
        let get = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        if get("watch").is_some() {
            let version = get("resourceVersion").and_then(|version| version.parse().ok());
            self.watch(kind, version.expect("watches have a version"))
        } else {
            self.list(kind, get("continue")).await
        }
    }

    async fn list(self, kind: Kind, token: Option<String>) -> Response {
        let mut changes = self.changes.subscribe();
        while kind == Kind::Slices && self.lock().faults.hold_slices {
            changes.changed().await.expect("the server lives");
        }
        let inner = self.lock();
        if let Some(code) = inner.faults.later_pages.filter(|_| token.is_some()) {
            return status(code, if code == 410 { "Expired" } else { "InternalError" });
        }
        let from: usize = token.map_or(0, |token| token.parse().expect("our own token"));
        let objects = &inner.collection(kind).objects;
        let size = inner.faults.page.unwrap_or(usize::MAX);
        let items: Vec<&Value> = objects.values().skip(from).take(size).collect();
        let rest = objects.len() - from - items.len();
        let token = if rest > 0 { (from + items.len()).to_string() } else { String::new() };
        let metadata = json!({"resourceVersion": inner.version.to_string(), "continue": token});
        axum_json(
            &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}),
        )
    }

    fn watch(self, kind: Kind, version: u64) -> Response {
        let (oldest, cut) = {
            let inner = self.lock();
            (inner.collection(kind).oldest, inner.cut)
        };
        if version < oldest {
            let expired = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "message": format!("too old resource version: {version} ({oldest})"), "reason": "Expired", "code": 410}});
            return ([(header::CONTENT_TYPE, "application/json")], format!("{expired}\n"))
                .into_response();
        }
        let changes = self.changes.subscribe();
        let events =
            stream::unfold((self, version, changes), move |(api, seen, mut changes)| async move {
                loop {
                    changes.borrow_and_update();
                    {
                        let inner = api.lock();
                        if inner.cut > cut || inner.faults.refuse {
                            return None;
                        }
                        let next = inner
                            .collection(kind)
                            .log
                            .iter()
                            .find(|(version, _, _)| *version > seen);
                        if let Some((version, event, object)) = next {
                            let line = format!("{}\n", json!({"type": event, "object": object}));
                            let version = *version;
                            drop(inner);
                            return Some((Ok::<_, Infallible>(line), (api, version, changes)));
                        }
                    }
                    changes.changed().await.ok()?;
                }
            });
        ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(events)).into_response()
    }
}

impl Inner {
    fn collection(&self, kind: Kind) -> &Collection {
        match kind {
            Kind::Services => &self.services,
            Kind::Slices => &self.slices,
        }
    }
}

fn status(code: u16, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "as told", "reason": reason, "code": code});
    (StatusCode::from_u16(code).expect("a status"), axum_json(&body)).into_response()
}

fn axum_json(body: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

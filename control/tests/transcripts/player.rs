//! A server that plays one file to a watcher.
//!
//! Our source asks with other page sizes, selectors and time-outs than the recorder did, so a request gets the next recorded
//! answer of the same collection and form: a list, a later page, or a watch. A watch says what the recorded one said,
//! and ends as it ended; one that the recorder closed stays open. When there are no more, watches are silent, and the last
//! list is given again. Collections that the file does not show are those of a fake server, to which the recorded
//! requests are sent that change them.
//!
//! The test says how far to play. Then comes a mark: a Service and a slice of its own in every collection, so that whoever has
//! seen the mark has seen everything.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use control::source::kubernetes;
use futures::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::yield_now;

use super::file::{Dir, Line, Transcript};
use super::support::fake_api::FakeApi;

const COLLECTIONS: [&str; 2] = ["/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"];

#[derive(Clone)]
pub struct Player {
    file: Arc<Transcript>,
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
    /// What the file does not show.
    fake: FakeApi,
    fake_client: kube::Client,
}

#[derive(Default)]
struct State {
    /// Lines before this one may be said.
    played: usize,
    /// Exchanges that were given out.
    taken: BTreeSet<u32>,
    /// The present mark, and those said in each collection.
    mark: u8,
    said: BTreeMap<String, u8>,
}

/// A watch that plays the lines of an exchange (0: none are left).
struct Watch {
    player: Player,
    place: String,
    id: u32,
    line: usize,
    changes: watch::Receiver<u64>,
}

impl Player {
    pub async fn start(file: Transcript) -> (Self, String) {
        let (fake, fake_url) = FakeApi::start().await;
        let fake_client = kubernetes::client(kube::Config::new(fake_url.parse().expect("a URL")));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let player = Self {
            file: Arc::new(file),
            state: Arc::default(),
            changes: watch::Sender::new(0),
            fake_client: fake_client.expect("a client"),
            fake,
        };
        let mut router = Router::new();
        for place in COLLECTIONS.into_iter().filter(|place| player.shows(place)) {
            router = router.route(place, get(answer));
        }
        let router = router.with_state(player.clone()).fallback_service(player.fake.router());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (player, url)
    }

    /// Plays the lines before a request, or all (0), and returns the row that shows that all were heard. There is none
    /// while a collection has no watch open.
    pub async fn play_until(&self, id: u32) -> Option<String> {
        let is_end = |line: &Line| line.dir == Dir::Request && line.id == id;
        let lines = &self.file.lines;
        let end = lines.iter().position(is_end).unwrap_or(lines.len());
        let from = self.lock().played;
        for line in &lines[from..end] {
            let elsewhere = !COLLECTIONS.iter().any(|place| {
                let plural = place.rsplit('/').next().expect("a path");
                self.shows(place) && line.place().split('/').any(|part| part == plural)
            });
            if line.dir == Dir::Request && line.changes() && elsewhere {
                self.write_to_fake(line).await;
            }
        }
        let mark = {
            let mut state = self.lock();
            state.played = end;
            state.mark += 1;
            state.mark
        };
        for place in COLLECTIONS.into_iter().filter(|place| !self.shows(place)) {
            self.fake.put(mark_of(place, mark));
        }
        self.changes.send_modify(|count| *count += 1);
        let row = format!("mark/mark:1/tcp 198.18.0.{mark}:1 -> 198.18.1.{mark}:1");
        COLLECTIONS.into_iter().all(|place| self.is_open(place)).then_some(row)
    }

    /// Whether a watch is open, as far as the file was played.
    fn is_open(&self, place: &str) -> bool {
        let played = self.lock().played;
        let mut watches =
            self.file.requests().filter(|line| line.is_watch() && line.place() == place);
        let is_over = |watch: &&Line| {
            let lines = &self.file.lines[..played];
            lines
                .iter()
                .any(|line| line.id == watch.id && line.dir == Dir::End && line.by != "client")
        };
        // Those that were not played yet keep whoever asks waiting.
        let next = watches.find(|watch| !is_over(watch) && !self.is_plain(watch.id));
        next.is_none_or(|watch| self.file.lines[..played].iter().any(|line| line.id == watch.id))
    }

    /// Whether a request was answered with a body at once.
    fn is_plain(&self, id: u32) -> bool {
        self.file.body(id).is_some()
    }

    /// Whether the file has lists or watches of a whole collection.
    fn shows(&self, place: &str) -> bool {
        self.file.requests().any(|line| !line.changes() && line.place() == place)
    }

    async fn write_to_fake(&self, line: &Line) {
        let mut request = axum::http::Request::builder().method(&*line.method).uri(&*line.path);
        if let Some(kind) = line.headers.get("content-type") {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let body = line.body.as_ref().map(ToString::to_string).unwrap_or_default();
        let request = request.body(kube::client::Body::from(body.into_bytes())).expect("one");
        self.fake_client.send(request).await.expect("an answer");
    }

    /// The next recorded exchange that answers such a request.
    fn take(&self, place: &str, query: &str) -> Option<&Line> {
        let is_watch = query.contains("watch=true");
        let is_later_page = query.contains("continue=");
        let special = ["resourceVersionMatch=", "resourceVersion=0"];
        let mut state = self.lock();
        let fits = |line: &&Line| {
            !line.changes()
                && line.place() == place
                && line.is_watch() == is_watch
                && (is_watch
                    || line.path.contains("continue=") == is_later_page
                        && !special.iter().any(|text| line.path.contains(text)))
        };
        let fresh = |line: &&Line| fits(line) && !state.taken.contains(&line.id);
        let next = self.file.requests().find(fresh);
        let found = next.or_else(|| self.file.requests().filter(|_| !is_watch).filter(fits).last());
        state.taken.extend(found.map(|line| line.id));
        found
    }

    /// A recorded body. The rest of a list that nobody asked for before the next watch is not in the file.
    fn body(&self, id: u32) -> Option<Value> {
        let mut body = self.file.body(id)?.clone();
        let place = self.file.request(id).place();
        let mut later = self.file.requests().filter(|line| line.id > id && line.place() == place);
        if later.next().is_none_or(|line| !line.path.contains("continue="))
            && let Some(metadata) = body["metadata"].as_object_mut()
        {
            metadata.shift_remove("continue");
        }
        Some(body)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }
}

async fn answer(Shared(player): Shared<Player>, request: Request) -> Response {
    let place = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default();
    let is_watch = query.contains("watch=true");
    let mut changes = player.changes.subscribe();
    let found = player.take(&place, query).map(|line| line.id);
    let json = [(header::CONTENT_TYPE, "application/json")];
    let Some(id) = found else {
        let nothing = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []});
        return if is_watch {
            player.watch(place, 0, 0)
        } else {
            (json, nothing.to_string()).into_response()
        };
    };
    let is_answer = |line: &Line| line.dir == Dir::Response && line.id == id;
    let line = player.file.lines.iter().position(is_answer).expect("every request has one");
    while player.lock().played <= line {
        changes.changed().await.expect("the player lives");
    }
    let status = StatusCode::from_u16(player.file.lines[line].status).expect("a status");
    match player.body(id) {
        Some(body) => (status, json, body.to_string()).into_response(),
        None => player.watch(place, id, line),
    }
}

impl Player {
    fn watch(&self, place: String, id: u32, line: usize) -> Response {
        let changes = self.changes.subscribe();
        let watch = Watch { player: self.clone(), place, id, line, changes };
        let lines = stream::unfold(watch, |mut watch| async { Some((watch.next().await?, watch)) });
        ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response()
    }
}

/// What a watch does next.
enum Step {
    Say(Value),
    End,
    Break,
    Wait,
}

impl Watch {
    async fn next(&mut self) -> Option<io::Result<String>> {
        loop {
            self.changes.borrow_and_update();
            match self.step() {
                Step::Say(event) => return Some(Ok(format!("{event}\n"))),
                Step::End => return None,
                Step::Break => {
                    // What was said before goes out first.
                    yield_now().await;
                    return Some(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Step::Wait => self.changes.changed().await.ok()?,
            }
        }
    }

    fn step(&mut self) -> Step {
        let mut state = self.player.lock();
        while self.id > 0 && self.line < state.played {
            let line = &self.player.file.lines[self.line];
            self.line += 1;
            if line.id != self.id {
                continue;
            }
            match (&line.event, &*line.by) {
                (Some(event), _) => return Step::Say(event.clone()),
                (None, "server") => return Step::End,
                (None, "reset") => return Step::Break,
                // The recorder left: we stay.
                _ => {}
            }
        }
        let mark = state.mark;
        if mark > 0 && state.said.insert(self.place.clone(), mark) != Some(mark) {
            return Step::Say(json!({"type": "ADDED", "object": mark_of(&self.place, mark)}));
        }
        Step::Wait
    }
}

fn mark_of(place: &str, mark: u8) -> Value {
    let mut metadata = json!({"name": "mark", "namespace": "mark"});
    if place.ends_with("/services") {
        json!({"kind": "Service", "apiVersion": "v1", "metadata": metadata,
            "spec": {"clusterIP": format!("198.18.0.{mark}"), "ports": [{"port": 1}]}})
    } else {
        metadata["labels"] = json!({"kubernetes.io/service-name": "mark"});
        json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata,
            "addressType": "IPv4", "endpoints": [{"addresses": [format!("198.18.1.{mark}")]}],
            "ports": [{"name": "", "port": 1}]})
    }
}

//! The requests of each file, sent to the fake; what comes back, held against what was recorded.
//!
//! Requests go out in the order of the file, and watches are open while they were. The fake's clock shows the time of the line,
//! so a watch of a minute takes none. Before a request, everything is written that others had written by then ([`Implied`]).

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode, header};
use control::source::kubernetes;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::clean::{Versions, clean, difference};
use super::exempt::is_exempt;
use super::file::{Dir, Line, Transcript, version};
use super::imply::{Implied, Write};
use super::listen::{Listener, PATIENCE};
use super::support::fake_api::{Cut, FakeApi};

/// The recorder's clock and the server's did not start together, and timers are late.
const LATE: Duration = Duration::from_millis(900);

#[tokio::test]
async fn the_fake_answers_as_a_real_server_did() {
    let (mut differences, mut compared) = (Vec::new(), 0);
    for file in Transcript::all() {
        match Comparison::start(&file).await.run().await {
            Ok(count) => compared += count,
            Err(difference) => differences.push(format!("{}: {difference}", file.name)),
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    // Most of the 351 answers and 214 events.
    assert!(compared > 450, "only {compared} answers and events were compared");
}

struct Comparison<'a> {
    file: &'a Transcript,
    api: FakeApi,
    client: kube::Client,
    implied: Implied,
    versions: Versions,
    /// Recorded tokens of lists, and ours.
    tokens: BTreeMap<String, String>,
    asked: BTreeMap<u32, JoinHandle<Response<Body>>>,
    answered: BTreeMap<u32, Body>,
    watches: BTreeMap<u32, Listener>,
}

impl<'a> Comparison<'a> {
    async fn start(file: &'a Transcript) -> Self {
        let (api, url) = FakeApi::start().await;
        api.guard(&["gateway"]);
        api.set_clock(Duration::ZERO);
        let client = kubernetes::client(kube::Config::new(url.parse().expect("a URL")));
        let first = Transcript::of("01");
        if file.name != first.name {
            for role in first.requests().filter(|line| line.place().contains("rbac")) {
                api.put(role.body.clone().expect("a role or its binding"));
            }
        }
        Self {
            file,
            api,
            client: client.expect("a client"),
            implied: Implied::of(file),
            versions: Versions::default(),
            tokens: BTreeMap::new(),
            asked: BTreeMap::new(),
            answered: BTreeMap::new(),
            watches: BTreeMap::new(),
        }
    }

    /// The number of answers and events that were compared.
    async fn run(mut self) -> Result<usize, String> {
        let mut compared = 0;
        let mut skipped = Vec::new();
        let mut now = Duration::ZERO;
        for (number, line) in self.file.lines.iter().enumerate() {
            if line.dir == Dir::Request && is_exempt(self.file, line) {
                skipped.push(line.id);
            }
            if skipped.contains(&line.id) {
                // What it did is done by now.
                self.write_until(line.body.as_ref().and_then(version).unwrap_or_default());
                continue;
            }
            let bookmark = line.event.as_ref().is_some_and(|event| event["type"] == "BOOKMARK");
            let late = line.dir == Dir::End || line.status == 504 || bookmark;
            let time = Duration::from_secs_f64(line.t) + if late { LATE } else { Duration::ZERO };
            now = now.max(time);
            self.api.set_clock(now);
            compared += usize::from(line.dir == Dir::Response || line.event.is_some());
            let compared = match line.dir {
                Dir::Request => self.ask(line).await,
                Dir::Response => self.response(line).await,
                Dir::Chunk => self.chunk(line).await,
                Dir::End => self.end(line, number).await,
                Dir::Note => {
                    self.note(line);
                    Ok(())
                }
            };
            compared.map_err(|difference| {
                let (path, id) = (&self.file.lines, line.id);
                let request = path.iter().find(|line| line.dir == Dir::Request && line.id == id);
                let request = request.map_or("note", |line| &line.path);
                format!("line {}, exchange {id} ({request}): {difference}", number + 1)
            })?;
        }
        Ok(compared)
    }

    /// Sends a request of the file.
    async fn ask(&mut self, line: &Line) -> Result<(), String> {
        self.write_what_others_had(line);
        let (path, query) = line.path.split_once('?').unwrap_or((&line.path, ""));
        let pairs: Vec<String> = query.split('&').map(|pair| self.our_pair(pair)).collect();
        let uri = if query.is_empty() {
            line.path.clone()
        } else {
            format!("{path}?{}", pairs.join("&"))
        };
        let mut request = Request::builder().method(&*line.method).uri(uri);
        for name in [header::ACCEPT, header::CONTENT_TYPE] {
            if let Some(value) = line.headers.get(name.as_str()) {
                request = request.header(name, value);
            }
        }
        if line.user != "anonymous" {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", line.user));
        }
        let body = match &line.body {
            None => Vec::new(),
            Some(Value::String(broken)) => broken.clone().into_bytes(),
            Some(body) => {
                let mut body = body.clone();
                if let Some(version) = version(&body) {
                    body["metadata"]["resourceVersion"] =
                        self.versions.ours(version).to_string().into();
                }
                body.to_string().into_bytes()
            }
        };
        let request = request.body(kube::client::Body::from(body)).expect("a request");
        let client = self.client.clone();
        let before = self.api.requests("");
        let answer = async move { client.send(request).await.expect("an answer").map(Body::new) };
        self.asked.insert(line.id, tokio::spawn(answer));
        // It must be there before the clock moves on.
        while self.api.requests("") == before {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    fn write_what_others_had(&mut self, line: &Line) {
        let body = self.file.body(line.id);
        let until = if line.is_watch() && body.is_none() {
            let from_start = ["sendInitialEvents", "resourceVersion=0"]
                .iter()
                .any(|text| line.path.contains(text));
            if !from_start && line.path.contains("resourceVersion=") {
                return;
            }
            let events = || self.file.events(line.id);
            let mark = events().find(|event| event["type"] == "BOOKMARK");
            let last = events().filter_map(|event| version(&event["object"])).max();
            mark.and_then(|mark| version(&mark["object"])).or(last)
        } else {
            body.and_then(version).map(|version| if line.changes() { version - 1 } else { version })
        };
        self.write_until(until.unwrap_or_default());
    }

    fn write_until(&mut self, version: u64) {
        for write in self.implied.until(version) {
            match write {
                Write::Put(object) => self.api.put(object),
                Write::Delete(object) => {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let metadata = &object["metadata"];
                    let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
                    self.api.delete_from(&namespace, &text(&object["kind"]), &name);
                }
            }
        }
    }

    fn our_pair(&self, pair: &str) -> String {
        match pair.split_once('=') {
            Some(("resourceVersion", value)) => match value.parse() {
                Ok(version) if version > 0 => {
                    format!("resourceVersion={}", self.versions.ours(version))
                }
                _ => pair.into(),
            },
            Some(("continue", token)) => {
                format!("continue={}", self.tokens.get(token).map_or(token, |ours| ours))
            }
            _ => pair.into(),
        }
    }

    async fn response(&mut self, line: &Line) -> Result<(), String> {
        let task = self.asked.remove(&line.id).ok_or("never asked")?;
        let answer = timeout(PATIENCE, task).await.map_err(|_| "no answer")?.expect("it was sent");
        let text = |name: header::HeaderName| {
            answer.headers().get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned)
        };
        let ours = (answer.status(), text(header::CONTENT_TYPE), text(header::RETRY_AFTER));
        let recorded = |name: &str| line.headers.get(name).cloned();
        let status = StatusCode::from_u16(line.status).expect("a status");
        same(&(status, recorded("content-type"), recorded("retry-after")), &ours)?;
        let body = answer.into_body();
        if self.file.body(line.id).is_none() && self.file.request(line.id).is_watch() {
            self.watches.insert(line.id, Listener::new(body));
        } else {
            self.answered.insert(line.id, body);
        }
        Ok(())
    }

    async fn chunk(&mut self, line: &Line) -> Result<(), String> {
        if let Some(event) = &line.event {
            self.write_until(version(&event["object"]).unwrap_or_default());
            let watch = self.watches.get_mut(&line.id).ok_or("no watch")?;
            let object = &event["object"];
            if event["type"] == "BOOKMARK" && watch.last == *object {
                // How often it says the same is up to the server.
                return Ok(());
            }
            watch.last = object.clone();
            let ours = loop {
                let ours = watch.next().await?.ok_or("the watch has ended")?;
                let again = ours["type"] == "BOOKMARK" && event["type"] != "BOOKMARK";
                if !again {
                    break ours;
                }
            };
            same(&event["type"], &ours["type"])?;
            same_body(object, &ours["object"])?;
            return self.versions.take(object, &ours["object"]);
        }
        let Some(body) = self.answered.remove(&line.id) else { return Ok(()) };
        let bytes = to_bytes(body, usize::MAX).await.map_err(|error| error.to_string())?;
        if let Some(text) = &line.text {
            return same(text.as_bytes(), &*bytes);
        }
        let Some(recorded) = &line.body else { return Ok(()) };
        let ours: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        same_body(recorded, &ours)?;
        let token = |body: &Value| body["metadata"]["continue"].as_str().map(ToOwned::to_owned);
        if let (Some(recorded), Some(ours)) = (token(recorded), token(&ours)) {
            self.tokens.insert(recorded, ours);
        }
        self.versions.take(recorded, &ours)
    }

    async fn end(&mut self, line: &Line, number: usize) -> Result<(), String> {
        let Some(mut watch) = self.watches.remove(&line.id) else { return Ok(()) };
        match &*line.by {
            "client" => {
                // There must be nothing more to hear. While others listen there is no way to tell.
                if self.file.lines[number..].iter().all(|line| line.dir == Dir::End) {
                    self.api.cut();
                    return watch.finished().await;
                }
                Ok(())
            }
            "reset" => match watch.next().await {
                Err(_) => Ok(()),
                Ok(event) => Err(format!("the stream should break: {event:?}")),
            },
            _ => watch.finished().await,
        }
    }

    fn note(&mut self, line: &Line) {
        self.write_until(self.implied.last_in_lists());
        if line.text.as_ref().is_some_and(|text| text.contains("is killed")) {
            self.api.cut_by(Cut::Reset);
            self.api.compact();
        }
    }
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(recorded: &T, ours: &T) -> Result<(), String> {
    if recorded == ours {
        Ok(())
    } else {
        Err(format!("\n  recorded {recorded:?}\n  ours     {ours:?}"))
    }
}

fn same_body(recorded: &Value, ours: &Value) -> Result<(), String> {
    difference("", &clean(recorded), &clean(ours)).map_or(Ok(()), Err)
}

//! Watches: what came after a version, bookmarks, and how they end.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::task::yield_now;

use super::clock::Waiter;
use super::failure::Failure;
use super::list::fits;
use super::request::{Place, Query};
use super::resources::Resource;
use super::store::{Change, Store, at_version, empty, key_of};
use super::{BadWatch, Cut, FakeApi, State};

/// Between bookmarks.
const BOOKMARKS_EVERY: Duration = Duration::from_secs(60);
/// Before a watch that has an end ends, there is one more.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// A watch somebody listens to.
struct Watch {
    api: FakeApi,
    resource: &'static Resource,
    place: Place,
    query: Query,
    /// Versions up to this one are known to the client.
    seen: u64,
    /// Of the resource, when the watch began.
    first: u64,
    /// Cuts up to this one were before our time.
    cuts: u64,
    end: Option<Duration>,
    next_bookmark: Duration,
    lines: VecDeque<String>,
    over: bool,
    /// It has said its fault.
    complained: bool,
    waiter: Waiter,
}

/// What a watch does next.
enum Step {
    Say(String),
    End,
    Break,
    Wait,
}

pub(super) fn watch(
    api: &FakeApi,
    state: &mut State,
    resource: &'static Resource,
    place: Place,
    query: Query,
) -> Result<Response, Failure> {
    if query.initial_events && query.version_match.as_deref() != Some("NotOlderThan") {
        let why =
            "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        let cause = ("FieldValueForbidden", "resourceVersionMatch", why);
        return Err(Failure::invalid("ListOptions", "meta.k8s.io", "", &[cause]));
    }
    let version = query.number()?;
    let store = &mut state.store;
    let mut lines = VecDeque::new();
    let mut over = false;
    let seen = match version.filter(|_| !query.initial_events) {
        Some(version) if version > 0 => {
            if version < store.oldest {
                let message = format!("too old resource version: {version} ({})", store.oldest);
                lines.push_back(line("ERROR", Failure::expired(message).body()));
                over = true;
            }
            version
        }
        // With version 0 the client does not want to know where the present state ends, unless it says so.
        version => {
            let all = store.of(resource).objects.iter();
            let all = all.filter(|(key, object)| fits(&place, &query, key, object));
            lines.extend(all.map(|(_, object)| line("ADDED", object)));
            if query.bookmarks && (query.initial_events || version.is_none()) {
                let mut mark = empty(resource, store.version);
                mark["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
                lines.push_back(line("BOOKMARK", &mark));
            }
            store.version
        }
    };
    let now = state.clock.now();
    let watch = Watch {
        api: api.clone(),
        resource,
        place,
        seen,
        first: last_version(&mut state.store, resource),
        cuts: state.cuts,
        end: query.timeout.map(|seconds| now + Duration::from_secs(seconds)),
        next_bookmark: now + BOOKMARKS_EVERY,
        lines,
        over,
        complained: false,
        waiter: api.waiter(),
        query,
    };
    let lines = stream::unfold(watch, |mut watch| async { Some((watch.next().await?, watch)) });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response())
}

impl Watch {
    /// The next line, the error that breaks the connection, or the end.
    async fn next(&mut self) -> Option<io::Result<String>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(Ok(line));
            }
            if self.over {
                return None;
            }
            self.waiter.see();
            let (step, clock) = {
                let api = self.api.clone();
                let mut state = api.lock();
                (self.step(&mut state), state.clock)
            };
            match step {
                Step::Say(line) => return Some(Ok(line)),
                Step::End => return None,
                Step::Break => {
                    self.over = true;
                    // What was said before goes out first.
                    yield_now().await;
                    return Some(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Step::Wait => {
                    let last = self.end.map(|end| end.saturating_sub(LAST_BOOKMARK));
                    let times = [Some(self.next_bookmark), last, self.end];
                    let until =
                        times.into_iter().flatten().filter(|time| *time > clock.now()).min();
                    self.waiter.wait(clock, until).await;
                }
            }
        }
    }

    fn step(&mut self, state: &mut State) -> Step {
        if state.cuts > self.cuts {
            return match state.last_cut {
                Cut::Clean => Step::End,
                Cut::Reset => Step::Break,
            };
        }
        if state.faults.refuse.is_some() {
            return Step::End;
        }
        let fault = state.faults.watches;
        match fault {
            Some(BadWatch::Mute) => return Step::Wait,
            Some(BadWatch::Ends) => return Step::End,
            // Once is enough.
            Some(BadWatch::Error(_) | BadWatch::Garbage) if self.complained => return Step::Wait,
            Some(BadWatch::Error(code)) => {
                self.complained = true;
                return Step::Say(line("ERROR", Failure::trouble(code).body()));
            }
            Some(BadWatch::Garbage) => {
                self.complained = true;
                return Step::Say("{what is this}\n".into());
            }
            Some(BadWatch::Torn) | None => {}
        }
        while let Some(change) = after(&mut state.store, self.resource, self.seen) {
            self.seen = change.version;
            let Some(mut line) = event(self.resource, &self.place, &self.query, change) else {
                continue;
            };
            if fault.is_some() {
                line.truncate(line.len() / 2);
                self.over = true;
            }
            return Step::Say(line);
        }
        let now = state.clock.now();
        if self.end.is_some_and(|end| now >= end) {
            return Step::End;
        }
        if now >= self.next_bookmark {
            self.next_bookmark = now + BOOKMARKS_EVERY;
            return self.bookmark(&mut state.store);
        }
        if let Some(end) = self.end
            && now + LAST_BOOKMARK >= end
            && self.next_bookmark < end + BOOKMARKS_EVERY
        {
            self.next_bookmark = end + BOOKMARKS_EVERY;
            return self.bookmark(&mut state.store);
        }
        Step::Wait
    }

    /// There is none while nothing of the kind has changed.
    fn bookmark(&self, store: &mut Store) -> Step {
        let version = last_version(store, self.resource);
        if !self.query.bookmarks || version <= self.first {
            return Step::Wait;
        }
        Step::Say(line("BOOKMARK", &empty(self.resource, version)))
    }
}

/// The first change after a version.
fn after<'a>(
    store: &'a mut Store,
    resource: &'static Resource,
    version: u64,
) -> Option<&'a Change> {
    let log = &store.of(resource).log;
    log.get(log.partition_point(|change| change.version <= version))
}

fn last_version(store: &mut Store, resource: &'static Resource) -> u64 {
    store.of(resource).log.last().map_or(0, |change| change.version)
}

/// What a change looks like from inside a selection.
fn event(
    resource: &'static Resource,
    place: &Place,
    query: &Query,
    change: &Change,
) -> Option<String> {
    if change.before.is_none() && change.after.is_none() {
        return query.bookmarks.then(|| line("BOOKMARK", &empty(resource, change.version)));
    }
    let shown = |object: &&Arc<Value>| fits(place, query, &key_of(object), object);
    let (before, after) =
        (change.before.as_ref().filter(shown), change.after.as_ref().filter(shown));
    match (before, after) {
        (None, None) => None,
        (None, Some(after)) => Some(line("ADDED", after)),
        (Some(_), Some(after)) => Some(line("MODIFIED", after)),
        // The last state inside, with the version of the change that led out.
        (Some(before), None) => Some(line("DELETED", &at_version(before, change.version))),
    }
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

//! One kind of objects: list, watch, resume.
//!
//! kube's ready-made watcher says when a connection breaks, but not when the next one stands: until some object
//! changes, a recovered link looks like a dead one. Whether the tables are stale is what operators ask first, so the
//! same steps are written out here, over the client's plain list and watch:
//!
//! - A list goes out as one event when its last page has arrived (I12); one that breaks leaves no trace.
//! - A watch that ends or breaks is resumed from the last version seen; bookmarks keep that version young.
//! - A version that is too old (410, as status or as event) leads to a new list. Until it is complete, what is known
//!   stays.
//! - Every failure is followed by a pause ([`Backoff`]), of at least a second if the server throttles us (429). A watch that
//!   lived for a while ends the chain of failures.
//! - A kind that a gateway can do without may be unknown to the cluster, or not for us: that is said once.

use std::time::{Duration, SystemTime};

use futures::{Stream, StreamExt, pin_mut};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::{DeserializeGuard, Status};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{self, Instant};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::control::{Ended, Handle, Update};
use crate::object::{Kind, ObjectKey, ObjectName, Problem, Reason};
use crate::source::{Change, Event, Link};

/// Objects per page of a list.
const PAGE: u32 = 500;
/// The server ends a watch after this time, seconds; a silent one is dead a little later.
const WATCH_SECONDS: u32 = 60;
const WATCH_GRACE: Duration = Duration::from_secs(5);
/// A server that has accepted the connection may take this long to answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A watch that lived this long was no failure.
const LIVED: Duration = Duration::from_secs(5);
/// A version from the future (the cluster's store was restored from a backup) is watched in silence for ever. So many
/// watches in a row without a word end in a list, to be sure.
const SILENT_WATCHES: u32 = 10;
/// What API servers that throttle write into `Retry-After`, which kube does not hand on.
const THROTTLED: Duration = Duration::from_secs(1);
/// An outage is logged no more often.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// A kind that is not there is asked for again after this time: clusters are upgraded.
const ABSENT: Duration = Duration::from_secs(600);

/// A kind that can be followed.
pub(super) trait Followed:
    Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static
{
    const KIND: Kind;
    /// What is missed in a cluster without this kind; `None` for one that a gateway can't do without.
    const WITHOUT: Option<&'static str>;

    /// Parses an object.
    fn read(&self) -> Result<Change, Box<Problem>>;
}

/// Which objects of a kind are followed.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    pub(super) fields: Option<String>,
    pub(super) labels: Option<String>,
}

/// What went wrong, and whether a new list is due.
#[derive(Default)]
struct Failure {
    text: String,
    relist: bool,
    /// The server wants to be left alone for so long.
    respite: Duration,
    /// What was asked for is unknown there, or not for us.
    absent: bool,
}

/// Follows a kind until the control loop ends. `first` is dropped when its first list has arrived, or failed to.
pub(super) async fn follow<K: Followed>(
    client: Client,
    selection: Selection,
    handle: Handle,
    mut first: Option<mpsc::Sender<()>>,
) -> Result<(), Ended> {
    let mut follower = Follower::<K> {
        api: Api::all(client),
        selection,
        handle,
        backoff: Backoff::new(),
        heard: None,
        stale: true,
        logged: None,
    };
    loop {
        let listed = follower.list().await?;
        drop(first.take());
        match listed {
            Ok(version) => follower.watch(version).await?,
            Err(failure) => follower.fail(failure).await?,
        }
    }
}

struct Follower<K> {
    api: Api<DeserializeGuard<K>>,
    selection: Selection,
    handle: Handle,
    backoff: Backoff,
    /// When the server last said something.
    heard: Option<SystemTime>,
    stale: bool,
    logged: Option<Instant>,
}

impl<K: Followed> Follower<K> {
    /// Lists everything, sends it, and returns the version to watch from.
    async fn list(&mut self) -> Result<Result<String, Failure>, Ended> {
        let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
        let mut params = ListParams {
            field_selector: self.selection.fields.clone(),
            label_selector: self.selection.labels.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let version = loop {
            let page = match answer(self.api.list(&params)).await {
                Ok(page) => page,
                Err(failure) => return Ok(Err(failure)),
            };
            for object in page.items.iter().filter_map(read) {
                match object {
                    Ok(change) => objects.push(change),
                    Err((name, problem)) => unreadable.push((name, *problem)),
                }
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                break page.metadata.resource_version.unwrap_or_default();
            }
        };
        self.heard = Some(SystemTime::now());
        let kind = K::KIND;
        if kind == Kind::Node && objects.is_empty() && unreadable.is_empty() {
            warn!(
                "there is no Node named as services.nodeName says: what is configured of the node counts alone"
            );
        }
        self.send(Event::Reset { kind, objects, unreadable }).await?;
        Ok(Ok(version))
    }

    /// Watches from a version on, again and again, until a new list is due.
    async fn watch(&mut self, mut version: String) -> Result<(), Ended> {
        let mut params = WatchParams::default().timeout(WATCH_SECONDS);
        params.field_selector = self.selection.fields.clone();
        params.label_selector = self.selection.labels.clone();
        let mut silent = 0;
        while silent < SILENT_WATCHES {
            let before = version.clone();
            let started = Instant::now();
            let outcome = match answer(self.api.watch(&params, &version)).await {
                Ok(stream) => self.stream(stream, &mut version).await?,
                Err(failure) => Err(failure),
            };
            if started.elapsed() >= LIVED {
                self.backoff.reset();
            }
            silent = if outcome.is_ok() && version == before { silent + 1 } else { 0 };
            match outcome {
                // A server that ends watches as soon as they begin must not be hurried.
                Ok(()) if started.elapsed() < LIVED => time::sleep(self.backoff.pause()).await,
                Ok(()) => {}
                Err(Failure { relist: true, text, .. }) => {
                    info!(kind = K::KIND.name(), reason = text, "listing anew");
                    time::sleep(self.backoff.pause()).await;
                    return Ok(());
                }
                Err(failure) => self.fail(failure).await?,
            }
        }
        Ok(())
    }

    /// Takes in one watch until it ends.
    async fn stream(
        &mut self,
        stream: impl Stream<Item = kube::Result<WatchEvent<DeserializeGuard<K>>>>,
        version: &mut String,
    ) -> Result<Result<(), Failure>, Ended> {
        self.recover().await?;
        pin_mut!(stream);
        let silence = Duration::from_secs(u64::from(WATCH_SECONDS)) + WATCH_GRACE;
        loop {
            let event = match time::timeout(silence, stream.next()).await {
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(error))) => return Ok(Err(Failure::of(&error))),
                Ok(None) | Err(_) => return Ok(Ok(())),
            };
            self.heard = Some(SystemTime::now());
            let seen = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    self.apply(&object).await?;
                    object.meta().resource_version.clone()
                }
                WatchEvent::Deleted(object) => {
                    if let Some(key) = ObjectKey::of(K::KIND, object.meta()) {
                        self.send(Event::Delete(key)).await?;
                    }
                    object.meta().resource_version.clone()
                }
                WatchEvent::Bookmark(bookmark) => Some(bookmark.metadata.resource_version),
                WatchEvent::Error(status) => return Ok(Err(Failure::status(&status))),
            };
            if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
                *version = seen;
            }
        }
    }

    async fn apply(&self, object: &DeserializeGuard<K>) -> Result<(), Ended> {
        match read(object) {
            Some(Ok(change)) => self.send(Event::Apply(change)).await,
            Some(Err((name, problem))) => {
                self.send(Event::Unreadable(ObjectKey { kind: K::KIND, name }, *problem)).await
            }
            None => Ok(()),
        }
    }

    /// Says that changes arrive, if that is news.
    async fn recover(&mut self) -> Result<(), Ended> {
        self.heard = Some(SystemTime::now());
        if std::mem::take(&mut self.stale) {
            info!(kind = K::KIND.name(), "following the API server");
            self.logged = None;
            self.send(Event::Link(K::KIND, Link::Connected)).await?;
        }
        Ok(())
    }

    /// Says that changes no longer arrive, and waits before the next attempt.
    async fn fail(&mut self, failure: Failure) -> Result<(), Ended> {
        let error = failure.text;
        if let (Some(without), true, None) = (K::WITHOUT, failure.absent, self.heard) {
            if self.logged.is_none() {
                info!(kind = K::KIND.name(), error, "not to be had from the API server: {without}");
            }
            self.logged = Some(Instant::now());
            time::sleep(ABSENT).await;
            return Ok(());
        }
        self.stale = true;
        if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_EVERY) {
            self.logged = Some(Instant::now());
            warn!(
                kind = K::KIND.name(),
                error, "the API server can't be followed; the last tables stay"
            );
        }
        // Before the first word there is nothing that could be stale.
        if let Some(since) = self.heard {
            let link = Link::Stale { since, error };
            self.send(Event::Link(K::KIND, link)).await?;
        }
        time::sleep(self.backoff.pause().max(failure.respite)).await;
        Ok(())
    }

    async fn send(&self, event: Event) -> Result<(), Ended> {
        self.handle.send(Update::Object(event)).await
    }
}

/// An answer within a time.
async fn answer<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match time::timeout(ANSWER_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| Failure::of(&error)),
        Err(_) => {
            let text = format!("no answer within {ANSWER_TIMEOUT:?}");
            Err(Failure { text, ..Failure::default() })
        }
    }
}

impl Failure {
    fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::status(status),
            // What could not be read can't be resumed after: its version is unknown.
            kube::Error::SerdeError(_) => {
                Self { text: error.to_string(), relist: true, ..Self::default() }
            }
            _ => Self { text: with_causes(error), ..Self::default() },
        }
    }

    fn status(status: &Status) -> Self {
        let text = format!("{} {}: {}", status.code, status.reason, status.message);
        let respite = if status.code == 429 { THROTTLED } else { Duration::ZERO };
        let absent = matches!(status.code, 403 | 404);
        Self { text, relist: status.code == 410, respite, absent }
    }
}

/// The HTTP client's errors say little without their causes.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The object, or its name and why it can't be read at all; nothing for one without a name, which no API server has.
fn read<K: Followed>(
    object: &DeserializeGuard<K>,
) -> Option<Result<Change, (ObjectName, Box<Problem>)>> {
    let key = ObjectKey::of(K::KIND, object.meta())?;
    let name = key.name.clone();
    Some(match &object.0 {
        Ok(object) => object.read().map_err(|problem| (name, problem)),
        Err(invalid) => {
            let reason = Reason::Unreadable(invalid.error.clone());
            Err((name, Box::new(Problem::of(key, "", reason))))
        }
    })
}

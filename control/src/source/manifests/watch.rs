//! Noticing that manifests changed.
//!
//! The kernel says so at once, mostly; files on network volumes and folders that are replaced as a whole are found by
//! looking at names, sizes and times now and then.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{self, Instant};
use tracing::{info, warn};

use super::Manifests;
use crate::control::{Ended, Handle, Update};
use crate::object::Kind;
use crate::source::{Event, Link};

/// Half of a file may be whole YAML with less in it: how long it must rest while somebody has not closed it.
const WRITING: Duration = Duration::from_millis(50);
/// Files that change together come one after the other: how long nothing must happen once they are closed.
const TOGETHER: Duration = Duration::from_millis(5);
/// Whoever writes all the time is not waited for longer than this.
const RESTLESS: Duration = Duration::from_secs(1);
/// Time between two looks.
const POLL: Duration = Duration::from_secs(3);

/// Names, times and sizes: equal means that nothing needs to be read.
type Fingerprint = Vec<(PathBuf, Option<SystemTime>, u64)>;

/// Loads the manifests and sends what they say, now and whenever they change, until the control loop ends.
pub async fn run(mut manifests: Manifests, handle: Handle) -> Result<(), Ended> {
    let notice = Arc::new(Notice::default());
    let _watcher = watch(&manifests.path, &notice);
    let mut seen = None;
    let mut stale: Option<SystemTime> = None;
    let mut connected = false;
    loop {
        // Taken before reading: a change while reading differs from it and is read next time.
        let fingerprint = fingerprint(&manifests.path);
        if fingerprint != seen || seen.is_none() {
            // A large folder takes seconds to parse; meanwhile the control loop has other news.
            let load = move || {
                let loaded = manifests.load();
                (manifests, loaded)
            };
            let Ok((back, loaded)) = tokio::task::spawn_blocking(load).await else {
                return Err(Ended);
            };
            manifests = back;
            match loaded {
                Ok(events) => {
                    seen = fingerprint;
                    if !connected || stale.take().is_some() {
                        connected = true;
                        handle
                            .send(Update::Object(Event::Link(Kind::Service, Link::Connected)))
                            .await?;
                    }
                    if !events.is_empty() {
                        // A file may change a Service and its endpoints together.
                        handle.send(Update::Objects(events)).await?;
                    }
                }
                Err(error) => {
                    if stale.is_none() {
                        warn!(%error, "manifests can't be read; the last ones are served");
                    }
                    let since = *stale.get_or_insert_with(SystemTime::now);
                    let link = Link::Stale { since, error: error.to_string() };
                    handle.send(Update::Object(Event::Link(Kind::Service, link))).await?;
                }
            }
        }
        if time::timeout(POLL, notice.news.notified()).await.is_ok() {
            notice.rest().await;
            // A file may change twice in one tick of its clock.
            seen = None;
        }
    }
}

/// What the kernel says about files.
#[derive(Debug, Default)]
struct Notice {
    news: Notify,
    /// The last of the news was of a file that somebody still writes.
    writing: AtomicBool,
}

impl Notice {
    fn say(&self, writing: bool) {
        self.writing.store(writing, Ordering::Relaxed);
        self.news.notify_one();
    }

    /// Waits until what has begun to change has come to rest.
    async fn rest(&self) {
        let start = Instant::now();
        while start.elapsed() < RESTLESS {
            let rest = if self.writing.load(Ordering::Relaxed) { WRITING } else { TOGETHER };
            if time::timeout(rest, self.news.notified()).await.is_err() {
                return;
            }
        }
    }
}

/// Watches a folder, or the folder of a file: editors and ConfigMap volumes replace files by renaming.
fn watch(path: &Path, notice: &Arc<Notice>) -> Option<notify::RecommendedWatcher> {
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    let folder =
        folder.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?;
    let notice = notice.clone();
    let on_event = move |event: notify::Result<notify::Event>| {
        match event.map(|event| event.kind) {
            Ok(EventKind::Access(AccessKind::Close(AccessMode::Write))) => notice.say(false),
            // Reading a file is an event as well, but no change.
            Ok(EventKind::Access(_)) => {}
            Ok(EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_))) => notice.say(true),
            // Renamed, removed, or something was missed.
            _ => notice.say(false),
        }
    };
    let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(
            |error| info!(%error, "no notice of changes from the kernel: looking every {POLL:?}"),
        )
        .ok()
}

fn fingerprint(path: &Path) -> Option<Fingerprint> {
    let files = super::files_of(path).ok()?;
    let entry = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok();
        let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        (path, modified, metadata.map_or(0, |metadata| metadata.len()))
    };
    Some(files.into_iter().map(entry).collect())
}

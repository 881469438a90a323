//! Says findings to the API server, or to the log where there is none.
//!
//! Every gateway says what it finds; the Event names the one that speaks. An Event's name is made of what it says, so that
//! a process that starts anew finds the Event it has posted before, and counts on in its series.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use serde_json::json;
use tokio::time;
use tracing::{info, warn};

use super::ledger::Ledger;
use super::{Cause, Counters, Finding, findings};
use crate::backoff::Backoff;
use crate::control::{Ended, Handle, View};

/// Between two looks at the objects.
const LOOK: Duration = Duration::from_secs(1);
/// Findings that are remembered.
const MAX_FINDINGS: usize = 1000;
/// How long the API server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Who reports, as Kubernetes names controllers.
const CONTROLLER: &str = "vipgate.io/gateway";
/// What was tried, in the word that every Event needs.
const ACTION: &str = "Serve";

/// Where Events go.
#[derive(Clone)]
pub enum Sink {
    /// To an API server.
    Api {
        /// The way there.
        client: Client,
        /// The gateway that speaks.
        instance: String,
    },
    /// To the log; problems of objects are there already.
    Log,
}

/// What came of posting an Event.
enum Outcome {
    Posted,
    /// It would be refused again.
    Refused(String),
    /// Another time it may work.
    Failed(String),
}

/// Says what there is to say, until the control loop ends.
pub async fn run(sink: Sink, handle: Handle, counters: Arc<Counters>) -> Result<(), Ended> {
    let mut ledger = Ledger::new(Instant::now());
    let mut backoff = Backoff::new();
    let mut version = None;
    let mut surplus = 0;
    // Trouble with the API server is said once, until it is over.
    let mut troubled = false;
    loop {
        let look = move |view: &View<'_>| {
            let assembly = view.assembly;
            let now = Some(assembly.findings_version());
            let news = assembly.complete() && now != version;
            news.then(|| (now, findings(assembly, MAX_FINDINGS)))
        };
        if let Some((now, (found, more))) = handle.inspect(look).await? {
            version = now;
            counters.count_dropped(Cause::TooMany, more.saturating_sub(surplus));
            surplus = more;
            ledger.observe(found, Instant::now());
        }
        while let Some((finding, times)) = ledger.next(Instant::now()) {
            match sink.say(&finding, times).await {
                Outcome::Posted => {
                    counters.count_sent();
                    backoff.reset();
                    troubled = false;
                }
                Outcome::Refused(error) => {
                    counters.count_dropped(Cause::Refused, 1);
                    warn_once(&mut troubled, &error);
                }
                Outcome::Failed(error) => {
                    warn_once(&mut troubled, &error);
                    time::sleep(backoff.pause()).await;
                    // It keeps its place; meanwhile it may be over.
                    break;
                }
            }
            ledger.said(&finding, Instant::now());
        }
        time::sleep(LOOK).await;
    }
}

fn warn_once(troubled: &mut bool, error: &str) {
    if !std::mem::replace(troubled, true) {
        warn!(error, "Events can't be posted; vipgate_events_dropped counts those that are lost");
    }
}

impl Sink {
    /// To an API server, in the name of this node, or else of this host.
    #[must_use]
    pub fn api(client: Client, node_name: Option<&str>) -> Self {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let instance = node_name.map(Into::into).or_else(host).unwrap_or_default();
        let instance = match instance.trim() {
            "" => "vipgate".to_owned(),
            name => name.to_owned(),
        };
        Self::Api { client, instance }
    }

    async fn say(&self, finding: &Finding, times: u32) -> Outcome {
        match self {
            Self::Log => {
                if !finding.reason.is_logged() {
                    info!(reason = finding.reason.name(), "{}: {}", finding.about, finding.note);
                }
                Outcome::Posted
            }
            Self::Api { client, instance } => {
                let post = post(client.clone(), instance, finding, times);
                match time::timeout(ANSWER, post).await {
                    Ok(Ok(())) => Outcome::Posted,
                    Ok(Err(error)) => Outcome::of(&error),
                    Err(_) => Outcome::Failed(format!("no answer within {ANSWER:?}")),
                }
            }
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Api { .. } => "Api",
            Self::Log => "Log",
        })
    }
}

impl Outcome {
    fn of(error: &Error) -> Self {
        match error {
            Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
                Self::Refused(format!("{} {}: {}", status.code, status.reason, status.message))
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Posts an Event, or counts on in the one that is there.
async fn post(client: Client, instance: &str, finding: &Finding, times: u32) -> kube::Result<()> {
    let events: Api<Event> = Api::namespaced(client, finding.about.name.namespace());
    let name = name(instance, finding);
    if times > 1 {
        match count_on(&events, &name, times).await {
            // The API server has forgotten it.
            Err(Error::Api(status)) if status.code == 404 => {}
            other => return other,
        }
    }
    match events.create(&PostParams::default(), &event(name.clone(), instance, finding)).await {
        // From before this process.
        Err(Error::Api(status)) if status.code == 409 => count_on(&events, &name, 2).await,
        other => other.map(drop),
    }
}

async fn count_on(events: &Api<Event>, name: &str, times: u32) -> kube::Result<()> {
    let now = MicroTime(Timestamp::now());
    let series = json!({"series": {"count": times, "lastObservedTime": now}});
    events.patch(name, &PatchParams::default(), &Patch::Merge(series)).await.map(drop)
}

fn event(name: String, instance: &str, finding: &Finding) -> Event {
    let Finding { about, uid, reason, note } = finding;
    let namespace = Some(about.name.namespace().to_owned());
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(Timestamp::now())),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.chars().take(128).collect()),
        action: Some(ACTION.to_owned()),
        reason: Some(reason.name().to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(about.kind.api_version().to_owned()),
            kind: Some(about.kind.name().to_owned()),
            namespace,
            name: Some(about.name.name().to_owned()),
            uid: uid.as_deref().map(Into::into),
            ..ObjectReference::default()
        }),
        note: Some(note.clone()),
        type_: Some("Warning".to_owned()),
        ..Event::default()
    }
}

/// The object's name and a number made of all that is said and who says it.
fn name(instance: &str, finding: &Finding) -> String {
    // Without a random key: the next process must find it.
    let mut hasher = DefaultHasher::new();
    (instance, finding).hash(&mut hasher);
    // A name has at most 253 characters; what is left of a longer one must not end in a dot or dash.
    let object: String = finding.about.name.name().chars().take(230).collect();
    let object = object.trim_end_matches(['.', '-']);
    format!("{object}.{:016x}", hasher.finish())
}

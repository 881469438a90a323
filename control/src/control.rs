//! The control loop: one task that owns objects and tables, and everybody else's handle to it.
//!
//! Whoever has news sends an [`Update`]; whoever has a question sends it as a closure ([`Handle::inspect`]). So nothing
//! here is shared and nothing is locked.
//!
//! # When news are published
//!
//! At once, with all that waits by then. Nothing is gained by waiting for more: a change costs microseconds, and under
//! load the news that arrive while one table is made go together into the next, so that the loop never falls behind by
//! more than one table.
//!
//! One thing must be waited for: the other half of a move. Of an endpoint that goes from one slice to another the
//! departure may be heard of first, and a table between the two would lack it (EPS-8). What is sent in one go is in one
//! table anyway. Otherwise the [`Assembly`] knows which departures may be halves of moves and keeps just those Services as
//! they are, for some milliseconds or until the endpoint turns up. Everything else of a Service that may look like a
//! gap comes in one object, or in one go ([`Update::Objects`]).
//!
//! # When it is done
//!
//! When the last worker has the tables. Workers that are awake take them within microseconds, so the loop looks for their
//! acknowledgement right after publishing, for at most [`WATCH`]. One that sleeps is looked for every millisecond, and as
//! long as it sleeps nothing is watched.

use std::time::{Duration, SystemTime};

use dataplane::conntrack::state::Timeouts;
use dataplane::fib::{Fib, FibSpec};
use dataplane::tables::Node;
use ipnet::IpNet;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{self, Instant};
use tracing::{info, warn};

use crate::assembly::{Assembly, Sizes};
use crate::cluster::NodeFacts;
use crate::object::Problem;
use crate::publish::{Causes, Latency, TablesPublisher};
use crate::settings::Settings;
use crate::source::{Event, Link};

/// How long acknowledgements are watched for after publishing, at most: a worker's turn takes a tenth of it.
const WATCH: Duration = Duration::from_micros(50);
/// How often acknowledgements are looked for while some are awaited.
const ACKNOWLEDGE_POLL: Duration = Duration::from_millis(1);
/// How often retired values are freed and the status is refreshed otherwise.
const IDLE_POLL: Duration = Duration::from_secs(1);
/// Updates in flight: senders wait beyond that.
const QUEUE: usize = 1024;
/// Problems a status lists; the rest is only counted.
const MAX_PROBLEMS: usize = 100;

/// News for the tables.
pub enum Update {
    /// From an object source.
    Object(Event),
    /// From an object source: what must be seen together or not at all.
    Objects(Vec<Event>),
    /// Routes and neighbours, as a whole.
    Fib(FibSpec),
    /// The host's facts, as a whole: what settings don't know.
    Host(Node),
    /// Other settings are configured.
    Settings(Settings),
    /// What somebody who watches has found wrong with objects, as a whole: under a name of the watcher's own.
    Found(&'static str, Vec<Problem>),
    /// A question.
    Inspect(Question),
}

/// Runs on the control loop, with everything in view.
pub type Question = Box<dyn FnOnce(&View<'_>) + Send>;

/// What a question may look at.
#[derive(Debug)]
pub struct View<'a> {
    /// Objects and rows.
    pub assembly: &'a Assembly,
    /// Published tables and their figures.
    pub publisher: &'a TablesPublisher,
}

/// A sender of updates and reader of the status. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    updates: mpsc::Sender<Update>,
    status: watch::Receiver<Status>,
    latency: Latency,
}

/// The loop has ended: the process is going down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the control loop has ended")]
pub struct Ended;

/// Figures about the loop.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// How much news of any kind has been taken in: who looks at objects or tables need not look again before it grows.
    pub news: u64,
    /// Whether a complete list of all objects has been published.
    pub synced: bool,
    /// How much there is.
    #[serde(flatten)]
    pub sizes: Sizes,
    /// Number of the newest tables.
    pub generation: u64,
    /// The newest number that every worker has acknowledged.
    pub acknowledged: u64,
    /// Tables kept only because a worker still holds them.
    pub retired: usize,
    /// When an object event last arrived, in seconds since 1970.
    #[serde(serialize_with = "optional_seconds")]
    pub last_event: Option<SystemTime>,
    /// When tables were last published, in seconds since 1970.
    #[serde(serialize_with = "optional_seconds")]
    pub last_publish: Option<SystemTime>,
    /// What is in effect of the node that the configuration names.
    pub node: Option<NodeFacts>,
    /// Ranges of cluster IPs that are in effect.
    #[serde(rename = "serviceCIDRs")]
    pub service_cidrs: Vec<IpNet>,
    /// State of the object source.
    pub source: Link,
    /// What is wrong with the objects, or worth knowing; the first of them.
    pub problems: Vec<Problem>,
    /// How many problems there are.
    pub problem_count: usize,
}

/// The loop.
#[derive(Debug)]
pub struct Control {
    assembly: Assembly,
    publisher: TablesPublisher,
    updates: mpsc::Receiver<Update>,
    status: watch::Sender<Status>,
    fib: Option<FibSpec>,
    /// Once it is known.
    host: Option<Node>,
    host_is_news: bool,
    /// Updates taken that were no questions.
    news: u64,
    /// When the last round of forgetting retired frontends and endpoints was over.
    forgotten: Instant,
}

impl Control {
    /// A loop to run and a handle to it.
    #[must_use]
    pub fn new(assembly: Assembly, publisher: TablesPublisher) -> (Self, Handle) {
        let (sender, updates) = mpsc::channel(QUEUE);
        let (status, receiver) = watch::channel(Status::default());
        let latency = publisher.latency().clone();
        let handle = Handle { updates: sender, status: receiver, latency };
        let control = Self {
            assembly,
            publisher,
            updates,
            status,
            fib: None,
            host: None,
            host_is_news: false,
            news: 0,
            forgotten: Instant::now(),
        };
        (control, handle)
    }

    /// Runs until every handle is dropped.
    pub async fn run(mut self) {
        loop {
            match time::timeout_at(self.next_look(), self.updates.recv()).await {
                Ok(Some(update)) => self.take_all(update),
                Ok(None) => return,
                Err(_) => {}
            }
            self.publish();
            self.forget();
            self.report();
        }
    }

    /// When there is something to do even without news.
    fn next_look(&self) -> Instant {
        let poll = if self.publisher.awaits() { ACKNOWLEDGE_POLL } else { IDLE_POLL };
        let poll = Instant::now() + poll;
        self.assembly.due().map_or(poll, |due| poll.min(due.into()))
    }

    /// Takes in `first` and whatever waits behind it.
    fn take_all(&mut self, first: Update) {
        self.take(first);
        for _ in 1..QUEUE {
            let Ok(update) = self.updates.try_recv() else { break };
            self.take(update);
        }
    }

    /// Now and then: lets go of what is gone, once no connection to it can be left.
    fn forget(&mut self) {
        if self.forgotten.elapsed() < Timeouts::MAX {
            return;
        }
        match self.assembly.forget_retired() {
            Some(services) => self.publisher.set_services(services, Causes::default()),
            None => self.forgotten = Instant::now(),
        }
    }

    fn take(&mut self, update: Update) {
        self.news += u64::from(!matches!(update, Update::Inspect(_)));
        match update {
            Update::Object(event) => self.take_event(event),
            Update::Objects(events) => events.into_iter().for_each(|event| self.take_event(event)),
            // Compiled when it is published: of several only the last.
            Update::Fib(fib) => self.fib = Some(fib),
            Update::Host(host) => {
                self.host = Some(host);
                self.host_is_news = true;
            }
            Update::Settings(settings) => self.assembly.set_settings(settings),
            Update::Found(by, problems) => self.assembly.set_found(by, problems),
            Update::Inspect(question) => {
                question(&View { assembly: &self.assembly, publisher: &self.publisher });
            }
        }
    }

    fn take_event(&mut self, event: Event) {
        let now = SystemTime::now();
        self.status.send_modify(|status| status.last_event = Some(now));
        self.assembly.take(event, Instant::now().into_std());
    }

    /// Publishes what is due, and sees to what was published before.
    fn publish(&mut self) {
        if let Some((services, causes)) = self.assembly.build(Instant::now().into_std()) {
            self.publisher.set_services(services, causes);
        }
        self.settle_node();
        if let Some(fib) = self.fib.take() {
            self.publisher.set_fib(Fib::new(&fib));
        }
        let asleep = self.publisher.awaits();
        if self.publisher.publish() {
            let now = SystemTime::now();
            self.status.send_modify(|status| status.last_publish = Some(now));
            if !asleep {
                self.publisher.watch(WATCH);
            }
        }
        self.publisher.poll();
    }

    /// Puts together what host and settings say of this node, if either is new.
    fn settle_node(&mut self) {
        let settings_are_news = self.assembly.has_new_settings();
        let host_is_news = std::mem::take(&mut self.host_is_news);
        if settings_are_news {
            self.report_node();
        }
        if (settings_are_news || host_is_news)
            && let Some(host) = self.host.clone()
        {
            self.publisher.set_node(self.assembly.settings().node(host));
        }
    }

    fn report_node(&mut self) {
        let facts = self.assembly.node_facts();
        let service_cidrs = &self.assembly.settings().service_cidrs;
        self.status.send_modify(|status| {
            if let Some(facts) = &facts
                && status.node.as_ref().is_some_and(|former| former != facts)
            {
                info!("this node: {facts}");
            }
            status.node = facts;
            status.service_cidrs.clone_from(service_cidrs);
        });
    }

    fn report(&mut self) {
        let news = self.assembly.has_new_problems();
        let (assembly, publisher, taken) = (&self.assembly, &self.publisher, self.news);
        self.status.send_modify(|status| {
            status.news = taken;
            status.synced = assembly.complete();
            status.sizes = assembly.sizes();
            status.generation = publisher.generation();
            status.acknowledged = publisher.acknowledged();
            status.retired = publisher.retired();
            status.source = assembly.link();
            if news {
                let problems = assembly.problems().take(MAX_PROBLEMS).cloned().collect();
                let former = std::mem::replace(&mut status.problems, problems);
                status.problems.iter().filter(|problem| !former.contains(problem)).for_each(log);
                status.problem_count = assembly.problem_count();
            }
        });
    }
}

fn log(problem: &Problem) {
    if problem.reason.is_error() {
        warn!(reason = problem.reason.label(), "{problem}");
    } else {
        info!(reason = problem.reason.label(), "{problem}");
    }
}

impl Handle {
    /// Sends news; waits while the loop is behind.
    pub async fn send(&self, update: Update) -> Result<(), Ended> {
        self.updates.send(update).await.map_err(|_| Ended)
    }

    /// Asks the loop something and waits for the answer.
    pub async fn inspect<T: Send + 'static>(
        &self,
        question: impl FnOnce(&View<'_>) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let (answer, receiver) = oneshot::channel();
        let question: Question = Box::new(move |view| {
            // Nobody waits for the answer any more: nothing to do.
            let _ = answer.send(question(view));
        });
        self.send(Update::Inspect(question)).await?;
        receiver.await.map_err(|_| Ended)
    }

    /// The latest figures.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until the figures satisfy a condition.
    pub async fn wait_for(&self, condition: impl FnMut(&Status) -> bool) -> Result<Status, Ended> {
        let mut status = self.status.clone();
        status.wait_for(condition).await.map(|status| status.clone()).map_err(|_| Ended)
    }

    /// How long changes take.
    #[must_use]
    pub fn latency(&self) -> &Latency {
        &self.latency
    }
}

impl std::fmt::Debug for Update {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Object(_) => "Object",
            Self::Objects(_) => "Objects",
            Self::Fib(_) => "Fib",
            Self::Host(_) => "Host",
            Self::Settings(_) => "Settings",
            Self::Found(..) => "Found",
            Self::Inspect(_) => "Inspect",
        })
    }
}

fn optional_seconds<S: serde::Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => crate::source::seconds(time, serializer),
        None => serializer.serialize_none(),
    }
}

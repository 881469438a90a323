//! Publishing tables to the workers, and measuring how long they take to pick them up.
//!
//! Parts are replaced one by one and published together. A published value is done when the slowest worker has
//! acknowledged it; a worker that hangs delays the figures, never the next value.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use dataplane::fib::Fib;
use dataplane::service::ServiceTable;
use dataplane::snapshot::Publisher;
use dataplane::tables::{Node, Tables};
use k8s_openapi::jiff::Timestamp;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Published values whose acknowledgement is awaited; beyond that the oldest go unmeasured.
const MAX_AWAITED: usize = 1024;

/// Owner of what workers read.
pub struct TablesPublisher {
    publisher: Publisher<Tables>,
    tables: Tables,
    staged: bool,
    causes: Causes,
    awaited: VecDeque<Awaited>,
    latency: Latency,
    started: SystemTime,
}

/// What led to a change of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    /// When the oldest event of it arrived here.
    pub arrived: Option<Instant>,
    /// Instants named by the objects.
    pub triggers: Vec<Timestamp>,
}

impl Causes {
    /// Both these and others.
    pub fn join(&mut self, other: Self) {
        self.arrived = self.arrived.into_iter().chain(other.arrived).min();
        self.triggers.extend(other.triggers);
    }
}

#[derive(Debug)]
struct Awaited {
    version: u64,
    published: Instant,
    causes: Causes,
}

/// How long changes take. Clones share their counts.
#[derive(Clone, Debug)]
pub struct Latency {
    /// From the instant an object names as its cause to the last worker, in seconds: the buckets of kube-proxy's
    /// network_programming_duration_seconds.
    pub programming: Histogram,
    /// From the arrival of an event here to the last worker, in seconds.
    pub event: Histogram,
    /// From publishing to the last worker, in seconds.
    pub acknowledge: Histogram,
}

impl Default for Latency {
    fn default() -> Self {
        let steps =
            |from: u32, step: u32, to: u32| (from..=to).step_by(step as usize).map(f64::from);
        let programming = [0.25, 0.5].into_iter();
        let programming =
            programming.chain(steps(1, 1, 59)).chain(steps(60, 5, 115)).chain(steps(120, 30, 300));
        Self {
            programming: Histogram::new(programming),
            event: Histogram::new(exponential_buckets(0.000_1, 2.0, 18)),
            acknowledge: Histogram::new(exponential_buckets(0.000_001, 2.0, 24)),
        }
    }
}

impl TablesPublisher {
    /// A publisher whose readers hold `first`.
    #[must_use]
    pub fn new(publisher: Publisher<Tables>, first: Tables) -> Self {
        Self {
            publisher,
            tables: first,
            staged: false,
            causes: Causes::default(),
            awaited: VecDeque::new(),
            latency: Latency::default(),
            started: SystemTime::now(),
        }
    }

    /// Replaces the service table in the next published value.
    pub fn set_services(&mut self, services: ServiceTable, causes: Causes) {
        self.tables.services = services;
        self.causes.join(causes);
        self.staged = true;
    }

    /// Replaces routes and neighbours in the next published value.
    pub fn set_fib(&mut self, fib: Fib) {
        self.tables.fib = Arc::new(fib);
        self.staged = true;
    }

    /// Replaces the node's facts in the next published value, if they differ.
    pub fn set_node(&mut self, node: Node) {
        if *self.tables.node != node {
            self.tables.node = Arc::new(node);
            self.staged = true;
        }
    }

    /// Publishes what was replaced; returns whether there was anything.
    pub fn publish(&mut self) -> bool {
        if !std::mem::take(&mut self.staged) {
            return false;
        }
        let causes = std::mem::take(&mut self.causes);
        let version = self.publisher.publish(self.tables.clone());
        if self.awaited.len() == MAX_AWAITED {
            self.awaited.pop_front();
        }
        self.awaited.push_back(Awaited { version, published: Instant::now(), causes });
        true
    }

    /// Waits for every worker to have the newest value, for at most `limit`.
    pub fn watch(&mut self, limit: Duration) {
        let start = Instant::now();
        while self.publisher.acknowledged() < self.publisher.version() && start.elapsed() < limit {
            // A worker may have only this core to run on.
            std::thread::yield_now();
        }
        self.poll();
    }

    /// Measures what has been acknowledged by now and frees retired values.
    pub fn poll(&mut self) {
        let acknowledged = self.publisher.acknowledged();
        while self.awaited.front().is_some_and(|awaited| awaited.version <= acknowledged) {
            if let Some(done) = self.awaited.pop_front() {
                self.measure(&done);
            }
        }
        self.publisher.reclaim();
    }

    /// Whether some worker has not acknowledged the newest value yet.
    #[must_use]
    pub fn awaits(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// What workers decide with, or will at their next burst.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Number of the newest value.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.publisher.version()
    }

    /// The newest number that every worker has acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.publisher.acknowledged().min(self.publisher.version())
    }

    /// Values kept only because a worker still holds them.
    #[must_use]
    pub fn retired(&self) -> usize {
        self.publisher.retired()
    }

    /// How long changes take.
    #[must_use]
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    fn measure(&self, done: &Awaited) {
        self.latency.acknowledge.observe(done.published.elapsed().as_secs_f64());
        if let Some(arrived) = done.causes.arrived {
            self.latency.event.observe(arrived.elapsed().as_secs_f64());
        }
        let now = SystemTime::now();
        for trigger in &done.causes.triggers {
            let trigger = SystemTime::from(*trigger);
            // EPS-12: what happened before this process started says nothing about it. Clocks may differ.
            if trigger >= self.started {
                let took = now.duration_since(trigger).unwrap_or(Duration::ZERO);
                self.latency.programming.observe(took.as_secs_f64());
            }
        }
    }
}

impl fmt::Debug for TablesPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { publisher, awaited, .. } = self;
        f.debug_struct("TablesPublisher")
            .field("publisher", publisher)
            .field("awaited", &awaited.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use dataplane::fib::FibSpec;
    use dataplane::hash::HashKey;
    use dataplane::snapshot;
    use prometheus_client::registry::Registry;

    use super::*;

    fn counts(latency: &Latency) -> [u64; 3] {
        let mut registry = Registry::default();
        registry.register("programming", "", latency.programming.clone());
        registry.register("event", "", latency.event.clone());
        registry.register("acknowledge", "", latency.acknowledge.clone());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        ["programming", "event", "acknowledge"].map(|name| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}_count ")));
            line.expect("counted").parse().expect("a number")
        })
    }

    #[test]
    fn a_change_is_measured_once_the_last_worker_has_it() {
        let first = Tables {
            services: ServiceTable::new(HashKey::new(1)),
            fib: Arc::new(Fib::new(&FibSpec::default())),
            node: Arc::default(),
        };
        let (publisher, mut readers) = snapshot::channel(first.clone(), 2);
        let mut publisher = TablesPublisher::new(publisher, first);
        assert!(!publisher.publish(), "nothing to publish");
        publisher.set_node(Node::default());
        assert!(!publisher.publish(), "an equal part is no news");

        let now = Timestamp::now();
        let long_ago = Timestamp::from_second(0).expect("in range");
        let causes = Causes { arrived: Some(Instant::now()), triggers: vec![now, long_ago] };
        publisher.set_services(ServiceTable::new(HashKey::new(1)), causes);
        assert!(publisher.publish());
        assert_eq!((publisher.generation(), publisher.acknowledged()), (2, 1));
        readers[0].refresh();
        publisher.poll();
        assert!(publisher.awaits());
        assert_eq!(counts(publisher.latency()), [0, 0, 0]);
        readers[1].refresh();
        publisher.poll();
        assert!(!publisher.awaits());
        assert_eq!((publisher.acknowledged(), publisher.retired()), (2, 0));
        // EPS-12: the instant before the start does not count.
        assert_eq!(counts(publisher.latency()), [1, 1, 1]);
    }
}

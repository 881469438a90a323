//! What workers have counted for Services: for status and metrics, and for the warning about one-way connections.
//!
//! Workers count by row, and which rows there are the control loop knows: it is asked. Without its answer there are no
//! figures, and everything else is told all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::service::tally::{Count, Counts, Place, Tallies};
use dataplane::verdict::DropReason;
use tokio::time::timeout;

use super::{ANSWER, Admin};
use crate::control::{Update, View};
use crate::object::{Kind, ObjectKey, ObjectName, Problem, Reason};

/// Services with series of their own on `/metrics`; what others count is one more.
pub(super) const SERIES: usize = 1000;
/// For how long a Service is said to have one-way connections after the last one.
const LATELY: Duration = Duration::from_secs(600);

/// Counts of first packets that were turned away, and their names: those of drops where there is one.
pub(super) const REFUSALS: [(Count, &str); 4] = [
    (Count::NoEndpoints, "no_endpoints"),
    (Count::NoLocalEndpointInternal, DropReason::NoLocalEndpointInternal.name()),
    (Count::NoLocalEndpointExternal, DropReason::NoLocalEndpointExternal.name()),
    (Count::SourceNotAllowed, DropReason::SourceNotAllowed.name()),
];

/// Counts by Service (`namespace/name`), of those that have any.
pub(super) type Traffic = BTreeMap<Arc<str>, Counts>;

/// What all workers have counted for a row.
pub(super) fn sum(tallies: &[Arc<Tallies>], place: Place) -> Counts {
    let mut sum = Counts::default();
    tallies.iter().for_each(|worker| add(&mut sum, &worker.read(place)));
    sum
}

/// First packets turned away, whatever the reason.
pub(super) fn refused(counts: &Counts) -> u64 {
    REFUSALS.iter().map(|(count, _)| counts[*count as usize]).sum()
}

fn of(view: &View<'_>, tallies: &[Arc<Tallies>]) -> Traffic {
    let mut traffic = Traffic::new();
    for (service, _, place) in view.assembly.writer().places() {
        let counts = sum(tallies, place);
        if counts != Counts::default() {
            add(traffic.entry(service.clone()).or_default(), &counts);
        }
    }
    traffic
}

fn add(sum: &mut Counts, counts: &Counts) {
    sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}

/// The Services that have series of their own. Whoever has one keeps it: a series that came and went with others'
/// traffic would be of no use.
#[derive(Debug, Default)]
pub(super) struct Series {
    own: BTreeSet<Arc<str>>,
    /// By Service, as last read.
    shown: Traffic,
    /// All others'.
    rest: Counts,
}

impl Series {
    fn take(&mut self, traffic: Traffic) {
        self.hide();
        self.own.retain(|service| traffic.contains_key(service));
        for (service, counts) in traffic {
            if self.own.len() < SERIES || self.own.contains(&service) {
                self.own.insert(service.clone());
                self.shown.insert(service, counts);
            } else {
                add(&mut self.rest, &counts);
            }
        }
    }

    /// Nothing was read: nothing is shown, and who has series keeps them.
    fn hide(&mut self) {
        self.shown.clear();
        self.rest = Counts::default();
    }

    /// Namespace and name of Services with their counts.
    pub(super) fn rows(&self) -> impl Iterator<Item = ([String; 2], Counts)> {
        let shown = self.shown.iter().map(|(service, counts)| {
            let (namespace, name) = service.split_once('/').unwrap_or(("", service));
            ([namespace.to_owned(), name.to_owned()], *counts)
        });
        let rest = (self.rest != Counts::default()).then(|| {
            let overflow = "_overflow".to_owned();
            ([overflow.clone(), overflow], self.rest)
        });
        shown.chain(rest)
    }
}

/// Services on whose connections nothing came back lately.
#[derive(Debug, Default)]
pub(super) struct OneWay {
    /// Of all workers, when the Services were last asked for.
    total: u64,
    /// How many a Service has had, and since when.
    services: BTreeMap<Arc<str>, (u64, Instant)>,
    told: BTreeSet<Arc<str>>,
}

impl OneWay {
    /// The Services to tell of, if they are others than before.
    fn take(&mut self, traffic: &Traffic, now: Instant) -> Option<&BTreeSet<Arc<str>>> {
        self.services.retain(|service, _| traffic.contains_key(service));
        for (service, counts) in traffic {
            let count = counts[Count::OneWay as usize];
            let last = self.services.entry(service.clone()).or_insert((0, now));
            if count != last.0 {
                *last = (count, now);
            }
        }
        let lately = self.services.iter().filter(|(_, (count, since))| {
            *count > 0 && now.saturating_duration_since(*since) < LATELY
        });
        let lately: BTreeSet<Arc<str>> = lately.map(|(service, _)| service.clone()).collect();
        if lately == self.told {
            return None;
        }
        self.told = lately;
        Some(&self.told)
    }
}

impl Admin {
    /// The workers' counts, to take along to the control loop.
    pub(super) fn tallies(&self) -> Vec<Arc<Tallies>> {
        self.workers.iter().map(|worker| worker.tallies.clone()).collect()
    }

    async fn traffic(&self) -> Option<Traffic> {
        let tallies = self.tallies();
        let asked = self.control.inspect(move |view| of(view, &tallies));
        timeout(ANSWER, asked).await.ok()?.ok()
    }

    /// Reads what the next `/metrics` shows of Services.
    pub(super) async fn read_traffic(&self) {
        let traffic = self.traffic().await;
        let series = &mut self.seen().series;
        match traffic {
            Some(traffic) => series.take(traffic),
            None => series.hide(),
        }
    }

    /// Tells the control loop which Services have one-way connections, when that has changed.
    pub(super) async fn note_one_way(&self) {
        let total = self.workers.iter().map(|worker| worker.counters.conntrack.one_way.get()).sum();
        {
            let one_way = &self.seen().one_way;
            if total == one_way.total && one_way.told.is_empty() {
                return;
            }
        }
        let Some(traffic) = self.traffic().await else { return };
        let problems = {
            let one_way = &mut self.seen().one_way;
            one_way.total = total;
            let told = one_way.take(&traffic, Instant::now());
            told.map(|services| services.iter().filter_map(|service| problem(service)).collect())
        };
        if let Some(problems) = problems {
            // The loop ends only with the process.
            let _ = self.control.send(Update::Found("one-way connections", problems)).await;
        }
    }
}

fn problem(service: &str) -> Option<Problem> {
    let (namespace, name) = service.split_once('/')?;
    let object = ObjectKey { kind: Kind::Service, name: ObjectName::new(namespace, name) };
    Some(Problem::of(object, "", Reason::OneWay))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(counts: &[(&str, u64)]) -> Traffic {
        let counts = counts.iter().map(|(service, count)| {
            let mut counts = Counts::default();
            counts[Count::OneWay as usize] = *count;
            (Arc::from(*service), counts)
        });
        counts.collect()
    }

    #[test]
    fn a_service_is_told_of_once_and_until_it_has_been_quiet() {
        let (mut one_way, start) = (OneWay::default(), Instant::now());
        let mut take = |counts: &[(&str, u64)], seconds| {
            let told = one_way.take(&traffic(counts), start + Duration::from_secs(seconds));
            told.map(|services| services.iter().map(|name| name.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(take(&[("a/b", 0), ("a/c", 0)], 0), None);
        assert_eq!(take(&[("a/b", 1), ("a/c", 0)], 1), Some(vec!["a/b".to_owned()]));
        assert_eq!(take(&[("a/b", 2), ("a/c", 0)], 500), None);
        assert_eq!(take(&[("a/b", 2), ("a/c", 7)], 900), Some(vec!["a/b".into(), "a/c".into()]));
        assert_eq!(take(&[("a/b", 2), ("a/c", 7)], 1100), Some(vec!["a/c".to_owned()]));
        assert_eq!(take(&[("a/b", 2)], 1101), Some(vec![]), "it is gone");
    }

    #[test]
    fn series_are_bounded_and_keep_their_services() {
        let name = |number: usize| format!("ns/s{number:04}");
        let (mut series, mut all) = (Series::default(), Traffic::new());
        let names =
            |series: &Series| -> Vec<String> { series.rows().map(|([_, name], _)| name).collect() };
        for number in (0..SERIES).map(|number| number + 10) {
            all.extend(traffic(&[(&name(number), 1)]));
        }
        series.take(all.clone());
        let before = names(&series);
        assert_eq!(before.len(), SERIES);
        // They come first by name, but they came too late.
        all.extend(traffic(&[(&name(0), 3), (&name(1), 4)]));
        series.take(all.clone());
        let (last, rest) = series.rows().last().expect("there are many");
        assert_eq!((last, rest[Count::OneWay as usize]), (["_overflow"; 2].map(String::from), 7));
        assert_eq!(names(&series)[..SERIES], before[..]);
        // Nor when the control loop did not answer in between.
        series.hide();
        assert_eq!(names(&series).len(), 0);
        series.take(all.clone());
        assert_eq!(names(&series)[..SERIES], before[..]);
        // One goes, and one of the others takes its place.
        all.remove(&*name(10));
        series.take(all);
        assert_eq!(names(&series).len(), SERIES + 1);
        assert_eq!(names(&series)[0], "s0000");
    }
}

//! One change at a time: from the event handed to the control loop to the moment when the worker has its tables.

use std::time::{Duration, Instant};

use control::object::{Object, Slice};
use control::source::{Change, Event};
use tokio::time::sleep;

use super::super::Error;
use super::cluster::{Cluster, ENDPOINTS, FIRST, SECOND};
use super::load::check;
use super::random::Random;
use super::rig::Gateway;

/// Between two changes: long enough for the control loop to go to sleep.
const PAUSE: Duration = Duration::from_millis(1);
/// Longer than an endpoint is waited for.
const LONG: Duration = Duration::from_millis(30);

/// What happens to a Service.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// An endpoint goes.
    Removed,
    /// It comes back.
    Added,
    /// One goes and another comes, in one new version of the slice.
    Replaced,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Removed, Self::Added, Self::Replaced];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Added => "added",
            Self::Replaced => "replaced",
        }
    }
}

/// Microseconds of each of `count` changes of random Services.
pub(super) async fn times(
    gateway: &Gateway,
    cluster: &Cluster,
    kind: Kind,
    count: usize,
    random: &mut Random,
) -> Result<Vec<f64>, Error> {
    let mut times = Vec::new();
    while times.len() < count {
        let service = random.below(cluster.services);
        let gone = random.below(ENDPOINTS);
        let others: Vec<usize> = (0..ENDPOINTS).filter(|number| *number != gone).collect();
        let usual = cluster.slice(service);
        let without = cluster.slice_of(service, FIRST, others.iter().copied());
        let replaced = cluster.slice_of(service, FIRST, others.into_iter().chain([ENDPOINTS]));
        let steps = match kind {
            Kind::Removed => [(without, true), (usual, false)],
            Kind::Added => [(without, false), (usual, true)],
            Kind::Replaced => [(replaced, true), (usual, false)],
        };
        for (slice, timed) in steps {
            let took = change(gateway, slice).await?;
            if timed {
                times.push(took);
            }
            sleep(PAUSE).await;
        }
    }
    check(gateway, cluster.services, cluster.services * ENDPOINTS).await?;
    Ok(times)
}

/// Hands over a new version of a slice; microseconds until the worker has it.
async fn change(gateway: &Gateway, slice: Slice) -> Result<f64, Error> {
    let before = gateway.seen();
    let start = Instant::now();
    gateway.send(now(slice)).await?;
    let seen = gateway.newer_than(before).await?;
    Ok((seen - start).as_secs_f64() * 1e6)
}

fn now(slice: Slice) -> Event {
    Event::Apply(Change::of(Object::Slice(slice)))
}

/// What becomes of endpoints of Services with two slices.
#[derive(Clone, Debug, Default)]
pub(super) struct Moves {
    /// Tables published while an endpoint moved from one slice to the other, by move: each would be a gap.
    pub(super) published: Vec<f64>,
    /// Microseconds until an endpoint was gone that left one slice, not for the other.
    pub(super) departures: Vec<f64>,
}

/// Moves endpoints of random Services from one slice to another: two events with a pause between, the departure first.
pub(super) async fn moves(
    gateway: &Gateway,
    cluster: &Cluster,
    count: usize,
    random: &mut Random,
) -> Result<Moves, Error> {
    let mut moves = Moves::default();
    for _ in 0..count {
        let service = random.below(cluster.services);
        let gone = random.below(ENDPOINTS);
        let first = cluster.slice(service);
        let others = cluster.slice_of(service, FIRST, (0..ENDPOINTS).filter(|n| *n != gone));
        let second = |endpoints: Vec<usize>| cluster.slice_of(service, SECOND, endpoints);

        change(gateway, second(vec![ENDPOINTS])).await?;
        let before = gateway.handle.status().generation;
        gateway.send(now(others)).await?;
        sleep(PAUSE).await;
        gateway.send(now(second(vec![ENDPOINTS, gone]))).await?;
        sleep(LONG).await;
        moves.published.push((gateway.handle.status().generation - before) as f64);
        // Back again, with nothing to see, and then the second slice's own endpoint goes.
        gateway.send(now(first)).await?;
        moves.departures.push(change(gateway, second(vec![])).await?);
    }
    check(gateway, cluster.services, cluster.services * ENDPOINTS).await?;
    Ok(moves)
}

//! Ten thousand changes a second while clients talk: whether a packet is lost, and what the changes cost the others.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use control::object::Object;
use control::source::{Change, Event};
use dataplane::verdict::DropReason;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::super::Error;
use super::cluster::{Cluster, ENDPOINTS, FIRST};
use super::random::Random;
use super::rig::Gateway;
use super::traffic::Tally;

/// Changes a second.
pub(super) const RATE: u32 = 10_000;
/// New connections a second beside the established ones.
pub(super) const NEW_FLOWS: u32 = 50_000;
/// How long nothing may move before what is under way counts as lost.
const QUIET: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Changes applied a second.
    pub(super) rate: f64,
    /// Tables published.
    pub(super) published: u64,
    /// Microseconds from the moment a change was due to its tables at the worker, sorted.
    pub(super) lags: Vec<f64>,
    /// Nanoseconds of the worker a frame, without changes, in windows.
    pub(super) calm: Vec<f64>,
    /// The same under changes.
    pub(super) stormy: Vec<f64>,
    pub(super) tally: Tally,
    pub(super) reclassified: u64,
    /// Frames the worker dropped, by reason.
    pub(super) drops: Vec<(&'static str, u64)>,
}

/// Runs clients for `seconds` without changes, then as long with them.
pub(super) async fn run(
    gateway: &Gateway,
    cluster: &Cluster,
    seconds: u32,
    random: &mut Random,
) -> Result<Outcome, Error> {
    let worker = &gateway.worker;
    worker.talk.store(true, Ordering::Relaxed);
    // Everybody says hello first.
    sleep(Duration::from_millis(500)).await;
    let clock = Clock::start(gateway);
    let calm = clock.calm(seconds).await;

    let generation = gateway.handle.status().generation;
    let mut full = vec![true; cluster.services];
    let mut lags = Vec::new();
    let mut stormy = Vec::new();
    let start = Instant::now();
    let period = Duration::from_secs(1) / RATE;
    let mut window = Window::open(gateway);
    for number in 0..RATE * seconds {
        let due = start + period * number;
        let service = random.below(cluster.services);
        let gone = full[service].then(|| random.below(ENDPOINTS));
        let endpoints = (0..ENDPOINTS).filter(|number| Some(*number) != gone);
        let slice = cluster.slice_of(service, FIRST, endpoints);
        full[service] = !full[service];
        while Instant::now() < due {
            clock.allow_new_flows();
            yield_now().await;
        }
        let before = gateway.handle.status().generation;
        gateway.send(Event::Apply(Change::of(Object::Slice(slice)))).await?;
        let seen = gateway.newer_than(before).await?;
        lags.push(seen.saturating_duration_since(due).as_secs_f64() * 1e6);
        if number % (RATE / 10) == RATE / 10 - 1 {
            stormy.push(window.close(gateway));
            window = Window::open(gateway);
        }
    }
    let rate = f64::from(RATE * seconds) / start.elapsed().as_secs_f64();
    worker.talk.store(false, Ordering::Relaxed);
    let tally = settled(gateway).await;
    lags.sort_by(f64::total_cmp);
    Ok(Outcome {
        rate,
        published: gateway.handle.status().generation - generation,
        lags,
        calm,
        stormy,
        tally,
        reclassified: worker.counters.conntrack.reclassified.get(),
        drops: DropReason::ALL
            .into_iter()
            .map(|reason| (reason.name(), worker.counters.drops[reason as usize].get()))
            .filter(|(_, count)| *count > 0)
            .collect(),
    })
}

/// Lets new flows begin at their rate.
struct Clock<'a> {
    gateway: &'a Gateway,
    start: Instant,
}

impl<'a> Clock<'a> {
    fn start(gateway: &'a Gateway) -> Self {
        Self { gateway, start: Instant::now() }
    }

    fn allow_new_flows(&self) {
        let so_far = self.start.elapsed().as_micros() * u128::from(NEW_FLOWS) / 1_000_000;
        let so_far = u64::try_from(so_far).unwrap_or(u64::MAX);
        self.gateway.worker.new_flows.store(so_far, Ordering::Relaxed);
    }

    /// Costs a frame in tenths of a second without any change.
    async fn calm(&self, seconds: u32) -> Vec<f64> {
        let mut costs = Vec::new();
        for _ in 0..seconds * 10 {
            let window = Window::open(self.gateway);
            let end = Instant::now() + Duration::from_millis(100);
            while Instant::now() < end {
                self.allow_new_flows();
                yield_now().await;
            }
            costs.push(window.close(self.gateway));
        }
        costs
    }
}

/// The worker's time and frames between two moments.
struct Window {
    nanos: u64,
    frames: u64,
}

impl Window {
    fn open(gateway: &Gateway) -> Self {
        let worker = &gateway.worker;
        Self {
            nanos: worker.busy_nanos.load(Ordering::Relaxed),
            frames: worker.frames.load(Ordering::Relaxed),
        }
    }

    /// Nanoseconds a frame.
    fn close(&self, gateway: &Gateway) -> f64 {
        let Self { nanos, frames } = Self::open(gateway);
        (nanos - self.nanos) as f64 / (frames - self.frames).max(1) as f64
    }
}

/// The tally once nothing moves any more.
async fn settled(gateway: &Gateway) -> Tally {
    loop {
        let before = gateway.worker.frames.load(Ordering::Relaxed);
        sleep(QUIET).await;
        if gateway.worker.frames.load(Ordering::Relaxed) == before {
            return *gateway.worker.tally.lock().expect("nobody panics with the lock");
        }
    }
}

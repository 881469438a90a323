//! The `update` suite: from an endpoint's change to the last worker's acknowledgement.
//!
//! The control loop runs as in the process, on the first core; a real worker polls on the second. What is timed begins
//! with parsed objects in the control loop's hands; reading their text is timed apart.

mod change;
mod cluster;
mod load;
mod random;
mod rig;
mod storm;
mod traffic;

use std::time::Instant;

use control::settings::Settings;
use control::source::manifests::Manifests;

use super::{Error, Progress};
use crate::report::{Better, Measurement};
use change::Kind;
use cluster::{Cluster, ENDPOINTS};
use random::Random;
use rig::{Clients, Cores, Rig};
use traffic::Tally;

const SUITE: &str = "update";
/// Connections the worker has room for in the storm: all that begin in it.
const CONNECTIONS: usize = 1_000_000;
const ESTABLISHED: usize = 10_000;

/// How the `update` suite runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Fewer sizes and repetitions
    #[arg(long)]
    pub(crate) quick: bool,
}

/// Runs the suite.
pub(crate) fn run(options: &Options, progress: &Progress) -> Result<Vec<Measurement>, Error> {
    let cores = Cores::choose()?;
    // A thread of its own, because it stays on one core.
    let thread = std::thread::scope(|scope| {
        scope.spawn(|| Suite { cores, progress, results: Vec::new() }.run(options)).join()
    });
    thread.unwrap_or_else(|_| Err(Error("a step of the suite has panicked: see above".into())))
}

struct Suite<'a> {
    cores: Cores,
    progress: &'a Progress,
    results: Vec<Measurement>,
}

impl Suite<'_> {
    fn run(mut self, options: &Options) -> Result<Vec<Measurement>, Error> {
        let (sizes, repetitions, changes, seconds): (&[usize], _, _, _) = match options.quick {
            true => (&[10_000], 3, 50, 1),
            // The largest first: what it occupies is seen only in memory that was never used.
            false => (&[50_000, 10_000, 1_000], 5, 200, 5),
        };
        for &services in sizes {
            self.size(services, repetitions, changes)?;
        }
        self.storm(sizes[sizes.len() / 2], seconds)?;
        self.parse();
        Ok(self.results)
    }

    /// Loads, memory and single changes of a cluster of one size.
    fn size(&mut self, services: usize, repetitions: usize, changes: usize) -> Result<(), Error> {
        let cluster = Cluster::new(services);
        let case = |what: &str| format!("{what}/{services}x{ENDPOINTS}");
        let clients = Clients { services, established: 1 };

        self.progress.step(format!("first load of {services} Services"));
        let before = load::resident()?;
        let mut loads = Vec::new();
        let mut rig = Rig::start(self.cores, clients, 1)?;
        loads.push(rig.run(async |gateway| load::load(&gateway, &cluster).await)?);
        let occupied = load::resident()? - before;
        for _ in 1..repetitions.min(if services > 20_000 { 3 } else { repetitions }) {
            drop(rig);
            rig = Rig::start(self.cores, clients, 1)?;
            loads.push(rig.run(async |gateway| load::load(&gateway, &cluster).await)?);
        }
        let first = Measurement::new(SUITE, case("first-load"), "time", "s", Better::Less, loads);
        self.results.push(if services == 10_000 { first.target(1.0) } else { first });

        let mut random = Random(services as u64);
        for kind in Kind::ALL {
            self.progress.step(format!("an endpoint {} among {services} Services", kind.name()));
            let (mut medians, mut p99s) = (Vec::new(), Vec::new());
            for _ in 0..repetitions {
                let times = rig.run(async |gateway| {
                    change::times(&gateway, &cluster, kind, changes, &mut random).await
                });
                let mut times = times?;
                times.sort_by(f64::total_cmp);
                medians.push(quantile(&times, 0.5));
                p99s.push(quantile(&times, 0.99));
            }
            let case = case(&format!("one-change/{}", kind.name()));
            let median = Measurement::new(SUITE, case.clone(), "p50", "us", Better::Less, medians);
            self.results.push(match services {
                10_000 => median.target(100.0),
                50_000 => median.target(200.0),
                _ => median,
            });
            self.results.push(Measurement::new(SUITE, case, "p99", "us", Better::Less, p99s));
        }
        if services == 10_000 {
            self.progress.step("endpoints that move from slice to slice");
            let count = repetitions * 4;
            let moves = rig
                .run(async |gateway| change::moves(&gateway, &cluster, count, &mut random).await)?;
            let case = case("one-change/moved");
            let tables = moves.published;
            let gaps = Measurement::new(SUITE, case.clone(), "tables", "1", Better::Less, tables);
            self.results.push(gaps.target(0.0).note(
                "published between the two events of a move, a millisecond apart: each would show a gap",
            ));
            let late = moves.departures;
            let late = Measurement::new(SUITE, case, "departed", "us", Better::Less, late);
            self.results.push(late.note("not moved but gone, from one of two slices: waited for"));
        }
        if services == 50_000 {
            let memory = |metric: &str, value| {
                Measurement::new(SUITE, case("memory"), metric, "bytes", Better::Less, vec![value])
            };
            self.results.push(memory("resident", occupied).note("objects, indexes and tables"));
            self.results.push(memory("per_service", occupied / services as f64));
            self.results.push(memory("per_endpoint", occupied / (services * ENDPOINTS) as f64));
        }
        Ok(())
    }

    /// Changes without pause under traffic.
    fn storm(&mut self, services: usize, seconds: u32) -> Result<(), Error> {
        let cluster = Cluster::new(services);
        let rig =
            Rig::start(self.cores, Clients { services, established: ESTABLISHED }, CONNECTIONS)?;
        self.progress.step(format!("{} changes a second under traffic", storm::RATE));
        let mut random = Random(1);
        let outcome = rig.run(async |gateway| {
            load::load(&gateway, &cluster).await?;
            storm::run(&gateway, &cluster, seconds, &mut random).await
        })?;
        let storm::Outcome { rate, published, lags, calm, stormy, tally, reclassified, drops } =
            outcome;
        let Tally { sent, wrong, flows, .. } = tally;
        if flows < ESTABLISHED as u64 * 2 || reclassified == 0 || sent < 1_000_000 {
            let why = format!("the storm was none: {tally:?}, {reclassified} UDP flows moved");
            return Err(Error(why));
        }
        let case = format!("storm/{services}x{ENDPOINTS}");
        let mut add = |metric: &str, unit: &str, better, samples| {
            self.results.push(Measurement::new(SUITE, case.clone(), metric, unit, better, samples));
        };
        add("changes", "1/s", Better::More, vec![rate]);
        add("published", "1/s", Better::More, vec![published as f64 / f64::from(seconds)]);
        add("lag_p50", "us", Better::Less, vec![quantile(&lags, 0.5)]);
        add("lag_p99", "us", Better::Less, vec![quantile(&lags, 0.99)]);
        add("ns_per_packet_calm", "ns", Better::Less, calm.clone());
        add("ns_per_packet", "ns", Better::Less, stormy.clone());
        add("slowdown", "ratio", Better::Less, ratios(&stormy, &calm));
        // What is dropped never completes; what leaves wrong did not arrive either.
        let lost = vec![tally.lost() as f64];
        let loss = Measurement::new(SUITE, case, "lost", "packets", Better::Less, lost);
        let mut note =
            format!("of {sent} sent on {flows} connections; {reclassified} UDP flows moved");
        for (reason, count) in drops.iter().chain(&[("left wrong", wrong)]) {
            if *count > 0 {
                note += &format!("; {reason}: {count}");
            }
        }
        self.results.push(loss.target(0.0).note(note));
        Ok(())
    }

    /// Reading objects from text.
    fn parse(&mut self) {
        const SERVICES: usize = 1_000;
        self.progress.step("reading manifests");
        let text = Cluster::new(SERVICES).yaml();
        let times = (0..3).map(|_| {
            let start = Instant::now();
            let events = Manifests::new("-", &Settings::default()).load_text("-", &text);
            std::hint::black_box(events);
            start.elapsed().as_secs_f64() * 1e6 / SERVICES as f64
        });
        let case = format!("parse-yaml/{SERVICES}x{ENDPOINTS}");
        let times = times.collect();
        self.results.push(Measurement::new(SUITE, case, "per_service", "us", Better::Less, times));
    }
}

fn ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter().zip(to).map(|(a, b)| a / b).collect()
}

/// Of a sorted list.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let index = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[index]
}

//! From results to measurements: names, units, targets, and what a reader must know.

use hdrhistogram::Histogram;

use super::bench::{Conduct, Throughput};
use super::device::Name;
use super::generator::Direction;
use super::trial::Trial;
use crate::report::{Better, Measurement};

const SUITE: &str = "wire";
/// Shares of vipgate's zero-loss rate at which latencies are taken.
pub(super) const SHARES: [f64; 3] = [0.1, 0.5, 0.9];
/// Quantiles of latencies.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
/// What the project set itself: zero-loss rate as a share of testpmd's, up to so many connections.
const TARGETS: [(u32, f64); 2] = [(10_000, 0.90), (1_000_000, 0.75)];
/// And p99 at half of that rate, as a multiple of testpmd's.
const LATENCY_TARGET: f64 = 1.5;

/// Throughput of both devices in one case.
#[derive(Debug)]
pub(super) struct Series {
    direction: Direction,
    flows: u32,
    throughput: [Vec<Throughput>; 2],
    pub(super) conduct: Conduct,
}

impl Series {
    pub(super) fn new(direction: Direction, flows: u32) -> Self {
        Self { direction, flows, throughput: Default::default(), conduct: Conduct::default() }
    }

    pub(super) fn case(&self) -> String {
        let direction = match self.direction {
            Direction::Forward => "forward",
            Direction::Reply => "reply",
        };
        format!("{direction}/{}", short(self.flows))
    }

    pub(super) fn add(&mut self, name: Name, throughput: Throughput) {
        self.throughput[name as usize].push(throughput);
    }

    pub(super) fn last(&self, name: Name) -> Option<&Throughput> {
        self.throughput[name as usize].last()
    }

    /// The median of a device's zero-loss rates.
    pub(super) fn zero_loss(&self, name: Name) -> f64 {
        let rates = self.samples(name, |throughput| throughput.zero_loss);
        Measurement::new(SUITE, "", "", "", Better::More, rates).median()
    }

    pub(super) fn measurements(&self) -> Vec<Measurement> {
        let ratio = |of: fn(&Throughput) -> f64| {
            let [testpmd, vipgate] = Name::BOTH.map(|name| self.samples(name, of));
            vipgate.iter().zip(&testpmd).map(|(ours, theirs)| ours / theirs).collect::<Vec<f64>>()
        };
        let more = |metric, unit, samples| {
            Measurement::new(SUITE, self.case(), metric, unit, Better::More, samples)
        };
        let zero_loss = more("zero_loss_ratio", "ratio", ratio(|t| t.zero_loss)).note(self.note());
        let target = TARGETS.iter().find(|(flows, _)| self.flows <= *flows);
        let mut all = vec![
            match target {
                Some(&(_, limit)) if self.direction == Direction::Forward => {
                    zero_loss.target(limit)
                }
                _ => zero_loss,
            },
            more("overload_ratio", "ratio", ratio(|t| t.overload)),
            more("cycles_ratio", "ratio", ratio(|t| 1.0 / t.cycles))
                .note("testpmd's cycles a frame over vipgate's: what to expect where no generator is the limit"),
        ];
        for name in Name::BOTH {
            all.extend(self.of(name));
        }
        all
    }

    fn of(&self, name: Name) -> [Measurement; 5] {
        let case = format!("{}/{}", self.case(), name.text());
        let measured = |metric, unit, better, of: fn(&Throughput) -> f64| {
            Measurement::new(SUITE, case.clone(), metric, unit, better, self.samples(name, of))
        };
        [
            measured("zero_loss_rate", "Mpps", Better::More, |t| t.zero_loss / 1e6),
            measured("overload_rate", "Mpps", Better::More, |t| t.overload / 1e6)
                .note("frames that come back when the generator sends as many as it can"),
            measured("overload_cycles", "cycles", Better::Less, |t| t.cycles)
                .note("cycles of the device's core a frame then, polls that find none left out, as the device itself counts"),
            measured("overload_busy", "%", Better::Less, |t| t.busy * 100.0)
                .note("share of the device's core in use then: well below 100 the generator was the limit, not the device"),
            measured("longest_loss", "frames", Better::Less, |t| t.longest_gap as f64)
                .note("frames lost in a row at the lowest rate that was too much: at vhost, loss comes in bursts"),
        ]
    }

    fn samples(&self, name: Name, of: impl Fn(&Throughput) -> f64) -> Vec<f64> {
        self.throughput[name as usize].iter().map(of).collect()
    }

    fn note(&self) -> String {
        let Conduct { trials, void, losses } = &self.conduct;
        let bound = Name::BOTH.map(|name| {
            let all = &self.throughput[name as usize];
            let bound = all.iter().filter(|throughput| throughput.generator_bound).count();
            format!("{bound} of {} searches of {}", all.len(), name.text())
        });
        let losses: Vec<String> =
            losses.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let losses = if losses.is_empty() { "none".into() } else { losses.join(", ") };
        format!(
            "MLRsearch manner: short trials, a load holds when most of its trials lose nothing; likely higher than RFC \
             2544's. {void} of {trials} trials met another thread on one of the cores and were repeated while there was time. The \
             generator's own limit ended {}. Where vipgate's losses were counted: {losses}",
            bound.join(" and ")
        )
    }
}

/// Latencies of both devices in one case.
#[derive(Debug)]
pub(super) struct Quantiles {
    flows: u32,
    zero_loss: f64,
    hz: u64,
    /// By device, share, quantile: one value a repetition, in microseconds.
    samples: [[[Vec<f64>; QUANTILES.len()]; SHARES.len()]; 2],
    lost: [u64; 2],
}

impl Quantiles {
    pub(super) fn new(flows: u32, zero_loss: f64, hz: u64) -> Self {
        Self { flows, zero_loss, hz, samples: Default::default(), lost: [0; 2] }
    }

    /// A trial at the share of this number.
    pub(super) fn add(&mut self, name: Name, share: usize, trial: &Trial) {
        self.lost[name as usize] += trial.lost();
        let empty = Histogram::new(3).ok();
        let Some(latency) = trial.latency.as_ref().or(empty.as_ref()) else { return };
        let samples = &mut self.samples[name as usize][share];
        for (samples, (_, quantile)) in samples.iter_mut().zip(QUANTILES) {
            samples.push(latency.value_at_quantile(quantile) as f64 / self.hz as f64 * 1e6);
        }
    }

    pub(super) fn measurements(&self) -> Vec<Measurement> {
        let mut all = Vec::new();
        for (number, share) in SHARES.into_iter().enumerate() {
            let case = format!("latency/{}/{:.0}%", short(self.flows), share * 100.0);
            let [testpmd, vipgate] = Name::BOTH.map(|name| &self.samples[name as usize][number]);
            let ratios = vipgate[2].iter().zip(&testpmd[2]).map(|(ours, theirs)| ours / theirs);
            let ratio = Measurement::new(
                SUITE,
                case.clone(),
                "p99_ratio",
                "ratio",
                Better::Less,
                ratios.collect(),
            );
            let ratio = ratio.note(self.note(share));
            all.push(if share == 0.5 { ratio.target(LATENCY_TARGET) } else { ratio });
            for name in Name::BOTH {
                let samples = &self.samples[name as usize][number];
                for (samples, (metric, _)) in samples.iter().zip(QUANTILES) {
                    let case = format!("{case}/{}", name.text());
                    let samples = samples.clone();
                    all.push(Measurement::new(SUITE, case, metric, "us", Better::Less, samples));
                }
            }
        }
        all
    }

    fn note(&self, share: f64) -> String {
        let [testpmd, vipgate] = self.lost;
        format!(
            "both at {:.3} Mpps, evenly paced, from transmission to arrival at the generator, one frame in eight; lost \
             in all trials of this case: testpmd {testpmd}, vipgate {vipgate}",
            self.zero_loss * share / 1e6
        )
    }
}

/// 10k, 1M.
fn short(number: u32) -> String {
    match number {
        n if n >= 1_000_000 && n % 1_000_000 == 0 => format!("{}M", n / 1_000_000),
        n if n >= 1000 && n % 1000 == 0 => format!("{}k", n / 1000),
        n => n.to_string(),
    }
}

//! The `wire` suite: the real process with packets on a wire, beside testpmd on the same kind of wire.
//!
//! The generator plays clients and backends at the server's end of a vhost-user socket; `vipgate run` is at the other
//! end, with one port for both. `dpdk-testpmd` has a wire of its own, with the same arguments, and sends every frame
//! back with its MAC addresses swapped: so both devices receive and send each frame once, and the difference is what a
//! gateway does. The generator has one core and the device another. While one device is measured, the other is stopped.
//!
//! This file tells the story of a run. `bench.rs` knows how to measure, `generator.rs` is the inner loop, `figures.rs`
//! puts results into words.

mod bench;
mod cores;
mod device;
mod figures;
mod frames;
mod gateway;
mod generator;
mod lab;
mod opening;
mod options;
mod pace;
mod search;
mod testpmd;
#[cfg(test)]
mod tests;
mod trial;

use std::time::{Duration, Instant};

use super::{Error, Progress};
use crate::report::Measurement;
use bench::Bench;
use device::Name;
use figures::{Quantiles, Series};
use generator::{Direction, Load};
pub(crate) use options::Options;
use options::Settings;

/// After so long nothing is repeated; every case is measured at least once.
const ENOUGH: Duration = Duration::from_secs(120);

/// Runs the suite.
pub(crate) fn run(options: &Options, progress: &Progress) -> Result<Vec<Measurement>, Error> {
    let settings = options.settings()?;
    let cases = settings.connections.len() as u64 + 1;
    let timed = settings.connections.len() as u64 * 2;
    progress.steps(1 + (cases * 2 + timed) * u64::from(settings.repeats));
    progress.step("starting vipgate and testpmd");
    let begin = Instant::now();
    let bench = Bench::set_up(&settings, begin + ENOUGH)?;
    let mut run = Run { bench, settings: &settings, progress, begin };
    let mut measurements = Vec::new();
    for (number, &flows) in settings.connections.iter().enumerate() {
        run.bench.open(flows)?;
        let series = run.throughput(Direction::Forward, flows)?;
        measurements.extend(series.measurements());
        measurements.extend(run.latency(flows, series.zero_loss(Name::Vipgate))?);
        if number == 0 {
            measurements.extend(run.throughput(Direction::Reply, flows)?.measurements());
        }
    }
    run.bench.close()?;
    Ok(measurements)
}

/// A run under way.
struct Run<'a> {
    bench: Bench,
    settings: &'a Settings,
    progress: &'a Progress,
    begin: Instant,
}

impl Run<'_> {
    /// Overload and zero-loss rate of both devices, in turns.
    fn throughput(&mut self, direction: Direction, flows: u32) -> Result<Series, Error> {
        let Settings { goal, trial, .. } = *self.settings;
        let load = Load { direction, flows, rate: 0.0, seconds: trial, timed: false };
        let mut series = Series::new(direction, flows);
        self.bench.conduct();
        for repeat in 0..self.settings.repeats {
            for name in Name::BOTH {
                self.progress.step(format!("{} through {}", series.case(), name.text()));
                let known = series.last(name).map(|last| last.zero_loss);
                series.add(name, self.bench.throughput(name, load, goal, known)?);
            }
            if self.is_enough(repeat) {
                break;
            }
        }
        series.conduct = self.bench.conduct();
        Ok(series)
    }

    /// Latency of both devices at the same rates: shares of what vipgate forwards without loss.
    fn latency(&mut self, flows: u32, zero_loss: f64) -> Result<Vec<Measurement>, Error> {
        let mut quantiles = Quantiles::new(flows, zero_loss, self.bench.hz());
        for repeat in 0..self.settings.repeats {
            for name in Name::BOTH {
                self.progress
                    .step(format!("latency of {flows} connections through {}", name.text()));
                self.bench.turn_to(name)?;
                for (number, share) in figures::SHARES.into_iter().enumerate() {
                    let (direction, rate) = (Direction::Forward, zero_loss * share);
                    let seconds = self.settings.timed_trial;
                    let load = Load { direction, flows, rate, seconds, timed: true };
                    quantiles.add(name, number, &self.bench.trial(name, &load)?);
                }
            }
            if self.is_enough(repeat) {
                break;
            }
        }
        Ok(quantiles.measurements())
    }

    /// Whether there is no time for another repetition of a case.
    fn is_enough(&self, repeat: u32) -> bool {
        let steps = repeat + 1 < self.settings.repeats;
        steps && self.begin.elapsed() > ENOUGH
    }
}

//! Running the cases: fill the table, look at one ring byte by byte, then time.

use std::iter;
use std::time::Duration;

use dataplane::conntrack::ConntrackConfig;
use dataplane::stages::Stage;
use vipgate::dpdk::Mbuf;

use super::cases::{Case, Fill, LARGE_TABLE, NEW, SMALL_TABLE, Traffic};
use super::feed::Feed;
use super::report;
use super::{Error, Options, Progress};
use crate::bench::rig::bed::{Bed, Device};
use crate::bench::rig::fill::Filled;
use crate::bench::rig::floor::Floor;
use crate::bench::rig::gateway::{self, Gateway};
use crate::bench::rig::machine::{self, Machine};
use crate::bench::rig::network;
use crate::bench::rig::nic::RING;
use crate::bench::rig::tally::Tally;
use crate::bench::rig::times::Times;
use crate::report::Measurement;

/// Rings of packets a repetition.
const ROUNDS: usize = 512;
/// Of so many, one more goes before, untimed.
const WARM_UP: usize = 4;
/// What begins must not end while a case takes, in time that the worker sees.
const IDLE: Duration = Duration::from_secs(100);
const QUICK: (usize, u32) = (4, 3);

/// Cycles per packet, one value a repetition.
#[derive(Debug, Default)]
pub(super) struct Costs {
    pub(super) engine: Vec<f64>,
    /// Empty where the floor makes no sense.
    pub(super) floor: Vec<f64>,
    /// By stage of the engine's turns.
    pub(super) stages: [Vec<f64>; Stage::COUNT],
    /// The largest share of rounds that were interrupted.
    pub(super) interrupted: f64,
}

pub(super) fn run(
    cases: &[Case],
    options: &Options,
    progress: &Progress,
) -> Result<Vec<Measurement>, Error> {
    progress.steps(cases.len() as u64);
    let tables = tables(cases);
    let floor = tables.iter().map(|config| config.bytes().0.max(config.bytes().1)).max();
    let floor = floor.unwrap_or_default();
    let bytes = tables.iter().map(|config| config.bytes().0 + config.bytes().1).sum::<usize>();
    let machine = Machine::start(options.core, bytes + floor, RING)?;
    let (less, fewest) = if options.quick { QUICK } else { (1, u32::MAX) };
    let mut suite = Suite {
        machine: &machine,
        floor: Bed::floor(&machine, floor)?,
        ring: machine.frames(RING)?,
        rounds: ROUNDS / less,
        repetitions: options.repetitions.min(fewest),
    };
    let mut costs = Vec::new();
    for config in &tables {
        let cases = cases.iter().filter(|case| table(case) == *config);
        costs.extend(suite.table(config, cases, progress)?);
    }
    Ok(report::measurements(&costs, &machine))
}

/// The tables that the cases need, smallest first.
fn tables(cases: &[Case]) -> Vec<ConntrackConfig> {
    let mut tables: Vec<ConntrackConfig> = cases.iter().map(table).collect();
    tables.sort_by_key(|config| config.connections_v4);
    tables.dedup();
    tables
}

fn table(case: &Case) -> ConntrackConfig {
    let (connections_v4, connections_v6) = if case.fill.connections > SMALL_TABLE {
        (LARGE_TABLE, 1)
    } else {
        (SMALL_TABLE, SMALL_TABLE)
    };
    gateway::conntrack(connections_v4 as usize, connections_v6 as usize, IDLE)
}

struct Suite<'a> {
    machine: &'a Machine,
    floor: Bed<Floor>,
    ring: Vec<Mbuf>,
    rounds: usize,
    repetitions: u32,
}

impl Suite<'_> {
    /// All cases of one table.
    fn table<'a>(
        &mut self,
        config: &ConntrackConfig,
        cases: impl Iterator<Item = &'a Case>,
        progress: &Progress,
    ) -> Result<Vec<(&'a Case, Costs)>, Error> {
        let mut bed = None;
        let mut filled: Option<(Fill, Filled)> = None;
        let mut results = Vec::new();
        for case in cases {
            let name = case.name();
            progress.step(name.clone());
            let about = |error: Error| Error(format!("{name}: {error}"));
            let bed = match &mut bed {
                Some(bed) => bed,
                none => {
                    let tables = network::tables(case.fill.kind, case.fill.services);
                    none.insert(Bed::gateway(self.machine, config.clone(), tables)?)
                }
            };
            let open = match filled.take() {
                Some((fill, open)) if fill == case.fill => open,
                _ => self.fill(bed, &case.fill).map_err(about)?,
            };
            let lines = if case.fill.kind.v4 { config.bytes().0 } else { config.bytes().1 };
            self.floor.device.resize(lines);
            results.push((case, self.case(bed, case, &open).map_err(about)?));
            filled = Some((case.fill, open));
        }
        Ok(results)
    }

    fn fill(&mut self, bed: &mut Bed<Gateway>, fill: &Fill) -> Result<Filled, Error> {
        let Fill { kind, connections, services } = *fill;
        bed.clear()?;
        bed.publish(network::tables(kind, services));
        machine::clean(&mut self.ring);
        Filled::open(bed, &mut self.ring, kind, services, connections)
    }

    fn case(&mut self, bed: &mut Bed<Gateway>, case: &Case, open: &Filled) -> Result<Costs, Error> {
        let mut feed = Feed::new(case, open);
        machine::clean(&mut self.ring);
        feed.inspect(&mut self.ring, |ring| bed.round(case.port(), ring))?;
        let mut costs = Costs::default();
        // The first repetition only warms up.
        for repetition in 0..=self.repetitions {
            if case.traffic == Traffic::New {
                bed.clear()?;
                feed = Feed::new(case, open);
            }
            let engine = self.engine(bed, case, &mut feed)?;
            let stages = bed.stages();
            let floor = match case.is_established() {
                true => {
                    time(&mut self.floor, &mut self.ring, &mut feed, self.rounds / WARM_UP)?;
                    Some(time(&mut self.floor, &mut self.ring, &mut feed, self.rounds)?)
                }
                false => None,
            };
            if repetition > 0 {
                costs.engine.push(per_packet(&engine));
                for (costs, stage) in costs.stages.iter_mut().zip(stages) {
                    costs.push(stage);
                }
                costs.floor.extend(floor.as_ref().map(per_packet));
                for times in iter::once(engine).chain(floor) {
                    costs.interrupted = costs.interrupted.max(times.interrupted());
                }
            }
        }
        Ok(costs)
    }

    /// One repetition of the engine. The counters must say that every packet took the way the case is about.
    fn engine(
        &mut self,
        bed: &mut Bed<Gateway>,
        case: &Case,
        feed: &mut Feed<'_>,
    ) -> Result<Times, Error> {
        let rounds = match case.traffic {
            // Every packet takes a place in the table, a warm-up's too.
            Traffic::New => self.rounds.min(NEW as usize / RING),
            _ => {
                time(bed, &mut self.ring, feed, self.rounds / WARM_UP)?;
                self.rounds
            }
        };
        let before = bed.tally();
        bed.stages();
        let times = time(bed, &mut self.ring, feed, rounds)?;
        let happened = bed.tally().since(&before);
        let packets = (rounds * RING) as u64;
        let connections = happened.connections;
        let mut expected = Tally { received: packets, connections, ..Tally::NONE };
        match case.traffic.drop_reason() {
            Some(reason) => expected.drops[reason as usize] = packets,
            None => expected.forwarded = packets,
        }
        if case.traffic == Traffic::New {
            expected.created = packets;
        }
        happened.must_be(&expected)?;
        Ok(times)
    }
}

fn per_packet(times: &Times) -> f64 {
    times.mean() / RING as f64
}

fn time<D: Device>(
    bed: &mut Bed<D>,
    ring: &mut Vec<Mbuf>,
    feed: &mut Feed<'_>,
    rounds: usize,
) -> Result<Times, Error> {
    bed.rounds(feed.port(), ring, rounds, |ring| feed.write(ring))
}

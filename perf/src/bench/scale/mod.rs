//! The `scale` suite: two workers against one, and packets that change hands.
//!
//! Each worker has a thread and a core of its own, and so have its queues and its generator; see [`super::rig`]. A
//! round is one ring of frames for each: both threads write theirs, wait for each other, and are then polled at the same
//! time until all frames of both are sent. The cycles of all turns that found something count; writing, waiting and
//! collecting do not. A worker's rate is the packets of its own queue over these cycles, and two workers' rate is the
//! sum. Which worker owns a flow the gateway says itself, when it is opened: by whose queue it leaves.
//!
//! What this does not see: two workers get their packets in equal numbers, at the same time, so neither ever waits for
//! the other for long; a NIC that spreads badly costs more. Buffers are exchanged outside the measured time. And two
//! cores of a virtual machine may be one of the host's: what two floors are worth is told beside it.
//!
//! A frame that changes hands takes its buffer along: its owner's core fetches the buffer's descriptor and the headers
//! from the other core's cache. The generator adds nothing to that: it writes a buffer on the core that will receive it,
//! which is the core that sent it last. What the crossing alone costs is told by floors that hand over.

mod fleet;
mod race;

use std::ops::Range;

use core_affinity::CoreId;
use vipgate::dpdk::Mbuf;

use super::rig::bed::Bed;
use super::rig::floor::Floor;
use super::rig::machine::Machine;
use super::rig::nic::RING;
use super::{Error, Progress};
use crate::report::{Better, Measurement};
use fleet::Fleet;
use race::{Lane, race};

/// How the `scale` suite runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Repetitions of every case
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,

    /// The two cores to measure on [default: the last two]
    #[arg(long, value_name = "CORES", value_delimiter = ',', num_args = 2)]
    cores: Vec<usize>,

    /// A quarter of the packets, three repetitions, and only few connections
    #[arg(long)]
    quick: bool,
}

/// Connections of a worker.
const FEW: u32 = 10_000;
const MANY: u32 = 1_000_000;
/// Rounds a repetition; of so many, one more goes before, untimed.
const ROUNDS: usize = 400;
const WARM_UP: usize = 4;
/// The share of packets that arrive at the worker that does not own their connection goes up by so many steps.
const QUARTERS: usize = 4;
/// What two workers must be worth, and if every packet changes hands.
const SPEEDUP: f64 = 1.95;
const SPEEDUP_HANDED: f64 = 1.6;

/// Runs the suite.
pub(crate) fn run(options: &Options, progress: &Progress) -> Result<Vec<Measurement>, Error> {
    let cores = cores(&options.cores)?;
    let connections = if options.quick { vec![FEW] } else { vec![FEW, MANY] };
    progress.steps(connections.len() as u64);
    let table = fleet::table().bytes().0;
    // For each number of connections those of one worker and of two, since tables are never given back; and four floors.
    let tables = table * (3 * connections.len() + 4);
    let machine = Machine::start(Some(cores[0].id), tables + (1 << 20), 2 * RING)?;
    let mut floors = vec![Bed::floor(&machine, table)?, Bed::floor(&machine, table)?];
    let mut handing_floors = Bed::handing_floors(&machine, table)?;
    let mut rings = vec![machine.frames(RING)?, machine.frames(RING)?];
    let repetitions = if options.quick { options.repetitions.min(3) } else { options.repetitions };
    let mut told = Vec::new();
    for connections in connections {
        let case = if connections == FEW { "10k" } else { "1M" };
        progress.step(case);
        let mut suite = Suite {
            one: Fleet::open(&machine, &mut rings[0], 1, connections)?,
            two: Fleet::open(&machine, &mut rings[0], 2, connections)?,
            floors: &mut floors,
            handing_floors: &mut handing_floors,
            rings: &mut rings,
            rounds: if options.quick { ROUNDS / 4 } else { ROUNDS },
            cores,
        };
        told.extend(suite.run(repetitions)?.told(case, &machine));
    }
    Ok(machine.noted(told))
}

/// The cores asked for, or the last two.
fn cores(wanted: &[usize]) -> Result<[CoreId; 2], Error> {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    let chosen: Vec<CoreId> = if wanted.is_empty() {
        allowed.iter().rev().take(2).copied().collect()
    } else {
        allowed.iter().filter(|core| wanted.contains(&core.id)).copied().collect()
    };
    let ids: Vec<usize> = allowed.iter().map(|core| core.id).collect();
    <[CoreId; 2]>::try_from(chosen)
        .map_err(|_| Error(format!("two cores are needed, of those allowed: {ids:?}; see --cores")))
}

/// One number of connections.
struct Suite<'a> {
    one: Fleet,
    two: Fleet,
    floors: &'a mut [Bed<Floor>],
    handing_floors: &'a mut [Bed<Floor>],
    rings: &'a mut [Vec<Mbuf>],
    rounds: usize,
    cores: [CoreId; 2],
}

/// Packets per cycle, one value a repetition.
#[derive(Default)]
struct Rates {
    one: Vec<f64>,
    two: [Vec<f64>; QUARTERS + 1],
    one_floor: Vec<f64>,
    two_floors: Vec<f64>,
    handing_floors: Vec<f64>,
}

impl Suite<'_> {
    fn run(&mut self, repetitions: u32) -> Result<Rates, Error> {
        for quarters in 0..=QUARTERS {
            self.two(quarters, 1)?;
            self.rings.iter().try_for_each(|ring| self.two.judge(ring))?;
        }
        let mut rates = Rates::default();
        for _ in 0..repetitions {
            // Each core alone, since they need not be equally fast.
            rates.one.push(f64::midpoint(self.one(0)?, self.one(1)?));
            for quarters in 0..=QUARTERS {
                rates.two[quarters].push(self.two(quarters, self.rounds)?);
            }
            rates.one_floor.push(f64::midpoint(self.floors(0..1)?, self.floors(1..2)?));
            rates.two_floors.push(self.floors(0..2)?);
            rates.handing_floors.push(self.handing_floors()?);
        }
        Ok(rates)
    }

    /// One worker, on one of the cores.
    fn one(&mut self, core: usize) -> Result<f64, Error> {
        let (cores, rings) = (&self.cores[core..=core], &mut self.rings[core..=core]);
        self.one.race(rings, cores, 0, self.rounds)
    }

    /// Two workers.
    fn two(&mut self, quarters: usize, rounds: usize) -> Result<f64, Error> {
        self.two.race(self.rings, &self.cores, quarters, rounds)
    }

    /// Floors, on some of the cores.
    fn floors(&mut self, which: Range<usize>) -> Result<f64, Error> {
        let rings = self.rings[which.clone()].iter_mut();
        let lanes =
            which.clone().zip(&mut self.floors[which]).zip(rings).map(|((at, bed), ring)| {
                let packets = self.two.packets(at);
                Lane { bed, ring, core: self.cores[at], packets, handed_in: 0 }
            });
        race(lanes, self.rounds)
    }

    /// Two floors, each with the other's packets.
    fn handing_floors(&mut self) -> Result<f64, Error> {
        let beds = self.handing_floors.iter_mut().zip(self.rings.iter_mut());
        let lanes = beds.enumerate().map(|(at, (bed, ring))| {
            let packets = self.two.packets(at);
            Lane { bed, ring, core: self.cores[at], packets, handed_in: RING }
        });
        race(lanes, self.rounds)
    }
}

impl Rates {
    fn told(&self, case: &str, machine: &Machine) -> Vec<Measurement> {
        let million = |rates: &[f64]| rates.iter().map(|rate| rate * machine.hz() / 1e6).collect();
        let rate = |name: String, rates: &[f64]| {
            Measurement::new("scale", name, "rate", "Mpps", Better::More, million(rates))
        };
        let times = |name: String, two: &[f64], one: &[f64]| {
            let ratios = two.iter().zip(one).map(|(two, one)| two / one).collect();
            Measurement::new("scale", name, "times_one", "ratio", Better::More, ratios)
        };
        let mut told = vec![rate(format!("{case}/1-worker"), &self.one)];
        for (quarters, rates) in self.two.iter().enumerate() {
            let name = format!("{case}/2-workers/handed-over-{}", quarters * 100 / QUARTERS);
            told.push(rate(name.clone(), rates));
            let times = times(name, rates, &self.one);
            told.push(match quarters {
                0 => times.target(SPEEDUP),
                QUARTERS => times.target(SPEEDUP_HANDED),
                _ => times,
            });
        }
        let floors = times(format!("{case}/2-floors"), &self.two_floors, &self.one_floor);
        told.push(floors.note("what a second core of this machine is worth at the best"));
        let name = format!("{case}/2-floors/handed-over-100");
        told.push(rate(name.clone(), &self.handing_floors));
        let best =
            times(format!("{case}/2-workers/handed-over-100/at-best"), &self.at_best(), &self.one);
        told.push(best.note("if handing over cost workers no more than it costs those floors"));
        told
    }

    /// Two workers that hand everything over, if that cost a packet just what it costs floors.
    fn at_best(&self) -> Vec<f64> {
        let floors = self.one_floor.iter().zip(&self.handing_floors);
        let costs = floors.map(|(one, two)| 2.0 / two - 1.0 / one);
        self.one.iter().zip(costs).map(|(one, cost)| 2.0 / (1.0 / one + cost)).collect()
    }
}

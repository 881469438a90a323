//! The `connections` suite: how fast connections come and go, what one costs in memory, and what happens when there is
//! room for no more.
//!
//! The engine alone, in its worker, as in [`super::path`]. Time is an argument of the worker, so that a minute of idle
//! connections takes no minute here.

mod capacity;
mod flood;
mod setup;

use std::time::Duration;

use dataplane::conntrack::ConntrackConfig;
use vipgate::dpdk::Mbuf;

use super::rig::bed::Bed;
use super::rig::fill::Filled;
use super::rig::flows::Kind;
use super::rig::gateway::{self, Gateway};
use super::rig::machine::Machine;
use super::rig::network;
use super::rig::nic::RING;
use super::{Error, Progress};
use crate::report::{Better, Measurement};

/// How the `connections` suite runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Repetitions of every case
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,

    /// The core to measure on [default: the last one]
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,

    /// Three repetitions at most, and no table of ten million connections
    #[arg(long)]
    quick: bool,
}

/// Room for connections: the default, and what a worker must be able to hold.
const TABLE: u32 = 1_000_000;
const LARGE_TABLE: u32 = 10_000_000;
const SERVICES: u32 = 100;
/// How long a connection may idle that has only begun.
const BEGINNING: Duration = Duration::from_secs(2);
/// Memory that an IPv4 connection may take, both directions and the index included.
const BYTES: f64 = 128.0;

/// What all cases share.
struct Stand {
    /// Goes before the pool that it came from.
    ring: Vec<Mbuf>,
    machine: Machine,
    repetitions: u32,
}

impl Stand {
    /// Fails when a connection of those that are open is not known any more.
    fn must_know(&mut self, bed: &mut Bed<Gateway>, open: &Filled) -> Result<(), Error> {
        match open.lost(bed, &mut self.ring)? {
            0 => Ok(()),
            lost => Err(Error(format!("{lost} of {} connections were lost", open.connections()))),
        }
    }
}

/// Runs the suite.
pub(crate) fn run(options: &Options, progress: &Progress) -> Result<Vec<Measurement>, Error> {
    progress.steps(if options.quick { 6 } else { 7 });
    let (small, large) = (table(TABLE), table(LARGE_TABLE));
    let total = small.bytes().0 + if options.quick { 0 } else { large.bytes().0 };
    // The table of IPv6 is as small as can be, but not nothing.
    let machine = Machine::start(options.core, total + (1 << 20), RING)?;
    let ring = machine.frames(RING)?;
    let repetitions = if options.quick { options.repetitions.min(3) } else { options.repetitions };
    let mut stand = Stand { ring, machine, repetitions };
    let mut told = memory();
    let tables = network::tables(Kind::UDP4, SERVICES);
    let mut bed = Bed::gateway(&stand.machine, small, tables.clone())?;
    let begin = |case: String| {
        progress.step(case.clone());
        case
    };
    for kind in [Kind::UDP4, Kind::TCP4, Kind::UDP4.masqueraded()] {
        let case = begin(format!("setup/{}/half-full", name(kind)));
        told.extend(setup::come(&mut stand, &mut bed, kind, &case).map_err(about(&case))?);
    }
    let case = begin("churn/udp4".into());
    told.extend(setup::come_and_go(&mut stand, &mut bed, Kind::UDP4, &case).map_err(about(&case))?);
    let case = begin("flood/tcp4".into());
    told.extend(flood::run(&mut stand, &mut bed, &case).map_err(about(&case))?);
    let case = begin("full/tcp4/1M".into());
    told.extend(capacity::past(&mut stand, &mut bed, &case).map_err(about(&case))?);
    if !options.quick {
        let case = begin("capacity/tcp4/10M".into());
        let mut bed = Bed::gateway(&stand.machine, large, tables)?;
        told.extend(capacity::large(&mut stand, &mut bed, &case).map_err(about(&case))?);
    }
    Ok(stand.machine.noted(told))
}

/// `masquerade/udp4`.
fn name(kind: Kind) -> String {
    format!("{}{}", if kind.masquerade { "masquerade/" } else { "" }, kind.name())
}

/// Says in which case an error was.
fn about(case: &str) -> impl Fn(Error) -> Error {
    move |error| Error(format!("{case}: {error}"))
}

fn table(connections: u32) -> ConntrackConfig {
    gateway::conntrack(connections as usize, 1, BEGINNING)
}

/// What a table takes, per connection there is room for.
fn memory() -> Vec<Measurement> {
    let of = |case: &str, v4: u32, v6: u32| {
        let (bytes_v4, bytes_v6) = gateway::conntrack(v4 as usize, v6 as usize, BEGINNING).bytes();
        let bytes = if v4 > v6 { bytes_v4 } else { bytes_v6 };
        let each = bytes as f64 / f64::from(v4.max(v6));
        measurement(case, "bytes_per_connection", "bytes", Better::Less, vec![each])
    };
    vec![
        of("memory/ipv4/1M", TABLE, 1).target(BYTES),
        of("memory/ipv4/10M", LARGE_TABLE, 1).target(BYTES),
        of("memory/ipv6/1M", 1, TABLE),
    ]
}

fn measurement(
    case: &str,
    metric: &str,
    unit: &str,
    better: Better,
    samples: Vec<f64>,
) -> Measurement {
    Measurement::new("connections", case, metric, unit, better, samples)
}

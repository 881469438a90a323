//! The `path` suite: what one packet costs the engine, over real packet buffers, on one core.
//!
//! A worker of production between two queues that cost as little as a queue can; see [`super::rig`] for how it is timed
//! and what is left out. Beside it, on the same frames and in turn, the [`floor`](super::rig::floor): repetition for
//! repetition one after the other, so that a shared core's good and bad moments meet both.
//!
//! The connection table has the default size (a million), and is full in the cases of a million; those of ten million
//! have one of ten million.

mod cases;
mod feed;
mod report;
mod run;

use super::{Error, Progress};
use crate::report::Measurement;

/// How the `path` suite runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,

    /// Repetitions of every case
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,

    /// The core to measure on [default: the last one]
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,

    /// A quarter of the packets, three repetitions, no case of ten million connections
    #[arg(long)]
    quick: bool,
}

/// Runs the suite.
pub(crate) fn run(options: &Options, progress: &Progress) -> Result<Vec<Measurement>, Error> {
    let wanted = |case: &cases::Case| {
        let named = options.case.as_ref().is_none_or(|text| case.name().contains(text.as_str()));
        named && !(options.quick && case.fill.connections > cases::SMALL_TABLE)
    };
    let cases: Vec<_> = cases::all().into_iter().filter(wanted).collect();
    if cases.is_empty() {
        let text = options.case.as_deref().unwrap_or_default();
        return Err(Error(format!("--case {text}: no case has this in its name")));
    }
    run::run(&cases, options, progress)
}

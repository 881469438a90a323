//! The `connections` suite.

use super::{Error, Progress};
use crate::report::Measurement;

/// How the `connections` suite runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {}

/// Runs the suite.
pub(crate) fn run(_options: &Options, _progress: &Progress) -> Result<Vec<Measurement>, Error> {
    Ok(Vec::new())
}

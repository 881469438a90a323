//! The benchmark suites. Each is a folder with `Options` and `run`, and knows nothing of how its measurements are told.

pub(crate) mod connections;
pub(crate) mod kernel;
pub(crate) mod path;
pub(crate) mod scale;
pub(crate) mod update;
pub(crate) mod wire;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Why a suite could not run: a sentence that names what is missing and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(pub(crate) String);

/// The progress of one suite, on the terminal.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar for `steps` steps of a suite.
    pub(crate) fn new(suite: &'static str, steps: u64) -> Self {
        let bar = ProgressBar::new(steps).with_prefix(suite);
        let style =
            ProgressStyle::with_template("{prefix:12} {bar:30} {pos}/{len} {elapsed} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// The number of steps is known now.
    pub(crate) fn steps(&self, steps: u64) {
        self.0.set_length(steps);
    }

    /// A step begins; the one before is done.
    pub(crate) fn step(&self, what: impl Into<String>) {
        if !self.0.message().is_empty() {
            self.0.inc(1);
        }
        self.0.set_message(what.into());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

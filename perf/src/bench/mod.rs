//! The benchmark suites. Each is a folder with `Options` and `run`, and knows nothing of how its measurements are told.

pub(crate) mod connections;
pub(crate) mod kernel;
pub(crate) mod path;
mod process;
pub(crate) mod rig;
pub(crate) mod scale;
mod scrape;
pub(crate) mod update;
pub(crate) mod wire;

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A suite's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Suite {
    Path,
    Connections,
    Scale,
    Update,
    Kernel,
    Wire,
}

impl Suite {
    /// In the order in which `perf all` runs them: the engine alone first, the whole process last.
    pub(crate) const ALL: [Self; 6] =
        [Self::Path, Self::Connections, Self::Scale, Self::Update, Self::Kernel, Self::Wire];

    /// As on the command line and in measurements.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Connections => "connections",
            Self::Scale => "scale",
            Self::Update => "update",
            Self::Kernel => "kernel",
            Self::Wire => "wire",
        }
    }

    /// What it may take on a machine with two cores; all of them together stay below ten minutes.
    pub(crate) fn budget(self) -> Duration {
        Duration::from_secs(match self {
            Self::Path => 150,
            Self::Wire => 170,
            Self::Connections | Self::Scale | Self::Update | Self::Kernel => 60,
        })
    }
}

/// Why a suite could not run: a sentence that names what is missing and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(pub(crate) String);

/// The progress of one suite: a bar on a terminal, a line a step elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    suite: &'static str,
    bar: ProgressBar,
    terminal: bool,
}

impl Progress {
    /// A bar for `steps` steps of a suite.
    pub(crate) fn new(suite: &'static str, steps: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(steps) } else { ProgressBar::hidden() };
        bar.set_prefix(suite);
        if terminal {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let progress = Self { suite, bar, terminal };
        progress.steps(steps);
        progress
    }

    /// The number of steps is known now, unless it is 0.
    pub(crate) fn steps(&self, steps: u64) {
        self.bar.set_length(steps);
        let style = ProgressStyle::with_template(match steps {
            0 => "{prefix:12} {spinner} {elapsed} {wide_msg}",
            _ => "{prefix:12} {bar:30} {pos}/{len} {elapsed} {wide_msg}",
        });
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    }

    /// A step begins; the one before is done.
    pub(crate) fn step(&self, what: impl Into<String>) {
        if !self.bar.message().is_empty() {
            self.bar.inc(1);
        }
        let what = what.into();
        if !self.terminal {
            let at = self.bar.position() + 1;
            let of = match self.bar.length() {
                None | Some(0) => String::new(),
                Some(steps) => format!("/{steps}"),
            };
            eprintln!("{} {at}{of} {:.0?} {what}", self.suite, self.bar.elapsed());
        }
        self.bar.set_message(what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

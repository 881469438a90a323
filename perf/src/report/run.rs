//! One run: its measurements with all that a reader needs to judge them, and the file it is kept in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::Measurement;
use super::machine::{Before, Machine};

/// Changes whenever older programs could not read the file.
const FORMAT: u32 = 1;
/// A machine of which more was in use before the run is not quiet.
const BUSY_PERCENT: f64 = 10.0;
/// A hypervisor that took more than this of a suite's time has changed its figures.
const STOLEN_PERCENT: f64 = 1.0;

/// Everything about one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(super) format: u32,
    /// Of vipgate.
    pub(crate) version: String,
    pub(crate) commit: Commit,
    /// In UTC: `2026-01-31T12:00:00Z`.
    pub(crate) started: String,
    pub(crate) seconds: f64,
    pub(crate) machine: Machine,
    pub(crate) before: Before,
    pub(crate) suites: Vec<SuiteRun>,
    pub(crate) measurements: Vec<Measurement>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Commit {
    /// Empty if the source is not in a git repository any more.
    pub(crate) id: String,
    /// Whether the source differs from that commit.
    pub(crate) dirty: bool,
}

/// How one suite went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SuiteRun {
    pub(crate) suite: String,
    pub(crate) seconds: f64,
    /// How much of all CPUs' time the hypervisor took meanwhile.
    pub(crate) stolen_percent: f64,
    /// Its options with all their defaults.
    pub(crate) settings: String,
    /// Why it could not run.
    pub(crate) error: Option<String>,
}

/// Why a result can't be kept or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    #[error("{0}: {1}; is it a result of `perf`?")]
    Json(PathBuf, serde_json::Error),
    #[error("{0}: has format {1}, this program reads {FORMAT}: use the `perf` of that release")]
    Format(PathBuf, u32),
}

impl Run {
    /// A run that starts now, with nothing measured yet. Looks at the machine for half a second.
    pub(crate) fn begin() -> Self {
        let (commit, started) = (Commit::here(), utc());
        Self { commit, started, ..Self::empty(Machine::here(), Before::look()) }
    }

    pub(super) fn empty(machine: Machine, before: Before) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            commit: Commit { id: String::new(), dirty: false },
            started: String::new(),
            seconds: 0.0,
            machine,
            before,
            suites: Vec::new(),
            measurements: Vec::new(),
        }
    }

    /// Everything took so long.
    pub(crate) fn took(&mut self, start: Instant) {
        self.seconds = start.elapsed().as_secs_f64();
    }

    /// The folder of this run's results: `20260131T120000Z-0123456`.
    pub(crate) fn name(&self) -> String {
        let time: String = self.started.chars().filter(|c| !matches!(c, '-' | ':')).collect();
        format!("{time}-{}", self.commit.short())
    }

    /// What makes the figures doubtful.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.machine.build != "release" {
            warnings.push("this is not a release build: its figures say nothing".into());
        }
        let busy = self.before.busy_percent;
        if busy > BUSY_PERCENT {
            warnings.push(format!(
                "the machine was not quiet: {busy:.0} % of its CPUs were in use before the run"
            ));
        }
        for SuiteRun { suite, stolen_percent, .. } in &self.suites {
            if *stolen_percent > STOLEN_PERCENT {
                warnings.push(format!(
                    "the hypervisor took {stolen_percent:.1} % of the CPUs' time during `{suite}`"
                ));
            }
        }
        if self.commit.dirty {
            warnings.push(format!("the source differs from commit {}", self.commit.short()));
        }
        warnings
    }

    /// The suites that could not run, with the reason.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.suites.iter().filter_map(|run| Some((&*run.suite, run.error.as_deref()?)))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), FileError> {
        let json = serde_json::to_string_pretty(self);
        let json = json.map_err(|error| FileError::Json(path.into(), error))?;
        std::fs::write(path, json + "\n").map_err(|error| FileError::Io(path.into(), error))
    }

    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let json =
            std::fs::read_to_string(path).map_err(|error| FileError::Io(path.into(), error))?;
        let as_json = |error| FileError::Json(path.into(), error);
        let format = serde_json::from_str::<Format>(&json).map_err(as_json)?.format;
        if format != FORMAT {
            return Err(FileError::Format(path.into(), format));
        }
        serde_json::from_str(&json).map_err(as_json)
    }
}

/// What every format has in common.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Commit {
    /// Of the source that this program was built from.
    fn here() -> Self {
        let git = |arguments: &[&str]| {
            let folder = env!("CARGO_MANIFEST_DIR");
            let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let id = git(&["rev-parse", "HEAD"]).unwrap_or_default();
        let changes = git(&["status", "--porcelain"]).unwrap_or_default();
        Self { id: id.trim().into(), dirty: !changes.is_empty() }
    }

    pub(crate) fn short(&self) -> &str {
        self.id.get(..7).unwrap_or("unknown")
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.short(), if self.dirty { " with changes" } else { "" })
    }
}

/// The time, to seconds.
fn utc() -> String {
    let mut text = String::new();
    // Only a failing writer makes this fail, and a string does not.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text.truncate("2026-01-31T12:00:00".len());
    text + "Z"
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn a_run_survives_its_file() {
        let file = std::env::temp_dir().join(format!("vipgate-run-{}.json", std::process::id()));
        let run = fixtures::run();
        run.write(&file).expect("a file");
        assert_eq!(Run::read(&file).expect("a run"), run);
        std::fs::write(&file, "{\"format\": 99}").expect("a file");
        let error = Run::read(&file).expect_err("another format").to_string();
        assert!(error.contains("format 99"), "{error}");
        std::fs::write(&file, "[]").expect("a file");
        let error = Run::read(&file).expect_err("no run").to_string();
        assert!(error.contains("is it a result of `perf`?"), "{error}");
        std::fs::remove_file(&file).expect("a file");
    }

    #[test]
    fn folders_are_named_by_time_and_commit() {
        assert_eq!(fixtures::run().name(), "20260131T120000Z-0123456");
    }

    #[test]
    fn times_are_utc_to_seconds() {
        let now = utc();
        assert_eq!(now.len(), "2026-01-31T12:00:00Z".len(), "{now}");
        assert!(now.starts_with("20") && now.contains('T'), "{now}");
    }
}

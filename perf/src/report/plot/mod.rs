//! A run as pictures: SVG files beside its result. `choose.rs` decides which measurements make a picture; the rest
//! draws and knows nothing of suites.

mod bars;
mod choose;
mod lines;
mod style;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use super::run::{FileError, Run};
use super::{Better, Measurement};

/// One picture.
#[derive(Clone, Debug, PartialEq)]
struct Chart {
    /// Of the file, without extension.
    name: String,
    title: String,
    /// What the values are, with their unit and what is better.
    values: String,
    form: Form,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    /// Values over a quantity, which was measured at `ticks`.
    Lines { over: String, ticks: Vec<String>, series: Vec<Line> },
    /// Values side by side.
    Bars(Vec<Bar>),
}

/// Values of one kind over a quantity.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    name: String,
    /// Whether it is what others are held against.
    reference: bool,
    /// Each at the number of a tick.
    points: Vec<(usize, Value)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Bar {
    name: String,
    value: Value,
}

/// A measurement as far as it is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Value {
    median: f64,
    low: f64,
    high: f64,
    target: Option<f64>,
}

impl From<&Measurement> for Value {
    /// A single sample has no spread to draw.
    fn from(m: &Measurement) -> Self {
        let median = m.median();
        let least = m.samples.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = m.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = match m.spread() {
            spread if spread.kind != super::spread::Kind::Assumed => (spread.low, spread.high),
            _ => (least, greatest),
        };
        Self { median, low, high, target: m.target }
    }
}

/// Draws all that the run's measurements are good for into a folder; says which files.
pub(crate) fn draw(run: &Run, folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let below = caption(run);
    let mut files = Vec::new();
    for chart in choose::charts(&run.measurements) {
        let file = folder.join(format!("{}.svg", chart.name));
        let svg = chart.svg(&below).map_err(|error| {
            FileError::Io(file.clone(), std::io::Error::other(error.to_string()))
        })?;
        fs::write(&file, svg).map_err(|error| FileError::Io(file.clone(), error))?;
        files.push(file);
    }
    Ok(files)
}

impl Chart {
    fn svg(&self, caption: &str) -> Result<String, style::DrawError> {
        match &self.form {
            Form::Lines { over, ticks, series } => lines::draw(self, over, ticks, series, caption),
            Form::Bars(bars) => bars::draw(self, bars, caption),
        }
    }
}

/// What a picture alone must tell: whose figures these are.
fn caption(run: &Run) -> String {
    let Run { version, commit, machine, started, .. } = run;
    let day = started.split('T').next().unwrap_or_default();
    let (cpu, cores) = (&machine.cpu, machine.cores);
    format!(
        "vipgate {version}, commit {commit}, {cpu}, {cores} cores, {day}; whiskers: spread of the run"
    )
}

/// `cycles (less is better)`.
fn values(unit: &str, better: Better) -> String {
    let direction = match better {
        Better::Less => "less is better",
        Better::More => "more is better",
    };
    format!("{unit} ({direction})")
}

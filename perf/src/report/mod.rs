//! What benchmarks say: measurements with their samples, so that spread and ratios can be told from one file.
//!
//! Every suite returns [`Measurement`]s; nothing else knows how they are printed, kept, plotted or compared.

use serde::{Deserialize, Serialize};

/// One quantity, measured several times in one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// `path`, `wire`, `kernel`, `update`, `connections` or `scale`.
    pub(crate) suite: String,
    /// What was done, from general to special: `established/tcp4/10k/uniform`.
    pub(crate) case: String,
    /// What was measured: `cycles_per_packet`.
    pub(crate) metric: String,
    /// Its unit: `cycles`, `ns`, `us`, `s`, `Mpps`, `1/s`, `bytes`, `ratio`.
    pub(crate) unit: String,
    /// Whether more or less is better.
    pub(crate) better: Better,
    /// One value per repetition, in order.
    pub(crate) samples: Vec<f64>,
    /// What the project set itself, if anything; held against the median.
    pub(crate) target: Option<f64>,
    /// What a reader must know to judge the figure.
    pub(crate) note: Option<String>,
}

/// The direction of improvement; a target is a limit in this direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Less,
    More,
}

impl Measurement {
    /// A measurement without target or note.
    pub(crate) fn new(
        suite: &str,
        case: impl Into<String>,
        metric: &str,
        unit: &str,
        better: Better,
        samples: Vec<f64>,
    ) -> Self {
        let (suite, metric, unit) = (suite.into(), metric.into(), unit.into());
        let case = case.into();
        Self { suite, case, metric, unit, better, samples, target: None, note: None }
    }

    /// Sets what the median is held against.
    pub(crate) fn target(self, limit: f64) -> Self {
        Self { target: Some(limit), ..self }
    }

    /// Adds what a reader must know.
    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    /// The middle sample, or the mean of the two in the middle; NaN without samples.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        }
    }

    /// Whether the median keeps to the target; `None` without one.
    pub(crate) fn met(&self) -> Option<bool> {
        let median = self.median();
        self.target.map(|limit| match self.better {
            Better::Less => median <= limit,
            Better::More => median >= limit,
        })
    }
}

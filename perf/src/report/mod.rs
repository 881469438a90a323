//! What benchmarks say: measurements with their samples, so that spread and ratios can be told from one file.
//!
//! Every suite returns [`Measurement`]s; nothing else knows how they are printed, kept, plotted or compared.

pub(crate) mod compare;
#[cfg(test)]
mod fixtures;
mod machine;
mod number;
mod plot;
mod run;
mod spread;
mod table;

use serde::{Deserialize, Serialize};

pub(crate) use machine::CpuTimes;
pub(crate) use plot::draw;
pub(crate) use run::{Run, SuiteRun};
pub(crate) use spread::Spread;
pub(crate) use table::render;

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
        spread::quantile(&spread::sorted(&self.samples), 0.5)
    }

    /// How far the samples lie apart.
    pub(crate) fn spread(&self) -> Spread {
        Spread::of(&self.samples)
    }

    /// Suite, case and metric: what a measurement is known by.
    pub(crate) fn key(&self) -> [&str; 3] {
        [&self.suite, &self.case, &self.metric]
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

/// What is wrong with the measurements of one suite: a figure that nobody measured must not be told.
pub(crate) fn fault(suite: &str, measurements: &[Measurement]) -> Option<String> {
    for (index, m) in measurements.iter().enumerate() {
        let name = m.key().join(" ");
        if m.suite != suite {
            return Some(format!("`{name}` is not of this suite"));
        }
        if m.samples.is_empty() {
            return Some(format!("`{name}` has no samples"));
        }
        if m.samples.iter().chain(&m.target).any(|sample| !sample.is_finite()) {
            return Some(format!("`{name}` has a sample that is no number: {:?}", m.samples));
        }
        if measurements[..index].iter().any(|earlier| earlier.key() == m.key()) {
            return Some(format!("`{name}` was measured twice"));
        }
    }
    measurements.is_empty().then(|| "nothing was measured".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(samples: &[f64]) -> Measurement {
        Measurement::new(
            "path",
            "established/tcp4",
            "cycles",
            "cycles",
            Better::Less,
            samples.to_vec(),
        )
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(measured(&[9.0, 1.0, 5.0]).median(), 5.0);
        assert_eq!(measured(&[1.0, 2.0, 10.0, 4.0]).median(), 3.0);
        assert!(measured(&[]).median().is_nan());
    }

    #[test]
    fn a_target_is_a_limit_in_the_direction_of_better() {
        let less = measured(&[60.0]).target(60.0);
        assert_eq!(less.met(), Some(true));
        assert_eq!(measured(&[60.1]).target(60.0).met(), Some(false));
        let more = Measurement { better: Better::More, ..less };
        assert_eq!(more.met(), Some(true));
        assert_eq!(Measurement { samples: vec![59.9], ..more }.met(), Some(false));
        assert_eq!(measured(&[60.0]).met(), None);
    }

    #[test]
    fn what_was_not_measured_is_a_fault() {
        assert_eq!(fault("path", &[measured(&[1.0])]), None);
        for (suite, measurements, said) in [
            ("path", vec![], "nothing"),
            ("path", vec![measured(&[])], "no samples"),
            ("path", vec![measured(&[1.0, f64::NAN])], "no number"),
            ("path", vec![measured(&[1.0]).target(f64::INFINITY)], "no number"),
            ("path", vec![measured(&[1.0]), measured(&[2.0])], "twice"),
            ("wire", vec![measured(&[1.0])], "not of this suite"),
        ] {
            let fault = fault(suite, &measurements).unwrap_or_default();
            assert!(fault.contains(said), "{fault}");
        }
    }
}

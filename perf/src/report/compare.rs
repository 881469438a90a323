//! `perf compare`: two runs side by side, and which differences are more than noise.
//!
//! The rule: a change is marked only when the spreads of both runs have nothing in common (`spread.rs` says what a
//! spread is). Three samples a side of equal programs are apart by chance in one of ten cases, five in one of a hundred.

use std::path::PathBuf;
use std::process::ExitCode;

use comfy_table::Cell;

use super::number::{percent, show};
use super::run::Run;
use super::table::{plain, right};
use super::{Better, Measurement};

/// Compares two results measurement by measurement
///
/// A change is marked as better or worse only when the spreads of both sides have nothing in common.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The result to compare with
    before: PathBuf,
    /// The result to judge
    after: PathBuf,
    /// End with status 1 if something marked is worse by more, or is missing though its suite was run
    #[arg(long, value_name = "PERCENT")]
    fail_over: Option<f64>,
}

/// Reads, prints, judges.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let (before, after) = (Run::read(&options.before)?, Run::read(&options.after)?);
    let comparison = Comparison::of(&before, &after);
    print!("{}", comparison.render());
    let Some(limit) = options.fail_over else { return Ok(ExitCode::SUCCESS) };
    let faults = comparison.faults(limit);
    for fault in &faults {
        eprintln!("perf: {fault}");
    }
    Ok(ExitCode::from(u8::from(!faults.is_empty())))
}

/// Two runs, paired.
#[derive(Debug)]
struct Comparison<'a> {
    runs: [&'a Run; 2],
    pairs: Vec<Pair<'a>>,
    only_before: Vec<&'a Measurement>,
    only_after: Vec<&'a Measurement>,
}

/// One quantity in two runs.
#[derive(Debug)]
struct Pair<'a> {
    before: &'a Measurement,
    after: &'a Measurement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Better,
    Worse,
    /// The spreads meet.
    Noise,
}

impl<'a> Comparison<'a> {
    fn of(before: &'a Run, after: &'a Run) -> Self {
        let find = |run: &'a Run, wanted: &Measurement| {
            run.measurements.iter().find(|m| m.key() == wanted.key())
        };
        let mut comparison = Self {
            runs: [before, after],
            pairs: Vec::new(),
            only_before: Vec::new(),
            only_after: Vec::new(),
        };
        for m in &before.measurements {
            match find(after, m) {
                Some(after) => comparison.pairs.push(Pair { before: m, after }),
                None => comparison.only_before.push(m),
            }
        }
        comparison.only_after =
            after.measurements.iter().filter(|m| find(before, m).is_none()).collect();
        comparison
    }

    fn render(&self) -> String {
        let [before, after] = self.runs;
        let mut lines = Vec::new();
        for (name, run) in [("before", before), ("after ", after)] {
            let Run { commit, version, started, .. } = run;
            lines.push(format!("{name}: vipgate {version}, commit {commit}, {started}"));
        }
        lines.push(self.table());
        let count = |mark| self.pairs.iter().filter(|pair| pair.mark() == mark).count();
        lines.push(format!(
            "{} better, {} worse, {} within the spread",
            count(Mark::Better),
            count(Mark::Worse),
            count(Mark::Noise)
        ));
        for (name, measurements) in [("before", &self.only_before), ("after", &self.only_after)] {
            for m in measurements {
                lines.push(format!("only {name}: {}", m.key().join(" ")));
            }
        }
        lines.extend(self.warnings().into_iter().map(|warning| format!("WARNING {warning}")));
        lines.join("\n") + "\n"
    }

    fn table(&self) -> String {
        let mut table = plain();
        table.set_header(["case", "metric", "unit", "before", "after", "change", ""]);
        let mut suite = "";
        for pair in &self.pairs {
            let m = pair.after;
            if m.suite != suite {
                table.add_row([m.suite.to_uppercase()]);
                suite = &m.suite;
            }
            table.add_row([
                Cell::new(format!("  {}", m.case)),
                Cell::new(&m.metric),
                Cell::new(&m.unit),
                right(median_and_spread(pair.before)),
                right(median_and_spread(m)),
                right(percent(pair.improvement())),
                Cell::new(pair.mark().name()),
            ]);
        }
        format!("\n{}\n", table.trim_fmt())
    }

    /// What else than the program may have changed the figures.
    fn warnings(&self) -> Vec<String> {
        let [before, after] = self.runs;
        let mut warnings = Vec::new();
        for ((name, old), (_, new)) in before.machine.facts().into_iter().zip(after.machine.facts())
        {
            if old != new {
                warnings.push(format!("{name} differs: {old} before, {new} after"));
            }
        }
        for new in &after.suites {
            let old = before.suites.iter().find(|old| old.suite == new.suite);
            if let Some(old) = old.filter(|old| old.settings != new.settings) {
                let (suite, old, new) = (&new.suite, &old.settings, &new.settings);
                warnings.push(format!("settings of {suite} differ: {old} before, {new} after"));
            }
        }
        for pair in self.pairs.iter().filter(|pair| pair.before.unit != pair.after.unit) {
            let (old, new) = (&pair.before.unit, &pair.after.unit);
            let name = pair.after.key().join(" ");
            warnings.push(format!("unit of {name} differs: {old} before, {new} after"));
        }
        for (name, run) in [("before", before), ("after", after)] {
            warnings.extend(run.warnings().into_iter().map(|warning| format!("{name}: {warning}")));
        }
        warnings
    }

    /// What fails a build that may not get worse by more than `limit` per cent.
    fn faults(&self, limit: f64) -> Vec<String> {
        let mut faults = Vec::new();
        for pair in &self.pairs {
            let worse = -pair.improvement();
            if pair.mark() == Mark::Worse && worse > limit {
                let (name, worse) = (pair.after.key().join(" "), percent(worse));
                faults.push(format!("{name} is worse by {worse}"));
            }
        }
        let [_, after] = self.runs;
        for m in &self.only_before {
            if after.suites.iter().any(|run| run.suite == m.suite) {
                faults.push(format!("{} is missing", m.key().join(" ")));
            }
        }
        faults
    }
}

impl Pair<'_> {
    /// In per cent of what was before; positive is better, infinite when it was nothing.
    fn improvement(&self) -> f64 {
        let (before, after) = (self.before.median(), self.after.median());
        let change = if before == after { 0.0 } else { (after - before) / before.abs() * 100.0 };
        match self.after.better {
            Better::More => change,
            Better::Less => 0.0 - change,
        }
    }

    fn mark(&self) -> Mark {
        if !self.before.spread().is_apart_from(self.after.spread()) {
            return Mark::Noise;
        }
        if self.improvement() > 0.0 { Mark::Better } else { Mark::Worse }
    }
}

impl Mark {
    fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::Noise => "",
        }
    }
}

fn median_and_spread(m: &Measurement) -> String {
    let spread = m.spread();
    format!("{} ({} .. {})", show(m.median()), show(spread.low), show(spread.high))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    /// A run with one measurement.
    fn measured(better: Better, samples: &[f64]) -> Run {
        let m = Measurement::new("path", "case", "metric", "cycles", better, samples.to_vec());
        Run { measurements: vec![m], ..fixtures::run() }
    }

    #[test]
    fn a_change_within_the_spread_is_no_change() {
        for (better, before, after, change, mark) in [
            (Better::Less, [100.0, 110.0, 120.0], [70.0, 77.0, 80.0], 30.0, Mark::Better),
            (Better::Less, [70.0, 77.0, 80.0], [100.0, 110.0, 120.0], -42.857, Mark::Worse),
            (Better::More, [100.0, 110.0, 120.0], [70.0, 77.0, 80.0], -30.0, Mark::Worse),
            (Better::More, [100.0, 110.0, 120.0], [121.0, 132.0, 140.0], 20.0, Mark::Better),
            // The medians are far apart, but one sample of each side lies among the other's.
            (Better::More, [100.0, 110.0, 132.0], [109.0, 150.0, 160.0], 36.364, Mark::Noise),
            (Better::Less, [5.0, 5.0, 5.0], [5.0, 5.0, 5.0], 0.0, Mark::Noise),
        ] {
            let (before, after) = (measured(better, &before), measured(better, &after));
            let comparison = Comparison::of(&before, &after);
            let pair = &comparison.pairs[0];
            assert!((pair.improvement() - change).abs() < 0.01, "{}", pair.improvement());
            assert_eq!(pair.mark(), mark, "{pair:?}");
        }
    }

    #[test]
    fn one_sample_is_marked_beyond_twice_a_tenth() {
        for (after, mark) in [(121.0, Mark::Noise), (123.0, Mark::Worse), (80.0, Mark::Better)] {
            let (before, after) =
                (measured(Better::Less, &[100.0]), measured(Better::Less, &[after]));
            assert_eq!(Comparison::of(&before, &after).pairs[0].mark(), mark);
        }
    }

    #[test]
    fn nothing_that_becomes_something_is_worse_without_end() {
        let (before, after) =
            (measured(Better::Less, &[0.0; 3]), measured(Better::Less, &[3.0; 3]));
        let comparison = Comparison::of(&before, &after);
        assert_eq!(comparison.pairs[0].mark(), Mark::Worse);
        assert_eq!(comparison.faults(1000.0).len(), 1);
    }

    #[test]
    fn only_marked_changes_beyond_the_limit_fail() {
        let before = measured(Better::Less, &[100.0, 101.0, 102.0]);
        let after = measured(Better::Less, &[107.0, 108.0, 109.0]);
        let comparison = Comparison::of(&before, &after);
        assert_eq!(comparison.faults(7.0), Vec::<String>::new());
        assert_eq!(comparison.faults(6.0), ["path case metric is worse by +6.9 %"]);
        // The same change in noise.
        let after = measured(Better::Less, &[100.0, 108.0, 109.0]);
        assert_eq!(Comparison::of(&before, &after).faults(6.0), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_fails_if_its_suite_was_run() {
        let before = fixtures::run();
        let mut after = fixtures::run();
        after.measurements.retain(|m| m.suite != "wire");
        assert!(!Comparison::of(&before, &after).faults(50.0).is_empty());
        after.suites.retain(|run| run.suite != "wire");
        assert_eq!(Comparison::of(&before, &after).faults(50.0), Vec::<String>::new());
    }

    #[test]
    fn the_text_has_both_sides_the_change_and_what_has_no_pair() {
        let before = fixtures::run();
        let mut after = fixtures::run();
        let last = after.measurements.pop().expect("measurements");
        for sample in &mut after.measurements[0].samples {
            *sample *= 2.0;
        }
        let text = Comparison::of(&before, &after).render();
        assert!(text.contains("-100.0 %   WORSE\n"), "{text}");
        assert!(text.contains("0 better, 1 worse"), "{text}");
        assert!(text.contains(&format!("only before: {}", last.key().join(" "))), "{text}");
        assert!(!text.contains("WARNING"), "{text}");
    }

    #[test]
    fn another_machine_and_other_settings_are_told() {
        let before = fixtures::run();
        let mut after = fixtures::run();
        after.machine.cpu = "Another CPU".into();
        after.suites[0].settings = "Options { seconds: 1 }".into();
        after.before.busy_percent = 80.0;
        let text = Comparison::of(&before, &after).render();
        assert!(text.contains("WARNING CPU differs"), "{text}");
        assert!(text.contains("WARNING settings of path differ"), "{text}");
        assert!(text.contains("WARNING after: the machine was not quiet"), "{text}");
    }
}

//! A run as text: machine, one table of all measurements, notes, and what to be careful about. The same text goes to the
//! terminal and into the file beside the result.

use std::fmt::Write;

use comfy_table::{Cell, CellAlignment, Table, TableStyle};

use super::number::{exact, show};
use super::run::Run;
use super::spread::{self, Kind};
use super::{Better, Measurement};

/// The whole story of a run; it ends with a newline.
pub(crate) fn render(run: &Run) -> String {
    let mut text = String::new();
    // Only a failing writer makes writing fail, and a string does not.
    let _ = head(&mut text, run);
    let _ = body(&mut text, run);
    let _ = foot(&mut text, run);
    text
}

fn head(text: &mut String, run: &Run) -> std::fmt::Result {
    let Run { version, commit, started, seconds, machine, before, .. } = run;
    writeln!(text, "vipgate {version}, commit {commit}, {started}, {seconds:.0} s")?;
    let facts = machine.facts();
    let facts: Vec<String> = facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
    writeln!(text, "{}", facts.join(", "))?;
    let pages = &before.huge_pages;
    writeln!(
        text,
        "before the run: load {}, {:.0} % of all CPUs in use, {} of {} huge pages of {} MiB free",
        before.load,
        before.busy_percent,
        pages.free,
        pages.total,
        pages.size_kib / 1024,
    )
}

fn body(text: &mut String, run: &Run) -> std::fmt::Result {
    if run.measurements.is_empty() {
        return Ok(());
    }
    let mut notes = Vec::new();
    let mut table = plain();
    table.set_header(["case", "metric", "median", "spread", "unit", "target", "met"]);
    let mut before: Option<&Measurement> = None;
    for m in &run.measurements {
        let new_suite = before.is_none_or(|before| before.suite != m.suite);
        if new_suite {
            table.add_row([m.suite.to_uppercase()]);
        }
        let same_case = !new_suite && before.is_some_and(|before| before.case == m.case);
        let case = if same_case { String::new() } else { format!("  {}", m.case) };
        let metric = match &m.note {
            Some(note) => format!("{} [{}]", m.metric, number_of(&mut notes, note)),
            None => m.metric.clone(),
        };
        table.add_row([
            Cell::new(case),
            Cell::new(metric),
            right(show(m.median())),
            right(spread(m)),
            Cell::new(&m.unit),
            right(target(m)),
            Cell::new(verdict(m)),
        ]);
        before = Some(m);
    }
    write!(text, "\n{}\n\n", table.trim_fmt())?;
    for (index, note) in notes.iter().enumerate() {
        writeln!(text, "[{}] {note}", index + 1)?;
    }
    writeln!(
        text,
        "spread: least to greatest of 2 to 9 samples (their number behind it), quartiles from 10 samples on"
    )
}

fn foot(text: &mut String, run: &Run) -> std::fmt::Result {
    let verdicts: Vec<bool> = run.measurements.iter().filter_map(Measurement::met).collect();
    if !verdicts.is_empty() {
        let met = verdicts.iter().filter(|&&met| met).count();
        writeln!(text, "targets: {met} of {} met", verdicts.len())?;
    }
    for (suite, error) in run.failures() {
        writeln!(text, "FAILED {suite}: {error}")?;
    }
    for warning in run.warnings() {
        writeln!(text, "WARNING {warning}")?;
    }
    Ok(())
}

/// A table without lines but one below its header: it can be read, and copied into a text.
pub(super) fn plain() -> Table {
    let mut table = Table::new();
    let rule = comfy_table::LineStyle::none().fill('-').junction('-');
    table.load_style(TableStyle::new().header_separator(rule));
    table
}

pub(super) fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// The number of a note, which is listed once however often it is given.
fn number_of<'a>(notes: &mut Vec<&'a str>, note: &'a str) -> usize {
    let index = notes.iter().position(|&known| known == note).unwrap_or_else(|| {
        notes.push(note);
        notes.len() - 1
    });
    index + 1
}

fn spread(m: &Measurement) -> String {
    let count = m.samples.len();
    let (low, high) = match m.spread() {
        spread if spread.kind != Kind::Assumed => (spread.low, spread.high),
        // Two samples are no measure of spread, but there is no reason to hide them.
        _ if count == 2 => {
            let sorted = spread::sorted(&m.samples);
            (sorted[0], sorted[1])
        }
        _ => return "one sample".into(),
    };
    format!("{} .. {} ({count})", show(low), show(high))
}

fn target(m: &Measurement) -> String {
    let sign = match m.better {
        Better::Less => "<=",
        Better::More => ">=",
    };
    m.target.map(|limit| format!("{sign} {}", exact(limit))).unwrap_or_default()
}

/// What a reader looks for is what is not met.
fn verdict(m: &Measurement) -> &'static str {
    match m.met() {
        None => "",
        Some(true) => "yes",
        Some(false) => "NO",
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn every_measurement_has_its_line() {
        let run = fixtures::run();
        let text = render(&run);
        for m in &run.measurements {
            let line = text.lines().find(|line| line.contains(&m.metric) && line.contains(&m.unit));
            assert!(line.is_some(), "{} is missing:\n{text}", m.metric);
        }
        assert!(text.contains("PATH\n"), "{text}");
        assert!(text.contains("WIRE\n"), "{text}");
    }

    #[test]
    fn a_line_has_median_spread_target_and_verdict() {
        let text = render(&fixtures::run());
        let line = |what: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(what));
            line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            line("established/udp4/10k/uniform"),
            "established/udp4/10k/uniform cycles_per_packet 75.50 74 .. 79 (4) cycles <= 80 yes"
        );
        assert_eq!(
            line("established/udp4/1M/uniform"),
            "established/udp4/1M/uniform cycles_per_packet [1] 141 139 .. 150 (3) cycles <= 130 NO"
        );
        assert_eq!(
            line("memory/ipv4"),
            "memory/ipv4 bytes_per_connection 96 one sample bytes <= 128 yes"
        );
    }

    #[test]
    fn a_note_is_told_once() {
        let text = render(&fixtures::run());
        assert_eq!(text.matches(fixtures::NOTE).count(), 1, "{text}");
        assert!(text.matches("[1]").count() > 2, "{text}");
    }

    #[test]
    fn what_is_wrong_comes_last() {
        let mut run = fixtures::run();
        assert!(!render(&run).contains("WARNING"), "{}", render(&run));
        run.commit.dirty = true;
        run.before.busy_percent = 40.0;
        run.suites[0].stolen_percent = 2.5;
        run.suites[1].error = Some("no huge pages: echo 640 > /proc/sys/vm/nr_hugepages".into());
        let text = render(&run);
        let last: Vec<&str> = text.lines().rev().take(4).collect();
        assert!(last[3].starts_with("FAILED wire: no huge pages"), "{text}");
        assert!(last[2].contains("40 % of its CPUs"), "{text}");
        assert!(last[1].contains("2.5 % of the CPUs' time during `path`"), "{text}");
        assert!(last[0].contains("differs from commit"), "{text}");
    }
}

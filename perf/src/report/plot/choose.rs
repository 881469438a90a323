//! Which pictures a run is good for.
//!
//! A kind of picture takes the measurements of one suite that it wants. What varies in it, a number of connections say,
//! is a part of the case (`established/udp4/10k/uniform`) or of the metric (`latency_p99`); the rest names the line. Only
//! pictures with something to see are drawn: at least two values.

use super::{Bar, Chart, Form, Line, Value, values};
use crate::report::Measurement;

/// Lines that the eye can tell apart in one picture; what comes first in the run is kept.
const LINES: usize = 8;

/// The metric of what no engine can go below.
const FLOOR: &str = "floor";

/// What vipgate is held against, drawn in grey.
const REFERENCES: [&str; 2] = [FLOOR, "testpmd"];

/// A kind of picture.
struct Kind {
    name: &'static str,
    title: &'static str,
    suite: &'static str,
    wants: fn(&Measurement) -> bool,
    /// The part of the case that has a picture of its own for each of its values.
    apart: fn(&str) -> bool,
    axis: Axis,
}

/// Where a measurement is drawn.
enum Axis {
    /// A line over what varies, which is called so.
    Over(&'static str, fn(&Measurement) -> Option<Place>),
    /// A bar a measurement.
    Bars,
}

/// Where a measurement is on its line.
struct Place {
    /// Orders the ticks.
    at: f64,
    tick: String,
    line: String,
}

const KINDS: [Kind; 7] = [
    Kind {
        name: "cycles",
        title: "Cycles per packet over connections",
        suite: "path",
        wants: |m| m.metric == "cycles_per_packet" || m.metric == FLOOR,
        apart: NOTHING,
        axis: Axis::Over("connections", by_connections),
    },
    Kind {
        name: "latency",
        title: "Latency beside testpmd at load",
        suite: "wire",
        wants: |m| m.unit == "us",
        apart: |part| part.ends_with('%'),
        axis: Axis::Over("percentile", by_percentile),
    },
    Kind {
        name: "throughput",
        title: "Zero-loss rate, as a ratio to testpmd's",
        suite: "wire",
        wants: |m| m.unit == "ratio" && by_percentile(m).is_none(),
        apart: NOTHING,
        axis: Axis::Bars,
    },
    Kind {
        name: "connections",
        title: "Connections a second and core",
        suite: "connections",
        wants: |m| m.unit == "M/s",
        apart: NOTHING,
        axis: Axis::Bars,
    },
    Kind {
        name: "update",
        title: "From an endpoint's change to the last worker",
        suite: "update",
        wants: |m| m.unit == "us",
        apart: NOTHING,
        axis: Axis::Over("Services x endpoints", by_services),
    },
    Kind {
        name: "scale",
        title: "Two workers, as a ratio to one",
        suite: "scale",
        wants: |m| m.unit == "ratio",
        apart: NOTHING,
        axis: Axis::Over("packets handed over", by_handover),
    },
    Kind {
        name: "kernel",
        title: "Through the kernel's nftables and through vipgate",
        suite: "kernel",
        wants: |m| m.unit.ends_with("pps"),
        apart: NOTHING,
        axis: Axis::Bars,
    },
];

const NOTHING: fn(&str) -> bool = |_| false;

/// The pictures of these measurements.
pub(super) fn charts(measurements: &[Measurement]) -> Vec<Chart> {
    KINDS.iter().flat_map(|kind| kind.charts(measurements)).collect()
}

impl Kind {
    fn charts(&self, measurements: &[Measurement]) -> Vec<Chart> {
        let wanted = |m: &&Measurement| m.suite == self.suite && (self.wants)(m);
        let mut pictures: Vec<(Option<&str>, Vec<Measurement>)> = Vec::new();
        for m in measurements.iter().filter(wanted) {
            let (apart, rest): (Vec<&str>, Vec<&str>) =
                m.case.split('/').partition(|part| (self.apart)(part));
            let apart = apart.first().copied();
            let m = Measurement { case: rest.join("/"), ..m.clone() };
            match pictures.iter_mut().find(|(known, _)| *known == apart) {
                Some((_, picture)) => picture.push(m),
                None => pictures.push((apart, vec![m])),
            }
        }
        pictures.iter().filter_map(|(apart, picture)| self.chart(*apart, picture)).collect()
    }

    fn chart(&self, apart: Option<&str>, measurements: &[Measurement]) -> Option<Chart> {
        let first = measurements.first()?;
        // One axis has one unit.
        let alike = |m: &&Measurement| m.unit == first.unit && m.better == first.better;
        let measurements: Vec<&Measurement> = measurements.iter().filter(alike).collect();
        let form = match self.axis {
            Axis::Bars => bars(&measurements),
            Axis::Over(over, place) => lines(over, &measurements, place),
        }?;
        let name = [Some(self.name), apart].into_iter().flatten().collect::<Vec<_>>().join("-");
        let title = [Some(self.title), apart].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let values = values(&first.unit, first.better);
        Some(Chart { name: name.replace('%', ""), title, values, form })
    }
}

fn bars(measurements: &[&Measurement]) -> Option<Form> {
    let one_metric = measurements.iter().all(|m| m.metric == measurements[0].metric);
    let name = |m: &Measurement| {
        if one_metric { m.case.clone() } else { format!("{} {}", m.case, m.metric) }
    };
    let bars: Vec<Bar> =
        measurements.iter().map(|&m| Bar { name: name(m), value: Value::from(m) }).collect();
    (bars.len() > 1).then_some(Form::Bars(bars))
}

fn lines(
    over: &str,
    measurements: &[&Measurement],
    place: fn(&Measurement) -> Option<Place>,
) -> Option<Form> {
    let placed: Vec<(Place, Value)> =
        measurements.iter().filter_map(|&m| Some((place(m)?, Value::from(m)))).collect();
    let mut ticks: Vec<&Place> = placed.iter().map(|(place, _)| place).collect();
    ticks.sort_by(|a, b| a.at.total_cmp(&b.at));
    ticks.dedup_by(|a, b| a.at == b.at);
    let mut series: Vec<Line> = Vec::new();
    for (place, value) in &placed {
        let tick = ticks.iter().position(|tick| tick.at == place.at)?;
        match series.iter_mut().find(|line| line.name == place.line) {
            Some(line) if line.points.iter().any(|(known, _)| *known == tick) => {}
            Some(line) => line.points.push((tick, *value)),
            None => series.push(Line {
                name: place.line.clone(),
                reference: REFERENCES.iter().any(|name| place.line.contains(name)),
                points: vec![(tick, *value)],
            }),
        }
    }
    // One point is no line; it stands in the table.
    series.retain(|line| line.points.len() > 1);
    for line in &mut series {
        line.points.sort_by_key(|(tick, _)| *tick);
    }
    series.truncate(LINES);
    let ticks = ticks.iter().map(|place| place.tick.clone()).collect();
    (!series.is_empty()).then(|| Form::Lines { over: over.into(), ticks, series })
}

/// By the connections in the case. All cases share one floor: that of the first.
fn by_connections(m: &Measurement) -> Option<Place> {
    let place = by_count(m)?;
    Some(if m.metric == FLOOR { Place { line: FLOOR.into(), ..place } } else { place })
}

/// By the Services in the case.
fn by_services(m: &Measurement) -> Option<Place> {
    let place = by_count(m)?;
    Some(Place { line: format!("{} {}", place.line, m.metric), ..place })
}

/// By the share in a part such as `handed-over-25`.
fn by_handover(m: &Measurement) -> Option<Place> {
    let mut parts: Vec<&str> = m.case.split('/').collect();
    let share = |part: &str| part.strip_prefix("handed-over-")?.parse().ok();
    let index = parts.iter().position(|part| share(part).is_some())?;
    let at = share(parts.remove(index))?;
    Some(Place { at, tick: format!("{at}%"), line: parts.join("/") })
}

/// By the first part of the case that is a number, such as `10k` or `10000x25`.
fn by_count(m: &Measurement) -> Option<Place> {
    let mut parts: Vec<&str> = m.case.split('/').collect();
    let index = parts.iter().position(|part| count(part).is_some())?;
    let tick = parts.remove(index);
    Some(Place { at: count(tick)?, tick: tick.into(), line: parts.join("/") })
}

/// By the percentile in metric or case, such as `latency_p99`; the other parts name the line.
fn by_percentile(m: &Measurement) -> Option<Place> {
    let (words, parts) = (m.metric.split('_'), m.case.split('/'));
    let at = words.chain(parts.clone()).find_map(percentile)?;
    let line: Vec<&str> = parts.filter(|part| percentile(part).is_none()).collect();
    Some(Place { at, tick: format!("p{at}"), line: line.join("/") })
}

/// `10k` is ten thousand, `1M` a million; `10000x25` counts what it says first.
fn count(part: &str) -> Option<f64> {
    let part = part.split_once('x').map_or(part, |(first, _)| first);
    let digits = part.trim_end_matches(['k', 'M']);
    let factor = match &part[digits.len()..] {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        _ => return None,
    };
    Some(digits.parse::<u32>().ok().map(f64::from)? * factor)
}

/// `p99` is 99; `p99.9` and `p999` are 99.9.
fn percentile(part: &str) -> Option<f64> {
    let digits = part.strip_prefix('p')?;
    if digits.contains('.') {
        return digits.parse().ok();
    }
    let (whole, fraction) = digits.split_at_checked(2)?;
    let number: u32 = digits.parse().ok()?;
    (number >= 10).then(|| format!("{whole}.{fraction}0").parse().ok())?
}

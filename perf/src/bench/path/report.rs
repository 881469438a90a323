//! From cycles per packet to what is told.

use dataplane::stages::Stage;

use super::cases::{Case, Traffic};
use super::run::Costs;
use crate::bench::rig::machine::Machine;
use crate::bench::rig::times;
use crate::report::{Better, Measurement};

/// What the engine may cost, in floors.
const OVER_FLOOR: f64 = 2.0;
/// What IPv6 may cost, in costs of the same case with IPv4.
const OVER_IPV4: f64 = 1.4;
/// New connections a second and core, in millions.
const NEW_RATE: f64 = 6.0;

pub(super) fn measurements(costs: &[(&Case, Costs)], machine: &Machine) -> Vec<Measurement> {
    let mut told = Vec::new();
    for (case, cost) in costs {
        let first = told.len();
        tell(&mut told, case, cost, machine);
        if let Some(note) = times::note(cost.interrupted) {
            told[first..].iter_mut().for_each(|told| told.note = Some(note.clone()));
        }
        if let Some(v4) = costs.iter().find(|(other, _)| is_ipv4_of(other, case)) {
            let note = format!("against {}", v4.0.name());
            let ratio = metric(case, "over_ipv4", "ratio", ratios(&cost.engine, &v4.1.engine));
            told.push(ratio.target(OVER_IPV4).note(note));
        }
    }
    machine.noted(told)
}

fn tell(told: &mut Vec<Measurement>, case: &Case, cost: &Costs, machine: &Machine) {
    let cycles = metric(case, "cycles_per_packet", "cycles", cost.engine.clone());
    told.push(match case.target {
        Some(limit) => cycles.target(limit),
        None => cycles,
    });
    let nanoseconds: Vec<f64> = cost.engine.iter().map(|&c| machine.nanoseconds(c)).collect();
    if case.traffic == Traffic::New {
        let rates = nanoseconds.iter().map(|ns| 1e3 / ns).collect();
        let (suite, name) = ("path", case.name());
        let rate = Measurement::new(suite, name, "new_connections", "M/s", Better::More, rates);
        told.push(rate.target(NEW_RATE));
    }
    told.push(metric(case, "ns_per_packet", "ns", nanoseconds));
    if case.tells_stages() {
        for (stage, cycles) in Stage::ALL.into_iter().zip(&cost.stages) {
            told.push(metric(case, &format!("stage_{}", stage.name()), "cycles", cycles.clone()));
        }
    }
    if !cost.floor.is_empty() {
        told.push(metric(case, "floor", "cycles", cost.floor.clone()));
        let over = metric(case, "over_floor", "ratio", ratios(&cost.engine, &cost.floor));
        told.push(over.target(OVER_FLOOR));
    }
}

fn metric(case: &Case, metric: &str, unit: &str, samples: Vec<f64>) -> Measurement {
    Measurement::new("path", case.name(), metric, unit, Better::Less, samples)
}

/// Repetition by repetition.
fn ratios(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).map(|(a, b)| a / b).collect()
}

/// Whether two cases differ only in their family.
fn is_ipv4_of(v4: &Case, v6: &Case) -> bool {
    let mut fill = v6.fill;
    fill.kind.v4 = true;
    let same = (v4.traffic, v4.pattern, v4.sizes) == (v6.traffic, v6.pattern, v6.sizes);
    !v6.fill.kind.v4 && same && v4.fill == fill
}

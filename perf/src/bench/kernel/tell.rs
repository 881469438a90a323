//! Makes measurements of what a run has found.

use super::dpdk::Driver;
use super::plan::Cluster;
use super::run::{Gateway, Outcome, Sample};
use crate::report::{Better, Measurement};

/// What the project set itself: packets a core, as a ratio to nftables; the same for what either adds.
const TARGET: f64 = 10.0;

/// All measurements of a run.
pub(super) fn measurements(outcome: &Outcome) -> Vec<Measurement> {
    let rates = outcome.gateways.iter().map(|(gateway, samples)| rate(*gateway, samples));
    let mut told: Vec<_> = rates.collect();
    for (gateway, samples) in &outcome.gateways {
        if let Gateway::Vipgate(driver, cluster) = *gateway {
            told.extend(ratio(outcome, *gateway, samples, driver, cluster));
        }
    }
    for &(gateway, _) in &outcome.gateways {
        told.extend(added(outcome, gateway));
        told.extend(own(outcome, gateway));
    }
    for &(cluster, seconds) in &outcome.loads {
        let case = Gateway::Nftables(cluster).name();
        let each = cluster.endpoints_each();
        told.push(Measurement::new("kernel", case, "load", "s", Better::Less, vec![seconds]).note(
            format!(
                "{} Services with {each} endpoints each, by `nft -f` in transactions of a thousand",
                cluster.services
            ),
        ));
    }
    told
}

fn rate(gateway: Gateway, samples: &[Sample]) -> Measurement {
    let rates = samples.iter().map(|sample| sample.packets_per_core / 1e6).collect();
    let least =
        |share: fn(&Sample) -> f64| 100.0 * samples.iter().map(share).fold(f64::INFINITY, f64::min);
    let (busy, waited) = (least(|sample| sample.busy), least(|sample| sample.waited));
    let note = format!(
        "{:.0} cycles a packet; its core was busy for at least {busy:.0} % of the time, the sender waited for {waited:.0} %",
        median(samples.iter().map(|sample| sample.cycles)),
    );
    Measurement::new("kernel", gateway.name(), "packets_per_core", "Mpps", Better::More, rates)
        .note(note)
}

/// vipgate's packets a core over nftables' of the same repetition.
fn ratio(
    outcome: &Outcome,
    gateway: Gateway,
    samples: &[Sample],
    driver: Driver,
    cluster: Cluster,
) -> Option<Measurement> {
    let rules = outcome.of(Gateway::Nftables(cluster))?;
    let pairs = samples.iter().zip(rules);
    let ratios =
        pairs.map(|(ours, rules)| ours.packets_per_core / rules.packets_per_core).collect();
    let bare = median(outcome.of(Gateway::Testpmd(driver))?.iter().map(|sample| sample.cycles));
    let most = median(rules.iter().map(|sample| sample.cycles)) / bare;
    let note = format!(
        "on a veth, {} alone takes {bare:.0} cycles a packet (testpmd, no gateway): a gateway that costs nothing would reach {most:.1}",
        driver.name()
    );
    Some(
        Measurement::new("kernel", gateway.name(), "over_nftables", "ratio", Better::More, ratios)
            .target(TARGET)
            .note(note),
    )
}

/// What a gateway adds to what its veths cost without it.
fn added(outcome: &Outcome, gateway: Gateway) -> Option<Measurement> {
    let (bare, what) = match gateway {
        Gateway::Forward | Gateway::Testpmd(_) => return None,
        Gateway::Nftables(_) => (Gateway::Forward, "the kernel's forwarding without rules"),
        Gateway::Vipgate(driver, _) => (Gateway::Testpmd(driver), "the same driver in testpmd"),
    };
    let pairs = outcome.of(gateway)?.iter().zip(outcome.of(bare)?);
    let cycles = pairs.map(|(with, without)| with.cycles - without.cycles).collect();
    Some(
        Measurement::new("kernel", gateway.name(), "added", "cycles", Better::Less, cycles)
            .note(format!("cycles a packet more than {what}, on the same veths")),
    )
}

/// What vipgate itself takes.
fn own(outcome: &Outcome, gateway: Gateway) -> Option<Measurement> {
    let cycles: Option<Vec<f64>> = outcome.of(gateway)?.iter().map(|sample| sample.own).collect();
    let cycles = cycles.filter(|cycles| !cycles.is_empty())?;
    Some(
        Measurement::new("kernel", gateway.name(), "own", "cycles", Better::Less, cycles).note(
            "cycles a packet of vipgate's stages between receiving and sending: what is left of the above without veth and driver",
        ),
    )
}

impl Outcome {
    fn of(&self, gateway: Gateway) -> Option<&[Sample]> {
        let found = self.gateways.iter().find(|(of, _)| *of == gateway);
        found.map(|(_, samples)| samples.as_slice())
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    Measurement::new("", "", "", "", Better::Less, values.collect()).median()
}

//! The kernel and vipgate side by side: the same objects as nftables rules, in the shape of kube-proxy's nftables mode, and
//! as manifests of `vipgate run`; the same first packets through both; and what becomes of each compared: which endpoints,
//! with whose source address, refused how, or not heard of again.
//!
//! - `cluster`, `flows`, `random`: Services, endpoints and packets, made up from a seed
//! - `rules`, `endpoints`: what the kernel is told, with its own reading of the objects; `manifests`: what vipgate is told
//! - `world`, `gateway`, `sockets`, `packet`: namespaces, and packets through them
//! - `fate`, `signed`: what became of them, and which differences are meant
//!
//! The seeds are fixed; `DIFFERENTIAL_SEEDS=100` in the environment tries that many others. A seed that fails is told, and
//! `DIFFERENTIAL_SEED=42` tries it alone. Needs root, `ip` and `nft`; where namespaces can't be made the test is
//! skipped, under CI (variable `CI` set) that is a failure.

#[allow(dead_code, reason = "shared with the end-to-end tests")]
#[path = "../e2e/netns.rs"]
mod netns;

mod cluster;
mod endpoints;
mod fate;
mod flows;
mod gateway;
mod manifests;
mod packet;
mod random;
mod rules;
mod signed;
mod sockets;
mod world;

use std::collections::BTreeMap;
use std::io::Write;
use std::thread;
use std::time::Duration;

use cluster::Cluster;
use fate::{Fate, Fates, fates};
use flows::Flow;
use signed::{SIGNED, Signed};
use world::World;

/// Tried always.
const SEEDS: [u64; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
/// Packets on the way at a time, roughly: fewer than any queue has room for.
const BATCH: usize = 128;
/// Packets of a flow: more than twice the endpoints of any list.
const PACKETS: usize = 10;
/// Packets of a flow that vipgate may need to show all endpoints: its choice is a hash.
const MOST: usize = 640;

/// VER-1, VER-2, VER-3, VER-4, VER-5, VER-6, VER-7, VER-8, MSQ-1, MSQ-2, MSQ-3, MSQ-9, REJ-1, REJ-2, REJ-3, REJ-4, REJ-8,
/// REJ-9, REJ-10, LSR-1, LSR-2, LSR-3, LSR-4, LSR-5, NPT-2, NPT-3, NPT-6, NPT-7, XIP-1, LBR-2, AFF-4, EXC-1,
/// SEL-4, SEL-5, TOP-2, TOP-3, TOP-8, EPS-7, OBJ-7, OBJ-8, OBJ-9, DUA-5, PRO-8.
#[test]
fn the_kernel_with_kube_proxys_rules_does_the_same_with_first_packets() {
    if let Some(reason) = netns::unavailable() {
        assert!(std::env::var_os("CI").is_none(), "no network namespaces: {reason}");
        // Not by eprintln!, which the test harness would swallow.
        let _ = writeln!(std::io::stderr(), "skipped: no network namespaces: {reason}");
        return;
    }
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match (number("DIFFERENTIAL_SEED"), number("DIFFERENTIAL_SEEDS")) {
        (Some(one), _) => vec![one],
        (None, Some(more)) => (10_000..10_000 + more).collect(),
        (None, None) => SEEDS.to_vec(),
    };
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    let mut flows = 0;
    for &seed in &seeds {
        let mut differences = Vec::new();
        flows += compare(&Cluster::new(seed), &mut used, &mut differences);
        let total = differences.len();
        differences.truncate(20);
        let text = differences.join("\n");
        assert!(total == 0, "seed {seed}: {total} differences, the first of them:\n{text}");
    }
    println!("{flows} flows; differences that are meant: {used:?}");
    if seeds == SEEDS {
        assert!(flows > 1000, "only {flows} flows");
        let unused = SIGNED.iter().find(|signed| !used.contains_key(signed.id));
        assert!(unused.is_none(), "on the list, but there is no such difference: {unused:?}");
    }
}

/// Asks both about everything; the number of flows.
fn compare(
    cluster: &Cluster,
    used: &mut BTreeMap<&'static str, usize>,
    differences: &mut Vec<String>,
) -> usize {
    let flows: Vec<Flow> = flows::flows(cluster).into_iter().collect();
    // Not both at once: only one of them should need the cores.
    let expected = ask_all(&mut World::kernel(cluster), &flows, None, differences);
    let found = ask_all(&mut World::vipgate(cluster), &flows, Some(&expected), differences);
    for ((flow, kernel), vipgate) in flows.iter().zip(&expected).zip(&found) {
        if kernel == vipgate {
            continue;
        }
        match SIGNED.iter().find(|signed| signed.covers(cluster, flow, kernel, vipgate)) {
            Some(Signed { id, .. }) => *used.entry(id).or_default() += 1,
            None => differences.push(told(flow, kernel, vipgate)),
        }
    }
    flows.len()
}

fn told(flow: &Flow, kernel: &Fates, vipgate: &Fates) -> String {
    let list = |fates: &Fates| fates.iter().map(Fate::to_string).collect::<Vec<_>>().join(", ");
    let Flow { from, protocol, client, to, clients } = flow;
    format!(
        "{} {client} ({from:?}, {clients}) -> {to}\n    kernel:  {}\n    vipgate: {}",
        protocol.name(),
        list(kernel),
        list(vipgate),
    )
}

/// What becomes of each flow. With `expected`, as many packets as it takes to see all of that.
fn ask_all(
    world: &mut World,
    flows: &[Flow],
    expected: Option<&[Fates]>,
    differences: &mut Vec<String>,
) -> Vec<Fates> {
    let mut all = vec![Fates::new(); flows.len()];
    let mut open: Vec<(usize, usize)> = (0..flows.len()).map(|flow| (flow, 0)).collect();
    while !open.is_empty() {
        let mut batch: Vec<(usize, usize)> = Vec::new();
        let mut packets = 0;
        while let Some((flow, asked)) = open.pop() {
            let refused =
                expected.is_some_and(|all| !all[flow].iter().any(|fate| !fate.is_refusal()));
            let count = match flows[flow].clients {
                // Each client twice, to see that it sticks.
                many if many > 1 => 2 * usize::from(many),
                _ if refused => 2,
                _ => PACKETS.max(asked),
            };
            if packets > 0 && packets + count > BATCH {
                open.push((flow, asked));
                break;
            }
            packets += count;
            batch.push((flow, asked + count));
        }
        let questions: Vec<(&Flow, usize)> =
            batch.iter().map(|(flow, count)| (&flows[*flow], *count)).collect();
        let mut refusals = 0;
        for (answers, (flow, asked)) in world.ask(&questions).into_iter().zip(batch) {
            let (fates, wander) = fates(&flows[flow], &answers);
            refusals += fates.iter().filter(|fate| fate.is_refusal()).count() * answers.len();
            all[flow].extend(fates);
            if !wander.is_empty() {
                let text = told(&flows[flow], &all[flow], &Fates::new());
                differences.push(format!("{wander:?} do not stick to an endpoint: {text}"));
            }
            let again = expected.is_some_and(|expected| {
                let lacks = !expected[flow].is_subset(&all[flow]);
                lacks && flows[flow].clients == 1 && !expected[flow].is_disjoint(&all[flow])
            });
            if again && asked < MOST {
                open.push((flow, asked));
            }
        }
        // A thousand refusals a second are what vipgate gives.
        thread::sleep(Duration::from_millis(refusals as u64));
    }
    all
}

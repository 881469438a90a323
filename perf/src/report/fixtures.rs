//! A run as the suites' measurements make it, for tests of everything that tells of runs.

use super::machine::{Before, HugePages, Machine};
use super::run::{Commit, SuiteRun};
use super::{Better, Measurement, Run};

pub(super) const NOTE: &str = "the cache of this machine is shared";

/// Two suites, quiet machine, released build.
pub(super) fn run() -> Run {
    let suite = |name: &str| SuiteRun {
        suite: name.into(),
        seconds: 12.0,
        stolen_percent: 0.1,
        settings: "Options { seconds: 5 }".into(),
        error: None,
    };
    let machine = Machine {
        cpu: "Example CPU <8> & more".into(),
        cores: 2,
        tsc_ghz: 2.6,
        caches: vec!["L1d 48K".into(), "L2 2048K".into()],
        memory_gib: 24,
        kernel: "6.1.0".into(),
        dpdk: "22.11.11".into(),
        hypervisor: true,
        target_cpu: "x86-64-v3".into(),
        build: "release".into(),
    };
    let before = Before {
        load: "0.10 0.20 0.30".into(),
        busy_percent: 1.0,
        huge_pages: HugePages { size_kib: 2048, total: 640, free: 600 },
    };
    Run {
        commit: Commit { id: "0123456789abcdef".into(), dirty: false },
        started: "2026-01-31T12:00:00Z".into(),
        suites: ["path", "wire", "update", "scale", "kernel"].map(suite).into(),
        measurements: measurements(),
        ..Run::empty(machine, before)
    }
}

fn measurements() -> Vec<Measurement> {
    let cycles = |case: &str, samples: &[f64]| {
        let samples = samples.to_vec();
        Measurement::new("path", case, "cycles_per_packet", "cycles", Better::Less, samples)
    };
    let floor = |case: &str, samples: &[f64]| {
        Measurement::new("path", case, "floor", "cycles", Better::Less, samples.to_vec())
    };
    let change = |case: &str, samples: &[f64]| {
        Measurement::new("update", case, "p50", "us", Better::Less, samples.to_vec())
    };
    let latency = |case: &str, metric: &str, samples: &[f64]| {
        Measurement::new("wire", case, metric, "us", Better::Less, samples.to_vec())
    };
    let ratio = |suite: &str, case: &str, samples: &[f64]| {
        Measurement::new(suite, case, "of_testpmd", "ratio", Better::More, samples.to_vec())
    };
    vec![
        cycles("established/udp4/1/uniform", &[51.0, 52.0, 58.0]).target(60.0),
        cycles("established/udp4/10k/uniform", &[74.0, 75.0, 76.0, 79.0]).target(80.0),
        cycles("established/udp4/1M/uniform", &[141.0, 139.0, 150.0]).target(130.0).note(NOTE),
        floor("established/udp4/1/uniform", &[31.0, 32.0, 33.0]),
        floor("established/udp4/10k/uniform", &[44.0, 45.0, 46.0]),
        floor("established/udp4/1M/uniform", &[85.0, 86.0, 87.0]).note(NOTE),
        floor("established/tcp4/1/uniform", &[35.0, 36.0, 37.0]),
        Measurement::new(
            "path",
            "memory/ipv4",
            "bytes_per_connection",
            "bytes",
            Better::Less,
            vec![96.0],
        )
        .target(128.0),
        latency("latency/10k/50%/vipgate", "latency_p50", &[9.0, 10.0, 11.0]),
        latency("latency/10k/50%/vipgate", "latency_p99", &[20.0, 21.0, 22.0]),
        latency("latency/10k/50%/testpmd", "latency_p50", &[8.0, 8.5, 9.0]),
        latency("latency/10k/50%/testpmd", "latency_p99", &[17.0, 18.0, 19.0]),
        ratio("wire", "zero-loss/10k", &[0.91, 0.92, 0.93]).target(0.9),
        ratio("wire", "zero-loss/1M", &[0.71, 0.74, 0.76]).target(0.75),
        change("one-change/add/10000x25", &[60.0, 61.0, 70.0]).target(100.0),
        change("one-change/add/50000x25", &[66.0, 67.0, 68.0]).target(200.0),
        ratio("scale", "10k/2-workers/handed-over-0", &[1.97, 1.98, 1.99]).target(1.95),
        ratio("scale", "10k/2-workers/handed-over-100", &[1.61, 1.65, 1.7]).target(1.6),
    ]
}

//! What the fuzzers begin with, and what they once found: every input in `fuzz/seeds` must do no harm.

#![allow(clippy::cast_possible_truncation, reason = "test data is small")]
#![allow(unreachable_pub, missing_debug_implementations, reason = "a test crate has no users")]

mod fuzz;
mod model;
mod support;

use std::fs;
use std::path::Path;

use fuzz::Target;
use fuzz::burst::Bursts;
use fuzz::express::Express;
use fuzz::frame::Frames;
use fuzz::pipeline::Pipeline;
use support::frames::{golden, repair};
use support::gateway::FAMILIES;
use support::judge::checked;

fn replay(folder: &str, target: &mut impl Target) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(folder);
    let files = fs::read_dir(&folder).expect("seeds are there");
    let mut paths: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds in {}", folder.display());
    for path in paths {
        println!("{}", path.display());
        target.run(&fs::read(&path).expect("readable"));
    }
}

#[test]
fn frames() {
    replay("frame", &mut Frames::new());
}

#[test]
fn pipelines() {
    replay("pipeline", &mut Pipeline::new());
}

#[test]
fn express_ways() {
    replay("express", &mut Express::new());
}

#[test]
fn bursts() {
    replay("burst", &mut Bursts::new());
}

/// A fuzzer that could not make right checksums would see little.
#[test]
fn checksums_are_repaired() {
    let mut repaired = 0;
    for mut frame in FAMILIES.into_iter().flat_map(golden) {
        let right = checked(&frame).is_ok();
        let payload = frame.len() - 1;
        frame[payload] ^= 1;
        let noticed = right && checked(&frame).is_err();
        repair(&mut frame);
        if noticed && checked(&frame).is_ok() {
            repaired += 1;
        }
    }
    assert!(repaired > 40, "{repaired}");
}

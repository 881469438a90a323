//! Whole workers at work for callgrind: `scripts/instructions.sh` counts the instructions of what is marked here.
//!
//!     instructions          the names of all cases
//!     instructions CASE     prepares the case, runs its packets, prints how many there were
//!
//! Only [`counted_turn`] counts, so neither preparation nor whoever stands for the NIC's other side is in the figure;
//! of the NIC itself two locks and a copy of the burst's pointers are. Keys, addresses and time are fixed: two runs
//! of one program count the same. Every case checks by the workers' counters that its packets took the way it names.

mod cases;
mod rig;

#[path = "../../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::process::ExitCode;

use cases::CASES;
use dataplane::clock::Moment;
use dataplane::worker::Worker;
use support::pooled::PooledNic;

fn main() -> ExitCode {
    let Some(wanted) = std::env::args().nth(1) else {
        CASES.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some((_, run)) = CASES.iter().find(|(name, _)| *name == wanted) else {
        eprintln!(
            "instructions: no case is called {wanted}; without arguments all names are listed"
        );
        return ExitCode::FAILURE;
    };
    println!("{}", run());
    ExitCode::SUCCESS
}

/// A turn that callgrind counts, found by this name. Returns the number of frames handled.
#[inline(never)]
fn counted_turn(worker: &mut Worker<PooledNic>, now: Moment) -> usize {
    // Seen by the black box, the poll can't become a jump that leaves this function early.
    black_box(worker.poll(now))
}

//! Packets, table changes and time in any order, against the model of the property tests.
//!
//!     cargo +nightly fuzz run pipeline -- -max_len=1000 -len_control=0 -detect_leaks=0

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

#[path = "../../dataplane/tests/model/mod.rs"]
mod model;
#[path = "../../dataplane/tests/support/mod.rs"]
mod support;

use model::story::{Step, Story};
use support::gateway::{V4, V6};

thread_local! {
    static STORIES: RefCell<[Story; 2]> = RefCell::new([Story::new(V4), Story::new(V6)]);
}

/// Bytes of a step.
const STEP: usize = 5;

fn step(bytes: &[u8]) -> Step {
    let [kind, a, b, c, d] = <[u8; STEP]>::try_from(bytes).expect("a whole chunk");
    let (connection, flags) = (a, b % 8);
    match kind % 12 {
        0..3 => Step::Ask {
            client: a % 3,
            port: b & 1 == 1,
            destination: c % 8,
            is_tcp: b & 2 == 2,
            flags: d % 8,
        },
        3..6 => Step::Reply { connection, flags },
        6..9 => Step::Continue { connection, flags },
        9 => Step::Error { connection, by_client: b & 1 == 1 },
        10 => Step::Endpoints { service: a % 3, backends: b % 9 },
        _ => Step::Sleep { choice: a % 12 },
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&family, steps)) = input.split_first() else { return };
    STORIES.with_borrow_mut(|stories| {
        let story = &mut stories[usize::from(family & 1)];
        story.renew();
        steps.chunks_exact(STEP).for_each(|bytes| story.run(step(bytes)));
    });
});

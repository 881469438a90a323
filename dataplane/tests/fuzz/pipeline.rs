//! Packets, table changes and time in any order, against the model of the property tests.
//!
//! An input is the family, then five bytes a step.

use super::Target;
use crate::model::story::{Step, Story};
use crate::support::gateway::{V4, V6};

/// Bytes of a step.
const STEP: usize = 5;

pub struct Pipeline([Story; 2]);

impl Pipeline {
    pub fn new() -> Self {
        Self([Story::new(V4), Story::new(V6)])
    }
}

impl Target for Pipeline {
    fn run(&mut self, input: &[u8]) {
        let Some((&family, steps)) = input.split_first() else { return };
        let story = &mut self.0[usize::from(family & 1)];
        story.renew();
        for bytes in steps.as_chunks().0 {
            story.run(step(bytes));
        }
    }
}

fn step(bytes: &[u8; STEP]) -> Step {
    let &[kind, a, b, c, d] = bytes;
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

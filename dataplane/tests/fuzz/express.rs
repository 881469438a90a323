//! The express way against the whole way: connections whose packets are more or less ordinary.
//!
//! An input is the family, then nine bytes a step.

use super::Target;
use crate::model::twins::{BACKENDS, CLIENTS, FLAGS, Oddity, SECONDS, Step, Twins};
use crate::support::gateway::{V4, V6};

/// Bytes of a step.
const STEP: usize = 9;

pub struct Express([Twins; 2]);

impl Express {
    pub fn new() -> Self {
        Self([Twins::new(V4), Twins::new(V6)])
    }
}

impl Target for Express {
    fn run(&mut self, input: &[u8]) {
        let Some((&family, steps)) = input.split_first() else { return };
        let twins = &mut self.0[usize::from(family & 1)];
        twins.renew();
        for bytes in steps.as_chunks().0 {
            twins.run(&step(bytes));
        }
    }
}

fn step(bytes: &[u8; STEP]) -> Step {
    let &[kind, a, b, flags, answers, ref odd @ ..] = bytes;
    let number_of = |byte: u8, count: usize| usize::from(byte) % count;
    match kind % 8 {
        0 => Step::Backends(number_of(a, BACKENDS.len())),
        1 => Step::Sleep(number_of(a, SECONDS.len())),
        _ => Step::Ask {
            client: u16::from(a) % CLIENTS,
            is_tcp: b & 1 == 1,
            masquerade: b & 2 == 2,
            flags: flags % FLAGS.len() as u8,
            answers: [answers & 7, answers >> 3 & 7][..usize::from(b >> 2) % 3].to_vec(),
            oddity: oddity(odd),
        },
    }
}

pub fn oddity(&[kind, a, b, c]: &[u8; 4]) -> Oddity {
    match kind % 10 {
        0 => Oddity::Ttl(a % 4),
        1 => Oddity::Vlan,
        2 => Oddity::Options,
        3 => Oddity::NoChecksum,
        4 => Oddity::Padding(a),
        5 => Oddity::Payload(u16::from_le_bytes([a, b]) % 1_500),
        6 => Oddity::Edits(vec![(a % 80, b), (a % 80 + 1, c)]),
        7 => Oddity::Cut(a % 90),
        8 => Oddity::Word(u16::from_le_bytes([a, b])),
        _ => Oddity::Nothing,
    }
}

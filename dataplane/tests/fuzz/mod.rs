//! What the fuzz targets do with an input, apart from libFuzzer: so that `tests/seeds.rs` can do it, too.
//!
//! Each kind of input is run by a value that stays for the next one (workers' memory is never given back) but is
//! brought to the same state before each: what an input does depends on nothing before it.

#![allow(dead_code, reason = "every target uses its own part")]

pub mod burst;
pub mod express;
pub mod frame;
pub mod pipeline;

/// What runs inputs of one kind. Panics where the engine does wrong.
pub trait Target {
    fn run(&mut self, input: &[u8]);
}

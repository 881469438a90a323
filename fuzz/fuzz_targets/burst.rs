//! See `dataplane/tests/fuzz/burst.rs`.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

#[path = "../../dataplane/tests/fuzz/mod.rs"]
mod fuzz;
#[path = "../../dataplane/tests/model/mod.rs"]
mod model;
#[path = "../../dataplane/tests/support/mod.rs"]
mod support;

use fuzz::Target;
use fuzz::burst::Bursts;

thread_local! {
    static TARGET: RefCell<Bursts> = RefCell::new(Bursts::new());
}

fuzz_target!(|input: &[u8]| TARGET.with_borrow_mut(|target| target.run(input)));

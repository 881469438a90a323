//! The fake API server held against answers of a real one, and the Kubernetes source fed with them.
//!
//! The transcripts are in `tests/fixtures/transcripts/`; its README says how to read them. [`compare`] sends the requests of
//! each file to the fake and compares what comes back, as far as [`exempt`] does not say otherwise. [`replay`] plays the
//! files that cover watchers to the source of the control plane, and looks at the rows that come of it.

#![allow(unreachable_pub, missing_debug_implementations, reason = "a test crate has no users")]

mod clean;
mod compare;
mod exempt;
mod file;
mod imply;
mod listen;
mod player;
mod replay;
#[path = "../support/mod.rs"]
mod support;

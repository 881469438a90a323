//! vipgate's packet engine.

#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "test data is small"))]

pub mod answer;
pub mod classify;
pub mod clock;
pub mod conntrack;
pub mod counters;
pub mod engine;
pub mod fib;
pub mod flow;
pub mod fragments;
pub mod handoff;
pub mod hash;
pub mod nic;
pub mod prefetch;
pub mod rewrite;
pub mod service;
pub mod snapshot;
pub mod sync;
pub mod tables;
pub mod verdict;
pub mod wire;
pub mod worker;

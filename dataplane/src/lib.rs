//! vipgate's packet engine: what happens to a frame, given tables and time.
//!
//! A burst's way, file by file:
//!
//! 1. [`worker`] receives a burst of every port from a [`nic`] queue, with the tables its [`snapshot`] reader holds.
//! 2. [`engine`] parses each frame once ([`wire`]), hashes its flow ([`hash`]) and looks the connection up
//!    ([`conntrack`]).
//! 3. A known connection moves on in its state machine. An unknown packet is classified ([`classify`]): another worker's
//!    ([`owners`], [`handoff`]), the kernel's, a Service's ([`service`]) or somebody's on the way through.
//!    A Service with ClientIP affinity remembers its clients ([`affinity`]).
//! 4. The packet is routed ([`fib`]), rewritten ([`rewrite`]) or turned into its own answer ([`answer`]).
//! 5. The [`verdict`] says where it goes; [`counters`] say what became of it.
//!
//! Invariants: no DPDK, no I/O, no allocation after the start, no unsafe but a prefetch; time, randomness and tables are
//! arguments. So all of it runs in a unit test, on [`nic::memory`].

#![cfg_attr(test, allow(clippy::cast_possible_truncation, reason = "test data is small"))]

pub mod affinity;
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
pub mod held;
pub mod nic;
pub mod owners;
pub mod prefetch;
pub mod ranges;
pub mod rewrite;
pub mod rss;
pub mod service;
pub mod snapshot;
pub mod stages;
pub mod sync;
pub mod tables;
pub mod verdict;
pub mod wire;
pub mod worker;

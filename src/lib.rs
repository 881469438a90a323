//! The vipgate process: DPDK, threads, and the wiring of engine and control plane.
//!
//! A library so that tests and `perf` can use the DPDK types; the binary is `main.rs`.

pub mod args;
pub mod cpu;
pub mod demo;
pub mod dpdk;
pub mod hardware;
pub mod launch;
pub mod notify;
pub mod plane;
pub mod random;
pub mod run;

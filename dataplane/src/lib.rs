//! vipgate's packet engine.

pub mod counters;
pub mod fib;
pub mod flow;
pub mod hash;
pub mod nic;
pub mod service;
pub mod snapshot;
pub mod sync;
pub mod tables;
pub mod verdict;

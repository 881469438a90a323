//! DPDK as owned, safe types. All foreign calls and all `unsafe` of the workspace are in this module.
//!
//! The contract, which makes every public item here safe to use:
//!
//! - One [`Eal`] per process. Pools, ports, queue pairs and memory hold a handle of it, so the
//!   library is shut down after the last of them is gone, whatever the order of drops.
//! - An [`Mbuf`] owns one packet buffer and gives it back exactly once: by drop, by a transmit queue
//!   that took it, or by [`dataplane::nic::Nic::recycle`]. It may move between threads.
//! - A [`Mempool`] whose buffers are not all back when its last owner goes stays allocated, and EAL
//!   with it; the log says how many are missing. A late `Mbuf` therefore never dangles.
//! - A [`QueuePair`] exists only while its port runs, and only once, and its methods take `&mut self`:
//!   a queue is never polled by two threads, nor while its port is started, stopped or closed.
//! - What C reports as a negative number becomes a [`DpdkError`] that names the operation, the system's
//!   reason, what DPDK logged on the way, and the remedy where one is known.
//!
//! What is unsafe and why callers never need it: calling C (arguments come from the types above),
//! reading a packet buffer through its raw header (the `Mbuf` owns it), and moving pointers between a
//! `Burst<Mbuf>` and C (`Mbuf` is a transparent non-null pointer).
//!
//! Cost: receive, transmit and recycle are one foreign call per burst; there is none per packet.
//! Worker threads call [`Eal::register_thread`], which gives them a buffer cache of every pool.

#![allow(unsafe_code, reason = "this is the one room for it; every block says why it is sound")]

mod config;
mod device;
mod eal;
mod error;
mod log;
mod mbuf;
mod memory;
mod mempool;
mod port;
mod queue;
mod sys;

pub use config::{EalConfig, Iova, Memory};
pub use eal::{Eal, RegisteredThread, cycles};
pub use error::{DpdkError, Failure};
pub use mbuf::{Mbuf, RxChecksum};
pub use memory::HugeMemory;
pub use mempool::{Mempool, PoolConfig};
pub use port::{Hashing, Link, Port, PortConfig, PortStats};
pub use queue::QueuePair;

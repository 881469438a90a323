//! What the process tells [`super::Admin`]: plain values, made when somebody asks.

use std::fmt::Debug;
use std::sync::Arc;

use dataplane::counters::WorkerCounters;
use dataplane::fib::Mac;
use dataplane::service::tally::Tallies;

/// Ports and packet pools. Called on the control thread, once per question; must not wait for workers.
pub trait Devices: Debug + Send + Sync {
    /// The ports, in order of port ids.
    fn ports(&self) -> Vec<PortFacts>;
    /// The packet pools.
    fn pools(&self) -> Vec<PoolFacts>;
}

/// A port; frames and bytes are in the workers' counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortFacts {
    /// Its name in the configuration.
    pub name: String,
    /// The driver, as in `net_virtio`.
    pub driver: String,
    /// MAC address.
    pub mac: Mac,
    /// MTU in bytes.
    pub mtu: u16,
    /// Whether the link is up.
    pub link_up: bool,
    /// Speed of the link in Mbit/s, if the driver knows.
    pub link_mbps: Option<u32>,
    /// Frames the device dropped because the workers were too slow.
    pub missed: u64,
    /// Frames the device dropped because no packet buffer was free.
    pub no_buffer: u64,
    /// Frames received with an error.
    pub rx_errors: u64,
    /// Frames the device failed to send.
    pub tx_errors: u64,
}

/// A pool of packet buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolFacts {
    /// Its name.
    pub name: String,
    /// Buffers.
    pub size: u64,
    /// Buffers nobody uses now.
    pub free: u64,
}

/// A worker.
#[derive(Clone, Debug)]
pub struct WorkerFacts {
    /// The core it runs on.
    pub core: usize,
    /// Its counters.
    pub counters: Arc<WorkerCounters>,
    /// What it counts for the rows of Services.
    pub tallies: Arc<Tallies>,
}

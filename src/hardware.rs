//! EAL, packet buffers and ports: what has to be there before a worker can start, and in which order it goes again.
//!
//! Invariants: every port has one queue pair per worker; all ports share one pool, so that any worker may give back
//! any buffer.

use std::sync::{Arc, Mutex};

use control::admin::{Devices, PoolFacts, PortFacts};
use control::config::{Config, Device, HugePages};
use dataplane::conntrack::{self, ConntrackConfig};
use dataplane::fib::{Mac, PortId};
use dataplane::handoff::RING;
use dataplane::held::HELD;
use dataplane::rss::key::{self, Key};
use dataplane::rss::{Ends, Rss};
use thiserror::Error;
use tracing::{info, warn};

use crate::dpdk::{
    DpdkError, Eal, EalConfig, Hashing, HugeMemory, Memory, Mempool, PoolConfig, Port, PortConfig,
    QueuePair,
};
use crate::random::random;

/// Buffers a worker's mempool cache may hold.
const POOL_CACHE: u32 = 256;
/// Buffers that may be on their way elsewhere: to and from the kernel, parked, in bursts.
const POOL_SLACK: u32 = 4096;
/// What a buffer costs beside its data: its header, and its share of the pool's.
const BUFFER_OVERHEAD: u32 = 384;
/// What DPDK itself takes, and room for fragmentation, in MiB.
const BASE_MIB: u64 = 48;

/// Why the ports are not there.
#[derive(Debug, Error)]
pub enum HardwareError {
    /// Something DPDK was asked for.
    #[error(transparent)]
    Dpdk(#[from] DpdkError),
    /// More workers than a port has queues for.
    #[error(
        "port {port} offers {queues} queue pairs, {workers} workers need {workers}: configure fewer worker cores, or \
         give the device more queues (`qpairs=` of net_af_packet, `queues=` of net_virtio_user and net_vhost)"
    )]
    Queues {
        /// Name of the port.
        port: String,
        /// What it has.
        queues: u16,
        /// What is needed.
        workers: u16,
    },
    /// The device hashes whole flows only.
    #[error(
        "port {port}: its driver {driver} can't choose queues by one end of a packet alone; leave `rss` out, or write \
         `both`"
    )]
    Rss {
        /// Name of the port.
        port: String,
        /// Of its device.
        driver: String,
    },
    /// `hugePages: true`, but there are not enough.
    #[error(
        "{needed} MiB of huge pages are needed and {free} MiB are free: write {pages} to \
         /proc/sys/vm/nr_hugepages, lower `conntrack.connections`, or set `memory.hugePages: false`"
    )]
    HugePages {
        /// MiB wanted.
        needed: u64,
        /// MiB free.
        free: u64,
        /// Pages of 2 MiB that would do.
        pages: u64,
    },
}

/// The started ports.
#[derive(Debug)]
pub struct Hardware {
    /// For threads that are to become lcores.
    pub eal: Eal,
    /// All packet buffers.
    pub pool: Arc<Mempool>,
    ports: Arc<Ports>,
    huge: bool,
}

/// Ports, for questions from the control thread.
#[derive(Debug)]
struct Ports {
    started: Mutex<Vec<Started>>,
    pool: Arc<Mempool>,
}

/// A port and what about it does not change while it runs.
#[derive(Debug)]
struct Started {
    name: String,
    driver: String,
    mac: Mac,
    mtu: u16,
    /// How it spreads packets over the workers, where that is known.
    rss: Option<Rss>,
    port: Port,
}

impl Hardware {
    /// Starts EAL and all ports for this many workers. Returns the queue pairs by worker, then by port.
    pub fn start(
        config: &Config,
        conntrack: &ConntrackConfig,
        workers: u16,
        main_core: usize,
    ) -> Result<(Self, Vec<Vec<QueuePair>>), HardwareError> {
        let memory = Plan::new(config, conntrack, workers).choose(config)?;
        let eal = Eal::init(&EalConfig {
            memory,
            main_core: Some(main_core),
            vdevs: config.ports.iter().filter_map(|port| vdev(&port.device)).collect(),
            pci: config.ports.iter().filter_map(|port| pci(&port.device)).collect(),
            ..EalConfig::default()
        })?;
        let mtu = config.ports.iter().map(|port| port.mtu).max().unwrap_or(1500);
        let mbufs = buffers(config, workers);
        let pool =
            PoolConfig { name: "packets".into(), mbufs, cache: POOL_CACHE, mtu, socket: None };
        let pool = Mempool::create(&eal, pool)?;
        let mut ports = Vec::new();
        let mut queues: Vec<Vec<QueuePair>> = (0..workers).map(|_| Vec::new()).collect();
        let keys = Keys { flows: key::of_flows(random).into(), ends: key::of_ends(random).into() };
        for config in &config.ports {
            let (started, pairs) = start_port(&eal, &pool, config, &keys, workers)?;
            ports.push(started);
            for (worker, pair) in queues.iter_mut().zip(pairs) {
                worker.push(pair);
            }
        }
        let ports = Arc::new(Ports { started: Mutex::new(ports), pool: pool.clone() });
        let huge = matches!(memory, Memory::Huge { .. });
        Ok((Self { eal, pool, ports, huge }, queues))
    }

    /// What the admin socket and metrics tell about the ports.
    #[must_use]
    pub fn devices(&self) -> Arc<dyn Devices> {
        self.ports.clone()
    }

    /// MAC addresses, in order of port ids.
    #[must_use]
    pub fn macs(&self) -> Vec<Mac> {
        self.ports.lock().iter().map(|started| started.mac).collect()
    }

    /// How ports spread packets over the workers, in order of port ids.
    #[must_use]
    pub fn rss(&self) -> Arc<[Option<Rss>]> {
        self.ports.lock().iter().map(|started| started.rss.clone()).collect()
    }

    /// Memory for one worker's connection table: huge pages when packets have them.
    pub fn table_memory(
        &self,
        config: &ConntrackConfig,
    ) -> Result<conntrack::Memory, HardwareError> {
        if !self.huge {
            return Ok(config.plain_memory());
        }
        let (v4, v6) = config.bytes();
        let allocate = |len| HugeMemory::allocate(&self.eal, len, None).map(HugeMemory::leak);
        Ok(conntrack::Memory { v4: allocate(v4)?, v6: allocate(v6)? })
    }

    /// Stops and closes the ports; call it after every queue pair is dropped. Returns the number of buffers that are missing:
    /// zero, or something was lost.
    pub fn stop(self) -> u32 {
        // A driver may keep the buffers of its rings until the port is closed, which dropping it does.
        for Started { name, mut port, .. } in self.ports.lock().drain(..) {
            if let Err(error) = port.stop() {
                warn!(port = %name, %error, "port does not stop");
            }
        }
        self.pool.in_use()
    }
}

impl Ports {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Started>> {
        self.started.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Devices for Ports {
    fn ports(&self) -> Vec<PortFacts> {
        self.lock().iter().map(facts).collect()
    }

    fn pools(&self) -> Vec<PoolFacts> {
        let (size, free) = (u64::from(self.pool.size()), u64::from(self.pool.available()));
        vec![PoolFacts { name: self.pool.name().to_owned(), size, free }]
    }
}

fn facts(started: &Started) -> PortFacts {
    let Started { name, driver, mac, mtu, port, .. } = started;
    let link = port.link().ok();
    let stats = port.stats().unwrap_or_default();
    PortFacts {
        name: name.clone(),
        driver: driver.clone(),
        mac: *mac,
        mtu: *mtu,
        link_up: link.as_ref().is_some_and(|link| link.up),
        link_mbps: link.and_then(|link| link.mbps),
        missed: stats.rx_missed,
        no_buffer: stats.rx_no_buffer,
        rx_errors: stats.rx_errors,
        tx_errors: stats.tx_errors,
    }
}

/// What the ports hash with, all with the same.
struct Keys {
    flows: Arc<Key>,
    ends: Arc<Key>,
}

fn start_port(
    eal: &Eal,
    pool: &Arc<Mempool>,
    config: &control::config::Port,
    keys: &Keys,
    workers: u16,
) -> Result<(Started, Vec<QueuePair>), HardwareError> {
    let mut port = Port::open(eal, &device_name(&config.device))?;
    let queues = port.max_queue_pairs()?;
    if queues < workers {
        return Err(HardwareError::Queues { port: config.name.clone(), queues, workers });
    }
    if workers > 1 && !port.hashes(config.rss)? {
        let (port, driver) = (config.name.clone(), port.driver()?);
        return Err(HardwareError::Rss { port, driver });
    }
    let key = if config.rss == Ends::Both { &keys.flows } else { &keys.ends };
    let settings = PortConfig {
        queue_pairs: workers,
        rx_descriptors: config.descriptors,
        tx_descriptors: config.descriptors,
        mtu: config.mtu,
        rss: Some(Hashing { ends: config.rss, key: key.clone() }),
        // The twin's multicast groups and the VIPs' neighbour solicitations come to no address of the NIC.
        promiscuous: true,
        mac: None,
    };
    port.configure(&settings, pool)?;
    let pairs = port.start()?;
    let (driver, mac) = (port.driver()?, port.mac()?);
    // With one worker there is nothing to choose.
    let rss = if workers > 1 { port.rss() } else { None };
    let known = rss.is_some();
    info!(port = %config.name, driver, queues = workers, rss = known, mtu = config.mtu, "port started");
    Ok((Started { name: config.name.clone(), driver, mac, mtu: config.mtu, rss, port }, pairs))
}

/// What the configuration needs, in MiB.
struct Plan {
    packets: u64,
    tables: u64,
}

impl Plan {
    fn new(config: &Config, conntrack: &ConntrackConfig, workers: u16) -> Self {
        let mtu = config.ports.iter().map(|port| port.mtu).max().unwrap_or(1500);
        let buffer = u64::from(BUFFER_OVERHEAD) + u64::from(mtu.max(2048)) + 128;
        let packets = (u64::from(buffers(config, workers)) * buffer).div_ceil(1 << 20) + BASE_MIB;
        let (v4, v6) = conntrack.bytes();
        let tables = ((v4 + v6) as u64 * u64::from(workers)).div_ceil(1 << 20);
        Self { packets, tables }
    }

    /// Huge pages when they are wanted and there, ordinary ones otherwise.
    fn choose(&self, config: &Config) -> Result<Memory, HardwareError> {
        let mib = |needed: u64| u32::try_from(needed).unwrap_or(u32::MAX);
        let needed = config.memory.size_mib.map_or(self.packets + self.tables, u64::from);
        let free = free_huge_mib();
        match config.memory.huge_pages {
            HugePages::Off => {}
            _ if free >= needed => return Ok(Memory::Huge { mib: Some(mib(needed)) }),
            HugePages::Required => {
                return Err(HardwareError::HugePages { needed, free, pages: needed.div_ceil(2) });
            }
            HugePages::Auto => {
                info!(
                    needed_mib = needed,
                    free_mib = free,
                    "not enough huge pages: using ordinary ones"
                );
            }
        }
        let packets = config.memory.size_mib.unwrap_or_else(|| mib(self.packets));
        Ok(Memory::Ordinary { mib: packets })
    }
}

/// Buffers for full rings on every side, caches, and frames in flight.
fn buffers(config: &Config, workers: u16) -> u32 {
    let descriptors: u32 = config.ports.iter().map(|port| u32::from(port.descriptors) * 2).sum();
    let workers = u32::from(workers);
    let [ring, held] = [RING, HELD].map(|frames| u32::try_from(frames).unwrap_or(u32::MAX));
    let handed_over = workers * (workers - 1) * ring;
    workers * (descriptors + POOL_CACHE * 2 + held) + handed_over + POOL_SLACK
}

/// Free huge pages of 2 MiB, in MiB.
fn free_huge_mib() -> u64 {
    let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let pages = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    pages.unwrap_or(0) * 2
}

fn vdev(device: &Device) -> Option<String> {
    match device {
        Device::Vdev(arguments) => Some(arguments.clone()),
        Device::Pci(_) => None,
    }
}

fn pci(device: &Device) -> Option<String> {
    match device {
        Device::Pci(address) => Some(address.clone()),
        Device::Vdev(_) => None,
    }
}

/// The name under which DPDK knows a device.
fn device_name(device: &Device) -> String {
    match device {
        Device::Pci(address) => address.clone(),
        Device::Vdev(arguments) => arguments.split(',').next().unwrap_or_default().to_owned(),
    }
}

/// Number of ports, as the engine counts them.
#[must_use]
pub fn port_count(config: &Config) -> PortId {
    PortId::try_from(config.ports.len()).unwrap_or(PortId::MAX)
}

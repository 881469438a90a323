//! An Ethernet port as the control side sees it: configure, start, look at, stop.
//!
//! Queue pairs exist only between [`Port::start`] and [`Port::stop`]. Configuring, starting and stopping need the
//! port to themselves, so they fail while a queue pair is alive; the port is closed after the last one.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use dataplane::flow::Protocol;
use dataplane::rss::key::Key;
use dataplane::rss::{Ends, Rss};

use super::device::{Device, driver_name};
use super::eal::Eal;
use super::error::{DpdkError, check};
use super::mempool::Mempool;
use super::queue::QueuePair;
use super::sys;

/// How a port is set up.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Receive and transmit queues; one pair per worker.
    pub queue_pairs: u16,
    /// Descriptors of each receive queue; adjusted to what the device takes.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue; adjusted likewise.
    pub tx_descriptors: u16,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Spread received packets over the queues by hash, where the device can.
    pub rss: Option<Hashing>,
    /// Receive frames for any MAC address, where the device can.
    pub promiscuous: bool,
    /// The MAC address to take; the device's own when absent.
    pub mac: Option<[u8; 6]>,
}

/// By which hash packets are spread.
#[derive(Clone)]
pub struct Hashing {
    /// What is hashed; see [`Port::hashes`].
    pub ends: Ends,
    /// The key, of which the device takes as much as it needs. Secret.
    pub key: Arc<Key>,
}

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashing").field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            queue_pairs: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: 1500,
            rss: None,
            promiscuous: false,
            mac: None,
        }
    }
}

/// A port's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether the carrier is there.
    pub up: bool,
    /// Speed in Mbit/s, when the device knows.
    pub mbps: Option<u32>,
    /// Whether both sides can send at once.
    pub full_duplex: bool,
}

/// A port's counters since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets received by workers.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets the device dropped because the receive queue was full.
    pub rx_missed: u64,
    /// Packets received with an error.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets dropped because the pool was empty.
    pub rx_no_buffer: u64,
}

/// A port of the process. One thread at a time may look at it; it can move between threads.
#[derive(Debug)]
pub struct Port {
    device: Arc<Device>,
    /// ethdev's control functions are not made for concurrent use.
    _one_thread: PhantomData<Cell<()>>,
}

impl Port {
    /// Takes the port of this name: a vdev's name or a PCI address.
    ///
    /// # Errors
    /// No driver brought it up (with the reason from EAL's start), or it is open already.
    pub fn open(eal: &Eal, name: &str) -> Result<Self, DpdkError> {
        let device = Device::open(eal, name)?;
        Ok(Self { device: Arc::new(device), _one_thread: PhantomData })
    }

    /// Sets the stopped port up: queues, MTU, hashing, MAC. `pool` is what it receives into.
    ///
    /// # Errors
    /// The device has fewer queues, another range of MTU, or refuses; or the pool's buffers are too
    /// small for the MTU.
    pub fn configure(&mut self, config: &PortConfig, pool: &Arc<Mempool>) -> Result<(), DpdkError> {
        let info = self.info()?;
        self.check_limits(config, &info, pool)?;
        self.exclusive("configure")?.set_up(config, &info, pool)?;
        Ok(())
    }

    /// Starts the port and hands out its queue pairs, one per worker.
    ///
    /// # Errors
    /// The port is not configured, workers hold its queue pairs already, or the device refuses.
    pub fn start(&mut self) -> Result<Vec<QueuePair>, DpdkError> {
        let queues = 0..self.exclusive("start")?.start()?;
        Ok(queues.map(|queue| QueuePair::new(self.device.clone(), queue)).collect())
    }

    /// Stops the port. Its queue pairs must be dropped before.
    ///
    /// # Errors
    /// Workers hold queue pairs, or the device refuses.
    pub fn stop(&mut self) -> Result<(), DpdkError> {
        self.exclusive("stop")?.stop()?;
        Ok(())
    }

    /// The name it was opened by.
    #[must_use]
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// The driver's name, as in `net_virtio`.
    ///
    /// # Errors
    /// The device was unplugged.
    pub fn driver(&self) -> Result<String, DpdkError> {
        Ok(driver_name(&self.info()?))
    }

    /// How many queue pairs the device offers: how many workers can have one.
    ///
    /// # Errors
    /// The device was unplugged.
    pub fn max_queue_pairs(&self) -> Result<u16, DpdkError> {
        let info = self.info()?;
        Ok(info.max_rx_queues.min(info.max_tx_queues))
    }

    /// The NUMA node of the device, when it has one.
    #[must_use]
    pub fn socket(&self) -> Option<i32> {
        self.device.socket()
    }

    /// The MAC address.
    ///
    /// # Errors
    /// The device was unplugged.
    pub fn mac(&self) -> Result<[u8; 6], DpdkError> {
        let mut mac = sys::rte_ether_addr::default();
        // SAFETY: an open port and a place for the answer.
        self.ask("read the MAC address", |id| unsafe {
            sys::rte_eth_macaddr_get(id, &raw mut mac)
        })?;
        Ok(mac.addr_bytes)
    }

    /// The MTU in bytes.
    ///
    /// # Errors
    /// The device was unplugged.
    pub fn mtu(&self) -> Result<u16, DpdkError> {
        let mut mtu = 0;
        // SAFETY: an open port and a place for the answer.
        self.ask("read the MTU", |id| unsafe { sys::rte_eth_dev_get_mtu(id, &raw mut mtu) })?;
        Ok(mtu)
    }

    /// The link, as the device knows it now; does not wait.
    ///
    /// # Errors
    /// The device was unplugged or cannot tell.
    pub fn link(&self) -> Result<Link, DpdkError> {
        let mut link = sys::vipgate_link::default();
        // SAFETY: an open port and a place for the answer.
        self.ask("read the link", |id| unsafe { sys::vipgate_link(id, &raw mut link) })?;
        Ok(Link {
            up: link.up != 0,
            mbps: (link.mbps > 0).then_some(link.mbps),
            full_duplex: link.full_duplex != 0,
        })
    }

    /// The counters.
    ///
    /// # Errors
    /// The device was unplugged or does not count.
    pub fn stats(&self) -> Result<PortStats, DpdkError> {
        let mut stats = sys::rte_eth_stats::default();
        // SAFETY: an open port and a place for the answer.
        self.ask("read the counters", |id| unsafe { sys::rte_eth_stats_get(id, &raw mut stats) })?;
        Ok(PortStats {
            rx_packets: stats.ipackets,
            tx_packets: stats.opackets,
            rx_bytes: stats.ibytes,
            tx_bytes: stats.obytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
            rx_no_buffer: stats.rx_nombuf,
        })
    }

    /// Whether the device can choose queues by these ends. Both it hashes where it hashes at all.
    ///
    /// # Errors
    /// The device was unplugged.
    pub fn hashes(&self, ends: Ends) -> Result<bool, DpdkError> {
        let flag = flag(ends);
        Ok(self.info()?.flow_type_rss_offloads & flag == flag)
    }

    /// How the started port spreads packets over its queues; `None` when it does not, or can't tell.
    #[must_use]
    pub fn rss(&self) -> Option<Rss> {
        let mut told = sys::vipgate_rss {
            flows: 0,
            entries: 0,
            queues: [0; 512],
            key_length: 0,
            key: [0; 64],
        };
        // SAFETY: an open port and a place for the answer.
        let answer =
            self.ask("ask for the hash", |id| unsafe { sys::vipgate_rss(id, &raw mut told) });
        if answer.is_err() || told.flows & sys::VIPGATE_RSS_FLOWS == 0 {
            return None;
        }
        let parts = told.flows & (flag(Ends::Source) | flag(Ends::Destination));
        // The address of one end without its port, say, is not what the engine computes.
        let ends = [Ends::Both, Ends::Source, Ends::Destination];
        let ends = ends.into_iter().find(|ends| flag(*ends) == parts)?;
        let flow = |v4, protocol| match (v4, protocol) {
            (true, Protocol::Tcp) => sys::VIPGATE_RSS_TCP_V4,
            (true, Protocol::Udp) => sys::VIPGATE_RSS_UDP_V4,
            (true, Protocol::Sctp) => sys::VIPGATE_RSS_SCTP_V4,
            (false, Protocol::Tcp) => sys::VIPGATE_RSS_TCP_V6,
            (false, Protocol::Udp) => sys::VIPGATE_RSS_UDP_V6,
            (false, Protocol::Sctp) => sys::VIPGATE_RSS_SCTP_V6,
        };
        let key = told.key.get(..usize::from(told.key_length))?;
        let queues = told.queues.get(..usize::from(told.entries))?;
        Rss::new(ends, key, queues, |v4, protocol| told.flows & flow(v4, protocol) != 0)
    }

    fn info(&self) -> Result<sys::rte_eth_dev_info, DpdkError> {
        let mut info = sys::rte_eth_dev_info::default();
        // SAFETY: an open port and a place for the answer.
        self.ask("query", |id| unsafe { sys::rte_eth_dev_info_get(id, &raw mut info) })?;
        Ok(info)
    }

    fn ask(&self, what: &str, call: impl FnOnce(u16) -> i32) -> Result<(), DpdkError> {
        check(format!("{what} of port {}", self.device.name()), || call(self.device.id()))?;
        Ok(())
    }

    fn exclusive(&mut self, operation: &'static str) -> Result<&mut Device, DpdkError> {
        let name = self.device.name().to_owned();
        Arc::get_mut(&mut self.device).ok_or(DpdkError::QueuesInUse { name, operation })
    }

    fn check_limits(
        &self,
        config: &PortConfig,
        info: &sys::rte_eth_dev_info,
        pool: &Mempool,
    ) -> Result<(), DpdkError> {
        let (name, asked) = (self.device.name().to_owned(), config.queue_pairs);
        for (direction, offered) in [("rx", info.max_rx_queues), ("tx", info.max_tx_queues)] {
            if asked > offered {
                return Err(DpdkError::TooFewQueues { name, direction, offered, asked });
            }
        }
        let (min, max, asked) = (info.min_mtu, info.max_mtu, config.mtu);
        if asked < min || asked > max {
            return Err(DpdkError::Mtu { name, min, max, asked });
        }
        if config.mtu > pool.mtu() {
            let (pool, fits) = (pool.name().to_owned(), pool.mtu());
            return Err(DpdkError::PoolTooSmall { name, pool, mtu: config.mtu, fits });
        }
        Ok(())
    }
}

/// What makes of hashing packets hashing these ends of them.
pub(super) fn flag(ends: Ends) -> u64 {
    match ends {
        Ends::Both => 0,
        Ends::Source => sys::VIPGATE_RSS_SOURCE,
        Ends::Destination => sys::VIPGATE_RSS_DESTINATION,
    }
}

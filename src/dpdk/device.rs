//! The steps of a port's life, each one call of ethdev.
//!
//! A [`Device`] is shared by a [`super::Port`] and its queue pairs and closed by the last of them. Whoever has
//! it exclusively knows that no thread polls a queue.
//! No checksum offload is requested (see ARCHITECTURE.md): virtual peers would hand over packets with partial checksums.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use dataplane::rss::key::Key;
use nix::errno::Errno;

use super::eal::Eal;
use super::error::{DpdkError, Failure, check};
use super::log::trying;
use super::mempool::Mempool;
use super::port::{PortConfig, flag};
use super::sys;

/// Sent frames after which a virtio queue gives their buffers back. By default it waits for nearly the whole ring, and then a
/// burst waits while a thousand buffers are freed.
const VIRTIO_SENT: u16 = 64;

/// A device that is closed when its port and all its queue pairs are gone.
#[derive(Debug)]
pub(super) struct Device {
    id: u16,
    name: String,
    eal: Eal,
    /// What the device receives into, or did before it was configured anew; freed after it is closed.
    pools: Vec<Arc<Mempool>>,
    /// What it hashes with, or did; drivers read keys where they are whenever they start.
    keys: Vec<Arc<Key>>,
    queue_pairs: u16,
    started: bool,
}

impl Device {
    /// Takes the one right to the port of this name.
    pub(super) fn open(eal: &Eal, name: &str) -> Result<Self, DpdkError> {
        let c_name = CString::new(name)
            .map_err(|_| DpdkError::NulByte { what: "port name", value: name.into() })?;
        let name = name.to_owned();
        let mut id = 0;
        // SAFETY: a terminated string and a place for the answer.
        if unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut id) } != 0 {
            let log = eal.start_log();
            return Err(DpdkError::NoSuchPort { name, present: eal.ports(), log });
        }
        if !eal.claim_port(id) {
            return Err(DpdkError::PortOpen { name });
        }
        let (eal, pools, keys) = (eal.clone(), Vec::new(), Vec::new());
        Ok(Self { id, name, eal, pools, keys, queue_pairs: 0, started: false })
    }

    /// Configures the device, stopping it first, with everything it needs to start.
    pub(super) fn set_up(
        &mut self,
        config: &PortConfig,
        info: &sys::rte_eth_dev_info,
        pool: &Arc<Mempool>,
    ) -> Result<(), Failure> {
        self.stop()?;
        self.queue_pairs = 0;
        self.configure(config, info)?;
        // Kept even if a later step fails: some queues may have been set up by then.
        self.pools.push(pool.clone());
        self.set_up_queues(config, info, pool)?;
        self.apply(config)?;
        self.queue_pairs = config.queue_pairs;
        Ok(())
    }

    /// Starts the device if it does not run, and returns how many queue pairs it has.
    pub(super) fn start(&mut self) -> Result<u16, DpdkError> {
        if self.queue_pairs == 0 {
            return Err(DpdkError::NotConfigured { name: self.name.clone() });
        }
        if !self.started {
            let id = self.id;
            // SAFETY: an open, configured port that no other thread uses.
            check(format!("start port {}", self.name), || unsafe { sys::rte_eth_dev_start(id) })?;
            self.started = true;
        }
        Ok(self.queue_pairs)
    }

    pub(super) fn stop(&mut self) -> Result<(), Failure> {
        if self.started {
            let id = self.id;
            // SAFETY: an open port that no thread polls: a `&mut Device` has no queue pairs.
            check(format!("stop port {}", self.name), || unsafe { sys::rte_eth_dev_stop(id) })?;
            self.started = false;
        }
        Ok(())
    }

    pub(super) fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The NUMA node of the device, when it has one.
    pub(super) fn socket(&self) -> Option<i32> {
        // SAFETY: reads a field of an open port.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.id) };
        (socket >= 0).then_some(socket)
    }

    fn configure(
        &mut self,
        config: &PortConfig,
        info: &sys::rte_eth_dev_info,
    ) -> Result<(), Failure> {
        let flows = info.flow_type_rss_offloads & sys::VIPGATE_RSS_FLOWS;
        let mut conf = sys::rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(config.mtu);
        conf.rxmode.mq_mode = sys::VIPGATE_MQ_NONE;
        if let Some(hashing) = &config.rss
            && config.queue_pairs > 1
            && flows != 0
        {
            conf.rxmode.mq_mode = sys::VIPGATE_MQ_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = flows | flag(hashing.ends);
            if (1..=hashing.key.len()).contains(&usize::from(info.hash_key_size)) {
                self.keys.push(hashing.key.clone());
                conf.rx_adv_conf.rss_conf.rss_key = hashing.key.as_ptr().cast_mut();
                conf.rx_adv_conf.rss_conf.rss_key_len = info.hash_key_size;
            }
        }
        let (id, queues) = (self.id, config.queue_pairs);
        // SAFETY: an open, stopped port; C copies the configuration, but reads the key, if any, as long as the port is
        // open, and so long it stays where it is.
        check(format!("configure port {}", self.name), || unsafe {
            sys::rte_eth_dev_configure(id, queues, queues, &raw const conf)
        })?;
        Ok(())
    }

    fn set_up_queues(
        &self,
        config: &PortConfig,
        info: &sys::rte_eth_dev_info,
        pool: &Mempool,
    ) -> Result<(), Failure> {
        let (id, name) = (self.id, &self.name);
        // DPDK's "any NUMA node" is -1, passed as an unsigned number here.
        let socket = self.socket().unwrap_or(-1).cast_unsigned();
        let (mut rx, mut tx) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: an open port and places for the two answers.
        check(format!("size the queues of port {name}"), || unsafe {
            sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &raw mut rx, &raw mut tx)
        })?;
        for queue in 0..config.queue_pairs {
            // SAFETY: the port is configured with this queue; null asks for the driver's defaults; the
            // caller keeps the pool until the port is closed.
            check(format!("set up rx queue {queue} of port {name}"), || unsafe {
                sys::rte_eth_rx_queue_setup(id, queue, rx, socket, std::ptr::null(), pool.as_ptr())
            })?;
            self.set_up_tx_queue(queue, tx, socket, info)?;
        }
        Ok(())
    }

    fn set_up_tx_queue(
        &self,
        queue: u16,
        entries: u16,
        socket: u32,
        info: &sys::rte_eth_dev_info,
    ) -> Result<(), Failure> {
        let id = self.id;
        let what = format!("set up tx queue {queue} of port {}", self.name);
        if driver_name(info).starts_with("net_virtio") && entries > 2 * VIRTIO_SENT {
            let mut conf = info.default_txconf;
            conf.tx_free_thresh = entries - VIRTIO_SENT;
            // The ring may have fewer entries than were asked for, and nothing tells how many.
            let result = trying(|| {
                // SAFETY: an open, stopped port that is configured with this queue; C copies the configuration.
                check(what.clone(), || unsafe {
                    sys::rte_eth_tx_queue_setup(id, queue, entries, socket, &raw const conf)
                })
            });
            match result {
                Err(failure) if failure.errno() == Errno::EINVAL => tracing::info!(
                    target: "dpdk",
                    port = self.name,
                    entries,
                    "its ring has fewer entries: buffers are given back as the driver sees fit"
                ),
                result => return result.map(drop),
            }
        }
        // SAFETY: likewise; null asks for the driver's defaults.
        check(what, || unsafe {
            sys::rte_eth_tx_queue_setup(id, queue, entries, socket, std::ptr::null())
        })?;
        Ok(())
    }

    /// What not every device can do: an unsupported setting stays as it is, except a MAC address asked for.
    fn apply(&self, config: &PortConfig) -> Result<(), Failure> {
        let (id, name, mtu) = (self.id, &self.name, config.mtu);
        // SAFETY: an open, configured port.
        optional(check(format!("set the MTU of port {name} to {mtu}"), || unsafe {
            sys::rte_eth_dev_set_mtu(id, mtu)
        }))?;
        if let Some(addr_bytes) = config.mac {
            let mut mac = sys::rte_ether_addr { addr_bytes };
            // SAFETY: an open port; C copies the address.
            check(format!("set the MAC address of port {name}"), || unsafe {
                sys::rte_eth_dev_default_mac_addr_set(id, &raw mut mac)
            })?;
        }
        if config.promiscuous {
            // SAFETY: an open, configured port.
            optional(check(format!("make port {name} promiscuous"), || unsafe {
                sys::rte_eth_promiscuous_enable(id)
            }))?;
        }
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(target: "dpdk", "{error}");
        }
        // SAFETY: the last owner of an open, stopped port; C frees its queues and their packets.
        if let Err(error) = check(format!("close port {}", self.name), || unsafe {
            sys::rte_eth_dev_close(self.id)
        }) {
            tracing::warn!(target: "dpdk", "{error}");
        }
        self.eal.release_port(self.id);
    }
}

/// The driver's name, as in `net_virtio`.
pub(super) fn driver_name(info: &sys::rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return String::new();
    }
    // SAFETY: the driver's name is a terminated string that lives as long as the driver.
    let name = unsafe { CStr::from_ptr(info.driver_name) };
    name.to_string_lossy().into_owned()
}

fn optional(result: Result<i32, Failure>) -> Result<(), Failure> {
    match result {
        Err(failure) if failure.errno() != Errno::ENOTSUP => Err(failure),
        _ => Ok(()),
    }
}

//! The kernel twin of a port: a TAP device with the port's MAC address.
//!
//! Job: frames the workers punt appear in the kernel as received by the twin; frames the kernel sends through the
//! twin are queued for the workers, which send them out of the port.
//! Invariants: at most [`BATCH`] frames per direction and turn; a full queue drops and counts; punted frames are freed
//! on this thread. The device disappears with [`Twin`].
//! Workers make no system calls, so nobody wakes us for a punt: the queue is polled, which delays a frame by about
//! [`IDLE`].

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam::queue::ArrayQueue;
use dataplane::fib::{Mac, MssClamp};
use dataplane::nic::Frame;
use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec};
use tracing::{debug, info, warn};
use tun_rs::{AsyncDevice, DeviceBuilder, Layer};

use super::bell::{Bell, Pace};
use super::mirror::MirroredPort;
use super::{KernelError, io_error};

/// Frames moved per direction before other tasks get their turn.
const BATCH: usize = 256;
/// Ethernet header and two VLAN tags.
const LINK_HEADERS: usize = 22;

/// How to make a twin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinConfig {
    /// Name of the device, at most 15 bytes.
    pub name: String,
    /// The port's MAC address.
    pub mac: Mac,
    /// Largest IP packet of the port, in bytes.
    pub mtu: u16,
    /// For the mirror: see [`MirroredPort::mss_clamp`].
    pub mss_clamp: Option<MssClamp>,
    /// Addresses with their prefix lengths; the first of a family is its primary.
    pub addresses: Vec<IpNet>,
}

/// The queues a twin shares with the workers of its port.
#[derive(Debug)]
pub struct Queues<F> {
    /// Frames for the kernel; workers push.
    pub punts: Arc<ArrayQueue<F>>,
    /// Frames from the kernel; a worker pops and sends them out of the port.
    pub injects: Arc<ArrayQueue<F>>,
    /// Rings when frames for the kernel came.
    pub bell: Arc<Bell>,
}

/// What happened to frames; read at any time.
#[derive(Debug, Default)]
pub struct TwinCounters {
    /// Frames given to the kernel.
    pub punted: AtomicU64,
    /// Frames the kernel did not take.
    pub punt_errors: AtomicU64,
    /// Frames of the kernel queued for the workers.
    pub injected: AtomicU64,
    /// Frames of the kernel dropped because the queue was full.
    pub inject_full: AtomicU64,
    /// Frames of the kernel dropped because there was no buffer.
    pub alloc_failed: AtomicU64,
}

/// A TAP device that is up.
pub struct Twin {
    config: TwinConfig,
    index: u32,
    device: AsyncDevice,
}

impl std::fmt::Debug for Twin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Twin").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Twin {
    /// Makes the device, gives it MAC address, MTU and addresses, and sets it up.
    ///
    /// # Errors
    /// [`KernelError::OpenTap`] and [`KernelError::Configure`]; then no device is left behind.
    pub async fn create(netlink: &Handle, config: TwinConfig) -> Result<Self, KernelError> {
        let name = config.name.as_str();
        // Without a virtio header and with offloads off, the kernel hands out whole packets with complete checksums.
        let device = DeviceBuilder::new()
            .name(name)
            .layer(Layer::L2)
            .offload(false)
            .packet_information(false)
            .enable(false)
            .build_async()
            .map_err(|source| KernelError::OpenTap { device: name.to_owned(), source })?;
        let failed = |action: &str| {
            let (device, action) = (name.to_owned(), action.to_owned());
            move |source| KernelError::Configure { device, action, source: io_error(source) }
        };
        let mut found = netlink.link().get().match_name(name).execute();
        let link = found.try_next().await.map_err(failed("read the index"))?;
        let index =
            link.ok_or(rtnetlink::Error::RequestFailed).map_err(failed("read the index"))?;
        let index = index.header.index;

        set_sysctls(name);
        let base = || LinkMessageBuilder::<LinkUnspec>::default().index(index);
        for (action, change) in [
            ("set the MAC address", base().address(config.mac.to_vec())),
            ("set the MTU", base().mtu(config.mtu.into())),
            ("set the state up", base().up()),
        ] {
            netlink.link().set(change.build()).execute().await.map_err(failed(action))?;
        }
        for net in &config.addresses {
            let action = format!("add address {net}");
            add_address(netlink, index, net).await.map_err(failed(&action))?;
        }
        info!(device = name, index, "kernel twin is up");
        Ok(Self { config, index, device })
    }

    /// The kernel's interface index.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// What the mirror has to know of this twin.
    #[must_use]
    pub fn mirrored(&self) -> MirroredPort {
        MirroredPort {
            index: self.index,
            mac: self.config.mac,
            mtu: self.config.mtu,
            mss_clamp: self.config.mss_clamp,
            configured: self.config.addresses.iter().map(IpNet::addr).collect(),
        }
    }

    /// Moves frames until the device fails, which is what is returned. `alloc` copies bytes into a frame the workers
    /// can send, or has no buffer left.
    pub async fn run<F: Frame>(
        self,
        queues: Queues<F>,
        alloc: impl Fn(&[u8]) -> Option<F>,
        counters: Arc<TwinCounters>,
    ) -> KernelError {
        let mut buffer = vec![0; usize::from(self.config.mtu) + LINK_HEADERS];
        let mut pace = Pace::new(queues.bell);
        loop {
            tokio::select! {
                // An error state shows in the read below.
                _ = self.device.readable() => {}
                () = pace.wait() => {}
            }
            let injected = match self.inject(&mut buffer, &queues.injects, &alloc, &counters) {
                Ok(injected) => injected,
                Err(source) => return KernelError::Lost { device: self.config.name, source },
            };
            // What the kernel sends is mostly answered.
            pace.found(self.punt(&queues.punts, &counters) + injected > 0);
        }
    }

    /// Kernel to workers; returns the number of frames read.
    fn inject<F: Frame>(
        &self,
        buffer: &mut [u8],
        injects: &ArrayQueue<F>,
        alloc: &impl Fn(&[u8]) -> Option<F>,
        counters: &TwinCounters,
    ) -> io::Result<usize> {
        let mut read = 0;
        while read < BATCH {
            let len = match self.device.try_recv(buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            read += 1;
            let outcome = match alloc(&buffer[..len]).map(|frame| injects.push(frame)) {
                None => &counters.alloc_failed,
                Some(Err(_full)) => &counters.inject_full,
                Some(Ok(())) => &counters.injected,
            };
            outcome.fetch_add(1, Relaxed);
        }
        Ok(read)
    }

    /// Workers to kernel; returns the number of frames taken from the queue.
    fn punt<F: Frame>(&self, punts: &ArrayQueue<F>, counters: &TwinCounters) -> usize {
        let mut taken = 0;
        while taken < BATCH {
            let Some(frame) = punts.pop() else { break };
            taken += 1;
            // Fails while the device is set down, or for a frame shorter than a header: nothing to wait for.
            let outcome = match self.device.try_send(frame.bytes()) {
                Ok(_) => &counters.punted,
                Err(_) => &counters.punt_errors,
            };
            outcome.fetch_add(1, Relaxed);
        }
        taken
    }
}

async fn add_address(netlink: &Handle, index: u32, net: &IpNet) -> Result<(), rtnetlink::Error> {
    let mut request = netlink.address().add(index, net.addr(), net.prefix_len()).replace();
    if matches!(net.addr(), IpAddr::V6(_)) {
        // Duplicate detection would hold the address back for a second or more.
        let flags = AddressAttribute::Flags(AddressFlags::Nodad);
        request.message_mut().attributes.push(flags);
    }
    request.execute().await
}

/// Settings without which the twin still works, only worse; they need a writable /proc/sys.
fn set_sysctls(device: &str) {
    // The kernel applies the stricter of `all` and the device, except that 2 (loose) overrides 1 (strict).
    let all = std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter").unwrap_or_default();
    let rp_filter = if all.trim() == "0" { "0" } else { "2" };
    for (family, key, value, why) in [
        ("ipv4", "rp_filter", rp_filter, "replies may come in on another port"),
        ("ipv6", "accept_dad", "0", "the link-local address is usable at once"),
        ("ipv6", "dad_transmits", "0", "the link-local address is usable at once"),
    ] {
        let path = format!("/proc/sys/net/{family}/conf/{device}/{key}");
        match std::fs::write(&path, value) {
            Ok(()) => {}
            // IPv6 is not in this kernel.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                debug!(path, "no such setting")
            }
            Err(error) => warn!(path, value, why, %error, "cannot change a setting; continuing"),
        }
    }
}

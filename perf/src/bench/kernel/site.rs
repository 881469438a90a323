//! The cables and both ends: a client and a node with endpoints, and whichever gateway is between them at the moment.
//!
//! There is one pair of veth devices to either side for all gateways: the gateway's ends are moved from one gateway's
//! namespace to the next one's. Packets for the gateway are taken in by a kernel thread (threaded NAPI) that is bound
//! to the gateway's core, before everything else that wants to run there: as a NIC's interrupt would. Without it a veth
//! does the gateway's work on the sender's core.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::super::Error;
use super::namespace::{Janitor, Namespace, feed};
use super::plan::{
    CLIENT, CLIENT_MAC, CLUSTER_IPS, ENDPOINT_PORT, ENDPOINTS, INSIDE, INSIDE_MAC, NODE, NODE_MAC,
    OUTSIDE, OUTSIDE_MAC, PREFIX, text,
};

/// The device at the client and at the node.
pub(super) const FAR_END: &str = "eth0";

/// Everything but the gateway.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) client: Namespace,
    pub(super) node: Namespace,
    /// Where the gateway's ends of the cables are.
    gateway: Namespace,
    /// The gateway's ends.
    pub(super) outside: String,
    pub(super) inside: String,
    /// The core of the gateway.
    core: usize,
    prefix: String,
    /// For configurations and logs.
    pub(super) folder: PathBuf,
    _janitor: Janitor,
}

impl Site {
    pub(super) fn new(core: usize) -> Result<Self, Error> {
        let id = std::process::id();
        let prefix = format!("perfk{id}-");
        let folder = std::env::temp_dir().join(format!("perfk{id}"));
        let janitor = Janitor::hire(&prefix, &folder)?;
        fs::create_dir_all(&folder)
            .map_err(|error| Error(format!("{}: {error}", folder.display())))?;
        let namespace = |role| Namespace::new(&prefix, role);
        let site = Self {
            client: namespace("client")?,
            node: namespace("node")?,
            gateway: namespace("rest")?,
            outside: format!("po{id}"),
            inside: format!("pi{id}"),
            core,
            prefix: prefix.clone(),
            folder,
            _janitor: janitor,
        };
        site.lay_cables()?;
        Ok(site)
    }

    /// A namespace for a gateway.
    pub(super) fn gateway(&self, role: &str) -> Result<Namespace, Error> {
        Namespace::new(&self.prefix, role)
    }

    /// Moves the gateway's ends of the cables to another gateway, clean.
    pub(super) fn attach(&mut self, gateway: &Namespace) -> Result<(), Error> {
        let Self { outside, inside, .. } = self;
        // A gateway that was killed leaves its XDP program behind.
        let ends = [outside, inside];
        let leave = ends.iter().flat_map(|end| {
            [format!("link set {end} xdp off"), format!("link set {end} netns {}", gateway.name())]
        });
        if gateway.name() != self.gateway.name() {
            self.gateway.ip(&leave.collect::<Vec<_>>())?;
        }
        gateway.ip(&ends.map(|end| format!("link set {end} up")))?;
        self.gateway = gateway.clone();
        Ok(())
    }

    /// Gives the receiving thread of the gateway's outer device to the gateway's core. The thread may be another one
    /// whenever a device or its driver started anew.
    pub(super) fn bind_receiver(&self) -> Result<(), Error> {
        let name = format!("napi/{}-", self.outside);
        let failed = |error: &dyn std::fmt::Display| {
            Error(format!(
                "the kernel's thread {name}* cannot be bound to core {}: {error}",
                self.core
            ))
        };
        let mut cores = CpuSet::new();
        cores.set(self.core).map_err(|error| failed(&error))?;
        let threads = threads(&name).map_err(|error| failed(&error))?;
        if threads.is_empty() {
            return Err(failed(&"there is none; this needs Linux 5.12 or later"));
        }
        for thread in threads {
            sched_setaffinity(Pid::from_raw(thread), &cores).map_err(|error| failed(&error))?;
            let id = thread.to_string();
            feed(Command::new("chrt").args(["--fifo", "--pid", "1", &id]), "")?;
        }
        Ok(())
    }

    /// How many packets for endpoints the node has seen.
    pub(super) fn translated(&self) -> Result<u64, Error> {
        let said = self.node.output("nft", &["list", "counter", "netdev", "sink", "translated"])?;
        let mut words = said.split_whitespace().skip_while(|&word| word != "packets").skip(1);
        words
            .next()
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| Error(format!("nft lists a counter without packets: {said}")))
    }

    fn lay_cables(&self) -> Result<(), Error> {
        let Self { client, node, gateway, outside, inside, .. } = self;
        for (end, mac, far, far_mac) in
            [(outside, OUTSIDE_MAC, client, CLIENT_MAC), (inside, INSIDE_MAC, node, NODE_MAC)]
        {
            gateway.ip(&[format!(
                "link add {end} address {} type veth peer name {FAR_END} address {} netns {}",
                text(mac),
                text(far_mac),
                far.name()
            )])?;
            // Nobody speaks IPv6 here, and its router solicitations would be counted.
            if Path::new("/proc/sys/net/ipv6").exists() {
                gateway.set(&format!("ipv6/conf/{end}/disable_ipv6"), "1")?;
                far.set(&format!("ipv6/conf/{FAR_END}/disable_ipv6"), "1")?;
            }
        }
        client.ip(&[
            format!("link set {FAR_END} up"),
            format!("address add {CLIENT}/{PREFIX} dev {FAR_END}"),
            format!("route add {CLUSTER_IPS} via {OUTSIDE}"),
        ])?;
        node.ip(&[
            format!("link set {FAR_END} up"),
            format!("address add {NODE}/{PREFIX} dev {FAR_END}"),
            format!("route add default via {INSIDE}"),
        ])?;
        // Packets end here, as early as the kernel lets them.
        client.nft(&format!(
            "table netdev sink {{ chain in {{ type filter hook ingress device {FAR_END} priority 0
                udp dport >= 0 drop
            }}; }}\n"
        ))?;
        node.nft(&format!(
            "table netdev sink {{ counter translated {{ }}; chain in {{ type filter hook ingress device {FAR_END} priority 0
                ip daddr {ENDPOINTS} udp dport {ENDPOINT_PORT} counter name translated drop
                meta l4proto udp drop
            }}; }}\n"
        ))?;
        // With both, a veth receives by NAPI even without an XDP program.
        gateway.output("ethtool", &["-K", outside, "gro", "on"])?;
        client.output("ethtool", &["-K", FAR_END, "tx", "off"])?;
        gateway.ip(&[format!("link set {outside} up")])?;
        gateway.output("sh", &["-c", "echo 1 > /sys/class/net/$0/threaded", outside]).map(drop)
    }
}

/// Processes whose name begins so.
fn threads(name: &str) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended by now.
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.starts_with(name) {
            found.push(id);
        }
    }
    Ok(found)
}

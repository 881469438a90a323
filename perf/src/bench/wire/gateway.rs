//! `vipgate run` as anybody would start it, with one port that leads to clients and backends alike.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use control::admin::{self, Status};
use dataplane::conntrack::ConntrackConfig;
use dataplane::fib::Mac;

use super::super::Error;
use super::super::process::{LAUNCHER, Process};
use super::super::scrape::{self, HTTP};
use super::frames::{BACKEND_PORT, BACKENDS, FIRST_BACKEND, GATEWAY_MAC, ROUTER, VIP, VIP_PORT};

/// Its port's kernel twin.
const TWIN: &str = "vg-wire";
/// Connections of IPv6 it has room for: none come.
const CONNECTIONS_V6: usize = 1000;
/// How long it may take to serve its Service.
const START: Duration = Duration::from_secs(15);

/// A running gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) process: Process,
    admin: PathBuf,
}

/// Where and with what it runs.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) folder: &'a Path,
    /// The vhost-user socket.
    pub(super) socket: &'a Path,
    /// More arguments of the device.
    pub(super) virtio: Option<&'a str>,
    /// Entries of each ring.
    pub(super) ring: u16,
    /// The core that moves packets, and the one for everything else.
    pub(super) cores: [usize; 2],
    pub(super) connections: u32,
}

impl Place<'_> {
    /// The device, for DPDK: the same for both.
    pub(super) fn vdev(&self) -> String {
        let Self { socket, ring, virtio, .. } = self;
        let mac = GATEWAY_MAC.map(|byte| format!("{byte:02x}")).join(":");
        let more = virtio.map(|virtio| format!(",{virtio}")).unwrap_or_default();
        let socket = socket.display();
        format!("net_virtio_user0,path={socket},mac={mac},queues=1,queue_size={ring}{more}")
    }
}

/// What its counters said at one moment.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    /// Frames of the port.
    pub(super) received: u64,
    sent: u64,
    /// Connections now, and those of them that are half open or unanswered.
    pub(super) entries: u64,
    pub(super) half_open: u64,
    /// Connections made, and ended or evicted, so far.
    created: u64,
    gone: u64,
    /// Frames that it or its device dropped, by reason.
    drops: BTreeMap<String, u64>,
}

/// What they have done from one moment to another.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) created: u64,
    pub(super) gone: u64,
    /// Reasons that dropped something.
    pub(super) drops: BTreeMap<String, u64>,
}

impl Gateway {
    /// Starts it and waits until it serves.
    pub(super) fn start(program: &Path, place: &Place<'_>) -> Result<Self, Error> {
        let folder = place.folder;
        let admin = folder.join("admin.sock");
        let config = folder.join("vipgate.yaml");
        let services = folder.join("services.yaml");
        for (file, text) in
            [(&config, configuration(place, &admin, &services)), (&services, manifests())]
        {
            fs::write(file, text).map_err(|error| Error(format!("{}: {error}", file.display())))?;
        }
        let line = [program.as_os_str(), "run".as_ref(), "--config".as_ref(), config.as_os_str()];
        let process = Process::start("vipgate", Command::new(LAUNCHER), &line, folder)?;
        let mut gateway = Self { process, admin };
        let admin = gateway.admin.clone();
        gateway.process.wait("serve its Service", START, |_| {
            admin::status(&admin).is_ok_and(|status| {
                let tables = status.tables;
                tables.endpoints == usize::from(BACKENDS)
                    && tables.acknowledged >= tables.generation
            })
        })?;
        Ok(gateway)
    }

    /// Tells its kernel that all next hops are at the generator's port, once and for all: a kernel that asks while the
    /// gateway is stopped has no answer, and forgets.
    pub(super) fn know_neighbors(&self, mac: Mac) -> Result<(), Error> {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        let first = FIRST_BACKEND.to_bits();
        let backends = (first..first + u32::from(BACKENDS)).map(Ipv4Addr::from_bits);
        for address in backends.chain([ROUTER]) {
            let line = format!("neigh replace {address} lladdr {mac} dev {TWIN} nud permanent");
            let ip = Command::new("ip").args(line.split(' ')).output();
            match ip {
                Ok(output) if output.status.success() => {}
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    return Err(Error(format!("`ip {line}` failed: {}", said.trim())));
                }
                Err(error) => {
                    return Err(Error(format!("cannot run `ip` ({error}): install iproute2")));
                }
            }
        }
        Ok(())
    }

    /// Its counters now.
    pub(super) fn counters(&self) -> Result<Counters, Error> {
        let status =
            admin::status(&self.admin).map_err(|error| self.process.fault(&error.to_string()))?;
        Ok(Counters::of(&status))
    }

    /// Cycles that its worker has spent on packets.
    pub(super) fn busy_cycles(&self) -> Result<u64, Error> {
        let text =
            scrape::metrics().map_err(|error| self.process.fault(&format!("/metrics: {error}")))?;
        let cycles = scrape::value(&text, "vipgate_worker_cycles_total", "busy");
        cycles.ok_or_else(|| self.process.fault("does not tell the cycles of its worker"))
    }
}

impl Counters {
    fn of(status: &Status) -> Self {
        let mut drops: BTreeMap<String, u64> =
            status.drops.iter().map(|drop| (drop.reason.clone(), drop.packets)).collect();
        let ports = &status.ports;
        for (name, count) in [
            ("port missed", ports.iter().map(|port| port.missed).sum()),
            ("port no_buffer", ports.iter().map(|port| port.no_buffer).sum()),
            ("port rx_errors", ports.iter().map(|port| port.rx_errors).sum()),
        ] {
            drops.insert(name.to_owned(), count);
        }
        let connections = &status.connections;
        Self {
            received: ports.iter().map(|port| port.rx_packets).sum(),
            sent: ports.iter().map(|port| port.tx_packets).sum(),
            entries: connections.entries,
            half_open: connections.half_open,
            created: connections.created,
            gone: connections.evicted + connections.expired,
            drops,
        }
    }

    /// What has happened since `before`.
    pub(super) fn since(&self, before: &Self) -> Change {
        let dropped = |(reason, count): (&String, &u64)| {
            let before = before.drops.get(reason).copied().unwrap_or(0);
            (reason.clone(), count.saturating_sub(before))
        };
        Change {
            received: self.received - before.received,
            sent: self.sent - before.sent,
            created: self.created - before.created,
            gone: self.gone - before.gone,
            drops: self.drops.iter().map(dropped).filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// Huge pages it needs: tables, packet buffers, DPDK itself.
pub(super) fn memory_mib(connections: u32, ring: u16) -> u32 {
    let tables = ConntrackConfig {
        connections_v4: connections as usize,
        connections_v6: CONNECTIONS_V6,
        ..ConntrackConfig::default()
    };
    let (v4, v6) = tables.bytes();
    let tables = u32::try_from((v4 + v6) >> 20).unwrap_or(u32::MAX);
    tables + u32::from(ring) / 128 + 96
}

fn configuration(place: &Place<'_>, admin: &Path, services: &Path) -> String {
    let Place { ring, cores: [worker, main], connections, .. } = place;
    format!(
        "\
# Written by `perf wire`.
ports:
- name: wire
  twin: {TWIN}
  vdev: \"{}\"
  descriptors: {ring}
  addresses: [192.0.2.1/24, 10.0.1.1/24]
  routes:
  - {{to: 198.18.0.0/15, via: {ROUTER}}}
workers:
  cores: [{worker}]
  mainCore: {main}
  idle: busy
memory:
  hugePages: true
conntrack:
  connections: {connections}
  connectionsV6: {CONNECTIONS_V6}
  timeouts: {{udp: 1h, udpStream: 2h}}
source:
  manifests: {{path: {}}}
services:
  role: edge
http:
  address: {}:{}
admin:
  socket: {}
",
        place.vdev(),
        services.display(),
        HTTP.0,
        HTTP.1,
        admin.display(),
    )
}

/// One Service; policy Local keeps the client's address at the edge.
fn manifests() -> String {
    let mut text = format!(
        "\
apiVersion: v1
kind: Service
metadata: {{name: wire, namespace: perf}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  allocateLoadBalancerNodePorts: false
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10]
  ipFamilies: [IPv4]
  ports:
  - {{name: udp, protocol: UDP, port: {VIP_PORT}, targetPort: {BACKEND_PORT}}}
status:
  loadBalancer: {{ingress: [{{ip: {VIP}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: wire-1, namespace: perf, labels: {{kubernetes.io/service-name: wire}}}}
addressType: IPv4
ports:
- {{name: udp, protocol: UDP, port: {BACKEND_PORT}}}
endpoints:
"
    );
    for number in 0..u32::from(BACKENDS) {
        let address = Ipv4Addr::from_bits(FIRST_BACKEND.to_bits() + number);
        let _ = writeln!(text, "- {{addresses: [{address}], conditions: {{ready: true}}}}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_one() {
        let place = Place {
            folder: Path::new("/tmp"),
            socket: Path::new("/tmp/wire.sock"),
            virtio: Some("packed_vq=1"),
            ring: 1024,
            cores: [1, 0],
            connections: 2_000_000,
        };
        let text = configuration(&place, Path::new("/tmp/a.sock"), Path::new("/tmp/s.yaml"));
        let config = control::config::Config::parse(&text, "wire").expect("valid");
        config.require_runnable().expect("complete");
        assert_eq!((config.ports.len(), config.conntrack.connections), (1, 2_000_000));
    }
}

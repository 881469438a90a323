//! Gateways on DPDK's drivers for kernel devices: vipgate, and testpmd, which forwards without looking at packets.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use control::admin::{self, Connections, Status};
use dataplane::stages::Stage;

use super::super::Error;
use super::super::process::{LAUNCHER, Process};
use super::super::scrape::{self, HTTP};
use super::namespace::Namespace;
use super::plan::{
    Cluster, ENDPOINT_PORT, ENDPOINTS, INSIDE, NODE, OUTSIDE, PODS, PREFIX, SERVICE_PORT,
};
use super::site::Site;

const START: Duration = Duration::from_secs(20);

/// How DPDK gets at a veth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    /// XDP sockets: packets leave the kernel before its IP stack.
    AfXdp,
    /// Packet sockets with rings.
    AfPacket,
}

/// The cores of the worker and of everything else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cores {
    pub(super) gateway: usize,
    pub(super) others: usize,
}

/// A running vipgate.
#[derive(Debug)]
pub(super) struct Vipgate {
    process: Process,
    admin: PathBuf,
    namespace: Namespace,
}

/// Packets of a sample, and what they took between receiving and sending, in cycles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    packets: u64,
    cycles: u64,
}

impl Own {
    /// Cycles a packet since then.
    #[expect(clippy::cast_precision_loss, reason = "a run has fewer than 2^53 cycles")]
    pub(super) fn since(self, before: Self) -> f64 {
        (self.cycles - before.cycles) as f64 / (self.packets - before.packets) as f64
    }
}

impl Driver {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AfXdp => "af_xdp",
            Self::AfPacket => "af_packet",
        }
    }

    /// A device, as EAL wants it.
    fn device(self, number: usize, interface: &str) -> String {
        match self {
            // A veth's NAPI can't be polled by the socket that it feeds: asking for it costs a system call a poll.
            Self::AfXdp => format!("net_af_xdp{number},iface={interface},busy_budget=0"),
            Self::AfPacket => format!("net_af_packet{number},iface={interface},qdisc_bypass=1"),
        }
    }

    fn devices(self, site: &Site) -> [String; 2] {
        [self.device(0, &site.outside), self.device(1, &site.inside)]
    }

    /// Packet sockets get copies: the kernel must not go on with the packets themselves.
    pub(super) fn silence_kernel(self, site: &Site, gateway: &Namespace) -> Result<(), Error> {
        if self == Self::AfXdp {
            return Ok(());
        }
        let chain = |device| {
            format!(
                "chain {device} {{ type filter hook ingress device {device} priority 0; policy drop; }}\n"
            )
        };
        let (outside, inside) = (chain(&site.outside), chain(&site.inside));
        let table = "table netdev silence";
        gateway.nft(&format!("add {table}\ndelete {table}\n{table} {{\n{outside}{inside}}}\n"))
    }
}

/// Starts `dpdk-testpmd`, which passes frames from one device to the other as they are.
pub(super) fn testpmd(
    site: &Site,
    gateway: &Namespace,
    driver: Driver,
    cores: Cores,
) -> Result<Process, Error> {
    let [outside, inside] = driver.devices(site);
    let line = [
        // What it says shall come when it says it, although nobody sits at a terminal.
        "stdbuf".into(),
        "-oL".into(),
        "dpdk-testpmd".into(),
        format!("--lcores=0@{},1@{}", cores.others, cores.gateway),
        "--no-huge".into(),
        "--no-shconf".into(),
        "-m256".into(),
        "--no-pci".into(),
        "--no-telemetry".into(),
        format!("--file-prefix=perf-kernel-{}", std::process::id()),
        format!("--vdev={outside}"),
        format!("--vdev={inside}"),
        "--".into(),
        "-i".into(),
        "--auto-start".into(),
        "--forward-mode=io".into(),
        "--nb-cores=1".into(),
        "--total-num-mbufs=16384".into(),
    ];
    let mut process = Process::start("testpmd", gateway.command(LAUNCHER), &line, &site.folder)?;
    process.wait("start", START, |said| said.contains("testpmd>"))?;
    Ok(process)
}

impl Vipgate {
    /// Starts it and waits until it serves the cluster.
    pub(super) fn start(
        site: &Site,
        gateway: &Namespace,
        program: &Path,
        driver: Driver,
        cluster: Cluster,
        cores: Cores,
    ) -> Result<Self, Error> {
        let folder = &site.folder;
        let admin = folder.join("admin.sock");
        let manifests = folder.join(format!("services-{}.yaml", cluster.services));
        let config = folder.join("vipgate.yaml");
        let write = |file: &Path, text: String| {
            fs::write(file, text).map_err(|error| Error(format!("{}: {error}", file.display())))
        };
        if !manifests.exists() {
            write(&manifests, manifest(cluster))?;
        }
        write(&config, configuration(&driver.devices(site), &manifests, &admin, cores))?;
        let line = [program.as_os_str(), "run".as_ref(), "--config".as_ref(), config.as_os_str()];
        let process = Process::start("vipgate", gateway.command(LAUNCHER), &line, folder)?;
        let mut vipgate = Self { process, admin, namespace: gateway.clone() };
        let services = cluster.services as usize;
        let admin = vipgate.admin.clone();
        vipgate.process.wait("serve its Services", START, |_| {
            admin::status(&admin).is_ok_and(|status| {
                let tables = status.tables;
                tables.services == services && tables.acknowledged >= tables.generation
            })
        })?;
        Ok(vipgate)
    }

    /// Whether its counters tell the same story: so many packets forwarded to the node, all in these connections.
    pub(super) fn check(&self, forwarded: u64, flows: u64) -> Result<(), Error> {
        let status = self.status()?;
        let Connections { entries, created, half_open, .. } = status.connections;
        let sent = status.ports.last().map_or(0, |port| port.tx_packets);
        if sent >= forwarded && entries == flows && created == flows && half_open == 0 {
            return Ok(());
        }
        Err(Error(format!(
            "it sent {sent} packets to the node, which got {forwarded}; {created} connections were made for {flows} \
             flows, {entries} are there, {half_open} half open; drops: {:?}",
            status.drops
        )))
    }

    /// What its packets have cost so far, without the driver.
    pub(super) fn own(&self) -> Result<Own, Error> {
        let text = self.namespace.run(scrape::metrics);
        let text = text.map_err(|error| self.process.fault(&format!("/metrics: {error}")))?;
        let stages = Stage::ALL.into_iter();
        let own = stages.filter(|stage| !matches!(stage, Stage::Receive | Stage::Transmit));
        let cycles: Option<u64> = own
            .map(|stage| scrape::value(&text, "vipgate_worker_stage_cycles_total", stage.name()))
            .sum();
        let packets = scrape::value(&text, "vipgate_worker_stage_packets_total", "0");
        let own = cycles.zip(packets).map(|(cycles, packets)| Own { packets, cycles });
        own.ok_or_else(|| self.process.fault("does not tell the cycles of its stages"))
    }

    fn status(&self) -> Result<Status, Error> {
        admin::status(&self.admin).map_err(|error| self.process.fault(&error.to_string()))
    }
}

fn configuration(devices: &[String; 2], manifests: &Path, admin: &Path, cores: Cores) -> String {
    let [outside, inside] = devices;
    format!(
        "\
# Written by `perf kernel`.
ports:
- name: outside
  vdev: \"{outside}\"
  addresses: [{OUTSIDE}/{PREFIX}]
- name: inside
  vdev: \"{inside}\"
  addresses: [{INSIDE}/{PREFIX}]
  routes: [{{to: {ENDPOINTS}, via: {NODE}}}]
workers:
  cores: [{}]
  mainCore: {}
  idle: busy
memory:
  hugePages: false
conntrack:
  connections: 100000
  connectionsV6: 1000
source:
  manifests: {{path: {}}}
services:
  role: edge
  clusterCIDR: {PODS}
http:
  address: {}:{}
admin:
  socket: {}
",
        cores.gateway,
        cores.others,
        manifests.display(),
        HTTP.0,
        HTTP.1,
        admin.display(),
    )
}

fn manifest(cluster: Cluster) -> String {
    let mut text = String::new();
    for number in 0..cluster.services {
        let ip = cluster.cluster_ip(number);
        let _ = write!(
            text,
            "\
---
apiVersion: v1
kind: Service
metadata: {{name: svc{number}, namespace: perf}}
spec:
  type: ClusterIP
  clusterIP: {ip}
  clusterIPs: [{ip}]
  ipFamilies: [IPv4]
  ports: [{{name: p, protocol: UDP, port: {SERVICE_PORT}, targetPort: {ENDPOINT_PORT}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: svc{number}-1, namespace: perf, labels: {{kubernetes.io/service-name: svc{number}}}}}
addressType: IPv4
ports: [{{name: p, protocol: UDP, port: {ENDPOINT_PORT}}}]
endpoints:
"
        );
        for address in cluster.endpoints(number) {
            let _ = writeln!(text, "- {{addresses: [{address}], conditions: {{ready: true}}}}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_one() {
        let devices = [Driver::AfXdp.device(0, "po1"), Driver::AfPacket.device(1, "pi1")];
        let cores = Cores { gateway: 1, others: 0 };
        let text = configuration(&devices, Path::new("/tmp/s.yaml"), Path::new("/tmp/a"), cores);
        let config = control::config::Config::parse(&text, "kernel").expect("valid");
        config.require_runnable().expect("complete");
        assert_eq!(config.ports.len(), 2);
    }
}

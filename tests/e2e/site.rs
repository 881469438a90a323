//! A client, a gateway and two backends:
//!
//!     client --------- out [gateway] in ---------- backends
//!     192.0.2.10       192.0.2.1  10.0.1.1         10.0.1.11, 10.0.1.12
//!     10.244.0.5 (a pod's address)
//!
//! and the same in IPv6. With [`Layout::path_mtu`] there is a router on either side, and the gateway's ports are in
//! transit networks of their own. Everything goes with the value, whatever becomes of the test.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::gateway::{self, Gateway, Metrics};
use crate::netns::{Namespace, unavailable};
use crate::service::{self, Service};

/// Addresses come in pairs: IPv4, IPv6.
pub(crate) type Pair = [&'static str; 2];

pub(crate) const CLIENT: Pair = ["192.0.2.10", "2001:db8:1::10"];
/// The client's other addresses, inside the cluster's pod networks.
pub(crate) const POD: Pair = ["10.244.0.5", "fd00:244::5"];
/// The gateway's addresses toward the client.
pub(crate) const NODE: Pair = ["192.0.2.1", "2001:db8:1::1"];
/// Its addresses toward the backends: whom they see instead of a masqueraded client.
pub(crate) const MASQUERADE: Pair = ["10.0.1.1", "fd00:1::1"];

/// Who a backend is.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) addresses: Pair,
}

pub(crate) const BACKENDS: [Place; 2] = [
    Place { name: "b1", addresses: ["10.0.1.11", "fd00:1::11"] },
    Place { name: "b2", addresses: ["10.0.1.12", "fd00:1::12"] },
];

/// What the gateway's ports are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// TAP devices of DPDK, moved to the other side: several queues, fragments come through, but DPDK loses sight of
    /// the link.
    Tap,
    /// TAP devices that stay where they are, in a bridge with a link to the other side.
    BridgedTap,
    /// Packet sockets on veth devices: they stay when the process goes.
    AfPacket,
}

/// How a site is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) ports: Ports,
    pub(crate) workers: usize,
    /// MTUs of the ports `out` and `in`; the other side's is always 1500.
    pub(crate) mtu: [u16; 2],
    /// Whether the port `in` limits the segment size of TCP to what its MTU leaves.
    pub(crate) mss_clamp: bool,
    /// Routers on both sides that let no larger packet through toward the client, the backends.
    pub(crate) path_mtu: Option<u16>,
}

impl Default for Layout {
    fn default() -> Self {
        Self { ports: Ports::Tap, workers: 2, mtu: [1500; 2], mss_clamp: false, path_mtu: None }
    }
}

/// A running site. Fields go in this order.
pub(crate) struct Site {
    pub(crate) gateway: Option<Gateway>,
    pub(crate) backends: [Option<Backend>; 2],
    pub(crate) client: Namespace,
    pub(crate) backend: Namespace,
    /// Where the gateway runs.
    pub(crate) node: Namespace,
    routers: Vec<Namespace>,
    layout: Layout,
    folder: Folder,
    /// How often Services were written, and how many rows they make.
    writes: AtomicU64,
    rows: AtomicU64,
    _alone: MutexGuard<'static, ()>,
}

/// One side of the gateway.
struct Side {
    port: &'static str,
    /// The kernel device the port is made of.
    device: &'static str,
    /// For the kernel's end of a TAP: DPDK gives it the MAC address of its own end.
    mac: &'static str,
    gateway: Pair,
    /// The networks of `gateway`.
    networks: Pair,
    /// Instead of them, if there is a router: network, address of the gateway, of the router.
    transit: [[&'static str; 3]; 2],
}

const SIDES: [Side; 2] = [
    Side {
        port: "out",
        device: "dev0",
        mac: "02:00:00:00:00:10",
        gateway: NODE,
        networks: ["192.0.2.0/24", "2001:db8:1::/64"],
        transit: [
            ["100.64.1.0/24", "100.64.1.1", "100.64.1.2"],
            ["fd00:64:1::/64", "fd00:64:1::1", "fd00:64:1::2"],
        ],
    },
    Side {
        port: "in",
        device: "dev1",
        mac: "02:00:00:00:00:11",
        gateway: MASQUERADE,
        networks: ["10.0.1.0/24", "fd00:1::/64"],
        transit: [
            ["100.64.2.0/24", "100.64.2.1", "100.64.2.2"],
            ["fd00:64:2::/64", "fd00:64:2::1", "fd00:64:2::2"],
        ],
    },
];

/// A folder that goes with its value. Named as the site's namespaces, so that it is swept with them.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if thread::panicking() && self.gateway.is_some() {
            eprintln!("--- vipgate status\n{}", self.status("table").1);
        }
    }
}

impl Site {
    /// A site with these Services, ready for packets; `None` (with a word on standard error) where namespaces can't be
    /// made.
    pub(crate) fn new(layout: Layout, services: &[Service]) -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = unavailable() {
            assert!(std::env::var_os("CI").is_none(), "no network namespaces: {reason}");
            // Not by eprintln!, which the test harness would swallow.
            let _ = writeln!(std::io::stderr(), "skipped: no network namespaces: {reason}");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = format!("vge2e-{}-{number}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(folder));
        fs::create_dir_all(folder.0.join("manifests")).expect("a folder for temporary files");
        let namespace = |role| Namespace::new(number, role);
        let mut site = Self {
            gateway: None,
            backends: [None, None],
            client: namespace("client"),
            backend: namespace("backend"),
            node: namespace("node"),
            routers: Vec::new(),
            layout,
            folder,
            writes: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            _alone: alone,
        };
        if layout.path_mtu.is_some() {
            site.routers = vec![namespace("router0"), namespace("router1")];
        }
        site.write(services);
        site.lay_cables();
        site.start_gateway();
        site.number_ends();
        site.backends = [0, 1].map(|index| Some(Backend::start(&site.backend, &BACKENDS[index])));
        site.wait();
        Some(site)
    }

    /// Services, as a file. Returns at once.
    pub(crate) fn write(&self, services: &[Service]) {
        let mark = self.writes.fetch_add(1, Ordering::SeqCst) % 9 + 1;
        let text: String = services.iter().map(Service::manifest).collect();
        let temporary = self.folder.0.join("services.yaml");
        fs::write(&temporary, text + &service::mark(mark)).expect("the folder is ours");
        fs::rename(temporary, self.folder.0.join("manifests/services.yaml")).expect("the same");
        let rows = services.len() as u64 * service::ROWS + mark;
        self.rows.store(rows, Ordering::SeqCst);
    }

    /// Services, as a file; returns when all workers use them.
    pub(crate) fn apply(&self, services: &[Service]) {
        self.write(services);
        self.wait_for_tables();
    }

    /// Until all workers use what was written last.
    /// A file that goes with the site; below `manifests/` the gateway reads it.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.0.join(name);
        fs::write(&path, text).expect("the folder is ours");
        path
    }

    fn wait_for_tables(&self) {
        until(Duration::from_secs(10), "tables are in use", || {
            let metrics = self.metrics();
            metrics.sum("service_rows") == self.rows.load(Ordering::SeqCst)
                && metrics.sum("table_generation") == metrics.sum("table_acknowledged_generation")
        });
    }

    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::read(&self.node)
    }

    /// Metrics at a moment when nothing moves.
    pub(crate) fn quiet_metrics(&self) -> Metrics {
        let balance = |metrics: &Metrics| metrics.balance();
        let mut last = self.metrics();
        until(Duration::from_secs(10), "a quiet moment", || {
            thread::sleep(Duration::from_millis(200));
            let now = self.metrics();
            let quiet = balance(&now) == balance(&last);
            last = now;
            quiet
        });
        last
    }

    /// Exit code and output of `vipgate status`.
    pub(crate) fn status(&self, format: &str) -> (Option<i32>, String) {
        gateway::status(&self.node, &self.socket(), format)
    }

    /// The admin socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.0.join("vipgate.sock")
    }

    /// Starts vipgate; devices it does not bring itself must be there.
    pub(crate) fn start_gateway(&mut self) {
        let config = self.folder.0.join("vipgate.yaml");
        fs::write(&config, self.config()).expect("the folder is ours");
        self.gateway = Some(Gateway::start(&self.node, &config));
    }

    /// Until all tables are in use, and both sides reach the gateway.
    pub(crate) fn wait(&self) {
        self.wait_for_tables();
        let ports = SIDES.map(|side| match self.layout.path_mtu {
            Some(_) => side.transit.map(|[_, gateway, _]| gateway),
            None => side.gateway,
        });
        for (end, port) in [&self.client, &self.backend].into_iter().zip(ports) {
            for address in port {
                until(Duration::from_secs(10), "the gateway answers pings", || {
                    end.output(2, &format!("ping -c1 -W1 {address}")).status.success()
                });
            }
        }
    }

    /// What is between client and backend if there are routers: the first one, the gateway, the second one.
    pub(crate) fn path(family: usize) -> [&'static str; 3] {
        let [out, inside] = &SIDES;
        let ([_, gateway, _], [_, _, second]) = (out.transit[family], inside.transit[family]);
        [out.gateway[family], gateway, second]
    }

    /// The ends of the gateway's ports: whose namespace they are in, and the name there.
    fn ends(&self) -> [(&Namespace, &'static str); 2] {
        match self.routers.as_slice() {
            [client, backend] => [(client, "uplink"), (backend, "uplink")],
            _ => [(&self.client, "eth0"), (&self.backend, "eth0")],
        }
    }

    /// Devices that are there before vipgate.
    fn lay_cables(&self) {
        let node = &self.node;
        for ((end, name), side) in self.ends().into_iter().zip(&SIDES) {
            if self.layout.ports == Ports::Tap {
                continue;
            }
            let device = if self.layout.ports == Ports::AfPacket { side.device } else { side.port };
            node.ip(&format!("link add {device} type veth peer name {name} netns {}", end.name()));
            if self.layout.ports == Ports::AfPacket {
                // A packet socket sees checksums that the sender left to a device that is none.
                end.sh(5, &format!("ethtool -K {name} tx off"));
                node.ip(&format!("link set {device} up"));
            }
        }
        for (router, end) in self.routers.iter().zip([&self.client, &self.backend]) {
            router.ip(&format!("link add downlink type veth peer name eth0 netns {}", end.name()));
        }
    }

    /// Connects what vipgate has made, and gives everybody addresses and routes.
    fn number_ends(&self) {
        let node = &self.node;
        for ((end, name), Side { device, port, mac, .. }) in self.ends().into_iter().zip(&SIDES) {
            match self.layout.ports {
                Ports::Tap => {
                    node.ip(&format!("link set {device} netns {} name {name}", end.name()));
                    end.ip(&format!("link set {name} mtu 1500 address {mac}"));
                }
                Ports::BridgedTap => {
                    node.ip(&format!("link set {device} address {mac}"));
                    node.ip(&format!("link add br-{port} type bridge"));
                    for member in [device, port, &format!("br-{port}").as_str()] {
                        silence(node, member);
                        node.ip(&format!("link set {member} up"));
                    }
                    node.ip(&format!("link set {device} master br-{port}"));
                    node.ip(&format!("link set {port} master br-{port}"));
                }
                Ports::AfPacket => {}
            }
            end.ip(&format!("link set {name} up"));
        }
        for (router, side) in self.routers.iter().zip(&SIDES) {
            self.number_router(router, side);
        }
        for (address, length) in CLIENT.iter().zip([24, 64]) {
            self.client.ip(&format!("addr add {address}/{length} dev eth0 nodad"));
        }
        for (address, length) in POD.iter().zip([32, 128]) {
            // Deprecated: used by those alone who ask for it.
            self.client.ip(&format!("addr add {address}/{length} dev eth0 nodad preferred_lft 0"));
        }
        for (address, length) in BACKENDS.iter().flat_map(|b| b.addresses.iter().zip([24, 64])) {
            self.backend.ip(&format!("addr add {address}/{length} dev eth0 nodad"));
        }
        for (end, side) in [&self.client, &self.backend].into_iter().zip(&SIDES) {
            end.ip("link set eth0 up");
            for gateway in side.gateway {
                end.ip(&format!("route add default via {gateway}"));
            }
        }
    }

    fn number_router(&self, router: &Namespace, side: &Side) {
        router.sh(5, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        router.ip("link set downlink up");
        let mtu = self.layout.path_mtu.expect("that is why there are routers");
        for family in [0, 1] {
            let [network, gateway, own] = side.transit[family];
            let length = network.rsplit_once('/').expect("a network").1;
            router.ip(&format!("addr add {own}/{length} dev uplink nodad"));
            router.ip(&format!("addr add {} dev downlink nodad", side.gateway[family]));
            router.ip(&format!("route add {} dev downlink mtu lock {mtu}", side.networks[family]));
            router.ip(&format!("route add default via {gateway}"));
            if side.port == "out" {
                router.ip(&format!("route add {} via {}", POD[family], CLIENT[family]));
            }
        }
    }

    fn config(&self) -> String {
        let Layout { ports, workers, mtu, mss_clamp, .. } = self.layout;
        let port = |index: usize| {
            let Side { port, device, .. } = SIDES[index];
            let vdev = match ports {
                Ports::AfPacket => format!("net_af_packet{index},iface={device},qpairs={workers}"),
                _ => format!("net_tap{index},iface={device}"),
            };
            let (addresses, routes) = self.port_addresses(index);
            let (addresses, routes) = (addresses.join(", "), routes.join(", "));
            let mtu = mtu[index];
            let clamp = if mss_clamp && index == 1 { "mssClamp: auto, " } else { "" };
            let announce = match (index, self.layout.path_mtu) {
                (0, None) => "\"192.0.2.192/26\", \"2001:db8:1::f000/116\"",
                _ => "",
            };
            format!(
                "- {{name: {port}, vdev: \"{vdev}\", mtu: {mtu}, {clamp}addresses: [{addresses}], routes: [{routes}], \
                 announce: [{announce}]}}\n"
            )
        };
        // The first core is the control thread's; where there are but two it shares.
        let mut cores = core_affinity::get_core_ids().unwrap_or_default();
        assert!(cores.len() >= workers, "{workers} cores are needed");
        let cores: Vec<_> = cores.split_off(cores.len() - workers);
        let cores: Vec<_> = cores.iter().map(|core| core.id.to_string()).collect();
        let folder = self.folder.0.display();
        let dns = match self.layout.path_mtu {
            None => format!("dns: {{addresses: [\"{}\", \"{}\"]}}\n", NODE[0], NODE[1]),
            Some(_) => String::new(),
        };
        format!(
            "ports:\n{}{}workers: {{cores: [{}]}}\nmemory: {{hugePages: false}}\n\
             conntrack: {{connections: 10000, connectionsV6: 10000}}\n\
             source: {{manifests: {{path: {folder}/manifests}}}}\n\
             services:\n  role: edge\n  clusterCIDR: \"10.244.0.0/16,fd00:244::/64\"\n  \
             serviceCIDRs: [\"10.96.0.0/16\", \"fd00:96::/112\"]\n\
             http: {{address: \"127.0.0.1:{}\"}}\nadmin: {{socket: {folder}/vipgate.sock}}\n{dns}",
            port(0),
            port(1),
            cores.join(", "),
            gateway::HTTP_PORT,
        )
    }

    /// Addresses and routes of a port, quoted for the configuration.
    fn port_addresses(&self, index: usize) -> (Vec<String>, Vec<String>) {
        let side = &SIDES[index];
        let (mut addresses, mut routes) = (Vec::new(), Vec::new());
        for family in [0, 1] {
            let length = |network: &'static str| network.rsplit_once('/').expect("a network").1;
            let pods = ["10.244.0.0/24", "fd00:244::/64"][family];
            let mut route = |to, via| routes.push(format!("{{to: \"{to}\", via: \"{via}\"}}"));
            let (address, network) = match self.layout.path_mtu {
                Some(_) => {
                    let [network, address, router] = side.transit[family];
                    route(side.networks[family], router);
                    if index == 0 {
                        route(pods, router);
                    }
                    (address, network)
                }
                None => {
                    if index == 0 {
                        route(pods, CLIENT[family]);
                    }
                    (side.gateway[family], side.networks[family])
                }
            };
            addresses.push(format!("\"{address}/{}\"", length(network)));
        }
        (addresses, routes)
    }
}

/// Waits for something to become true; fails when it does not in time.
pub(crate) fn until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Keeps the gateway's own kernel from answering on a device of a bridge, in the place of the port behind it.
fn silence(namespace: &Namespace, device: &str) {
    let (v4, v6) = ("net.ipv4.conf", "net.ipv6.conf");
    namespace.sh(5, &format!("sysctl -qw {v4}.{device}.arp_ignore=8 {v6}.{device}.disable_ipv6=1"));
}

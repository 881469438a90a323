//! A node between clients and pods, with a gateway in it: the kernel's rules, or vipgate. Clients, pods and the routers
//! in front of them are this test, at the far ends of the node's two cables.
//!
//!     203.0.113.0/24, 198.18.0.0/15 .. ── 192.0.2.1 ── out [node] in ── 10.0.1.2 ── 10.244.0.0/16
//!
//! Nothing waits for time to pass: behind a batch of packets come marks that any gateway lets through. When they are
//! there, what the batch has led to is there too, and what is not will not come.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, NODE, POD_RANGES, Protocol, parse};
use crate::flows::{Flow, From};
use crate::gateway::Gateway;
use crate::netns::{self, Namespace};
use crate::packet::{Sight, first};
use crate::sockets::{Inner, ROUTER, Wire};
use crate::{manifests, rules};

/// Routers toward clients and pods.
pub(crate) const ROUTERS: [[&str; 2]; 2] =
    [["192.0.2.1", "2001:db8:2::1"], ["10.0.1.2", "fd00:1::2"]];
const PREFIXES: [[u8; 2]; 2] = [[24, 64]; 2];
/// The node's devices, as seen from the far ends.
const CABLES: [&str; 2] = ["out", "in"];
/// Numbers of packets; above them are the marks.
const FIRST: u16 = 33_000;
const MARKS: u16 = 60_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// All that was seen of a packet.
type Sights = BTreeSet<(From, Sight)>;

pub(crate) struct World {
    wires: [Wire; 2],
    inner: Inner,
    number: u16,
    mark: u16,
    _gateway: Option<Gateway>,
    _folder: Option<Folder>,
    _node: Namespace,
    _far: Namespace,
}

/// A folder that goes with its value.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn namespaces(role: &str) -> [Namespace; 2] {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let far = Namespace::new(number, &format!("{role}far"));
    let node = Namespace::new(number, role);
    // The far ends' own kernel keeps out of it.
    far.sh(5, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
    // Every packet to a port that nobody has is answered.
    node.sh(
        5,
        "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=1000000 \
         net.ipv4.icmp_msgs_burst=1000000 net.ipv6.icmp.ratelimit=0",
    );
    [node, far]
}

impl World {
    /// A node whose kernel follows rules of nftables.
    pub(crate) fn kernel(cluster: &Cluster) -> Self {
        let [node, far] = namespaces("kernel");
        node.sh(
            5,
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 \
             net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.all.send_redirects=0 \
             net.ipv4.conf.default.send_redirects=0",
        );
        for (index, cable) in CABLES.into_iter().enumerate() {
            node.ip(&format!("link add {cable} type veth peer name {cable} netns {}", far.name()));
            node.ip(&format!("link set {cable} up"));
            for family in [0, 1] {
                let (address, length) = (NODE[index][family], PREFIXES[index][family]);
                node.ip(&format!("addr add {address}/{length} dev {cable} nodad"));
            }
        }
        for family in [0, 1] {
            node.ip(&format!("route add default via {}", ROUTERS[0][family]));
            node.ip(&format!("route add {} via {}", POD_RANGES[family], ROUTERS[1][family]));
        }
        load(&node, &rules::rules(cluster));
        Self::new(node, far, CABLES, None, None)
    }

    /// A node with vipgate.
    pub(crate) fn vipgate(cluster: &Cluster) -> Self {
        let [node, far] = namespaces("vipgate");
        // Named as its namespaces but for their roles, so that it is swept with them.
        let (name, _) = node.name().rsplit_once('-').expect("a name and a role");
        let folder = Folder(std::env::temp_dir().join(name));
        fs::create_dir_all(folder.0.join("manifests")).expect("a folder for temporary files");
        let file = |name: &str, text: &str| fs::write(folder.0.join(name), text).expect("ours");
        file("manifests/cluster.yaml", &manifests::manifests(cluster));
        file("vipgate.yaml", &configuration(cluster, &folder.0));
        let mut gateway = Gateway::start(&node, &folder.0);
        for (index, cable) in CABLES.into_iter().enumerate() {
            node.ip(&format!("link set dev{index} netns {} name {cable}", far.name()));
        }
        gateway.wait_for_services(cluster);
        Self::new(node, far, ["vg-out", "vg-in"], Some(gateway), Some(folder))
    }

    /// `devices`: the node's, as its kernel calls them.
    fn new(
        node: Namespace,
        far: Namespace,
        devices: [&str; 2],
        gateway: Option<Gateway>,
        folder: Option<Folder>,
    ) -> Self {
        let router = ROUTER.map(|byte| format!("{byte:02x}")).join(":");
        for ((cable, device), routers) in CABLES.into_iter().zip(devices).zip(ROUTERS) {
            far.ip(&format!("link set {cable} up"));
            for via in routers {
                node.ip(&format!("neigh replace {via} lladdr {router} dev {device} nud permanent"));
            }
        }
        let wire = |index: usize| Wire::new(&far, CABLES[index], mac(&node, devices[index]));
        let mut world = Self {
            wires: [wire(0), wire(1)],
            inner: Inner::new(&node),
            number: FIRST,
            mark: MARKS,
            _gateway: gateway,
            _folder: folder,
            _node: node,
            _far: far,
        };
        // Until routes and neighbours are known everywhere, nothing is lost but marks.
        let begin = Instant::now();
        while !world.marks(Duration::from_millis(200), &mut BTreeMap::new()) {
            assert!(begin.elapsed() < PATIENCE, "packets that are no Service's do not get through");
        }
        world
    }

    /// Sends first packets of flows, so many of each, and tells what became of each packet, with its client's number.
    pub(crate) fn ask(&mut self, flows: &[(&Flow, usize)]) -> Vec<Vec<(usize, Sights)>> {
        let mut asked = Vec::new();
        for (flow, count) in flows {
            let numbers = (0..*count).map(|client| (client, self.send(flow, client)));
            asked.push(numbers.collect::<Vec<_>>());
        }
        let mut seen = BTreeMap::new();
        for _ in 0..2 {
            assert!(self.marks(PATIENCE, &mut seen), "packets that are no Service's get lost");
        }
        let mut sights = |(client, number)| (client, seen.remove(&number).unwrap_or_default());
        asked.into_iter().map(|packets| packets.into_iter().map(&mut sights).collect()).collect()
    }

    fn send(&mut self, flow: &Flow, client: usize) -> u16 {
        let number = self.number;
        self.number += 1;
        assert!(number < MARKS, "too many packets for one seed");
        let packet = first(flow.protocol, flow.client(client), number, flow.to);
        match flow.from {
            From::Outside => self.wires[0].send(&packet),
            From::Pod => self.wires[1].send(&packet),
            From::Node => self.inner.send(&packet, flow.to.ip()),
        }
        number
    }

    /// Sends a mark on every way there is, and waits until all are through. Tells what else was seen by then.
    fn marks(&mut self, patience: Duration, seen: &mut BTreeMap<u16, Sights>) -> bool {
        let mut awaited = BTreeSet::new();
        for family in [0, 1] {
            let [client, pod] =
                [["203.0.113.250", "2001:db8:bad::fa"], ["10.244.250.250", "fd00:244::250:250"]]
                    .map(|pair| parse(pair[family]));
            let [node, inner] = NODE.map(|addresses| parse(addresses[family]));
            for (from, source, to, at) in [
                (From::Outside, client, pod, From::Pod),
                (From::Pod, pod, client, From::Outside),
                (From::Node, node, client, From::Outside),
                (From::Outside, client, node, From::Node),
                (From::Pod, pod, inner, From::Node),
            ] {
                let number = self.mark;
                self.mark = if number == u16::MAX { MARKS } else { number + 1 };
                let packet = first(Protocol::Udp, source, number, (to, 9).into());
                match from {
                    From::Outside => self.wires[0].send(&packet),
                    From::Pod => self.wires[1].send(&packet),
                    From::Node => self.inner.send(&packet, to),
                }
                awaited.insert((at, number));
            }
        }
        let begin = Instant::now();
        loop {
            let mut idle = true;
            while let Some((at, (number, sight))) = self.next() {
                idle = false;
                if matches!(sight, Sight::First { .. }) {
                    awaited.remove(&(at, number));
                }
                if number < MARKS {
                    seen.entry(number).or_default().insert((at, sight));
                }
            }
            if awaited.is_empty() {
                return true;
            }
            if begin.elapsed() > patience {
                return false;
            }
            if idle {
                thread::sleep(Duration::from_micros(200));
            }
        }
    }

    fn next(&self) -> Option<(From, (u16, Sight))> {
        let outside = || Some((From::Outside, self.wires[0].next()?));
        let pods = || Some((From::Pod, self.wires[1].next()?));
        let node = || Some((From::Node, self.inner.next()?));
        outside().or_else(pods).or_else(node)
    }
}

/// Has the kernel follow these rules.
fn load(namespace: &Namespace, rules: &str) {
    let mut nft = namespace.command("nft");
    nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut nft = nft.spawn().expect("`ip` runs");
    let written = nft.stdin.take().expect("piped").write_all(rules.as_bytes());
    let output = nft.wait_with_output().expect("it ends");
    let said = netns::text(&output.stderr);
    assert!(written.is_ok() && output.status.success(), "nft: {said}\n{rules}");
}

fn mac(namespace: &Namespace, device: &str) -> [u8; 6] {
    let line = namespace.ip(&format!("-br link show dev {device}"));
    let text = line.split_whitespace().nth(2).expect("name, state, address");
    let mut bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("an address"));
    [(); 6].map(|()| bytes.next().expect("six bytes"))
}

fn configuration(cluster: &Cluster, folder: &std::path::Path) -> String {
    let port = |index: usize| {
        let cable = CABLES[index];
        let (node, routers) = (NODE[index], ROUTERS[index]);
        let to = if index == 0 { ["0.0.0.0/0", "::/0"] } else { POD_RANGES };
        let [four, six] = PREFIXES[index];
        format!(
            "- {{name: {cable}, vdev: \"net_tap{index},iface=dev{index}\", addresses: [\"{}/{four}\", \"{}/{six}\"], \
             routes: [{{to: \"{}\", via: \"{}\"}}, {{to: \"{}\", via: \"{}\"}}]}}\n",
            node[0], node[1], to[0], routers[0], to[1], routers[1],
        )
    };
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let core = cores.last().expect("a core").id;
    format!(
        "ports:\n{}{}workers: {{cores: [{core}]}}\nmemory: {{hugePages: false}}\n\
         conntrack: {{connections: 100000, connectionsV6: 100000}}\n\
         source: {{manifests: {{path: {folder}/manifests}}}}\nservices: {}\n\
         http: {{address: \"127.0.0.1:10256\"}}\nadmin: {{socket: {folder}/vipgate.sock}}\n",
        port(0),
        port(1),
        manifests::settings(cluster),
        folder = folder.display(),
    )
}

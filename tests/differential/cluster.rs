//! A cluster as its objects describe it, made up from a seed: what both gateways are told.

use std::net::IpAddr;

use crate::random::Random;

/// The node's addresses toward the clients (its primary ones) and toward the pods, IPv4 and IPv6.
pub(crate) const NODE: [[&str; 2]; 2] =
    [["192.0.2.11", "2001:db8:2::11"], ["10.0.1.1", "fd00:1::1"]];
pub(crate) const POD_RANGES: [&str; 2] = ["10.244.0.0/16", "fd00:244::/64"];
pub(crate) const SERVICE_RANGES: [&str; 2] = ["172.30.0.0/16", "fd00:30::/112"];
/// The node's name and zone; others are there, and far.
pub(crate) const HERE: &str = "here";
pub(crate) const ZONE: &str = "near";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}
use Protocol::{Sctp, Tcp, Udp};

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tcp => "tcp",
            Udp => "udp",
            Sctp => "sctp",
        }
    }
}

/// Objects and options.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) services: Vec<Service>,
    /// Whether clusterCIDR is set.
    pub(crate) detector: bool,
    pub(crate) masquerade_all: bool,
    /// nodePortAddresses; unset if empty.
    pub(crate) node_port_addresses: &'static [&'static str],
}

/// Which topology hints a controller has written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hints {
    None,
    Zones,
    Nodes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ClusterIp,
    NodePort,
    LoadBalancer,
    /// clusterIP None.
    Headless,
    /// With a cluster IP of former times.
    ExternalName,
    /// Labelled for another proxy.
    OtherProxy,
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// In the order of ipFamilies.
    pub(crate) cluster_ips: Vec<IpAddr>,
    pub(crate) ports: Vec<Port>,
    pub(crate) external_ips: Vec<IpAddr>,
    pub(crate) balancers: Vec<Balancer>,
    pub(crate) ranges: Vec<Range>,
    pub(crate) internal_local: bool,
    pub(crate) external_local: bool,
    pub(crate) affinity: bool,
    pub(crate) slices: Vec<Slice>,
}

#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) number: u16,
    pub(crate) node_port: Option<u16>,
}

/// An entry of status.loadBalancer.ingress.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) ip: IpAddr,
    /// ipMode Proxy.
    pub(crate) proxy: bool,
}

/// A source range as an object writes it, and as it is meant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) written: &'static str,
    pub(crate) meant: &'static str,
}

#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) v4: bool,
    /// Numbers, in the order of the Service's ports; `None`: the slice lacks the port.
    pub(crate) ports: Vec<Option<u16>>,
    pub(crate) endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    pub(crate) node: Option<&'static str>,
    pub(crate) ready: Option<bool>,
    pub(crate) serving: Option<bool>,
    pub(crate) terminating: Option<bool>,
    pub(crate) zones: Vec<&'static str>,
    pub(crate) nodes: Vec<&'static str>,
}

const RANGES: [Range; 6] = [
    Range { written: " 203.0.113.000/025 ", meant: "203.0.113.0/25" },
    Range { written: "192.0.2.0/24", meant: "192.0.2.0/24" },
    Range { written: "10.244.0.0/16", meant: "10.244.0.0/16" },
    Range { written: "2001:db8:bad::/112", meant: "2001:db8:bad::/112" },
    Range { written: "2001:DB8:2::/64", meant: "2001:db8:2::/64" },
    Range { written: "fd00:244::7/64", meant: "fd00:244::/64" },
];

const NODE_PORT_ADDRESSES: [&[&str]; 5] = [
    &[],
    &["0.0.0.0/0", "::/0"],
    &["10.0.0.0/8"],
    &["192.0.2.0/24", "fd00:1::/64"],
    &["198.18.0.0/15", "2001:db8:2::/64"],
];

impl Cluster {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let services = (0..8).map(|number| service(&mut random, number)).collect();
        Self {
            services,
            detector: !random.one_in(4),
            masquerade_all: random.one_in(4),
            node_port_addresses: random.of(&NODE_PORT_ADDRESSES),
        }
    }
}

pub(crate) fn parse(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// `number` of 256 in a network of either family.
fn numbered(v4: bool, networks: [&str; 2], number: usize) -> IpAddr {
    parse(&if v4 {
        format!("{}{number}", networks[0])
    } else {
        format!("{}{number:x}", networks[1])
    })
}

fn service(random: &mut Random, number: usize) -> Service {
    use Kind::{ClusterIp, ExternalName, Headless, LoadBalancer, NodePort, OtherProxy};
    let kind = match random.below(16) {
        0 => Headless,
        1 => ExternalName,
        2 => OtherProxy,
        3..6 => ClusterIp,
        6..9 => NodePort,
        _ => LoadBalancer,
    };
    let families: &[bool] = random.of(&[&[true][..], &[false], &[true, false], &[false, true]]);
    let cluster_ip = |v4: &bool| numbered(*v4, ["172.30.0.", "fd00:30::"], 10 + number);
    let mut ports: Vec<Port> = Vec::new();
    for index in 0..1 + random.below(2) {
        // Numbers of their own, for some addresses are shared; but for the last, which is equal in another protocol.
        let own = u16::try_from(1000 + 10 * number + index).expect("small");
        let former = ports.last().map(|port| (port.number, port.protocol));
        let (number, protocol) = match former {
            Some((number, protocol)) if random.one_in(2) => {
                (number, if protocol == Udp { Tcp } else { Udp })
            }
            _ => (own, random.of(&[Tcp, Tcp, Udp, Udp, Sctp])),
        };
        let node_port = matches!(kind, NodePort | LoadBalancer).then_some(29_000 + number);
        ports.push(Port { name: format!("p{index}"), protocol, number, node_port });
    }
    let both = [true, false];
    let external_ips = both.iter().filter(|_| random.one_in(3)).map(|v4| match number {
        // An address of the node, taken by one Service at its own ports.
        0 => parse(NODE[0][usize::from(!v4)]),
        // Two Services share one.
        _ => numbered(*v4, ["198.51.100.", "2001:db8:5::"], 10 + number / 2),
    });
    let external_ips = external_ips.collect();
    let mut balancers = Vec::new();
    if kind == LoadBalancer {
        for v4 in both {
            let ip = numbered(v4, ["198.51.100.", "2001:db8:5::"], 60 + number / 2);
            balancers.push(Balancer { ip, proxy: random.one_in(6) });
            if random.one_in(3) {
                let ip = numbered(v4, ["198.51.100.", "2001:db8:5::"], 80 + number);
                balancers.push(Balancer { ip, proxy: false });
            }
        }
    }
    let with_ranges = random.one_in(2);
    let ranges = RANGES.into_iter().filter(|_| with_ranges && random.one_in(3)).collect();
    let mut slices = Vec::new();
    let hints = random.of(&[Hints::None, Hints::Zones, Hints::Nodes]);
    let hosts = random.of(&[0, 1, 2, 3, 4, 4]);
    for v4 in both {
        let count = if random.one_in(6) { 0 } else { hosts };
        let endpoints = (0..count).map(|host| endpoint(random, v4, number, host, hints));
        let endpoints: Vec<Endpoint> = endpoints.collect();
        let ports_at = |random: &mut Random, first: u16| -> Vec<Option<u16>> {
            let numbers = (first..).take(ports.len());
            numbers.map(|number| (!random.one_in(12)).then_some(number)).collect()
        };
        let copies = endpoints.clone();
        slices.push(Slice { v4, ports: ports_at(random, 8080), endpoints });
        match random.below(4) {
            // The same pods, their ports by the same names at other numbers.
            0 => slices.push(Slice { v4, ports: ports_at(random, 9090), endpoints: copies }),
            // The same once more; some copies say that the pod is going.
            1 | 2 => {
                let goes = [Some(false), Some(true), Some(true)];
                let copies = copies.into_iter().map(|mut copy| {
                    if copy.terminating != Some(true) && random.one_in(2) {
                        [copy.ready, copy.serving, copy.terminating] = goes;
                    }
                    copy
                });
                let endpoints = copies.collect();
                slices.push(Slice { v4, ports: ports_at(random, 8080), endpoints });
                // Which is read first must not matter.
                let last = slices.len() - 1;
                if random.one_in(2) {
                    slices.swap(last - 1, last);
                }
            }
            _ => {}
        }
    }
    Service {
        name: format!("s{number}"),
        kind,
        cluster_ips: families.iter().map(cluster_ip).collect(),
        ports,
        external_ips,
        balancers,
        ranges,
        internal_local: random.one_in(3),
        external_local: random.one_in(2),
        affinity: random.one_in(5),
        slices,
    }
}

fn endpoint(random: &mut Random, v4: bool, service: usize, host: usize, hints: Hints) -> Endpoint {
    // Some are outside of the cluster, on no node; some use the network of this node.
    let (address, node) = match random.below(12) {
        0 => (numbered(v4, ["198.19.0.", "2001:db8:19::"], 10 * service + host), None),
        1..=3 if host == 0 => (parse(NODE[0][usize::from(!v4)]), Some(HERE)),
        node => {
            let (four, six) = (format!("10.244.{service}."), format!("fd00:244::{service}:"));
            let node = if node % 2 == 0 { HERE } else { "there" };
            (numbered(v4, [&four, &six], 20 + host), Some(node))
        }
    };
    // Of a controller, and by hand.
    let states: [[Option<bool>; 3]; 8] = [
        [Some(true), Some(true), Some(false)],
        [Some(true), Some(true), Some(false)],
        [Some(true), None, None],
        [None, None, None],
        [Some(false), Some(true), Some(true)],
        [Some(false), Some(true), Some(true)],
        [Some(false), Some(false), Some(true)],
        [Some(false), Some(true), Some(false)],
    ];
    let [ready, serving, terminating] = random.of(&states);
    let (mut zones, mut nodes) = (Vec::new(), Vec::new());
    // One without switches all of them off.
    if hints != Hints::None && !random.one_in(12) {
        zones = random.of(&[vec![ZONE], vec!["far"], vec!["far", ZONE]]);
        if hints == Hints::Nodes {
            nodes = random.of(&[vec![HERE], vec!["there"], vec!["there", HERE]]);
        }
    }
    Endpoint { address, node, ready, serving, terminating, zones, nodes }
}

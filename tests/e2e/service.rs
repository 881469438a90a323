//! A Service with every kind of VIP in both families, as the YAML that the gateway reads.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use crate::site::{BACKENDS, NODE};

/// A port of the Service.
pub(crate) struct ServicePort {
    name: &'static str,
    pub(crate) port: u16,
    pub(crate) target: u16,
    protocol: &'static str,
    /// Added to the Service's first node port.
    offset: u16,
}

pub(crate) const HTTP: ServicePort = tcp("http", 80, 8080, 0);
pub(crate) const ECHO: ServicePort = udp("echo", 7, 7777, 1);
/// Lines there and back on one connection.
pub(crate) const TALK: ServicePort = tcp("talk", 9, 9000, 2);
pub(crate) const IPERF_TCP: ServicePort = tcp("iperf-tcp", 5201, 5201, 3);
pub(crate) const IPERF_UDP: ServicePort = udp("iperf-udp", 5201, 5201, 3);
const PORTS: [ServicePort; 5] = [HTTP, ECHO, TALK, IPERF_TCP, IPERF_UDP];

/// Rows of the gateway's tables that a Service makes: a row for every port and family.
pub(crate) const ROWS: u64 = 2 * PORTS.len() as u64;

/// Who is the client to the backends: `Cluster` hides it, `Local` on a gateway without pods keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Cluster,
    Local,
}

/// What the cluster says of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Ready,
    Terminating,
    Absent,
}

/// A Service; its number makes its addresses.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    name: &'static str,
    number: u8,
    pub(crate) policy: Policy,
    /// Of cluster IPs.
    internal: Policy,
    /// One for each of [`BACKENDS`].
    pub(crate) endpoints: [Endpoint; 2],
}

/// Where a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ClusterIp,
    NodePort,
    ExternalIp,
    LoadBalancer,
    /// A load balancer's address in the client's own network: found by ARP and neighbour discovery.
    Announced,
}

/// One address of a Service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vip {
    pub(crate) kind: Kind,
    pub(crate) ip: IpAddr,
    node_port: u16,
}

impl Vip {
    /// The address of one of the Service's ports.
    pub(crate) fn at(&self, port: &ServicePort) -> SocketAddr {
        let number =
            if self.kind == Kind::NodePort { self.node_port + port.offset } else { port.port };
        SocketAddr::new(self.ip, number)
    }
}

impl Service {
    pub(crate) fn new(name: &'static str, number: u8, policy: Policy) -> Self {
        let (internal, endpoints) = (Policy::Cluster, [Endpoint::Ready; 2]);
        Self { name, number, policy, internal, endpoints }
    }

    /// With internalTrafficPolicy Local.
    pub(crate) fn internal_local(mut self) -> Self {
        self.internal = Policy::Local;
        self
    }

    pub(crate) fn with(mut self, endpoints: [Endpoint; 2]) -> Self {
        self.endpoints = endpoints;
        self
    }

    /// Every address, IPv4 and IPv6.
    pub(crate) fn vips(&self) -> Vec<Vip> {
        let Self { number: n, .. } = self;
        let node_port = 30000 + 10 * u16::from(*n);
        let addresses = [
            (Kind::ClusterIp, [format!("10.96.0.{n}"), format!("fd00:96::{n}")]),
            (Kind::NodePort, NODE.map(str::to_owned)),
            (Kind::ExternalIp, [format!("198.51.100.{n}"), format!("2001:db8:e::{n}")]),
            (Kind::LoadBalancer, [format!("203.0.113.{n}"), format!("2001:db8:f::{n}")]),
            (Kind::Announced, [format!("192.0.2.{}", 200 + n), format!("2001:db8:1::f0{n}")]),
        ];
        let vips = addresses.iter().flat_map(|(kind, both)| {
            both.iter().map(|ip| Vip {
                kind: *kind,
                ip: ip.parse().expect("an address"),
                node_port,
            })
        });
        vips.collect()
    }

    /// The load balancer's addresses, IPv4 and IPv6.
    pub(crate) fn balanced(&self) -> [Vip; 2] {
        let all = self.vips();
        let mut balanced = all.iter().filter(|vip| vip.kind == Kind::LoadBalancer).copied();
        [balanced.next(), balanced.next()].map(|vip| vip.expect("one of each family"))
    }

    /// YAML of the Service and its slices.
    pub(crate) fn manifest(&self) -> String {
        let list = |kind: Kind| {
            let vips = self.vips().into_iter().filter(move |vip| vip.kind == kind);
            vips.map(|vip| format!("\"{}\"", vip.ip)).collect::<Vec<_>>()
        };
        let Self { name, policy, internal, .. } = self;
        let cluster = list(Kind::ClusterIp);
        let mut yaml = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
             type: LoadBalancer\n  externalTrafficPolicy: {policy:?}\n  internalTrafficPolicy: {internal:?}\n  ipFamilies: [IPv4, IPv6]\n  \
             clusterIP: {}\n  clusterIPs: [{}]\n  externalIPs: [{}]\n  ports:\n",
            cluster[0],
            cluster.join(", "),
            list(Kind::ExternalIp).join(", "),
        );
        let node_port = 30000 + 10 * u16::from(self.number);
        for ServicePort { name, port, target, protocol, offset } in PORTS {
            let node_port = node_port + offset;
            let _ = writeln!(
                yaml,
                "  - {{name: {name}, protocol: {protocol}, port: {port}, targetPort: {target}, nodePort: {node_port}}}"
            );
        }
        let ingress = [list(Kind::LoadBalancer), list(Kind::Announced)].concat();
        let ingress: Vec<_> = ingress.iter().map(|ip| format!("{{ip: {ip}}}")).collect();
        let _ = writeln!(yaml, "status: {{loadBalancer: {{ingress: [{}]}}}}", ingress.join(", "));
        yaml + &self.slice(0, "IPv4") + &self.slice(1, "IPv6")
    }

    fn slice(&self, family: usize, family_name: &str) -> String {
        let Self { name, .. } = self;
        let mut yaml = format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-{family}, \
             namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: {family_name}\nports:\n"
        );
        for ServicePort { name, target, protocol, .. } in PORTS {
            let _ = writeln!(yaml, "- {{name: {name}, port: {target}, protocol: {protocol}}}");
        }
        yaml += "endpoints:\n";
        for (backend, endpoint) in BACKENDS.iter().zip(self.endpoints) {
            let conditions = match endpoint {
                Endpoint::Ready => "ready: true",
                Endpoint::Terminating => "ready: false, serving: true, terminating: true",
                Endpoint::Absent => continue,
            };
            let address = backend.addresses[family];
            let _ =
                writeln!(yaml, "- {{addresses: [\"{address}\"], conditions: {{{conditions}}}}}");
        }
        if self.endpoints == [Endpoint::Absent; 2] {
            yaml += "  []\n";
        }
        yaml
    }
}

/// A Service with so many ports that nobody asks for: a mark by which tables made from a file are told from those
/// made from the one before.
pub(crate) fn mark(ports: u64) -> String {
    let ports: Vec<_> =
        (1..=ports).map(|port| format!("{{name: p{port}, port: {port}}}")).collect();
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: mark, namespace: default}}\nspec: {{clusterIP: \
         10.96.255.1, clusterIPs: [10.96.255.1], ipFamilies: [IPv4], ports: [{}]}}\n",
        ports.join(", ")
    )
}

const fn tcp(name: &'static str, port: u16, target: u16, offset: u16) -> ServicePort {
    ServicePort { name, port, target, protocol: "TCP", offset }
}

const fn udp(name: &'static str, port: u16, target: u16, offset: u16) -> ServicePort {
    ServicePort { name, port, target, protocol: "UDP", offset }
}

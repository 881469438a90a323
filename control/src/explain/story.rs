//! The words around a verdict: which object, which rule, who was left out and why.

use std::net::{IpAddr, SocketAddr};

use dataplane::classify::Destination;
use dataplane::fib::Route;
use dataplane::flow::Tuple;
use dataplane::service::{Class, Decision, Match};

use super::{Explanation, Flow, Scene, Step, Verdict};
use crate::compile;
use crate::object::slice::Endpoint;
use crate::object::{ObjectName, Service, service::Port};
use crate::settings::{Role, Settings};

/// Endpoints told of one by one; more are counted.
const ENDPOINTS: usize = 100;

/// The steps to the verdict, in order.
pub(super) fn tell(
    flow: &Flow,
    destination: &Destination<'_>,
    decision: Option<Decision<'_>>,
    told: &Explanation,
    left_as: Option<Tuple>,
    scene: &Scene<'_>,
) -> Vec<Step> {
    let mut story = Story { flow, scene: *scene, steps: Vec::new() };
    match destination {
        Destination::Service(found) => story.service(found, decision, told, left_as),
        Destination::VipPortUnknown { cluster } => story.unknown_port(*cluster),
        Destination::Unallocated => {
            story.add("address", "in serviceCIDRs, but no Service's: dropped (REJ-10)");
        }
        Destination::Local => story.node_address(),
        Destination::Masquerade { .. } => {
            story.add("address", "a masquerade address of the gateway: a reply of no connection");
        }
        Destination::Reply => {
            story.add("client", "an endpoint, from its service port: a packet of no connection");
        }
        Destination::Outbound => {
            story.add("client", "an endpoint, from its service port; the address is no Service's");
        }
        Destination::Direct => {
            story.add("address", "an endpoint's own address and port: reached without a Service");
        }
        Destination::Transit => story.add("address", "no Service has it, nor this node"),
    }
    story.verdict(told);
    story.steps
}

struct Story<'a> {
    flow: &'a Flow,
    scene: Scene<'a>,
    steps: Vec<Step>,
}

impl<'a> Story<'a> {
    fn add(&mut self, about: &str, text: impl Into<String>) {
        self.steps.push(Step { about: about.into(), text: text.into() });
    }

    fn service(
        &mut self,
        found: &Match<'_>,
        decision: Option<Decision<'_>>,
        told: &Explanation,
        left_as: Option<Tuple>,
    ) {
        let Scene { assembly, tables, .. } = self.scene;
        let settings = assembly.settings();
        let source = tables.node.classify_source(self.flow.client.ip());
        let Some((service, port)) = self.row(&found.row().name) else { return };
        self.address(found, service, port);
        self.client(&source, settings);
        if !found.allowed_sources().is_empty() {
            let inside =
                found.allowed_sources().iter().find(|net| net.contains(&self.flow.client.ip()));
            self.add(
                "sources",
                match inside {
                    Some(net) => format!("the client is in {net} of loadBalancerSourceRanges"),
                    None => {
                        "the client is in none of loadBalancerSourceRanges: dropped (LSR-3)".into()
                    }
                },
            );
            if inside.is_none() {
                return;
            }
        }
        self.policy(found, &source, settings);
        let (list, whoever): (&[_], bool) = match decision {
            Some(Decision::Forward { choice, masquerade }) => (&choice.backends, masquerade),
            _ => (&[], false),
        };
        let chosen: Vec<SocketAddr> = list.iter().map(|(at, _)| *at).collect();
        // On an edge gateway the external policy's list is not of this node.
        let edge = settings.role == Role::Edge && found.class() == Class::External;
        let local = found.local(&source).is_some() && !edge;
        self.endpoints(service, port, &chosen, local, told);
        if let Some(seconds) = found.row().affinity {
            self.add("affinity", format!("ClientIP: who opened a connection in the last {seconds} s keeps its endpoint (AFF-3); here the client is taken for a new one"));
        }
        if let Some(backends) = &told.backends {
            let with = backends.iter().filter(|backend| backend.masquerade).count();
            self.masquerade(found, &source, whoever, with, backends.len());
        }
        if let Some(to) = left_as.filter(|_| self.scene.routes) {
            self.next_hop(to);
        }
    }

    /// The Service and port behind a row's name.
    fn row(&self, name: &str) -> Option<(&'a Service, &'a Port)> {
        let (namespace, rest) = name.split_once('/')?;
        let (object, _) = rest.split_once(':')?;
        let service = self.scene.assembly.state().service(&ObjectName::new(namespace, object))?;
        let mut ports = service.ports.iter();
        let port = ports.find(|port| {
            port.protocol == self.flow.protocol && *compile::row_name(service, port) == *name
        })?;
        Some((service, port))
    }

    fn address(&mut self, found: &Match<'_>, service: &Service, port: &Port) {
        let to = self.flow.destination;
        let what = if service.cluster_ip(to.is_ipv4()) == Some(to.ip()) {
            "cluster IP"
        } else if service.vips.contains(&to.ip()) {
            "load-balancer address"
        } else if service.external_ips.contains(&to.ip()) {
            "external IP"
        } else {
            "node address and node port"
        };
        let protocol = port.protocol.name();
        self.add(
            "address",
            format!("{what} of Service {}, port {protocol}/{}", found.row().name, port.number),
        );
    }

    fn client(&mut self, source: &dataplane::service::SourceClass, settings: &Settings) {
        let text = match (source.pod, source.node, source.detector) {
            (true, ..) => "a pod: inside clusterCIDR",
            (_, true, _) => "this node: one of its own addresses",
            (_, _, true) => "outside: neither in clusterCIDR nor an address of this node",
            (_, _, false) => {
                "outside; no clusterCIDR of this family is configured, so nobody counts as a pod (VER-4)"
            }
        };
        let node = settings.node_name.as_deref().map_or_else(
            || "; the gateway has no node name".into(),
            |name| format!("; the gateway is node {name}"),
        );
        self.add("client", format!("{text}{node}"));
    }

    fn policy(
        &mut self,
        found: &Match<'_>,
        source: &dataplane::service::SourceClass,
        settings: &Settings,
    ) {
        let edge = settings.role == Role::Edge;
        let (internal, external) =
            (found.row().internal_local.is_some(), found.row().external_local.is_some());
        let text = match (found.class(), internal, external) {
            (Class::Cluster, false, _) => "internalTrafficPolicy Cluster: endpoints anywhere",
            (Class::Cluster, true, _) => "internalTrafficPolicy Local: endpoints on this node only",
            (Class::External, _, false) => "externalTrafficPolicy Cluster: endpoints anywhere",
            (Class::External, _, true) if source.pod => {
                "externalTrafficPolicy Local, but for a pod endpoints anywhere, its address kept (VER-2)"
            }
            (Class::External, _, true) if source.node => {
                "externalTrafficPolicy Local, but for the node itself endpoints anywhere, masqueraded (VER-3)"
            }
            (Class::External, _, true) if edge => {
                "externalTrafficPolicy Local on an edge gateway: any ready endpoint, the client's address kept: its reply must come back through here (MSQ-8)"
            }
            (Class::External, _, true) => {
                "externalTrafficPolicy Local: endpoints on this node only"
            }
        };
        self.add("policy", text);
    }

    /// Every endpoint of the port, `chosen` or left out; `local` says that only those of this node could be.
    fn endpoints(
        &mut self,
        service: &Service,
        port: &Port,
        chosen: &[SocketAddr],
        local: bool,
        told: &Explanation,
    ) {
        let Scene { assembly, .. } = self.scene;
        let settings = assembly.settings();
        let slices = assembly.state().slices(&service.name);
        let v4 = self.flow.destination.is_ipv4();
        if service.headless_label {
            return self.add("endpoints", "none: the Service is labelled headless (EXC-3)");
        }
        let count = slices.clone().filter(|slice| slice.v4 == v4).count();
        let candidates = compile::endpoints(slices, port, v4);
        let family = if v4 { "IPv4" } else { "IPv6" };
        if candidates.is_empty() {
            let name = if port.name.is_empty() { "without name" } else { port.name.as_str() };
            return self.add(
                "endpoints",
                match count {
                    0 => format!(
                        "no EndpointSlice of family {family} belongs to the Service (REJ-1)"
                    ),
                    _ => format!(
                        "none in {count} EndpointSlices with a {} port {name} (EPS-11)",
                        port.protocol.name()
                    ),
                },
            );
        }
        self.add("endpoints", format!("{} of {} can be chosen", chosen.len(), candidates.len()));
        for (at, endpoint) in candidates.iter().take(ENDPOINTS) {
            let fate = if chosen.contains(at) {
                let mark = if told.chosen.as_deref() == Some(&*at.to_string()) {
                    ", chosen for this flow"
                } else {
                    ""
                };
                format!(
                    "{}{mark}",
                    if endpoint.ready {
                        "ready"
                    } else {
                        "terminating, but no other is ready (TRM-1, TRM-2)"
                    }
                )
            } else {
                let why = if compile::is_cluster_ip(at.ip(), service, settings) {
                    "a cluster IP can't be an endpoint (EPS-14)".into()
                } else {
                    why_not(endpoint, local, settings)
                };
                format!("left out: {why}")
            };
            self.add("", format!("{at}  {fate}"));
        }
        if candidates.len() > ENDPOINTS {
            self.add("", format!("... and {} more", candidates.len() - ENDPOINTS));
        }
    }

    fn masquerade(
        &mut self,
        found: &Match<'_>,
        source: &dataplane::service::SourceClass,
        whoever: bool,
        with: usize,
        of: usize,
    ) {
        let text = match (with, found.class()) {
            (0, _) => "no: backends see the client's address",
            _ if !whoever => "only for the backend that is the client itself (MSQ-2)",
            (_, Class::External) if found.row().external_local.is_none() => {
                "yes: externalTrafficPolicy Cluster (MSQ-1 a)"
            }
            (_, Class::External) => "yes: the node itself (MSQ-1 d)",
            (_, Class::Cluster) if source.detector && !source.pod => {
                "yes: a cluster IP and the client is no pod (MSQ-1 b)"
            }
            (_, Class::Cluster) => "yes: masqueradeAll (MSQ-1 c)",
        };
        let but = if whoever && with > 0 && with < of {
            "; not for backends that are this node itself (MSQ-9)"
        } else {
            ""
        };
        self.add("masquerade", format!("{text}{but}"));
    }

    fn next_hop(&mut self, to: Tuple) {
        let text = match self.scene.tables.fib.route(to.dst) {
            Route::Egress { port, mac } => {
                let [a, b, c, d, e, f] = mac;
                format!("port {port}, {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
            }
            Route::Unresolved { port, via } => {
                let who = via.map_or_else(|| to.dst.ip(), |via| via.ip());
                format!("port {port}, {who}, whose MAC address is not known yet")
            }
            Route::Local => "this node itself".into(),
            Route::Nowhere => "none: the kernel has no route".into(),
        };
        self.add("next hop", text);
    }

    fn unknown_port(&mut self, cluster: bool) {
        let to = self.flow.destination;
        let others: Vec<String> = self.ports_of(to.ip());
        let kind = if cluster { "a cluster IP" } else { "an external address" };
        self.add(
            "address",
            format!(
                "{kind} of a Service that has no {} port {}",
                self.flow.protocol.name(),
                to.port()
            ),
        );
        if !others.is_empty() {
            self.add("ports", format!("there: {}", others.join(", ")));
        }
        let text = match (cluster, self.scene.tables.node.rejects_unknown_port(cluster)) {
            (true, true) => {
                "unknown ports of cluster IPs are refused (rejectUnknownClusterIPPorts, REJ-10)"
            }
            (true, false) => {
                "unknown ports of cluster IPs are left alone (rejectUnknownClusterIPPorts is off)"
            }
            (false, true) => "unknown ports of external addresses are refused by an edge gateway",
            (false, false) => "unknown ports of external addresses are left to the host (LBR-8)",
        };
        self.add("policy", text);
    }

    /// Ports that Services have at an address, and whose they are.
    fn ports_of(&self, ip: IpAddr) -> Vec<String> {
        let services =
            self.scene.assembly.state().services().filter(|service| service.skip().is_none());
        let here = services.filter(|service| {
            service.cluster_ip(ip.is_ipv4()) == Some(ip)
                || service.vips.contains(&ip)
                || service.external_ips.contains(&ip)
        });
        let mut ports: Vec<String> = here
            .flat_map(|service| service.ports.iter().map(move |port| (service, port)))
            .map(|(service, port)| {
                format!("{}/{} ({})", port.protocol.name(), port.number, service.name)
            })
            .collect();
        ports.sort();
        ports
    }

    fn node_address(&mut self) {
        let Scene { assembly, tables, .. } = self.scene;
        let to = self.flow.destination;
        self.add("address", "this node's own");
        let mut holders = assembly.state().services().filter(|service| {
            service.skip().is_none()
                && service.cluster_ip(to.is_ipv4()).is_some()
                && service.ports.iter().any(|port| {
                    port.node_port == Some(to.port()) && port.protocol == self.flow.protocol
                })
        });
        let text = match holders.next() {
            Some(service) if !tables.node.serves_node_ports(to.ip().into()) => format!(
                "node port of Service {}, but nodePortAddresses does not select this address (NPT-6)",
                service.name
            ),
            _ => format!("no Service has {} node port {}", self.flow.protocol.name(), to.port()),
        };
        self.add("ports", text);
    }

    fn verdict(&mut self, told: &Explanation) {
        let reason = told.reason.as_deref().unwrap_or_default();
        let text = match (told.verdict, &told.chosen) {
            (Verdict::Dnat, Some(chosen)) => format!("dnat to {chosen}"),
            (Verdict::Dnat, None) => "dnat to an endpoint on this node".into(),
            (verdict, _) => format!("{}: {reason}", verdict.name()),
        };
        self.add("verdict", text);
    }
}

/// Why an endpoint is not in the list in use.
fn why_not(endpoint: &Endpoint, local: bool, settings: &Settings) -> String {
    let here = endpoint.node.is_some() && endpoint.node == settings.node_name;
    let usable = endpoint.ready || (endpoint.serving && endpoint.terminating);
    if !usable && endpoint.terminating {
        return "terminating and no longer serving (TRM-4)".into();
    }
    if !usable {
        return "not ready (SEL-8)".into();
    }
    if local && !here {
        return match &endpoint.node {
            Some(node) => format!("on node {node}, not on this one (SEL-5)"),
            None => "on no node, so not on this one (END-7)".into(),
        };
    }
    if !endpoint.ready {
        return "terminating, and others are ready (SEL-4)".into();
    }
    let zones = endpoint.zone_hints.iter().map(|zone| &**zone);
    let nodes = endpoint.node_hints.iter().map(|node| &**node);
    let hints: Vec<&str> = zones.chain(nodes).collect();
    format!("topology hints name {}, not this node's place (TOP-2, TOP-3)", hints.join(", "))
}

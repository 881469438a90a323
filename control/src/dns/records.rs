//! Names to records: what the Kubernetes DNS specification (schema 1.1.0) says, over the objects as they are.
//!
//! Pure, and nothing is kept: an answer is read from the same [`State`] the tables are compiled from. Finding a name
//! costs no more than the Service it is about.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane::flow::Protocol;
use hickory_resolver::proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_resolver::proto::rr::{Name, RData};
use ipnet::IpNet;

use crate::object::service::ServiceKind;
use crate::object::slice::Endpoint;
use crate::object::{ObjectName, Service, Slice};
use crate::settings::Settings;
use crate::state::State;

/// The schema's version (DNS-1).
const VERSION: &str = "1.1.0";
/// Priority and weight of every SRV record: all are alike.
const PRIORITY: u16 = 0;
const WEIGHT: u16 = 100;

/// What we know about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is somebody else's.
    Elsewhere,
    /// It is in a zone of ours.
    Here {
        /// The zone, for its SOA record.
        zone: Name,
        /// All records of the name, maybe none; `None` when there is no such name.
        records: Option<Vec<RData>>,
    },
}

/// The cluster's zone.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    origin: Name,
    ttl: u32,
    /// Addresses of this server.
    servers: Vec<IpAddr>,
}

impl Zone {
    /// `origin` is fully qualified.
    pub(super) fn new(origin: Name, ttl: u32, servers: Vec<IpAddr>) -> Self {
        Self { origin, ttl, servers }
    }

    /// Everything about a name.
    pub(super) fn find(&self, name: &Name, state: &State, settings: &Settings) -> Found {
        if !self.origin.zone_of(name) {
            return self.reverse(name, state, settings);
        }
        let own = usize::from(name.num_labels() - self.origin.num_labels());
        let labels: Option<Vec<String>> = name
            .iter()
            .take(own)
            .map(|label| Some(str::from_utf8(label).ok()?.to_ascii_lowercase()))
            .collect();
        let labels = labels.unwrap_or_else(|| vec![String::new()]);
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        Found::Here { zone: self.origin.clone(), records: self.forward(&labels, state) }
    }

    /// The start of authority of a zone of ours. Nobody transfers them, so the serial says nothing.
    pub(super) fn soa(&self) -> RData {
        let name = |labels: &[&str]| self.name(labels).unwrap_or_else(|| self.origin.clone());
        RData::SOA(SOA::new(
            name(&["ns", "dns"]),
            name(&["hostmaster"]),
            1,
            7200,
            1800,
            86_400,
            self.ttl,
        ))
    }

    /// Names below the cluster's zone, without it, the first label first.
    fn forward(&self, labels: &[&str], state: &State) -> Option<Vec<RData>> {
        match labels {
            [] => {
                let server = self.name(&["ns", "dns"]).map(|name| RData::NS(NS(name)));
                Some([self.soa()].into_iter().chain(server).collect())
            }
            // DNS-1
            ["dns-version"] => Some(vec![RData::TXT(TXT::new(vec![VERSION.to_owned()]))]),
            ["ns", "dns"] => Some(self.servers.iter().copied().map(RData::from).collect()),
            ["dns" | "svc" | "pod"] => Some(Vec::new()),
            [namespace, "svc"] => state.has_namespace(namespace).then(Vec::new),
            [below @ .., service, namespace, "svc"] => {
                let service = state.service(&ObjectName::new(namespace, service))?;
                self.service(service, below, state)
            }
            // Namespaces without a Service are not known: that of a pod may be any.
            [_namespace, "pod"] => Some(Vec::new()),
            // DNS-9
            [address, _namespace, "pod"] => pod_address(address).map(|ip| vec![ip.into()]),
            _ => None,
        }
    }

    /// A Service's name, or one `below` it.
    fn service(&self, service: &Service, below: &[&str], state: &State) -> Option<Vec<RData>> {
        match (&service.kind, below) {
            (ServiceKind::Headless, _) => self.headless(service, below, state),
            // DNS-2
            (ServiceKind::Addressed(ips), []) => {
                Some(ips.iter().copied().map(RData::from).collect())
            }
            // DNS-3
            (ServiceKind::Addressed(_), [protocol]) => {
                let named =
                    |port: &&crate::object::service::Port| is_label(protocol, port.protocol.name());
                let mut ports = service.ports.iter().filter(|port| !port.name.is_empty());
                ports.find(named).map(|_| Vec::new())
            }
            (ServiceKind::Addressed(_), [port, protocol]) => {
                let mut ports = service.ports.iter();
                let port = ports.find(|p| is_port(port, protocol, &p.name, p.protocol))?;
                let target = self.name_of(service)?;
                Some(vec![RData::SRV(SRV::new(PRIORITY, WEIGHT, port.number, target))])
            }
            // DNS-8
            (ServiceKind::External(target), []) => {
                let target = Name::from_ascii(target).ok().filter(|target| target.num_labels() > 0);
                let alias = |mut target: Name| {
                    target.set_fqdn(true);
                    RData::CNAME(CNAME(target))
                };
                Some(target.map(alias).into_iter().collect())
            }
            (ServiceKind::Unassigned, []) => Some(Vec::new()),
            _ => None,
        }
    }

    /// Names of a headless Service exist as long as it has endpoints (DNS-5, DNS-6).
    fn headless(&self, service: &Service, below: &[&str], state: &State) -> Option<Vec<RData>> {
        let slices = state.all_slices(&service.name);
        let ready = slices.clone().flat_map(|slice| usable(service, slice));
        let addresses = |ips: BTreeSet<IpAddr>| {
            (!ips.is_empty()).then(|| ips.into_iter().map(RData::from).collect::<Vec<_>>())
        };
        match below {
            [] => addresses(ready.map(|endpoint| endpoint.address).collect()),
            [protocol] if protocol.starts_with('_') => {
                let mut slices = slices.filter(|slice| usable(service, slice).next().is_some());
                let named = |slice: &Slice| {
                    slice
                        .ports
                        .iter()
                        .any(|p| !p.name.is_empty() && is_label(protocol, p.protocol.name()))
                };
                slices.any(named).then(Vec::new)
            }
            [hostname] => {
                let of_name =
                    ready.filter(|endpoint| endpoint_name(endpoint).eq_ignore_ascii_case(hostname));
                addresses(of_name.map(|endpoint| endpoint.address).collect())
            }
            [port, protocol] => {
                let mut targets = BTreeSet::new();
                for slice in slices {
                    let ports =
                        slice.ports.iter().filter(|p| is_port(port, protocol, &p.name, p.protocol));
                    for number in ports.map(|port| port.number) {
                        targets.extend(usable(service, slice).map(|e| (endpoint_name(e), number)));
                    }
                }
                let record = |(hostname, number): (String, u16)| {
                    let target = self.name(&[
                        &hostname,
                        service.name.name(),
                        service.name.namespace(),
                        "svc",
                    ])?;
                    Some(RData::SRV(SRV::new(PRIORITY, WEIGHT, number, target)))
                };
                (!targets.is_empty()).then(|| targets.into_iter().filter_map(record).collect())
            }
            _ => None,
        }
    }

    /// Names of addresses (DNS-4, DNS-6). Those of the cluster's networks are ours whether or not anybody has them.
    fn reverse(&self, name: &Name, state: &State, settings: &Settings) -> Found {
        let Ok(net) = name.parse_arpa_name() else { return Found::Elsewhere };
        let whole = net.prefix_len() == net.max_prefix_len();
        let names = if whole { self.names(net.addr(), state) } else { Vec::new() };
        let mut networks = settings.service_cidrs.iter().chain(&settings.cluster_cidrs);
        match networks.find(|network| network.contains(&net)) {
            Some(network) => {
                let zone = name.trim_to(2 + labels_of(network));
                Found::Here { zone, records: (!whole || !names.is_empty()).then_some(names) }
            }
            None if !names.is_empty() => Found::Here { zone: name.clone(), records: Some(names) },
            None => Found::Elsewhere,
        }
    }

    fn names(&self, address: IpAddr, state: &State) -> Vec<RData> {
        let mut names = BTreeSet::new();
        for (service, slice) in state.at(address) {
            match slice {
                None => names.extend(self.name_of(service)),
                Some(slice) => {
                    let here =
                        usable(service, slice).filter(|endpoint| endpoint.address == address);
                    let (of, namespace) = (service.name.name(), service.name.namespace());
                    names.extend(
                        here.filter_map(|e| self.name(&[&endpoint_name(e), of, namespace, "svc"])),
                    );
                }
            }
        }
        names.into_iter().map(|name| RData::PTR(PTR(name))).collect()
    }

    fn name_of(&self, service: &Service) -> Option<Name> {
        self.name(&[service.name.name(), service.name.namespace(), "svc"])
    }

    /// A name in the zone; `None` if it would be too long for one.
    fn name(&self, labels: &[&str]) -> Option<Name> {
        let labels = labels.iter().map(|label| label.as_bytes());
        Name::from_labels(labels.chain(self.origin.iter())).ok()
    }
}

/// Endpoints that have a name: ready ones, and all of a Service that publishes others, too (DNS-7).
fn usable<'a>(service: &Service, slice: &'a Slice) -> impl Iterator<Item = &'a Endpoint> + use<'a> {
    let all = service.publish_not_ready;
    slice.endpoints.iter().filter(move |endpoint| all || endpoint.ready)
}

/// The given host name, or one made of the address.
fn endpoint_name(endpoint: &Endpoint) -> String {
    match &endpoint.hostname {
        Some(hostname) => hostname.to_ascii_lowercase(),
        None => endpoint.address.to_string().replace(['.', ':'], "-"),
    }
}

/// Whether two labels are `_port` and `_protocol` of a named port.
fn is_port(port: &str, protocol: &str, name: &str, of: Protocol) -> bool {
    !name.is_empty() && is_label(port, name) && is_label(protocol, of.name())
}

fn is_label(label: &str, name: &str) -> bool {
    label.strip_prefix('_').is_some_and(|label| label.eq_ignore_ascii_case(name))
}

/// The address a pod's name is made of: dashes stand for dots or colons.
fn pod_address(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse().map(IpAddr::V6)).ok()
}

/// Labels a reverse zone has that lies within a network: whole octets, or hex digits.
fn labels_of(network: &IpNet) -> usize {
    let bits = if network.addr().is_ipv4() { 8 } else { 4 };
    usize::from(network.prefix_len().div_ceil(bits))
}

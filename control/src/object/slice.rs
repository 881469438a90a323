//! EndpointSlice: a part of a Service's endpoints, all of one family.

use std::net::IpAddr;
use std::sync::Arc;

use dataplane::flow::Protocol;
use k8s_openapi::api::discovery::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::problem::Report;
use super::service::HEADLESS_LABEL;
use super::{Kind, ObjectName, Parsed, Problem, Reason, address, named};

/// Names the Service a slice belongs to (EPS-1).
pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// When the change behind this version of a slice happened (EPS-12).
const TRIGGER_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Namespace and name.
    pub name: ObjectName,
    /// Its identity in the API; none in manifests.
    pub uid: Option<Arc<str>>,
    /// The Service it belongs to; `None` if it belongs to nobody (EPS-1).
    pub service: Option<ObjectName>,
    /// Labelled headless: for DNS only (EXC-3).
    pub headless_label: bool,
    /// Whether its family is IPv4. A slice of host names has no endpoints here (EPS-2).
    pub v4: bool,
    /// Ports that every endpoint has.
    pub ports: Vec<SlicePort>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// A port of a slice: the endpoints' number for a Service port of that name and protocol (OBJ-7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Name of the Service port.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Number at the endpoints.
    pub number: u16,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Takes new connections.
    pub ready: bool,
    /// Would answer.
    pub serving: bool,
    /// Is going away.
    pub terminating: bool,
    /// The node it runs on.
    pub node: Option<Arc<str>>,
    /// Its name below a headless Service's, if it was given one (DNS-5).
    pub hostname: Option<Arc<str>>,
    /// Zones that should use it (EPS-9).
    pub zone_hints: Box<[Arc<str>]>,
    /// Nodes that should use it (EPS-9).
    pub node_hints: Box<[Arc<str>]>,
}

impl Slice {
    /// Reads an object. Only one without a name is an error; anything else that can't be read is left out.
    pub fn parse(slice: &api::EndpointSlice) -> Result<Parsed<Self>, Box<Problem>> {
        let key = named(Kind::EndpointSlice, &slice.metadata)?;
        let mut report = Report::new(key.clone());
        let label = |name| slice.metadata.labels.as_ref().and_then(|labels| labels.get(name));
        let service = label(SERVICE_NAME_LABEL).filter(|name| !name.is_empty());
        let v4 = match slice.address_type.as_str() {
            "IPv4" => Some(true),
            "IPv6" => Some(false),
            "FQDN" => None,
            other => {
                let expected = "IPv4, IPv6 or FQDN";
                report.add("addressType", Reason::Value { value: other.into(), expected });
                None
            }
        };
        let parsed = Self {
            service: service.map(|service| ObjectName::new(key.name.namespace(), service)),
            headless_label: label(HEADLESS_LABEL).is_some(),
            uid: slice.metadata.uid.as_deref().map(Arc::from),
            name: key.name,
            v4: v4.unwrap_or(true),
            ports: ports(slice, &mut report),
            endpoints: v4.map_or_else(Vec::new, |v4| endpoints(slice, v4, &mut report)),
        };
        Ok(Parsed { object: parsed, problems: report.into_problems() })
    }
}

/// The instant of the change that led to this version of a slice, if the controller noted it (EPS-12).
#[must_use]
pub fn trigger_time(metadata: &ObjectMeta) -> Option<Timestamp> {
    metadata.annotations.as_ref()?.get(TRIGGER_ANNOTATION)?.parse().ok()
}

/// EPS-3: a port without name or number is not implemented by any proxy, and no error.
fn ports(slice: &api::EndpointSlice, report: &mut Report) -> Vec<SlicePort> {
    let mut ports = Vec::new();
    for (i, port) in slice.ports.iter().flatten().enumerate() {
        let (Some(name), Some(number)) = (&port.name, port.port.filter(|number| *number != 0))
        else {
            continue;
        };
        let number = super::port(number, || format!("ports[{i}].port"), report);
        let protocol =
            super::protocol(port.protocol.as_deref(), || format!("ports[{i}].protocol"), report);
        if let (Some(number), Some(protocol)) = (number, protocol) {
            ports.push(SlicePort { name: name.clone(), protocol, number });
        }
    }
    ports
}

fn endpoints(slice: &api::EndpointSlice, v4: bool, report: &mut Report) -> Vec<Endpoint> {
    let endpoints = slice.endpoints.iter().flatten().enumerate();
    endpoints.filter_map(|(i, endpoint)| self::endpoint(endpoint, i, v4, report)).collect()
}

fn endpoint(endpoint: &api::Endpoint, i: usize, v4: bool, report: &mut Report) -> Option<Endpoint> {
    // EPS-4: only the first address counts; none is no endpoint.
    let text = endpoint.addresses.first()?;
    let field = || format!("endpoints[{i}].addresses[0]");
    let address = report.ok(field, address::parse_ip(text))?;
    let address = report.usable(field, usable(address, v4))?;
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let hints = endpoint.hints.clone().unwrap_or_default();
    Some(Endpoint {
        address,
        // EPS-5
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        node: endpoint.node_name.as_deref().filter(|node| !node.is_empty()).map(Arc::from),
        hostname: endpoint.hostname.as_deref().filter(|name| !name.is_empty()).map(Arc::from),
        zone_hints: hints
            .for_zones
            .into_iter()
            .flatten()
            .map(|zone| Arc::from(zone.name))
            .collect(),
        node_hints: hints
            .for_nodes
            .into_iter()
            .flatten()
            .map(|node| Arc::from(node.name))
            .collect(),
    })
}

/// EPS-14: addresses no endpoint can have.
pub(super) fn usable(ip: IpAddr, v4: bool) -> Result<IpAddr, String> {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if ip.is_ipv4() != v4 {
        Err(format!(
            "{ip} is not of the slice's addressType: put each family into a slice of its own"
        ))
    } else if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local {
        Err(format!("{ip} can't be an endpoint: use an address that other hosts can reach"))
    } else {
        Ok(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Parsed<Slice> {
        let slice: api::EndpointSlice = serde_saphyr::from_str(yaml).expect("readable");
        Slice::parse(&slice).expect("named")
    }

    fn body(body: &str) -> Parsed<Slice> {
        parse(&format!(
            "{{metadata: {{namespace: demo, name: s, labels: {{kubernetes.io/service-name: web}}}}, addressType: IPv4, {body}}}"
        ))
    }

    #[test]
    fn eps_1_only_the_label_says_whose_slice_it_is() {
        for (labels, expected) in [
            ("{kubernetes.io/service-name: web}", Some("demo/web")),
            ("{kubernetes.io/service-name: ''}", None),
            ("{}", None),
            // EXC-3: DNS wants to know.
            (
                "{kubernetes.io/service-name: web, service.kubernetes.io/headless: ''}",
                Some("demo/web"),
            ),
        ] {
            let yaml = format!(
                "{{metadata: {{namespace: demo, name: web-x, labels: {labels}, ownerReferences: [{{kind: Service, name: web, apiVersion: v1, uid: u}}]}}, addressType: IPv4, endpoints: []}}"
            );
            let service = parse(&yaml).object.service;
            assert_eq!(service.as_ref().map(ObjectName::as_str), expected, "{labels}");
        }
    }

    #[test]
    fn eps_3_ports_without_name_or_number_are_ignored() {
        let Parsed { object, problems } = body(
            "ports: [{port: 1}, {name: a}, {name: b, port: 0}, {name: '', port: 2}, {name: d, port: 3, protocol: UDP}], endpoints: null",
        );
        let ports: Vec<_> =
            object.ports.iter().map(|port| (port.name.as_str(), port.number)).collect();
        assert_eq!(ports, [("", 2), ("d", 3)]);
        assert_eq!(problems, []);
    }

    #[test]
    fn eps_5_absent_conditions_mean_ready() {
        let Parsed { object, .. } = body(
            "endpoints: [{addresses: [10.0.0.1, 10.0.0.9]}, {addresses: [10.0.0.2], conditions: {}},
              {addresses: [10.0.0.3], conditions: {ready: false, serving: false, terminating: true}}, {addresses: []}]",
        );
        let seen: Vec<_> = object
            .endpoints
            .iter()
            .map(|e| (e.address.to_string(), e.ready, e.serving, e.terminating))
            .collect();
        assert_eq!(
            seen,
            [
                ("10.0.0.1".into(), true, true, false),
                ("10.0.0.2".into(), true, true, false),
                ("10.0.0.3".into(), false, false, true)
            ]
        );
    }

    #[test]
    fn eps_2_host_names_are_no_endpoints() {
        let Parsed { object, problems } = parse(
            "{metadata: {name: s}, addressType: FQDN, endpoints: [{addresses: [a.example]}]}",
        );
        assert_eq!((object.endpoints.len(), problems.len()), (0, 0));
    }

    #[test]
    fn null_arrays_are_empty() {
        let Parsed { object, problems } = body("endpoints: null, ports: null");
        assert_eq!((object.endpoints.len(), object.ports.len(), problems.len()), (0, 0, 0));
    }

    #[test]
    fn eps_14_addresses_nobody_can_reach_are_refused() {
        for address in ["127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "'fd00::1'", "x"] {
            let Parsed { object, problems } = body(&format!(
                "endpoints: [{{addresses: [{address}]}}, {{addresses: [10.0.0.2]}}]"
            ));
            assert_eq!((object.endpoints.len(), problems.len()), (1, 1), "{address}");
            assert_eq!(problems[0].field, "endpoints[0].addresses[0]");
        }
    }

    #[test]
    fn eps_12_the_trigger_time_is_an_annotation() {
        let yaml = "{metadata: {name: s, annotations: {endpoints.kubernetes.io/last-change-trigger-time: '2026-11-22T15:16:06Z'}}, addressType: IPv4, endpoints: []}";
        let slice: api::EndpointSlice = serde_saphyr::from_str(yaml).expect("readable");
        assert_eq!(
            trigger_time(&slice.metadata).map(|t| t.to_string()).as_deref(),
            Some("2026-11-22T15:16:06Z")
        );
    }
}

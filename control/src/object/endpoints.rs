//! Endpoints to slices, as the mirroring controller would write them (END-2).

use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;

use super::problem::Report;
use super::service::HEADLESS_LABEL;
use super::slice::{Endpoint, SlicePort, usable};
use super::{Kind, ObjectName, Parsed, Problem, Slice, address, named};

/// Says that an Endpoints object must not be mirrored.
const SKIP_MIRROR_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Marks Endpoints that hold no addresses but a leader's name.
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

/// An Endpoints object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Namespace and name; the Service is the one of the same name.
    pub name: ObjectName,
    /// Whether it asks to be left alone.
    pub skip: bool,
    /// One slice for each subset and family.
    pub slices: Vec<Slice>,
}

impl Endpoints {
    /// Reads an object. Only one without a name is an error; anything else that can't be read is left out.
    pub fn parse(endpoints: &api::Endpoints) -> Result<Parsed<Self>, Box<Problem>> {
        let key = named(Kind::Endpoints, &endpoints.metadata)?;
        let mut report = Report::new(key.clone());
        let skip_label =
            endpoints.metadata.labels.as_ref().and_then(|labels| labels.get(SKIP_MIRROR_LABEL));
        let annotations = endpoints.metadata.annotations.as_ref();
        let leader =
            annotations.is_some_and(|annotations| annotations.contains_key(LEADER_ANNOTATION));
        let mut slices = Vec::new();
        for (i, subset) in endpoints.subsets.iter().flatten().enumerate() {
            let ports = ports(subset, i, &mut report);
            let endpoints = addresses(subset, i, &mut report);
            for v4 in [true, false] {
                let endpoints: Vec<_> =
                    endpoints.iter().filter(|e| e.address.is_ipv4() == v4).cloned().collect();
                if !endpoints.is_empty() {
                    // No object of the API can have a name with this character.
                    let family = if v4 { "v4" } else { "v6" };
                    let name = format!("{}~mirrored-{i}-{family}", key.name.name());
                    slices.push(Slice {
                        name: ObjectName::new(key.name.namespace(), &name),
                        uid: None,
                        service: Some(key.name.clone()),
                        headless_label: false,
                        v4,
                        ports: ports.clone(),
                        endpoints,
                    });
                }
            }
        }
        // Mirrored slices carry its labels, and those with this one are nobody's (EXC-3).
        let headless = endpoints
            .metadata
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key(HEADLESS_LABEL));
        let skip = leader || headless || skip_label.is_some_and(|value| value == "true");
        let parsed = Self { name: key.name, skip, slices };
        Ok(Parsed { object: parsed, problems: report.into_problems() })
    }
}

fn ports(subset: &api::EndpointSubset, i: usize, report: &mut Report) -> Vec<SlicePort> {
    let mut ports = Vec::new();
    for (j, port) in subset.ports.iter().flatten().enumerate() {
        let field = |name: &str| format!("subsets[{i}].ports[{j}].{name}");
        let number = super::port(port.port, || field("port"), report);
        let protocol = super::protocol(port.protocol.as_deref(), || field("protocol"), report);
        if let (Some(number), Some(protocol)) = (number, protocol) {
            // END-5: unnamed is "".
            ports.push(SlicePort { name: port.name.clone().unwrap_or_default(), protocol, number });
        }
    }
    ports
}

fn addresses(subset: &api::EndpointSubset, i: usize, report: &mut Report) -> Vec<Endpoint> {
    let lists = [
        (&subset.addresses, "addresses", true),
        (&subset.not_ready_addresses, "notReadyAddresses", false),
    ];
    let mut endpoints = Vec::new();
    for (list, field, ready) in lists {
        for (j, entry) in list.iter().flatten().enumerate() {
            let field = || format!("subsets[{i}].{field}[{j}].ip");
            let Some(address) = report.ok(field, address::parse_ip(&entry.ip)) else { continue };
            let usable = usable(address, address.is_ipv4());
            let Some(address) = report.usable(field, usable) else { continue };
            endpoints.push(Endpoint {
                address,
                ready,
                // Mirrored slices carry `ready` only, and absent means serving (EPS-5).
                serving: true,
                terminating: false,
                node: entry.node_name.as_deref().filter(|node| !node.is_empty()).map(Arc::from),
                hostname: entry.hostname.as_deref().filter(|name| !name.is_empty()).map(Arc::from),
                zone_hints: Box::default(),
                node_hints: Box::default(),
            });
        }
    }
    endpoints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Parsed<Endpoints> {
        let endpoints: api::Endpoints = serde_saphyr::from_str(yaml).expect("readable");
        Endpoints::parse(&endpoints).expect("named")
    }

    #[test]
    fn end_2_subsets_become_slices() {
        let Parsed { object, problems } = parse(
            "{metadata: {namespace: demo, name: db}, subsets: [
               {addresses: [{ip: 10.244.9.8, nodeName: node1}, {ip: 'fd00::8'}], notReadyAddresses: [{ip: 10.244.9.10}],
                ports: [{name: http, port: 8080}]},
               {addresses: [{ip: 192.0.2.7}], ports: [{port: 53, protocol: UDP}]}]}",
        );
        assert_eq!(problems, []);
        assert!(!object.skip);
        let seen: Vec<_> = object
            .slices
            .iter()
            .map(|slice| {
                let endpoints: Vec<_> =
                    slice.endpoints.iter().map(|e| (e.address.to_string(), e.ready)).collect();
                (slice.name.as_str(), slice.v4, slice.ports[0].name.as_str(), endpoints)
            })
            .collect();
        assert_eq!(
            seen,
            [
                (
                    "demo/db~mirrored-0-v4",
                    true,
                    "http",
                    vec![("10.244.9.8".into(), true), ("10.244.9.10".into(), false)]
                ),
                ("demo/db~mirrored-0-v6", false, "http", vec![("fd00::8".into(), true)]),
                ("demo/db~mirrored-1-v4", true, "", vec![("192.0.2.7".into(), true)]),
            ]
        );
        assert!(object.slices.iter().all(|slice| slice.service.as_ref() == Some(&object.name)));
    }

    #[test]
    fn end_2_some_endpoints_ask_to_be_left_alone() {
        for (metadata, skip) in [
            ("labels: {endpointslice.kubernetes.io/skip-mirror: 'true'}", true),
            ("labels: {endpointslice.kubernetes.io/skip-mirror: 'false'}", false),
            ("annotations: {control-plane.alpha.kubernetes.io/leader: '{}'}", true),
        ] {
            assert_eq!(
                parse(&format!("{{metadata: {{name: a, {metadata}}}}}")).object.skip,
                skip,
                "{metadata}"
            );
        }
    }

    #[test]
    fn a_bad_address_is_left_out() {
        let Parsed { object, problems } = parse(
            "{metadata: {name: a}, subsets: [{addresses: [{ip: 127.0.0.1}, {ip: 10.0.0.1}], ports: [{port: 1}, {port: 0}]}]}",
        );
        let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["subsets[0].ports[1].port", "subsets[0].addresses[0].ip"]);
        assert_eq!((object.slices[0].endpoints.len(), object.slices[0].ports.len()), (1, 1));
    }
}

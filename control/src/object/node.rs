//! Node: what the cluster knows of the machine a gateway runs on, as far as it changes what the gateway does.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as api;
use serde::{Deserialize, Serialize};

use super::problem::Report;
use super::{Kind, ObjectName, Parsed, Problem, address, named};

/// The cluster autoscaler marks a node with it that it is about to delete (HCK-12).
const AUTOSCALER_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// A Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, in no namespace.
    pub name: ObjectName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses, internal ones first, as kube-proxy takes them; the first of a family is its primary one.
    pub addresses: Vec<IpAddr>,
    /// Why it is about to go.
    pub leaving: Option<Leaving>,
}

/// Signs that a node is about to go (HCK-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Leaving {
    /// Its object is being deleted.
    Deleted,
    /// The cluster autoscaler has tainted it.
    Autoscaler,
}

impl Leaving {
    /// In words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Deleted => "the Node object is being deleted",
            Self::Autoscaler => "the cluster autoscaler is about to delete the node",
        }
    }
}

impl Node {
    /// Reads an object. Only one without a name is an error; an address that can't be read is left out.
    pub fn parse(node: &api::Node) -> Result<Parsed<Self>, Box<Problem>> {
        let key = named(Kind::Node, &node.metadata)?;
        let mut report = Report::new(key.clone());
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
        let tainted = taints.into_iter().flatten().any(|taint| taint.key == AUTOSCALER_TAINT);
        let leaving = match node.metadata.deletion_timestamp {
            Some(_) => Some(Leaving::Deleted),
            None => tainted.then_some(Leaving::Autoscaler),
        };
        let parsed = Self {
            name: key.name,
            labels: node.metadata.labels.clone().unwrap_or_default(),
            addresses: addresses(node, &mut report),
            leaving,
        };
        Ok(Parsed { object: parsed, problems: report.into_problems() })
    }
}

fn addresses(node: &api::Node, report: &mut Report) -> Vec<IpAddr> {
    let listed = node.status.as_ref().and_then(|status| status.addresses.as_ref());
    let mut addresses = Vec::new();
    for kind in ["InternalIP", "ExternalIP"] {
        let listed = listed.into_iter().flatten().enumerate();
        for (i, listed) in listed.filter(|(_, address)| address.type_ == kind) {
            let path = || format!("status.addresses[{i}].address");
            let address = report.ok(path, address::parse_ip(&listed.address));
            addresses.extend(address.filter(|address| !addresses.contains(address)));
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Parsed<Node> {
        let node: api::Node = serde_saphyr::from_str(yaml).expect("readable");
        Node::parse(&node).expect("named")
    }

    #[test]
    fn internal_addresses_come_first_and_bad_ones_are_reported() {
        let Parsed { object, problems } = parse(
            "{metadata: {name: node1, namespace: ignored}, status: {addresses: [
               {type: ExternalIP, address: 198.51.100.1}, {type: InternalIP, address: 192.168.50.1}, {type: Hostname, address: node1},
               {type: InternalIP, address: 'fd00:50::1'}, {type: InternalIP, address: here}, {type: ExternalIP, address: 192.168.50.1}]}}",
        );
        let addresses = ["192.168.50.1", "fd00:50::1", "198.51.100.1"];
        assert_eq!(object.addresses, addresses.map(|text| text.parse::<IpAddr>().expect("valid")));
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        let text = problem.to_string();
        assert!(text.starts_with("Node node1: status.addresses[4].address: \"here\""), "{text}");
    }

    #[test]
    fn hck_12_a_node_leaves_when_it_is_deleted_or_the_autoscaler_says_so() {
        let deleted = "deletionTimestamp: '2026-01-01T00:00:00Z'";
        let taint = |key: &str| {
            format!("spec: {{taints: [{{key: {key}, value: '1', effect: NoSchedule}}]}}")
        };
        for (metadata, spec, expected) in [
            ("labels: {a: b}", String::new(), None),
            ("labels: {a: b}", taint("node.kubernetes.io/unschedulable"), None),
            ("labels: {a: b}", taint(AUTOSCALER_TAINT), Some(Leaving::Autoscaler)),
            (deleted, String::new(), Some(Leaving::Deleted)),
            (deleted, taint(AUTOSCALER_TAINT), Some(Leaving::Deleted)),
        ] {
            let node = parse(&format!("{{metadata: {{name: n, {metadata}}}, {spec}}}"));
            assert_eq!(node.object.leaving, expected, "{metadata} {spec}");
        }
    }
}

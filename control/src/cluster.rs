//! What the cluster says of itself: its Nodes, and the ranges that cluster IPs come from.
//!
//! Together with the configuration this makes the settings in use ([`Cluster::settings`]), a pure function of the objects
//! there are. What is said twice:
//!
//! - A label of the Node object wins over `nodeLabels`: it may change while the configuration stays. Labels it lacks are
//!   those of the configuration.
//! - `nodeIPs` win over the Node object's addresses: they were written because those are not the right ones.
//! - `serviceCIDRs` and the ranges of ServiceCIDR objects add up.
//!
//! Without a Node of the configured name the configuration stands alone.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::object::node::Leaving;
use crate::object::{Kind, Node, ObjectKey, ObjectName, ServiceCidr};
use crate::settings::Settings;

/// See the module. Part of the [`crate::state::State`].
#[derive(Debug, Default)]
pub struct Cluster {
    nodes: BTreeMap<ObjectName, Node>,
    service_cidrs: BTreeMap<ObjectName, ServiceCidr>,
}

/// What is in effect of the node that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Whether there is a Node object of this name.
    pub found: bool,
    /// Its zone.
    pub zone: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Why it is about to go.
    pub leaving: Option<Leaving>,
}

impl Cluster {
    /// The Node that settings name, if it is there.
    #[must_use]
    pub fn node(&self, settings: &Settings) -> Option<&Node> {
        let name = settings.node_name.as_deref()?;
        self.nodes.get(&ObjectKey::named(Kind::Node, None, name).name)
    }

    /// The settings in use.
    #[must_use]
    pub fn settings(&self, configured: &Settings) -> Settings {
        let mut settings = configured.clone();
        if let Some(node) = self.node(configured) {
            settings.node_labels.extend(node.labels.clone());
            if settings.node_ips.is_empty() {
                settings.node_ips = node.addresses.clone();
            }
        }
        for range in self.service_cidrs.values().flat_map(|object| &object.ranges) {
            if !settings.service_cidrs.contains(range) {
                settings.service_cidrs.push(*range);
            }
        }
        settings
    }

    /// What is in effect of the node that `settings`, which are in use, name.
    #[must_use]
    pub fn node_facts(&self, settings: &Settings) -> Option<NodeFacts> {
        let node = self.node(settings);
        Some(NodeFacts {
            name: settings.node_name.as_deref()?.into(),
            found: node.is_some(),
            zone: settings.zone().map(Into::into),
            addresses: settings.node_ips.clone(),
            leaving: node.and_then(|node| node.leaving),
        })
    }

    pub(crate) fn apply_node(&mut self, node: Node) {
        self.nodes.insert(node.name.clone(), node);
    }

    pub(crate) fn apply_ranges(&mut self, ranges: ServiceCidr) {
        self.service_cidrs.insert(ranges.name.clone(), ranges);
    }

    pub(crate) fn delete_node(&mut self, name: &ObjectName) {
        self.nodes.remove(name);
    }

    pub(crate) fn delete_ranges(&mut self, name: &ObjectName) {
        self.service_cidrs.remove(name);
    }

    pub(crate) fn node_names(&self) -> impl Iterator<Item = &ObjectName> {
        self.nodes.keys()
    }

    pub(crate) fn ranges_names(&self) -> impl Iterator<Item = &ObjectName> {
        self.service_cidrs.keys()
    }
}

impl fmt::Display for NodeFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        match &*addresses {
            [] => f.write_str(", no known address")?,
            _ => write!(f, ", {}", addresses.join(", "))?,
        }
        match &self.zone {
            Some(zone) => write!(f, ", zone {zone}")?,
            None => f.write_str(", in no zone")?,
        }
        if !self.found {
            f.write_str("; there is no Node object of this name")?;
        }
        if let Some(leaving) = self.leaving {
            write!(f, "; leaving: {}", leaving.reason())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(yaml: &str) -> Settings {
        serde_saphyr::from_str(yaml).expect("valid settings")
    }

    fn cluster(node: &str, ranges: &[&str]) -> Cluster {
        let mut cluster = Cluster::default();
        let node = serde_saphyr::from_str(node).expect("readable");
        cluster.apply_node(Node::parse(&node).expect("named").object);
        for (i, ranges) in ranges.iter().enumerate() {
            let object = format!("{{metadata: {{name: r{i}}}, spec: {{cidrs: [{ranges}]}}}}");
            let object = serde_saphyr::from_str(&object).expect("readable");
            cluster.apply_ranges(ServiceCidr::parse(&object).expect("named").object);
        }
        cluster
    }

    const NODE: &str = "{metadata: {name: n1, labels: {topology.kubernetes.io/zone: z1, a: node}},
        status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}";

    #[test]
    fn the_node_object_completes_the_configuration() {
        let cluster = cluster(NODE, &[]);
        let alone = cluster.settings(&settings("{nodeName: n1}"));
        assert_eq!(
            alone,
            settings(
                "{nodeName: n1, nodeIPs: [192.0.2.1], nodeLabels: {topology.kubernetes.io/zone: z1, a: node}}",
            )
        );
        let both = "{nodeName: n1, nodeIPs: [192.0.2.9], nodeLabels: {a: file, b: file}}";
        let both = cluster.settings(&settings(both));
        assert_eq!(
            both,
            settings(
                "{nodeName: n1, nodeIPs: [192.0.2.9], nodeLabels: {topology.kubernetes.io/zone: z1, a: node, b: file}}",
            )
        );
        for other in ["{nodeName: n2, nodeLabels: {a: file}}", "{role: node}"] {
            assert_eq!(cluster.settings(&settings(other)), settings(other), "not this node");
        }
    }

    #[test]
    fn rej_10_ranges_of_configuration_and_cluster_add_up() {
        let configured = settings("{serviceCIDRs: [10.96.0.0/16, 10.98.0.0/16]}");
        let cluster = cluster(NODE, &["10.97.0.0/24, 'fd00::/112'", "10.96.0.0/16"]);
        let ranges = cluster.settings(&configured).service_cidrs;
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        assert_eq!(ranges, ["10.96.0.0/16", "10.98.0.0/16", "10.97.0.0/24", "fd00::/112"]);
    }
}

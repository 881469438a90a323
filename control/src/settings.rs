//! The `services:` section of the configuration: what this gateway is, and which options decide verdicts.
//!
//! Names are kube-proxy's where it has one. [`Settings`] is the checked form: whoever holds one need not check again. What
//! is written here is completed by what the cluster says of itself ([`crate::cluster`]).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::flow::Address;
use dataplane::tables::Node;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use crate::object::address;

/// The Node label that names a node's zone (TOP-1).
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Stands for the node's own IPs in `nodePortAddresses` (NPT-8).
const PRIMARY: &str = "primary";

/// What the gateway is to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A node of the cluster: exactly kube-proxy's semantics.
    Node,
    /// A gateway without pods: external policy Local means "keep the client's address", not "only here".
    Edge,
}

/// Checked settings. Deserializes from the `services:` section; unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Section", into = "Section")]
pub struct Settings {
    /// See [`Role`]. Node if a node name is given, else edge.
    pub role: Role,
    /// Endpoints on the node of this name are local (EPS-6); without a name nothing is.
    pub node_name: Option<Arc<str>>,
    /// The node's addresses, the first of a family being its primary one.
    pub node_ips: Vec<IpAddr>,
    /// Labels of the node.
    pub node_labels: BTreeMap<String, String>,
    /// Pod ranges; none of a family means that nobody is a pod there (VER-4).
    pub cluster_cidrs: Vec<IpNet>,
    /// Ranges cluster IPs are allocated from (REJ-10).
    pub service_cidrs: Vec<IpNet>,
    /// Masquerade everything that goes to cluster IPs (MSQ-1).
    pub masquerade_all: bool,
    /// Which node addresses serve node ports.
    pub node_port_addresses: NodePortAddresses,
    /// Whether unknown ports of cluster IPs are refused (REJ-10).
    pub reject_unknown_cluster_ip_ports: bool,
    /// `spec.externalIPs` that are served; empty serves all. Whoever may write a Service can name any address (XIP-4).
    pub allowed_external_ips: Vec<IpNet>,
    /// Load-balancer addresses that are served; empty serves all.
    pub allowed_load_balancer_ips: Vec<IpNet>,
}

/// The node addresses that serve node ports (NPT-2, NPT-8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// Nothing is said (NPT-4): the primary address of a family that `nodeIPs` names, else every address of it.
    #[default]
    Unset,
    /// The first of `nodeIPs` in each family, and none of a family without.
    Primary,
    /// Addresses inside one of these; a family without any serves all of its addresses.
    Within(Vec<IpNet>),
}

/// Why a section can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("services.{field}: {problem}")]
pub struct SettingsError {
    field: String,
    problem: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            role: Role::Edge,
            node_name: None,
            node_ips: Vec::new(),
            node_labels: BTreeMap::new(),
            cluster_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            masquerade_all: false,
            node_port_addresses: NodePortAddresses::Unset,
            reject_unknown_cluster_ip_ports: true,
            allowed_external_ips: Vec::new(),
            allowed_load_balancer_ips: Vec::new(),
        }
    }
}

impl Settings {
    /// The node's zone, if its labels name one (TOP-4: an empty one is none).
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.node_labels.get(ZONE_LABEL).map(String::as_str).filter(|zone| !zone.is_empty())
    }

    /// The node's primary address of a family.
    #[must_use]
    pub fn primary(&self, v4: bool) -> Option<IpAddr> {
        self.node_ips.iter().copied().find(|ip| ip.is_ipv4() == v4)
    }

    /// Whether Services compile to the same rows with these as with others: most of a Node's labels may change without
    /// touching any.
    #[must_use]
    pub fn compile_like(&self, other: &Self) -> bool {
        let of_rows = |settings: &Self| {
            let mut settings = settings.clone();
            settings.node_labels.retain(|name, _| name == ZONE_LABEL);
            settings
        };
        of_rows(self) == of_rows(other)
    }

    /// The facts workers need: those of the host, whose interfaces have `host.addresses`, and those of these settings.
    #[must_use]
    pub fn node(&self, host: Node) -> Node {
        let addresses = host.addresses.iter().map(Address::ip);
        let all: Vec<IpAddr> = addresses.chain(self.node_ips.iter().copied()).collect();
        let serving = all.iter().copied().filter(|&address| self.serves_node_ports(address));
        Node {
            node_port_addresses: serving.collect(),
            addresses: all.into_iter().collect(),
            cluster_cidrs: self.cluster_cidrs.iter().copied().collect(),
            service_cidrs: self.service_cidrs.iter().copied().collect(),
            masquerade_all: self.masquerade_all,
            reject_unknown_cluster_ip_ports: self.reject_unknown_cluster_ip_ports,
            reject_unknown_external_ports: self.role == Role::Edge,
            ..host
        }
    }

    /// NPT-2, NPT-3, NPT-4: loopback never serves node ports, whatever is listed.
    fn serves_node_ports(&self, address: IpAddr) -> bool {
        if address.is_loopback() {
            return false;
        }
        match &self.node_port_addresses {
            NodePortAddresses::Unset => {
                self.primary(address.is_ipv4()).is_none_or(|primary| primary == address)
            }
            NodePortAddresses::Primary => self.primary(address.is_ipv4()) == Some(address),
            NodePortAddresses::Within(nets) => {
                let mut family =
                    nets.iter().filter(|net| net.addr().is_ipv4() == address.is_ipv4()).peekable();
                family.peek().is_none() || family.any(|net| net.contains(&address))
            }
        }
    }
}

/// The section as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Section {
    role: Option<Role>,
    #[serde(deserialize_with = "or_empty")]
    node_name: String,
    #[serde(rename = "nodeIPs", deserialize_with = "or_empty")]
    node_ips: Vec<String>,
    #[serde(deserialize_with = "or_empty")]
    node_labels: BTreeMap<String, String>,
    #[serde(rename = "clusterCIDR", deserialize_with = "or_empty")]
    cluster_cidr: String,
    #[serde(rename = "serviceCIDRs", deserialize_with = "or_empty")]
    service_cidrs: Vec<String>,
    masquerade_all: bool,
    #[serde(deserialize_with = "or_empty")]
    node_port_addresses: Vec<String>,
    #[serde(rename = "rejectUnknownClusterIPPorts")]
    reject_unknown_cluster_ip_ports: bool,
    #[serde(rename = "allowedExternalIPs")]
    allowed_external_ips: Vec<String>,
    #[serde(rename = "allowedLoadBalancerIPs")]
    allowed_load_balancer_ips: Vec<String>,
}

/// A key without a value, as in kube-proxy's configuration, where `nodePortAddresses: null` is usual.
fn or_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Default for Section {
    fn default() -> Self {
        Settings { role: Role::Node, ..Settings::default() }.into_section(None)
    }
}

impl TryFrom<Section> for Settings {
    type Error = SettingsError;

    fn try_from(section: Section) -> Result<Self, SettingsError> {
        let node_name = expanded(section.node_name.trim(), |name| std::env::var(name).ok())?;
        let node_name = Some(node_name).filter(|name| !name.is_empty()).map(Arc::from);
        let default_role = if node_name.is_some() { Role::Node } else { Role::Edge };
        let cluster_cidrs =
            section.cluster_cidr.split(',').map(str::trim).filter(|cidr| !cidr.is_empty());
        Ok(Self {
            role: section.role.unwrap_or(default_role),
            node_name,
            node_ips: each(
                "nodeIPs",
                section.node_ips.iter().map(String::as_str),
                address::parse_ip,
            )?,
            node_labels: section.node_labels,
            cluster_cidrs: each("clusterCIDR", cluster_cidrs, address::parse_net)?,
            service_cidrs: nets("serviceCIDRs", &section.service_cidrs)?,
            masquerade_all: section.masquerade_all,
            node_port_addresses: node_port_addresses(&section.node_port_addresses)?,
            reject_unknown_cluster_ip_ports: section.reject_unknown_cluster_ip_ports,
            allowed_external_ips: nets("allowedExternalIPs", &section.allowed_external_ips)?,
            allowed_load_balancer_ips: nets(
                "allowedLoadBalancerIPs",
                &section.allowed_load_balancer_ips,
            )?,
        })
    }
}

/// A node's name as it is written: `$(NAME)` stands for a variable of the environment, as in the fields of a Pod. So
/// gateways of many nodes share one file.
fn expanded(
    text: &str,
    variable: impl FnOnce(&str) -> Option<String>,
) -> Result<String, SettingsError> {
    let Some(name) = text.strip_prefix("$(").and_then(|rest| rest.strip_suffix(')')) else {
        return Ok(text.to_owned());
    };
    let value = variable(name).map(|value| value.trim().to_owned());
    value.filter(|value| !value.is_empty()).ok_or_else(|| SettingsError {
        field: "nodeName".into(),
        problem: format!("there is no {name} in the environment: set it, or write the name"),
    })
}

fn each<'a, T>(
    field: &str,
    texts: impl Iterator<Item = &'a str>,
    parse: fn(&str) -> Result<T, address::AddressError>,
) -> Result<Vec<T>, SettingsError> {
    let problem =
        |i: usize, problem: String| SettingsError { field: format!("{field}[{i}]"), problem };
    texts.enumerate().map(|(i, text)| parse(text).map_err(|e| problem(i, e.to_string()))).collect()
}

fn nets(field: &str, texts: &[String]) -> Result<Vec<IpNet>, SettingsError> {
    each(field, texts.iter().map(String::as_str), address::parse_net)
}

fn node_port_addresses(texts: &[String]) -> Result<NodePortAddresses, SettingsError> {
    match texts {
        [] => Ok(NodePortAddresses::Unset),
        [only] if only == PRIMARY => Ok(NodePortAddresses::Primary),
        _ if texts.iter().any(|text| text == PRIMARY) => Err(SettingsError {
            field: "nodePortAddresses".into(),
            problem: "\"primary\" stands alone: list either it or address ranges".into(),
        }),
        _ => nets("nodePortAddresses", texts).map(NodePortAddresses::Within),
    }
}

impl Settings {
    fn into_section(self, role: Option<Role>) -> Section {
        let texts = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
        Section {
            role,
            node_name: self.node_name.as_deref().unwrap_or_default().into(),
            node_ips: self.node_ips.iter().map(ToString::to_string).collect(),
            node_labels: self.node_labels,
            cluster_cidr: texts(&self.cluster_cidrs).join(","),
            service_cidrs: texts(&self.service_cidrs),
            masquerade_all: self.masquerade_all,
            node_port_addresses: match &self.node_port_addresses {
                NodePortAddresses::Unset => Vec::new(),
                NodePortAddresses::Primary => vec![PRIMARY.into()],
                NodePortAddresses::Within(nets) => texts(nets),
            },
            reject_unknown_cluster_ip_ports: self.reject_unknown_cluster_ip_ports,
            allowed_external_ips: texts(&self.allowed_external_ips),
            allowed_load_balancer_ips: texts(&self.allowed_load_balancer_ips),
        }
    }
}

impl From<Settings> for Section {
    fn from(settings: Settings) -> Self {
        let role = Some(settings.role);
        settings.into_section(role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<Settings, String> {
        serde_saphyr::from_str(yaml).map_err(|e| e.to_string())
    }

    #[test]
    fn a_full_section_reads_and_writes_back() {
        let settings = parse(
            "{nodeName: n1, nodeIPs: [192.0.2.1, 'fd00::1'], nodeLabels: {topology.kubernetes.io/zone: a},
              clusterCIDR: '10.0.0.0/8, fd00:1::/64', serviceCIDRs: [172.30.0.0/16], masqueradeAll: true,
              nodePortAddresses: [192.0.2.0/24], rejectUnknownClusterIPPorts: false,
              allowedExternalIPs: [198.51.100.0/24], allowedLoadBalancerIPs: ['2001:db8::/64']}",
        )
        .expect("valid");
        assert_eq!(settings.role, Role::Node);
        assert_eq!(settings.zone(), Some("a"));
        assert_eq!(settings.cluster_cidrs.len(), 2);
        let text = serde_saphyr::to_string(&settings).expect("plain data");
        assert_eq!(parse(&text), Ok(settings));
    }

    #[test]
    fn without_a_node_name_the_role_is_edge() {
        assert_eq!(parse("{}").expect("valid"), Settings::default());
        assert_eq!(parse("{role: node}").expect("valid").role, Role::Node);
        assert_eq!(parse("{role: edge, nodeName: n1}").expect("valid").role, Role::Edge);
    }

    #[test]
    fn errors_name_the_field_and_what_to_change() {
        for (yaml, expected) in [
            (
                "{nodeIPs: [10.0.0.1/24]}",
                "services.nodeIPs[0]: \"10.0.0.1/24\" is not an IP address",
            ),
            (
                "{clusterCIDR: 10.0.0.0}",
                "services.clusterCIDR[0]: \"10.0.0.0\" is not an address range",
            ),
            (
                "{nodePortAddresses: [primary, 10.0.0.0/8]}",
                "services.nodePortAddresses: \"primary\" stands alone",
            ),
            ("{role: egde}", "egde"),
            ("{clusterCidr: 10.0.0.0/8}", "clusterCidr"),
        ] {
            let error = parse(yaml).expect_err("invalid");
            assert!(error.contains(expected), "{yaml}: {error}");
        }
    }

    #[test]
    fn the_nodes_name_may_come_from_the_environment() {
        let environment = |name: &str| match name {
            "NODE_NAME" => Some("edge-1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("n1", Ok("n1")),
            ("", Ok("")),
            ("$(NODE_NAME)", Ok("edge-1")),
            ("$(EMPTY)", Err("there is no EMPTY in the environment")),
            ("$(OTHER)", Err("there is no OTHER in the environment")),
            ("a-$(NODE_NAME)", Ok("a-$(NODE_NAME)")),
        ] {
            let name = expanded(text, environment).map_err(|error| error.to_string());
            match expected {
                Ok(expected) => assert_eq!(name.as_deref(), Ok(expected), "{text}"),
                Err(expected) => assert!(name.expect_err("unset").contains(expected), "{text}"),
            }
        }
        assert!(parse("{nodeName: $(VIPGATE_TEST_NO_SUCH_VARIABLE)}").is_err());
    }

    #[test]
    fn node_ports_are_served_on_selected_addresses() {
        let addresses = ["127.0.0.1", "192.0.2.1", "198.51.100.1", "::1", "2001:db8::1"];
        let addresses = addresses.map(|ip| ip.parse().expect("valid"));
        for (option, expected) in [
            // NPT-4: match-all is everything but loopback; unset is the primary address where one is known.
            ("[0.0.0.0/0, '::/0']", vec!["192.0.2.1", "198.51.100.1", "2001:db8::1"]),
            ("[]", vec!["192.0.2.1", "2001:db8::1"]),
            // NPT-2: a family without ranges serves all, a zero range means all.
            ("[192.0.2.0/24]", vec!["192.0.2.1", "2001:db8::1"]),
            ("['0.0.0.0/0', '2001:db8::/32']", vec!["192.0.2.1", "198.51.100.1", "2001:db8::1"]),
            ("[127.0.0.0/8, 192.0.2.1/32, 'fd00::/8']", vec!["192.0.2.1"]),
            // NPT-8
            ("[primary]", vec!["192.0.2.1"]),
        ] {
            let yaml = format!("{{nodeIPs: [192.0.2.1], nodePortAddresses: {option}}}");
            let host = Node { addresses: addresses.into_iter().collect(), ..Node::default() };
            let node = parse(&yaml).expect("valid").node(host);
            let expected = expected.into_iter().map(|ip| ip.parse().expect("valid")).collect();
            assert_eq!(node.node_port_addresses, expected, "{option}");
            assert_eq!(node.addresses, addresses.into_iter().collect());
        }
    }
}

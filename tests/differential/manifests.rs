//! The cluster as YAML, and the section `services` of the configuration: what vipgate reads.

use std::fmt::Write;

use crate::cluster::{
    Cluster, Endpoint, HERE, Kind, NODE, POD_RANGES, SERVICE_RANGES, Service, Slice, ZONE,
};

/// Joined with commas.
fn list<T>(items: impl IntoIterator<Item = T>, text: impl Fn(T) -> String) -> String {
    items.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

fn quoted(text: impl ToString) -> String {
    format!("'{}'", text.to_string())
}

pub(crate) fn settings(cluster: &Cluster) -> String {
    let mut text = format!(
        "{{nodeName: {HERE}, nodeLabels: {{topology.kubernetes.io/zone: {ZONE}}}, nodeIPs: [{}], serviceCIDRs: [{}], masqueradeAll: {}",
        list(NODE.as_flattened(), quoted),
        list(SERVICE_RANGES, quoted),
        cluster.masquerade_all,
    );
    if cluster.detector {
        let _ = write!(text, ", clusterCIDR: '{}'", POD_RANGES.join(","));
    }
    if !cluster.node_port_addresses.is_empty() {
        let _ =
            write!(text, ", nodePortAddresses: [{}]", list(cluster.node_port_addresses, quoted));
    }
    text + "}"
}

pub(crate) fn manifests(cluster: &Cluster) -> String {
    cluster.services.iter().map(objects).collect()
}

fn objects(service: &Service) -> String {
    let kind = match service.kind {
        Kind::ClusterIp | Kind::Headless | Kind::OtherProxy => "ClusterIP",
        Kind::NodePort => "NodePort",
        Kind::LoadBalancer => "LoadBalancer",
        Kind::ExternalName => "ExternalName",
    };
    let labels = match service.kind {
        Kind::OtherProxy => "service.kubernetes.io/service-proxy-name: other",
        _ => "",
    };
    let ips: Vec<String> = match service.kind {
        Kind::Headless => vec!["None".into()],
        _ => service.cluster_ips.iter().map(ToString::to_string).collect(),
    };
    let families =
        list(&service.cluster_ips, |ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" }.into());
    let policy = |local: bool| if local { "Local" } else { "Cluster" };
    let ports = list(&service.ports, |port| {
        let node_port = port.node_port.map_or_else(String::new, |n| format!(", nodePort: {n}"));
        format!(
            "{{name: {}, port: {}, protocol: {}{node_port}}}",
            port.name,
            port.number,
            port.protocol.name().to_uppercase()
        )
    });
    let ingress = list(&service.balancers, |balancer| {
        let mode = if balancer.proxy { ", ipMode: Proxy" } else { "" };
        format!("{{ip: '{}'{mode}}}", balancer.ip)
    });
    let affinity = if service.affinity { "ClientIP" } else { "None" };
    let mut text = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {}, labels: {{{labels}}}}}
spec:
  type: {kind}
  clusterIP: {}
  clusterIPs: [{}]
  ipFamilies: [{families}]
  externalName: a.example
  externalIPs: [{}]
  loadBalancerSourceRanges: [{}]
  internalTrafficPolicy: {}
  externalTrafficPolicy: {}
  sessionAffinity: {affinity}
  ports: [{ports}]
status: {{loadBalancer: {{ingress: [{ingress}]}}}}
---
",
        service.name,
        quoted(&ips[0]),
        list(&ips, quoted),
        list(&service.external_ips, quoted),
        list(&service.ranges, |range| quoted(range.written)),
        policy(service.internal_local),
        policy(service.external_local),
    );
    for (number, slice) in service.slices.iter().enumerate() {
        text += &self::slice(service, number, slice);
    }
    text
}

fn slice(service: &Service, number: usize, slice: &Slice) -> String {
    let named = service.ports.iter().zip(&slice.ports);
    let present = named.filter_map(|(port, number)| Some((port, (*number)?)));
    let ports = list(present, |(port, number)| {
        let protocol = port.protocol.name().to_uppercase();
        format!("{{name: {}, port: {number}, protocol: {protocol}}}", port.name)
    });
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-{number}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: {}
ports: [{ports}]
endpoints: [{}]
---
",
        if slice.v4 { "IPv4" } else { "IPv6" },
        list(&slice.endpoints, endpoint),
        name = service.name,
    )
}

fn endpoint(endpoint: &Endpoint) -> String {
    let conditions = [
        ("ready", endpoint.ready),
        ("serving", endpoint.serving),
        ("terminating", endpoint.terminating),
    ];
    let conditions = conditions.iter().filter_map(|(name, value)| Some((name, (*value)?)));
    let conditions = list(conditions, |(name, value)| format!("{name}: {value}"));
    let node = endpoint.node.map_or_else(String::new, |node| format!("nodeName: {node}, "));
    let names = |names: &[&str]| list(names, |name| format!("{{name: {name}}}"));
    format!(
        "{{addresses: ['{}'], {node}conditions: {{{conditions}}}, hints: {{forZones: [{}], forNodes: [{}]}}}}",
        endpoint.address,
        names(&endpoint.zones),
        names(&endpoint.nodes),
    )
}

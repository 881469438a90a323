//! Service: addresses, ports and policies.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dataplane::flow::Protocol;
use ipnet::IpNet;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::jiff::Timestamp;

use super::problem::Report;
use super::{Kind, ObjectName, Parsed, Problem, Reason, address, named};

/// Anyone may put it on a Service to say that another proxy serves it (EXC-1).
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// On a Service or slice that has no use for a proxy (EXC-3).
pub(super) const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// The API's default (AFF-1).
const DEFAULT_AFFINITY: Duration = Duration::from_secs(10_800);

/// A Service as the gateway sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: ObjectName,
    /// Its identity in the API, which tells it from a later one of the same name; none in manifests.
    pub uid: Option<Arc<str>>,
    /// When it was created; unknown in manifests. Decides who owns a contested address (OBJ-14).
    pub created: Option<Timestamp>,
    /// Where clients find it.
    pub kind: ServiceKind,
    /// Its ports.
    pub ports: Vec<Port>,
    /// `spec.externalIPs` (XIP-1).
    pub external_ips: Vec<IpAddr>,
    /// Load-balancer addresses the gateway captures (LBR-1, LBR-2).
    pub vips: Vec<IpAddr>,
    /// Clients allowed at `vips`.
    pub source_ranges: Vec<IpNet>,
    /// internalTrafficPolicy is Local.
    pub internal_local: bool,
    /// externalTrafficPolicy is Local.
    pub external_local: bool,
    /// ClientIP affinity and its timeout (AFF-1).
    pub affinity: Option<Duration>,
    /// Where a load balancer asks for local endpoints: only of type LoadBalancer with external policy Local (HCK-1).
    pub health_check_node_port: Option<u16>,
    /// Pods it selects; empty means that somebody else writes its endpoints.
    pub selector: BTreeMap<String, String>,
    /// Endpoints count as ready whatever their pods say (EPS-13).
    pub publish_not_ready: bool,
    /// Another proxy serves it (EXC-1).
    pub other_proxy: bool,
    /// Carries the headless label: it gets no endpoints (EXC-3).
    pub headless_label: bool,
}

/// How a Service is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// By these cluster IPs, at most one of a family (OBJ-5).
    Addressed(Vec<IpAddr>),
    /// By name only: DNS answers with the endpoints (EXC-4).
    Headless,
    /// By name only: DNS answers with this name (EXC-5).
    External(String),
    /// Not at all: no cluster IP was given yet (OBJ-3).
    Unassigned,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name; empty if it is the only one.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port number at cluster IP, external IPs and load-balancer addresses.
    pub number: u16,
    /// Port number at node addresses.
    pub node_port: Option<u16>,
}

/// Why a Service has no rows of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// clusterIP is None.
    Headless,
    /// type is ExternalName.
    ExternalName,
    /// No cluster IP yet.
    Unassigned,
    /// Labelled for another proxy.
    OtherProxy,
}

impl Service {
    /// Whether, and why, the Service has no place in the tables (OBJ-3, EXC-1).
    #[must_use]
    pub fn skip(&self) -> Option<Skip> {
        match &self.kind {
            _ if self.other_proxy => Some(Skip::OtherProxy),
            ServiceKind::Headless => Some(Skip::Headless),
            ServiceKind::External(_) => Some(Skip::ExternalName),
            ServiceKind::Unassigned => Some(Skip::Unassigned),
            ServiceKind::Addressed(_) => None,
        }
    }

    /// Whether it is found by its endpoints' names only (EXC-4).
    #[must_use]
    pub fn is_headless(&self) -> bool {
        self.kind == ServiceKind::Headless
    }

    /// The cluster IP of a family.
    #[must_use]
    pub fn cluster_ip(&self, v4: bool) -> Option<IpAddr> {
        let ServiceKind::Addressed(ips) = &self.kind else { return None };
        ips.iter().copied().find(|ip| ip.is_ipv4() == v4)
    }

    /// Reads an object. Only one without a name is an error; anything else that can't be read is left out.
    pub fn parse(service: &api::Service) -> Result<Parsed<Self>, Box<Problem>> {
        let key = named(Kind::Service, &service.metadata)?;
        let mut report = Report::new(key.clone());
        let empty = api::ServiceSpec::default();
        let spec = service.spec.as_ref().unwrap_or(&empty);
        let labels = service.metadata.labels.as_ref();
        let label = |name| labels.is_some_and(|labels| labels.contains_key(name));
        let policy_local = |field: &str, value: Option<&str>, report: &mut Report| match value {
            None | Some("" | "Cluster") => false,
            Some("Local") => true,
            Some(other) => {
                report.add(
                    field,
                    Reason::Value { value: other.into(), expected: "Cluster or Local" },
                );
                false
            }
        };
        let internal = spec.internal_traffic_policy.as_deref();
        let external = spec.external_traffic_policy.as_deref();
        let balanced = spec.type_.as_deref() == Some("LoadBalancer") && external == Some("Local");
        let mut parsed = Self {
            name: key.name,
            uid: service.metadata.uid.as_deref().map(Arc::from),
            created: service.metadata.creation_timestamp.as_ref().map(|time| time.0),
            kind: kind(spec, &mut report),
            ports: ports(spec, &mut report),
            external_ips: addresses("spec.externalIPs", spec.external_ips.as_deref(), &mut report),
            vips: vips(service.status.as_ref(), &mut report),
            source_ranges: Vec::new(),
            internal_local: policy_local("spec.internalTrafficPolicy", internal, &mut report),
            external_local: policy_local("spec.externalTrafficPolicy", external, &mut report),
            affinity: affinity(spec, &mut report),
            health_check_node_port: spec
                .health_check_node_port
                .filter(|port| balanced && *port != 0)
                .and_then(|port| {
                    super::port(port, || "spec.healthCheckNodePort".into(), &mut report)
                }),
            selector: spec.selector.clone().unwrap_or_default(),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            other_proxy: label(PROXY_NAME_LABEL),
            headless_label: label(HEADLESS_LABEL),
        };
        match source_ranges(spec, &mut report) {
            Some(ranges) => parsed.source_ranges = ranges,
            // A filter with a hole would let in whom the author wanted out: rather serve no balancer address.
            None => parsed.vips.clear(),
        }
        Ok(Parsed { object: parsed, problems: report.into_problems() })
    }
}

fn kind(spec: &api::ServiceSpec, report: &mut Report) -> ServiceKind {
    let known = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
    match spec.type_.as_deref() {
        Some("ExternalName") => {
            // A stale cluster IP may still be stored (OBJ-3).
            return ServiceKind::External(spec.external_name.clone().unwrap_or_default());
        }
        Some(other) if !other.is_empty() && !known.contains(&other) => {
            let expected = "ClusterIP, NodePort, LoadBalancer or ExternalName";
            report.add("spec.type", Reason::Value { value: other.into(), expected });
        }
        _ => {}
    }
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let first = spec.cluster_ips.as_deref().unwrap_or_default().first().map(String::as_str);
    match (ip, first) {
        ("None", _) | ("", Some("None")) => return ServiceKind::Headless,
        ("", None | Some("")) => return ServiceKind::Unassigned,
        _ => {}
    }
    match cluster_ips(spec, report) {
        ips if ips.is_empty() => ServiceKind::Unassigned,
        ips => ServiceKind::Addressed(ips),
    }
}

/// OBJ-5: clusterIPs in step with ipFamilies; without families, the one clusterIP.
fn cluster_ips(spec: &api::ServiceSpec, report: &mut Report) -> Vec<IpAddr> {
    let single = spec.cluster_ip.iter().filter(|ip| !ip.is_empty());
    let plural = spec.cluster_ips.iter().flatten();
    let families = spec.ip_families.as_deref().unwrap_or_default();
    let (field, texts): (&str, Vec<&String>) = match spec.cluster_ips.as_deref() {
        Some([_, ..]) if !families.is_empty() || spec.cluster_ip.is_none() => {
            ("spec.clusterIPs", plural.collect())
        }
        _ => ("spec.clusterIP", single.collect()),
    };
    let mut ips: Vec<IpAddr> = Vec::new();
    for (i, text) in texts.into_iter().enumerate() {
        let path = || if field.ends_with('s') { format!("{field}[{i}]") } else { field.into() };
        let Some(ip) = report.ok(path, address::parse_ip(text)) else { continue };
        let family = families.get(i).map(|family| family == "IPv4");
        if family.is_none_or(|v4| v4 == ip.is_ipv4())
            && ips.iter().all(|other| other.is_ipv4() != ip.is_ipv4())
        {
            ips.push(ip);
        } else {
            let why = format!(
                "{ip} does not fit spec.ipFamilies: list one cluster IP for each family, in its order"
            );
            report.add(path(), Reason::Address(why));
        }
    }
    ips
}

fn ports(spec: &api::ServiceSpec, report: &mut Report) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    let typed = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    for (i, port) in spec.ports.iter().flatten().enumerate() {
        let path = |field: &str| format!("spec.ports[{i}]{field}");
        let number = super::port(port.port, || path(".port"), report);
        let protocol = super::protocol(port.protocol.as_deref(), || path(".protocol"), report);
        let (Some(number), Some(protocol)) = (number, protocol) else { continue };
        let name = port.name.clone().unwrap_or_default();
        if ports.iter().any(|other| {
            other.protocol == protocol && (other.name == name || other.number == number)
        }) {
            let why = "another port of this Service has the same name or number: names and numbers must differ";
            report.add(path(""), Reason::Duplicate(why.into()));
            continue;
        }
        let node_port = port.node_port.filter(|number| *number != 0);
        // Upstream serves it whatever the type; only the API server looks at that.
        if !typed && node_port.is_some() {
            let why = "it is served as written, but an API server refuses it: set spec.type to NodePort or LoadBalancer";
            report.add(path(".nodePort"), Reason::Note(why.into()));
        }
        let mut node_port = node_port.and_then(|n| super::port(n, || path(".nodePort"), report));
        if node_port.is_some()
            && ports.iter().any(|p| p.protocol == protocol && p.node_port == node_port)
        {
            let why = "another port of this Service has the same node port: use another number";
            report.add(path(".nodePort"), Reason::Duplicate(why.into()));
            node_port = None;
        }
        ports.push(Port { name, protocol, number, node_port });
    }
    ports
}

fn addresses(field: &str, texts: Option<&[String]>, report: &mut Report) -> Vec<IpAddr> {
    let texts = texts.unwrap_or_default().iter().enumerate();
    texts
        .filter_map(|(i, text)| report.ok(|| format!("{field}[{i}]"), address::parse_ip(text)))
        .collect()
}

/// LBR-1, LBR-2: addresses in VIP mode. A balancer in Proxy mode connects to node ports by itself.
fn vips(status: Option<&api::ServiceStatus>, report: &mut Report) -> Vec<IpAddr> {
    let ingress = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let mut vips = Vec::new();
    for (i, ingress) in ingress.into_iter().flatten().enumerate() {
        let Some(ip) = ingress.ip.as_deref().filter(|ip| !ip.is_empty()) else { continue };
        match ingress.ip_mode.as_deref() {
            None | Some("VIP") => {
                let path = || format!("status.loadBalancer.ingress[{i}].ip");
                vips.extend(report.ok(path, address::parse_ip(ip)));
            }
            Some("Proxy") => {}
            Some(other) => {
                let reason = Reason::Value { value: other.into(), expected: "VIP or Proxy" };
                report.add(format!("status.loadBalancer.ingress[{i}].ipMode"), reason);
            }
        }
    }
    vips
}

/// `None` if any range can't be read.
fn source_ranges(spec: &api::ServiceSpec, report: &mut Report) -> Option<Vec<IpNet>> {
    let texts = spec.load_balancer_source_ranges.iter().flatten().enumerate();
    let parsed: Vec<Option<IpNet>> = texts
        .map(|(i, text)| {
            report.ok(|| format!("spec.loadBalancerSourceRanges[{i}]"), address::parse_net(text))
        })
        .collect();
    parsed.into_iter().collect()
}

fn affinity(spec: &api::ServiceSpec, report: &mut Report) -> Option<Duration> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => return None,
        Some("ClientIP") => {}
        Some(other) => {
            let reason = Reason::Value { value: other.into(), expected: "None or ClientIP" };
            report.add("spec.sessionAffinity", reason);
            return None;
        }
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    // AFF-10: upstream trusts the API server to fill this in; we need not.
    let timeout = seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| (1..=86_400).contains(s));
    if let (Some(seconds), None) = (seconds, timeout) {
        let reason = Reason::Value { value: seconds.to_string(), expected: "1 to 86400 seconds" };
        report.add("spec.sessionAffinityConfig.clientIP.timeoutSeconds", reason);
    }
    Some(timeout.map_or(DEFAULT_AFFINITY, Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Parsed<Service> {
        let service: api::Service = serde_saphyr::from_str(yaml).expect("readable");
        Service::parse(&service).expect("named")
    }

    fn spec(spec: &str) -> Parsed<Service> {
        parse(&format!("{{metadata: {{namespace: demo, name: web}}, spec: {spec}}}"))
    }

    #[test]
    fn obj_3_services_without_cluster_ip_are_skipped() {
        for (yaml, expected) in [
            ("{clusterIP: None}", Some(Skip::Headless)),
            ("{clusterIPs: [None]}", Some(Skip::Headless)),
            ("{clusterIP: ''}", Some(Skip::Unassigned)),
            ("{}", Some(Skip::Unassigned)),
            (
                "{type: ExternalName, externalName: a.example, clusterIP: 10.0.0.1}",
                Some(Skip::ExternalName),
            ),
            ("{clusterIP: 10.0.0.1}", None),
        ] {
            assert_eq!(spec(yaml).object.skip(), expected, "{yaml}");
        }
    }

    #[test]
    fn exc_1_a_proxy_name_of_any_value_means_hands_off() {
        let yaml = "{metadata: {name: a, labels: {service.kubernetes.io/service-proxy-name: ''}}, spec: {clusterIP: 10.0.0.1}}";
        assert_eq!(parse(yaml).object.skip(), Some(Skip::OtherProxy));
    }

    #[test]
    fn obj_5_cluster_ips_go_with_families() {
        for (yaml, v4, v6) in [
            ("{clusterIP: 10.0.0.1}", Some("10.0.0.1"), None),
            (
                "{clusterIP: 'fd00::1', clusterIPs: ['fd00::1', 10.0.0.1], ipFamilies: [IPv6, IPv4]}",
                Some("10.0.0.1"),
                Some("fd00::1"),
            ),
            (
                "{clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], ipFamilies: [IPv4]}",
                Some("10.0.0.1"),
                None,
            ),
            ("{clusterIP: 10.0.0.1, ipFamilies: [IPv4]}", Some("10.0.0.1"), None),
            ("{clusterIP: 172.30.0.041}", Some("172.30.0.41"), None),
        ] {
            let Parsed { object, problems } = spec(yaml);
            assert_eq!(problems, [], "{yaml}");
            assert_eq!(object.cluster_ip(true).map(|ip| ip.to_string()).as_deref(), v4, "{yaml}");
            assert_eq!(object.cluster_ip(false).map(|ip| ip.to_string()).as_deref(), v6, "{yaml}");
        }
    }

    #[test]
    fn lbr_2_only_vip_mode_is_captured() {
        let Parsed { object, problems } = parse(
            "{metadata: {name: lb}, spec: {clusterIP: 10.0.0.1}, status: {loadBalancer: {ingress: [
               {ip: 203.0.113.1}, {ip: 203.0.113.2, ipMode: VIP}, {ip: 203.0.113.3, ipMode: Proxy},
               {hostname: lb.example}, {ip: ''}]}}}",
        );
        assert_eq!(problems, []);
        assert_eq!(
            object.vips.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["203.0.113.1", "203.0.113.2"]
        );
        assert_eq!(object.name.as_str(), "default/lb");
    }

    #[test]
    fn aff_10_an_affinity_without_timeout_lasts_three_hours() {
        let seconds = |yaml| spec(yaml).object.affinity.map(|timeout| timeout.as_secs());
        assert_eq!(seconds("{sessionAffinity: None}"), None);
        assert_eq!(seconds("{sessionAffinity: ClientIP}"), Some(10_800));
        assert!(spec("{sessionAffinity: ClientIP, ports: [{port: 80}]}").problems.is_empty());
        let config =
            "{sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 10}}}";
        assert_eq!(seconds(config), Some(10));
    }

    #[test]
    fn a_bad_part_is_named_and_the_rest_goes_on() {
        for (yaml, expected) in [
            (
                "{ports: [{port: 0}, {port: 80}]}",
                "spec.ports[0].port: 0 is not a port number: use 1 to 65535",
            ),
            (
                "{ports: [{port: 70000}, {port: 80}]}",
                "spec.ports[0].port: 70000 is not a port number",
            ),
            (
                "{ports: [{port: 1, protocol: tcp}, {port: 80}]}",
                "spec.ports[0].protocol: \"tcp\" is not known: use TCP",
            ),
            (
                "{ports: [{port: 80}, {port: 80, name: b}]}",
                "spec.ports[1]: another port of this Service",
            ),
            (
                "{ports: [{port: 80, nodePort: 30000}]}",
                "spec.ports[0].nodePort: it is served as written, but an API server refuses it",
            ),
            (
                "{type: NodePort, ports: [{port: 80, nodePort: 30000}, {port: 81, name: b, nodePort: 30000}]}",
                "spec.ports[1].nodePort: another port of this Service",
            ),
            (
                "{ports: [{port: 80}], externalIPs: [x, 192.0.2.1]}",
                "spec.externalIPs[0]: \"x\" is not an IP address",
            ),
            (
                "{ports: [{port: 80}], internalTrafficPolicy: local}",
                "spec.internalTrafficPolicy: \"local\" is not known",
            ),
            ("{ports: [{port: 80}], type: LoadBalance}", "spec.type: \"LoadBalance\" is not known"),
            ("{ports: [{port: 80}], clusterIP: x}", "spec.clusterIP: \"x\" is not an IP address"),
        ] {
            let Parsed { object, problems } = spec(yaml);
            let [problem] = &problems[..] else { panic!("{yaml}: {problems:?}") };
            let expected = format!("Service demo/web: {expected}");
            assert!(problem.to_string().starts_with(&expected), "{problem} is not {expected}");
            assert!(!object.ports.is_empty(), "{yaml}");
        }
    }

    #[test]
    fn lsr_1_a_range_that_cannot_be_read_closes_the_address() {
        let Parsed { object, problems } = parse(
            "{metadata: {name: lb}, spec: {clusterIP: 10.0.0.1, loadBalancerSourceRanges: [10.0.0.0/8, 10.0.0/8]},
              status: {loadBalancer: {ingress: [{ip: 203.0.113.1}]}}}",
        );
        assert_eq!((object.vips.len(), problems.len()), (0, 1));
        assert_eq!(problems[0].field, "spec.loadBalancerSourceRanges[1]");
    }

    #[test]
    fn an_object_without_name_is_an_error() {
        let problem = Service::parse(&api::Service::default()).expect_err("no name");
        assert_eq!(problem.to_string(), "metadata.name: Service has no name: set one");
    }
}

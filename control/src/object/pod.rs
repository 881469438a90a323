//! Pods to slices, as the endpoint slice controller would write them (EPS-13). For manifests: a cluster has its own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::flow::Protocol;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::problem::Report;
use super::slice::{Endpoint, SlicePort, usable};
use super::{Kind, ObjectName, Parsed, Problem, Service, Slice, address, named};

/// A pod that may be an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub name: ObjectName,
    labels: BTreeMap<String, String>,
    addresses: Vec<IpAddr>,
    node: Option<Arc<str>>,
    /// `spec.hostname` and the Service it is for, `spec.subdomain` (DNS-5).
    hostname: Option<(Arc<str>, String)>,
    ready: bool,
    terminating: bool,
    finished: bool,
    /// Named container ports.
    ports: BTreeMap<(String, Protocol), u16>,
}

impl Pod {
    /// Reads an object. Only one without a name is an error; anything else that can't be read is left out.
    pub fn parse(pod: &api::Pod) -> Result<Parsed<Self>, Box<Problem>> {
        let key = named(Kind::Pod, &pod.metadata)?;
        let mut report = Report::new(key.clone());
        let empty = api::PodStatus::default();
        let status = pod.status.as_ref().unwrap_or(&empty);
        let is_ready = |c: &api::PodCondition| c.type_ == "Ready" && c.status == "True";
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let parsed = Self {
            name: key.name,
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            addresses: addresses(status, &mut report),
            node: node.filter(|node| !node.is_empty()).map(Arc::from),
            hostname: hostname(pod),
            ready: status.conditions.iter().flatten().any(is_ready),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            finished: matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")),
            ports: ports(pod, &mut report),
        };
        Ok(Parsed { object: parsed, problems: report.into_problems() })
    }

    /// The number behind a target port; a pod that lacks the named port has none.
    fn resolve(&self, target: Option<&IntOrString>, port: i32, protocol: Protocol) -> Option<u16> {
        match target {
            None | Some(IntOrString::Int(0)) => u16::try_from(port).ok(),
            Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
            // Hand-written manifests quote numbers.
            Some(IntOrString::String(name)) => {
                name.parse().ok().or_else(|| self.ports.get(&(name.clone(), protocol)).copied())
            }
        }
    }

    fn endpoint(&self, address: IpAddr, service: &Service) -> Endpoint {
        let hostname = self.hostname.as_ref();
        Endpoint {
            address,
            ready: service.publish_not_ready || (self.ready && !self.terminating),
            serving: self.ready,
            terminating: self.terminating,
            node: self.node.clone(),
            hostname: hostname
                .filter(|(_, subdomain)| subdomain == service.name.name())
                .map(|(hostname, _)| hostname.clone()),
            zone_hints: Box::default(),
            node_hints: Box::default(),
        }
    }
}

/// The slices of a Service with a selector: one for each family and set of port numbers its pods resolve to (OBJ-7).
#[must_use]
pub fn slices<'a>(
    service: &Service,
    spec: &api::ServiceSpec,
    pods: impl Iterator<Item = &'a Pod>,
) -> Vec<Slice> {
    let selected = |pod: &&Pod| {
        pod.name.namespace() == service.name.namespace()
            && !pod.finished
            && service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
    };
    let targets: Vec<_> =
        spec.ports.iter().flatten().filter_map(|port| Some((port, protocol(port)?))).collect();
    let mut groups: BTreeMap<Numbers, Vec<Endpoint>> = BTreeMap::new();
    for pod in pods.filter(selected) {
        let numbers: Vec<Option<u16>> = targets
            .iter()
            .map(|(port, protocol)| pod.resolve(port.target_port.as_ref(), port.port, *protocol))
            .collect();
        for address in &pod.addresses {
            let group = groups.entry((address.is_ipv4(), numbers.clone())).or_default();
            group.push(pod.endpoint(*address, service));
        }
    }
    let mut slices = Vec::new();
    for (i, ((v4, numbers), endpoints)) in groups.into_iter().enumerate() {
        let ports = targets.iter().zip(numbers).filter_map(|((port, protocol), number)| {
            let name = port.name.clone().unwrap_or_default();
            Some(SlicePort { name, protocol: *protocol, number: number? })
        });
        let ports = ports.collect();
        // No object of the API can have a name with this character.
        let name = format!("{}~pods-{i}", service.name.name());
        let name = ObjectName::new(service.name.namespace(), &name);
        let service = Some(service.name.clone());
        slices.push(Slice {
            name,
            uid: None,
            service,
            headless_label: false,
            v4,
            ports,
            endpoints,
        });
    }
    slices
}

/// What the pods of one slice have in common: family, and their numbers for the Service's ports in order.
type Numbers = (bool, Vec<Option<u16>>);

fn protocol(port: &api::ServicePort) -> Option<Protocol> {
    // A bad one was reported with the Service.
    let mut ignored =
        Report::new(super::ObjectKey { kind: Kind::Service, name: ObjectName::new("", "") });
    super::protocol(port.protocol.as_deref(), String::new, &mut ignored)
}

fn hostname(pod: &api::Pod) -> Option<(Arc<str>, String)> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_deref().filter(|name| !name.is_empty())?;
    Some((hostname.into(), spec.subdomain.clone()?))
}

fn addresses(status: &api::PodStatus, report: &mut Report) -> Vec<IpAddr> {
    let many = status.pod_ips.iter().flatten().enumerate();
    let mut texts: Vec<(String, &str)> =
        many.map(|(i, ip)| (format!("status.podIPs[{i}].ip"), ip.ip.as_str())).collect();
    if texts.is_empty() {
        texts.extend(status.pod_ip.as_deref().map(|ip| ("status.podIP".into(), ip)));
    }
    texts.retain(|(_, text)| !text.is_empty());
    let parse = |text| {
        let ip: IpAddr = address::parse_ip(text).map_err(|e| e.to_string())?;
        usable(ip, ip.is_ipv4())
    };
    texts.into_iter().filter_map(|(field, text)| report.ok(|| field, parse(text))).collect()
}

fn ports(pod: &api::Pod, report: &mut Report) -> BTreeMap<(String, Protocol), u16> {
    let mut ports = BTreeMap::new();
    let Some(spec) = &pod.spec else { return ports };
    // Sidecars are init containers and may serve too.
    let lists =
        [("containers", Some(&spec.containers)), ("initContainers", spec.init_containers.as_ref())];
    for (list, containers) in lists {
        for (i, container) in containers.into_iter().flatten().enumerate() {
            for (j, port) in container.ports.iter().flatten().enumerate() {
                let Some(name) = &port.name else { continue };
                let field = |field: &str| format!("spec.{list}[{i}].ports[{j}].{field}");
                let number = super::port(port.container_port, || field("containerPort"), report);
                let protocol =
                    super::protocol(port.protocol.as_deref(), || field("protocol"), report);
                if let (Some(number), Some(protocol)) = (number, protocol) {
                    ports.entry((name.clone(), protocol)).or_insert(number);
                }
            }
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, labels: &str, spec: &str, status: &str) -> Pod {
        let yaml = format!(
            "{{metadata: {{namespace: demo, name: {name}, labels: {labels}}}, spec: {spec}, status: {status}}}"
        );
        let pod: api::Pod = serde_saphyr::from_str(&yaml).expect("readable");
        let Parsed { object, problems } = Pod::parse(&pod).expect("named");
        assert_eq!(problems, []);
        object
    }

    fn derive(ports: &str, publish_not_ready: bool, pods: &[Pod]) -> Vec<String> {
        let yaml = format!(
            "{{metadata: {{namespace: demo, name: web}}, spec: {{clusterIP: 10.96.0.1, selector: {{app: web}}, publishNotReadyAddresses: {publish_not_ready}, ports: {ports}}}}}"
        );
        let service: api::Service = serde_saphyr::from_str(&yaml).expect("readable");
        let parsed = Service::parse(&service).expect("named").object;
        let slices = slices(&parsed, service.spec.as_ref().expect("given"), pods.iter());
        let text = |slice: &Slice| {
            let ports: Vec<_> =
                slice.ports.iter().map(|p| format!("{}={}", p.name, p.number)).collect();
            let endpoints = slice.endpoints.iter().map(|e| {
                let flags = [(e.ready, 'r'), (e.serving, 's'), (e.terminating, 't')];
                let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, c)| c).collect();
                format!("{}:{flags}@{}", e.address, e.node.as_deref().unwrap_or("-"))
            });
            format!("[{}] {}", ports.join(" "), endpoints.collect::<Vec<_>>().join(" "))
        };
        slices.iter().map(text).collect()
    }

    const READY: &str = "conditions: [{type: Ready, status: 'True'}]";
    const WEB: &str =
        "{containers: [{name: c, ports: [{name: http, containerPort: 8080}]}], nodeName: n1}";
    const OTHER: &str = "{containers: [{name: c, ports: [{name: http, containerPort: 9090}]}]}";

    #[test]
    fn obj_7_named_target_ports_give_a_slice_for_each_number() {
        let pods = [
            pod("a", "{app: web, x: y}", WEB, &format!("{{podIP: 10.0.0.1, {READY}}}")),
            pod("b", "{app: web}", OTHER, &format!("{{podIP: 10.0.0.2, {READY}}}")),
            pod("c", "{app: db}", WEB, &format!("{{podIP: 10.0.0.3, {READY}}}")),
        ];
        assert_eq!(
            derive(
                "[{name: a, port: 80, targetPort: http}, {name: b, port: 81, targetPort: nothing}]",
                false,
                &pods
            ),
            ["[a=8080] 10.0.0.1:rs@n1", "[a=9090] 10.0.0.2:rs@-"]
        );
        assert_eq!(
            derive("[{port: 80, targetPort: 7}]", false, &pods),
            ["[=7] 10.0.0.1:rs@n1 10.0.0.2:rs@-"]
        );
        assert_eq!(derive("[{port: 80}]", false, &pods), ["[=80] 10.0.0.1:rs@n1 10.0.0.2:rs@-"]);
    }

    #[test]
    fn eps_13_conditions_come_from_the_pod() {
        let mut leaving = pod("a", "{app: web}", WEB, &format!("{{podIP: 10.0.0.1, {READY}}}"));
        leaving.terminating = true;
        let starting = pod("b", "{app: web}", WEB, "{podIP: 10.0.0.2, phase: Running}");
        let failed = pod("c", "{app: web}", WEB, "{podIP: 10.0.0.3, phase: Failed}");
        let pending = pod("d", "{app: web}", WEB, "{phase: Pending}");
        let pods = [leaving, starting, failed, pending];
        assert_eq!(derive("[{port: 80}]", false, &pods), ["[=80] 10.0.0.1:st@n1 10.0.0.2:@n1"]);
        assert_eq!(derive("[{port: 80}]", true, &pods), ["[=80] 10.0.0.1:rst@n1 10.0.0.2:r@n1"]);
    }

    #[test]
    fn dns_5_a_pod_has_its_host_name_below_the_service_it_names() {
        let yaml = "{metadata: {name: web}, spec: {clusterIP: None, selector: {app: web}}}";
        let service: api::Service = serde_saphyr::from_str(yaml).expect("readable");
        let parsed = Service::parse(&service).expect("named").object;
        for (spec, expected) in [
            ("{containers: [], hostname: web-0, subdomain: web}", Some("web-0")),
            ("{containers: [], hostname: web-0, subdomain: other}", None),
            ("{containers: [], hostname: web-0}", None),
            ("{containers: [], subdomain: web}", None),
        ] {
            let yaml = format!(
                "{{metadata: {{name: a, labels: {{app: web}}}}, spec: {spec}, status: {{podIP: 10.0.0.1, {READY}}}}}"
            );
            let pod: api::Pod = serde_saphyr::from_str(&yaml).expect("readable");
            let pod = Pod::parse(&pod).expect("named").object;
            let slices = slices(&parsed, service.spec.as_ref().expect("given"), [&pod].into_iter());
            assert_eq!(slices[0].endpoints[0].hostname.as_deref(), expected, "{spec}");
        }
    }

    #[test]
    fn dua_3_a_dual_stack_pod_is_in_a_slice_of_each_family() {
        let status =
            format!("{{podIP: 10.0.0.1, podIPs: [{{ip: 10.0.0.1}}, {{ip: 'fd00::1'}}], {READY}}}");
        let pods = [pod("a", "{app: web}", WEB, &status)];
        assert_eq!(
            derive("[{port: 80}]", false, &pods),
            ["[=80] fd00::1:rs@n1", "[=80] 10.0.0.1:rs@n1"]
        );
    }
}

//! What `kubectl apply` would send to a cluster: four Services, and the EndpointSlices a cluster would keep for them.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use super::plan::{
    BACKEND_ECHO, BACKEND_HTTP, BACKENDS, Family, Kind, NODE_ECHO, NODE_HTTP, SERVICE_ECHO,
    SERVICE_HTTP,
};

/// The part of a backend at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Takes new connections.
    Ready,
    /// Takes none, finishes those it has.
    Draining,
    /// No endpoint of any Service.
    Absent,
}

/// The conditions of all backends, in their order.
pub(super) type Conditions = [Condition; BACKENDS.len()];

/// A file of the folder is replaced as a whole: nobody ever reads half of it.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    // A name with a dot in front is none of the gateway's business.
    let draft = folder.join(format!(".{name}"));
    fs::write(&draft, text)?;
    fs::rename(draft, folder.join(name))
}

/// The four Services, each with a TCP and a UDP port.
pub(super) fn services() -> String {
    let mut text = String::new();
    for kind in Kind::ALL {
        let name = service_name(kind);
        let vip = kind.vip();
        let (v4, v6) = (vip.of(Family::V4), vip.of(Family::V6));
        let (kind_text, node_ports) = match kind {
            Kind::ClusterIp => (format!("type: ClusterIP\n  clusterIPs: [\"{v4}\", \"{v6}\"]"), false),
            Kind::NodePort => ("type: NodePort".to_owned(), true),
            Kind::ExternalIp => (format!("type: ClusterIP\n  externalIPs: [\"{v4}\", \"{v6}\"]"), false),
            // Local: on a gateway without pods, backends see the client's own address.
            Kind::LoadBalancer => (
                "type: LoadBalancer\n  allocateLoadBalancerNodePorts: false\n  externalTrafficPolicy: Local"
                    .to_owned(),
                false,
            ),
        };
        let node_port = |port: u16| {
            if node_ports { format!(", nodePort: {port}") } else { String::new() }
        };
        let (http, echo) = (node_port(NODE_HTTP), node_port(NODE_ECHO));
        let _ = write!(
            text,
            "\
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: demo
spec:
  {kind_text}
  ipFamilyPolicy: RequireDualStack
  ports:
  - {{name: http, protocol: TCP, port: {SERVICE_HTTP}, targetPort: {BACKEND_HTTP}{http}}}
  - {{name: echo, protocol: UDP, port: {SERVICE_ECHO}, targetPort: {BACKEND_ECHO}{echo}}}
"
        );
        if kind == Kind::LoadBalancer {
            let _ = writeln!(
                text,
                "status:\n  loadBalancer:\n    ingress: [{{ip: \"{v4}\"}}, {{ip: \"{v6}\"}}]"
            );
        }
        text.push_str("---\n");
    }
    text
}

/// The slices of all Services: two each, since a slice is of one family.
pub(super) fn slices(conditions: &Conditions) -> String {
    let mut text = String::new();
    for kind in Kind::ALL {
        for family in [Family::V4, Family::V6] {
            let (service, family_name) = (service_name(kind), family.name());
            let _ = write!(
                text,
                "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {service}-{}
  namespace: demo
  labels: {{kubernetes.io/service-name: {service}}}
addressType: {family_name}
ports:
- {{name: http, protocol: TCP, port: {BACKEND_HTTP}}}
- {{name: echo, protocol: UDP, port: {BACKEND_ECHO}}}
endpoints:
",
                family_name.to_lowercase()
            );
            for (backend, condition) in BACKENDS.iter().zip(conditions) {
                let (ready, terminating) = match condition {
                    Condition::Ready => (true, false),
                    Condition::Draining => (false, true),
                    Condition::Absent => continue,
                };
                let _ = writeln!(
                    text,
                    "- addresses: [\"{}\"]    # {}\n  conditions: {{ready: {ready}, serving: true, terminating: {terminating}}}",
                    backend.at.of(family),
                    backend.name
                );
            }
            text.push_str("---\n");
        }
    }
    text
}

fn service_name(kind: Kind) -> &'static str {
    match kind {
        Kind::ClusterIp => "cluster-ip",
        Kind::NodePort => "node-port",
        Kind::ExternalIp => "external-ip",
        Kind::LoadBalancer => "load-balancer",
    }
}

#[cfg(test)]
mod tests {
    use control::settings::Settings;
    use control::source::Event;
    use control::source::manifests::Manifests;

    use super::*;

    #[test]
    fn the_gateway_understands_them_without_a_complaint() {
        let mut conditions = [Condition::Ready; BACKENDS.len()];
        conditions[0] = Condition::Draining;
        conditions[1] = Condition::Absent;
        let text = services() + &slices(&conditions);
        let events = Manifests::new("", &Settings::default()).load_text("demo.yaml", &text);
        let mut sizes = Vec::new();
        for event in events {
            match event {
                Event::Problems(problems) => assert!(problems.is_empty(), "{problems:?}"),
                Event::Reset { kind, objects, unreadable } => {
                    assert!(unreadable.is_empty());
                    assert!(objects.iter().all(|object| object.problems.is_empty()), "{objects:?}");
                    sizes.push((kind.name(), objects.len()));
                }
                other => panic!("{other:?}"),
            }
        }
        sizes.retain(|(_, objects)| *objects > 0);
        assert_eq!(sizes, [("Service", 4), ("EndpointSlice", 8)]);
    }
}

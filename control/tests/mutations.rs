//! What may change about a Service while it is served (OBJ-11, EXC-2), and what such a change leaves alone (SYN-3).

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use control::assembly::Assembly;
use control::object::Kind;
use control::source::Event;
use control::source::manifests::Manifests;
use dataplane::flow::Protocol;
use dataplane::service::{Match, ServiceTable};
use support::{assembly, rows, settings, take};

/// A gateway that has heard of these objects, all at once.
fn knows(objects: &str) -> Assembly {
    let mut assembly = assembly(settings("{nodeName: here}"));
    hears(&mut assembly, objects);
    assembly
}

/// The objects are these now. Whether that changed a table.
fn hears(assembly: &mut Assembly, objects: &str) -> bool {
    let events = Manifests::new("unused", assembly.settings()).load_text("test", objects);
    assert!(events.iter().any(|event| matches!(event, Event::Reset { kind: Kind::Service, .. })));
    take(assembly, events)
}

fn service(labels: &str, spec: &str, status: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web, labels: {{{labels}}}}}, spec: {{{spec}}}, status: {{{status}}}}}\n---\n"
    )
}

/// The endpoints of a Service's port `http`, by the last bytes of their addresses.
fn slice(service: &str, endpoints: &[u8]) -> String {
    let endpoints: Vec<String> =
        endpoints.iter().map(|n| format!("{{addresses: [10.0.1.{n}], nodeName: here}}")).collect();
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {service}-1, labels: {{kubernetes.io/service-name: {service}}}}}, addressType: IPv4,
           ports: [{{name: http, port: 8080}}, {{name: web, port: 8080}}, {{name: dns, port: 53, protocol: UDP}}], endpoints: [{}]}}\n---\n",
        endpoints.join(", ")
    )
}

/// Goes through versions of a Service, and back to the first, each with the rows it must have.
fn walk(versions: &[(String, &[&str])]) {
    let mut served = knows(&slice("web", &[2]));
    for (version, expected) in versions.iter().chain(&versions[..1]) {
        let objects = version.clone() + &slice("web", &[2]);
        assert!(hears(&mut served, &objects), "nothing changed: {version}");
        assert_eq!(rows(&served), *expected, "{version}");
        assert_eq!(rows(&served), rows(&knows(&objects)), "as if it had always been so: {version}");
        let table = served.writer().table();
        let frontends =
            |row: &&str| row.split(" -> ").next().map_or(0, |it| it.split(' ').count() - 1);
        let addresses = expected.iter().map(frontends).sum::<usize>();
        let found: u32 = table.vips().map(|(_, vip)| vip.cluster + vip.external).sum();
        let node_ports = expected.iter().filter(|row| row.contains("np4:")).count();
        assert_eq!(found as usize + node_ports, addresses, "no address is left behind: {version}");
    }
}

#[test]
fn obj_11_type_ports_and_policies_change_while_it_is_served() {
    let plain = |spec: &str| service("", spec, "");
    let balanced = "loadBalancer: {ingress: [{ip: 203.0.113.80}]}";
    walk(&[
        (
            plain("clusterIP: 172.30.0.1, ports: [{name: http, port: 80}]"),
            &["default/web:http/tcp 172.30.0.1:80 -> 10.0.1.2:8080"],
        ),
        (
            plain(
                "type: NodePort, clusterIP: 172.30.0.1, ports: [{name: http, port: 80, nodePort: 30080}]",
            ),
            &["default/web:http/tcp 172.30.0.1:80 np4:30080 -> 10.0.1.2:8080"],
        ),
        (
            plain(
                "type: NodePort, clusterIP: 172.30.0.1, ports: [{name: http, port: 80, nodePort: 30081}]",
            ),
            &["default/web:http/tcp 172.30.0.1:80 np4:30081 -> 10.0.1.2:8080"],
        ),
        // The same number for another protocol.
        (
            plain(
                "type: NodePort, clusterIP: 172.30.0.1, ports: [{name: dns, port: 80, nodePort: 30081, protocol: UDP}]",
            ),
            &["default/web:dns/udp 172.30.0.1:80 np4:30081 -> 10.0.1.2:53"],
        ),
        (
            service(
                "",
                "type: LoadBalancer, clusterIP: 172.30.0.1, ports: [{name: http, port: 80, nodePort: 30081}]",
                balanced,
            ),
            &["default/web:http/tcp 172.30.0.1:80 203.0.113.80:80 np4:30081 -> 10.0.1.2:8080"],
        ),
        (
            service(
                "",
                "type: LoadBalancer, allocateLoadBalancerNodePorts: false, externalTrafficPolicy: Local, internalTrafficPolicy: Local, clusterIP: 172.30.0.1, ports: [{name: http, port: 80}]",
                balanced,
            ),
            &[
                "default/web:http/tcp 172.30.0.1:80 203.0.113.80:80 -> 10.0.1.2:8080 | 10.0.1.2:8080",
            ],
        ),
        (
            plain(
                "type: ExternalName, externalName: a.example, clusterIP: 172.30.0.1, ports: [{name: http, port: 80}]",
            ),
            &[],
        ),
        // Made anew, with another cluster IP.
        (
            plain("clusterIP: 172.30.0.2, ports: [{name: http, port: 80}]"),
            &["default/web:http/tcp 172.30.0.2:80 -> 10.0.1.2:8080"],
        ),
        // One more port, then other numbers, then other names, and one less.
        (
            plain("clusterIP: 172.30.0.2, ports: [{name: http, port: 80}, {name: web, port: 81}]"),
            &[
                "default/web:http/tcp 172.30.0.2:80 -> 10.0.1.2:8080",
                "default/web:web/tcp 172.30.0.2:81 -> 10.0.1.2:8080",
            ],
        ),
        (
            plain("clusterIP: 172.30.0.2, ports: [{name: http, port: 81}, {name: web, port: 80}]"),
            &[
                "default/web:http/tcp 172.30.0.2:81 -> 10.0.1.2:8080",
                "default/web:web/tcp 172.30.0.2:80 -> 10.0.1.2:8080",
            ],
        ),
        (
            plain("clusterIP: 172.30.0.2, ports: [{name: other, port: 81}]"),
            &["default/web:other/tcp 172.30.0.2:81 -> nobody"],
        ),
        (plain("clusterIP: None, ports: [{name: http, port: 80}]"), &[]),
    ]);
}

#[test]
fn exc_2_the_label_of_another_proxy_may_come_and_go() {
    let spec =
        "type: NodePort, clusterIP: 172.30.0.1, ports: [{name: http, port: 80, nodePort: 30080}]";
    let ours: &[&str] = &["default/web:http/tcp 172.30.0.1:80 np4:30080 -> 10.0.1.2:8080"];
    walk(&[
        (service("", spec, ""), ours),
        (service("service.kubernetes.io/service-proxy-name: other", spec, ""), &[]),
        (service("unrelated: label", spec, ""), ours),
        (service("service.kubernetes.io/service-proxy-name: ''", spec, ""), &[]),
    ]);
}

fn found<'a>(table: &'a ServiceTable, at: &str) -> Match<'a> {
    let at: SocketAddr = at.parse().expect("valid");
    table.find(at.ip().into(), at.port(), Protocol::Tcp).expect("served")
}

#[test]
fn syn_3_a_change_of_endpoints_touches_nothing_else() {
    let services = "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 172.30.0.1, ports: [{name: http, port: 80}]}}\n---\n\
         {apiVersion: v1, kind: Service, metadata: {name: other}, spec: {clusterIP: 172.30.0.2, ports: [{name: http, port: 80}]}}\n---\n";
    let objects = |web: &[u8]| services.to_owned() + &slice("web", web) + &slice("other", &[2, 3]);
    let mut assembly = knows(&objects(&[2, 3]));
    let before = assembly.writer().table();
    assert!(hears(&mut assembly, &objects(&[3, 4])));
    let after = assembly.writer().table();
    let lists = [&before, &after].map(|table| found(table, "172.30.0.2:80").row().cluster.clone());
    assert!(Arc::ptr_eq(&lists[0], &lists[1]), "the other Service's list is the very same");
    let backend = |table: &ServiceTable, at: &str, backend: &str| {
        let backend: SocketAddr = backend.parse().expect("valid");
        let list = &found(table, at).row().cluster.backends;
        list.iter().find(|(at, _)| *at == backend).expect("an endpoint").1
    };
    // Of the changed Service, an endpoint that stays is still what connections and flows know it as.
    let stays = [&before, &after].map(|table| backend(table, "172.30.0.1:80", "10.0.1.3:8080"));
    assert_eq!(stays[0], stays[1]);
    assert!(after.serves(stays[0]));
    // The one that left still serves the other Service, under that one's number.
    let left = backend(&before, "172.30.0.1:80", "10.0.1.2:8080");
    let of_other = backend(&after, "172.30.0.2:80", "10.0.1.2:8080");
    assert!(after.serves(of_other) && (left == of_other || !after.serves(left)));
}

#[test]
fn syn_4_away_and_back_again_is_as_before() {
    let spec = "clusterIP: 172.30.0.1, ports: [{name: http, port: 80}]";
    let objects = |endpoints: &[u8]| service("", spec, "") + &slice("web", endpoints);
    let mut assembly = knows(&objects(&[2, 3]));
    let before = rows(&assembly);
    assert!(hears(&mut assembly, &objects(&[])));
    assert_eq!(rows(&assembly), ["default/web:http/tcp 172.30.0.1:80 -> nobody"]);
    assert!(hears(&mut assembly, &objects(&[2, 3])));
    assert_eq!(rows(&assembly), before);
    // Between two looks: nothing happened.
    let mut events = Vec::new();
    for endpoints in [&[][..], &[3, 2]] {
        let mut source = Manifests::new("unused", assembly.settings());
        events.extend(source.load_text("test", &objects(endpoints)));
    }
    assert!(!take(&mut assembly, events));
}

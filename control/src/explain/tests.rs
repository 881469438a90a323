use super::*;
use crate::config::Config;

const CONFIG: &str = "
services:
  nodeName: node-a
  nodeIPs: [192.0.2.10, 192.0.2.11]
  clusterCIDR: 10.0.0.0/16
  serviceCIDRs: [172.30.0.0/16]
  nodePortAddresses: [192.0.2.10/32]
";

const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  clusterIP: 172.30.0.41
  externalIPs: [80.11.12.10]
  externalTrafficPolicy: Local
  loadBalancerSourceRanges: [203.0.113.0/24]
  ports:
  - {name: http, port: 80, nodePort: 30080}
  - {name: sigtran, protocol: SCTP, port: 99}
  - {name: dns, protocol: UDP, port: 53}
status: {loadBalancer: {ingress: [{ip: 198.51.100.9}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: sigtran, protocol: SCTP, port: 9999}]
endpoints:
- {addresses: [10.0.1.2], nodeName: node-a}
- {addresses: [10.0.1.3], nodeName: node-b}
- {addresses: [10.0.1.4], nodeName: node-b, conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.1.5], nodeName: node-b, conditions: {ready: false}}
";

fn explained(flows: &[&str]) -> Vec<Explanation> {
    let config = Config::parse(CONFIG, "test").expect("valid");
    let flows: Vec<Flow> = flows.iter().map(|flow| flow.parse().expect("a flow")).collect();
    let (told, problems) = explain_text(&config, "-", OBJECTS, &flows);
    assert_eq!(problems, []);
    told
}

/// Backends with a star behind those that are masqueraded to, or the reason why there are none.
fn short(told: &Explanation) -> String {
    let backends = told.backends.iter().flatten();
    let backends: Vec<String> = backends
        .map(|backend| format!("{}{}", backend.address, if backend.masquerade { "*" } else { "" }))
        .collect();
    let verdict = told.verdict.name();
    match told.verdict {
        Verdict::Dnat => format!("{verdict} {}", backends.join(" ")),
        _ => format!("{verdict} {}", told.reason.as_deref().unwrap_or_default()),
    }
}

#[test]
fn verdicts_are_the_engines() {
    let cases = [
        // Cluster IP: outside, pod, a pod that meets itself, node.
        ("tcp 203.0.113.7:4000 -> 172.30.0.41:80", "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
        ("tcp 10.0.9.9:4000 -> 172.30.0.41:80", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
        ("tcp 10.0.1.2:4000 -> 172.30.0.41:80", "dnat 10.0.1.2:8080* 10.0.1.3:8080"),
        ("tcp 192.0.2.10:4000 -> 172.30.0.41:80", "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
        // External addresses, policy Local.
        ("tcp 203.0.113.7:4000 -> 198.51.100.9:80", "dnat 10.0.1.2:8080"),
        ("tcp 9.9.9.9:4000 -> 198.51.100.9:80", "drop source_not_allowed"),
        ("tcp 9.9.9.9:4000 -> 80.11.12.10:80", "dnat 10.0.1.2:8080"),
        ("tcp 10.0.9.9:4000 -> 80.11.12.10:80", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
        ("tcp 192.0.2.11:4000 -> 80.11.12.10:80", "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
        ("tcp 9.9.9.9:4000 -> 192.0.2.10:30080", "dnat 10.0.1.2:8080"),
        ("tcp 9.9.9.9:4000 -> 192.0.2.11:30080", "not-service node_address"),
        ("udp 9.9.9.9:4000 -> 192.0.2.10:30080", "not-service node_address"),
        // Other protocols, and ports nobody has.
        ("sctp 9.9.9.9:4000 -> 172.30.0.41:99", "dnat 10.0.1.2:9999* 10.0.1.3:9999*"),
        ("udp 9.9.9.9:4000 -> 172.30.0.41:53", "reject no_endpoints"),
        ("tcp 9.9.9.9:4000 -> 172.30.0.41:53", "reject unknown_port"),
        ("tcp 9.9.9.9:4000 -> 80.11.12.10:53", "not-service unknown_port"),
        ("tcp 9.9.9.9:4000 -> 172.30.0.42:53", "drop service_address_unallocated"),
        ("tcp 9.9.9.9:4000 -> 8.8.8.8:53", "not-service no_service"),
    ];
    let flows: Vec<&str> = cases.iter().map(|(flow, _)| *flow).collect();
    for (told, (flow, expected)) in explained(&flows).iter().zip(cases) {
        assert_eq!(short(told), expected, "{flow}");
        assert_eq!(told.flow, flow);
        let known =
            told.backends.iter().flatten().any(|b| Some(&b.address) == told.chosen.as_ref());
        assert_eq!(told.verdict == Verdict::Dnat, known, "{flow}: the choice is one of the list");
    }
}

#[test]
fn flows_do_not_meet() {
    let there = "udp 10.0.1.3:53 -> 80.11.12.10:80";
    let flow = "tcp 203.0.113.7:4000 -> 172.30.0.41:80";
    let alone = &explained(&[flow])[0];
    let chosen = alone.chosen.clone().expect("translated");
    let reply = format!("tcp {chosen} -> 203.0.113.7:4000");
    let all = explained(&[flow, &reply, there, flow]);
    assert_eq!((&all[0], &all[3]), (alone, alone), "not a part of the first one's connection");
    assert_ne!(all[1].verdict, Verdict::Dnat, "no reply of the first one's");
}

#[test]
fn the_story_names_object_rule_and_those_left_out() {
    let told = explained(&["tcp 203.0.113.7:4000 -> 198.51.100.9:80"]);
    let text = render(&told);
    for line in [
        "load-balancer address of Service default/web:http, port tcp/80",
        "in 203.0.113.0/24 of loadBalancerSourceRanges",
        "externalTrafficPolicy Local: endpoints on this node only",
        "10.0.1.2:8080  ready, chosen for this flow",
        "10.0.1.3:8080  left out: on node node-b, not on this one (SEL-5)",
        "10.0.1.5:8080  left out: not ready (SEL-8)",
        "no: backends see the client's address",
        "verdict     dnat to 10.0.1.2:8080",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

/// Equal lists share their memory, and still each has its own reason for who is not in it.
#[test]
fn the_reason_for_being_left_out_is_that_of_the_list_in_use() {
    const HINTED: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 172.30.0.41
  externalIPs: [80.11.12.10]
  externalTrafficPolicy: Local
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.1.2], nodeName: node-a, hints: {forNodes: [{name: node-a}]}}
- {addresses: [10.0.1.3], nodeName: node-b, hints: {forNodes: [{name: node-b}]}}
- {addresses: [10.0.1.4], nodeName: node-b, conditions: {ready: false, serving: true, terminating: true}}
";
    let here = "on node node-b, not on this one (SEL-5)";
    let hints = "topology hints name node-b, not this node's place (TOP-2, TOP-3)";
    let draining = "terminating, and others are ready (SEL-4)";
    for (config, client, reasons) in [
        (CONFIG.to_owned(), "203.0.113.7", [here, here]),
        (CONFIG.to_owned(), "10.0.9.9", [hints, draining]),
        // On an edge gateway no list of the external policy is of this node.
        (CONFIG.to_owned() + "  role: edge\n", "203.0.113.7", ["", draining]),
        (CONFIG.to_owned() + "  role: edge\n", "10.0.9.9", [hints, draining]),
    ] {
        let config = Config::parse(&config, "test").expect("valid");
        let flow = format!("tcp {client}:4000 -> 80.11.12.10:80").parse().expect("a flow");
        let (told, _) = explain_text(&config, "-", HINTED, &[flow]);
        let text = render(&told);
        for (at, reason) in ["10.0.1.3:8080", "10.0.1.4:8080"].iter().zip(reasons) {
            let line = text.lines().find(|line| line.contains(at)).expect("told of");
            let said = line.split_once("left out: ").map_or("", |(_, reason)| reason);
            assert_eq!(said, reason, "{client} {at}\n{text}");
        }
    }
}

#[test]
fn a_thousand_flows_take_less_than_a_second() {
    let flows: Vec<String> =
        (0..1000).map(|i| format!("tcp 203.0.113.7:{} -> 172.30.0.41:80", 1000 + i)).collect();
    let flows: Vec<&str> = flows.iter().map(String::as_str).collect();
    let start = std::time::Instant::now();
    assert_eq!(explained(&flows).len(), 1000);
    // Ten times what it takes on a slow machine without optimization.
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

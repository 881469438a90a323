//! Refused or dropped.

use crate::world::{NODE_PORT, PORT, World, world};

fn empty(policies: &str) -> World {
    world().balanced(
        "web",
        &format!("clusterIP: 172.30.0.41, externalIPs: [198.51.100.9], {policies} {NODE_PORT}"),
        "{ip: 203.0.113.80}",
    )
}

#[test]
fn rej_1_without_endpoints_every_address_refuses() {
    for policies in ["", "internalTrafficPolicy: Local, externalTrafficPolicy: Local,"] {
        for client in ["pod", "node", "outside"] {
            for to in ["172.30.0.41:80", "198.51.100.9:80", "203.0.113.80:80", "192.0.2.10:30080"] {
                empty(policies).check(&[(&format!("{client} -> {to}"), "reject no_endpoints")]);
            }
        }
    }
    let ports = "ports: [{name: t, port: 9}, {name: u, port: 9, protocol: UDP}, {name: s, port: 9, protocol: SCTP}]";
    let w = world()
        .service("four", &format!("clusterIP: 172.30.0.41, {ports}"))
        .service("six", &format!("clusterIP: 'fd00:30::41', {ports}"));
    for protocol in ["tcp", "udp", "sctp"] {
        for to in ["172.30.0.41:9", "[fd00:30::41]:9"] {
            w.check(&[
                (&format!("{protocol} outside -> {to}"), "reject no_endpoints"),
                (&format!("{protocol} node -> {to}"), "reject no_endpoints"),
            ]);
        }
    }
}

#[test]
fn rej_2_internal_local_without_local_endpoint_is_silent() {
    let w = empty("internalTrafficPolicy: Local,").slice("web", "10.0.1.3@there");
    for client in ["pod", "node", "outside"] {
        w.check(&[(&format!("{client} -> 172.30.0.41:80"), "drop no_local_endpoint_internal")]);
    }
    w.check(&[("outside -> 198.51.100.9:80", "dnat 10.0.1.3:8080*")]);
}

#[test]
fn rej_3_external_local_without_local_endpoint_is_silent_outside() {
    let w = empty("externalTrafficPolicy: Local,").slice("web", "10.0.1.3@there");
    for to in ["198.51.100.9:80", "203.0.113.80:80", "192.0.2.10:30080"] {
        w.check(&[
            (&format!("outside -> {to}"), "drop no_local_endpoint_external"),
            (&format!("pod -> {to}"), "dnat 10.0.1.3:8080"),
            (&format!("node -> {to}"), "dnat 10.0.1.3:8080*"),
        ]);
    }
    w.check(&[("outside -> 172.30.0.41:80", "dnat 10.0.1.3:8080*")]);
}

#[test]
fn rej_8_node_ports_refuse_on_selected_addresses_only() {
    world()
        .config("nodeName: here, nodeIPs: [192.0.2.10, 198.51.100.1], nodePortAddresses: [192.0.2.0/24]")
        .service("web", &format!("clusterIP: 172.30.0.41, {NODE_PORT}"))
        .check(&[
            ("outside -> 192.0.2.10:30080", "reject no_endpoints"),
            ("outside -> 198.51.100.1:30080", "not-service node_address"),
        ]);
}

#[test]
fn rej_9_lsr_3_source_ranges_come_before_refusals() {
    empty("loadBalancerSourceRanges: [198.51.100.0/24],").check(&[
        ("outside -> 203.0.113.80:80", "drop source_not_allowed"),
        ("198.51.100.7 -> 203.0.113.80:80", "reject no_endpoints"),
    ]);
}

#[test]
fn rej_10_unknown_ports_and_unallocated_service_addresses() {
    let web = || {
        world().service("web", &format!("clusterIP: 172.30.0.41, {PORT}")).slice("web", "10.0.1.2")
    };
    web().service("six", &format!("clusterIP: 'fd00:30::41', {PORT}")).check(&[
        ("pod -> 172.30.0.41:81", "reject unknown_port"),
        ("node -> 172.30.0.41:81", "reject unknown_port"),
        ("pod -> 172.30.0.42:80", "drop service_address_unallocated"),
        ("node -> 172.30.255.255:80", "drop service_address_unallocated"),
        ("outside -> [fd00:30::41]:81", "reject unknown_port"),
        ("outside -> [fd00:30::42]:80", "drop service_address_unallocated"),
        ("pod -> 172.31.0.1:80", "not-service no_service"),
    ]);
    // Without ranges there is nothing to drop, but cluster IPs are known.
    web().config("nodeName: here").check(&[
        ("pod -> 172.30.0.42:80", "not-service no_service"),
        ("pod -> 172.30.0.41:81", "reject unknown_port"),
    ]);
    web()
        .config("nodeName: here, rejectUnknownClusterIPPorts: false")
        .check(&[("pod -> 172.30.0.41:81", "not-service unknown_port")]);
}

#[test]
fn lbr_8_unknown_ports_of_external_addresses_are_refused_by_an_edge_gateway_only() {
    let web = || {
        let spec = format!("clusterIP: 172.30.0.41, externalIPs: [198.51.100.9], {PORT}");
        world().service("web", &spec).slice("web", "10.0.1.2")
    };
    for client in ["outside", "pod", "node"] {
        let flow = format!("{client} -> 198.51.100.9:81");
        web().check(&[(&flow, "not-service unknown_port")]);
        web()
            .config("role: edge, nodeIPs: [192.0.2.10], clusterCIDR: 10.0.0.0/16")
            .check(&[(&flow, "reject unknown_port")]);
    }
}

#[test]
fn rej_10_a_service_without_rows_has_no_active_cluster_ip() {
    for spec in [
        "clusterIP: 172.30.0.41",
        "clusterIP: 172.30.0.41, ports: []",
        "clusterIP: 172.30.0.41, ports: null",
    ] {
        world()
            .service("web", spec)
            .check(&[("pod -> 172.30.0.41:80", "drop service_address_unallocated")]);
    }
}

#[test]
fn rej_10_a_node_that_asks_itself_is_told_the_same() {
    // Addresses of the node that Services have, too: the packet never leaves the node.
    world().balanced("web", &format!("clusterIP: 172.30.0.41, {PORT}"), "{ip: 192.0.2.10}").check(
        &[
            ("node -> 192.0.2.10:80", "reject no_endpoints"),
            ("node -> 192.0.2.10:81", "not-service node_address"),
            ("172.30.0.41 -> 172.30.0.41:81", "reject unknown_port"),
            ("172.30.0.42 -> 172.30.0.42:81", "drop service_address_unallocated"),
        ],
    );
}

#[test]
fn rej_1_the_thousandth_flow_is_told_the_same_as_the_first() {
    // Neither the limit of refusals nor a full table gets in between.
    let w = empty("");
    let flows: Vec<String> =
        (0..1000).map(|i| format!("203.0.113.{} -> 172.30.0.41:80", 1 + i % 250)).collect();
    let flows: Vec<&str> = flows.iter().map(String::as_str).collect();
    assert!(w.ask(&flows).iter().all(|told| told.reason.as_deref() == Some("no_endpoints")));
}

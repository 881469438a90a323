//! Node ports and the addresses that serve them.

use crate::world::{NODE_PORT, World, world};

const SERVED: &str = "dnat 10.0.1.2:8080*";
const UNTOUCHED: &str = "not-service node_address";

fn web(config: &str) -> World {
    world()
        .config(&format!("nodeName: here, nodeIPs: [192.0.2.10, 198.51.100.1, 'fd00:2::10', '2001:db8:2::1'], clusterCIDR: 10.0.0.0/16, {config}"))
        .service("web", &format!("clusterIP: 172.30.0.41, clusterIPs: [172.30.0.41, 'fd00:30::41'], ipFamilies: [IPv4, IPv6], {NODE_PORT}"))
        .slice("web", "10.0.1.2@here")
        .slice("web", "fd00:10::1:2@here")
}

#[test]
fn npt_1_the_number_is_independent_of_the_service_port() {
    web("").check(&[
        ("outside -> 192.0.2.10:30080", SERVED),
        ("outside -> 192.0.2.10:80", UNTOUCHED),
        ("udp outside -> 192.0.2.10:30080", UNTOUCHED),
        ("outside -> 192.0.2.11:30080", "not-service no_service"),
    ]);
}

#[test]
fn npt_2_addresses_are_selected_by_family() {
    let six = "dnat [fd00:10::1:2]:8080";
    let masqueraded6 = &format!("{six}*");
    for (nets, expected) in [
        ("[192.0.2.0/24]", [SERVED, UNTOUCHED, six, six]),
        ("['2001:db8::/32']", [SERVED, SERVED, UNTOUCHED, six]),
        ("[0.0.0.0/0]", [SERVED, SERVED, six, six]),
        ("['::/0']", [SERVED, SERVED, six, six]),
        ("[192.0.2.0/24, 0.0.0.0/0]", [SERVED, SERVED, six, six]),
        ("[10.9.0.0/16]", [UNTOUCHED, UNTOUCHED, six, six]),
        ("[192.0.2.10/32, 198.51.100.0/24, 'fd00::/8']", [SERVED, SERVED, six, UNTOUCHED]),
    ] {
        let to = ["192.0.2.10", "198.51.100.1", "[fd00:2::10]", "[2001:db8:2::1]"];
        for (to, expected) in to.iter().zip(expected) {
            // No pod range of IPv6 here, but the policy masquerades whoever asks.
            let expected = if expected == six { masqueraded6 } else { expected };
            web(&format!("nodePortAddresses: {nets}"))
                .check(&[(&format!("outside -> {to}:30080"), expected)]);
        }
    }
}

#[test]
fn npt_3_npt_4_loopback_never_serves() {
    for nets in ["[127.0.0.0/8, '::1/128']", "[0.0.0.0/0, '::/0']"] {
        world()
            .config(&format!(
                "nodeName: here, nodeIPs: [127.0.0.1, 192.0.2.10, '::1'], nodePortAddresses: {nets}"
            ))
            .service("web", &format!("clusterIP: 172.30.0.41, {NODE_PORT}"))
            .slice("web", "10.0.1.2")
            .check(&[
                ("127.0.0.1 -> 127.0.0.1:30080", "not-service node_address"),
                ("node -> 127.0.0.1:30080", "not-service node_address"),
                ("::1 -> [::1]:30080", "not-service node_address"),
            ]);
    }
    web("").check(&[("127.0.0.1 -> 127.0.0.1:30080", "not-service no_service")]);
}

#[test]
fn npt_6_addresses_that_are_not_selected_are_left_to_the_host() {
    web("nodePortAddresses: [192.0.2.0/24]").check(&[
        ("outside -> 198.51.100.1:30080", UNTOUCHED),
        ("pod -> 198.51.100.1:30080", UNTOUCHED),
    ]);
}

#[test]
fn npt_7_node_ports_follow_the_external_policy() {
    for (policy, pod, node, outside) in [
        (
            "Cluster",
            "dnat 10.0.1.2:8080* 10.0.1.3:8080*",
            "dnat 10.0.1.2:8080* 10.0.1.3:8080*",
            "dnat 10.0.1.2:8080* 10.0.1.3:8080*",
        ),
        (
            "Local",
            "dnat 10.0.1.2:8080 10.0.1.3:8080",
            "dnat 10.0.1.2:8080* 10.0.1.3:8080*",
            "dnat 10.0.1.2:8080",
        ),
    ] {
        world()
            .service(
                "web",
                &format!("clusterIP: 172.30.0.41, externalTrafficPolicy: {policy}, {NODE_PORT}"),
            )
            .slice("web", crate::world::TWO)
            .check(&[
                ("pod -> 192.0.2.10:30080", pod),
                ("node -> 192.0.2.10:30080", node),
                ("outside -> 192.0.2.10:30080", outside),
            ]);
    }
}

#[test]
fn npt_8_primary_means_the_first_of_each_family() {
    web("nodePortAddresses: [primary]").check(&[
        ("outside -> 192.0.2.10:30080", SERVED),
        ("outside -> 198.51.100.1:30080", UNTOUCHED),
        ("outside -> [fd00:2::10]:30080", "dnat [fd00:10::1:2]:8080*"),
        ("outside -> [2001:db8:2::1]:30080", UNTOUCHED),
    ]);
}

#[test]
fn npt_9_numbers_outside_the_usual_range_and_balancers_without_node_ports() {
    world()
        .service("low", "clusterIP: 172.30.0.41, type: NodePort, ports: [{name: http, port: 80, nodePort: 8443}]")
        .balanced("none", "clusterIP: 172.30.0.42, type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{name: http, port: 80}]", "{ip: 203.0.113.80}")
        .slice("low", "10.0.1.2")
        .slice("none", "10.0.1.3")
        .check(&[
            ("outside -> 192.0.2.10:8443", SERVED),
            ("outside -> 203.0.113.80:80", "dnat 10.0.1.3:8080*"),
        ]);
}

#[test]
fn npt_10_an_external_ip_that_is_a_node_address_comes_first() {
    world()
        .service("ext", "clusterIP: 172.30.0.41, externalIPs: [192.0.2.10], ports: [{name: http, port: 30080}]")
        .service("np", "clusterIP: 172.30.0.42, type: NodePort, ports: [{name: http, port: 80, nodePort: 30080}, {name: more, port: 81, nodePort: 30081}]")
        .slice("ext", "10.0.1.2")
        .slice_at("np", "{name: http, port: 8080}, {name: more, port: 8081}", "10.0.1.3")
        .check(&[
            ("outside -> 192.0.2.10:30080", "dnat 10.0.1.2:8080*"),
            ("outside -> 192.0.2.10:30081", "dnat 10.0.1.3:8081*"),
            ("outside -> 192.0.2.10:30082", "not-service node_address"),
        ]);
}

#[test]
fn pro_8_one_node_port_number_for_two_protocols() {
    world()
        .service("web", "clusterIP: 172.30.0.41, type: NodePort, ports: [{name: t, port: 53, nodePort: 30053}, {name: u, port: 53, protocol: UDP, nodePort: 30053}]")
        .slice_at("web", "{name: t, port: 1001}, {name: u, port: 1002, protocol: UDP}", "10.0.1.2")
        .check(&[
            ("tcp outside -> 192.0.2.10:30053", "dnat 10.0.1.2:1001*"),
            ("udp outside -> 192.0.2.10:30053", "dnat 10.0.1.2:1002*"),
            ("sctp outside -> 192.0.2.10:30053", "not-service node_address"),
        ]);
}

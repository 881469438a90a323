//! Source ranges of load-balancer addresses.

use crate::world::{NODE_PORT, PORT, TWO, World, world};

const ALL: &str = "dnat 10.0.1.2:8080* 10.0.1.3:8080*";
const CLOSED: &str = "drop source_not_allowed";

fn web(ranges: &str) -> World {
    world()
        .balanced(
            "web",
            &format!("clusterIP: 172.30.0.41, externalIPs: [198.51.100.9], loadBalancerSourceRanges: {ranges}, {NODE_PORT}"),
            "{ip: 203.0.113.80}, {ip: 203.0.113.81}",
        )
        .slice("web", TWO)
}

#[test]
fn lsr_1_only_balancer_addresses_are_filtered() {
    web("[198.51.100.0/24]").check(&[
        ("outside -> 203.0.113.80:80", CLOSED),
        ("outside -> 198.51.100.9:80", ALL),
        ("outside -> 172.30.0.41:80", ALL),
        ("outside -> 192.0.2.10:30080", ALL),
    ]);
}

#[test]
fn lsr_2_pods_and_the_node_are_filtered_too() {
    for policy in ["", "externalTrafficPolicy: Local,"] {
        world()
            .balanced("web", &format!("clusterIP: 172.30.0.41, loadBalancerSourceRanges: [198.51.100.0/24], {policy} {NODE_PORT}"), "{ip: 203.0.113.80}")
            .slice("web", TWO)
            .check(&[("pod -> 203.0.113.80:80", CLOSED), ("node -> 203.0.113.80:80", CLOSED)]);
    }
    web("[10.0.0.0/16]")
        .check(&[("pod -> 203.0.113.80:80", ALL), ("node -> 203.0.113.80:80", CLOSED)]);
}

#[test]
fn lsr_3_lsr_8_every_row_and_address_of_the_service_is_filtered() {
    world()
        .balanced(
            "web",
            "clusterIP: 172.30.0.41, loadBalancerSourceRanges: [203.0.113.0/29], ports: [{name: http, port: 80}, {name: https, port: 443}, {name: u, port: 80, protocol: UDP}]",
            "{ip: 198.51.100.80}, {ip: 198.51.100.81}",
        )
        .check(&[
            ("8.8.8.8 -> 198.51.100.80:80", CLOSED),
            ("8.8.8.8 -> 198.51.100.81:443", CLOSED),
            ("udp 8.8.8.8 -> 198.51.100.81:80", CLOSED),
            ("outside -> 198.51.100.81:443", "reject no_endpoints"),
            ("8.8.8.8 -> 198.51.100.80:81", "not-service unknown_port"),
        ]);
    for none in ["[]", "null"] {
        web(none).check(&[("8.8.8.8 -> 203.0.113.81:80", ALL)]);
    }
}

#[test]
fn lsr_4_ranges_of_the_other_family_only_are_no_filter() {
    let both = |ranges: &str| {
        world()
            .balanced(
                "web",
                &format!("clusterIP: 172.30.0.41, clusterIPs: [172.30.0.41, 'fd00:30::41'], ipFamilies: [IPv4, IPv6], loadBalancerSourceRanges: {ranges}, {PORT}"),
                "{ip: 198.51.100.80}, {ip: '2001:db8:9::80'}",
            )
            .slice("web", "10.0.1.2")
            .slice("web", "fd00:10::1:2")
    };
    let (four, six) = ("dnat 10.0.1.2:8080*", "dnat [fd00:10::1:2]:8080*");
    for (ranges, v4, v6) in [
        ("[192.0.2.0/24]", CLOSED, six),
        ("['2001:db8:1::/48']", four, CLOSED),
        ("['2001:db8::/64']", four, six),
        ("[192.0.2.0/24, '2001:db8:1::/48']", CLOSED, CLOSED),
        ("[203.0.113.0/24, '2001:db8::/64']", four, six),
        ("[0.0.0.0/0]", four, six),
        ("['::/0']", four, six),
    ] {
        both(ranges)
            .check(&[("outside -> 198.51.100.80:80", v4), ("outside -> [2001:db8:9::80]:80", v6)]);
    }
}

#[test]
fn lsr_5_the_node_in_a_range_lets_the_services_own_addresses_in() {
    web("[192.0.2.0/24]").check(&[
        ("203.0.113.80 -> 203.0.113.81:80", ALL),
        ("203.0.113.81 -> 203.0.113.80:80", ALL),
        ("203.0.113.82 -> 203.0.113.80:80", CLOSED),
        // What comes from the address itself, as when it stands on the node's loopback.
        ("203.0.113.80 -> 203.0.113.80:80", ALL),
        ("node -> 203.0.113.80:80", ALL),
    ]);
    web("[198.51.100.0/24]").check(&[("203.0.113.80 -> 203.0.113.81:80", CLOSED)]);
    // Only the primary address of the family counts.
    web("[192.0.2.11/32]")
        .config("nodeName: here, nodeIPs: [192.0.2.10, 192.0.2.11], clusterCIDR: 10.0.0.0/16")
        .check(&[
            ("203.0.113.80 -> 203.0.113.81:80", CLOSED),
            ("192.0.2.11 -> 203.0.113.80:80", ALL),
        ]);
}

#[test]
fn lsr_6_obj_9_blanks_and_host_bits_do_not_matter() {
    web("[' 203.0.113.0/29 ', \"\\t198.51.100.77/24\"]").check(&[
        ("outside -> 203.0.113.80:80", ALL),
        ("203.0.113.8 -> 203.0.113.80:80", CLOSED),
        ("198.51.100.1 -> 203.0.113.80:80", ALL),
    ]);
}

#[test]
fn lsr_7_the_annotation_is_not_read() {
    world()
        .service_with(
            "name: web, annotations: {service.beta.kubernetes.io/load-balancer-source-ranges: 192.0.2.0/24}",
            &format!("clusterIP: 172.30.0.41, {PORT}"),
            "loadBalancer: {ingress: [{ip: 203.0.113.80}]}",
        )
        .slice("web", TWO)
        .check(&[("outside -> 203.0.113.80:80", ALL)]);
}

#[test]
fn lsr_1_an_external_ip_that_is_also_a_balancer_address_is_filtered() {
    world()
        .balanced("web", &format!("clusterIP: 172.30.0.41, externalIPs: [203.0.113.80], loadBalancerSourceRanges: [192.0.2.0/24], {PORT}"), "{ip: 203.0.113.80}")
        .slice("web", TWO)
        .check(&[("outside -> 203.0.113.80:80", CLOSED)]);
}

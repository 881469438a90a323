//! Two families beside each other.

use crate::world::{NODE_PORT, PORT, TWO, world};

const BOTH: &str =
    "clusterIP: 172.30.0.41, clusterIPs: [172.30.0.41, 'fd00:30::41'], ipFamilies: [IPv4, IPv6]";

#[test]
fn dua_1_dua_3_each_family_has_its_own_endpoints() {
    world()
        .service("web", &format!("{BOTH}, {PORT}"))
        .slice("web", TWO)
        .slice("web", "fd00:10::1:2@here")
        .check(&[
            ("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
            ("pod -> [fd00:30::41]:80", "dnat [fd00:10::1:2]:8080"),
        ]);
    // No translation from one to the other.
    world()
        .service("web", &format!("{BOTH}, {PORT}"))
        .slice("web", TWO)
        .check(&[("pod -> [fd00:30::41]:80", "reject no_endpoints")]);
}

#[test]
fn dua_1_policies_find_local_endpoints_by_family() {
    world()
        .service(
            "web",
            &format!(
                "{BOTH}, internalTrafficPolicy: Local, externalTrafficPolicy: Local, {NODE_PORT}"
            ),
        )
        .slice("web", "10.0.1.2@here")
        .slice("web", "fd00:10::1:3@there")
        .check(&[
            ("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080"),
            ("pod -> [fd00:30::41]:80", "drop no_local_endpoint_internal"),
            ("outside -> [fd00:2::10]:30080", "drop no_local_endpoint_external"),
            ("pod -> [fd00:2::10]:30080", "dnat [fd00:10::1:3]:8080"),
        ]);
}

#[test]
fn dua_2_addresses_are_split_by_family() {
    world()
        .balanced(
            "web",
            &format!("{BOTH}, externalIPs: ['2001:db8:9::9', 198.51.100.9], {PORT}"),
            "{ip: '2001:db8:9::80'}, {ip: 203.0.113.80}",
        )
        .slice("web", "10.0.1.2")
        .slice("web", "fd00:10::1:2")
        .check(&[
            ("outside -> 198.51.100.9:80", "dnat 10.0.1.2:8080*"),
            ("outside -> 203.0.113.80:80", "dnat 10.0.1.2:8080*"),
            ("outside -> [2001:db8:9::9]:80", "dnat [fd00:10::1:2]:8080*"),
            ("outside -> [2001:db8:9::80]:80", "dnat [fd00:10::1:2]:8080*"),
        ]);
}

#[test]
fn dua_4_the_family_policy_adds_nothing_to_cluster_ips_that_are_written() {
    for policy in ["SingleStack", "PreferDualStack"] {
        world()
            .service("web", &format!("clusterIP: 172.30.0.41, clusterIPs: [172.30.0.41], ipFamilies: [IPv4], ipFamilyPolicy: {policy}, externalIPs: ['2001:db8:9::9'], {NODE_PORT}"))
            .slice("web", "10.0.1.2")
            .slice("web", "fd00:10::1:2")
            .check(&[
                ("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080"),
                ("outside -> [2001:db8:9::9]:80", "not-service no_service"),
                ("outside -> [fd00:2::10]:30080", "not-service node_address"),
            ]);
    }
}

#[test]
fn dua_5_one_node_port_number_in_both_families() {
    world()
        .service("web", &format!("{BOTH}, {NODE_PORT}"))
        .slice("web", "10.0.1.2")
        .slice("web", "fd00:10::1:2")
        .check(&[
            ("outside -> 192.0.2.10:30080", "dnat 10.0.1.2:8080*"),
            ("outside -> [fd00:2::10]:30080", "dnat [fd00:10::1:2]:8080*"),
        ]);
}

#[test]
fn dua_6_each_family_has_its_own_pod_range() {
    world()
        .config("nodeName: here, clusterCIDR: ' 10.0.0.0/16 , fd00:10::/56 '")
        .service("web", &format!("{BOTH}, {PORT}"))
        .slice("web", "10.0.1.2")
        .slice("web", "fd00:10::1:2")
        .check(&[
            ("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080"),
            ("outside -> 172.30.0.41:80", "dnat 10.0.1.2:8080*"),
            ("pod -> [fd00:30::41]:80", "dnat [fd00:10::1:2]:8080"),
            ("outside -> [fd00:30::41]:80", "dnat [fd00:10::1:2]:8080*"),
        ]);
}

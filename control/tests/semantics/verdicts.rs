//! The verdict by destination, policy and source.

use crate::world::{NODE_PORT, PORT, TWO, World, world};

const ALL: &str = "dnat 10.0.1.2:8080 10.0.1.3:8080";
const ALL_MASQUERADED: &str = "dnat 10.0.1.2:8080* 10.0.1.3:8080*";
const LOCAL: &str = "dnat 10.0.1.2:8080";
const LOCAL_MASQUERADED: &str = "dnat 10.0.1.2:8080*";

/// A Service that can be reached in every way.
fn web(policies: &str) -> World {
    world()
        .balanced(
            "web",
            &format!("clusterIP: 172.30.0.41, externalIPs: [198.51.100.9], {policies} {NODE_PORT}"),
            "{ip: 203.0.113.80}",
        )
        .slice("web", TWO)
}

/// The same in the other family.
fn web6(policies: &str) -> World {
    world()
        .balanced(
            "web",
            &format!(
                "clusterIP: 'fd00:30::41', externalIPs: ['2001:db8:9::9'], {policies} {NODE_PORT}"
            ),
            "{ip: '2001:db8:9::80'}",
        )
        .slice("web", "fd00:10::1:2@here fd00:10::1:3@there")
}

/// Pod, node and outside at the cluster IP, then the same at each external destination.
fn check(w: &World, cluster: [&str; 3], external: [&str; 3]) {
    let clients = ["pod", "node", "outside"];
    let mut rows = Vec::new();
    for to in ["172.30.0.41:80", "198.51.100.9:80", "203.0.113.80:80", "192.0.2.10:30080"] {
        let expected = if to.starts_with("172") { cluster } else { external };
        rows.extend(
            clients.iter().zip(expected).map(|(client, e)| (format!("{client} -> {to}"), e)),
        );
    }
    w.check(&rows.iter().map(|(flow, e)| (flow.as_str(), *e)).collect::<Vec<_>>());
}

#[test]
fn ver_1_policies_touch_their_own_destinations_only() {
    let m = ALL_MASQUERADED;
    check(&web(""), [ALL, m, m], [m, m, m]);
    check(
        &web("internalTrafficPolicy: Local,"),
        [LOCAL, LOCAL_MASQUERADED, LOCAL_MASQUERADED],
        [m, m, m],
    );
    check(&web("externalTrafficPolicy: Local,"), [ALL, m, m], [ALL, m, LOCAL]);
    check(
        &web("internalTrafficPolicy: Local, externalTrafficPolicy: Local,"),
        [LOCAL, LOCAL_MASQUERADED, LOCAL_MASQUERADED],
        [ALL, m, LOCAL],
    );
}

#[test]
fn ver_1_dua_1_the_table_is_the_same_for_ipv6() {
    let all = "dnat [fd00:10::1:2]:8080 [fd00:10::1:3]:8080";
    let masqueraded = "dnat [fd00:10::1:2]:8080* [fd00:10::1:3]:8080*";
    let local = "dnat [fd00:10::1:2]:8080";
    let external = ["[2001:db8:9::9]:80", "[2001:db8:9::80]:80", "[fd00:2::10]:30080"];
    for (policies, pod, outside) in
        [("", masqueraded, masqueraded), ("externalTrafficPolicy: Local,", all, local)]
    {
        let w = web6(policies);
        w.check(&[
            ("pod -> [fd00:30::41]:80", all),
            ("node -> [fd00:30::41]:80", masqueraded),
            ("outside -> [fd00:30::41]:80", masqueraded),
        ]);
        for to in external {
            w.check(&[
                (&format!("pod -> {to}"), pod),
                (&format!("node -> {to}"), masqueraded),
                (&format!("outside -> {to}"), outside),
            ]);
        }
    }
    web6("internalTrafficPolicy: Local,").check(&[("pod -> [fd00:30::41]:80", local)]);
}

#[test]
fn ver_2_pods_reach_local_vips_through_all_endpoints() {
    let w = web("externalTrafficPolicy: Local,");
    for to in ["198.51.100.9:80", "203.0.113.80:80", "192.0.2.10:30080"] {
        w.check(&[(&format!("pod -> {to}"), ALL)]);
    }
}

#[test]
fn ver_3_the_node_reaches_local_vips_through_all_endpoints_masqueraded() {
    let w = web("externalTrafficPolicy: Local,");
    for to in ["198.51.100.9:80", "203.0.113.80:80", "192.0.2.10:30080"] {
        w.check(&[(&format!("node -> {to}"), ALL_MASQUERADED)]);
    }
}

#[test]
fn ver_2_ver_3_a_node_address_in_the_pod_range_is_a_pod() {
    let config = "nodeName: here, nodeIPs: [192.0.2.10, 10.0.0.1], clusterCIDR: 10.0.0.0/16";
    web("externalTrafficPolicy: Local,").config(config).check(&[
        ("10.0.0.1 -> 203.0.113.80:80", ALL),
        ("10.0.0.1 -> 172.30.0.41:80", ALL),
        ("192.0.2.10 -> 203.0.113.80:80", ALL_MASQUERADED),
    ]);
}

#[test]
fn ver_4_without_pod_ranges_nobody_is_a_pod() {
    let config = "nodeName: here, nodeIPs: [192.0.2.10], clusterCIDR: ''";
    web("externalTrafficPolicy: Local,").config(config).check(&[
        ("pod -> 172.30.0.41:80", ALL),
        ("node -> 172.30.0.41:80", ALL),
        ("outside -> 172.30.0.41:80", ALL),
        ("pod -> 203.0.113.80:80", LOCAL),
        ("pod -> 192.0.2.10:30080", LOCAL),
        ("node -> 203.0.113.80:80", ALL_MASQUERADED),
        ("outside -> 203.0.113.80:80", LOCAL),
    ]);
    web("").config(&format!("{config}, masqueradeAll: true")).check(&[
        ("pod -> 172.30.0.41:80", ALL_MASQUERADED),
        ("outside -> 172.30.0.41:80", ALL_MASQUERADED),
    ]);
}

#[test]
fn ver_4_dua_6_a_pod_range_of_one_family_says_nothing_about_the_other() {
    let four = "nodeName: here, nodeIPs: [192.0.2.10, 'fd00:2::10'], clusterCIDR: 10.0.0.0/16";
    web6("externalTrafficPolicy: Local,").config(four).check(&[
        ("pod -> [fd00:30::41]:80", "dnat [fd00:10::1:2]:8080 [fd00:10::1:3]:8080"),
        ("outside -> [fd00:30::41]:80", "dnat [fd00:10::1:2]:8080 [fd00:10::1:3]:8080"),
        ("pod -> [2001:db8:9::80]:80", "dnat [fd00:10::1:2]:8080"),
    ]);
    web("").config(four).check(&[("outside -> 172.30.0.41:80", ALL_MASQUERADED)]);
    let six = "nodeName: here, nodeIPs: [192.0.2.10], clusterCIDR: 'fd00:10::/56'";
    web("").config(six).check(&[("outside -> 172.30.0.41:80", ALL)]);
}

#[test]
fn ver_5_anybody_may_use_cluster_ips() {
    web("").check(&[
        ("outside -> 172.30.0.41:80", ALL_MASQUERADED),
        ("8.8.8.8 -> 172.30.0.41:80", ALL_MASQUERADED),
    ]);
}

#[test]
fn ver_6_pods_are_served_where_outsiders_find_nobody() {
    let spec = format!(
        "clusterIP: 172.30.0.41, externalIPs: [198.51.100.9], externalTrafficPolicy: Local, {NODE_PORT}"
    );
    world().service("web", &spec).slice("web", "10.0.1.3@there").check(&[
        ("pod -> 198.51.100.9:80", "dnat 10.0.1.3:8080"),
        ("node -> 198.51.100.9:80", "dnat 10.0.1.3:8080*"),
        ("outside -> 198.51.100.9:80", "drop no_local_endpoint_external"),
        ("outside -> 192.0.2.10:30080", "drop no_local_endpoint_external"),
        ("outside -> 172.30.0.41:80", "dnat 10.0.1.3:8080*"),
    ]);
}

#[test]
fn ver_7_each_protocol_has_its_own_endpoints() {
    world()
        .service("web", "clusterIP: 172.30.0.41, ports: [{name: t, port: 9}, {name: u, port: 9, protocol: UDP}, {name: s, port: 9, protocol: SCTP}]")
        .slice_at("web", "{name: t, port: 1001}", "10.0.1.2")
        .slice_at("web", "{name: u, port: 1002, protocol: UDP}", "10.0.1.3")
        .slice_at("web", "{name: s, port: 1003, protocol: SCTP}", "10.0.1.4")
        .check(&[
            ("tcp pod -> 172.30.0.41:9", "dnat 10.0.1.2:1001"),
            ("udp pod -> 172.30.0.41:9", "dnat 10.0.1.3:1002"),
            ("sctp pod -> 172.30.0.41:9", "dnat 10.0.1.4:1003"),
        ]);
}

#[test]
fn ver_8_ports_and_addresses_nobody_has() {
    let w = web("");
    for protocol in ["tcp", "udp", "sctp"] {
        w.check(&[
            (&format!("{protocol} outside -> 172.30.0.41:81"), "reject unknown_port"),
            (&format!("{protocol} pod -> 172.30.0.42:80"), "drop service_address_unallocated"),
            (&format!("{protocol} outside -> 198.51.100.9:81"), "not-service unknown_port"),
            (&format!("{protocol} outside -> 203.0.113.80:81"), "not-service unknown_port"),
            (&format!("{protocol} outside -> 192.0.2.10:30081"), "not-service node_address"),
            (&format!("{protocol} outside -> 8.8.8.8:80"), "not-service no_service"),
        ]);
    }
}

#[test]
fn ver_8_what_a_pod_or_endpoint_asks_directly_is_left_alone() {
    world().service("web", &format!("clusterIP: 172.30.0.41, {PORT}")).slice("web", TWO).check(&[
        ("outside -> 10.0.1.2:8080", "not-service no_service"),
        ("10.0.1.2 -> 8.8.8.8:443", "not-service no_service"),
        ("10.0.1.2 -> 10.0.1.3:8080", "not-service no_service"),
    ]);
}

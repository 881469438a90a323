//! External IPs.

use crate::world::{PORT, TWO, world};

#[test]
fn xip_1_any_type_with_a_cluster_ip_may_have_them() {
    for kind in ["ClusterIP", "NodePort", "LoadBalancer"] {
        world()
            .service("web", &format!("type: {kind}, clusterIP: 172.30.0.41, externalIPs: [198.51.100.9, 198.51.100.10], loadBalancerSourceRanges: [192.0.2.0/24], {PORT}"))
            .slice("web", TWO)
            .check(&[
                ("outside -> 198.51.100.9:80", "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
                ("pod -> 198.51.100.10:80", "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
                ("outside -> 198.51.100.9:8080", "not-service unknown_port"),
            ]);
    }
}

#[test]
fn xip_2_they_are_split_by_family_and_need_not_be_the_nodes() {
    world()
        .service(
            "web",
            &format!(
                "clusterIP: 'fd00:30::41', externalIPs: [198.51.100.9, '2001:db8:9::9'], {PORT}"
            ),
        )
        .slice("web", "fd00:10::1:2")
        .check(&[
            ("outside -> [2001:db8:9::9]:80", "dnat [fd00:10::1:2]:8080*"),
            ("outside -> 198.51.100.9:80", "not-service no_service"),
        ]);
}

#[test]
fn xip_2_entries_that_are_no_addresses_cost_only_themselves() {
    world()
        .service(
            "web",
            &format!("clusterIP: 172.30.0.41, externalIPs: ['', a.example, 198.51.100.9], {PORT}"),
        )
        .slice("web", "10.0.1.2")
        .check(&[
            ("outside -> 198.51.100.9:80", "dnat 10.0.1.2:8080*"),
            ("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080"),
        ]);
}

#[test]
fn xip_3_external_local_holds_for_external_ips_of_cluster_ip_services() {
    world()
        .service("web", &format!("type: ClusterIP, clusterIP: 172.30.0.41, externalTrafficPolicy: Local, externalIPs: [198.51.100.9], {PORT}"))
        .slice("web", TWO)
        .check(&[
            ("outside -> 198.51.100.9:80", "dnat 10.0.1.2:8080"),
            ("pod -> 198.51.100.9:80", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
            ("outside -> 172.30.0.41:80", "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
        ]);
}

#[test]
fn xip_1_rej_10_a_balancer_address_in_a_service_range_is_served() {
    world()
        .balanced(
            "web",
            &format!("clusterIP: 172.30.0.41, externalIPs: [172.30.9.9], {PORT}"),
            "{ip: 172.30.9.80}",
        )
        .slice("web", "10.0.1.2")
        .check(&[
            ("outside -> 172.30.9.9:80", "dnat 10.0.1.2:8080*"),
            ("outside -> 172.30.9.80:80", "dnat 10.0.1.2:8080*"),
        ]);
}

//! Load-balancer addresses.

use crate::world::{NODE_PORT, PORT, TWO, world};

const ALL: &str = "dnat 10.0.1.2:8080* 10.0.1.3:8080*";

#[test]
fn lbr_1_addresses_come_from_status_alone() {
    world()
        .balanced(
            "web",
            &format!("type: LoadBalancer, clusterIP: 172.30.0.41, loadBalancerIP: 203.0.113.99, {PORT}"),
            "{hostname: lb.example}, {ip: ''}, {ip: null}, {ip: 203.0.113.80, hostname: a.example}, {ip: '2001:db8:9::80'}",
        )
        .slice("web", TWO)
        .check(&[
            ("outside -> 203.0.113.80:80", ALL),
            ("outside -> 203.0.113.99:80", "not-service no_service"),
            ("outside -> [2001:db8:9::80]:80", "not-service no_service"),
        ]);
}

#[test]
fn lbr_2_addresses_in_proxy_mode_are_not_captured() {
    let spec =
        format!("clusterIP: 172.30.0.41, {}", NODE_PORT.replace("NodePort,", "LoadBalancer,"));
    for (mode, expected) in [("VIP", ALL), ("null", ALL), ("Proxy", "not-service no_service")] {
        world()
            .balanced("web", &spec, &format!("{{ip: 203.0.113.80, ipMode: {mode}}}"))
            .slice("web", TWO)
            .check(&[
                ("outside -> 203.0.113.80:80", expected),
                ("pod -> 203.0.113.80:80", expected),
                ("outside -> 192.0.2.10:30080", ALL),
                ("outside -> 172.30.0.41:80", ALL),
            ]);
    }
    world()
        .balanced(
            "web",
            &spec,
            "{ip: 203.0.113.80, ipMode: Proxy}, {ip: 203.0.113.81, ipMode: VIP}",
        )
        .slice("web", TWO)
        .check(&[
            ("outside -> 203.0.113.80:80", "not-service no_service"),
            ("outside -> 203.0.113.81:80", ALL),
        ]);
}

#[test]
fn lbr_2_obj_6_an_address_in_proxy_mode_is_no_way_in() {
    // So externalTrafficPolicy has nothing to say.
    world()
        .balanced("web", &format!("clusterIP: 172.30.0.41, externalTrafficPolicy: Local, internalTrafficPolicy: Local, {PORT}"), "{ip: 203.0.113.80, ipMode: Proxy}")
        .slice("web", "10.0.1.3@there")
        .check(&[("outside -> 172.30.0.41:80", "drop no_local_endpoint_internal"), ("pod -> 203.0.113.80:80", "not-service no_service")]);
}

#[test]
fn lbr_3_without_status_it_is_a_node_port_service() {
    for status in [
        "",
        "loadBalancer: null",
        "loadBalancer: {}",
        "loadBalancer: {ingress: null}",
        "loadBalancer: {ingress: []}",
    ] {
        world()
            .service_with("name: web", "type: LoadBalancer, clusterIP: 172.30.0.41, ports: [{name: http, port: 80, nodePort: 30080}]", status)
            .slice("web", TWO)
            .check(&[("outside -> 192.0.2.10:30080", ALL), ("outside -> 172.30.0.41:80", ALL)]);
    }
}

#[test]
fn lbr_4_lbr_5_the_class_does_not_matter() {
    world()
        .balanced("web", &format!("type: LoadBalancer, loadBalancerClass: example.org/other, clusterIP: 172.30.0.41, {PORT}"), "{ip: 203.0.113.80}")
        .slice("web", TWO)
        .check(&[("outside -> 203.0.113.80:80", ALL)]);
}

#[test]
fn lbr_7_the_policy_decides_what_the_backend_sees() {
    for (policy, expected) in [("Cluster", ALL), ("Local", "dnat 10.0.1.2:8080")] {
        world()
            .balanced("web", &format!("type: LoadBalancer, externalTrafficPolicy: {policy}, clusterIP: 172.30.0.41, {PORT}"), "{ip: 203.0.113.80}")
            .slice("web", TWO)
            .check(&[("outside -> 203.0.113.80:80", expected)]);
    }
}

#[test]
fn lbr_8_ports_nobody_has_at_an_address_are_left_alone() {
    world()
        .balanced("web", &format!("clusterIP: 172.30.0.41, {PORT}"), "{ip: 203.0.113.80}")
        .slice("web", TWO)
        .check(&[
            ("outside -> 203.0.113.80:443", "not-service unknown_port"),
            ("udp outside -> 203.0.113.80:80", "not-service unknown_port"),
            ("pod -> 203.0.113.80:443", "not-service unknown_port"),
        ]);
}

#[test]
fn lbr_1_an_address_of_the_node_may_be_a_balancers() {
    // As some implementations do: every node's own address is the balancer's.
    world()
        .balanced(
            "web",
            &format!("clusterIP: 172.30.0.41, externalTrafficPolicy: Local, {PORT}"),
            "{ip: 192.0.2.10}",
        )
        .slice("web", TWO)
        .check(&[
            ("outside -> 192.0.2.10:80", "dnat 10.0.1.2:8080"),
            ("pod -> 192.0.2.10:80", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
            ("node -> 192.0.2.10:80", "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
            ("outside -> 192.0.2.10:81", "not-service node_address"),
        ]);
}

//! Which backends see the gateway's address instead of the client's.

use crate::world::{NODE_PORT, PORT, TWO, world};

#[test]
fn msq_1_msq_3_when_and_with_masquerade_all() {
    let spec = |policy: &str| format!("clusterIP: 172.30.0.41, {policy} {NODE_PORT}");
    let (all, masqueraded) =
        ("dnat 10.0.1.2:8080 10.0.1.3:8080", "dnat 10.0.1.2:8080* 10.0.1.3:8080*");
    let config = "nodeName: here, nodeIPs: [192.0.2.10], clusterCIDR: 10.0.0.0/16";
    for (also, pod_to_cluster_ip) in [("", all), (", masqueradeAll: true", masqueraded)] {
        let config = format!("{config}{also}");
        world().config(&config).service("web", &spec("")).slice("web", TWO).check(&[
            ("pod -> 172.30.0.41:80", pod_to_cluster_ip),
            ("node -> 172.30.0.41:80", masqueraded),
            ("outside -> 172.30.0.41:80", masqueraded),
            ("pod -> 192.0.2.10:30080", masqueraded),
            ("outside -> 192.0.2.10:30080", masqueraded),
        ]);
        world()
            .config(&config)
            .service("web", &spec("externalTrafficPolicy: Local,"))
            .slice("web", TWO)
            .check(&[
                ("pod -> 192.0.2.10:30080", all),
                ("node -> 192.0.2.10:30080", masqueraded),
                ("outside -> 192.0.2.10:30080", "dnat 10.0.1.2:8080"),
            ]);
    }
}

#[test]
fn msq_1_masquerade_all_includes_internal_local() {
    world()
        .config("nodeName: here, clusterCIDR: 10.0.0.0/16, masqueradeAll: true")
        .service("web", &format!("clusterIP: 172.30.0.41, internalTrafficPolicy: Local, {PORT}"))
        .slice("web", TWO)
        .check(&[("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080*")]);
}

#[test]
fn msq_2_a_backend_that_is_the_client_is_masqueraded_to() {
    for policy in ["", "internalTrafficPolicy: Local,"] {
        let spec = format!("clusterIP: 172.30.0.41, {policy} {NODE_PORT}");
        let expected = if policy.is_empty() {
            "dnat 10.0.1.2:8080* 10.0.1.3:8080"
        } else {
            "dnat 10.0.1.2:8080*"
        };
        world()
            .service("web", &spec)
            .slice("web", TWO)
            .check(&[("10.0.1.2 -> 172.30.0.41:80", expected)]);
    }
    let local = format!(
        "clusterIP: 172.30.0.41, externalIPs: [198.51.100.9], externalTrafficPolicy: Local, {NODE_PORT}"
    );
    world().service("web", &local).slice("web", TWO).check(&[
        ("10.0.1.2 -> 198.51.100.9:80", "dnat 10.0.1.2:8080* 10.0.1.3:8080"),
        ("10.0.1.3 -> 192.0.2.10:30080", "dnat 10.0.1.2:8080 10.0.1.3:8080*"),
    ]);
    // An endpoint outside the cluster that calls its own Service.
    world()
        .service("web", &local)
        .slice("web", "203.0.113.7@here 10.0.1.2@here")
        .check(&[("outside -> 198.51.100.9:80", "dnat 10.0.1.2:8080 203.0.113.7:8080*")]);
    world()
        .service("six", &format!("clusterIP: 'fd00:30::41', {PORT}"))
        .slice("six", "fd00:10::1:2 fd00:10::1:3")
        .check(&[(
            "fd00:10:0:0::1:2 -> [fd00:30::41]:80",
            "dnat [fd00:10::1:2]:8080* [fd00:10::1:3]:8080",
        )]);
}

#[test]
fn msq_2_hairpin_without_pod_ranges() {
    world()
        .config("nodeName: here, nodeIPs: [192.0.2.10]")
        .service("web", &format!("clusterIP: 172.30.0.41, {PORT}"))
        .slice("web", TWO)
        .check(&[("10.0.1.2 -> 172.30.0.41:80", "dnat 10.0.1.2:8080* 10.0.1.3:8080")]);
}

#[test]
fn msq_9_a_backend_in_the_nodes_own_network_sees_the_client() {
    // Replies pass the node anyhow, so there is nothing to rewrite.
    world()
        .service("web", &format!("clusterIP: 172.30.0.41, {NODE_PORT}"))
        .slice("web", "192.0.2.10@here 10.0.1.3@there")
        .check(&[
            ("outside -> 192.0.2.10:30080", "dnat 10.0.1.3:8080* 192.0.2.10:8080"),
            ("outside -> 172.30.0.41:80", "dnat 10.0.1.3:8080* 192.0.2.10:8080"),
            ("pod -> 172.30.0.41:80", "dnat 10.0.1.3:8080 192.0.2.10:8080"),
            // The node that meets itself: as for any client.
            ("node -> 172.30.0.41:80", "dnat 10.0.1.3:8080* 192.0.2.10:8080*"),
        ]);
}

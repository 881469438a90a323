//! What role `edge` decides otherwise than a node: one thing, the meaning of externalTrafficPolicy Local. The names of
//! rules are not in those of tests that show the difference, since they prove no rule.

use crate::world::{TWO, World, world};

const EDGE: &str = "role: edge, nodeIPs: [192.0.2.10], clusterCIDR: 10.0.0.0/16";
const NAMED: &str = "role: edge, nodeName: here, nodeIPs: [192.0.2.10], clusterCIDR: 10.0.0.0/16, \
     nodeLabels: {topology.kubernetes.io/zone: near}";

const CLUSTER: &str = "outside -> 172.30.0.41:80";
const BALANCED: &str = "outside -> 198.51.100.9:80";

/// A Service with every kind of address.
fn web(config: &str, policies: &str, endpoints: &str) -> World {
    let spec = format!(
        "type: LoadBalancer, clusterIP: 172.30.0.41, externalIPs: [80.11.12.10], {policies} \
         ports: [{{name: http, port: 80, nodePort: 30080}}]"
    );
    world().config(config).balanced("web", &spec, "{ip: 198.51.100.9}").slice("web", endpoints)
}

#[test]
fn external_local_keeps_the_client_and_takes_any_ready_endpoint() {
    for config in [EDGE, NAMED] {
        let kept = "dnat 10.0.1.2:8080 10.0.1.3:8080 10.0.1.4:8080";
        let endpoints = "10.0.1.2@here 10.0.1.3@there 10.0.1.4 10.0.1.5@here!s";
        web(config, "externalTrafficPolicy: Local,", endpoints).check(&[
            (BALANCED, kept),
            ("outside -> 80.11.12.10:80", kept),
            ("outside -> 192.0.2.10:30080", kept),
            // To a cluster IP the external policy is nothing.
            (CLUSTER, "dnat 10.0.1.2:8080* 10.0.1.3:8080* 10.0.1.4:8080*"),
        ]);
    }
}

#[test]
fn external_local_falls_back_to_draining_endpoints_anywhere() {
    web(EDGE, "externalTrafficPolicy: Local,", "10.0.1.2@a!st 10.0.1.3@b!st 10.0.1.4@b!s")
        .check(&[(BALANCED, "dnat 10.0.1.2:8080 10.0.1.3:8080")]);
    web(EDGE, "externalTrafficPolicy: Local,", "10.0.1.4@b!s")
        .check(&[(BALANCED, "reject no_endpoints")]);
}

#[test]
fn ver_2_ver_3_short_circuits_are_as_on_a_node() {
    web(EDGE, "externalTrafficPolicy: Local,", TWO).check(&[
        ("pod -> 198.51.100.9:80", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
        ("node -> 198.51.100.9:80", "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
    ]);
}

#[test]
fn top_8_hints_shrink_no_local_list_but_the_cluster_list() {
    let endpoints = "10.0.1.2@a/near 10.0.1.3@b/far";
    web(NAMED, "externalTrafficPolicy: Local,", endpoints)
        .check(&[(BALANCED, "dnat 10.0.1.2:8080 10.0.1.3:8080"), (CLUSTER, "dnat 10.0.1.2:8080*")]);
}

#[test]
fn rej_2_internal_local_is_as_on_a_node() {
    let local = "internalTrafficPolicy: Local,";
    // A gateway without a name has nothing local.
    web(EDGE, local, TWO).check(&[
        (CLUSTER, "drop no_local_endpoint_internal"),
        ("pod -> 172.30.0.41:80", "drop no_local_endpoint_internal"),
        (BALANCED, "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
    ]);
    web(NAMED, local, TWO).check(&[(CLUSTER, "dnat 10.0.1.2:8080*")]);
    web(NAMED, local, "10.0.1.3@there").check(&[(CLUSTER, "drop no_local_endpoint_internal")]);
    web(NAMED, local, "10.0.1.3@there!s").check(&[(CLUSTER, "reject no_endpoints")]);
}

#[test]
fn sel_1_each_policy_has_its_own_local_list() {
    let both = "internalTrafficPolicy: Local, externalTrafficPolicy: Local,";
    let rows = [
        (NAMED, TWO, "dnat 10.0.1.2:8080*", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
        (EDGE, TWO, "drop no_local_endpoint_internal", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
        (NAMED, "10.0.1.2@here!st 10.0.1.3@there", "dnat 10.0.1.2:8080*", "dnat 10.0.1.3:8080"),
    ];
    for (config, endpoints, internal, external) in rows {
        web(config, both, endpoints).check(&[(CLUSTER, internal), (BALANCED, external)]);
    }
}

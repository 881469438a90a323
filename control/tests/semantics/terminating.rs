//! Endpoints that are going away.

use crate::world::{NODE_PORT, PORT, world};

#[test]
fn trm_1_local_lists_drain_only_when_nothing_local_is_ready() {
    let spec = format!(
        "clusterIP: 172.30.0.41, internalTrafficPolicy: Local, externalTrafficPolicy: Local, {NODE_PORT}"
    );
    for (endpoints, internal, external) in [
        ("10.0.1.2@here 10.0.1.4@here!st", "dnat 10.0.1.2:8080", "dnat 10.0.1.2:8080"),
        ("10.0.1.3@there 10.0.1.4@here!st", "dnat 10.0.1.4:8080", "dnat 10.0.1.4:8080"),
        (
            "10.0.1.2@here!st 10.0.1.4@here!st",
            "dnat 10.0.1.2:8080 10.0.1.4:8080",
            "dnat 10.0.1.2:8080 10.0.1.4:8080",
        ),
        (
            "10.0.1.3@there 10.0.1.4@here!t",
            "drop no_local_endpoint_internal",
            "drop no_local_endpoint_external",
        ),
        (
            "10.0.1.3@there 10.0.1.4@here!s",
            "drop no_local_endpoint_internal",
            "drop no_local_endpoint_external",
        ),
    ] {
        world().service("web", &spec).slice("web", endpoints).check(&[
            ("pod -> 172.30.0.41:80", internal),
            ("outside -> 192.0.2.10:30080", external),
        ]);
    }
}

#[test]
fn trm_2_cluster_lists_drain_only_when_nothing_is_ready_anywhere() {
    for (endpoints, expected) in [
        ("10.0.1.2@here!st 10.0.1.3@there", "dnat 10.0.1.3:8080"),
        ("10.0.1.2@here!st 10.0.1.3@there!st", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
        ("10.0.1.2@here!st 10.0.1.3@there!s 10.0.1.4!t", "dnat 10.0.1.2:8080"),
        ("10.0.1.2!t 10.0.1.3!s 10.0.1.4!", "reject no_endpoints"),
    ] {
        world()
            .service("web", &format!("clusterIP: 172.30.0.41, {PORT}"))
            .slice("web", endpoints)
            .check(&[("pod -> 172.30.0.41:80", expected)]);
    }
}

#[test]
fn trm_3_a_draining_endpoint_elsewhere_keeps_pods_going() {
    world()
        .service(
            "web",
            &format!("clusterIP: 172.30.0.41, externalTrafficPolicy: Local, {NODE_PORT}"),
        )
        .slice("web", "10.0.1.3@there!st")
        .check(&[
            ("outside -> 192.0.2.10:30080", "drop no_local_endpoint_external"),
            ("pod -> 192.0.2.10:30080", "dnat 10.0.1.3:8080"),
            ("node -> 192.0.2.10:30080", "dnat 10.0.1.3:8080*"),
        ]);
}

#[test]
fn trm_4_one_that_no_longer_serves_is_never_used() {
    world()
        .service("web", &format!("clusterIP: 172.30.0.41, {PORT}"))
        .slice("web", "10.0.1.2!t 10.0.1.3!st")
        .check(&[("pod -> 172.30.0.41:80", "dnat 10.0.1.3:8080")]);
}

#[test]
fn trm_6_without_slices_it_is_as_if_there_never_was_an_endpoint() {
    world()
        .service("web", &format!("clusterIP: 172.30.0.41, internalTrafficPolicy: Local, externalTrafficPolicy: Local, {NODE_PORT}"))
        .check(&[("pod -> 172.30.0.41:80", "reject no_endpoints"), ("outside -> 192.0.2.10:30080", "reject no_endpoints")]);
}

#[test]
fn trm_7_pods_that_are_done_are_no_endpoints() {
    let pod = |name: &str, ip: &str, phase: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: web}}}}, spec: {{nodeName: here, containers: [{{name: c}}]}}, status: {{phase: {phase}, podIP: {ip}, conditions: [{{type: Ready, status: 'True'}}]}}}}"
        )
    };
    let web = || {
        world().service(
            "web",
            &format!("clusterIP: 172.30.0.41, selector: {{app: web}}, publishNotReadyAddresses: true, {PORT}"),
        )
    };
    for phase in ["Succeeded", "Failed"] {
        // Evicted, or ended: not even the last one, nor with publishNotReadyAddresses.
        web()
            .object(&pod("a", "10.0.1.2", phase))
            .check(&[("pod -> 172.30.0.41:80", "reject no_endpoints")]);
        web()
            .object(&pod("a", "10.0.1.2", phase))
            .object(&pod("b", "10.0.1.3", "Running"))
            .check(&[("pod -> 172.30.0.41:80", "dnat 10.0.1.3:80")]);
    }
}

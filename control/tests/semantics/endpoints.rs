//! Which endpoints are taken in from slices.

use crate::world::{PORT, World, world};

const TO: &str = "pod -> 172.30.0.41:80";
const OURS: &str = "kubernetes.io/service-name: web";

fn web() -> World {
    world().service("web", &format!("clusterIP: 172.30.0.41, {PORT}"))
}

#[test]
fn eps_1_the_label_alone_says_whose_a_slice_is() {
    let body = "addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.0.1.2]}]";
    for (labels, expected) in [
        (OURS, "dnat 10.0.1.2:8080"),
        ("kubernetes.io/service-name: other", "reject no_endpoints"),
        ("kubernetes.io/service-name: ''", "reject no_endpoints"),
        ("app: web", "reject no_endpoints"),
    ] {
        web().slice_with(labels, body).check(&[(TO, expected)]);
    }
    // Neither name nor owner, nor a label in another namespace.
    for metadata in [
        "name: web",
        "name: web-abc12, ownerReferences: [{apiVersion: v1, kind: Service, name: web, uid: u}]",
        "name: s, namespace: other, labels: {kubernetes.io/service-name: web}",
    ] {
        web()
            .object(&format!("{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{{metadata}}}, {body}}}"))
            .check(&[(TO, "reject no_endpoints")]);
    }
}

#[test]
fn eps_2_only_slices_of_the_family_count() {
    for (fields, expected) in [
        ("addressType: FQDN, endpoints: [{addresses: [a.example]}]", "reject no_endpoints"),
        ("addressType: IPv6, endpoints: [{addresses: ['fd00:10::1:2']}]", "reject no_endpoints"),
        (
            "addressType: IPv4, endpoints: [{addresses: ['fd00:10::1:2']}, {addresses: [10.0.1.2]}]",
            "dnat 10.0.1.2:8080",
        ),
        ("addressType: IPv6, endpoints: [{addresses: [10.0.1.2]}]", "reject no_endpoints"),
    ] {
        web()
            .slice_with(OURS, &format!("ports: [{{name: http, port: 8080}}], {fields}"))
            .check(&[(TO, expected)]);
    }
}

#[test]
fn eps_3_slice_ports_need_a_name_and_a_number() {
    for (spec, ports, expected) in [
        ("{name: http, port: 80}", "[{port: 8080}]", "reject no_endpoints"),
        ("{port: 80}", "[{port: 8080}]", "reject no_endpoints"),
        ("{port: 80}", "[{name: null, port: 8080}]", "reject no_endpoints"),
        ("{port: 80}", "[{name: '', port: 8080}]", "dnat 10.0.1.2:8080"),
        ("{name: http, port: 80}", "[{name: http}]", "reject no_endpoints"),
        ("{name: http, port: 80}", "[{name: http, port: null}]", "reject no_endpoints"),
        ("{name: http, port: 80}", "[{name: http, port: 0}]", "reject no_endpoints"),
        ("{name: http, port: 80}", "null", "reject no_endpoints"),
        ("{name: http, port: 80}", "[]", "reject no_endpoints"),
        (
            "{name: http, port: 80}",
            "[{name: http, port: 0}, {name: http, port: 8080}]",
            "dnat 10.0.1.2:8080",
        ),
    ] {
        world()
            .service("web", &format!("clusterIP: 172.30.0.41, ports: [{spec}]"))
            .slice_with(
                OURS,
                &format!(
                    "addressType: IPv4, ports: {ports}, endpoints: [{{addresses: [10.0.1.2]}}]"
                ),
            )
            .check(&[(TO, expected)]);
    }
}

#[test]
fn eps_4_only_the_first_address_counts() {
    for (endpoints, expected) in [
        ("[{addresses: [10.0.1.2, 10.0.1.3]}]", "dnat 10.0.1.2:8080"),
        ("[{addresses: []}, {addresses: [10.0.1.3]}]", "dnat 10.0.1.3:8080"),
        ("[{addresses: null}, {addresses: [10.0.1.3]}]", "dnat 10.0.1.3:8080"),
        ("[]", "reject no_endpoints"),
        ("null", "reject no_endpoints"),
    ] {
        web()
            .slice_with(
                OURS,
                &format!(
                    "addressType: IPv4, ports: [{{name: http, port: 8080}}], endpoints: {endpoints}"
                ),
            )
            .check(&[(TO, expected)]);
    }
}

#[test]
fn eps_5_absent_conditions_mean_ready_serving_and_staying() {
    for (conditions, expected) in [
        ("null", "dnat 10.0.1.2:8080"),
        ("{}", "dnat 10.0.1.2:8080"),
        ("{ready: null, serving: null, terminating: null}", "dnat 10.0.1.2:8080"),
        ("{ready: true}", "dnat 10.0.1.2:8080"),
        ("{ready: false}", "reject no_endpoints"),
        ("{serving: false}", "dnat 10.0.1.2:8080"),
        ("{terminating: true}", "dnat 10.0.1.2:8080"),
        // Serving unless it says no.
        ("{ready: false, terminating: true}", "dnat 10.0.1.2:8080"),
        ("{ready: false, serving: true}", "reject no_endpoints"),
        ("{ready: false, serving: false, terminating: true}", "reject no_endpoints"),
    ] {
        web()
            .slice_with(
                OURS,
                &format!("addressType: IPv4, ports: [{{name: http, port: 8080}}], endpoints: [{{addresses: [10.0.1.2], conditions: {conditions}}}]"),
            )
            .check(&[(TO, expected)]);
    }
}

#[test]
fn eps_6_local_is_exactly_this_nodes_name() {
    let local = |config: &str, node: &str| {
        world()
            .config(config)
            .service("web", &format!("clusterIP: 172.30.0.41, internalTrafficPolicy: Local, {PORT}"))
            .slice_with(
                OURS,
                &format!("addressType: IPv4, ports: [{{name: http, port: 8080}}], endpoints: [{{addresses: [10.0.1.2]{node}}}]"),
            )
    };
    for (config, node, expected) in [
        ("nodeName: here", ", nodeName: here", "dnat 10.0.1.2:8080"),
        ("nodeName: here", ", nodeName: HERE", "drop no_local_endpoint_internal"),
        ("nodeName: here", ", nodeName: here.example", "drop no_local_endpoint_internal"),
        ("nodeName: here", ", nodeName: ''", "drop no_local_endpoint_internal"),
        ("nodeName: here", ", nodeName: null", "drop no_local_endpoint_internal"),
        ("nodeName: here", "", "drop no_local_endpoint_internal"),
        ("role: node", ", nodeName: here", "drop no_local_endpoint_internal"),
        ("role: node", "", "drop no_local_endpoint_internal"),
        ("role: node, nodeName: ''", ", nodeName: ''", "drop no_local_endpoint_internal"),
    ] {
        local(config, node).check(&[(TO, expected)]);
    }
}

#[test]
fn eps_7_an_endpoint_in_several_slices_counts_once() {
    web()
        .slice("web", "10.0.1.2 10.0.1.3")
        .slice("web", "10.0.1.2 10.0.1.2")
        .check(&[(TO, "dnat 10.0.1.2:8080 10.0.1.3:8080")]);
    // The one that stays beats the one that goes.
    for (one, other) in
        [("10.0.1.2!st", "10.0.1.2"), ("10.0.1.2", "10.0.1.2!t"), ("10.0.1.2!t", "10.0.1.2!rs")]
    {
        web().slice("web", one).slice("web", other).check(&[(TO, "dnat 10.0.1.2:8080")]);
    }
    // A starting pod took over the address of one that goes: not ready yet.
    web()
        .slice("web", "10.0.1.2!st")
        .slice("web", "10.0.1.2!")
        .check(&[(TO, "reject no_endpoints")]);
}

#[test]
fn eps_11_a_port_without_its_own_slice_port_is_refused() {
    world()
        .service("web", "clusterIP: 172.30.0.41, ports: [{name: http, port: 80}, {name: https, port: 443}, {name: u, port: 80, protocol: UDP}]")
        .slice("web", "10.0.1.2")
        .check(&[
            (TO, "dnat 10.0.1.2:8080"),
            ("pod -> 172.30.0.41:443", "reject no_endpoints"),
            ("udp pod -> 172.30.0.41:80", "reject no_endpoints"),
        ]);
    for ports in [
        "{name: HTTP, port: 8080}",
        "{name: http, port: 8080, protocol: UDP}",
        "{name: '', port: 8080}",
    ] {
        web().slice_at("web", ports, "10.0.1.2").check(&[(TO, "reject no_endpoints")]);
    }
}

#[test]
fn eps_13_pods_become_the_endpoints_their_controller_would_write() {
    let pod = |name: &str, ip: &str, ready: &str, more: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: web}}{more}}}, spec: {{nodeName: here, containers: [{{name: c, ports: [{{name: web, containerPort: 8080}}]}}]}}, status: {{podIP: {ip}, conditions: [{{type: Ready, status: '{ready}'}}]}}}}"
        )
    };
    let leaving = ", deletionTimestamp: '2024-01-01T00:00:00Z'";
    let spec = "clusterIP: 172.30.0.41, selector: {app: web}, ports: [{name: http, port: 80, targetPort: web}]";
    world()
        .service("web", spec)
        .object(&pod("a", "10.0.1.2", "True", ""))
        .object(&pod("b", "10.0.1.3", "False", ""))
        .object(&pod("c", "10.0.1.4", "True", leaving))
        .check(&[(TO, "dnat 10.0.1.2:8080")]);
    world()
        .service("web", spec)
        .object(&pod("c", "10.0.1.4", "True", leaving))
        .check(&[(TO, "dnat 10.0.1.4:8080")]);
    world()
        .service("web", &format!("{spec}, publishNotReadyAddresses: true"))
        .object(&pod("b", "10.0.1.3", "False", leaving))
        .check(&[(TO, "dnat 10.0.1.3:8080")]);
}

#[test]
fn eps_14_addresses_that_nobody_can_reach_are_left_out() {
    web()
        .slice("web", "127.0.0.1 169.254.169.254 0.0.0.0 224.0.0.5 10.0.1.2")
        .check(&[(TO, "dnat 10.0.1.2:8080")]);
    world()
        .service("web", &format!("clusterIP: 'fd00:30::41', {PORT}"))
        .slice("web", "fd00:10::1:2 ::1 fe80::1 :: ff02::1")
        .check(&[("pod -> [fd00:30::41]:80", "dnat [fd00:10::1:2]:8080")]);
}

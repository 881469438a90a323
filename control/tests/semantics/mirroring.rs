//! Endpoints objects and slices written by hand.

use crate::world::{PORT, TWO, World, world};

const TO: &str = "pod -> 172.30.0.41:80";

fn web() -> World {
    world().service("web", &format!("clusterIP: 172.30.0.41, {PORT}"))
}

fn endpoints(metadata: &str, subsets: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Endpoints, metadata: {{name: web{metadata}}}, subsets: {subsets}}}"
    )
}

const SUBSET: &str = "[{addresses: [{ip: 10.0.1.8}], notReadyAddresses: [{ip: 10.0.1.9}], ports: [{name: http, port: 8080}]}]";

#[test]
fn end_1_beside_slices_endpoints_are_not_read() {
    web()
        .slice("web", TWO)
        .object(&endpoints("", SUBSET))
        .check(&[(TO, "dnat 10.0.1.2:8080 10.0.1.3:8080")]);
}

#[test]
fn end_2_endpoints_of_a_service_without_selector_are_mirrored() {
    web().object(&endpoints("", SUBSET)).check(&[(TO, "dnat 10.0.1.8:8080")]);
    for (metadata, expected) in [
        (", labels: {endpointslice.kubernetes.io/skip-mirror: 'true'}", "reject no_endpoints"),
        (", labels: {endpointslice.kubernetes.io/skip-mirror: 'false'}", "dnat 10.0.1.8:8080"),
        (", annotations: {control-plane.alpha.kubernetes.io/leader: '{}'}", "reject no_endpoints"),
        (", labels: {service.kubernetes.io/headless: null}", "reject no_endpoints"),
        (", namespace: other", "reject no_endpoints"),
    ] {
        web().object(&endpoints(metadata, SUBSET)).check(&[(TO, expected)]);
    }
    world()
        .service("web", &format!("clusterIP: 172.30.0.41, selector: {{app: web}}, {PORT}"))
        .object(&endpoints("", SUBSET))
        .check(&[(TO, "reject no_endpoints")]);
}

#[test]
fn end_2_subsets_are_joined_and_split_by_family() {
    let subsets = "[{addresses: [{ip: 10.0.1.2, nodeName: here}, {ip: 'fd00:10::1:2'}], ports: [{name: http, port: 8080}]}, \
                    {addresses: [{ip: 10.0.1.2, nodeName: here}, {ip: 10.0.1.3}], ports: [{name: http, port: 9090}]}, {addresses: null, ports: null}]";
    web()
        .object(&endpoints("", subsets))
        .check(&[(TO, "dnat 10.0.1.2:8080 10.0.1.2:9090 10.0.1.3:9090")]);
    world()
        .service("web", &format!("clusterIP: 172.30.0.41, internalTrafficPolicy: Local, {PORT}"))
        .object(&endpoints("", subsets))
        .check(&[(TO, "dnat 10.0.1.2:8080 10.0.1.2:9090")]);
    for none in ["null", "[]"] {
        web().object(&endpoints("", none)).check(&[(TO, "reject no_endpoints")]);
    }
}

#[test]
fn end_3_slices_by_hand_need_neither_node_nor_conditions() {
    web()
        .slice_with(
            "kubernetes.io/service-name: web, endpointslice.kubernetes.io/managed-by: me",
            "addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [198.51.100.200]}]",
        )
        .check(&[(TO, "dnat 198.51.100.200:8080"), ("outside -> 172.30.0.41:80", "dnat 198.51.100.200:8080*")]);
}

#[test]
fn end_4_several_slices_and_ports_are_joined() {
    world()
        .service(
            "web",
            "clusterIP: 172.30.0.41, ports: [{name: http, port: 80}, {name: metrics, port: 81}]",
        )
        .slice_at("web", "{name: http, port: 8080}, {name: metrics, port: 9100}", "10.0.1.2")
        .slice_at("web", "{name: http, port: 8081}", "10.0.1.2 10.0.1.3")
        .check(&[
            (TO, "dnat 10.0.1.2:8080 10.0.1.2:8081 10.0.1.3:8081"),
            ("pod -> 172.30.0.41:81", "dnat 10.0.1.2:9100"),
        ]);
}

#[test]
fn end_5_an_unnamed_port_is_the_empty_name() {
    let unnamed = "[{addresses: [{ip: 10.0.1.8}], ports: [{port: 8080}]}]";
    world()
        .service("web", "clusterIP: 172.30.0.41, ports: [{port: 80}]")
        .object(&endpoints("", unnamed))
        .check(&[(TO, "dnat 10.0.1.8:8080")]);
    web().object(&endpoints("", unnamed)).check(&[(TO, "reject no_endpoints")]);
}

#[test]
fn end_6_without_selector_and_slices_it_refuses() {
    web().check(&[(TO, "reject no_endpoints")]);
}

#[test]
fn end_7_endpoints_on_no_node_are_never_local() {
    let spec = "clusterIP: 172.30.0.41, internalTrafficPolicy: Local, externalTrafficPolicy: Local, externalIPs: [198.51.100.9]";
    world().service("web", &format!("{spec}, {PORT}")).slice("web", "10.0.1.2 10.0.1.3").check(&[
        (TO, "drop no_local_endpoint_internal"),
        ("outside -> 198.51.100.9:80", "drop no_local_endpoint_external"),
    ]);
}

//! Services and slices that are left alone.

use crate::world::{NODE_PORT, TWO, world};

#[test]
fn exc_1_a_proxy_name_of_any_value_means_hands_off() {
    for value in ["other", "''", "kube-proxy", "null"] {
        world()
            .service_with(
                &format!(
                    "name: web, labels: {{service.kubernetes.io/service-proxy-name: {value}}}"
                ),
                &format!("clusterIP: 172.30.0.41, externalIPs: [198.51.100.9], {NODE_PORT}"),
                "",
            )
            .slice("web", TWO)
            .check(&[
                ("pod -> 172.30.0.41:80", "drop service_address_unallocated"),
                ("outside -> 198.51.100.9:80", "not-service no_service"),
                ("outside -> 192.0.2.10:30080", "not-service node_address"),
            ]);
    }
    // On a slice, or as an annotation, it says nothing.
    world()
        .service_with("name: web, annotations: {service.kubernetes.io/service-proxy-name: other}", &format!("clusterIP: 172.30.0.41, {NODE_PORT}"), "")
        .slice_with(
            "kubernetes.io/service-name: web, service.kubernetes.io/service-proxy-name: other",
            "addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.0.1.2]}]",
        )
        .check(&[("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080")]);
}

#[test]
fn exc_3_the_headless_label_takes_the_endpoints_away() {
    for value in ["''", "'true'", "null"] {
        world()
            .service_with(
                &format!("name: web, labels: {{service.kubernetes.io/headless: {value}}}"),
                &format!("clusterIP: 172.30.0.41, {NODE_PORT}"),
                "",
            )
            .slice("web", TWO)
            .check(&[("pod -> 172.30.0.41:80", "reject no_endpoints")]);
        world()
            .service("web", &format!("clusterIP: 172.30.0.41, {NODE_PORT}"))
            .slice_with(
                &format!("kubernetes.io/service-name: web, service.kubernetes.io/headless: {value}"),
                "addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.0.1.2]}]",
            )
            .check(&[("pod -> 172.30.0.41:80", "reject no_endpoints")]);
    }
}

#[test]
fn exc_4_headless_services_are_reached_at_their_pods() {
    world()
        .service("web", "clusterIP: None, ports: [{name: http, port: 80}]")
        .slice("web", TWO)
        .check(&[
            ("pod -> 10.0.1.2:8080", "not-service no_service"),
            ("outside -> 10.0.1.3:8080", "not-service no_service"),
        ]);
}

#[test]
fn exc_5_external_names_have_no_rows() {
    world()
        .service("web", "type: ExternalName, externalName: 192.0.2.77, clusterIP: 172.30.0.41, ports: [{name: http, port: 80, nodePort: 30080}]")
        .slice("web", TWO)
        .check(&[
            ("outside -> 192.0.2.77:80", "not-service no_service"),
            ("outside -> 192.0.2.10:30080", "not-service node_address"),
        ]);
}

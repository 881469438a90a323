//! Topology hints. The gateway is node `here` in zone `near`.

use crate::world::{NODE_PORT, PORT, World, world};

const TO: &str = "pod -> 172.30.0.41:80";

fn web(endpoints: &str) -> World {
    world().service("web", &format!("clusterIP: 172.30.0.41, {PORT}")).slice("web", endpoints)
}

#[test]
fn top_2_hints_for_this_node_come_first() {
    for (endpoints, expected) in [
        ("10.0.1.2/near#here 10.0.1.3/near#there", "dnat 10.0.1.2:8080"),
        ("10.0.1.2#here 10.0.1.3#there,here 10.0.1.4#there", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
        // Not all have one.
        ("10.0.1.2#here 10.0.1.3", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
        ("10.0.1.2/near#here 10.0.1.3/near", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
        // None names this node: zones decide.
        ("10.0.1.2/near#there 10.0.1.3/far#there", "dnat 10.0.1.2:8080"),
        ("10.0.1.2#there 10.0.1.3#there", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
    ] {
        web(endpoints).check(&[(TO, expected)]);
    }
}

#[test]
fn top_3_then_hints_for_this_zone() {
    for (endpoints, expected) in [
        ("10.0.1.2/near 10.0.1.3/far", "dnat 10.0.1.2:8080"),
        ("10.0.1.2/far,near 10.0.1.3/far", "dnat 10.0.1.2:8080"),
        ("10.0.1.2@here/far 10.0.1.3@there/near", "dnat 10.0.1.3:8080"),
        ("10.0.1.2/NEAR 10.0.1.3/far", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
    ] {
        web(endpoints).check(&[(TO, expected)]);
    }
}

#[test]
fn top_4_anything_missing_switches_it_off() {
    for endpoints in ["10.0.1.2/near 10.0.1.3", "10.0.1.2/far 10.0.1.3/farther"] {
        web(endpoints).check(&[(TO, "dnat 10.0.1.2:8080 10.0.1.3:8080")]);
    }
    for labels in [
        "",
        ", nodeLabels: {}",
        ", nodeLabels: {topology.kubernetes.io/zone: ''}",
        ", nodeLabels: {failure-domain.beta.kubernetes.io/zone: near}",
    ] {
        web("10.0.1.2/near 10.0.1.3/far")
            .config(&format!("nodeName: here, clusterCIDR: 10.0.0.0/16{labels}"))
            .check(&[(TO, "dnat 10.0.1.2:8080 10.0.1.3:8080")]);
    }
    for hints in ["null", "{}", "{forZones: null}", "{forZones: [], forNodes: []}"] {
        web("10.0.1.2/near")
            .slice_with(
                "kubernetes.io/service-name: web",
                &format!("addressType: IPv4, ports: [{{name: http, port: 8080}}], endpoints: [{{addresses: [10.0.1.3], zone: near, hints: {hints}}}]"),
            )
            .check(&[(TO, "dnat 10.0.1.2:8080 10.0.1.3:8080")]);
    }
}

#[test]
fn top_1_top_5_eps_9_only_ready_endpoints_are_asked() {
    for (endpoints, expected) in [
        ("10.0.1.2/near 10.0.1.3/far 10.0.1.4!s", "dnat 10.0.1.2:8080"),
        ("10.0.1.2/near 10.0.1.3/far 10.0.1.4!st", "dnat 10.0.1.2:8080"),
        ("10.0.1.2!s/near 10.0.1.3/far", "dnat 10.0.1.3:8080"),
        // None is ready: the fallback knows no zones.
        ("10.0.1.2!st/near 10.0.1.3!st/far", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
        // The only ready one is far, a draining one near: ready first.
        ("10.0.1.2!st/near 10.0.1.3/far 10.0.1.4/far", "dnat 10.0.1.3:8080 10.0.1.4:8080"),
    ] {
        web(endpoints).check(&[(TO, expected)]);
    }
}

#[test]
fn top_5_each_port_of_a_service_decides_for_itself() {
    world()
        .service(
            "web",
            "clusterIP: 172.30.0.41, ports: [{name: http, port: 80}, {name: other, port: 81}]",
        )
        .slice("web", "10.0.1.2/near 10.0.1.3/far")
        .slice_at("web", "{name: other, port: 8081}", "10.0.1.2/near 10.0.1.3")
        .check(&[
            (TO, "dnat 10.0.1.2:8080"),
            ("pod -> 172.30.0.41:81", "dnat 10.0.1.2:8081 10.0.1.3:8081"),
        ]);
}

#[test]
fn top_6_annotations_and_distribution_play_no_part() {
    for (metadata, spec) in [
        ("", ""),
        (", annotations: {service.kubernetes.io/topology-mode: Disabled}", ""),
        ("", "trafficDistribution: PreferClose, "),
        (", annotations: {service.kubernetes.io/topology-mode: Auto}", ""),
    ] {
        let web = |endpoints| {
            world()
                .service_with(
                    &format!("name: web{metadata}"),
                    &format!("clusterIP: 172.30.0.41, {spec}{PORT}"),
                    "",
                )
                .slice("web", endpoints)
        };
        web("10.0.1.2/near 10.0.1.3/far").check(&[(TO, "dnat 10.0.1.2:8080")]);
        web("10.0.1.2 10.0.1.3").check(&[(TO, "dnat 10.0.1.2:8080 10.0.1.3:8080")]);
    }
}

#[test]
fn top_8_hints_never_shrink_a_local_list() {
    world()
        .service(
            "web",
            &format!("clusterIP: 172.30.0.41, externalTrafficPolicy: Local, {NODE_PORT}"),
        )
        .slice("web", "10.0.1.2@here/far 10.0.1.3@there/near 10.0.1.4@here/far")
        .check(&[
            ("outside -> 192.0.2.10:30080", "dnat 10.0.1.2:8080 10.0.1.4:8080"),
            ("pod -> 192.0.2.10:30080", "dnat 10.0.1.3:8080"),
            ("pod -> 172.30.0.41:80", "dnat 10.0.1.3:8080"),
        ]);
    world()
        .service("web", &format!("clusterIP: 172.30.0.41, internalTrafficPolicy: Local, {PORT}"))
        .slice("web", "10.0.1.2@here/far 10.0.1.3@there/near")
        .check(&[(TO, "dnat 10.0.1.2:8080")]);
}

#[test]
fn top_3_zones_work_without_a_node_name() {
    web("10.0.1.2/near#there 10.0.1.3/far#here")
        .config(
            "role: node, nodeLabels: {topology.kubernetes.io/zone: near}, clusterCIDR: 10.0.0.0/16",
        )
        .check(&[(TO, "dnat 10.0.1.2:8080")]);
}

#[test]
fn top_10_a_gateway_without_endpoints_falls_back_to_its_zone_then_to_all() {
    // As controllers write it for PreferSameNode: each endpoint is hinted for its own node and zone.
    let near = "10.0.1.2@a/near#a 10.0.1.3@b/near#b";
    let far = "10.0.1.4@c/far#c";
    for (endpoints, expected) in [
        (format!("{near} {far}"), "dnat 10.0.1.2:8080 10.0.1.3:8080"),
        (format!("{far} 10.0.1.5@d/farther#d"), "dnat 10.0.1.4:8080 10.0.1.5:8080"),
        // Were one here, it would be the only one.
        (format!("{near} {far} 10.0.1.6@here/near#here"), "dnat 10.0.1.6:8080"),
    ] {
        web(&endpoints).check(&[(TO, expected)]);
    }
}

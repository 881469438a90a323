//! Which Services have rows, and what a row says.

use crate::world::{NODE_PORT, PORT, TWO, world};

#[test]
fn obj_1_each_port_and_protocol_is_a_row_of_its_own() {
    let ports = "ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53}]";
    let w = world()
        .service("web", &format!("clusterIP: 172.30.0.41, {ports}"))
        .slice_at(
            "web",
            "{name: http, port: 8080}, {name: dns, port: 5353, protocol: UDP}, {name: dns-tcp, port: 5354}",
            "10.0.1.2",
        );
    w.check(&[
        ("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080"),
        ("udp pod -> 172.30.0.41:53", "dnat 10.0.1.2:5353"),
        ("tcp pod -> 172.30.0.41:53", "dnat 10.0.1.2:5354"),
        ("udp pod -> 172.30.0.41:80", "reject unknown_port"),
    ]);
    let told = w.ask(&["pod -> 172.30.0.41:80", "udp pod -> 172.30.0.41:53"]);
    let names: Vec<_> = told.iter().map(|told| told.service.as_deref()).collect();
    assert_eq!(names, [Some("default/web:http"), Some("default/web:dns")]);
}

#[test]
fn obj_1_an_unnamed_port_takes_the_unnamed_slice_port() {
    let w = world()
        .service_with("namespace: demo, name: web", "clusterIP: 172.30.0.41, ports: [{port: 80}]", "")
        .object(
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: demo, name: s, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: '', port: 8080}], endpoints: [{addresses: [10.0.1.2]}]}",
        );
    w.check(&[("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080")]);
    assert_eq!(w.ask(&["pod -> 172.30.0.41:80"])[0].service.as_deref(), Some("demo/web:80"));
}

#[test]
fn obj_3_services_without_a_cluster_ip_are_nobodys() {
    let external = "externalIPs: [198.51.100.9], ports: [{name: http, port: 80}]";
    for kind in [
        "clusterIP: None",
        "clusterIPs: [None]",
        "clusterIP: None, clusterIPs: [None], ipFamilies: [IPv4]",
        "type: ExternalName, externalName: example.org",
        "type: ExternalName, externalName: example.org, clusterIP: 172.30.0.41",
    ] {
        world().service("web", &format!("{kind}, {external}")).slice("web", TWO).check(&[
            ("outside -> 172.30.0.41:80", "drop service_address_unallocated"),
            ("outside -> 198.51.100.9:80", "not-service no_service"),
            ("outside -> 10.0.1.2:8080", "not-service no_service"),
        ]);
    }
}

#[test]
fn obj_4_a_family_without_cluster_ip_has_no_way_in() {
    let both = "externalIPs: [198.51.100.9, '2001:db8:9::9'], type: NodePort, ports: [{name: http, port: 80, nodePort: 30080}]";
    world()
        .balanced(
            "four",
            &format!("clusterIP: 172.30.0.41, {both}"),
            "{ip: 203.0.113.80}, {ip: '2001:db8:9::80'}",
        )
        .slice("four", TWO)
        .slice("four", "fd00:10::1:2@here")
        .check(&[
            ("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
            ("outside -> 198.51.100.9:80", "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
            ("outside -> 203.0.113.80:80", "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
            ("outside -> 192.0.2.10:30080", "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
            ("outside -> [2001:db8:9::9]:80", "not-service no_service"),
            ("outside -> [2001:db8:9::80]:80", "not-service no_service"),
            ("outside -> [fd00:2::10]:30080", "not-service node_address"),
        ]);
    world()
        .balanced(
            "six",
            &format!("clusterIP: 'fd00:30::41', {both}"),
            "{ip: 203.0.113.80}, {ip: '2001:db8:9::80'}",
        )
        .slice("six", TWO)
        .slice("six", "fd00:10::1:2@here")
        .check(&[
            ("pod -> [fd00:30::41]:80", "dnat [fd00:10::1:2]:8080"),
            ("outside -> [2001:db8:9::9]:80", "dnat [fd00:10::1:2]:8080*"),
            ("outside -> [2001:db8:9::80]:80", "dnat [fd00:10::1:2]:8080*"),
            ("outside -> [fd00:2::10]:30080", "dnat [fd00:10::1:2]:8080*"),
            ("outside -> 198.51.100.9:80", "not-service no_service"),
            ("outside -> 203.0.113.80:80", "not-service no_service"),
            ("outside -> 192.0.2.10:30080", "not-service node_address"),
        ]);
}

#[test]
fn obj_5_cluster_ips_go_with_ip_families() {
    let four = ("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080");
    let no_four = ("pod -> 172.30.0.41:80", "drop service_address_unallocated");
    let six = ("pod -> [fd00:30::41]:80", "dnat [fd00:10::1:2]:8080");
    let no_six = ("pod -> [fd00:30::41]:80", "drop service_address_unallocated");
    for (ips, expected) in [
        ("clusterIP: 172.30.0.41", [four, no_six]),
        ("clusterIP: 172.30.0.41, clusterIPs: [172.30.0.41]", [four, no_six]),
        ("clusterIPs: [172.30.0.41]", [four, no_six]),
        (
            "clusterIP: 'fd00:30::41', clusterIPs: ['fd00:30::41'], ipFamilies: [IPv6]",
            [no_four, six],
        ),
        (
            "clusterIP: 172.30.0.41, clusterIPs: [172.30.0.41, 'fd00:30::41'], ipFamilies: [IPv4, IPv6]",
            [four, six],
        ),
        (
            "clusterIP: 'fd00:30::41', clusterIPs: ['fd00:30::41', 172.30.0.41], ipFamilies: [IPv6, IPv4]",
            [four, six],
        ),
        // Without families only the single one counts.
        ("clusterIP: 172.30.0.41, clusterIPs: [172.30.0.41, 'fd00:30::41']", [four, no_six]),
        ("clusterIP: 'fd00:30::41', clusterIPs: ['fd00:30::41', 172.30.0.41]", [no_four, six]),
        // The API server fills in the families of whoever asks for both.
        ("clusterIPs: [172.30.0.41, 'fd00:30::41'], ipFamilyPolicy: RequireDualStack", [four, six]),
    ] {
        world()
            .service("web", &format!("{ips}, {PORT}"))
            .slice("web", "10.0.1.2")
            .slice("web", "fd00:10::1:2")
            .check(&expected);
    }
}

#[test]
fn obj_6_external_policy_counts_only_where_there_is_a_way_in() {
    // Without one, a cluster IP's list is not touched by externalTrafficPolicy.
    for (spec, expected) in [
        ("externalTrafficPolicy: Local", "dnat 10.0.1.3:8080"),
        (
            "externalTrafficPolicy: Local, internalTrafficPolicy: Local",
            "drop no_local_endpoint_internal",
        ),
    ] {
        world()
            .service("web", &format!("clusterIP: 172.30.0.41, {spec}, {PORT}"))
            .slice("web", "10.0.1.3@there")
            .check(&[("pod -> 172.30.0.41:80", expected)]);
    }
}

#[test]
fn obj_7_the_slices_name_the_numbers_and_not_the_target_port() {
    world()
        .service("web", "clusterIP: 172.30.0.41, ports: [{name: http, port: 80, targetPort: 9999}]")
        .slice("web", "10.0.1.2")
        .slice_at("web", "{name: http, port: 9090}", "10.0.1.3 10.0.1.2")
        .check(&[("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080 10.0.1.2:9090 10.0.1.3:9090")]);
    for target in ["http", "'8080'", "null", "0"] {
        world()
            .service("web", &format!("clusterIP: 172.30.0.41, ports: [{{name: http, port: 80, targetPort: {target}}}]"))
            .slice("web", "10.0.1.2")
            .check(&[("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080")]);
    }
}

#[test]
fn obj_8_leading_zeros_and_other_spellings_are_one_address() {
    world()
        .balanced(
            "web",
            &format!("clusterIP: 172.30.0.041, clusterIPs: [172.30.0.041], externalIPs: [198.051.100.009], loadBalancerSourceRanges: ['203.0.113.000/025'], {PORT}"),
            "{ip: 203.000.113.080}",
        )
        .slice("web", "010.000.001.002")
        .check(&[
            ("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080"),
            ("pod -> 172.030.000.041:80", "dnat 10.0.1.2:8080"),
            ("outside -> 198.51.100.9:80", "dnat 10.0.1.2:8080*"),
            ("203.0.113.127 -> 203.0.113.80:80", "dnat 10.0.1.2:8080*"),
            ("203.0.113.128 -> 203.0.113.80:80", "drop source_not_allowed"),
        ]);
    world()
        .balanced(
            "six",
            &format!("clusterIP: 'FD00:0030:0:0::0041', externalIPs: ['2001:0DB8:9:0:0:0:0:9'], loadBalancerSourceRanges: ['2001:DB8:0::/64'], {PORT}"),
            "{ip: '2001:db8:9::0.0.0.128'}",
        )
        .slice("six", "fd00:10:0:0:0:0:1:2")
        .check(&[
            ("pod -> [fd00:30::41]:80", "dnat [fd00:10::1:2]:8080"),
            ("outside -> [2001:db8:9::9]:80", "dnat [fd00:10::1:2]:8080*"),
            ("outside -> [2001:db8:9::80]:80", "dnat [fd00:10::1:2]:8080*"),
            ("2001:db8:0:1::7 -> [2001:db8:9::80]:80", "drop source_not_allowed"),
        ]);
}

#[test]
fn obj_10_what_is_left_out_has_the_api_s_defaults() {
    // No protocol, type, policies, ipMode, affinity, conditions; null where a list might be.
    world()
        .balanced(
            "web",
            "clusterIP: 172.30.0.41, selector: null, externalIPs: null, loadBalancerSourceRanges: null, ports: [{name: http, port: 80, protocol: null, nodePort: null}]",
            "{ip: 203.0.113.80, ipMode: null, ports: null}",
        )
        .slice_with(
            "kubernetes.io/service-name: web",
            "addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.0.1.2], conditions: null, hints: null}, {addresses: [10.0.1.3], conditions: {}}]",
        )
        .check(&[
            ("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080 10.0.1.3:8080"),
            ("pod -> 203.0.113.80:80", "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
        ]);
}

#[test]
fn obj_2_a_node_port_counts_whatever_the_type() {
    for kind in ["type: ClusterIP", "type: null", "type: LoadBalancer"] {
        world()
            .service("web", &format!("clusterIP: 172.30.0.41, {kind}, ports: [{{name: http, port: 80, nodePort: 30080}}]"))
            .slice("web", "10.0.1.2")
            .check(&[("outside -> 192.0.2.10:30080", "dnat 10.0.1.2:8080*")]);
    }
}

#[test]
fn obj_13_the_order_of_documents_decides_nothing() {
    let service = "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 172.30.0.41, ports: [{name: http, port: 80}]}}";
    let slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.0.1.2]}]}";
    for order in [[service, slice], [slice, service]] {
        world()
            .object(order[0])
            .object(order[1])
            .check(&[("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080")]);
    }
}

#[test]
fn obj_14_the_older_service_has_a_contested_address() {
    let spec = |ip: &str| format!("clusterIP: {ip}, externalIPs: [198.51.100.9], {PORT}");
    for (a, b, winner) in [
        ("'2024-01-01T00:00:00Z'", "'2024-01-02T00:00:00Z'", "dnat 10.0.1.2:8080*"),
        ("'2024-01-02T00:00:00Z'", "'2024-01-01T00:00:00Z'", "dnat 10.0.1.3:8080*"),
        ("'2024-01-01T00:00:00Z'", "'2024-01-01T00:00:00Z'", "dnat 10.0.1.2:8080*"),
        ("null", "'2024-01-01T00:00:00Z'", "dnat 10.0.1.3:8080*"),
        ("null", "null", "dnat 10.0.1.2:8080*"),
    ] {
        world()
            .service_with(&format!("name: b, creationTimestamp: {b}"), &spec("172.30.0.42"), "")
            .service_with(&format!("name: a, creationTimestamp: {a}"), &spec("172.30.0.41"), "")
            .slice("a", "10.0.1.2")
            .slice("b", "10.0.1.3")
            .check(&[
                ("outside -> 198.51.100.9:80", winner),
                ("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080"),
                ("pod -> 172.30.0.42:80", "dnat 10.0.1.3:8080"),
            ]);
    }
}

#[test]
fn obj_14_services_share_an_address_by_ports() {
    world()
        .balanced("a", &format!("clusterIP: 172.30.0.41, {PORT}"), "{ip: 203.0.113.80}")
        .balanced("b", "clusterIP: 172.30.0.42, ports: [{name: http, port: 81}, {name: u, port: 80, protocol: UDP}]", "{ip: 203.0.113.80}")
        .slice("a", "10.0.1.2")
        .slice_at("b", "{name: http, port: 8081}, {name: u, port: 8082, protocol: UDP}", "10.0.1.3")
        .check(&[
            ("outside -> 203.0.113.80:80", "dnat 10.0.1.2:8080*"),
            ("outside -> 203.0.113.80:81", "dnat 10.0.1.3:8081*"),
            ("udp outside -> 203.0.113.80:80", "dnat 10.0.1.3:8082*"),
        ]);
}

#[test]
fn obj_14_the_older_service_has_a_contested_node_port() {
    let spec = |ip: &str| format!("clusterIP: {ip}, {NODE_PORT}");
    world()
        .service_with(
            "name: a, creationTimestamp: '2024-01-02T00:00:00Z'",
            &spec("172.30.0.41"),
            "",
        )
        .service_with(
            "name: b, creationTimestamp: '2024-01-01T00:00:00Z'",
            &spec("172.30.0.42"),
            "",
        )
        .slice("a", "10.0.1.2")
        .slice("b", "10.0.1.3")
        .check(&[("outside -> 192.0.2.10:30080", "dnat 10.0.1.3:8080*")]);
}

#[test]
fn obj_1_lists_and_other_kinds_are_read_through() {
    let service = |name: &str, ip: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{clusterIP: {ip}, {PORT}}}}}"
        )
    };
    world()
        .object(&format!(
            "{{apiVersion: v1, kind: List, items: [{}, {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: d}}}}]}}",
            service("a", "172.30.0.41")
        ))
        .object(&format!(
            "{{apiVersion: v1, kind: ServiceList, metadata: {{}}, items: [{{metadata: {{name: b}}, spec: {{clusterIP: 172.30.0.42, {PORT}}}}}]}}"
        ))
        .object("{apiVersion: discovery.k8s.io/v1, kind: EndpointSliceList, items: null}")
        .slice("a", "10.0.1.2")
        .slice("b", "10.0.1.3")
        .check(&[
            ("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080"),
            ("pod -> 172.30.0.42:80", "dnat 10.0.1.3:8080"),
        ]);
}

#[test]
fn obj_1_an_object_that_cannot_be_read_costs_only_itself() {
    world()
        .service("web", &format!("clusterIP: 172.30.0.41, {PORT}"))
        .slice("web", "10.0.1.2")
        .object("{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {clusterIP: 172.30.0.42, ports: [{port: http}]}}")
        .object("{apiVersion: v1, kind: Service, metadata: {name: none}, spec: null}")
        .object("{apiVersion: v1, kind: Service, spec: {clusterIP: 172.30.0.43}}")
        .object("{apiVersion: v1")
        .object("kind: ''")
        .check(&[
            ("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080"),
            ("pod -> 172.30.0.42:80", "drop service_address_unallocated"),
        ]);
}

#[test]
fn settings_without_a_value_are_as_if_left_out() {
    world()
        .config("nodeName: here, nodeIPs: null, nodeLabels: null, clusterCIDR: null, serviceCIDRs: null, nodePortAddresses: null")
        .service("web", &format!("clusterIP: 172.30.0.41, {PORT}"))
        .slice("web", "10.0.1.2")
        .check(&[("outside -> 172.30.0.41:80", "dnat 10.0.1.2:8080")]);
}

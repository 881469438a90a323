//! Protocols.

use crate::world::{TWO, world};

#[test]
fn pro_1_protocols_are_matched_exactly() {
    for (protocol, others) in
        [("TCP", ["udp", "sctp"]), ("UDP", ["tcp", "sctp"]), ("SCTP", ["tcp", "udp"])]
    {
        let own = protocol.to_lowercase();
        let w = world()
            .service("four", &format!("clusterIP: 172.30.0.41, ports: [{{name: http, port: 80, protocol: {protocol}}}]"))
            .service("six", &format!("clusterIP: 'fd00:30::41', ports: [{{name: http, port: 80, protocol: {protocol}}}]"))
            .slice_at("four", &format!("{{name: http, port: 8080, protocol: {protocol}}}"), TWO)
            .slice_at("six", &format!("{{name: http, port: 8080, protocol: {protocol}}}"), "fd00:10::1:2");
        w.check(&[
            (&format!("{own} outside -> 172.30.0.41:80"), "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
            (&format!("{own} outside -> [fd00:30::41]:80"), "dnat [fd00:10::1:2]:8080*"),
        ]);
        for other in others {
            w.check(&[
                (&format!("{other} outside -> 172.30.0.41:80"), "reject unknown_port"),
                (&format!("{other} outside -> [fd00:30::41]:80"), "reject unknown_port"),
            ]);
        }
    }
}

#[test]
fn pro_1_a_port_of_an_unknown_protocol_costs_only_itself() {
    world()
        .service("web", "clusterIP: 172.30.0.41, ports: [{name: x, port: 79, protocol: DCCP}, {name: http, port: 80}]")
        .slice("web", "10.0.1.2")
        .check(&[("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080"), ("pod -> 172.30.0.41:79", "reject unknown_port")]);
}

#[test]
fn pro_7_app_protocol_is_ignored() {
    world()
        .service("web", "clusterIP: 172.30.0.41, ports: [{name: http, port: 80, appProtocol: kubernetes.io/h2c}]")
        .slice_at("web", "{name: http, port: 8080, appProtocol: https}", "10.0.1.2")
        .check(&[("pod -> 172.30.0.41:80", "dnat 10.0.1.2:8080")]);
}

#[test]
fn pro_8_one_number_for_all_protocols() {
    world()
        .service("dns", "clusterIP: 172.30.0.10, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]")
        .slice_at("dns", "{name: dns, port: 1053, protocol: UDP}, {name: dns-tcp, port: 1054}", "10.0.1.2")
        .check(&[
            ("udp pod -> 172.30.0.10:53", "dnat 10.0.1.2:1053"),
            ("tcp pod -> 172.30.0.10:53", "dnat 10.0.1.2:1054"),
        ]);
    // Even under one name.
    world()
        .service("dns", "clusterIP: 172.30.0.10, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns, port: 53}]")
        .slice_at("dns", "{name: dns, port: 1053, protocol: UDP}, {name: dns, port: 1054}", "10.0.1.2")
        .check(&[
            ("udp pod -> 172.30.0.10:53", "dnat 10.0.1.2:1053"),
            ("tcp pod -> 172.30.0.10:53", "dnat 10.0.1.2:1054"),
        ]);
}

//! The kernel twin: what the node itself says and hears.

use dataplane::flow::Protocol::{Tcp, Udp};
use dataplane::verdict::DropReason::*;

use super::*;
use crate::support::gateway::{FAMILIES, Family, at};
use crate::support::packet::*;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![lldp()];
    for f in FAMILIES {
        cases.extend([
            own_traffic(f),
            own_connection_to_an_endpoint(f),
            own_connection_to_a_vip(f),
            own_datagram_that_is_refused(f),
            error_of_the_kernel(f),
            endpoint_on_the_node(f),
            endpoint_on_the_node_is_not_masqueraded(f),
            direct_to_an_endpoint_on_the_node(f),
            punt_ring_full(f),
        ]);
    }
    cases
}

/// As the kernel wrote it.
fn untouched(port: PortId, packet: Packet) -> Fate {
    Fate::Sent(port, from_kernel(port, packet))
}

/// For the kernel, from the engine: own MAC address on both sides.
fn to_kernel(port: PortId, packet: Packet) -> Fate {
    let mac = if port == OUT { OUT_MAC } else { IN_MAC };
    Fate::Punted(port, packet.macs(mac, mac).frame())
}

fn lldp() -> Case {
    case("the kernel may speak what the engine does not").then(|gateway| {
        let frame = [&[1, 0x80, 0xc2, 0, 0, 14][..], &OUT_MAC, &[0x88, 0xcc], &[2; 40]].concat();
        assert_eq!(gateway.inject(OUT, &frame), Fate::Sent(OUT, frame));
    })
}

fn own_traffic(f: Family) -> Case {
    let ssh = tcp(at(f.node_out, 22), at(f.client, 5000)).flags(ACK);
    let group = if f.v4 { "224.0.0.5" } else { "ff02::5" };
    let hello = raw(f.node_out, group, 89, &[1; 24]).ttl(1);
    let question = udp(at(f.node_out, 40_001), at(f.client, 53)).payload(&[7; 100]);
    let pieces = question.fragments(4, 40);
    case(format!("the node's own traffic, v4 {}", f.v4))
        .kernel(OUT, ssh.clone(), untouched(OUT, ssh))
        .kernel(OUT, hello.clone(), untouched(OUT, hello))
        .kernel(
            OUT,
            ping(f.node_out, f.client, b"x"),
            untouched(OUT, ping(f.node_out, f.client, b"x")),
        )
        .kernel(OUT, pieces[0].clone(), untouched(OUT, pieces[0].clone()))
        .kernel(OUT, pieces[1].clone(), untouched(OUT, pieces[1].clone()))
}

/// A health check of a pod that is an endpoint: not the gateway's business, whichever packet of it.
fn own_connection_to_an_endpoint(f: Family) -> Case {
    let (node, backend) = (at(f.node_in, 33_000), at(f.backends[0], 8080));
    let mut case = case(format!("the node asks an endpoint directly, v4 {}", f.v4)).service(
        "ns/web",
        &[Service::new("ns/web:80", Tcp, &[(f.backends[0], 8080)]).cluster_ip(f.cluster_ip, 80)],
    );
    for (out, back) in [(SYN, SYN | ACK), (ACK, ACK), (FIN | ACK, FIN | ACK)] {
        let (packet, reply) = (tcp(node, backend).flags(out), tcp(backend, node).flags(back));
        case = case.kernel(IN, packet.clone(), untouched(IN, packet)).pods(reply.clone(), {
            // The kernel gets it by its own MAC address, as everything that is routed to it.
            to_kernel(IN, reply)
        });
    }
    case
}

fn own_connection_to_a_vip(f: Family) -> Case {
    let (node, vip, backend) =
        (at(f.node_out, 33_000), at(f.cluster_ip, 53), at(f.backends[0], 53));
    let seen_as = at(f.node_in, MASQUERADE_PORT);
    case(format!("the node asks a VIP, v4 {}", f.v4))
        .service(
            "ns/dns",
            &[Service::new("ns/dns:53", Udp, &[(f.backends[0], 53)]).cluster_ip(f.cluster_ip, 53)],
        )
        .kernel(OUT, udp(node, vip), sent_in(udp(seen_as, backend).ttl(63)))
        .pods(udp(backend, seen_as), to_kernel(IN, udp(vip, node)))
        .kernel(OUT, udp(node, vip), sent_in(udp(seen_as, backend).ttl(63)))
}

/// REJ-6: a client in the node's own network hears of it. Its kernel drops what comes from one of its own addresses.
fn own_datagram_that_is_refused(f: Family) -> Case {
    let asked = udp(at(f.node_out, 33_000), at(f.cluster_ip, 53));
    let service = Service::new("ns/dns:53", Udp, &[]).cluster_ip(f.cluster_ip, 53);
    case(format!("the node asks a VIP that nobody serves, v4 {}", f.v4))
        .service("ns/dns", &[service])
        .kernel(
            OUT,
            asked.clone(),
            to_kernel(
                OUT,
                port_unreachable(f.cluster_ip, f.node_out, &asked.ip()).ip_fragment(0, 0),
            ),
        )
}

/// The node has closed its socket when the answer comes.
fn error_of_the_kernel(f: Family) -> Case {
    let (node, vip, backend) =
        (at(f.node_out, 33_000), at(f.cluster_ip, 53), at(f.backends[0], 53));
    let seen_as = at(f.node_in, MASQUERADE_PORT);
    case(format!("the kernel's own ICMP error, v4 {}", f.v4))
        .service(
            "ns/dns",
            &[Service::new("ns/dns:53", Udp, &[(f.backends[0], 53)]).cluster_ip(f.cluster_ip, 53)],
        )
        .kernel(OUT, udp(node, vip), sent_in(udp(seen_as, backend).ttl(63)))
        .pods(udp(backend, seen_as), to_kernel(IN, udp(vip, node)))
        .kernel(
            OUT,
            port_unreachable(f.node_out, f.cluster_ip, &udp(vip, node).ip()),
            sent_in(
                port_unreachable(f.node_in, f.backends[0], &udp(backend, seen_as).ip()).ttl(63),
            ),
        )
}

fn host_network(f: Family) -> [Service; 1] {
    [Service::new("ns/host:80", Tcp, &[(f.node_in, 8080)]).external_local().load_balancer(
        f.load_balancer,
        80,
        &[],
    )]
}

fn endpoint_on_the_node(f: Family) -> Case {
    let (client, vip, backend) = (at(f.client, 5000), at(f.load_balancer, 80), at(f.node_in, 8080));
    case(format!("an endpoint in the node's own network, v4 {}", f.v4))
        .service("ns/host", &host_network(f))
        .outside(tcp(client, vip), to_kernel(OUT, tcp(client, backend)))
        .kernel(
            OUT,
            tcp(backend, client).flags(SYN | ACK),
            sent_out(tcp(vip, client).flags(SYN | ACK).ttl(63)),
        )
        .outside(tcp(client, vip).flags(ACK), to_kernel(OUT, tcp(client, backend).flags(ACK)))
}

/// MSQ-9: the kernel takes no packet that claims to come from itself.
fn endpoint_on_the_node_is_not_masqueraded(f: Family) -> Case {
    let (client, vip, backend) = (at(f.client, 5000), at(f.load_balancer, 80), at(f.node_in, 8080));
    let host = Service::new("ns/host:80", Tcp, &[(f.node_in, 8080)]);
    case(format!("policy Cluster to an endpoint in the node's own network, v4 {}", f.v4))
        .service("ns/host", &[host.load_balancer(f.load_balancer, 80, &[])])
        .outside(tcp(client, vip), to_kernel(OUT, tcp(client, backend)))
}

fn direct_to_an_endpoint_on_the_node(f: Family) -> Case {
    let (client, backend) = (at(f.client, 5000), at(f.node_in, 8080));
    let answer = tcp(backend, client).flags(SYN | ACK);
    case(format!("past the Service to an endpoint on the node, v4 {}", f.v4))
        .service("ns/host", &host_network(f))
        .outside(tcp(client, backend), punted_out(tcp(client, backend)))
        .kernel(OUT, answer.clone(), untouched(OUT, answer))
}

fn punt_ring_full(f: Family) -> Case {
    case("nobody reads the twin").covers(PuntFull).then(move |gateway| {
        let frame = tcp(at(f.client, 5000), at(f.node_out, 22)).macs(ROUTER, OUT_MAC).frame();
        let before = gateway.totals();
        for _ in 0..10 {
            gateway.put(0, OUT, &frame);
        }
        gateway.poll();
        let fates = gateway.collect(&before);
        let count = |wanted: &Fate| fates.iter().filter(|fate| *fate == wanted).count();
        assert_eq!(count(&Fate::Punted(OUT, frame.clone())), 8);
        assert_eq!(count(&dropped(PuntFull)), 2);
        // Read again, it works again.
        assert_eq!(gateway.receive(OUT, &frame), Fate::Punted(OUT, frame));
    })
}

//! What the gateway says in its own name: resets, ICMP errors, echo replies, ARP and neighbour advertisements.

use dataplane::flow::Protocol::{Tcp, Udp};
use dataplane::verdict::DropReason::*;

use super::*;
use crate::support::gateway::{FAMILIES, Family, V4, V6, at};
use crate::support::packet::*;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for f in FAMILIES {
        cases.extend(resets(f));
        cases.extend(unreachable(f));
        cases.extend(time_exceeded_cases(f));
        cases.extend(too_big_cases(f));
        cases.extend(echo(f));
    }
    cases.extend(arp_cases());
    cases.extend(neighbor_discovery());
    cases
}

/// A packet the gateway built: it sets no identification and no flags.
fn own(packet: Packet) -> Packet {
    packet.ip_fragment(0, 0)
}

/// Rows without endpoints, for both protocols.
fn refusing(f: Family) -> Vec<Service> {
    [Tcp, Udp]
        .map(|protocol| {
            Service::new("ns/web:80", protocol, &[]).cluster_ip(f.cluster_ip, 80).load_balancer(
                f.load_balancer,
                80,
                &[],
            )
        })
        .to_vec()
}

/// Rows with an endpoint that keep the client's address.
fn serving(f: Family) -> Vec<Service> {
    [Tcp, Udp]
        .map(|protocol| {
            Service::new("ns/web:80", protocol, &[(f.backends[0], 8080)])
                .external_local()
                .load_balancer(f.load_balancer, 80, &[])
        })
        .to_vec()
}

/// REJ-4: RFC 9293 section 3.10.7.1: the reset looks as if the closed port had sent it.
fn resets(f: Family) -> Vec<Case> {
    let (client, vip) = (at(f.client, 5000), at(f.load_balancer, 80));
    let to = || tcp(client, vip).seq(7_000);
    let reset = || own(tcp(vip, client).window(0));
    let without_ack = |ack: u32| reset().flags(RST | ACK).seq(0).ack(ack);
    let with_ack = |seq: u32| reset().flags(RST).seq(seq).ack(0);
    let refused = |name: &str, packet: Packet, answer: Packet| {
        case(format!("refused {name}, v4 {}", f.v4))
            .service("ns/web", &refusing(f))
            .outside(packet, answered_out(answer))
    };
    let mut cases = vec![
        refused("SYN", to(), without_ack(7_001)),
        refused("SYN with data", to().payload(b"early"), without_ack(7_006)),
        refused("SYN with options", to().tcp_options(&[1; 12]), without_ack(7_001)),
        refused("ACK", to().flags(ACK).ack(99), with_ack(99)),
        refused("ACK with data", to().flags(ACK).ack(99).payload(b"data"), with_ack(99)),
        refused("FIN with ACK", to().flags(FIN | ACK).ack(99), with_ack(99)),
        refused("wrapping number", to().seq(u32::MAX), without_ack(0)),
        refused("padded SYN", to().padding(&[0; 6]), without_ack(7_001)),
        refused("tagged SYN", to().vlan(9), without_ack(7_001).vlan(9)),
        case("neither SYN nor ACK opens nothing")
            .service("ns/web", &refusing(f))
            .outside(to().flags(0), dropped(NoConnection))
            .outside(to().flags(FIN), dropped(NoConnection))
            .outside(to().flags(RST), dropped(NoConnection))
            .outside(to().flags(RST | ACK), dropped(NoConnection))
            .outside(to().flags(SYN | ACK), dropped(NoConnection)),
        // At an unknown port of a cluster IP no connection is asked for first.
        case("a bare FIN to an unknown port").service("ns/web", &refusing(f)).outside(
            tcp(client, at(f.cluster_ip, 81)).flags(FIN).seq(7_000),
            answered_out(own(tcp(at(f.cluster_ip, 81), client)
                .window(0)
                .flags(RST | ACK)
                .seq(0)
                .ack(7_001))),
        ),
    ];
    if f.v4 {
        let options = [7, 7, 4, 0, 0, 0, 0, 0];
        cases.push(refused("SYN with IP options", to().ip_options(&options), without_ack(7_001)));
    } else {
        let extended = to().extension(60, &[0; 8]);
        cases.push(refused("SYN behind an extension header", extended, without_ack(7_001)));
    }
    cases
}

/// REJ-4, REJ-5, DUA-7.
fn unreachable(f: Family) -> Vec<Case> {
    let (client, vip) = (at(f.client, 5000), at(f.load_balancer, 80));
    let refused = |name: &str, packet: Packet, quoted: usize| {
        let quoted = packet.ip()[..quoted.min(packet.ip().len())].to_vec();
        case(format!("refused {name}, v4 {}", f.v4))
            .service("ns/web", &refusing(f))
            .outside(packet, answered_out(own(port_unreachable(f.node_out, f.client, &quoted))))
    };
    // As much as fits 576 or 1280 bytes (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4).
    let room = if f.v4 { 548 } else { 1232 };
    let (below, above) = if f.v4 { (room - 28, 1400) } else { (room - 48, 1400) };
    vec![
        refused("datagram", udp(client, vip), room),
        refused(
            "datagram of the largest size quoted whole",
            udp(client, vip).payload(&vec![1; below]),
            room,
        ),
        refused("large datagram", udp(client, vip).payload(&vec![1; above]), room),
        refused("padded datagram", udp(client, vip).payload(b"x").padding(&[0; 17]), room),
        case("refused tagged datagram").service("ns/web", &refusing(f)).outside(
            udp(client, vip).vlan(9),
            answered_out(
                own(port_unreachable(f.node_out, f.client, &udp(client, vip).ip())).vlan(9),
            ),
        ),
        case("a pod is refused by the address it knows").service("ns/web", &refusing(f)).pods(
            udp(at(f.pod, 5000), vip),
            answered_in(own(port_unreachable(f.node_in, f.pod, &udp(at(f.pod, 5000), vip).ip()))),
        ),
        case("no address to refuse a datagram from")
            .setup(move |setup| {
                setup.fib.ports[0].addresses.retain(|address| address.is_ipv4() != f.v4);
            })
            .service("ns/web", &refusing(f))
            .outside(udp(client, vip), dropped(RejectUnanswerable)),
    ]
}

/// ICM-6: hop limits, toward a VIP and in transit.
fn time_exceeded_cases(f: Family) -> Vec<Case> {
    let (client, vip) = (at(f.client, 5000), at(f.load_balancer, 80));
    let expired = |packet: Packet| {
        let answer = own(time_exceeded(f.node_out, f.client, &packet.ip()));
        case(format!("hop limit of {packet:?}"))
            .service("ns/web", &serving(f))
            .outside(packet, answered_out(answer))
    };
    let error = port_unreachable(f.client, f.pod, &udp(at(f.pod, 1), client).ip());
    vec![
        expired(tcp(client, vip).ttl(1)),
        expired(tcp(client, vip).ttl(0)),
        expired(udp(client, vip).ttl(1)),
        expired(udp(client, at(f.pod, 33_434)).ttl(1)),
        expired(ping(f.client, f.pod, b"traceroute").ttl(1)),
        case("no error about an error").outside(error.ttl(1), dropped(TtlExpired)),
        case("no error without an address to send it from")
            .setup(move |setup| {
                setup.fib.ports[0].addresses.retain(|address| address.is_ipv4() != f.v4);
            })
            .outside(udp(client, at(f.pod, 33_434)).ttl(1), dropped(TtlExpired)),
        case("what ends here needs no hop").service("ns/web", &serving(f)).outside(
            udp(client, at(f.node_out, 123)).ttl(1),
            punted_out(udp(client, at(f.node_out, 123)).ttl(1)),
        ),
    ]
}

/// ICM-5: larger than the inner link.
fn too_big_cases(f: Family) -> Vec<Case> {
    let (client, vip) = (at(f.client, 5000), at(f.load_balancer, 80));
    let narrow = |name: &str| {
        case(format!("{name}, v4 {}", f.v4))
            .setup(|setup| setup.fib.ports[1].mtu = 1400)
            .service("ns/web", &serving(f))
    };
    let headers = if f.v4 { 28 } else { 48 };
    let sized = |size: usize| udp(client, vip).payload(&vec![7; size - headers]);
    let quoted = if f.v4 { 548 } else { 1232 };
    let mut cases = vec![
        narrow("one byte too many").outside(
            sized(1401),
            answered_out(own(too_big(f.node_out, f.client, 1400, &sized(1401).ip()[..quoted]))),
        ),
        narrow("just fits").outside(
            sized(1400),
            sent_in(udp(client, at(f.backends[0], 8080)).payload(&vec![7; 1400 - headers]).ttl(63)),
        ),
        narrow("padding does not count").outside(
            sized(1400).padding(&[0; 30]),
            sent_in(
                udp(client, at(f.backends[0], 8080))
                    .payload(&vec![7; 1400 - headers])
                    .padding(&[0; 30])
                    .ttl(63),
            ),
        ),
        narrow("an error that does not fit")
            .outside(port_unreachable(f.client, f.pod, &sized(1450).ip()), dropped(TooBig)),
    ];
    if f.v4 {
        cases.push(
            narrow("who did not ask to be told")
                .outside(sized(1401).dont_fragment(false), dropped(TooBig)),
        );
    }
    cases
}

/// ICM-7.
fn echo(f: Family) -> Vec<Case> {
    let served = |name: &str| {
        case(format!("{name}, v4 {}", f.v4)).service("ns/web", &serving(f)).service(
            "ns/internal",
            &[Service::new("ns/internal:80", Tcp, &[(f.backends[0], 1)])
                .cluster_ip(f.cluster_ip, 80)],
        )
    };
    let mut cases = vec![];
    for size in [0, 1, 56, 1400] {
        let payload = vec![0x61; size];
        cases.push(
            served("ping")
                .outside(
                    ping(f.client, f.load_balancer, &payload).ttl(5),
                    answered_out(pong(f.load_balancer, f.client, &payload)),
                )
                .pods(
                    ping(f.pod, f.cluster_ip, &payload),
                    answered_in(pong(f.cluster_ip, f.pod, &payload)),
                ),
        );
    }
    cases.extend([
        served("ping with a tag").outside(
            ping(f.client, f.load_balancer, b"x").vlan(3),
            answered_out(pong(f.load_balancer, f.client, b"x").vlan(3)),
        ),
        served("ping of the node").outside(
            ping(f.client, f.node_out, b"x"),
            punted_out(ping(f.client, f.node_out, b"x")),
        ),
        served("ping of a pod")
            .outside(ping(f.client, f.pod, b"x"), sent_in(ping(f.client, f.pod, b"x").ttl(63))),
        served("ping of nobody")
            .outside(ping(f.client, f.unallocated, b"x"), dropped(ServiceAddressUnallocated)),
        served("an echo reply to a VIP")
            .outside(pong(f.client, f.load_balancer, b"x"), dropped(UnsupportedProtocol)),
        // The node pings a VIP: the answer is the kernel's.
        served("ping by the node").kernel(
            OUT,
            ping(f.node_out, f.load_balancer, b"x"),
            Fate::Punted(
                OUT,
                pong(f.load_balancer, f.node_out, b"x").macs(OUT_MAC, OUT_MAC).frame(),
            ),
        ),
    ]);
    cases
}

fn arp_cases() -> Vec<Case> {
    const ASKER: Mac = [2, 0, 0, 0, 0, 0x99];
    const ALL: Mac = [0xff; 6];
    let vip = V4.load_balancer;
    let served = |name: &str| {
        case(name).service("ns/web", &serving(V4)).service(
            "ns/internal",
            &[Service::new("ns/internal:80", Tcp, &[]).cluster_ip(V4.cluster_ip, 80)],
        )
    };
    let asked =
        |by: &str, target: &str, dst: Mac| arp(1, (ASKER, by), ([0; 6], target), dst, ASKER);
    let answer = |to: &str, target: &str| {
        Fate::Answered(OUT, arp(2, (OUT_MAC, target), (ASKER, to), ASKER, OUT_MAC))
    };
    let tagged = |mut frame: Vec<u8>| {
        frame.splice(12..12, [0x81, 0, 0, 7]);
        frame
    };
    let padded = |frame: Vec<u8>| [frame, vec![0; 18]].concat();
    let punted = |frame: Vec<u8>| Fate::Punted(OUT, frame);
    let reply = arp(2, (ASKER, vip), (OUT_MAC, "192.0.2.1"), OUT_MAC, ASKER);
    vec![
        served("ARP for a VIP").frame(OUT, asked("192.0.2.9", vip, ALL), answer("192.0.2.9", vip)),
        served("ARP for a VIP, unicast").frame(
            OUT,
            asked("192.0.2.9", vip, OUT_MAC),
            answer("192.0.2.9", vip),
        ),
        served("a probe for a VIP (RFC 5227)").frame(
            OUT,
            asked("0.0.0.0", vip, ALL),
            answer("0.0.0.0", vip),
        ),
        served("ARP for a VIP, padded").frame(
            OUT,
            padded(asked("192.0.2.9", vip, ALL)),
            Fate::Answered(
                OUT,
                padded(arp(2, (OUT_MAC, vip), (ASKER, "192.0.2.9"), ASKER, OUT_MAC)),
            ),
        ),
        served("ARP for a VIP, tagged").frame(
            OUT,
            tagged(asked("192.0.2.9", vip, ALL)),
            Fate::Answered(
                OUT,
                tagged(arp(2, (OUT_MAC, vip), (ASKER, "192.0.2.9"), ASKER, OUT_MAC)),
            ),
        ),
        served("ARP for the node is the kernel's").frame(
            OUT,
            asked("192.0.2.9", V4.node_out, ALL),
            punted(asked("192.0.2.9", V4.node_out, ALL)),
        ),
        served("a cluster IP is not announced").frame(
            OUT,
            asked("192.0.2.9", V4.cluster_ip, ALL),
            punted(asked("192.0.2.9", V4.cluster_ip, ALL)),
        ),
        served("nor an address of the range that is no VIP").frame(
            OUT,
            asked("192.0.2.9", "198.51.100.99", ALL),
            punted(asked("192.0.2.9", "198.51.100.99", ALL)),
        ),
        served("nor a VIP on a port it is not announced by").frame(
            IN,
            asked("10.0.0.9", vip, ALL),
            Fate::Punted(IN, asked("10.0.0.9", vip, ALL)),
        ),
        served("an ARP reply is the kernel's").frame(OUT, reply.clone(), punted(reply)),
        served("a VIP that is gone is no longer answered for").apply("ns/web", vec![]).frame(
            OUT,
            asked("192.0.2.9", vip, ALL),
            punted(asked("192.0.2.9", vip, ALL)),
        ),
        served("ARP from the kernel leaves as it is").then(move |gateway| {
            let frame = arp(1, (OUT_MAC, "192.0.2.1"), ([0; 6], "192.0.2.254"), ALL, OUT_MAC);
            assert_eq!(gateway.inject(OUT, &frame), Fate::Sent(OUT, frame));
        }),
    ]
}

fn neighbor_discovery() -> Vec<Case> {
    const ASKER: Mac = [2, 0, 0, 0, 0, 0x99];
    const ALL_NODES: Mac = [0x33, 0x33, 0, 0, 0, 1];
    let vip = V6.load_balancer;
    let link_local = "fe80::99";
    let served = |name: &str| {
        case(name).service("ns/web", &serving(V6)).service(
            "ns/internal",
            &[Service::new("ns/internal:80", Tcp, &[]).cluster_ip(V6.cluster_ip, 80)],
        )
    };
    let asked = |target: &str| solicitation(ASKER, link_local, target);
    let answer = |to: &str, flags: u8, dst: Mac| {
        Fate::Answered(OUT, advertisement(OUT_MAC, vip, to, flags).macs(OUT_MAC, dst).frame())
    };
    let punted = |packet: Packet| Fate::Punted(OUT, packet.frame());
    let unicast = icmp(link_local, vip, 135, 0, [0; 4], &solicited(vip)).ttl(255);
    vec![
        served("solicitation for a VIP").frame(
            OUT,
            asked(vip).frame(),
            answer(link_local, 0x60, ASKER),
        ),
        served("solicitation without options").frame(
            OUT,
            asked(vip).payload(&solicited(vip)).frame(),
            answer(link_local, 0x60, ASKER),
        ),
        served("unicast solicitation").frame(
            OUT,
            unicast.macs(ASKER, OUT_MAC).frame(),
            answer(link_local, 0x60, ASKER),
        ),
        served("duplicate address detection (RFC 4862): everybody hears the answer").frame(
            OUT,
            solicitation(ASKER, "::", vip).frame(),
            answer("ff02::1", 0x20, ALL_NODES),
        ),
        served("solicitation for the node is the kernel's").frame(
            OUT,
            asked(V6.node_out).frame(),
            punted(asked(V6.node_out)),
        ),
        served("a cluster IP is not announced").frame(
            OUT,
            asked(V6.cluster_ip).frame(),
            punted(asked(V6.cluster_ip)),
        ),
        served("a VIP is not announced by every port").frame(
            IN,
            asked(vip).frame(),
            Fate::Punted(IN, asked(vip).frame()),
        ),
        served("a solicitation that crossed a router").frame(
            OUT,
            asked(vip).ttl(254).frame(),
            dropped(Malformed),
        ),
        served("a solicitation with a wrong checksum").frame(
            OUT,
            asked(vip).checksum(0x1111).frame(),
            dropped(BadIcmpChecksum),
        ),
        served("a solicitation for an IPv4 VIP in mapped form")
            .service("ns/v4", &serving(V4))
            .then(|gateway| {
                let mapped = solicitation(ASKER, "fe80::99", "::ffff:198.51.100.10");
                let fate = gateway.receive(OUT, &mapped.frame());
                assert!(!matches!(fate, Fate::Answered(..)), "{fate:?}");
            }),
    ]
}

/// The target alone.
fn solicited(target: &str) -> Vec<u8> {
    let ip: std::net::Ipv6Addr = target.parse().expect("valid");
    ip.octets().to_vec()
}

//! ICMP errors about connections (rules ICM): quoted packets become what their senders sent, and the
//! connection neither notices nor lives longer (I6).

use dataplane::flow::Protocol::{Tcp, Udp};
use dataplane::verdict::DropReason::*;

use super::*;
use crate::support::gateway::{FAMILIES, Family, V4, V6, at};
use crate::support::packet::*;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for f in FAMILIES {
        for masquerade in [false, true] {
            for protocol in [Tcp, Udp] {
                cases.extend(both_ways(f, masquerade, protocol));
            }
        }
        cases.extend(truncated(f));
        cases.extend(harmless(f));
        cases.extend(unknown(f));
    }
    cases.push(mapped_addresses());
    cases
}

/// A router between gateway and pods, and one between gateway and clients.
fn routers(f: Family) -> (&'static str, &'static str) {
    if f.v4 { ("10.0.0.77", "192.0.2.254") } else { ("fd00::77", "2001:db8:1::fe") }
}

type Ends = (std::net::IpAddr, u16);

/// The four views of a connection: client and VIP outside, source and backend inside.
fn ends(f: Family, masquerade: bool) -> (Ends, Ends, Ends, Ends) {
    let client = at(f.client, 5000);
    let inside = if masquerade { at(f.node_in, MASQUERADE_PORT) } else { client };
    (client, at(f.load_balancer, 80), inside, at(f.backends[0], 8080))
}

fn packet(protocol: Protocol, from: Ends, to: Ends) -> Packet {
    match protocol {
        Udp => udp(from, to).payload(b"some payload that errors may quote"),
        _ => {
            tcp(from, to).flags(ACK).seq(11).ack(22).payload(b"some payload that errors may quote")
        }
    }
}

/// Opens the connection.
fn opened(name: String, f: Family, masquerade: bool, protocol: Protocol) -> Case {
    let (client, vip, inside, backend) = ends(f, masquerade);
    case(name)
        .service("ns/web", &web(f, masquerade))
        .outside(packet(protocol, client, vip), sent_in(packet(protocol, inside, backend).ttl(63)))
}

/// ICM-1, ICM-2, ICM-3.
fn both_ways(f: Family, masquerade: bool, protocol: Protocol) -> Vec<Case> {
    let (client, vip, inside, backend) = ends(f, masquerade);
    let (inner_router, outer_router) = routers(f);
    let name = |text: &str| format!("{text}: {protocol:?}, v4 {}, masquerade {masquerade}", f.v4);
    // As the quoting host saw them: hop limits are whatever was left.
    let toward_backend = packet(protocol, inside, backend).ttl(3).ip();
    let toward_vip = packet(protocol, client, vip).ttl(3).ip();
    let from_vip = packet(protocol, vip, client).ttl(7).ip();
    let from_backend = packet(protocol, backend, inside).ttl(7).ip();
    let host = |end: Ends| end.0;
    vec![
        opened(name("a router near the backend"), f, masquerade, protocol).pods(
            too_big(inner_router, host(inside), 1400, &toward_backend),
            sent_out(too_big(inner_router, f.client, 1400, &toward_vip).ttl(63)),
        ),
        opened(name("the backend itself: the VIP says it"), f, masquerade, protocol).pods(
            port_unreachable(host(backend), host(inside), &toward_backend),
            sent_out(port_unreachable(host(vip), f.client, &toward_vip).ttl(63)),
        ),
        opened(name("a hop toward the backend"), f, masquerade, protocol).pods(
            time_exceeded(inner_router, host(inside), &toward_backend),
            sent_out(time_exceeded(inner_router, f.client, &toward_vip).ttl(63)),
        ),
        opened(name("a router near the client"), f, masquerade, protocol).outside(
            too_big(outer_router, host(vip), 1280, &from_vip),
            sent_in(too_big(outer_router, host(backend), 1280, &from_backend).ttl(63)),
        ),
        opened(name("the client itself"), f, masquerade, protocol).outside(
            port_unreachable(host(client), host(vip), &from_vip),
            sent_in(port_unreachable(host(inside), host(backend), &from_backend).ttl(63)),
        ),
        opened(name("with a tag and padding"), f, masquerade, protocol).pods(
            too_big(inner_router, host(inside), 1400, &toward_backend).vlan(5).padding(&[9; 3]),
            sent_out(
                too_big(inner_router, f.client, 1400, &toward_vip).vlan(5).padding(&[9; 3]).ttl(63),
            ),
        ),
    ]
}

/// ICM-3: what is quoted may end anywhere behind the ports.
fn truncated(f: Family) -> Vec<Case> {
    let header = if f.v4 { 20 } else { 40 };
    let (inner_router, _) = routers(f);
    let mut cases = vec![];
    for protocol in [Tcp, Udp] {
        for masquerade in [false, true] {
            let (client, vip, inside, backend) = ends(f, masquerade);
            let before = packet(protocol, inside, backend).ip();
            let after = packet(protocol, client, vip).ip();
            for quoted in [4, 6, 8, 12, 16, 18, 20, 28, 41] {
                let cut = |ip: &[u8]| ip[..header + quoted].to_vec();
                let name = format!("{quoted} bytes of {protocol:?} quoted, v4 {}", f.v4);
                cases.push(opened(name, f, masquerade, protocol).pods(
                    time_exceeded(inner_router, inside.0, &cut(&before)),
                    sent_out(time_exceeded(inner_router, f.client, &cut(&after)).ttl(63)),
                ));
            }
            // RFC 4884: the quote is padded to 128 bytes, a length is given, extension objects follow.
            let extended = |ip: &[u8]| {
                let mut quote = ip.to_vec();
                quote.resize(128, 0);
                quote.extend([0x20, 0, 0xde, 0xad, 0, 8, 1, 1, 0, 0, 16, 1]);
                quote
            };
            let word = if f.v4 { [0, 32, 0, 0] } else { [16, 0, 0, 0] };
            let kind = if f.v4 { 11 } else { 3 };
            cases.push(
                opened(format!("extension objects, v4 {}", f.v4), f, masquerade, protocol).pods(
                    icmp(inner_router, inside.0, kind, 0, word, &extended(&before)),
                    sent_out(
                        icmp(inner_router, f.client, kind, 0, word, &extended(&after)).ttl(63),
                    ),
                ),
            );
        }
        // Less than the ports: nobody can say which connection is meant. A router's error is then no Service's.
        let (client, ..) = ends(f, false);
        let short = packet(protocol, client, at(f.backends[0], 8080)).ip()[..header + 3].to_vec();
        let error = time_exceeded(inner_router, f.client, &short);
        cases.push(
            opened(format!("three bytes of {protocol:?} quoted"), f, false, protocol)
                .pods(error.clone(), sent_out(error.ttl(63))),
        );
    }
    let (client, vip, inside, backend) = ends(f, true);
    let quote = |from: Ends, to: Ends| udp(from, to).checksum(0).ip();
    cases.push(opened("a quoted datagram without checksum keeps none".into(), f, true, Udp).pods(
        time_exceeded(inner_router, inside.0, &quote(inside, backend)),
        sent_out(time_exceeded(inner_router, f.client, &quote(client, vip)).ttl(63)),
    ));
    if f.v4 {
        let options = [7, 7, 4, 0, 0, 0, 0, 0];
        let quote = |from: Ends, to: Ends| tcp(from, to).ip_options(&options).ip();
        cases.push(opened("quoted options".into(), f, true, Tcp).pods(
            time_exceeded(inner_router, inside.0, &quote(inside, backend)),
            sent_out(time_exceeded(inner_router, f.client, &quote(client, vip)).ttl(63)),
        ));
        let first = |from: Ends, to: Ends| packet(Udp, from, to).fragments(5, 24)[0].ip();
        cases.push(opened("a quoted first fragment".into(), f, true, Udp).pods(
            time_exceeded(inner_router, inside.0, &first(inside, backend)),
            sent_out(time_exceeded(inner_router, f.client, &first(client, vip)).ttl(63)),
        ));
        let later = packet(Udp, client, at(f.backends[0], 8080)).fragments(5, 24)[1].ip();
        let error = time_exceeded(inner_router, f.client, &later);
        cases.push(
            opened("a quoted later fragment names no connection".into(), f, false, Udp)
                .pods(error.clone(), sent_out(error.ttl(63))),
        );
    } else {
        let quote = |from: Ends, to: Ends| tcp(from, to).extension(60, &[0; 8]).ip();
        cases.push(opened("quoted extension headers".into(), f, true, Tcp).pods(
            time_exceeded(inner_router, inside.0, &quote(inside, backend)),
            sent_out(time_exceeded(inner_router, f.client, &quote(client, vip)).ttl(63)),
        ));
    }
    cases
}

/// ICM-4: i6: an error neither ends nor prolongs a connection, whoever forged it.
fn harmless(f: Family) -> Vec<Case> {
    let (client, vip, inside, backend) = ends(f, false);
    let unreachable = move || port_unreachable(f.backends[0], f.client, &udp(inside, backend).ip());
    let passed =
        || sent_out(port_unreachable(f.load_balancer, f.client, &udp(client, vip).ip()).ttl(63));
    vec![
        opened(format!("an error prolongs nothing, v4 {}", f.v4), f, false, Udp)
            .wait(119_000)
            .pods(unreachable(), passed())
            .wait(3_000)
            .then(move |gateway| {
                // The error belongs to no connection any more: as it is not to a VIP, it is nobody's.
                let error = unreachable();
                assert_eq!(gateway.pods(&error), sent_out(error.ttl(63)));
                assert_eq!(gateway.connections(), 0);
            }),
        opened(format!("an error ends nothing, v4 {}", f.v4), f, false, Tcp)
            .pods(
                port_unreachable(f.backends[0], f.client, &packet(Tcp, inside, backend).ip()),
                sent_out(
                    port_unreachable(f.load_balancer, f.client, &packet(Tcp, client, vip).ip())
                        .ttl(63),
                ),
            )
            .outside(packet(Tcp, client, vip), sent_in(packet(Tcp, inside, backend).ttl(63)))
            .then(|gateway| assert_eq!(gateway.connections(), 1)),
    ]
}

/// ICM-4.
fn unknown(f: Family) -> Vec<Case> {
    let (client, vip, _, _) = ends(f, false);
    let (_, outer_router) = routers(f);
    let masqueraded = at(f.node_in, MASQUERADE_PORT);
    let served =
        |name: &str| case(format!("{name}, v4 {}", f.v4)).service("ns/web", &web(f, false));
    vec![
        served("an error to a VIP about no connection").outside(
            port_unreachable(f.client, f.load_balancer, &udp(vip, client).ip()),
            dropped(NoConnection),
        ),
        served("an error to a VIP about something else").outside(
            port_unreachable(
                f.client,
                f.load_balancer,
                &ping(f.load_balancer, f.client, b"x").ip(),
            ),
            dropped(UnsupportedProtocol),
        ),
        served("an error to an unallocated address").outside(
            time_exceeded(outer_router, f.unallocated, &udp(at(f.unallocated, 1), client).ip()),
            dropped(NoConnection),
        ),
        // The port address is the node's own, too: who else should know what this is about?
        served("an error about no masqueraded connection").pods(
            port_unreachable(
                f.backends[0],
                f.node_in,
                &udp(masqueraded, at(f.backends[0], 8080)).ip(),
            ),
            punted_in(port_unreachable(
                f.backends[0],
                f.node_in,
                &udp(masqueraded, at(f.backends[0], 8080)).ip(),
            )),
        ),
        served("an error about an error is about nothing").outside(
            port_unreachable(
                f.client,
                f.load_balancer,
                &port_unreachable(f.load_balancer, f.client, &[0; 28]).ip(),
            ),
            dropped(UnsupportedProtocol),
        ),
    ]
}

/// An ICMPv6 error that quotes mapped IPv4 addresses must not reach an IPv4 connection.
fn mapped_addresses() -> Case {
    let quoted = udp("[::ffff:203.0.113.7]:5000", "[::ffff:10.244.0.2]:8080").ip();
    let error = port_unreachable(V6.backends[0], V6.client, &quoted);
    opened("mapped addresses in a quote".into(), V4, false, Udp)
        .pods(error.clone(), sent_out(error.ttl(63)))
}

//! What a NAT leaves alone: payloads, options, windows, pings, and connections that have begun.

use dataplane::flow::Protocol::{Tcp, Udp};
use dataplane::tables::MasqueradePorts;
use dataplane::verdict::DropReason::*;

use super::*;
use crate::support::gateway::{FAMILIES, at};
use crate::support::packet::*;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for f in FAMILIES {
        cases.extend([payloads(f), segments(f), pings(f), decided_once(f), masquerade_ports(f)]);
    }
    cases
}

fn named(name: &str, f: Family) -> Case {
    case(format!("{name}, v4 {}", f.v4)).service("ns/web", &web(f, false))
}

/// PRO-5: nobody reads what FTP, SIP and TFTP say about addresses and ports.
fn payloads(f: Family) -> Case {
    let (client, backend) = (at(f.client, 5000), at(f.backends[0], 8080));
    let sip =
        format!("INVITE sip:bob@{}\r\nContact: <sip:a@{}:5000>\r\n", f.load_balancer, f.client);
    let ftp =
        format!("EPRT |1|{}|5000|\r\n227 Entering Passive Mode (198,51,100,1,0,80)\r\n", f.client);
    let tftp = "\u{0}\u{1}file\u{0}octet\u{0}";
    let protocols = |port| {
        [Tcp, Udp].map(|protocol| {
            Service::new("ns/alg:x", protocol, &[(f.backends[0], 8080)])
                .external_local()
                .load_balancer(f.load_balancer, port, &[])
        })
    };
    let mut case = named("payloads", f);
    for (port, payload) in [(21, ftp.as_str()), (5060, sip.as_str()), (69, tftp)] {
        let vip = at(f.load_balancer, port);
        let rows = protocols(port).to_vec();
        case = case.then(move |gateway| gateway.apply(&format!("ns/{port}"), &rows));
        let client = (client.0, client.1 + port);
        for make in [udp, |from, to| tcp(from, to).flags(ACK)] {
            let packet = |from, to| make(from, to).payload(payload.as_bytes());
            case = case
                .outside(packet(client, vip), sent_in(packet(client, backend).ttl(63)))
                .pods(packet(backend, client), sent_out(packet(vip, client).ttl(63)));
        }
    }
    case
}

/// PRO-6: options, sequence numbers, windows and timestamps are the ends' own, and it is the backend that answers a SYN.
fn segments(f: Family) -> Case {
    let (client, vip, backend) =
        (at(f.client, 5000), at(f.load_balancer, 80), at(f.backends[0], 8080));
    let options = [2, 4, 0x23, 0x28, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 14, 30, 4, 0, 0];
    let segment = |from, to, flags, seq| {
        tcp(from, to).flags(flags).seq(seq).ack(seq ^ 77).window(3).tcp_options(&options)
    };
    let mut case = named("segments", f);
    for (number, (flags, back)) in
        (0u32..).zip([(SYN, SYN | ACK), (ACK, ACK), (PSH | ACK, ACK), (FIN | ACK, FIN | ACK)])
    {
        let seq = u32::MAX.wrapping_add(number);
        case = case
            .outside(
                segment(client, vip, flags, seq),
                sent_in(segment(client, backend, flags, seq).ttl(63)),
            )
            .pods(
                segment(backend, client, back, seq),
                sent_out(segment(vip, client, back, seq).ttl(63)),
            );
    }
    case
}

/// ICM-8: pings go as they are, to endpoints and from them, and none goes to an endpoint by a VIP.
fn pings(f: Family) -> Case {
    let (client, backend) = (f.client, f.backends[0]);
    named("pings", f)
        .outside(ping(client, backend, b"x"), sent_in(ping(client, backend, b"x").ttl(63)))
        .pods(pong(backend, client, b"x"), sent_out(pong(backend, client, b"x").ttl(63)))
        .pods(ping(backend, client, b"x"), sent_out(ping(backend, client, b"x").ttl(63)))
        .outside(
            ping(client, f.load_balancer, b"x"),
            answered_out(pong(f.load_balancer, client, b"x").ttl(64)),
        )
        .then(|gateway| assert_eq!(gateway.connections(), 0))
}

/// VER-9: whatever becomes the rule is a rule for new connections only.
fn decided_once(f: Family) -> Case {
    let (vip, backend) = (at(f.load_balancer, 80), at(f.backends[0], 8080));
    let row = move || Service::new("ns/web:80", Tcp, &[(f.backends[0], 8080)]);
    let nowhere = if f.v4 { "10.9.9.9/32" } else { "fd99::9/128" };
    let local = row().external_local();
    let rules = [
        (row().external_local().load_balancer(f.load_balancer, 80, &[nowhere]), SourceNotAllowed),
        (local.local(&[]).load_balancer(f.load_balancer, 80, &[]), NoLocalEndpointExternal),
    ];
    let goes_on = move |gateway: &mut Gateway| {
        let client = at(f.client, 5000);
        let sent = tcp(client, backend).flags(ACK).ttl(63);
        assert_eq!(gateway.outside(&tcp(client, vip).flags(ACK)), sent_in(sent));
        let back = tcp(vip, client).flags(ACK).ttl(63);
        assert_eq!(gateway.pods(&tcp(backend, client).flags(ACK)), sent_out(back));
    };
    named("decided once", f)
        .outside(tcp(at(f.client, 5000), vip), sent_in(tcp(at(f.client, 5000), backend).ttl(63)))
        .then(move |gateway| {
            for (rule, reason) in rules {
                gateway.apply("ns/web", &[rule]);
                goes_on(gateway);
                assert_eq!(gateway.outside(&tcp(at(f.client, 5001), vip)), dropped(reason));
            }
            // From now on clients are masqueraded, but for those who never were.
            gateway.apply("ns/web", &[row().load_balancer(f.load_balancer, 80, &[])]);
            goes_on(gateway);
            let hidden = tcp(at(f.node_in, MASQUERADE_PORT), backend).ttl(63);
            assert_eq!(gateway.outside(&tcp(at(f.client, 5002), vip)), sent_in(hidden));
            // And refused.
            gateway.apply(
                "ns/web",
                &[Service::new("ns/web:80", Tcp, &[]).load_balancer(f.load_balancer, 80, &[])],
            );
            goes_on(gateway);
            assert!(matches!(gateway.outside(&tcp(at(f.client, 5003), vip)), Fate::Answered(..)));
        })
}

/// MSQ-4: the address is the one of the port that leads to the backend, the source port any of the range, each once toward
/// a backend.
fn masquerade_ports(f: Family) -> Case {
    const PORTS: u16 = 64;
    named("masquerade ports", f)
        .setup(|setup| {
            setup.node.masquerade_ports = MasqueradePorts(50_000..=50_000 + PORTS - 1);
        })
        .service(
            "ns/in",
            &[Service::new("ns/in:80", Tcp, &[(f.backends[0], 8080)]).cluster_ip(f.cluster_ip, 80)],
        )
        .then(move |gateway| {
            let mut ports = vec![];
            for client in 0..PORTS / 2 {
                let packet = tcp(at(f.client, 6_000 + client), at(f.cluster_ip, 80));
                let fate = gateway.outside(&packet);
                let port = (50_000..50_000 + PORTS).find(|&port| {
                    let inside = tcp(at(f.node_in, port), at(f.backends[0], 8080));
                    fate == sent_in(inside.ttl(63))
                });
                ports.push(port.unwrap_or_else(|| panic!("{fate:?}")));
            }
            let in_turn = ports.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
            assert!(in_turn < ports.len() / 2, "can be guessed: {ports:?}");
            ports.sort_unstable();
            ports.dedup();
            assert_eq!(ports.len(), usize::from(PORTS / 2));
        })
}

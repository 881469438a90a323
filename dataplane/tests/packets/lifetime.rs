//! Connections through changes: endpoints and Services that go, states, clashes, pick-ups, a full table.

use std::collections::HashMap;

use dataplane::flow::Protocol::{Tcp, Udp};
use dataplane::tables::MasqueradePorts;
use dataplane::verdict::DropReason::*;

use super::*;
use crate::support::gateway::{FAMILIES, Family, IN, IN_MAC, OUT, OUT_MAC, PODS, ROUTER, at};
use crate::support::packet::*;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for f in FAMILIES {
        cases.extend([
            udp_moves(f),
            udp_stays_while_serving(f),
            udp_to_nobody(f),
            udp_of_a_deleted_service(f),
            udp_finds_a_new_endpoint(f),
            tcp_outlives_its_endpoint(f),
            tcp_outlives_its_service(f),
            syn_reopens(f),
            forged_reset(f),
            refused_by_the_backend(f),
            picked_up(f),
            unsolicited(f),
            backend_as_client(f),
            backend_asks_first(f),
            direct(f),
            direct_without_checksum(f),
            direct_and_by_vip(f, true),
            direct_and_by_vip(f, false),
            two_vips_one_backend(f),
            backends_calls_in_one_burst(f),
            alike_to_a_backend_in_one_burst(f),
            half_open_are_evicted(f),
            established_never_are(f),
            idle_times(f),
        ]);
    }
    cases
}

/// Keeps client addresses.
fn web(f: Family, protocol: Protocol, backends: &[usize]) -> Service {
    let endpoints: Vec<_> = backends.iter().map(|&i| (f.backends[i], 8080)).collect();
    Service::new("ns/web:80", protocol, &endpoints).external_local().load_balancer(
        f.load_balancer,
        80,
        &[],
    )
}

fn named(name: &str, f: Family) -> Case {
    case(format!("{name}, v4 {}", f.v4))
}

fn vip(f: Family) -> (std::net::IpAddr, u16) {
    at(f.load_balancer, 80)
}

fn asked(f: Family) -> Packet {
    udp(at(f.client, 5000), vip(f))
}

fn asked_at(f: Family, backend: usize) -> Fate {
    sent_in(udp(at(f.client, 5000), at(f.backends[backend], 8080)).ttl(63))
}

fn segment(f: Family, flags: u8) -> Packet {
    tcp(at(f.client, 5000), vip(f)).flags(flags)
}

fn segment_at(f: Family, backend: usize, flags: u8) -> Fate {
    sent_in(tcp(at(f.client, 5000), at(f.backends[backend], 8080)).flags(flags).ttl(63))
}

fn answer(f: Family, backend: usize, flags: u8) -> Packet {
    tcp(at(f.backends[backend], 8080), at(f.client, 5000)).flags(flags)
}

fn answer_out(f: Family, flags: u8) -> Fate {
    sent_out(tcp(vip(f), at(f.client, 5000)).flags(flags).ttl(63))
}

impl Case {
    fn handshake(self, f: Family, backend: usize) -> Self {
        self.outside(segment(f, SYN), segment_at(f, backend, SYN))
            .pods(answer(f, backend, SYN | ACK), answer_out(f, SYN | ACK))
            .outside(segment(f, ACK), segment_at(f, backend, ACK))
    }
}

/// CTK-2, CTK-13: the very next packet goes to a backend that is there.
fn udp_moves(f: Family) -> Case {
    named("a UDP flow moves", f)
        .service("ns/web", &[web(f, Udp, &[0])])
        .outside(asked(f), asked_at(f, 0))
        .pods(
            udp(at(f.backends[0], 8080), at(f.client, 5000)),
            sent_out(udp(vip(f), at(f.client, 5000)).ttl(63)),
        )
        .apply("ns/web", vec![web(f, Udp, &[1])])
        .outside(asked(f), asked_at(f, 1))
        // What the old one still has to say is a stray.
        .pods(udp(at(f.backends[0], 8080), at(f.client, 5000)), dropped(NoConnection))
        .pods(
            udp(at(f.backends[1], 8080), at(f.client, 5000)),
            sent_out(udp(vip(f), at(f.client, 5000)).ttl(63)),
        )
        .then(|gateway| {
            assert_eq!(gateway.connections(), 1);
            assert_eq!(gateway.counters[0].conntrack.reclassified.get(), 1);
        })
}

/// CTK-3: no policy cuts a flow to an endpoint that serves.
fn udp_stays_while_serving(f: Family) -> Case {
    let mut terminating = web(f, Udp, &[1]);
    terminating.0.serving = vec![at(f.backends[0], 8080).into()];
    named("a UDP flow stays while its backend serves", f)
        .service("ns/web", &[web(f, Udp, &[0])])
        .outside(asked(f), asked_at(f, 0))
        .apply("ns/web", vec![terminating])
        .outside(asked(f), asked_at(f, 0))
        .apply("ns/web", vec![web(f, Udp, &[0, 1, 2])])
        .outside(asked(f), asked_at(f, 0))
}

/// CTK-4: a sender that never listens.
fn udp_to_nobody(f: Family) -> Case {
    let refused = move || {
        answered_out(port_unreachable(f.node_out, f.client, &asked(f).ip()).ip_fragment(0, 0))
    };
    named("a UDP flow to nobody is refused at once", f)
        .service("ns/web", &[web(f, Udp, &[0])])
        .outside(asked(f), asked_at(f, 0))
        .apply("ns/web", vec![web(f, Udp, &[])])
        .outside(asked(f), refused())
        .outside(asked(f), refused())
        .then(|gateway| assert_eq!(gateway.connections(), 0))
}

/// CTK-6: the address of its backend may be anybody's by now.
fn udp_of_a_deleted_service(f: Family) -> Case {
    let other = Service::new("ns/other:80", Udp, &[(f.backends[0], 8080)])
        .external_local()
        .load_balancer(f.external_ip, 80, &[]);
    let service = web(f, Udp, &[0]).cluster_ip(f.cluster_ip, 80);
    let to_cluster_ip = udp(at(f.pod, 5000), at(f.cluster_ip, 80));
    named("a UDP flow of a deleted Service ends", f)
        .service("ns/web", &[service])
        .outside(asked(f), asked_at(f, 0))
        .pods(to_cluster_ip.clone(), sent_in(udp(at(f.pod, 5000), at(f.backends[0], 8080)).ttl(63)))
        .apply("ns/web", vec![])
        .apply("ns/other", vec![other])
        .outside(asked(f), dropped(NoRoute))
        .pods(to_cluster_ip, dropped(ServiceAddressUnallocated))
}

/// CTK-5.
fn udp_finds_a_new_endpoint(f: Family) -> Case {
    let refused =
        answered_out(port_unreachable(f.node_out, f.client, &asked(f).ip()).ip_fragment(0, 0));
    named("a UDP flow that began too early", f)
        .service("ns/web", &[web(f, Udp, &[])])
        .outside(asked(f), refused)
        .apply("ns/web", vec![web(f, Udp, &[2])])
        .outside(asked(f), asked_at(f, 2))
}

/// CTK-7, REJ-7, CTK-1.
fn tcp_outlives_its_endpoint(f: Family) -> Case {
    named("TCP outlives its endpoint", f)
        .service("ns/web", &[web(f, Tcp, &[0])])
        .handshake(f, 0)
        .apply("ns/web", vec![web(f, Tcp, &[1])])
        .outside(segment(f, ACK), segment_at(f, 0, ACK))
        .pods(answer(f, 0, ACK), answer_out(f, ACK))
        .apply("ns/web", vec![web(f, Tcp, &[])])
        .outside(segment(f, ACK), segment_at(f, 0, ACK))
        .pods(answer(f, 0, ACK), answer_out(f, ACK))
        .wait(3_000_000)
        .outside(segment(f, ACK), segment_at(f, 0, ACK))
}

/// CTK-1, CTK-7.
fn tcp_outlives_its_service(f: Family) -> Case {
    named("TCP outlives its Service", f)
        .service("ns/web", &[web(f, Tcp, &[0])])
        .handshake(f, 0)
        .apply("ns/web", vec![])
        .outside(segment(f, ACK), segment_at(f, 0, ACK))
        .pods(answer(f, 0, ACK), answer_out(f, ACK))
        .outside(tcp(at(f.client, 5001), vip(f)), dropped(NoRoute))
}

/// A client may use its port again, and then gets a backend of today.
fn syn_reopens(f: Family) -> Case {
    named("a SYN on a closing connection opens a new one", f)
        .service("ns/web", &[web(f, Tcp, &[0])])
        .handshake(f, 0)
        .outside(segment(f, FIN | ACK), segment_at(f, 0, FIN | ACK))
        .pods(answer(f, 0, FIN | ACK), answer_out(f, FIN | ACK))
        .outside(segment(f, ACK), segment_at(f, 0, ACK))
        .apply("ns/web", vec![web(f, Tcp, &[1])])
        .outside(segment(f, ACK), segment_at(f, 0, ACK))
        .outside(segment(f, SYN), segment_at(f, 1, SYN))
        .pods(answer(f, 1, SYN | ACK), answer_out(f, SYN | ACK))
        .then(|gateway| assert_eq!(gateway.connections(), 1))
}

/// Whoever sent it, both ends may go on.
fn forged_reset(f: Family) -> Case {
    named("a forged reset cuts nothing", f)
        .service("ns/web", &[web(f, Tcp, &[0])])
        .handshake(f, 0)
        .outside(segment(f, RST), segment_at(f, 0, RST))
        .outside(segment(f, ACK), segment_at(f, 0, ACK))
        .wait(239_000)
        .pods(answer(f, 0, ACK), answer_out(f, ACK))
        .wait(239_000)
        .outside(segment(f, ACK), segment_at(f, 0, ACK))
        .wait(245_000)
        .then(|gateway| assert_eq!(gateway.connections(), 0, "but idle it ends soon"))
}

fn refused_by_the_backend(f: Family) -> Case {
    named("a backend's refusal arrives, the next try goes elsewhere", f)
        .service("ns/web", &[web(f, Tcp, &[0])])
        .outside(segment(f, SYN), segment_at(f, 0, SYN))
        .pods(answer(f, 0, RST | ACK), answer_out(f, RST | ACK))
        .apply("ns/web", vec![web(f, Tcp, &[1])])
        .outside(segment(f, SYN), segment_at(f, 1, SYN))
}

/// CTK-11: a gateway that knows nothing of a connection finds its backend again.
fn picked_up(f: Family) -> Case {
    named("picked up in mid-stream", f).then(move |gateway| {
        let service = [web(f, Tcp, &[0, 1, 2])];
        gateway.apply("ns/web", &service);
        let mut other = Gateway::new(Setup::default());
        // Another history gives other ids, but must not give other backends.
        other.apply("ns/noise", &[web(f, Tcp, &[1, 2])]);
        other.apply("ns/noise", &[]);
        other.apply("ns/web", &service);
        let mut backends = HashMap::new();
        for port in 0..200 {
            let from = |flags| tcp(at(f.client, 20_000 + port), vip(f)).flags(flags);
            let destination = |fate: Fate| match fate {
                Fate::Sent(IN, frame) if f.v4 => frame[30..34].to_vec(),
                Fate::Sent(IN, frame) => frame[38..54].to_vec(),
                fate => panic!("{fate:?}"),
            };
            let first = destination(gateway.outside(&from(SYN)));
            assert_eq!(destination(other.outside(&from(ACK))), first, "port {port}");
            *backends.entry(first).or_insert(0) += 1;
        }
        assert!(backends.len() == 3 && backends.values().all(|&count| count > 40), "{backends:?}");
    })
}

/// CTK-10.
fn unsolicited(f: Family) -> Case {
    named("a reply to nothing", f)
        .service("ns/web", &[web(f, Tcp, &[0]), web(f, Udp, &[0])])
        .pods(answer(f, 0, ACK), dropped(NoConnection))
        .pods(answer(f, 0, SYN | ACK), dropped(NoConnection))
        .pods(
            tcp(at(f.backends[0], 8080), at(f.node_in, MASQUERADE_PORT)).flags(ACK),
            dropped(NoConnection),
        )
        .pods(udp(at(f.backends[0], 8080), at(f.node_in, MASQUERADE_PORT)), dropped(NoConnection))
        .then(|gateway| assert_eq!(gateway.connections(), 0))
}

/// CTK-10: a backend may be somebody's client, even from the port that it serves: both directions go as they are.
fn backend_as_client(f: Family) -> Case {
    let from = |flags| segment_of(at(f.backends[0], 8080), at(f.client, 123), flags);
    let back = |flags| segment_of(at(f.client, 123), at(f.backends[0], 8080), flags);
    let mut case = named("a backend opens a connection from its service port", f)
        .service("ns/web", &[web(f, Tcp, &[0])]);
    for (out, answer) in [(SYN, SYN | ACK), (ACK, ACK), (FIN | ACK, FIN | ACK), (ACK, ACK)] {
        case = case
            .pods(from(out), sent_out(from(out).ttl(63)))
            .outside(back(answer), sent_in(back(answer).ttl(63)));
    }
    // One that is not known is a reply to nothing.
    case.pods(segment_of(at(f.backends[0], 8080), at(f.client, 124), ACK), dropped(NoConnection))
}

/// CTK-10: over UDP only the past tells a question from a reply: to whom it answered through a Service lately it may not
/// send as it is.
fn backend_asks_first(f: Family) -> Case {
    let (backend, peer) = (at(f.backends[0], 8080), at(f.client, 123));
    let answer = udp(backend, at(f.client, 5000));
    named("a backend sends from its service port first", f)
        .service("ns/web", &[web(f, Udp, &[0])])
        .pods(udp(backend, peer), sent_out(udp(backend, peer).ttl(63)))
        .then(|gateway| assert_eq!(gateway.connections(), 0, "who answers makes the connection"))
        .outside(udp(peer, backend), sent_in(udp(peer, backend).ttl(63)))
        .pods(udp(backend, peer), sent_out(udp(backend, peer).ttl(63)))
        .then(|gateway| assert_eq!(gateway.connections(), 1))
        // It has no part in connections of the Service, which has moved to another backend.
        .outside(asked(f), asked_at(f, 0))
        .apply("ns/web", vec![web(f, Udp, &[1])])
        .outside(asked(f), asked_at(f, 1))
        .pods(answer.clone(), dropped(NoConnection))
        .wait(58_000)
        .pods(answer.clone(), dropped(NoConnection))
        .pods(udp(backend, at(f.client, 124)), sent_out(udp(backend, at(f.client, 124)).ttl(63)))
        .wait(2_000)
        .pods(answer.clone(), sent_out(answer.ttl(63)))
        .outside(asked(f), asked_at(f, 1))
}

fn segment_of(from: (std::net::IpAddr, u16), to: (std::net::IpAddr, u16), flags: u8) -> Packet {
    tcp(from, to).flags(flags)
}

/// Past the Service: nothing is translated, in both directions.
fn direct(f: Family) -> Case {
    let to = |flags| tcp(at(f.client, 5000), at(f.backends[0], 8080)).flags(flags);
    let mut case = named("direct to an endpoint", f).service("ns/web", &[web(f, Tcp, &[0])]);
    for (out, back) in [(SYN, SYN | ACK), (ACK, ACK), (FIN | ACK, FIN | ACK), (ACK, ACK)] {
        case = case
            .outside(to(out), sent_in(to(out).ttl(63)))
            .pods(answer(f, 0, back), sent_out(answer(f, 0, back).ttl(63)));
    }
    case
}

/// What is not translated needs no checksum.
fn direct_without_checksum(f: Family) -> Case {
    let to = move || udp(at(f.client, 5000), at(f.backends[0], 8080)).checksum(0);
    named("direct to an endpoint, without checksum", f)
        .service("ns/web", &[web(f, Udp, &[0])])
        .then(move |gateway| {
            gateway.judged = f.v4;
            for _ in 0..2 {
                assert_eq!(gateway.outside(&to()), sent_in(to().ttl(63)));
            }
        })
}

/// CTK-12: one client port, two ways to one backend. Replies must find the right one.
fn direct_and_by_vip(f: Family, direct_first: bool) -> Case {
    let name = format!("direct and by VIP, v4 {}, direct first {direct_first}", f.v4);
    case(name).service("ns/web", &[web(f, Tcp, &[0])]).then(move |gateway| {
        let direct = (at(f.backends[0], 8080), f.backends[0]);
        let by_vip = (vip(f), f.load_balancer);
        let order = if direct_first { [direct, by_vip] } else { [by_vip, direct] };
        both_get_their_answers(gateway, f, order.map(|(end, _)| end));
    })
}

/// CTK-12.
fn two_vips_one_backend(f: Family) -> Case {
    let service = web(f, Tcp, &[0]).external(f.external_ip, 80);
    named("two VIPs, one backend", f).service("ns/web", &[service]).then(move |gateway| {
        both_get_their_answers(gateway, f, [vip(f), at(f.external_ip, 80)]);
    })
}

/// Two connections from one client end: each answer comes back from where it was asked.
fn both_get_their_answers(gateway: &mut Gateway, f: Family, asked: [(std::net::IpAddr, u16); 2]) {
    let client = at(f.client, 5000);
    let l4 = if f.v4 { 34 } else { 54 };
    let mut ports = vec![];
    for (flags, back) in [(SYN, SYN | ACK), (ACK, ACK)] {
        for end in asked {
            let fate = gateway.outside(&tcp(client, end).flags(flags));
            let Fate::Sent(IN, frame) = fate else { panic!("{fate:?}") };
            let port = u16::from_be_bytes([frame[l4], frame[l4 + 1]]);
            let inside = tcp(at(f.client, port), at(f.backends[0], 8080)).flags(flags).ttl(63);
            assert_eq!(frame, inside.macs(IN_MAC, PODS).frame());
            ports.push(port);
            let reply = tcp(at(f.backends[0], 8080), at(f.client, port)).flags(back);
            let back = tcp(end, client).flags(back).ttl(63);
            assert_eq!(gateway.pods(&reply), sent_out(back));
        }
    }
    assert_eq!(ports[..2], ports[2..], "a connection keeps its port");
    assert!(ports[0] == 5000 && ports[1] != 5000, "{ports:?}");
}

fn small(case: Case) -> Case {
    case.setup(|setup| {
        setup.conntrack.connections_v4 = 100;
        setup.conntrack.connections_v6 = 100;
        setup.node.masquerade_ports = MasqueradePorts(40_000..=49_999);
    })
}

/// What looks like a reply that nobody remembers is of a connection that a frame before it has opened.
fn backends_calls_in_one_burst(f: Family) -> Case {
    named("a backend's own connection comes in one burst", f)
        .service("ns/web", &[web(f, Tcp, &[0])])
        .then(move |gateway| {
            let before = gateway.totals();
            let segments = [SYN, ACK, ACK | PSH]
                .map(|flags| tcp(at(f.backends[0], 8080), at(f.client, 443)).flags(flags));
            for segment in &segments {
                gateway.put(0, IN, &segment.clone().macs(PODS, IN_MAC).frame());
            }
            gateway.poll();
            let sent = segments.map(|segment| sent_out(segment.ttl(63)));
            assert_eq!(gateway.collect(&before), sent);
            assert_eq!(gateway.connections(), 1);
        })
}

/// A segment to a backend, and one that becomes a segment of the same flow: the backend sees them in their order.
fn alike_to_a_backend_in_one_burst(f: Family) -> Case {
    named("a backend is sent to, and a Service, by the same client in one burst", f)
        .service("ns/web", &[web(f, Tcp, &[0])])
        .handshake(f, 0)
        .then(move |gateway| {
            let before = gateway.totals();
            let direct = tcp(at(f.client, 5000), at(f.backends[0], 8080)).flags(PSH);
            for packet in [&direct, &segment(f, ACK)] {
                gateway.put(0, OUT, &packet.clone().macs(ROUTER, OUT_MAC).frame());
            }
            gateway.poll();
            assert_eq!(gateway.collect(&before), [sent_in(direct.ttl(63)), segment_at(f, 0, ACK)]);
        })
}

/// Whoever has not been answered makes room.
fn half_open_are_evicted(f: Family) -> Case {
    small(named("a flood of SYNs", f))
        .service("ns/web", &[web(f, Tcp, &[0])])
        .handshake(f, 0)
        .then(move |gateway| {
            for port in 10_000..12_000 {
                let fate = gateway.outside(&tcp(at(f.client, port), vip(f)));
                assert!(matches!(fate, Fate::Sent(..)), "port {port}: {fate:?}");
            }
            assert!(gateway.connections() <= 101);
            let counters = &gateway.counters[0].conntrack;
            assert!(counters.evicted_half_open.get() >= 1_900, "the newcomers made room");
            assert_eq!(counters.evicted_closing.get(), 0);
        })
        .outside(segment(f, ACK), segment_at(f, 0, ACK))
        .pods(answer(f, 0, ACK), answer_out(f, ACK))
}

/// Full of connections that live, the table takes no more until one ends.
fn established_never_are(f: Family) -> Case {
    small(named("a table full of established connections", f))
        .covers(ConntrackFull)
        .service("ns/web", &[web(f, Tcp, &[0])])
        .then(move |gateway| {
            let mut open = vec![];
            for port in 10_000..10_200 {
                let client = at(f.client, port);
                let backend = at(f.backends[0], 8080);
                let fate = gateway.outside(&tcp(client, vip(f)));
                if fate == dropped(ConntrackFull) {
                    continue;
                }
                assert_eq!(fate, sent_in(tcp(client, backend).ttl(63)));
                gateway.pods(&tcp(backend, client).flags(SYN | ACK));
                gateway.outside(&tcp(client, vip(f)).flags(ACK));
                open.push(port);
            }
            assert_eq!(open.len(), 100, "exactly the capacity");
            for &port in &open {
                let (client, backend) = (at(f.client, port), at(f.backends[0], 8080));
                let fate = gateway.outside(&tcp(client, vip(f)).flags(ACK));
                assert_eq!(fate, sent_in(tcp(client, backend).flags(ACK).ttl(63)));
            }
            // Some that close make room again; one alone might not be among those looked at.
            for &port in &open[..30] {
                let (client, backend) = (at(f.client, port), at(f.backends[0], 8080));
                gateway.outside(&tcp(client, vip(f)).flags(FIN | ACK));
                gateway.pods(&tcp(backend, client).flags(FIN | ACK));
            }
            let fate = gateway.outside(&tcp(at(f.client, 5000), vip(f)));
            assert_eq!(fate, segment_at(f, 0, SYN));
            assert_eq!(gateway.connections(), 100);
            assert_eq!(gateway.counters[0].conntrack.evicted_closing.get(), 1);
        })
}

/// To the second; the model test does every state.
fn idle_times(f: Family) -> Case {
    named("an unanswered flow is forgotten in time", f)
        .service("ns/web", &[web(f, Udp, &[0])])
        .outside(asked(f), asked_at(f, 0))
        .wait(119_900)
        .pods(
            udp(at(f.backends[0], 8080), at(f.client, 5000)),
            sent_out(udp(vip(f), at(f.client, 5000)).ttl(63)),
        )
        .wait(299_900)
        .outside(asked(f), asked_at(f, 0))
        .wait(306_000)
        .then(|gateway| assert_eq!(gateway.connections(), 0))
}

//! Fragments: no reassembly, later ones follow the first by its ports, and wait for it when they come before it.

use dataplane::flow::Protocol::{Sctp, Udp};
use dataplane::held::HELD;
use dataplane::verdict::DropReason::*;
use dataplane::wire::sctp_chunks::INIT;

use super::*;
use crate::support::gateway::{FAMILIES, Family, V4, V6, at};
use crate::support::packet::*;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for f in FAMILIES {
        cases.extend([
            in_any_order(f, false),
            in_any_order(f, true),
            duplicates_and_reordering(f),
            without_the_first(f),
            too_late(f),
            same_identification(f),
            tcp_in_fragments(f),
            flood(f),
            flood_of_later_ones(f),
            refused(f),
            refused_late(f),
        ]);
        cases.extend(sctp_in_fragments(f));
        cases.extend(hostile(f));
        cases.extend(other_protocols(f));
    }
    cases
}

/// Of three fragments.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

fn payload() -> Vec<u8> {
    (0..100).collect()
}

fn question(f: Family) -> Packet {
    udp(at(f.client, 5000), at(f.load_balancer, 80)).payload(&payload())
}

fn question_inside(f: Family) -> Packet {
    udp(at(f.client, 5000), at(f.backends[0], 8080)).payload(&payload()).ttl(63)
}

fn named(name: &str, f: Family) -> Case {
    case(format!("{name}, v4 {}", f.v4)).service("ns/web", &web(f, false))
}

/// PRO-4: a question in fragments, and the reply in fragments, too; each of the orders in which they may come.
fn in_any_order(f: Family, masquerade: bool) -> Case {
    let (client, vip, backend) =
        (at(f.client, 5000), at(f.load_balancer, 80), at(f.backends[0], 8080));
    let inside = if masquerade { at(f.node_in, MASQUERADE_PORT) } else { client };
    case(format!("in any order, v4 {}, masquerade {masquerade}", f.v4))
        .service("ns/web", &web(f, masquerade))
        .then(move |gateway| {
            for (id, order) in (0..).zip(ORDERS) {
                let cut =
                    |from, to, ttl| udp(from, to).payload(&payload()).ttl(ttl).fragments(id, 40);
                let (question, answer) = (cut(client, vip, 64), cut(backend, inside, 64));
                let frames = |pieces: Vec<Packet>, from, to| -> Vec<Vec<u8>> {
                    pieces.into_iter().map(|piece| piece.macs(from, to).frame()).collect()
                };
                let question = frames(question, ROUTER, OUT_MAC);
                let answer = frames(answer, PODS, IN_MAC);
                let sent = cut(inside, backend, 63).into_iter().map(sent_in).collect::<Vec<_>>();
                comes(gateway, OUT, &question, &sent, order);
                let sent = cut(vip, client, 63).into_iter().map(sent_out).collect::<Vec<_>>();
                comes(gateway, IN, &answer, &sent, order);
            }
        })
}

/// Three fragments, one after another; those that come before the first leave behind it, as they came.
fn comes(
    gateway: &mut Gateway,
    port: PortId,
    frames: &[Vec<u8>],
    sent: &[Fate],
    order: [usize; 3],
) {
    let first = order.iter().position(|&i| i == 0).expect("all three");
    for (turn, &i) in order.iter().enumerate() {
        let fates = gateway.receive_all_at(0, port, &frames[i]);
        if turn < first {
            assert_eq!(fates, [Fate::Held], "{order:?}");
        } else if turn == first {
            let expected: Vec<_> =
                [&[0], &order[..first]].concat().iter().map(|&i| sent[i].clone()).collect();
            assert_eq!(fates, expected, "{order:?}");
        } else {
            assert_eq!(fates, [sent[i].clone()], "{order:?}");
        }
    }
}

/// PRO-4: the middle one first, the last one twice; the receiver puts them together.
fn duplicates_and_reordering(f: Family) -> Case {
    let (pieces, sent) = (question(f).fragments(5, 40), question_inside(f).fragments(5, 40));
    [0, 2, 2, 1, 0].into_iter().fold(named("any order behind the first", f), |case, i| {
        case.outside(pieces[i].clone(), sent_in(sent[i].clone()))
    })
}

/// PRO-4: held for two seconds, and no longer.
fn without_the_first(f: Family) -> Case {
    let pieces = question(f).fragments(5, 40);
    named("without the first", f)
        .outside(pieces[1].clone(), Fate::Held)
        .outside(pieces[2].clone(), Fate::Held)
        .wait(1_999)
        .then(|gateway| {
            assert_eq!(gateway.connections(), 0);
            assert_eq!(gateway.counters[0].work.held.get(), 0, "two seconds are over");
            assert_eq!(gateway.counters[0].drops[FragmentUnknown as usize].get(), 2);
            gateway.assert_balanced();
        })
        // Too late for them: it goes alone.
        .outside(pieces[0].clone(), sent_in(question_inside(f).fragments(5, 40).remove(0)))
}

/// Two seconds later the identification may be another packet's.
fn too_late(f: Family) -> Case {
    let (pieces, sent) = (question(f).fragments(5, 40), question_inside(f).fragments(5, 40));
    named("too late", f)
        .outside(pieces[0].clone(), sent_in(sent[0].clone()))
        .wait(1_999)
        .outside(pieces[1].clone(), sent_in(sent[1].clone()))
        .wait(1)
        .outside(pieces[2].clone(), Fate::Held)
}

/// Two senders, two protocols, one identification.
fn same_identification(f: Family) -> Case {
    let other = if f.v4 { "203.0.113.8" } else { "2001:db8:f::8" };
    let cut = |client: &str, port| {
        let toward = |end| udp(at(client, port), end).payload(&payload());
        let inside = toward(at(f.backends[0], 8080)).ttl(63);
        (toward(at(f.load_balancer, 80)).fragments(5, 40), inside.fragments(5, 40))
    };
    let ((a, a_sent), (b, b_sent)) = (cut(f.client, 5000), cut(other, 6000));
    let of_tcp = tcp(at(f.client, 7000), at(f.load_balancer, 80)).payload(&payload());
    let tcp_sent = tcp(at(f.client, 7000), at(f.backends[0], 8080)).payload(&payload()).ttl(63);
    let (c, c_sent) = (of_tcp.fragments(5, 40), tcp_sent.fragments(5, 40));
    let mut case = named("one identification, three packets", f);
    for i in 0..3 {
        case = case
            .outside(a[i].clone(), sent_in(a_sent[i].clone()))
            .outside(b[i].clone(), sent_in(b_sent[i].clone()))
            .outside(c[i].clone(), sent_in(c_sent[i].clone()));
    }
    case
}

fn tcp_in_fragments(f: Family) -> Case {
    let cut = |end, flags, ttl| {
        tcp(at(f.client, 5000), end).flags(flags).payload(&payload()).ttl(ttl).fragments(9, 24)
    };
    let (vip, backend) = (at(f.load_balancer, 80), at(f.backends[0], 8080));
    let mut case = named("a TCP segment", f);
    for flags in [SYN, ACK] {
        for (packet, sent) in cut(vip, flags, 64).into_iter().zip(cut(backend, flags, 63)) {
            case = case.outside(packet, sent_in(sent));
        }
    }
    case
}

/// What is remembered is bounded, the oldest goes.
fn flood(f: Family) -> Case {
    named("more first fragments than are remembered", f)
        .setup(|setup| setup.fragmented_packets = 4)
        .then(move |gateway| {
            let (pieces, sent) =
                (question(f).fragments(0, 40), question_inside(f).fragments(0, 40));
            assert_eq!(gateway.outside(&pieces[0]), sent_in(sent[0].clone()));
            for id in 1..=4 {
                gateway.now = gateway.now.after(1);
                let piece = &question(f).fragments(id, 40)[0];
                assert!(matches!(gateway.outside(piece), Fate::Sent(..)));
            }
            assert_eq!(gateway.outside(&pieces[1]), Fate::Held);
            let last = question(f).fragments(4, 40).remove(2);
            assert!(matches!(gateway.outside(&last), Fate::Sent(..)));
        })
}

/// What is held is bounded, the oldest goes; who comes in time is not disturbed.
fn flood_of_later_ones(f: Family) -> Case {
    named("more later fragments than are held", f).covers(FragmentOverflow).then(move |gateway| {
        let flood = |gateway: &mut Gateway, count: usize| {
            for id in 0..count {
                let piece = question(f).fragments(1_000 + id as u16, 40).remove(1);
                gateway.put(0, OUT, &piece.macs(ROUTER, OUT_MAC).frame());
            }
            let before = gateway.totals();
            gateway.poll();
            gateway.collect(&before)
        };
        let (pieces, sent) = (question(f).fragments(5, 40), question_inside(f).fragments(5, 40));
        assert_eq!(flood(gateway, HELD), vec![Fate::Held; HELD]);
        // It makes room, is held, and a flood that does not fill the room does it no harm.
        assert_eq!(gateway.outside(&pieces[2]), dropped(FragmentOverflow));
        assert_eq!(flood(gateway, HELD - 1), vec![dropped(FragmentOverflow); HELD - 1]);
        let first = pieces[0].clone().macs(ROUTER, OUT_MAC).frame();
        let fates = gateway.receive_all_at(0, OUT, &first);
        assert_eq!(fates, [0, 2].map(|i: usize| sent_in(sent[i].clone())));
        assert_eq!(gateway.counters[0].work.held.get(), HELD as u64 - 1);
        let before = gateway.totals();
        gateway.wait(2_000);
        let fates = gateway.collect(&before);
        assert_eq!(fates, vec![dropped(FragmentUnknown); HELD - 1]);
    })
}

/// The first fragment is refused; nobody answers the others.
fn refused(f: Family) -> Case {
    let empty = Service::new("ns/none:80", Udp, &[]).load_balancer(f.external_ip, 80, &[]);
    let pieces =
        udp(at(f.client, 5000), at(f.external_ip, 80)).payload(&payload()).fragments(3, 40);
    let quoted = pieces[0].ip();
    named("a datagram in fragments is refused once", f)
        .service("ns/none", &[empty])
        .outside(
            pieces[0].clone(),
            answered_out(port_unreachable(f.node_out, f.client, &quoted).ip_fragment(0, 0)),
        )
        .outside(pieces[1].clone(), dropped(FragmentUnknown))
}

fn refused_late(f: Family) -> Case {
    let empty = Service::new("ns/none:80", Udp, &[]).load_balancer(f.external_ip, 80, &[]);
    let pieces =
        udp(at(f.client, 5000), at(f.external_ip, 80)).payload(&payload()).fragments(3, 40);
    let answer = port_unreachable(f.node_out, f.client, &pieces[0].ip()).ip_fragment(0, 0);
    named("what waited for a fragment that is refused is dropped", f)
        .service("ns/none", &[empty])
        .outside(pieces[1].clone(), Fate::Held)
        .then(move |gateway| {
            let first = pieces[0].clone().macs(ROUTER, OUT_MAC).frame();
            let fates = gateway.receive_all_at(0, OUT, &first);
            assert_eq!(fates, [answered_out(answer), dropped(FragmentUnknown)]);
        })
}

/// An SCTP packet of three fragments, whose checksum the receiver of the whole checks.
fn chunks(from: impl End, to: impl End) -> Packet {
    sctp(from, to, INIT, &payload())
}

/// PRO-4, PRO-2: SCTP in fragments keeps its checksum as long as it keeps its ports, and is dropped where it does not.
fn sctp_in_fragments(f: Family) -> Vec<Case> {
    let (client, vip) = (at(f.client, 5000), at(f.load_balancer, 99));
    let service = |port| {
        Service::new("ns/sigtran:99", Sctp, &[(f.backends[0], port)])
            .external_local()
            .load_balancer(f.load_balancer, 99, &[])
    };
    let named = |name: &str| case(format!("SCTP in fragments, {name}, v4 {}", f.v4));
    let mut same = named("the same port").service("ns/sigtran", &[service(99)]);
    let backend = at(f.backends[0], 99);
    let cut = |from, to, ttl| chunks(from, to).ttl(ttl).fragments(7, 40);
    for (packet, sent) in cut(client, vip, 64).into_iter().zip(cut(client, backend, 63)) {
        same = same.outside(packet, sent_in(sent));
    }
    for (packet, sent) in cut(backend, client, 64).into_iter().zip(cut(vip, client, 63)) {
        same = same.pods(packet, sent_out(sent));
    }
    let mut other = named("another port").service("ns/sigtran", &[service(9999)]);
    for packet in cut(client, vip, 64) {
        other = other.outside(packet, dropped(FragmentSctp));
    }
    for packet in cut(at(f.backends[0], 9999), client, 64) {
        other = other.pods(packet, dropped(FragmentSctp));
    }
    vec![same, other]
}

/// RFC 1858, RFC 3128, RFC 5722.
fn hostile(f: Family) -> Vec<Case> {
    let piece = |number: u8, bytes: &[u8], offset: u16, more: bool| {
        let packet = raw(f.client, f.load_balancer, number, bytes);
        if f.v4 {
            packet.ip_fragment(5, (offset / 8) | if more { 0x2000 } else { 0 })
        } else {
            packet.extension(FRAGMENT, &fragment_header(5, offset, more))
        }
    };
    let bad = |name: &str, packet: Packet| named(name, f).outside(packet, dropped(FragmentBad));
    let mut cases = vec![
        bad("a first fragment that hides TCP's flags", piece(TCP, &[0; 8], 0, true)),
        bad("a first fragment that hides ports", piece(UDP, &[], 0, true)),
        bad("a first fragment that hides SCTP's chunk", piece(SCTP, &[0; 8], 0, true)),
        bad("a later fragment without bytes", piece(UDP, &[], 80, false)),
        bad("beyond the largest packet", piece(UDP, &[0; 64], 65_528, false)),
    ];
    if f.v4 {
        cases.push(bad("over TCP's flags", piece(TCP, &[0; 16], 8, true)));
    }
    cases
}

/// What has no ports is treated by its address, in fragments as in one piece.
fn other_protocols(f: Family) -> Vec<Case> {
    let transit = |name: &str, packet: Packet| {
        let (pieces, sent) = (packet.fragments(6, 40), packet.clone().ttl(63).fragments(6, 40));
        pieces
            .into_iter()
            .zip(sent)
            .fold(named(name, f), |case, (piece, sent)| case.pods(piece, sent_out(sent)))
    };
    let at_vip = |name: &str, packet: Packet| {
        packet
            .fragments(6, 40)
            .into_iter()
            .fold(named(name, f), |case, piece| case.outside(piece, dropped(UnsupportedProtocol)))
    };
    let to_client = |packet: Packet| packet.payload(&payload());
    vec![
        transit("a ping in transit", ping(f.pod, f.client, &payload())),
        transit("SCTP in transit", chunks(at(f.pod, 9), at(f.client, 9))),
        transit("UDP in transit", to_client(udp(at(f.pod, 9), at(f.client, 9)))),
        at_vip("a ping of a VIP", ping(f.client, f.load_balancer, &payload())),
        at_vip(
            "an ICMP error to a VIP",
            port_unreachable(f.client, f.load_balancer, &question(if f.v4 { V4 } else { V6 }).ip()),
        ),
        named("for the node", f).outside(
            ping(f.client, f.node_out, &payload()).fragments(6, 40).remove(1),
            punted_out(ping(f.client, f.node_out, &payload()).fragments(6, 40).remove(1)),
        ),
    ]
}

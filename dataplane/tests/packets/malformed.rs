//! Frames that contradict themselves, hide something, or come from nowhere; and odd ones that are fine.

use dataplane::flow::Protocol::{Tcp, Udp};
use dataplane::verdict::DropReason::{self, *};

use super::*;
use crate::support::gateway::{FAMILIES, Family, V4, V6, at};
use crate::support::packet::*;

pub fn cases() -> Vec<Case> {
    [ethernet(), headers_v4(), headers_v6(), transport(), martians(), fine()]
        .into_iter()
        .flatten()
        .chain([truncation_sweep(), not_contiguous()])
        .collect()
}

/// A UDP Service behind the load-balancer address that keeps client addresses: nothing but the address changes.
fn echo_service(f: Family) -> [Service; 2] {
    [Tcp, Udp].map(|protocol| {
        Service::new("ns/web:80", protocol, &[(f.backends[0], 8080)])
            .external_local()
            .load_balancer(f.load_balancer, 80, &[])
    })
}

fn with_service(name: impl Into<String>, f: Family) -> Case {
    case(name).service("ns/web", &echo_service(f))
}

fn syn(f: Family) -> Packet {
    tcp(at(f.client, 5000), at(f.load_balancer, 80))
}

fn syn_inside(f: Family) -> Packet {
    tcp(at(f.client, 5000), at(f.backends[0], 8080)).ttl(63)
}

fn question(f: Family) -> Packet {
    udp(at(f.client, 5000), at(f.load_balancer, 80))
}

fn question_inside(f: Family) -> Packet {
    udp(at(f.client, 5000), at(f.backends[0], 8080)).ttl(63)
}

fn raw_frame(name: &str, frame: &[u8], reason: DropReason) -> Case {
    case(name).frame(OUT, frame.to_vec(), dropped(reason))
}

fn ethernet() -> Vec<Case> {
    let header = |ether_type: [u8; 2]| [&OUT_MAC[..], &ROUTER, &ether_type].concat();
    let llc = [header([0, 46]), vec![0xaa; 46]].concat();
    let arp_of_token_ring = {
        let mut frame = arp(1, (ROUTER, "192.0.2.9"), ([0; 6], "192.0.2.1"), OUT_MAC, ROUTER);
        frame[15] = 6;
        frame
    };
    vec![
        raw_frame("an empty frame", &[], Truncated),
        raw_frame("half an Ethernet header", &header([8, 0])[..13], Truncated),
        raw_frame("an Ethernet header alone", &header([8, 0]), Truncated),
        raw_frame("a VLAN tag cut short", &header([0x81, 0]), Truncated),
        raw_frame("IPX", &header([0x81, 0x37]), UnsupportedEtherType),
        raw_frame("a length instead of a type (LLC)", &llc, UnsupportedEtherType),
        raw_frame("ARP of another hardware", &arp_of_token_ring, Malformed),
        raw_frame("ARP cut short", &arp_of_token_ring[..40], Truncated),
        case("two VLAN tags").outside(syn(V4).vlan(7).vlan(8), dropped(UnsupportedEtherType)),
        case("provider bridging").outside(syn(V4).tag(0x88a8, 7), dropped(UnsupportedEtherType)),
        case("somebody else's MAC address").frame(
            OUT,
            syn(V4).macs(ROUTER, IN_MAC).frame(),
            dropped(NotOurMac),
        ),
    ]
}

fn headers_v4() -> Vec<Case> {
    let p = || syn(V4);
    let bad = |name: &str, packet: Packet, reason| {
        case(format!("IPv4: {name}")).outside(packet, dropped(reason))
    };
    vec![
        bad("version 6 in an IPv4 frame", p().edit(0, &[0x65]), Malformed),
        bad("IHL 4", p().edit(0, &[0x44]), Malformed),
        bad("IHL beyond the total length", p().edit(0, &[0x4f]), Malformed),
        bad("total length below the header's", p().edit(2, &[0, 19]), Malformed),
        bad("total length beyond the frame", p().edit(2, &[0, 41]), Truncated),
        bad("wrong header checksum", p().ip_checksum(0x1234), BadIpChecksum),
        bad("zero header checksum", p().ip_checksum(0), BadIpChecksum),
        bad("loose source route", p().ip_options(&[131, 7, 4, 1, 2, 3, 4, 0]), SourceRoute),
        bad("strict source route", p().ip_options(&[1, 137, 7, 4, 1, 2, 3, 4]), SourceRoute),
        bad(
            "source route behind others",
            p().ip_options(&[68, 4, 5, 0, 131, 3, 4, 0]),
            SourceRoute,
        ),
        bad("option longer than the rest", p().ip_options(&[7, 9, 4, 0]), Malformed),
        bad("option of length zero", p().ip_options(&[7, 0, 4, 0]), Malformed),
        bad("option of length one", p().ip_options(&[7, 1, 4, 0]), Malformed),
        bad("option without a length", p().ip_options(&[1, 1, 1, 7]), Malformed),
    ]
}

fn headers_v6() -> Vec<Case> {
    let p = || syn(V6);
    let bad = |name: &str, packet: Packet, reason| {
        case(format!("IPv6: {name}")).outside(packet, dropped(reason))
    };
    let many = |n: usize| (0..n).fold(p(), |packet, _| packet.extension(60, &[0; 8]));
    let routing = |kind: u8, left: u8| p().extension(43, &[0, 0, kind, left, 0, 0, 0, 0]);
    let mapped = tcp("[::ffff:203.0.113.7]:5000", at(V6.load_balancer, 80));
    vec![
        bad("version 4 in an IPv6 frame", p().edit(0, &[0x40]), Malformed),
        bad("payload length beyond the frame", p().edit(4, &[0, 21]), Truncated),
        bad("source route of type 0", routing(0, 1), SourceRoute),
        bad("nine extension headers", many(9), ExtensionHeaders),
        bad("fifty extension headers", many(50), ExtensionHeaders),
        bad(
            "an extension longer than the packet",
            p().extension(0, &[0, 9, 0, 0, 0, 0, 0, 0]),
            Truncated,
        ),
        bad("an extension cut short", p().edit(6, &[60]).edit(40, &[60, 3]), Truncated),
        bad(
            "two fragment headers",
            p().extension(FRAGMENT, &fragment_header(1, 0, true))
                .extension(FRAGMENT, &fragment_header(1, 0, true)),
            FragmentBad,
        ),
        bad("a mapped IPv4 source", mapped, Martian),
    ]
}

fn transport() -> Vec<Case> {
    let mut cases = vec![];
    for f in FAMILIES {
        let l4 = if f.v4 { 20 } else { 40 };
        let bad = |name: &str, packet: Packet, reason| {
            with_service(format!("{name}, v4 {}", f.v4), f).outside(packet, dropped(reason))
        };
        cases.extend([
            bad("TCP header of 19 bytes", raw(f.client, f.load_balancer, TCP, &[0; 19]), Truncated),
            bad("TCP data offset 4", syn(f).edit(l4 + 12, &[4 << 4]), Malformed),
            bad("TCP data offset beyond the packet", syn(f).edit(l4 + 12, &[6 << 4]), Malformed),
            bad("UDP header of 7 bytes", raw(f.client, f.load_balancer, UDP, &[0; 7]), Truncated),
            bad("UDP length below eight", question(f).edit(l4 + 4, &[0, 7]), Malformed),
            bad("UDP length beyond the packet", question(f).edit(l4 + 4, &[0, 17]), Malformed),
            bad(
                "echo with a wrong checksum",
                ping(f.client, f.load_balancer, b"x").checksum(1),
                BadIcmpChecksum,
            ),
            bad(
                "error with a wrong checksum",
                port_unreachable(f.client, f.load_balancer, &syn(f).ip()).checksum(1),
                BadIcmpChecksum,
            ),
            bad(
                "ICMP of seven bytes",
                raw(f.client, f.load_balancer, if f.v4 { ICMP } else { ICMPV6 }, &[8; 7]),
                Truncated,
            ),
        ]);
    }
    cases.extend(udp_checksums());
    // A wrong checksum is the receiver's to find: it must arrive as wrong as it left (I9).
    for f in FAMILIES {
        for (packet, inside) in [(syn(f), syn_inside(f)), (question(f), question_inside(f))] {
            cases.push(with_service("a wrong checksum stays wrong", f).then(move |gateway| {
                gateway.judged = false;
                let at = if packet.transport()[12] == 5 << 4 { 16 } else { 6 };
                let word = |bytes: &[u8]| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
                let (right, expected) = (word(&packet.transport()), word(&inside.transport()));
                for error in [1, 0x8000, 0x1234] {
                    let wrong = |right: u16| {
                        let sum = u32::from(right) + error;
                        ((sum & 0xffff) + (sum >> 16)) as u16
                    };
                    let fate = gateway.outside(&packet.clone().checksum(wrong(right)));
                    assert_eq!(fate, sent_in(inside.clone().checksum(wrong(expected))));
                }
            }));
        }
    }
    cases
}

/// PRO-3: none is legal in IPv4 and stays none (RFC 768); in IPv6 it can't be translated (RFC 8200). A sum of zero is sent
/// as all ones.
fn udp_checksums() -> Vec<Case> {
    let none = [
        with_service("UDP without checksum, IPv4", V4)
            .outside(question(V4).checksum(0), sent_in(question_inside(V4).checksum(0))),
        with_service("UDP without checksum, IPv6", V6)
            .outside(question(V6).checksum(0), dropped(ZeroUdpChecksum))
            .then(|gateway| assert_eq!(gateway.connections(), 0, "a dropped packet opened a flow")),
    ];
    let zero = FAMILIES.map(|f| {
        let with = |packet: Packet, word: u16| packet.payload(&word.to_be_bytes());
        let word = (0..=u16::MAX).find(|&word| {
            let inside = with(question_inside(f), word).transport();
            inside[6..8] == [0xff, 0xff]
        });
        let word = word.expect("one of all words makes a sum of zero");
        with_service("UDP with a sum of zero", f)
            .outside(with(question(f), word), sent_in(with(question_inside(f), word)))
    });
    none.into_iter().chain(zero).collect()
}

fn martians() -> Vec<Case> {
    let to_v4 = |src: &str| udp(at(src, 5000), at(V4.load_balancer, 80));
    let to_v6 = |src: &str| udp(at(src, 5000), at(V6.load_balancer, 80));
    let sources = [
        to_v4("127.0.0.1"),
        to_v4("127.255.0.1"),
        to_v4("0.0.0.0"),
        to_v4("224.0.0.5"),
        to_v4("240.0.0.1"),
        to_v4("255.255.255.255"),
        to_v4(V4.load_balancer),
        to_v6("::1"),
        to_v6("::"),
        to_v6("ff02::1"),
        to_v6(V6.load_balancer),
    ];
    let mut cases: Vec<Case> = sources
        .into_iter()
        .map(|packet| case(format!("martian {packet:?}")).outside(packet, dropped(Martian)))
        .collect();
    // Node ports stand under the unspecified address: nobody may ask for them there.
    for (f, unspecified) in [(V4, "0.0.0.0"), (V6, "::")] {
        let packet = tcp(at(f.client, 5000), at(unspecified, 30_080));
        let everywhere = Service::new("ns/web:80", Tcp, &[(f.backends[0], 8080)]);
        cases.push(
            case("no destination")
                .service("ns/web", &[everywhere.node_port(f.v4, 30_080)])
                .outside(packet, dropped(Martian)),
        );
    }
    let to_mapped = udp(at(V6.client, 5000), "[::ffff:10.0.0.1]:80");
    cases.push(case("a mapped IPv4 destination").outside(to_mapped, dropped(Martian)));
    cases
}

/// Odd but right: each leaves translated and otherwise byte for byte as it came.
fn fine() -> Vec<Case> {
    let mut cases = vec![];
    for f in FAMILIES {
        let mut good = |name: &str, packet: Packet, inside: Packet| {
            let name = format!("{name}, v4 {}", f.v4);
            cases.push(with_service(name, f).outside(packet, sent_in(inside)));
        };
        good("a SYN", syn(f), syn_inside(f));
        good("a datagram", question(f), question_inside(f));
        good("an empty datagram", question(f).payload(b""), question_inside(f).payload(b""));
        good("an odd payload", question(f).payload(b"odd"), question_inside(f).payload(b"odd"));
        good("padding", syn(f).padding(&[0xee; 6]), syn_inside(f).padding(&[0xee; 6]));
        good("a VLAN tag", syn(f).vlan(0x2064), syn_inside(f).vlan(0x2064));
        good("hop limit 255", syn(f).ttl(255), syn_inside(f).ttl(254));
        good("hop limit 2", syn(f).ttl(2), syn_inside(f).ttl(1));
        let options = [2, 4, 5, 0xb4, 1, 3, 3, 7, 4, 2, 1, 1];
        good("TCP options", syn(f).tcp_options(&options), syn_inside(f).tcp_options(&options));
        let big = vec![0x5a; if f.v4 { 1460 } else { 1440 }];
        good("a full frame", syn(f).payload(&big), syn_inside(f).payload(&big));
    }
    // Options of every length.
    for words in 1..=10 {
        let options = vec![1; words * 4];
        cases.push(
            with_service(format!("IHL {}", 5 + words), V4).outside(
                syn(V4).ip_options(&options),
                sent_in(syn_inside(V4).ip_options(&options)),
            ),
        );
    }
    for (name, options) in [
        ("record route", vec![7, 7, 4, 0, 0, 0, 0, 0]),
        ("timestamp", vec![68, 8, 5, 0, 0, 0, 0, 0]),
        ("bytes behind the end of options", vec![0, 131, 0, 0]),
    ] {
        cases.push(
            with_service(name, V4).outside(
                syn(V4).ip_options(&options),
                sent_in(syn_inside(V4).ip_options(&options)),
            ),
        );
    }
    // Extension headers that are walked.
    type Chain = Vec<(u8, Vec<u8>)>;
    let chains: [(&str, Chain); 5] = [
        ("hop by hop", vec![(0, vec![0; 8])]),
        ("eight extension headers", vec![(60, vec![0; 8]); 8]),
        ("a long one", vec![(60, [vec![0, 5], vec![0; 46]].concat())]),
        ("a used-up route of type 0", vec![(43, vec![0; 8])]),
        ("an atomic fragment", vec![(FRAGMENT, fragment_header(9, 0, false).to_vec())]),
    ];
    for (name, chain) in chains {
        let extended = |packet: Packet| {
            chain.iter().fold(packet, |packet, (kind, bytes)| packet.extension(*kind, bytes))
        };
        cases.push(
            with_service(name, V6)
                .outside(extended(syn(V6)), sent_in(extended(syn_inside(V6))))
                .outside(extended(question(V6)), sent_in(extended(question_inside(V6)))),
        );
    }
    cases
}

/// Golden frames cut at every byte are dropped by name, and none leaves.
fn truncation_sweep() -> Case {
    let both = [echo_service(V4), echo_service(V6)].concat();
    case("every frame cut at every byte").service("ns/web", &both).then(|gateway| {
        for f in FAMILIES {
            let quoted = syn_inside(f).ip();
            let golden = [
                syn(f).payload(b"payload"),
                syn(f).vlan(5).tcp_options(&[1; 8]),
                question(f),
                ping(f.client, f.load_balancer, b"0123456789"),
                port_unreachable(f.backends[0], f.client, &quoted),
                solicitation(ROUTER, "2001:db8:1::9", V6.load_balancer),
                question(f).fragments(7, 8).remove(0),
                question(V6).extension(0, &[0; 8]).extension(60, &[0; 8]),
                syn(V4).ip_options(&[7, 7, 4, 0, 0, 0, 0, 0]),
            ];
            let arp = arp(1, (ROUTER, "192.0.2.9"), ([0; 6], V4.load_balancer), OUT_MAC, ROUTER);
            let frames = golden.into_iter().map(|packet| packet.macs(ROUTER, OUT_MAC).frame());
            for frame in frames.chain([arp]) {
                for len in 0..frame.len() {
                    let fate = gateway.receive(OUT, &frame[..len]);
                    assert_eq!(fate, dropped(Truncated), "{len} bytes of {frame:02x?}");
                }
            }
        }
    })
}

/// A frame in several segments never gets as far as its bytes.
fn not_contiguous() -> Case {
    case("a frame in several segments").covers(NotContiguous).then(|_| {
        limits::odd_frame(syn(V4), false, 0, dropped(NotContiguous));
    })
}

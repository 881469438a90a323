//! What must hold for any packets in any order.

#![allow(clippy::cast_possible_truncation, reason = "test data is small")]
#![allow(unreachable_pub, reason = "a test crate has no users")]

mod model;
mod support;

use std::net::SocketAddr;

use dataplane::flow::Tuple;
use dataplane::rewrite;
use dataplane::wire::{self, Headers, Parsed};
use model::story::{Step, Story};
use proptest::prelude::*;
use support::gateway::{FAMILIES, IN, IN_MAC, PODS, V4, V6, at};
use support::judge::judge;
use support::packet::*;

// --- Rewriting -------------------------------------------------------------------------------------------------------

/// Any packet that can be translated, whole or a first fragment.
fn any_packet() -> impl Strategy<Value = Packet> {
    let ends = (any::<[u8; 16]>(), 1..=u16::MAX, any::<[u8; 16]>(), 1..=u16::MAX);
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    let odd = (0u8..4, 0usize..3, any::<bool>(), 2u8..);
    (any::<bool>(), any::<bool>(), ends, payload, odd).prop_map(
        |(v4, is_tcp, (src, sport, dst, dport), payload, (options, extensions, vlan, ttl))| {
            let (src, dst) = (end(v4, src, sport, 1), end(v4, dst, dport, 2));
            let mut packet = if is_tcp { tcp(src, dst) } else { udp(src, dst) };
            packet = packet.payload(&payload).ttl(ttl).macs(PODS, IN_MAC);
            if v4 {
                packet = packet.ip_options(&vec![1; usize::from(options) * 4]);
            } else {
                packet = (0..extensions).fold(packet, |packet, _| packet.extension(60, &[0; 8]));
            }
            if vlan { packet.vlan(7) } else { packet }
        },
    )
}

/// An ordinary unicast address made of these bytes; `side` keeps source and destination apart.
fn end(v4: bool, bytes: [u8; 16], port: u16, side: u8) -> SocketAddr {
    if v4 {
        ([10 + side, bytes[0], bytes[1], bytes[2]], port).into()
    } else {
        let mut bytes = bytes;
        (bytes[0], bytes[1]) = (0xfd, side);
        (bytes, port).into()
    }
}

fn parsed(frame: &[u8]) -> Headers {
    match wire::parse(frame) {
        Ok(Parsed::Ip(headers)) => headers,
        other => panic!("{other:?}"),
    }
}

fn target(from: &Tuple, bytes: ([u8; 16], [u8; 16], u16, u16)) -> Tuple {
    let v4 = from.src.is_v4();
    let (src, dst) = (end(v4, bytes.0, bytes.2, 3), end(v4, bytes.1, bytes.3, 4));
    Tuple {
        src: src.ip().into(),
        dst: dst.ip().into(),
        sport: src.port(),
        dport: dst.port(),
        protocol: from.protocol,
    }
}

/// The transport checksum's place in a frame.
fn checksum_at(headers: &Headers) -> usize {
    headers.l4 + if headers.number == TCP { 16 } else { 6 }
}

proptest! {
    /// I3 and I9: right checksums stay right, and translating back restores every byte.
    #[test]
    fn translating_and_back_changes_nothing(packet in any_packet(), to: ([u8; 16], [u8; 16], u16, u16)) {
        let original = packet.frame();
        let mut frame = original.clone();
        let headers = parsed(&frame);
        let from = headers.tuple().expect("a flow");
        let to = target(&from, to);
        rewrite::translate(&mut frame, &headers, &from, &to);
        judge(&frame);
        let translated = parsed(&frame);
        prop_assert_eq!(translated.tuple(), Some(to));
        rewrite::translate(&mut frame, &translated, &to, &from);
        // A sum has two zeros. A sender computes TCP's as 0x0000, so 0xffff need not come back.
        prop_assert_eq!(frame, original);
    }

    /// I9: a wrong checksum stays wrong, by the same amount.
    #[test]
    fn a_wrong_checksum_is_never_repaired(packet in any_packet(), to: ([u8; 16], [u8; 16], u16, u16), error in 1u16..0xffff) {
        let mut frame = packet.frame();
        let headers = parsed(&frame);
        let from = headers.tuple().expect("a flow");
        let at = checksum_at(&headers);
        let word = |frame: &[u8]| u32::from(frame[at]) << 8 | u32::from(frame[at + 1]);
        let mut right = frame.clone();
        let wrong = (word(&frame) + u32::from(error)) % 0xffff;
        prop_assume!(wrong != 0 || headers.number == TCP);
        frame[at..at + 2].copy_from_slice(&(wrong as u16).to_be_bytes());
        let to = target(&from, to);
        rewrite::translate(&mut frame, &headers, &from, &to);
        rewrite::translate(&mut right, &headers, &from, &to);
        prop_assert_eq!((word(&right) + u32::from(error)) % 0xffff, word(&frame) % 0xffff);
    }
}

/// Every value that a transport checksum can take, before and after.
#[test]
fn every_checksum_is_updated_as_if_computed_anew() {
    for f in FAMILIES {
        let (client, vip, backend) =
            (at(f.client, 5000), at(f.load_balancer, 80), at(f.backends[0], 8080));
        let tuple = |packet: &Packet| parsed(&packet.frame()).tuple().expect("a flow");
        for build in [udp as fn(_, _) -> Packet, tcp] {
            let (before, after) = (tuple(&build(client, vip)), tuple(&build(client, backend)));
            for word in 0..=u16::MAX {
                let payload = word.to_be_bytes();
                let mut frame = build(client, vip).payload(&payload).frame();
                let headers = parsed(&frame);
                rewrite::translate(&mut frame, &headers, &before, &after);
                let expected = build(client, backend).payload(&payload).frame();
                assert_eq!(frame, expected, "payload {word:#06x}");
                let at = checksum_at(&headers);
                assert!(headers.number == TCP || frame[at..at + 2] != [0, 0]);
            }
        }
    }
}

// --- The model -------------------------------------------------------------------------------------------------------

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..3, any::<bool>(), 0u8..8, any::<bool>(), 0u8..8).prop_map(
            |(client, port, destination, is_tcp, flags)| Step::Ask { client, port, destination, is_tcp, flags }
        ),
        6 => (any::<u8>(), 0u8..8).prop_map(|(connection, flags)| Step::Reply { connection, flags }),
        6 => (any::<u8>(), 0u8..8).prop_map(|(connection, flags)| Step::Continue { connection, flags }),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(connection, by_client)| Step::Error { connection, by_client }),
        2 => (0u8..3, 0u8..9).prop_map(|(service, backends)| Step::Endpoints { service, backends }),
        2 => (0u8..12).prop_map(|choice| Step::Sleep { choice }),
    ]
}

proptest! {
    /// I2, I3, I4, I6: verdict, bytes and number of connections equal the model's, whatever happens.
    #[test]
    fn the_engine_equals_the_model(v4: bool, steps in prop::collection::vec(step(), 1..150)) {
        let mut story = Story::new(if v4 { V4 } else { V6 });
        for step in steps {
            story.run(step);
        }
        story.end();
    }
}

/// The model must see what it is for: stories do open, translate, clash, expire.
#[test]
fn stories_are_eventful() {
    let mut random = support::random::Random::new(1);
    let (mut connections, mut sent) = (0, 0);
    for _ in 0..50 {
        let mut story = Story::new(V4);
        for _ in 0..100 {
            story.run(Step::Ask {
                client: random.below(3) as u8,
                port: random.chance(50),
                destination: random.below(8) as u8,
                is_tcp: random.chance(50),
                flags: random.below(8) as u8,
            });
            story.run(Step::Reply {
                connection: random.below(256) as u8,
                flags: random.below(8) as u8,
            });
        }
        connections += story.gateway.connections();
        sent += story.gateway.counters[0].ports[usize::from(IN)].tx_frames.get();
    }
    assert!(connections > 500 && sent > 2_000, "{connections} connections, {sent} frames sent");
}

#[path = "properties/conntrack.rs"]
mod conntrack;

#[path = "properties/express.rs"]
mod express;

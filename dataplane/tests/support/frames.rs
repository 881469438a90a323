//! Frames of every kind the engine knows, whole and damaged: for tests of what must hold whatever arrives.

#![allow(clippy::cast_possible_truncation, reason = "a random byte is cut from a random number")]

use std::net::IpAddr;

use dataplane::flow::Protocol::{Tcp, Udp};

use super::gateway::{Family, IN_MAC, OUT_MAC, PODS, ROUTER, Service, at};
use super::packet::*;
use super::random::Random;

/// What the frames are for: Services of both protocols with all kinds of addresses.
pub fn services(f: Family) -> [Service; 2] {
    [Tcp, Udp].map(|protocol| {
        let endpoints = [(f.backends[0], 8080), (f.backends[1], 8080)];
        Service::new("ns/web:80", protocol, &endpoints)
            .cluster_ip(f.cluster_ip, 80)
            .load_balancer(f.load_balancer, 80, &[])
            .node_port(f.v4, 30_080)
    })
}

/// One of every kind of frame, those of backends last.
pub fn golden(f: Family) -> Vec<Vec<u8>> {
    let (client, backend) = (at(f.client, 5000), at(f.backends[0], 8080));
    let mut packets = vec![];
    for vip in [at(f.cluster_ip, 80), at(f.load_balancer, 80), at(f.node_out, 30_080), backend] {
        for flags in [SYN, ACK, FIN | ACK, RST] {
            packets.push(tcp(client, vip).flags(flags).payload(b"some data"));
        }
        packets.push(udp(client, vip).payload(&[7; 100]));
        packets.extend(udp(client, vip).payload(&[7; 100]).fragments(77, 40));
        packets.push(port_unreachable(client.0, vip.0, &tcp(vip, client).ip()));
        packets.push(too_big(f.pod, client.0, 1400, &tcp(client, backend).ip()));
        packets.push(ping(client.0, vip.0, b"ping"));
        packets.push(tcp(client, vip).ttl(1).vlan(3));
        if f.v4 {
            packets.push(tcp(client, vip).ip_options(&[7, 7, 4, 0, 0, 0, 0, 0]));
        } else {
            packets.push(tcp(client, vip).extension(0, &[0; 8]).extension(60, &[0; 16]));
        }
    }
    packets.push(solicitation(ROUTER, "fe80::9", "2001:db8:5::10"));
    let mut frames: Vec<Vec<u8>> =
        packets.into_iter().map(|packet| packet.macs(ROUTER, OUT_MAC).frame()).collect();
    let replies = [tcp(backend, client).flags(SYN | ACK), udp(backend, client)];
    frames.extend(replies.map(|packet| packet.macs(PODS, IN_MAC).frame()));
    frames.push(arp(1, (ROUTER, "192.0.2.9"), ([0; 6], "198.51.100.10"), [0xff; 6], ROUTER));
    frames
}

/// A frame with some bytes changed, cut or added; often with its IPv4 header checksum put right again.
pub fn damaged(random: &mut Random, golden: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = golden[random.below(golden.len())].clone();
    for _ in 0..random.below(4) {
        // Headers are where it matters.
        let range = if random.chance(80) { frame.len().min(90) } else { frame.len() };
        let at = random.below(range);
        frame[at] = match random.below(3) {
            0 => random.next() as u8,
            1 => frame[at] ^ 1 << random.below(8),
            _ => random.pick(&[0, 1, 0x7f, 0x80, 0xff]),
        };
    }
    match random.below(10) {
        0 => frame.truncate(random.below(frame.len() + 1)),
        1 => frame.extend((0..random.below(40)).map(|_| random.next() as u8)),
        _ => {}
    }
    if random.chance(70) {
        repair_header(&mut frame);
    }
    frame
}

/// Puts the checksum of an untagged IPv4 header right.
fn repair_header(frame: &mut [u8]) {
    if frame.len() < 34 || frame[12..14] != [8, 0] {
        return;
    }
    let end = (14 + usize::from(frame[14] & 15) * 4).clamp(34, frame.len());
    frame[24..26].fill(0);
    let checksum = internet_checksum(&frame[14..end]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

/// Puts the checksums of an untagged packet right, if it is whole and has neither options nor extension headers.
pub fn repair(frame: &mut [u8]) {
    repair_header(frame);
    let (pseudo, number, at, end) = match frame.get(12..54) {
        Some([8, 0, 0x45, ..]) if frame[20] & 0x3f == 0 && frame[21] == 0 => {
            let len = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            (frame[26..34].to_vec(), frame[23], 34, 14 + len)
        }
        Some([0x86, 0xdd, version, ..]) if version >> 4 == 6 => {
            let len = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
            (frame[22..54].to_vec(), frame[20], 54, 54 + len)
        }
        _ => return,
    };
    let field = match number {
        TCP => at + 16,
        UDP => at + 6,
        ICMP | ICMPV6 => at + 2,
        _ => return,
    };
    if field + 2 > end || end > frame.len() {
        return;
    }
    frame[field..field + 2].fill(0);
    let mut covered = if number == ICMP { vec![] } else { pseudo };
    if number != ICMP {
        covered.extend(((end - at) as u32).to_be_bytes());
        covered.extend([0, 0, 0, number]);
    }
    covered.extend(&frame[at..end]);
    let checksum = match internet_checksum(&covered) {
        0 if number == UDP => 0xffff,
        checksum => checksum,
    };
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The destination of an IP packet in a frame with at most one tag.
pub fn destination(frame: &[u8]) -> Option<IpAddr> {
    let l3 = if frame[12..14] == [0x81, 0] { 18 } else { 14 };
    match frame[l3 - 2..l3] {
        [8, 0] => Some(<[u8; 4]>::try_from(&frame[l3 + 16..l3 + 20]).ok()?.into()),
        [0x86, 0xdd] => Some(<[u8; 16]>::try_from(&frame[l3 + 24..l3 + 40]).ok()?.into()),
        _ => None,
    }
}

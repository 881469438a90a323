//! Packets that are no Service's: forwarded by the mirrored routes, or the kernel's.

use dataplane::verdict::DropReason::*;

use super::*;
use crate::support::gateway::{FAMILIES, at};
use crate::support::packet::*;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for f in FAMILIES {
        let name = |text: &str| format!("{text}, v4 {}", f.v4);
        let (client, pod) = (at(f.client, 5000), at(f.pod, 7000));
        let group = if f.v4 { "224.0.0.5" } else { "ff02::5" };
        let out = |packet: Packet| (packet.clone(), sent_out(packet.ttl(63)));
        let inward = |packet: Packet| (packet.clone(), sent_in(packet.ttl(63)));
        let (segment, sent) = out(tcp(pod, client));
        cases.push(case(name("a pod going out")).pods(segment, sent));
        let (segment, sent) = inward(tcp(client, pod).flags(ACK));
        cases.push(case(name("coming in to a pod")).outside(segment, sent));
        let (packet, sent) = out(raw(f.pod, f.client, 47, &[1; 20]));
        cases.push(case(name("any protocol")).pods(packet, sent));
        let (packet, sent) = out(raw(f.pod, f.client, 132, &[1; 20]));
        cases.push(case(name("SCTP that is no Service's")).pods(packet, sent));
        let (packet, sent) = out(port_unreachable(f.pod, f.client, &udp(client, pod).ip()));
        cases.push(case(name("an ICMP error that is no Service's")).pods(packet, sent));
        let (packet, sent) = out(pong(f.pod, f.client, b"reply"));
        cases.push(case(name("an echo reply")).pods(packet, sent));
        let (packet, sent) = out(udp(pod, client).checksum(0));
        if f.v4 {
            cases.push(case(name("no checksum in transit")).pods(packet, sent));
        }
        let (packet, sent) = out(tcp(pod, client).vlan(12));
        cases.push(case(name("a tag in transit")).pods(packet, sent));
        cases.extend([
            case(name("no route")).outside(tcp(client, at(f.nowhere, 80)), dropped(NoRoute)),
            case(name("to the node")).outside(
                tcp(client, at(f.node_in, 22)),
                punted_out(tcp(client, at(f.node_in, 22))),
            ),
            case(name("to the node by the other port"))
                .pods(tcp(pod, at(f.node_out, 22)), punted_in(tcp(pod, at(f.node_out, 22)))),
            case(name("a protocol of the node's own")).outside(
                raw(f.client, f.node_out, 89, &[0; 8]),
                punted_out(raw(f.client, f.node_out, 89, &[0; 8])),
            ),
            case(name("an error for the node")).outside(
                port_unreachable(f.client, f.node_out, &udp(at(f.node_out, 9), client).ip()),
                punted_out(port_unreachable(
                    f.client,
                    f.node_out,
                    &udp(at(f.node_out, 9), client).ip(),
                )),
            ),
            case(name("to a group")).outside(
                raw(f.client, group, 89, &[0; 8]),
                punted_out(raw(f.client, group, 89, &[0; 8])),
            ),
        ]);
    }
    let dhcp = udp("0.0.0.0:68", "255.255.255.255:67").macs(ROUTER, [0xff; 6]).frame();
    cases.push(case("DHCP is the kernel's").frame(OUT, dhcp.clone(), Fate::Punted(OUT, dhcp)));
    cases
}

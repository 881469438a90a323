//! Frames of one burst that take several ways.

use dataplane::flow::Protocol::Udp;

use super::*;
use crate::support::gateway::{
    FAMILIES, Gateway, IN, IN_MAC, OUT, PODS, Service, at, sent_in, sent_out,
};
use crate::support::packet::*;

/// Replies leave by one port, what pods ask a Service by the other; between them are packets of no connection, and such as
/// open one, which leave when the burst is through. The others stay in order, and every byte is counted where it went.
#[test]
fn a_burst_leaves_by_several_ports_in_order() {
    for f in FAMILIES {
        let mut gateway = Gateway::new(Setup::default());
        let service = Service::new("ns/web:53", Udp, &[(f.backends[0], 5353)])
            .external_local()
            .load_balancer(f.load_balancer, 53, &[])
            .cluster_ip(f.cluster_ip, 53);
        gateway.apply("ns/web", &[service]);
        let backend = at(f.backends[0], 5353);
        let (client, vip) = (at(f.client, 5000), at(f.load_balancer, 53));
        let (pod, cluster_ip) = (at(f.pod, 6000), at(f.cluster_ip, 53));
        for _ in 0..2 {
            assert_eq!(gateway.outside(&udp(client, vip)), sent_in(udp(client, backend).ttl(63)));
            let reply = gateway.pods(&udp(backend, client));
            assert_eq!(reply, sent_out(udp(vip, client).ttl(63)));
            let request = gateway.pods(&udp(pod, cluster_ip));
            assert_eq!(request, sent_in(udp(pod, backend).ttl(63)));
        }
        // Out, in, new, transit. One port, the other, both; then something else last, in the middle, and first.
        for (story, ways) in
            (1..).zip(["oooo", "iiii", "ioioio", "ooot", "oonntoi", "tnoioi", "noooo"])
        {
            let (totals, before) = (gateway.totals(), bytes(&gateway));
            let (mut received, mut known, mut new) = (0, vec![], vec![]);
            for (number, way) in (1..).zip(ways.chars()) {
                let newcomer = at(f.pod, 6000 + 10 * story + number);
                let (packet, becomes) = match way {
                    'o' => (udp(backend, client), udp(vip, client)),
                    'i' => (udp(pod, cluster_ip), udp(pod, backend)),
                    'n' => (udp(newcomer, cluster_ip), udp(newcomer, backend)),
                    _ => (tcp(pod, client), tcp(pod, client)),
                };
                // Told apart by its length.
                let payload = vec![7; usize::from(number)];
                let frame = packet.payload(&payload).macs(PODS, IN_MAC).frame();
                gateway.put(0, IN, &frame);
                received += frame.len() as u64;
                let sent = if matches!(way, 'o' | 't') { sent_out } else { sent_in };
                let fates = if way == 'n' { &mut new } else { &mut known };
                fates.push(sent(becomes.payload(&payload).ttl(63)));
            }
            gateway.poll();
            let sent = gateway.collect(&totals);
            let after = bytes(&gateway);
            for port in [OUT, IN] {
                let by = |fate: &&Fate| matches!(fate, Fate::Sent(by, _) if *by == port);
                let expected: Vec<_> = known.iter().chain(&new).filter(by).collect();
                assert_eq!(sent.iter().filter(by).collect::<Vec<_>>(), expected, "{ways}");
                let [before, after] = [&before, &after].map(|bytes| bytes[usize::from(port)].1);
                assert_eq!(after - before, expected.into_iter().map(length).sum::<u64>());
            }
            assert_eq!(after[usize::from(IN)].0 - before[usize::from(IN)].0, received);
        }
    }
}

/// By port: bytes received and sent.
fn bytes(gateway: &Gateway) -> [(u64, u64); 2] {
    let ports = &gateway.counters[0].ports;
    [OUT, IN].map(usize::from).map(|port| (ports[port].rx_bytes.get(), ports[port].tx_bytes.get()))
}

fn length(fate: &Fate) -> u64 {
    match fate {
        Fate::Sent(_, frame) => frame.len() as u64,
        other => panic!("{other:?}"),
    }
}

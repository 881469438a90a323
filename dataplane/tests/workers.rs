//! Two and more workers: whichever queue a packet arrives on, its connection is found and no frame is lost.

#![allow(clippy::cast_possible_truncation, reason = "test data is small")]

mod support;

use dataplane::flow::Protocol::{Tcp, Udp};
use dataplane::ranges::Networks;
use dataplane::tables::MasqueradePorts;
use support::gateway::{
    FAMILIES, Family, Fate, Gateway, IN, IN_MAC, OUT, OUT_MAC, PODS, ROUTER, Service, Setup, at,
    sent_in, sent_out,
};
use support::net::{Net, Nics, Steering, WORKERS, ends, service};
use support::packet::*;

fn gateway(workers: u16) -> Gateway {
    Gateway::new(Setup { workers, ..Setup::default() })
}

fn for_all(test: impl Fn(Net, Family, bool)) {
    for workers in WORKERS {
        for steering in [Steering::Wrong, Steering::Random] {
            for nics in [Nics::Unknown, Nics::Flows, Nics::Ends] {
                for f in FAMILIES {
                    for masquerade in [false, true] {
                        test(Net::on(nics, workers, steering), f, masquerade);
                    }
                }
            }
        }
    }
}

/// A flow's owner is found out once, and anew when the tables change.
#[test]
fn a_flow_changes_hands_with_the_tables() {
    for workers in WORKERS {
        for f in FAMILIES {
            let mut net = Net::new(workers, Steering::Random);
            let vip = at(f.pod, 80);
            let story = |net: &mut Net| -> Vec<Option<usize>> {
                let flow = |number: u16| {
                    let mut owner = None;
                    let packet = udp(at(f.client, 5000 + number), vip);
                    (0..8).for_each(|_| _ = net.outside(&packet, &mut owner));
                    owner
                };
                (0..20).map(flow).collect()
            };
            let transit = story(&mut net);
            assert!(
                transit.iter().all(|owner| *owner == transit[0]),
                "{transit:?}: one destination"
            );
            let [_, udp] = [Tcp, Udp].map(|protocol| {
                Service::new("ns/web:80", protocol, &[(f.backends[0], 8080)]).external(f.pod, 80)
            });
            net.gateway.apply("ns/web", &[udp]);
            let clients = story(&mut net);
            assert!(clients.iter().any(|owner| *owner != clients[0]), "{clients:?}: many clients");
            net.gateway.apply("ns/web", &[]);
            // Connections live on for a while, then all is as before.
            assert_eq!(story(&mut net), clients);
        }
    }
}

/// The story of a TCP connection and a UDP flow a client, every packet checked byte by byte.
#[test]
fn connections_are_found_from_every_queue() {
    for_all(|mut net, f, masquerade| {
        net.gateway.apply("ns/web", &service(f, masquerade));
        let mut owners = std::collections::HashSet::new();
        let vip = at(f.load_balancer, 80);
        for number in 0..40 {
            let client = at(f.client, 5000 + number);
            let mut owner = None;
            let first = net.outside(&tcp(client, vip), &mut owner);
            let Fate::Sent(IN, frame) = &first else { panic!("{first:?}") };
            let (inside, backend) = ends(frame);
            assert_eq!(inside.0 == client.0, !masquerade);
            assert_eq!(first, sent_in(tcp(inside, backend).ttl(63)));
            for (reply, flags) in [
                (true, SYN | ACK),
                (false, ACK),
                (true, ACK),
                (false, FIN | ACK),
                (true, FIN | ACK),
            ] {
                let fate = if reply {
                    net.pods(&tcp(backend, inside).flags(flags), &mut owner)
                } else {
                    net.outside(&tcp(client, vip).flags(flags), &mut owner)
                };
                let expected = if reply {
                    sent_out(tcp(vip, client).flags(flags).ttl(63))
                } else {
                    sent_in(tcp(inside, backend).flags(flags).ttl(63))
                };
                assert_eq!(fate, expected);
            }
            // Errors about it, from both sides.
            let quoted = |from, to| tcp(from, to).flags(ACK).ip();
            let fate =
                net.pods(&too_big(f.pod, inside.0, 1400, &quoted(inside, backend)), &mut owner);
            let expected = too_big(f.pod, f.client, 1400, &quoted(client, vip)).ttl(63);
            assert_eq!(fate, sent_out(expected));
            let fate =
                net.outside(&port_unreachable(f.client, vip.0, &quoted(vip, client)), &mut owner);
            let expected = port_unreachable(inside.0, backend.0, &quoted(backend, inside)).ttl(63);
            assert_eq!(fate, sent_in(expected));
            owners.insert(owner);
        }
        assert!(owners.len() > 1, "every connection at one worker proves nothing");
        assert_eq!(net.gateway.connections(), 40);
    });
}

/// Fragments over several queues: each fragment arrives by another one.
#[test]
fn fragments_find_their_flow_from_every_queue() {
    for_all(|mut net, f, masquerade| {
        net.gateway.apply("ns/web", &service(f, masquerade));
        let vip = at(f.load_balancer, 80);
        let payload: Vec<u8> = (0..100).collect();
        let cut = |from, to, id, ttl| udp(from, to).payload(&payload).ttl(ttl).fragments(id, 40);
        for number in 0..20 {
            let client = at(f.client, 5000 + number);
            let mut owner = None;
            let pieces = cut(client, vip, number, 64);
            let first = net.outside(&pieces[0], &mut owner);
            let Fate::Sent(IN, frame) = &first else { panic!("{first:?}") };
            // The extension header of an IPv6 fragment stands before the ports.
            let plain = if f.v4 { frame.clone() } else { [&frame[..54], &frame[62..]].concat() };
            let (inside, backend) = ends(&plain);
            let expected = cut(inside, backend, number, 63);
            assert_eq!(first, sent_in(expected[0].clone()));
            for i in [2, 1] {
                assert_eq!(net.outside(&pieces[i], &mut owner), sent_in(expected[i].clone()));
            }
            let replies = cut(backend, inside, number, 64);
            for (reply, expected) in replies.iter().zip(cut(vip, client, number, 63)) {
                assert_eq!(net.pods(reply, &mut owner), sent_out(expected));
            }
        }
    });
}

/// AFF-8: a client's connections are several workers', and all go to one backend.
#[test]
fn all_workers_know_a_clients_backend() {
    for_all(|mut net, f, masquerade| {
        let mut rows = service(f, masquerade);
        rows.iter_mut().for_each(|row| row.0.affinity = Some(100));
        net.gateway.apply("ns/web", &rows);
        let vip = at(f.load_balancer, 80);
        let mut chosen = std::collections::HashSet::new();
        for number in 1..=20 {
            let host =
                if f.v4 { format!("203.0.113.{number}") } else { format!("2001:db8:f::{number}") };
            let (mut backends, mut owners) = (std::collections::HashSet::new(), vec![]);
            for port in 0..20 {
                let mut owner = None;
                let fate = net.outside(&tcp(at(&host, 5000 + port), vip), &mut owner);
                let Fate::Sent(IN, frame) = &fate else { panic!("{fate:?}") };
                backends.insert(ends(frame).1);
                owners.push(owner);
            }
            assert_eq!(backends.len(), 1, "{host}: {backends:?}");
            assert!(owners.iter().any(|owner| *owner != owners[0]), "one worker proves nothing");
            chosen.extend(backends);
        }
        assert_eq!(chosen.len(), 2, "one backend for all proves nothing");
    });
}

/// CTK-10: a backend that is somebody's client, from the very port that it serves.
#[test]
fn what_backends_ask_goes_as_it_is_from_every_queue() {
    for_all(|mut net, f, masquerade| {
        net.gateway.apply("ns/web", &service(f, masquerade));
        let backend = at(f.backends[0], 8080);
        for number in 0..20 {
            let peer = at(f.client, 5000 + number);
            let mut owner = None;
            for (flags, back) in [(SYN, SYN | ACK), (ACK, ACK), (FIN | ACK, FIN | ACK)] {
                let (out, answer) =
                    (tcp(backend, peer).flags(flags), tcp(peer, backend).flags(back));
                assert_eq!(net.pods(&out, &mut owner), sent_out(out.ttl(63)));
                assert_eq!(net.outside(&answer, &mut owner), sent_in(answer.ttl(63)));
            }
            let (out, answer) = (udp(backend, peer), udp(peer, backend));
            let mut owner = None;
            for _ in 0..2 {
                assert_eq!(net.pods(&out, &mut owner), sent_out(out.clone().ttl(63)));
                assert_eq!(net.outside(&answer, &mut owner), sent_in(answer.clone().ttl(63)));
            }
        }
        assert_eq!(net.gateway.connections(), 40);
    });
}

/// PRO-4: fragments that overtake the first one, each by another queue: all are held by one worker, and follow it.
#[test]
fn fragments_wait_for_the_first_from_every_queue() {
    for_all(|mut net, f, masquerade| {
        net.gateway.apply("ns/web", &service(f, masquerade));
        let vip = at(f.load_balancer, 80);
        let payload: Vec<u8> = (0..100).collect();
        let cut = |from, to, id, ttl| udp(from, to).payload(&payload).ttl(ttl).fragments(id, 40);
        let reverse = |net: &mut Net, port: u16, pieces: Vec<Packet>| -> Vec<Fate> {
            let (from, to) = if port == OUT { (ROUTER, OUT_MAC) } else { (PODS, IN_MAC) };
            let mut fates = vec![];
            for piece in pieces.into_iter().rev() {
                let queue = net.random.below(net.workers);
                let frame = piece.macs(from, to).frame();
                fates.push(net.gateway.receive_all_at(queue, port, &frame));
            }
            let last = fates.pop().expect("three");
            assert_eq!(fates.concat(), [Fate::Held, Fate::Held]);
            last
        };
        for number in 0..20 {
            let client = at(f.client, 5000 + number);
            let fates = reverse(&mut net, OUT, cut(client, vip, number, 64));
            let Fate::Sent(IN, frame) = &fates[0] else { panic!("{fates:?}") };
            let plain = if f.v4 { frame.clone() } else { [&frame[..54], &frame[62..]].concat() };
            let (inside, backend) = ends(&plain);
            let sent = |pieces: Vec<Packet>, sent: fn(Packet) -> Fate| {
                [0, 2, 1].map(|i: usize| sent(pieces[i].clone()))
            };
            assert_eq!(fates, sent(cut(inside, backend, number, 63), sent_in));
            let fates = reverse(&mut net, IN, cut(backend, inside, number, 64));
            assert_eq!(fates, sent(cut(vip, client, number, 63), sent_out));
        }
    });
}

/// A burst on every queue at once, with everything out of order between workers: nothing is lost.
#[test]
fn bursts_on_all_queues_are_conserved() {
    for_all(|mut net, f, masquerade| {
        net.gateway.apply("ns/web", &service(f, masquerade));
        let vip = at(f.load_balancer, 80);
        for round in 0..3 {
            let before = net.gateway.totals();
            for client in 0..400 {
                let flags = if round == 0 { SYN } else { ACK };
                let packet = tcp(at(f.client, 10_000 + client), vip).flags(flags);
                let queue = net.random.below(net.workers);
                net.gateway.put(queue, OUT, &packet.macs(ROUTER, OUT_MAC).frame());
            }
            net.gateway.poll();
            let fates = net.gateway.collect(&before);
            let sent = fates.iter().filter(|fate| matches!(fate, Fate::Sent(IN, _))).count();
            assert_eq!((sent, fates.len()), (400, 400));
        }
        assert_eq!(net.gateway.connections(), 400);
    });
}

/// A Service that is deleted, at every kind of frontend: its connections go on, from every queue (CTK-1).
#[test]
fn connections_outlive_their_service_on_every_worker() {
    for f in FAMILIES {
        for (vip, source) in [
            (at(f.load_balancer, 80), f.client),
            (at(f.external_ip, 80), f.client),
            (at(f.cluster_ip, 80), f.client),
            (at(f.node_out, 30_080), f.client),
        ] {
            let mut net = Net::new(2, Steering::Wrong);
            // Without a detector cluster IPs keep client addresses, too.
            net.gateway.setup.node.cluster_cidrs = Networks::default();
            let service = Service::new("ns/web:80", Tcp, &[(f.backends[0], 8080)])
                .external_local()
                .cluster_ip(f.cluster_ip, 80)
                .load_balancer(f.load_balancer, 80, &[])
                .external(f.external_ip, 80)
                .node_port(f.v4, 30_080);
            net.gateway.apply("ns/web", &[service]);
            let backend = at(f.backends[0], 8080);
            let mut owners: Vec<Option<usize>> = vec![None; 30];
            let ends = |number: usize| at(source, 5000 + number as u16);
            let talk = |net: &mut Net, number: usize, owner: &mut Option<usize>| {
                let client = ends(number);
                let fate = net.outside(&tcp(client, vip).flags(ACK), owner);
                assert_eq!(fate, sent_in(tcp(client, backend).flags(ACK).ttl(63)));
                let fate = net.pods(&tcp(backend, client).flags(ACK), owner);
                assert_eq!(fate, sent_out(tcp(vip, client).flags(ACK).ttl(63)));
            };
            for (number, owner) in owners.iter_mut().enumerate() {
                talk(&mut net, number, owner);
            }
            net.gateway.apply("ns/web", &[]);
            for (number, owner) in owners.iter_mut().enumerate() {
                talk(&mut net, number, owner);
            }
            // Remembered for one call, forgotten at the next.
            assert!(!net.gateway.writer.forget_retired());
            net.gateway.publish();
            for (number, owner) in owners.iter_mut().enumerate() {
                talk(&mut net, number, owner);
            }
            assert!(net.gateway.writer.forget_retired());
            net.gateway.publish();
            assert!(net.gateway.writer.table().endpoints().next().is_none());
            let lost = (0..owners.len()).filter(|&number| {
                let fate = net.outside(&tcp(ends(number), vip).flags(ACK), &mut None);
                !matches!(fate, Fate::Sent(IN, _))
            });
            // At a cluster IP the address alone still decides.
            assert_eq!(lost.count() > 0, vip.0 != at(f.cluster_ip, 0).0);
        }
    }
}

/// An endpoint that is gone, whose client uses an endpoint's port itself: the replies still find their connection.
#[test]
fn replies_of_removed_endpoints_find_their_connection() {
    for f in FAMILIES {
        let mut net = Net::new(3, Steering::Wrong);
        let both = [(f.backends[0], 8080), (f.backends[1], 8080)];
        let row = |endpoints: &[(&str, u16)]| {
            Service::new("ns/web:80", Tcp, endpoints).external_local().cluster_ip(f.cluster_ip, 80)
        };
        net.gateway.apply("ns/web", &[row(&both[..1])]);
        net.gateway.apply("ns/peers", &[Service::new("ns/peers:80", Tcp, &both[1..])]);
        let (client, vip, backend) =
            (at(f.backends[1], 8080), at(f.cluster_ip, 80), at(f.backends[0], 8080));
        let mut owner = None;
        let mut talk = |net: &mut Net, flags| {
            let fate = net.pods(&tcp(client, vip).flags(flags), &mut owner);
            assert_eq!(fate, sent_in(tcp(client, backend).flags(flags).ttl(63)));
            let fate = net.pods(&tcp(backend, client).flags(ACK), &mut owner);
            assert_eq!(fate, sent_in(tcp(vip, client).flags(ACK).ttl(63)));
        };
        talk(&mut net, SYN);
        net.gateway.apply("ns/web", &[row(&[])]);
        talk(&mut net, ACK);
        net.gateway.apply("ns/web", &[]);
        talk(&mut net, ACK);
    }
}

/// CTK-12 where only one port in so many leads back to the worker.
#[test]
fn clashing_clients_find_a_port_among_many_workers() {
    for f in FAMILIES {
        let mut net = Net::new(64, Steering::Wrong);
        let service = Service::new("ns/web:80", Tcp, &[(f.backends[0], 8080)])
            .external_local()
            .load_balancer(f.load_balancer, 80, &[])
            .external(f.external_ip, 80);
        net.gateway.apply("ns/web", &[service]);
        for number in 0..50 {
            let client = at(f.client, 5000 + number);
            for vip in [at(f.load_balancer, 80), at(f.external_ip, 80)] {
                let mut owner = None;
                let fate = net.outside(&tcp(client, vip), &mut owner);
                let Fate::Sent(IN, frame) = &fate else { panic!("{fate:?}") };
                let (inside, backend) = ends(frame);
                let fate = net.pods(&tcp(backend, inside).flags(ACK), &mut owner);
                assert_eq!(fate, sent_out(tcp(vip, client).flags(ACK).ttl(63)));
            }
        }
    }
}

/// The node as a client that keeps its address, from a port inside the masquerade range.
#[test]
fn a_node_client_in_a_masquerade_block_gets_its_answers() {
    for f in FAMILIES {
        let mut net = Net::new(8, Steering::Wrong);
        net.gateway.setup.node.cluster_cidrs = Networks::default();
        let service =
            Service::new("ns/web:80", Tcp, &[(f.backends[0], 8080)]).cluster_ip(f.cluster_ip, 80);
        net.gateway.apply("ns/web", &[service]);
        let (vip, backend) = (at(f.cluster_ip, 80), at(f.backends[0], 8080));
        for number in 0..30 {
            let node = at(f.node_out, 40_000 + number * 300);
            let frame = tcp(node, vip).macs(OUT_MAC, ROUTER).frame();
            assert_eq!(net.gateway.inject(OUT, &frame), sent_in(tcp(node, backend).ttl(63)));
            let reply = tcp(backend, node).flags(SYN | ACK).macs(PODS, IN_MAC).frame();
            let queue = net.random.below(8);
            let expected = tcp(vip, node).flags(SYN | ACK).macs(IN_MAC, IN_MAC).frame();
            let fate = net.gateway.receive_at(queue, IN, &reply);
            assert_eq!(fate, Fate::Punted(IN, expected));
        }
    }
}

/// I2 across workers: no two connections leave under one source toward one backend.
#[test]
fn masquerade_ports_of_workers_do_not_overlap() {
    for f in FAMILIES {
        for (ports, workers, fit) in [(40_000..=40_099, 3, 99), (40_000..=40_001, 8, 0)] {
            let mut setup = Setup { workers, ..Setup::default() };
            setup.node.masquerade_ports = MasqueradePorts(ports);
            let mut gateway = Gateway::new(setup);
            let service = Service::new("ns/web:80", Udp, &[(f.backends[0], 8080)]).load_balancer(
                f.load_balancer,
                80,
                &[],
            );
            gateway.apply("ns/web", &[service]);
            let mut sources = std::collections::HashSet::new();
            for number in 0..2_000 {
                let packet = udp(at(f.client, 5000 + number), at(f.load_balancer, 80));
                if let Fate::Sent(_, frame) = gateway.outside(&packet) {
                    assert!(sources.insert(ends(&frame).0), "one source twice");
                }
            }
            assert!(sources.len() <= fit && sources.len() * 10 >= fit * 9, "{}", sources.len());
        }
    }
}

/// Workers in threads of their own, tables changing all the time: nothing is lost or sent to the wrong place.
#[test]
fn threads_and_changing_tables_lose_nothing() {
    let f = FAMILIES[0];
    let mut gateway = gateway(2);
    gateway.apply("ns/web", &service(f, false));
    let rounds = 60;
    let clients = 100;
    let vip = at(f.load_balancer, 80);
    gateway.threaded(|wires, tables| {
        let mut received = 0;
        for round in 0..rounds {
            let flags = if round == 0 { SYN } else { ACK };
            for client in 0..clients {
                let packet = tcp(at(f.client, 10_000 + client), vip).flags(flags);
                let frame = packet.macs(ROUTER, OUT_MAC).frame();
                let queue = usize::from(client + round) % 2;
                while !wires[queue][usize::from(OUT)].send(&frame) {
                    std::thread::yield_now();
                }
            }
            // A Service beside it comes and goes, and its own endpoints are shuffled.
            let noise = Service::new("ns/noise:80", Tcp, &[(f.backends[2], 80)]);
            let noise = noise.cluster_ip(f.cluster_ip, 80);
            let rows = if round % 2 == 0 { vec![noise] } else { vec![] };
            tables.apply("ns/noise", &rows);
            while received < u64::from(clients) * u64::from(round + 1) {
                let frames = wires.iter().filter_map(|ports| ports[usize::from(IN)].receive());
                let count = frames.count();
                received += count as u64;
                if count == 0 {
                    std::thread::yield_now();
                }
            }
        }
    });
    gateway.assert_balanced();
    let sent: u64 = gateway.counters.iter().map(|counters| counters.work.forwarded.get()).sum();
    assert_eq!(sent, u64::from(rounds) * u64::from(clients));
    assert_eq!(gateway.connections(), u64::from(clients));
}

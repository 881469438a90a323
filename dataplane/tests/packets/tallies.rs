//! What is counted for each row: connections, refusals, connections on which nothing came back.

use dataplane::flow::Protocol::{Sctp, Tcp, Udp};
use dataplane::wire::sctp_chunks;

use super::*;
use crate::support::gateway::{FAMILIES, at};
use crate::support::packet::*;

const NAME: &str = "ns/web:80";

/// Rows of three protocols under one name; `kept` keeps the clients' addresses.
fn rows(f: Family, kept: bool) -> Vec<Service> {
    let row = |protocol| {
        let row = Service::new(NAME, protocol, &[(f.backends[0], 8080)]);
        let row = row.load_balancer(f.load_balancer, 80, &[]).cluster_ip(f.cluster_ip, 80);
        if kept { row.external_local() } else { row }
    };
    [Tcp, Udp, Sctp].map(row).to_vec()
}

fn gateway(workers: u16, rows: &[Service]) -> Gateway {
    let mut gateway = Gateway::new(Setup { workers, ..Setup::default() });
    gateway.apply("ns/web", rows);
    gateway
}

/// The client's flow, toward the VIP.
fn segment(f: Family, client: u16, flags: u8) -> Packet {
    tcp(at(f.client, client), at(f.load_balancer, 80)).flags(flags)
}

fn answer(f: Family, client: u16, flags: u8) -> Packet {
    tcp(at(f.backends[0], 8080), at(f.client, client)).flags(flags)
}

fn sent(gateway: &mut Gateway, packet: &Packet) {
    let fate = gateway.outside(packet);
    assert!(matches!(fate, Fate::Sent(IN, _)), "{fate:?}");
}

#[test]
fn a_connection_is_counted_once_whichever_way_and_worker_opens_it() {
    for (f, kept) in FAMILIES.into_iter().flat_map(|f| [(f, false), (f, true)]) {
        for workers in [1, 3] {
            let mut gateway = gateway(workers, &rows(f, kept));
            for client in 5000..5010 {
                let vip = at(f.load_balancer, 80);
                let client = at(f.client, client);
                for packet in [tcp(client, vip), udp(client, vip)] {
                    sent(&mut gateway, &packet);
                    sent(&mut gateway, &packet);
                }
                // SCTP, and what has a tag, takes the whole way.
                let chunk = sctp(client, vip, sctp_chunks::INIT, b"0123456789012345");
                sent(&mut gateway, &chunk);
                sent(&mut gateway, &tcp((client.0, client.1 + 100), vip).vlan(3));
            }
            let counts = gateway.counted(NAME);
            assert_eq!(counts, [40, 0, 0, 0, 0, 0], "{workers} workers, v4 {}", f.v4);
        }
    }
}

#[test]
fn refusals_are_counted_by_reason() {
    for f in FAMILIES {
        let narrow = if f.v4 { "192.0.2.0/24" } else { "2001:db8:1::/48" };
        let row = |name: &str| Service::new(name, Tcp, &[(f.backends[0], 8080)]);
        let vip = at(f.load_balancer, 80);
        let cases = [
            (row(NAME).load_balancer(f.load_balancer, 80, &[narrow]), vip, [0, 0, 0, 0, 0, 2]),
            (
                row(NAME).local(&[]).external_local().external(f.load_balancer, 80),
                vip,
                [0, 0, 0, 0, 2, 0],
            ),
            (
                row(NAME).local(&[]).internal_local().cluster_ip(f.cluster_ip, 80),
                at(f.cluster_ip, 80),
                [0, 0, 0, 2, 0, 0],
            ),
            (Service::new(NAME, Tcp, &[]).external(f.load_balancer, 80), vip, [0, 0, 2, 0, 0, 0]),
        ];
        for (service, vip, expected) in cases {
            let mut gateway = gateway(1, &[service]);
            for client in [5000, 5001] {
                gateway.outside(&tcp(at(f.client, client), vip));
            }
            assert_eq!(gateway.counted(NAME), expected);
        }
    }
}

#[test]
fn counts_live_as_long_as_their_row() {
    let f = FAMILIES[0];
    let mut gateway = gateway(2, &rows(f, true));
    for client in 5000..5010 {
        sent(&mut gateway, &segment(f, client, SYN));
    }
    // Another endpoint is no other row.
    let changed = rows(f, true).into_iter().map(|mut row| {
        row.0.cluster.push(at(f.backends[1], 8080).into());
        row
    });
    gateway.apply("ns/web", &changed.collect::<Vec<_>>());
    sent(&mut gateway, &segment(f, 6000, SYN));
    assert_eq!(gateway.counted(NAME)[0], 11);

    // Its slots go to others, who count for themselves; the connections it had go on and count for nobody.
    gateway.apply("ns/web", &[]);
    let others: Vec<Service> = (0..8)
        .map(|number| {
            let row = Service::new("ns/other:80", Tcp, &[(f.backends[2], 8080)]).external_local();
            row.external(f.external_ip, 80 + number)
        })
        .enumerate()
        .map(|(number, mut row)| {
            row.0.name = format!("ns/other:{number}").into();
            row
        })
        .collect();
    gateway.apply("ns/other", &others);
    for number in 0..8 {
        assert_eq!(gateway.counted(&format!("ns/other:{number}")), [0; 6]);
    }
    sent(&mut gateway, &segment(f, 5000, ACK));
    sent(&mut gateway, &tcp(at(f.client, 5000), at(f.external_ip, 83)));
    for number in 0..8u64 {
        let expected = u64::from(number == 3);
        assert_eq!(gateway.counted(&format!("ns/other:{number}"))[0], expected);
    }
}

/// What becomes of counts when a client sends and a backend answers, one packet after the other.
#[track_caller]
fn one_way(f: Family, kept: bool, packets: &[(bool, u8)], expected: u64) {
    for workers in [1, 3] {
        let mut gateway = gateway(workers, &rows(f, kept));
        for (reply, flags) in packets {
            if *reply {
                gateway.pods(&answer(f, 5000, *flags));
            } else {
                sent(&mut gateway, &segment(f, 5000, *flags));
            }
        }
        assert_eq!(gateway.counted(NAME)[1], expected, "{packets:?}, v4 {}", f.v4);
        gateway.connections();
        let total: u64 = gateway.counters.iter().map(|all| all.conntrack.one_way.get()).sum();
        assert_eq!(total, expected, "{packets:?}");
    }
}

#[test]
fn a_connection_without_any_answer_is_one_way_and_counts_once() {
    const CLIENT: bool = false;
    const BACKEND: bool = true;
    for f in FAMILIES {
        // A client that goes on has heard an answer.
        one_way(f, true, &[(CLIENT, SYN), (CLIENT, ACK), (CLIENT, ACK), (CLIENT, FIN | ACK)], 1);
        one_way(f, true, &[(CLIENT, SYN), (CLIENT, SYN), (CLIENT, ACK)], 1);
        // One that repeats itself has not; once may be a lost packet.
        one_way(f, true, &[(CLIENT, SYN), (CLIENT, SYN)], 0);
        one_way(f, true, &[(CLIENT, SYN); 5], 1);
        // Answered, in time or late, or refused.
        let open = [(CLIENT, SYN), (BACKEND, SYN | ACK), (CLIENT, ACK), (CLIENT, ACK)];
        one_way(f, true, &open, 0);
        let late =
            [(CLIENT, SYN), (CLIENT, SYN), (BACKEND, SYN | ACK), (CLIENT, SYN), (CLIENT, ACK)];
        one_way(f, true, &late, 0);
        one_way(f, true, &[(CLIENT, SYN), (BACKEND, RST | ACK), (CLIENT, SYN)], 0);
        // What has no beginning says nothing about its past.
        one_way(f, true, &[(CLIENT, ACK); 5], 0);
        // Answers to a masqueraded client can't take another way: there is nobody, which is another matter.
        one_way(f, false, &[(CLIENT, SYN); 5], 0);
    }
}

#[test]
fn an_association_without_any_answer_is_one_way() {
    use sctp_chunks::{COOKIE_ECHO, INIT};
    for f in FAMILIES {
        for (chunks, expected) in [
            (vec![INIT, INIT], 0),
            (vec![INIT, INIT, INIT, INIT], 1),
            (vec![INIT, COOKIE_ECHO, COOKIE_ECHO], 1),
        ] {
            let mut gateway = gateway(1, &rows(f, true));
            for chunk in &chunks {
                let to = at(f.load_balancer, 80);
                sent(&mut gateway, &sctp(at(f.client, 5000), to, *chunk, b"0123456789012345"));
            }
            assert_eq!(gateway.counted(NAME)[1], expected, "{chunks:?}");
        }
    }
}

/// Datagrams may go one way by design.
#[test]
fn a_datagram_without_answer_is_no_defect() {
    let f = FAMILIES[0];
    let mut gateway = gateway(1, &rows(f, true));
    for _ in 0..10 {
        sent(&mut gateway, &udp(at(f.client, 5000), at(f.load_balancer, 80)));
    }
    gateway.wait(300_000);
    assert_eq!(gateway.counted(NAME), [1, 0, 0, 0, 0, 0]);
}

#[test]
fn what_goes_past_a_service_is_not_counted() {
    let f = FAMILIES[0];
    let mut gateway = gateway(1, &rows(f, true));
    for flags in [SYN, SYN, SYN, ACK] {
        sent(&mut gateway, &tcp(at(f.client, 5000), at(f.backends[0], 8080)).flags(flags));
    }
    assert_eq!(gateway.counted(NAME), [0; 6]);
}

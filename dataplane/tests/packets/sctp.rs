//! SCTP: associations through a VIP, their states, refusals, errors about them, and the checksum.

use dataplane::flow::Protocol::Sctp;
use dataplane::tables::MasqueradePorts;
use dataplane::verdict::DropReason::*;
use dataplane::wire::sctp_chunks::*;

use super::*;
use crate::support::gateway::{FAMILIES, at};
use crate::support::packet::*;

const DATA: u8 = 0;
const PAYLOAD: &[u8] = b"sixteen bytes...";

pub fn cases() -> Vec<Case> {
    FAMILIES
        .into_iter()
        .flat_map(|f| [association(f), masqueraded(f), refused(f), ends(f), odd(f), wrong(f)])
        .collect()
}

/// Keeps client addresses; the backend has another port.
fn row(f: Family, backends: &[usize]) -> Service {
    let endpoints: Vec<_> = backends.iter().map(|&i| (f.backends[i], 9999)).collect();
    Service::new("ns/sigtran:99", Sctp, &endpoints).external_local().load_balancer(
        f.load_balancer,
        99,
        &[],
    )
}

fn story(name: &str, f: Family) -> Case {
    case(format!("{name}, v4 {}", f.v4)).service("ns/sigtran", &[row(f, &[0])])
}

fn vip(f: Family) -> (std::net::IpAddr, u16) {
    at(f.load_balancer, 99)
}

fn asked(f: Family, chunk: u8) -> Packet {
    sctp(at(f.client, 5000), vip(f), chunk, PAYLOAD)
}

fn asked_at(f: Family, backend: usize, chunk: u8) -> Fate {
    sent_in(sctp(at(f.client, 5000), at(f.backends[backend], 9999), chunk, PAYLOAD).ttl(63))
}

fn answer(f: Family, chunk: u8) -> Packet {
    sctp(at(f.backends[0], 9999), at(f.client, 5000), chunk, PAYLOAD)
}

fn answered(f: Family, chunk: u8) -> Fate {
    sent_out(sctp(vip(f), at(f.client, 5000), chunk, PAYLOAD).ttl(63))
}

/// PRO-2, CTK-1: both directions, and after its endpoint is gone.
fn association(f: Family) -> Case {
    story("an association", f)
        .outside(asked(f, INIT), asked_at(f, 0, INIT))
        .pods(answer(f, INIT_ACK), answered(f, INIT_ACK))
        .outside(asked(f, COOKIE_ECHO), asked_at(f, 0, COOKIE_ECHO))
        .pods(answer(f, COOKIE_ACK), answered(f, COOKIE_ACK))
        .apply("ns/sigtran", vec![row(f, &[1])])
        .outside(asked(f, DATA), asked_at(f, 0, DATA))
        .wait(200_000)
        .pods(answer(f, DATA), answered(f, DATA))
        .wait(209_000)
        .outside(asked(f, DATA), asked_at(f, 0, DATA))
        .wait(225_000)
        // Silent for too long: a packet in mid-association goes where a new one would.
        .outside(asked(f, DATA), asked_at(f, 1, DATA))
}

fn masqueraded(f: Family) -> Case {
    let service =
        Service::new("ns/sigtran:99", Sctp, &[(f.backends[0], 9999)]).cluster_ip(f.cluster_ip, 99);
    let client = at(f.client, 5000);
    let (gateway, backend) = (at(f.node_in, MASQUERADE_PORT), at(f.backends[0], 9999));
    case(format!("a masqueraded association, v4 {}", f.v4))
        .service("ns/sigtran", &[service])
        .setup(|setup| {
            setup.node.masquerade_ports = MasqueradePorts(MASQUERADE_PORT..=MASQUERADE_PORT)
        })
        .outside(
            sctp(client, at(f.cluster_ip, 99), INIT, PAYLOAD),
            sent_in(sctp(gateway, backend, INIT, PAYLOAD).ttl(63)),
        )
        .pods(
            sctp(backend, gateway, INIT_ACK, PAYLOAD),
            sent_out(sctp(at(f.cluster_ip, 99), client, INIT_ACK, PAYLOAD).ttl(63)),
        )
}

/// REJ-4: by ICMP, like any protocol but TCP.
fn refused(f: Family) -> Case {
    let packet = asked(f, INIT);
    let quoted = packet.ip();
    story("refused for want of endpoints", f).apply("ns/sigtran", vec![row(f, &[])]).outside(
        packet,
        answered_out(port_unreachable(f.node_out, f.client, &quoted).ip_fragment(0, 0)),
    )
}

fn ends(f: Family) -> Case {
    story("an association that ends may begin anew", f)
        .outside(asked(f, INIT), asked_at(f, 0, INIT))
        .pods(answer(f, ABORT), answered(f, ABORT))
        .apply("ns/sigtran", vec![row(f, &[1])])
        .outside(asked(f, DATA), asked_at(f, 0, DATA))
        .outside(asked(f, INIT), asked_at(f, 1, INIT))
}

fn odd(f: Family) -> Case {
    story("packets that begin nothing", f)
        .outside(asked(f, ABORT), dropped(NoConnection))
        .outside(asked(f, SHUTDOWN_COMPLETE), dropped(NoConnection))
        .pods(answer(f, INIT_ACK), dropped(NoConnection))
        .outside(raw(f.client, f.load_balancer, SCTP, &[0; 12]), dropped(Truncated))
        .then(|gateway| assert_eq!(gateway.connections(), 0))
}

/// I9: a wrong checksum stays wrong, by the same bits.
fn wrong(f: Family) -> Case {
    let at_l4 = if f.v4 { 20 } else { 40 };
    let broken = |packet: Packet| {
        let ip = packet.ip();
        packet.edit(at_l4 + 8, &[ip[at_l4 + 8] ^ 0xff, ip[at_l4 + 9]])
    };
    let to = sctp(at(f.client, 5000), at(f.backends[0], 9999), INIT, PAYLOAD).ttl(63);
    story("a wrong checksum", f).outside(broken(asked(f, INIT)), sent_in(broken(to)))
}

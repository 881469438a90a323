//! How long connections are remembered, state by state, and how many.

use std::time::Duration;

use dataplane::conntrack::state::Timeouts;
use dataplane::flow::Protocol::{self, Sctp, Tcp, Udp};
use dataplane::wire::sctp_chunks::{COOKIE_ACK, COOKIE_ECHO, INIT, INIT_ACK, SHUTDOWN};

use super::*;
use crate::support::gateway::{FAMILIES, at};
use crate::support::packet::*;

const MILLIS: u64 = 1_000;
/// What is past its time is swept within so many seconds, beside the one that had begun.
const SWEEP: u64 = 5;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for f in FAMILIES {
        for story in stories() {
            cases.push(defaults(f, &story));
            cases.push(configured(f, &story));
        }
        cases.push(size(f));
    }
    cases
}

/// Packets that lead to a state: whether from the backend, and TCP flags or SCTP chunk.
struct Story {
    name: &'static str,
    protocol: Protocol,
    packets: &'static [(bool, u8)],
    seconds: u64,
    setting: fn(&mut Timeouts) -> &mut Duration,
}

fn stories() -> Vec<Story> {
    const CLIENT: bool = false;
    const BACKEND: bool = true;
    const OPEN: [(bool, u8); 3] = [(CLIENT, SYN), (BACKEND, SYN | ACK), (CLIENT, ACK)];
    let story = |name, protocol, packets, seconds, setting| Story {
        name,
        protocol,
        packets,
        seconds,
        setting,
    };
    let half_open: fn(&mut Timeouts) -> &mut Duration = |times| &mut times.tcp_half_open;
    let half_closed: fn(&mut Timeouts) -> &mut Duration = |times| &mut times.tcp_half_closed;
    let transitory: fn(&mut Timeouts) -> &mut Duration = |times| &mut times.tcp_transitory;
    vec![
        story("SYN sent", Tcp, &[(CLIENT, SYN)], 30, half_open),
        story("SYN answered", Tcp, &[(CLIENT, SYN), (BACKEND, SYN | ACK)], 30, half_open),
        story("open", Tcp, &OPEN, 7_440, |times| &mut times.tcp_established),
        story(
            "closed by the client",
            Tcp,
            &[OPEN[0], OPEN[1], OPEN[2], (CLIENT, FIN | ACK)],
            3_600,
            half_closed,
        ),
        story(
            "closed by the backend",
            Tcp,
            &[OPEN[0], OPEN[1], OPEN[2], (BACKEND, FIN | ACK)],
            3_600,
            half_closed,
        ),
        story(
            "closed by both",
            Tcp,
            &[OPEN[0], OPEN[1], OPEN[2], (BACKEND, FIN | ACK), (CLIENT, FIN | ACK)],
            240,
            transitory,
        ),
        story("reset", Tcp, &[OPEN[0], OPEN[1], OPEN[2], (BACKEND, RST)], 240, transitory),
        story("picked up", Tcp, &[(CLIENT, ACK)], 240, transitory),
        story("unanswered", Udp, &[(CLIENT, 0)], 120, |times| &mut times.udp_unreplied),
        story("answered", Udp, &[(CLIENT, 0), (BACKEND, 0)], 300, |times| &mut times.udp_replied),
        story("INIT sent", Sctp, &[(CLIENT, INIT)], 30, half_open),
        story(
            "an association",
            Sctp,
            &[(CLIENT, INIT), (BACKEND, INIT_ACK), (CLIENT, COOKIE_ECHO), (BACKEND, COOKIE_ACK)],
            210,
            |times| &mut times.sctp_established,
        ),
        story(
            "an association shut down",
            Sctp,
            &[
                (CLIENT, INIT),
                (BACKEND, INIT_ACK),
                (CLIENT, COOKIE_ECHO),
                (BACKEND, COOKIE_ACK),
                (CLIENT, SHUTDOWN),
            ],
            240,
            transitory,
        ),
    ]
}

/// CTK-8, CTK-9: not a second less, and a sweep more at most.
fn defaults(f: Family, story: &Story) -> Case {
    lives(f, story, story.seconds, "as a rule", |_| {})
}

/// CTK-8: each time is a setting of its own.
fn configured(f: Family, story: &Story) -> Case {
    let (setting, seconds) = (story.setting, 17);
    lives(f, story, seconds, "as configured", move |times| {
        *setting(times) = Duration::from_secs(seconds);
    })
}

fn lives(
    f: Family,
    story: &Story,
    seconds: u64,
    how: &str,
    configure: impl FnOnce(&mut Timeouts),
) -> Case {
    let &Story { name, protocol, packets, .. } = story;
    let (client, vip, backend) =
        (at(f.client, 5000), at(f.load_balancer, 80), at(f.backends[0], 8080));
    let row = Service::new("ns/web:80", protocol, &[(f.backends[0], 8080)])
        .external_local()
        .load_balancer(f.load_balancer, 80, &[]);
    case(format!("{name} {how}, v4 {}", f.v4))
        .setup(|setup| configure(&mut setup.conntrack.timeouts))
        .service("ns/web", &[row])
        .then(move |gateway| {
            for &(reply, what) in packets {
                let (from, to) = if reply { (backend, client) } else { (client, vip) };
                let packet = match protocol {
                    Tcp => tcp(from, to).flags(what),
                    Udp => udp(from, to),
                    Sctp => sctp(from, to, what, b"four"),
                };
                let fate = if reply { gateway.pods(&packet) } else { gateway.outside(&packet) };
                assert!(matches!(fate, Fate::Sent(..)), "{fate:?}");
            }
            gateway.wait(seconds * MILLIS - 1);
            assert_eq!(gateway.connections(), 1, "after {seconds} s");
            gateway.wait((SWEEP + 1) * MILLIS);
            assert_eq!(gateway.connections(), 0, "after {seconds} s and a sweep");
        })
}

/// CTK-8: as many as are configured, in each family.
fn size(f: Family) -> Case {
    case(format!("as many connections as configured, v4 {}", f.v4))
        .setup(move |setup| {
            let (own, other) = (50, 7);
            setup.conntrack.connections_v4 = if f.v4 { own } else { other };
            setup.conntrack.connections_v6 = if f.v4 { other } else { own };
        })
        .service("ns/web", &web(f, false))
        .then(move |gateway| {
            for port in 0..200 {
                let (client, backend) = (at(f.client, 10_000 + port), at(f.backends[0], 8080));
                gateway.outside(&tcp(client, at(f.load_balancer, 80)));
                gateway.pods(&tcp(backend, client).flags(SYN | ACK));
                gateway.outside(&tcp(client, at(f.load_balancer, 80)).flags(ACK));
            }
            assert_eq!(gateway.connections(), 50);
            assert_eq!(gateway.counters[0].conntrack.capacity.get(), 57);
        })
}

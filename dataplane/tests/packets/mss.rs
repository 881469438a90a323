//! The maximum segment size in SYNs: lowered where a port says so, and never touched otherwise.

use dataplane::fib::MssClamp;
use dataplane::flow::Protocol::Tcp;

use super::*;
use crate::support::gateway::{FAMILIES, at};
use crate::support::packet::*;

const MOST: u16 = 1300;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for f in FAMILIES {
        for port in [OUT, IN] {
            cases.extend([handshake(f, port), masqueraded(f, port), in_transit(f, port)]);
            cases.extend(options(f, port));
        }
        cases.extend([off(f), lowest(f), of_the_mtu(f), picked_up(f), fragment(f), refused(f)]);
    }
    cases
}

fn named(name: &str, f: Family, port: PortId) -> Case {
    case(format!("{name}, v4 {}, port {port}", f.v4))
        .service("ns/web", &web(f, false))
        .setup(move |setup| clamp(setup, port, MOST))
}

fn clamp(setup: &mut Setup, port: PortId, most: u16) {
    setup.fib.ports[usize::from(port)].mss_clamp = Some(MssClamp::of(most));
}

fn mss(value: u16) -> [u8; 4] {
    let [high, low] = value.to_be_bytes();
    [2, 4, high, low]
}

/// What a Linux host says: MSS, SACK permitted, timestamps, window scale.
fn usual(value: u16) -> Vec<u8> {
    [&mss(value)[..], &[4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7]].concat()
}

/// Both SYNs, whichever port limits them, and nothing behind them.
fn handshake(f: Family, port: PortId) -> Case {
    let (client, vip, backend) =
        (at(f.client, 5000), at(f.load_balancer, 80), at(f.backends[0], 8080));
    let segment = |from, to, flags, value| tcp(from, to).flags(flags).tcp_options(&usual(value));
    named("a handshake", f, port)
        .outside(
            segment(client, vip, SYN, 1460),
            sent_in(segment(client, backend, SYN, MOST).ttl(63)),
        )
        .pods(
            segment(backend, client, SYN | ACK, 8960),
            sent_out(segment(vip, client, SYN | ACK, MOST).ttl(63)),
        )
        .outside(
            segment(client, vip, ACK, 1460),
            sent_in(segment(client, backend, ACK, 1460).ttl(63)),
        )
        .pods(
            segment(backend, client, ACK, 1460),
            sent_out(segment(vip, client, ACK, 1460).ttl(63)),
        )
        // Again: its connection is known by now.
        .outside(
            segment(client, vip, SYN, 1460),
            sent_in(segment(client, backend, SYN, MOST).ttl(63)),
        )
}

fn masqueraded(f: Family, port: PortId) -> Case {
    let (client, vip, backend) =
        (at(f.client, 5000), at(f.cluster_ip, 80), at(f.backends[0], 8080));
    let inside = at(f.node_in, MASQUERADE_PORT);
    let service =
        Service::new("ns/in:80", Tcp, &[(f.backends[0], 8080)]).cluster_ip(f.cluster_ip, 80);
    let segment = |from, to, flags, value| tcp(from, to).flags(flags).tcp_options(&usual(value));
    named("masqueraded", f, port)
        .service("ns/in", &[service])
        .outside(
            segment(client, vip, SYN, 1460),
            sent_in(segment(inside, backend, SYN, MOST).ttl(63)),
        )
        .pods(
            segment(backend, inside, SYN | ACK, 1460),
            sent_out(segment(vip, client, SYN | ACK, MOST).ttl(63)),
        )
}

fn in_transit(f: Family, port: PortId) -> Case {
    let (client, pod) = (at(f.client, 5000), at(f.pod, 22));
    let segment = |from, to, flags, value| tcp(from, to).flags(flags).tcp_options(&mss(value));
    named("in transit", f, port)
        .outside(segment(client, pod, SYN, 1460), sent_in(segment(client, pod, SYN, MOST).ttl(63)))
        .pods(
            segment(pod, client, SYN | ACK, 1460),
            sent_out(segment(pod, client, SYN | ACK, MOST).ttl(63)),
        )
        .outside(segment(client, pod, ACK, 1460), sent_in(segment(client, pod, ACK, 1460).ttl(63)))
}

/// PRO-6: what is not too large, and what is no MSS, stays as it is. Checksums are those of what leaves, whatever the
/// place of the option.
fn options(f: Family, port: PortId) -> Vec<Case> {
    let to = |end| tcp(at(f.client, 5000), end);
    let pad = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let story = |name: &str, before: &[u8], after: &[u8]| {
        named(name, f, port).outside(
            to(at(f.load_balancer, 80)).tcp_options(&pad(before)),
            sent_in(to(at(f.backends[0], 8080)).tcp_options(&pad(after)).ttl(63)),
        )
    };
    let same = |name: &str, bytes: &[u8]| story(name, bytes, bytes);
    let high = mss(1460);
    let behind = |bytes: &[u8], value: u16| [bytes, &mss(value)].concat();
    vec![
        same("no options", &[]),
        same("just as large", &mss(MOST)),
        same("smaller", &mss(MOST - 1)),
        same("tiny", &mss(0)),
        story("one too large", &mss(MOST + 1), &mss(MOST)),
        story("the largest", &mss(0xffff), &mss(MOST)),
        story("at an odd place", &behind(&[1], 0xffff), &behind(&[1], MOST)),
        story("at another", &behind(&[1, 1, 1], 1460), &behind(&[1, 1, 1], MOST)),
        story("behind another option", &behind(&[3, 3, 7], 1460), &behind(&[3, 3, 7], MOST)),
        story("at the very end", &behind(&[1; 36], 1460), &behind(&[1; 36], MOST)),
        story(
            "the first of two",
            &[mss(1460), mss(1460)].concat(),
            &[mss(MOST), mss(1460)].concat(),
        ),
        same("behind the end of options", &behind(&[0, 0, 0, 0], 1460)),
        same("of a wrong length", &[2, 3, 0xff, 1]),
        same("of a length of none", &[2, 0, high[2], high[3]]),
        same("behind an option without length", &behind(&[9, 0, 1, 1], 1460)),
        same("behind an option that is too long", &behind(&[9, 200, 1, 1], 1460)),
        same("cut off", &[1, 1, 2, 4]),
    ]
}

fn off(f: Family) -> Case {
    let to = |end| tcp(at(f.client, 5000), end).tcp_options(&mss(0xffff));
    case(format!("no limit, v4 {}", f.v4))
        .service("ns/web", &web(f, false))
        .outside(to(at(f.load_balancer, 80)), sent_in(to(at(f.backends[0], 8080)).ttl(63)))
}

/// Of two limits the lower one counts.
fn lowest(f: Family) -> Case {
    let to = |end, value| tcp(at(f.client, 5000), end).tcp_options(&mss(value));
    named("two limits", f, OUT).setup(|setup| clamp(setup, IN, 1200)).outside(
        to(at(f.load_balancer, 80), 1460),
        sent_in(to(at(f.backends[0], 8080), 1200).ttl(63)),
    )
}

/// Headers of IPv6 are longer.
fn of_the_mtu(f: Family) -> Case {
    let to = |end, value| tcp(at(f.client, 5000), end).tcp_options(&mss(value));
    let left = if f.v4 { 1360 } else { 1340 };
    case(format!("what an MTU leaves, v4 {}", f.v4))
        .service("ns/web", &web(f, false))
        .setup(|setup| setup.fib.ports[usize::from(IN)].mss_clamp = Some(MssClamp::of_mtu(1400)))
        .outside(
            to(at(f.load_balancer, 80), 1460),
            sent_in(to(at(f.backends[0], 8080), left).ttl(63)),
        )
}

/// A segment in mid-stream opens a connection, too, but agrees on nothing.
fn picked_up(f: Family) -> Case {
    let to = |end| tcp(at(f.client, 5000), end).flags(ACK).tcp_options(&mss(1460));
    named("picked up", f, OUT)
        .outside(to(at(f.load_balancer, 80)), sent_in(to(at(f.backends[0], 8080)).ttl(63)))
}

/// The option may lie in a fragment to come.
fn fragment(f: Family) -> Case {
    let cut = |end, ttl| {
        let options = [[1; 4], mss(1460)].concat();
        tcp(at(f.client, 5000), end).tcp_options(&options).ttl(ttl).fragments(9, 24)
    };
    let pieces = cut(at(f.load_balancer, 80), 64).into_iter();
    pieces
        .zip(cut(at(f.backends[0], 8080), 63))
        .fold(named("in fragments", f, OUT), |case, (piece, sent)| {
            case.outside(piece, sent_in(sent))
        })
}

/// An error quotes what came.
fn refused(f: Family) -> Case {
    let packet = tcp(at(f.client, 5000), at(f.load_balancer, 80)).tcp_options(&mss(1460)).ttl(1);
    let quoted = packet.ip();
    named("out of hops", f, OUT).outside(
        packet,
        answered_out(time_exceeded(f.node_out, f.client, &quoted).ip_fragment(0, 0)),
    )
}

//! ClientIP affinity, packet by packet.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::affinity::Affinity;
use dataplane::flow::Protocol::{Tcp, Udp};
use dataplane::hash::HashKey;
use etherparse::{NetSlice, SlicedPacket};

use super::*;
use crate::support::gateway::{FAMILIES, at, ip};
use crate::support::packet::*;

const CLIENTS: usize = 8;
const MILLIS: u64 = 1000;

pub fn cases() -> Vec<Case> {
    FAMILIES
        .into_iter()
        .flat_map(|f| [sticks(f), ends(f), of_the_list(f), every_way(f), many_clients(f)])
        .collect()
}

fn row(f: Family, protocol: Protocol, backends: &[usize], seconds: Option<u32>) -> Service {
    let endpoints: Vec<_> = backends.iter().map(|&i| (f.backends[i], 8080)).collect();
    let mut row = Service::new("ns/web:80", protocol, &endpoints)
        .external_local()
        .load_balancer(f.load_balancer, 80, &[])
        .external(f.external_ip, 80);
    row.0.affinity = seconds;
    row
}

fn story(name: &str, f: Family, protocol: Protocol) -> Case {
    case(format!("{name}, v4 {}", f.v4))
        .service("ns/web", &[row(f, protocol, &[0, 1, 2], Some(100))])
}

fn client(f: Family, number: usize) -> IpAddr {
    ip(&format!("{}{number}", if f.v4 { "203.0.113.10" } else { "2001:db8:f::10" }))
}

/// Where a packet of this client goes.
fn backend(gateway: &mut Gateway, packet: Packet) -> IpAddr {
    match gateway.receive(OUT, &packet.macs(ROUTER, OUT_MAC).frame()) {
        Fate::Sent(IN, frame) => match SlicedPacket::from_ethernet(&frame).expect("a packet").net {
            Some(NetSlice::Ipv4(ip)) => ip.header().destination_addr().into(),
            Some(NetSlice::Ipv6(ip)) => ip.header().destination_addr().into(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Where ten connections of each client go.
fn backends(
    gateway: &mut Gateway,
    f: Family,
    protocol: Protocol,
    port: u16,
) -> Vec<BTreeSet<IpAddr>> {
    let vip = at(f.load_balancer, 80);
    let of = |gateway: &mut Gateway, number| {
        let ports = port..port + 10;
        ports
            .map(|port| {
                let client = (client(f, number), port);
                let packet = if protocol == Udp { udp(client, vip) } else { tcp(client, vip) };
                backend(gateway, packet)
            })
            .collect()
    };
    (0..CLIENTS).map(|number| of(gateway, number)).collect()
}

/// AFF-1, AFF-2, AFF-6: one backend a client, all of them in use.
fn sticks(f: Family) -> Case {
    let protocol = if f.v4 { Tcp } else { Udp };
    story("a client keeps its backend", f, protocol).then(move |gateway| {
        let first = backends(gateway, f, protocol, 1000);
        assert!(first.iter().all(|backends| backends.len() == 1), "{first:?}");
        assert!(first.iter().flatten().collect::<BTreeSet<_>>().len() > 1, "not all the same");
        gateway.wait(99 * MILLIS);
        assert_eq!(backends(gateway, f, protocol, 2000), first);
        gateway.wait(99 * MILLIS);
        assert_eq!(backends(gateway, f, protocol, 3000), first, "AFF-3: since the last connection");
    })
}

/// AFF-3, AFF-5, AFF-9.
fn ends(f: Family) -> Case {
    story("affinity ends by time, and with the policy", f, Tcp).then(move |gateway| {
        let mut seen = backends(gateway, f, Tcp, 1000);
        for round in 2..12 {
            gateway.wait(100 * MILLIS);
            let now = backends(gateway, f, Tcp, round * 1000);
            assert!(now.iter().all(|backends| backends.len() == 1));
            seen.iter_mut().zip(now).for_each(|(seen, now)| seen.extend(now));
        }
        assert!(seen.iter().all(|backends| backends.len() > 1), "another one each time: {seen:?}");
        gateway.apply("ns/web", &[row(f, Tcp, &[0, 1, 2], None)]);
        let spread = backends(gateway, f, Tcp, 20_000);
        assert!(spread.iter().all(|backends| backends.len() > 1), "{spread:?}");
    })
}

/// AFF-4: only endpoints of the list in use.
fn of_the_list(f: Family) -> Case {
    story("a backend that is gone is kept by nobody", f, Tcp).then(move |gateway| {
        let first = backends(gateway, f, Tcp, 1000);
        gateway.apply("ns/web", &[row(f, Tcp, &[1, 2], Some(100))]);
        let gone = ip(f.backends[0]);
        let second = backends(gateway, f, Tcp, 2000);
        for (before, after) in first.iter().zip(&second) {
            assert!(!after.contains(&gone) && after.len() == 1, "{after:?}");
            assert!(before.contains(&gone) || before == after, "others stay");
        }
        gateway.apply("ns/web", &[row(f, Tcp, &[0, 1, 2], Some(100))]);
        assert_eq!(backends(gateway, f, Tcp, 3000), second, "it comes back to nobody");
    })
}

/// AFF-2: whichever way leads to the row.
fn every_way(f: Family) -> Case {
    story("another address of the Service leads to the same backend", f, Tcp).then(move |gateway| {
        let first = backends(gateway, f, Tcp, 1000);
        for (number, first) in first.iter().enumerate() {
            let packet = tcp((client(f, number), 5000), at(f.external_ip, 80));
            assert_eq!(BTreeSet::from([backend(gateway, packet)]), *first);
        }
    })
}

/// AFF-7: a hundred clients of a backend are not the limit; all of a thousand keep theirs.
fn many_clients(f: Family) -> Case {
    let client = move |number: usize, port| {
        let (high, low) = (number / 250, number % 250 + 1);
        let v6 = format!("2001:db8:f::{high:x}:{low:x}");
        at(&if f.v4 { format!("203.0.{}.{low}", 113 + high) } else { v6 }, port)
    };
    let setup = |setup: &mut Setup| {
        setup.affinity = Arc::new(Affinity::new(16_384, HashKey::new(3)));
        setup.fib.routes.iter_mut().for_each(|route| {
            if route.prefix.to_string() == "203.0.113.0/24" {
                route.prefix = "203.0.0.0/16".parse().expect("a prefix");
            }
        });
    };
    story("a thousand clients", f, Tcp).setup(setup).then(move |gateway| {
        let vip = at(f.load_balancer, 80);
        let all = |gateway: &mut Gateway, port| -> Vec<IpAddr> {
            (0..1000).map(|n| backend(gateway, tcp(client(n, port), vip))).collect()
        };
        let first = all(gateway, 1000);
        for index in f.backends {
            let count = first.iter().filter(|&&backend| backend == ip(index)).count();
            assert!(count > 200, "{count} of a thousand at {index}");
        }
        assert_eq!(all(gateway, 2000), first);
    })
}

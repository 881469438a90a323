//! UDP clients that never change their port and never wait, while endpoints and Services come and go: no datagram after a
//! change goes by what was before it.

use dataplane::flow::Protocol::Udp;
use dataplane::verdict::DropReason::*;

use super::*;
use crate::support::gateway::{FAMILIES, at};
use crate::support::packet::*;

const NODE_PORT: u16 = 30_053;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for f in FAMILIES {
        for answered in [false, true] {
            cases.extend(WAYS.map(|way| every_second(f, way, answered)));
        }
        cases.extend(WAYS.map(|way| too_early(f, way)));
        cases.extend([local_returns(f, true), local_returns(f, false), deleted(f)]);
    }
    cases
}

/// Who asks, and where.
#[derive(Clone, Copy, Debug)]
enum Way {
    LoadBalancer,
    NodePort,
    PodToClusterIp,
    /// A pod with the node's network.
    NodeToClusterIp,
}

const WAYS: [Way; 4] =
    [Way::LoadBalancer, Way::NodePort, Way::PodToClusterIp, Way::NodeToClusterIp];

impl Way {
    /// The client, who is the same for backends, and where it sends to.
    fn ends(self, f: Family) -> [(std::net::IpAddr, u16); 2] {
        match self {
            Self::LoadBalancer => [at(f.client, 5000), at(f.load_balancer, 53)],
            Self::NodePort => [at(f.client, 5000), at(f.node_out, NODE_PORT)],
            Self::PodToClusterIp => [at(f.pod, 5000), at(f.cluster_ip, 53)],
            Self::NodeToClusterIp => [at(f.node_in, 5000), at(f.cluster_ip, 53)],
        }
    }

    fn sends(self, gateway: &mut Gateway, f: Family) -> Fate {
        let [client, to] = self.ends(f);
        let packet = udp(client, to);
        match self {
            Self::LoadBalancer | Self::NodePort => gateway.outside(&packet),
            Self::PodToClusterIp => gateway.pods(&packet),
            Self::NodeToClusterIp => gateway.inject(IN, &from_kernel(IN, packet)),
        }
    }

    /// As it arrives at a backend.
    fn at_backend(self, f: Family, backend: usize) -> Fate {
        let [mut client, _] = self.ends(f);
        if matches!(self, Self::NodeToClusterIp) {
            client = at(f.node_in, MASQUERADE_PORT);
        }
        sent_in(udp(client, at(f.backends[backend], 8080)).ttl(63))
    }

    fn answer(self, gateway: &mut Gateway, f: Family, backend: usize) -> Fate {
        let [mut client, _] = self.ends(f);
        if matches!(self, Self::NodeToClusterIp) {
            client = at(f.node_in, MASQUERADE_PORT);
        }
        gateway.pods(&udp(at(f.backends[backend], 8080), client))
    }
}

/// A Service at every kind of address that hides nobody who is not hidden anyhow.
fn dns(f: Family, backends: &[usize]) -> Service {
    let endpoints: Vec<_> = backends.iter().map(|&i| (f.backends[i], 8080)).collect();
    Service::new("ns/dns:53", Udp, &endpoints)
        .external_local()
        .load_balancer(f.load_balancer, 53, &[])
        .node_port(f.v4, NODE_PORT)
        .cluster_ip(f.cluster_ip, 53)
}

fn is_refused(fate: &Fate) -> bool {
    matches!(fate, Fate::Answered(..) | Fate::Punted(..))
}

/// CTK-2, CTK-4, CTK-6, CTK-13: a datagram a second for ten minutes, through every change. With answers, so that the
/// connection is renewed from both sides, and without any.
fn every_second(f: Family, way: Way, answered: bool) -> Case {
    case(format!("a datagram a second, {way:?}, v4 {}, answered {answered}", f.v4)).then(
        move |gateway| {
            let mut now = None;
            for second in 0..600 {
                // Scaled to zero and back, moved, deleted and made again.
                let change = match second {
                    0 | 120 => Some(Some(0)),
                    60 | 240 => Some(None),
                    180 | 420 => Some(Some(1)),
                    300 | 540 => Some(Some(2)),
                    360 => None,
                    _ => Some(now),
                };
                match change {
                    Some(backend) if backend != now || second == 0 => {
                        let list: Vec<usize> = backend.into_iter().collect();
                        gateway.apply("ns/dns", &[dns(f, &list)]);
                        now = backend;
                    }
                    None => {
                        gateway.apply("ns/dns", &[]);
                        now = None;
                    }
                    _ => {}
                }
                let fate = way.sends(gateway, f);
                match now {
                    Some(backend) => {
                        assert_eq!(fate, way.at_backend(f, backend), "second {second}");
                        if answered {
                            let fate = way.answer(gateway, f, backend);
                            let went = matches!(fate, Fate::Sent(..) | Fate::Punted(..));
                            assert!(went, "second {second}: {fate:?}");
                        }
                    }
                    None if (360..420).contains(&second) => {
                        assert!(!matches!(fate, Fate::Sent(IN, _)), "second {second}: {fate:?}");
                    }
                    None => assert!(is_refused(&fate), "second {second}: {fate:?}"),
                }
                gateway.now = gateway.now.after(1_000);
            }
            assert_eq!(gateway.connections(), 1, "one client, one connection");
        },
    )
}

/// CTK-5: who sent before there was an endpoint is not held to the refusal.
fn too_early(f: Family, way: Way) -> Case {
    case(format!("endpoints come after the first datagram, {way:?}, v4 {}", f.v4)).then(
        move |gateway| {
            gateway.apply("ns/dns", &[dns(f, &[])]);
            for _ in 0..15 {
                assert!(is_refused(&way.sends(gateway, f)));
                gateway.now = gateway.now.after(1_000);
            }
            gateway.apply("ns/dns", &[dns(f, &[1])]);
            assert_eq!(way.sends(gateway, f), way.at_backend(f, 1));
        },
    )
}

/// CTK-5, CTK-13: with internalTrafficPolicy Local, while the only local endpoint is away and another one stays, datagrams
/// are dropped; the first one after its return goes to it.
fn local_returns(f: Family, began_before: bool) -> Case {
    let way = Way::PodToClusterIp;
    let with = move |local: &[usize], all: &[usize]| {
        let local: Vec<_> = local.iter().map(|&i| (f.backends[i], 8080)).collect();
        dns(f, all).internal_local().local(&local)
    };
    let name = format!("the local endpoint returns, v4 {}, began before {began_before}", f.v4);
    case(name).then(move |gateway| {
        if began_before {
            gateway.apply("ns/dns", &[with(&[0], &[0, 1])]);
            assert_eq!(way.sends(gateway, f), way.at_backend(f, 0));
        }
        gateway.apply("ns/dns", &[with(&[], &[1])]);
        for _ in 0..200 {
            assert_eq!(way.sends(gateway, f), dropped(NoLocalEndpointInternal));
            gateway.now = gateway.now.after(1_000);
        }
        gateway.apply("ns/dns", &[with(&[0], &[0, 1])]);
        assert_eq!(way.sends(gateway, f), way.at_backend(f, 0));
        assert_eq!(way.answer(gateway, f, 0), {
            let [client, vip] = way.ends(f);
            sent_in(udp(vip, client).ttl(63))
        });
    })
}

/// CTK-6: made again under the same name and addresses, a Service has no part in what was before.
fn deleted(f: Family) -> Case {
    let way = Way::LoadBalancer;
    case(format!("deleted and made again, v4 {}", f.v4)).service("ns/dns", &[dns(f, &[0])]).then(
        move |gateway| {
            assert_eq!(way.sends(gateway, f), way.at_backend(f, 0));
            gateway.apply("ns/dns", &[]);
            assert_eq!(way.sends(gateway, f), dropped(NoRoute));
            assert_eq!(gateway.connections(), 0);
            gateway.apply("ns/dns", &[dns(f, &[0])]);
            assert_eq!(way.sends(gateway, f), way.at_backend(f, 0));
            gateway.apply("ns/dns", &[]);
            gateway.apply("ns/dns", &[dns(f, &[1])]);
            assert_eq!(way.sends(gateway, f), way.at_backend(f, 1));
        },
    )
}

//! Next hops: static routes and the MAC addresses of gateways and hosts.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use control::config::PortRoute;
use control::kernel::connect;
use control::kernel::routes::install;
use control::kernel::twin::Twin;
use dataplane::fib::{Fib, NeighborSpec, Route, RouteTo};
use tokio::time::sleep;

use crate::Case;
use crate::frames::{arp, is_arp, is_solicitation};
use crate::node::*;

pub(crate) const CASES: &[Case] = &[
    ("static_routes_are_installed_or_refused_by_name", || run(static_routes())),
    ("gateway_is_resolved_without_being_asked_for", || run(gateway())),
    ("workers_request_is_resolved", || run(request())),
    ("what_an_operator_has_set_stays", || run(set_for_good())),
];

async fn static_routes() {
    let netlink = connect().expect("a netlink socket");
    let twin = Twin::create(&netlink, config(&[V4, V6])).await.expect("a twin");
    let entry = |to: &str, via| PortRoute { to: to.parse().expect("a prefix"), via: ip(via) };
    let replaced = entry("10.1.0.0/16", "192.0.2.253");
    let listed = [
        entry("0.0.0.0/0", "192.0.2.254"),
        entry("::/0", "2001:db8::fe"),
        entry("2001:db8:1::/48", "fe80::fe"),
        entry("10.1.0.0/16", "192.0.2.252"),
    ];
    install(&netlink, &twin, &[&[replaced], &listed[..]].concat()).await.expect("all routes");
    let unreachable = [entry("10.3.0.0/16", "203.0.113.1")];
    let error = install(&netlink, &twin, &unreachable).await.expect_err("not on the link");
    assert!(error.to_string().contains("cannot add route 10.3.0.0/16 to vg0"), "{error}");
    let node = Node::with(netlink, twin).await;
    let spec = node.specs.borrow().clone();
    for PortRoute { to, via } in listed {
        let expected = RouteTo::Port { port: 0, gateway: Some(via) };
        assert_eq!(leads(&spec, &to.to_string()), Some(expected), "{to}");
    }
}

async fn gateway() {
    let node = Node::start(&[V4, V6]).await;
    let gateway = Ipv4Addr::new(192, 0, 2, 254);
    let far = route(&node, "10.0.0.0/8", Some("192.0.2.254"), 0);
    node.netlink.route().add(far).execute().await.expect("a route");
    node.injected("ARP request", |frame| is_arp(frame, 1, gateway)).await;
    node.punt(&arp(2, gateway, NODE_V4));
    let entry = NeighborSpec { port: 0, address: gateway.into(), mac: PEER };
    let spec = node.mirrored("the gateway", |spec| spec.neighbors.contains(&entry)).await;
    let egress = Route::Egress { port: 0, mac: PEER };
    assert_eq!(Fib::new(&spec).route(ip("10.1.2.3").into()), egress);

    let far = route(&node, "::/0", Some("fe80::99"), 0);
    node.netlink.route().add(far).execute().await.expect("a route");
    let gateway = "fe80::99".parse().expect("an address");
    node.injected("solicitation", |frame| is_solicitation(frame, gateway)).await;
}

async fn request() {
    let node = Node::start(&[V4]).await;
    for _ in 0..3 {
        node.requests.push((0, IpAddr::from(PEER_V4).into())).expect("room");
    }
    node.injected("ARP request", |frame| is_arp(frame, 1, PEER_V4)).await;
    assert_eq!(node.resolver.asked.load(Relaxed), 1, "one question for many requests");
    node.punt(&arp(2, PEER_V4, NODE_V4));
    let entry = NeighborSpec { port: 0, address: PEER_V4.into(), mac: PEER };
    node.mirrored("the neighbour", |spec| spec.neighbors.contains(&entry)).await;
}

async fn set_for_good() {
    let node = Node::start(&[V4]).await;
    permanent(&node, PEER_V4.into()).await;
    let entry = NeighborSpec { port: 0, address: PEER_V4.into(), mac: PEER };
    node.mirrored("the neighbour", |spec| spec.neighbors.contains(&entry)).await;
    // The second one is asked for after the first one.
    let other = Ipv4Addr::new(192, 0, 2, 77);
    for address in [PEER_V4, other] {
        node.requests.push((0, IpAddr::from(address).into())).expect("room");
    }
    node.injected("ARP request", |frame| is_arp(frame, 1, other)).await;
    // Longer than the mirror collects changes.
    sleep(Duration::from_millis(50)).await;
    assert!(node.specs.borrow().neighbors.contains(&entry), "a question has undone it");
}

//! The mirror: what is changed in the kernel appears in the table.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::Arc;

use control::kernel::connect;
use dataplane::fib::{Fib, FibSpec, NeighborSpec, Route, RouteTo};
use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteScope, RouteType};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder, RouteNextHopBuilder};

use crate::Case;
use crate::node::*;

pub(crate) const CASES: &[Case] = &[
    ("mirror_follows_addresses", || run(addresses())),
    ("mirror_follows_routes", || run(routes())),
    ("mirror_follows_neighbours", || run(neighbours())),
    ("mirror_follows_appended_routes", || run(appended_routes())),
    ("mirror_drops_routes_of_a_link_that_goes_down", || run(link_down())),
    ("mirror_follows_next_hop_objects", || run(nexthop_objects())),
    ("mirror_recovers_from_lost_notifications", || run(overrun())),
];

async fn addresses() {
    let node = Node::start(&[V4]).await;
    let new = ip("198.51.100.1");
    node.netlink.address().add(node.index, new, 24).execute().await.expect("an address");
    let spec = node.mirrored("a new address", |spec| spec.locals.contains(&new)).await;
    assert_eq!(spec.ports[0].addresses[..2], [ip("192.0.2.1"), new]);
    node.mirrored("its route", |spec| leads(spec, "198.51.100.0/24").is_some()).await;

    let mut all = node.netlink.address().get().set_address_filter(new).execute();
    let message = all.try_next().await.expect("a list").expect("the address");
    node.netlink.address().del(message).execute().await.expect("deleted");
    node.mirrored("no address", |spec| !spec.locals.contains(&new)).await;
    node.mirrored("no route", |spec| leads(spec, "198.51.100.0/24").is_none()).await;
}

async fn routes() {
    let node = Node::start(&[V4, V6]).await;
    let via = |gateway: &str| RouteTo::Port { port: 0, gateway: Some(ip(gateway)) };
    let add = |message: RouteMessage| node.netlink.route().add(message).execute();

    let far = route(&node, "10.0.0.0/8", Some("192.0.2.254"), 100);
    add(far.clone()).await.expect("a route");
    add(route(&node, "10.0.0.0/8", Some("192.0.2.253"), 200)).await.expect("a worse route");
    node.mirrored("the better", |spec| leads(spec, "10.0.0.0/8") == Some(via("192.0.2.254"))).await;
    node.netlink.route().del(far).execute().await.expect("deleted");
    node.mirrored("the other", |spec| leads(spec, "10.0.0.0/8") == Some(via("192.0.2.253"))).await;

    add(route(&node, "::/0", Some("fe80::99"), 0)).await.expect("a default route");
    node.mirrored("a link-local gateway", |spec| leads(spec, "::/0") == Some(via("fe80::99")))
        .await;

    for prefix in ["172.16.0.0/12", "2001:db8:bad::/48"] {
        let mut hole = route(&node, prefix, None, 0);
        hole.header.kind = RouteType::BlackHole;
        hole.attributes.truncate(1);
        add(hole).await.expect("a blackhole");
        node.mirrored("nowhere", |spec| leads(spec, prefix) == Some(RouteTo::Nowhere)).await;
    }

    // Replaced without a word about the old one.
    let changed = route(&node, "10.0.0.0/8", Some("192.0.2.99"), 200);
    node.netlink.route().add(changed).replace().execute().await.expect("replaced");
    node.mirrored("replaced", |spec| leads(spec, "10.0.0.0/8") == Some(via("192.0.2.99"))).await;

    let hop = |gateway: &str| {
        let hop = RouteNextHopBuilder::new_ipv4().interface(node.index);
        hop.via(ip(gateway)).expect("IPv4").build()
    };
    let mut spread = route(&node, "10.9.0.0/16", None, 0);
    spread.attributes.truncate(1);
    spread.header.scope = RouteScope::Universe;
    let hops = vec![hop("192.0.2.7"), hop("192.0.2.8")];
    spread.attributes.push(RouteAttribute::MultiPath(hops));
    add(spread).await.expect("a multipath route");
    node.mirrored("one of two", |spec| leads(spec, "10.9.0.0/16") == Some(via("192.0.2.7"))).await;

    // The loopback interface is no port.
    let mut elsewhere = route(&node, "10.8.0.0/16", None, 0);
    set_up(&node.netlink, 1).await;
    elsewhere.attributes[1] = RouteAttribute::Oif(1);
    add(elsewhere).await.expect("a route");
    node.mirrored("not ours", |spec| leads(spec, "10.8.0.0/16") == Some(RouteTo::Nowhere)).await;
}

async fn neighbours() {
    let node = Node::start(&[V4, V6]).await;
    for address in ["192.0.2.9", "2001:db8::9"].map(ip) {
        permanent(&node, address).await;
        let entry = NeighborSpec { port: 0, address, mac: PEER };
        let spec = node.mirrored("a neighbour", |spec| spec.neighbors.contains(&entry)).await;
        let egress = Route::Egress { port: 0, mac: PEER };
        assert_eq!(Fib::new(&spec).route(address.into()), egress);

        let mut gone = NeighbourMessage::default();
        gone.header.ifindex = node.index;
        let (family, destination) = match address {
            IpAddr::V4(ip) => (AddressFamily::Inet, NeighbourAddress::Inet(ip)),
            IpAddr::V6(ip) => (AddressFamily::Inet6, NeighbourAddress::Inet6(ip)),
        };
        gone.header.family = family;
        gone.attributes = vec![NeighbourAttribute::Destination(destination)];
        node.netlink.neighbours().del(gone).execute().await.expect("deleted");
        node.mirrored("no neighbour", |spec| spec.neighbors.is_empty()).await;
    }
}

/// Routes beside each other in IPv4, next hops of one route in IPv6.
async fn appended_routes() {
    let node = Node::start(&[V4, V6]).await;
    for (prefix, first, second, third) in [
        ("10.7.0.0/16", "192.0.2.7", "192.0.2.8", "192.0.2.9"),
        ("2001:db8:7::/48", "2001:db8::7", "2001:db8::8", "2001:db8::9"),
    ] {
        let to = |gateway: &str| Some(RouteTo::Port { port: 0, gateway: Some(ip(gateway)) });
        let step = async |action: &str, gateway: &str| {
            ip_command(&format!("route {action} {prefix} via {gateway} dev {NAME}"));
            leads(&*settled(&node).await, prefix)
        };
        assert_eq!(step("append", first).await, to(first));
        assert_eq!(step("append", second).await, to(first));
        assert_eq!(step("append", third).await, to(first));
        assert_eq!(step("del", first).await, to(second));
        assert_eq!(step("del", third).await, to(second));
        assert_eq!(step("del", second).await, None);
    }
    ip_command(&format!("route add 10.7.0.0/16 via 192.0.2.7 dev {NAME}"));
    ip_command(&format!("route prepend 10.7.0.0/16 via 192.0.2.6 dev {NAME}"));
    let before = Some(RouteTo::Port { port: 0, gateway: Some(ip("192.0.2.6")) });
    assert_eq!(leads(&*settled(&node).await, "10.7.0.0/16"), before);
}

async fn link_down() {
    let node = Node::start(&[V4]).await;
    // An IPv6 address that goes away would be news of its own.
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{NAME}/disable_ipv6"), "1").expect("no IPv6");
    node.mirrored("only IPv4", |spec| spec.ports[0].addresses.len() == 1).await;
    let far = route(&node, "10.0.0.0/8", Some("192.0.2.254"), 0);
    node.netlink.route().add(far).execute().await.expect("a route");
    node.mirrored("a route", |spec| leads(spec, "10.0.0.0/8").is_some()).await;
    let down = LinkMessageBuilder::<LinkUnspec>::default().index(node.index).down().build();
    node.netlink.link().set(down).execute().await.expect("down");
    node.mirrored("no routes", |spec| spec.routes.is_empty()).await;
    set_up(&node.netlink, node.index).await;
    node.mirrored("connected", |spec| leads(spec, "192.0.2.0/24").is_some()).await;
}

/// FRR makes its routes this way.
async fn nexthop_objects() {
    let node = Node::start(&[V4, V6]).await;
    for (prefix, old, new) in [
        ("10.7.0.0/16", "192.0.2.7", "192.0.2.8"),
        ("2001:db8:7::/48", "2001:db8::7", "2001:db8::8"),
    ] {
        let to = |gateway: &str| Some(RouteTo::Port { port: 0, gateway: Some(ip(gateway)) });
        ip_command(&format!("nexthop add id 7 via {old} dev {NAME}"));
        ip_command(&format!("route add {prefix} nhid 7"));
        node.mirrored("an object", |spec| leads(spec, prefix) == to(old)).await;
        ip_command(&format!("nexthop replace id 7 via {new} dev {NAME}"));
        node.mirrored("the new object", |spec| leads(spec, prefix) == to(new)).await;
        ip_command("nexthop del id 7");
        node.mirrored("no route", |spec| leads(spec, prefix).is_none()).await;
    }
}

async fn overrun() {
    const ROUTES: u32 = 5000;
    let node = Node::start(&[V4]).await;
    let index = node.index;
    // Another thread floods while this one, and with it the mirror, stands still.
    let flood = std::thread::spawn(move || {
        run(async move {
            let netlink = connect().expect("a netlink socket");
            for n in 0..ROUTES {
                let message = RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(Ipv4Addr::from_bits((10 << 24) | (n << 8)), 24)
                    .output_interface(index)
                    .gateway(Ipv4Addr::new(192, 0, 2, 254))
                    .build();
                netlink.route().add(message).execute().await.expect("a route");
            }
        });
    });
    flood.join().expect("all added");
    let complete = |spec: &FibSpec| spec.routes.len() > ROUTES as usize;
    let spec = node.mirrored("all routes", complete).await;
    assert!(leads(&spec, "10.0.0.0/24").is_some() && leads(&spec, "10.19.135.0/24").is_some());
}

/// The table that has all changes made before: a mark put into the kernel after them has arrived.
async fn settled(node: &Node) -> Arc<FibSpec> {
    let marked = |spec: &FibSpec| leads(spec, "192.168.0.0/16").is_some();
    let mark = route(node, "192.168.0.0/16", None, 0);
    node.netlink.route().add(mark.clone()).execute().await.expect("a mark");
    let spec = node.mirrored("the mark", marked).await;
    node.netlink.route().del(mark).execute().await.expect("deleted");
    node.mirrored("no mark", |spec| !marked(spec)).await;
    spec
}

fn ip_command(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).status().expect("iproute2");
    assert!(done.success(), "ip {arguments}");
}

async fn set_up(netlink: &Handle, index: u32) {
    let up = LinkMessageBuilder::<LinkUnspec>::default().index(index).up().build();
    netlink.link().set(up).execute().await.expect("up");
}

//! The twin: the device itself and frames through it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use control::kernel::twin::{Queues, Twin};
use control::kernel::{KernelError, connect};
use crossbeam::queue::ArrayQueue;
use dataplane::fib::RouteTo;
use dataplane::nic::memory::MemoryFrame;
use futures::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::link::LinkAttribute;
use tokio::net::UdpSocket;

use crate::Case;
use crate::frames::{arp, checksum, is_advertisement, is_arp, solicitation, udp};
use crate::node::*;

pub(crate) const CASES: &[Case] = &[
    ("twin_has_the_ports_mac_mtu_and_addresses", || run(facts())),
    ("twin_refuses_bad_names_and_taken_ones", || run(refusals())),
    ("twin_is_deleted_when_dropped", || run(deletion())),
    ("twin_says_when_it_is_gone", || run(gone())),
    ("frames_go_both_ways", || run(both_ways())),
    ("full_queue_is_counted", || run(full_queue())),
    ("kernel_answers_arp_and_ndp_for_node_addresses", || run(answers())),
];

async fn facts() {
    let node = Node::start(&[V4, "192.0.2.2/24", V6, "2001:db8::2/64"]).await;
    let mut links = node.netlink.link().get().match_index(node.index).execute();
    let link = links.try_next().await.expect("a link").expect("the twin");
    assert!(link.attributes.contains(&LinkAttribute::IfName(NAME.into())));
    assert!(link.attributes.contains(&LinkAttribute::Address(MAC.to_vec())));
    assert!(link.attributes.contains(&LinkAttribute::Mtu(1400)));

    let link_local = "fe80::ff:fe00:1";
    let listed = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", link_local].map(ip);
    let spec = node.mirrored("all addresses", |spec| spec.ports[0].addresses.len() == 5).await;
    assert_eq!(spec.ports[0].mac, MAC);
    assert_eq!(spec.ports[0].mtu, 1400);
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) =
        spec.ports[0].addresses.iter().partition(|ip| ip.is_ipv4());
    assert_eq!(v4, listed[..2], "in the order of the configuration");
    assert_eq!(v6, listed[2..], "link-local last");
    assert!(listed.iter().all(|ip| spec.locals.contains(ip)), "{:?}", spec.locals);
    let connected = RouteTo::Port { port: 0, gateway: None };
    assert_eq!(leads(&spec, "192.0.2.0/24"), Some(connected));
    assert_eq!(leads(&spec, "2001:db8::/64"), Some(connected));
    assert_eq!(leads(&spec, "fe80::/64"), None, "link-local is never forwarded");
}

async fn refusals() {
    let netlink = connect().expect("a netlink socket");
    let _first = Twin::create(&netlink, config(&[])).await.expect("a twin");
    let error = Twin::create(&netlink, config(&[])).await.expect_err("taken");
    assert!(matches!(error, KernelError::OpenTap { .. }), "{error:?}");
    assert!(
        error.to_string().contains("vg0: ") && error.to_string().contains("new name"),
        "{error}"
    );

    let mut long = config(&[]);
    long.name = "a-name-of-16-byte".into();
    let error = Twin::create(&netlink, long).await.expect_err("too long");
    assert!(error.to_string().contains("15 bytes"), "{error}");

    let mut bad = config(&["192.0.2.1/24"]);
    (bad.name, bad.mac) = ("vg1".into(), [0xff; 6]);
    let error = Twin::create(&netlink, bad).await.expect_err("a group address");
    assert!(error.to_string().contains("cannot set the MAC address of TAP device vg1"), "{error}");
    assert!(!exists(&netlink, "vg1").await, "nothing is left behind");
}

async fn deletion() {
    let netlink = connect().expect("a netlink socket");
    let twin = Twin::create(&netlink, config(&[V4])).await.expect("a twin");
    assert!(exists(&netlink, NAME).await);
    drop(twin);
    assert!(!exists(&netlink, NAME).await);
}

async fn gone() {
    let netlink = connect().expect("a netlink socket");
    let twin = Twin::create(&netlink, config(&[])).await.expect("a twin");
    let index = twin.index();
    let queue = || Arc::new(ArrayQueue::<MemoryFrame>::new(1));
    let queues = Queues { punts: queue(), injects: queue(), bell: Arc::default() };
    let running = tokio::spawn(twin.run(queues, |_| None, Arc::default()));
    netlink.link().del(index).execute().await.expect("deleted");
    let error = within(running).await.expect("no panic");
    assert!(matches!(&error, KernelError::Lost { device, .. } if device == NAME), "{error}");
}

async fn both_ways() {
    let node = Node::start(&[V4]).await;
    let socket = UdpSocket::bind((NODE_V4, 7000)).await.expect("a socket");
    node.punt(&udp(PEER_V4, NODE_V4, 7000, b"to the kernel"));
    let mut buffer = [0; 100];
    let (len, from) = within(socket.recv_from(&mut buffer)).await.expect("a datagram");
    assert_eq!((&buffer[..len], from.ip()), (&b"to the kernel"[..], PEER_V4.into()));
    assert_eq!(node.counters.punted.load(Relaxed), 1);

    permanent(&node, PEER_V4.into()).await;
    socket.send_to(b"from the kernel", (PEER_V4, 9)).await.expect("sent");
    let frame = node.injected("datagram", |frame| frame.ends_with(b"from the kernel")).await;
    assert_eq!((&frame[..6], &frame[6..12]), (&PEER[..], &MAC[..]));
    let pseudo = [&frame[26..34], &[0, 17], &frame[38..40], &frame[34..], &[0]].concat();
    assert_eq!(checksum(&pseudo), [0, 0], "the UDP checksum is complete");
    assert!(node.counters.injected.load(Relaxed) > 0);
}

async fn full_queue() {
    let node = Node::start(&[V4]).await;
    let socket = UdpSocket::bind((NODE_V4, 0)).await.expect("a socket");
    permanent(&node, PEER_V4.into()).await;
    for _ in 0..100 {
        socket.send_to(b"more than fits", (PEER_V4, 9)).await.expect("sent");
    }
    let full = async {
        while node.counters.inject_full.load(Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(full).await;
    assert_eq!(node.injects.len(), 16);
}

async fn answers() {
    let node = Node::start(&[V4, V6]).await;
    node.punt(&arp(1, PEER_V4, NODE_V4));
    let reply = node.injected("ARP reply", |frame| is_arp(frame, 2, PEER_V4)).await;
    assert_eq!((&reply[..6], &reply[22..28]), (&PEER[..], &MAC[..]));

    let (peer, own): (Ipv6Addr, Ipv6Addr) =
        ("2001:db8::9".parse().expect("an address"), "2001:db8::1".parse().expect("an address"));
    node.punt(&solicitation(peer, own));
    let reply = node.injected("advertisement", |frame| is_advertisement(frame, own)).await;
    assert_eq!((&reply[..6], &reply[80..86]), (&PEER[..], &MAC[..]));
}

async fn exists(netlink: &Handle, name: &str) -> bool {
    let mut found = netlink.link().get().match_name(name).execute();
    matches!(found.try_next().await, Ok(Some(_)))
}

//! Packets larger than a link: fragments, and path MTU discovery through the gateway and by it.

use std::net::{SocketAddr, UdpSocket};

use crate::backend::pattern;
use crate::client::{download, source_for, udp, upload, who};
use crate::netns::Namespace;
use crate::service::{ECHO, HTTP, Policy, Service};
use crate::site::{BACKENDS, Layout, MASQUERADE, NODE, Site};
use crate::wire::{Wire, fragments};

const SIZE: u64 = 20 << 20;

/// PRO-4.
#[test]
fn large_udp_datagrams_pass_in_fragments_both_ways() {
    let services = services();
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    for vip in services.iter().flat_map(Service::vips) {
        for size in [1473, 4000, 9000, 60_000] {
            let question: Vec<u8> =
                (0..size).map(|i: u32| i.to_le_bytes()[i as usize % 3]).collect();
            let answer = site.client.run(|| {
                let socket = udp(source_for(vip.ip), 0);
                socket.send_to(&question, vip.at(&ECHO)).expect("the kernel makes fragments");
                let mut buffer = vec![0; 65_536];
                let (length, from) = socket
                    .recv_from(&mut buffer)
                    .unwrap_or_else(|error| panic!("{vip:?}, {size} bytes: {error}"));
                assert_eq!(from, vip.at(&ECHO));
                buffer.truncate(length);
                buffer
            });
            assert!(question == answer, "{vip:?}: {size} bytes have changed");
        }
    }
}

/// PRO-4: the first fragment comes last, of the question, and of the answer.
#[test]
fn fragments_that_overtake_the_first_one_are_answered() {
    let services = services();
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    let datagram = &pattern()[..4000];
    for (service, vip) in services.iter().flat_map(|s| s.balanced().map(|vip| (s, vip))) {
        let (to, source) = (vip.at(&ECHO), source_for(vip.ip));
        let hear = |socket: &UdpSocket, what: &str| {
            let mut buffer = vec![0; 65_536];
            let heard = socket.recv_from(&mut buffer);
            let (length, from) = heard.unwrap_or_else(|error| panic!("{vip:?}, {what}: {error}"));
            assert_eq!(from, to);
            assert!(buffer[..length] == *datagram, "{vip:?}, {what}: {length} bytes");
        };
        let socket = site.client.run(|| udp(source, 0));
        let client = socket.local_addr().expect("it is bound");
        backwards(&site.client, NODE[0], client, to, datagram);
        hear(&socket, "question backwards");
        if service.policy == Policy::Local {
            let backend = who(&socket, to).expect("an answer").backend;
            let place = BACKENDS.iter().find(|place| place.name == backend).expect("it is known");
            let address = place.addresses[usize::from(vip.ip.is_ipv6())];
            let from = SocketAddr::new(address.parse().expect("an address"), ECHO.target);
            backwards(&site.backend, MASQUERADE[0], from, client, datagram);
            hear(&socket, "answer backwards");
        }
    }
    let metrics = site.quiet_metrics();
    assert_eq!((metrics.dropped("fragment_unknown"), metrics.sum("worker_held_packets")), (0, 0));
}

/// Sends a datagram in fragments, the last one first.
fn backwards(end: &Namespace, gateway: &str, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
    end.run(|| {
        let wire = Wire::open("eth0").expect("a device");
        for frame in fragments(wire.gateway(gateway), from, to, datagram, 1400).iter().rev() {
            wire.send(frame).expect("it is sent");
        }
    });
}

/// ICM-5: with a limited segment size nobody has to be told.
#[test]
fn limited_segments_never_meet_the_mtu() {
    let services = services();
    let layout = Layout { mtu: [1500, 1400], mss_clamp: true, ..Layout::default() };
    let Some(site) = Site::new(layout, &services) else { return };
    for vip in services.iter().flat_map(Service::balanced) {
        forget(&site);
        let before = [&site.client, &site.backend].map(too_big);
        site.client.run(|| {
            let done =
                upload(vip.at(&HTTP), SIZE).and_then(|()| download(vip.at(&HTTP), SIZE, |_| ()));
            done.unwrap_or_else(|error| panic!("{vip:?}: {error}"));
        });
        assert_eq!([&site.client, &site.backend].map(too_big), before, "{vip:?}");
    }
}

/// ICM-5: routers on both sides say "too big"; what they say is translated for whom it concerns.
#[test]
fn routers_tell_client_and_backend_the_path_mtu() {
    let services = services();
    let layout = Layout { path_mtu: Some(1400), ..Layout::default() };
    let Some(site) = Site::new(layout, &services) else { return };
    transfers_find_the_mtu(&site, &services);
}

/// ICM-5.
#[test]
fn the_gateway_tells_the_client_the_mtu_of_its_inner_port() {
    let services = services();
    let Some(site) = Site::new(Layout { mtu: [1500, 1400], ..Layout::default() }, &services) else {
        return;
    };
    transfers_find_the_mtu_upward(&site, &services);
}

/// ICM-5.
#[test]
fn the_gateway_tells_the_backend_the_mtu_of_its_outer_port() {
    let services = services();
    let Some(site) = Site::new(Layout { mtu: [1400, 1500], ..Layout::default() }, &services) else {
        return;
    };
    transfers_find_the_mtu_downward(&site, &services);
}

fn transfers_find_the_mtu(site: &Site, services: &[Service]) {
    transfers_find_the_mtu_upward(site, services);
    transfers_find_the_mtu_downward(site, services);
}

fn transfers_find_the_mtu_upward(site: &Site, services: &[Service]) {
    for vip in services.iter().flat_map(Service::balanced) {
        forget(site);
        let before = too_big(&site.client);
        let sent = site.client.run(|| upload(vip.at(&HTTP), SIZE));
        sent.unwrap_or_else(|error| panic!("{vip:?}: {error}"));
        assert!(too_big(&site.client) > before, "{vip:?}: the client was told nothing");
    }
}

fn transfers_find_the_mtu_downward(site: &Site, services: &[Service]) {
    for vip in services.iter().flat_map(Service::balanced) {
        forget(site);
        let before = too_big(&site.backend);
        let received = site.client.run(|| download(vip.at(&HTTP), SIZE, |_| ()));
        received.unwrap_or_else(|error| panic!("{vip:?}: {error}"));
        assert!(too_big(&site.backend) > before, "{vip:?}: the backend was told nothing");
    }
}

/// What one connection has learned, the next one would not ask.
fn forget(site: &Site) {
    for end in [&site.client, &site.backend] {
        end.ip("route flush cache");
        end.ip("-6 route flush cache");
    }
}

/// "Fragmentation needed" and "packet too big" that a kernel has received.
fn too_big(namespace: &Namespace) -> u64 {
    namespace.counted("IcmpInDestUnreachs") + namespace.counted("Icmp6InPktTooBigs")
}

fn services() -> [Service; 2] {
    [Service::new("shared", 10, Policy::Cluster), Service::new("kept", 20, Policy::Local)]
}

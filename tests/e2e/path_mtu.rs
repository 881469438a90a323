//! Packets larger than a link: fragments, and path MTU discovery through the gateway and by it.

use crate::client::{download, source_for, udp, upload};
use crate::netns::Namespace;
use crate::service::{ECHO, HTTP, Policy, Service};
use crate::site::{Layout, Site};

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

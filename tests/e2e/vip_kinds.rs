//! Every kind of VIP, in both families, masqueraded and not: HTTP, UDP, ping, traceroute.

use std::collections::BTreeSet;

use crate::client::{curl, udp, who};
use crate::service::{ECHO, HTTP, Kind, Policy, Service, Vip};
use crate::site::{BACKENDS, CLIENT, Layout, MASQUERADE, NODE, POD, Ports, Site};

#[test]
fn http_through_every_vip_kind_v4_and_v6() {
    http_through_every_vip_kind(Layout::default());
}

#[test]
fn http_through_every_vip_kind_over_packet_sockets_with_one_worker() {
    http_through_every_vip_kind(Layout { ports: Ports::AfPacket, workers: 1, ..Layout::default() });
}

/// Both backends answer, and see whom the policy says.
fn http_through_every_vip_kind(layout: Layout) {
    let services = services();
    let Some(site) = Site::new(layout, &services) else { return };
    for (service, vip) in vips(&services) {
        for from in [CLIENT, POD] {
            let family = usize::from(vip.ip.is_ipv6());
            let seen = seen_by_backend(service.policy, vip.kind, from[family], family);
            let mut backends = BTreeSet::new();
            // By chance alone one of two backends misses so many connections once in 2^40.
            for _ in 0..40 {
                let reply = curl(&site.client, from[family], vip.at(&HTTP)).expect("an answer");
                assert_eq!(reply.client, seen, "{:?} {vip:?}", service.policy);
                backends.insert(reply.backend);
                if backends.len() == BACKENDS.len() {
                    break;
                }
            }
            assert_eq!(backends.len(), BACKENDS.len(), "{vip:?}");
        }
    }
}

#[test]
fn udp_through_every_vip_kind_v4_and_v6() {
    let services = services();
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    for (service, vip) in vips(&services) {
        let (family, to) = (usize::from(vip.ip.is_ipv6()), vip.at(&ECHO));
        let seen = seen_by_backend(service.policy, vip.kind, CLIENT[family], family);
        // -W: ends with the first answer.
        let line = format!("echo who? | nc -u -w3 -W1 {} {}", to.ip(), to.port());
        let output = site.client.command("timeout").args(["5", "sh", "-c", &line]).output();
        let answer = String::from_utf8(output.expect("it runs").stdout).expect("text");
        assert!(answer.trim().ends_with(&format!(" {seen}")), "{vip:?}: {answer}");
    }
}

/// MSQ-8: those whose source is kept are answered because the backends' way back leads through the gateway.
/// CTK-12: connections to several VIPs from one client port can end at one backend, and must not be mixed there.
#[test]
fn one_client_port_talks_to_all_vips_at_once() {
    let services = services();
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    site.client.run(|| {
        let sockets = CLIENT.map(|source| udp(source, 5353));
        for (_, vip) in vips(&services).iter().chain(&vips(&services)) {
            let reply = who(&sockets[usize::from(vip.ip.is_ipv6())], vip.at(&ECHO));
            reply.unwrap_or_else(|error| panic!("{vip:?}: {error}"));
        }
    });
}

/// ICM-7.
#[test]
fn vips_and_the_node_answer_pings_of_every_size() {
    let services = services();
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    let vips = services[0].vips();
    let vips = vips.iter().filter(|vip| vip.kind != Kind::NodePort).map(|vip| vip.ip.to_string());
    for address in vips.chain(NODE.map(str::to_owned)) {
        let largest = if address.contains(':') { 1452 } else { 1472 };
        for size in [0, 1, 8, 56, 1001, largest] {
            site.client.sh(5, &format!("ping -c2 -i0.05 -W2 -M do -s{size} {address}"));
        }
    }
}

/// ICM-6: hop 1 is the gateway, hop 2 answers in the VIP's name.
#[test]
fn traceroute_shows_the_gateway() {
    let services = services();
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    for vip in services.iter().flat_map(Service::balanced) {
        let (vip, node) = (vip.ip.to_string(), NODE[usize::from(vip.ip.is_ipv6())]);
        traces(&site, "-T -p80", &[node, &vip]);
        traces(&site, "-U -p7", &[node, &vip]);
        // Pings are answered by the gateway itself.
        traces(&site, "-I", &[&vip]);
    }
}

/// ICM-6, ICM-1: what a router behind the gateway says about a backend's packet is told the client about its own.
#[test]
fn traceroute_shows_the_routers_on_both_sides() {
    let services = services();
    let layout = Layout { path_mtu: Some(1500), ..Layout::default() };
    let Some(site) = Site::new(layout, &services) else { return };
    for vip in services.iter().flat_map(Service::balanced) {
        let family = usize::from(vip.ip.is_ipv6());
        let (vip, [first, gateway, second]) = (vip.ip.to_string(), Site::path(family));
        traces(&site, "-T -p80", &[first, gateway, second, &vip]);
        traces(&site, "-U -p7", &[first, gateway, second, &vip]);
        traces(&site, "-I", &[first, &vip]);
    }
}

/// The hops that traceroute shows, the last of which is where it leads.
fn traces(site: &Site, method: &str, expected: &[&str]) {
    let to = expected.last().expect("somewhere");
    // Errors are limited in number, the kernel's too: one probe at a time.
    let line = format!("traceroute -n -q1 -N1 -w2 -m6 {method} {to}");
    let output = site.client.sh(30, &line);
    let hops: Vec<_> =
        output.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(hops, expected, "{line}\n{output}");
}

fn services() -> [Service; 2] {
    [Service::new("shared", 10, Policy::Cluster), Service::new("kept", 20, Policy::Local)]
}

fn vips(services: &[Service; 2]) -> Vec<(&Service, Vip)> {
    let each = services
        .iter()
        .flat_map(|service| service.vips().into_iter().map(move |vip| (service, vip)));
    each.collect()
}

/// Whom a backend sees when `from` asks. Cluster IPs keep pods and hide everybody else; the rest is for the external
/// policy to say.
fn seen_by_backend(policy: Policy, kind: Kind, from: &'static str, family: usize) -> &'static str {
    let pod = POD.contains(&from);
    let keep = if kind == Kind::ClusterIp { pod } else { policy == Policy::Local };
    if keep { from } else { MASQUERADE[family] }
}

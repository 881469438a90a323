//! Clients' addresses are kept, and the way back is the operator's to provide: through the gateway it works, past it
//! nothing does, and the gateway says so.

use std::time::Duration;

use crate::client::{curl, source_for};
use crate::service::{Endpoint, HTTP, Policy, Service, Vip};
use crate::site::{BACKENDS, CLIENT, Layout, Site, until};

/// One Service for each backend.
fn services() -> [Service; 2] {
    use Endpoint::{Absent, Ready};
    [
        Service::new("here", 10, Policy::Local).with([Ready, Absent]),
        Service::new("elsewhere", 20, Policy::Local).with([Absent, Ready]),
    ]
}

/// MSQ-8.
#[test]
fn backends_whose_way_back_leads_through_the_gateway_see_their_clients() {
    let services = services();
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    for vip in services.iter().flat_map(Service::balanced) {
        answered(&site, &vip);
    }
    for service in ["here", "elsewhere"] {
        assert_eq!(counted(&site, "connections", service), 2, "{service}: one by each family");
        assert_eq!(counted(&site, "one_way_connections", service), 0, "{service}");
    }
    assert!(!site.status("table").1.contains("no answer"), "{}", site.status("table").1);
}

/// MSQ-8.
#[test]
fn a_backend_whose_way_back_leads_nowhere_is_told_of() {
    told_of("blackhole", |_| {});
}

/// MSQ-8.
#[test]
fn a_backend_whose_way_back_leads_past_the_gateway_is_told_of() {
    told_of("lookup 100", |site| {
        let client = site.client.name();
        site.backend.ip(&format!("link add side type veth peer name side netns {client}"));
        for (end, addresses) in [
            (&site.backend, ["172.30.9.1/24", "fd00:9::1/64"]),
            (&site.client, ["172.30.9.2/24", "fd00:9::2/64"]),
        ] {
            for address in addresses {
                end.ip(&format!("addr add {address} dev side nodad"));
            }
            end.ip("link set side up");
        }
        for via in ["172.30.9.2", "fd00:9::2"] {
            site.backend.ip(&format!("route add default via {via} dev side table 100"));
        }
    });
}

/// The second backend's packets to clients take another way, by a rule that ends in `action`.
fn told_of(action: &str, prepare: impl FnOnce(&Site)) {
    let services = services();
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    prepare(&site);
    let [here, elsewhere] = &services;
    let rule = |verb: &str| {
        for (own, network) in BACKENDS[1].addresses.iter().zip(["192.0.2.0/24", "2001:db8:1::/64"])
        {
            let family = if own.contains(':') { "-6" } else { "-4" };
            let rule = format!("{family} rule {verb} from {own} to {network} priority 90 {action}");
            site.backend.ip(&rule);
        }
    };
    rule("add");
    let mut lost = 0;
    for vip in elsewhere.balanced() {
        unanswered(&site, &vip);
        lost += 1;
        until(Duration::from_secs(10), "the connection is counted", || {
            counted(&site, "one_way_connections", "elsewhere") >= lost
        });
    }
    // The other Service is none the worse for it.
    here.balanced().iter().for_each(|vip| answered(&site, vip));
    assert_eq!(counted(&site, "one_way_connections", "here"), 0);

    until(Duration::from_secs(10), "the Service's problem is told", || {
        let text = site.status("table").1;
        text.contains("Service default/elsewhere: ") && text.contains("get no answer")
    });
    let text = site.status("table").1;
    assert!(!text.contains("Service default/here: "), "{text}");
    let line = text.lines().find(|line| line.starts_with("default/elsewhere:http"));
    let columns: Vec<&str> = line.expect("it is listed").split_whitespace().collect();
    assert_eq!(columns[1], "2", "backends, one of each family: {text}");
    assert!(columns[4].parse::<u64>().expect("a number") >= lost, "one-way connections: {text}");

    // With the way back in order everything is.
    rule("del");
    let before = counted(&site, "one_way_connections", "elsewhere");
    elsewhere.balanced().iter().for_each(|vip| answered(&site, vip));
    assert_eq!(counted(&site, "one_way_connections", "elsewhere"), before);
}

/// A client gets an answer from a backend that sees its address.
#[track_caller]
fn answered(site: &Site, vip: &Vip) {
    let reply = curl(&site.client, source_for(vip.ip), vip.at(&HTTP)).expect("an answer");
    assert_eq!(reply.client, CLIENT[usize::from(vip.ip.is_ipv6())], "{vip:?}");
}

/// A client gives up, after its SYN was sent for the third time.
#[track_caller]
fn unanswered(site: &Site, vip: &Vip) {
    let line = format!("curl -gsS --connect-timeout 6 -m 8 http://{}/", vip.at(&HTTP));
    let output = site.client.output(10, &line);
    assert_eq!(output.status.code(), Some(28), "curl's time is up: {output:?}");
}

/// A counter of a Service, over all its ports.
fn counted(site: &Site, what: &str, service: &str) -> u64 {
    let label = format!("namespace=\"default\",service=\"{service}\"");
    site.metrics().sum_of(&format!("service_{what}_total"), &label)
}

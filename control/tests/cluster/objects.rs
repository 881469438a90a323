//! Node and ServiceCIDR objects, live: what workers decide with follows them.

use std::net::IpAddr;
use std::time::Duration;

use control::control::{Handle, Update};
use control::object::node::Leaving;
use control::object::{self, Kind, Object, ObjectKey};
use control::source::manifests::Manifests;
use control::source::{Change, Event};
use dataplane::ranges::{Addresses, Networks};
use dataplane::tables::Node;
use tokio::time;

use crate::support::{rows, settings, start};

const CONFIG: &str = "{nodeName: n1, serviceCIDRs: [10.96.0.0/16]}";

const HINTED: &str = "
{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: 10.96.0.1, type: LoadBalancer, ports: [{name: http, port: 80}],
  loadBalancerSourceRanges: [192.0.2.0/24]}, status: {loadBalancer: {ingress: [{ip: 203.0.113.9}]}}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a-x, labels: {kubernetes.io/service-name: a}},
  addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [
    {addresses: [10.0.0.1], hints: {forZones: [{name: z1}]}}, {addresses: [10.0.0.2], hints: {forZones: [{name: z2}]}}]}
";

fn node(zone: &str, address: &str) -> Object {
    let yaml = format!(
        "{{metadata: {{name: n1, labels: {{topology.kubernetes.io/zone: {zone}}}}}, status: {{addresses: [{{type: InternalIP, address: {address}}}]}}}}"
    );
    let node = serde_saphyr::from_str(&yaml).expect("readable");
    Object::Node(object::Node::parse(&node).expect("named").object)
}

fn ranges(name: &str, ranges: &str) -> Object {
    let yaml = format!("{{metadata: {{name: {name}}}, spec: {{cidrs: [{ranges}]}}}}");
    let object = serde_saphyr::from_str(&yaml).expect("readable");
    Object::ServiceCidr(object::ServiceCidr::parse(&object).expect("named").object)
}

async fn apply(handle: &Handle, object: Object) {
    let event = Event::Apply(Change::of(object));
    handle.send(Update::Object(event)).await.expect("runs");
}

async fn delete(handle: &Handle, kind: Kind, name: &str) {
    let key = ObjectKey::named(kind, None, name);
    handle.send(Update::Object(Event::Delete(key))).await.expect("runs");
}

/// A gateway whose host has one address besides, with two hinted endpoints.
async fn gateway(test: impl AsyncFnOnce(Handle)) {
    let settings = settings(CONFIG);
    let events = Manifests::new("unused", &settings).load_text("a.yaml", HINTED);
    let (handle, tasks) = start(settings);
    let test = async {
        let host = Node { addresses: ips(&["198.51.100.1"]), ..Node::default() };
        handle.send(Update::Host(host)).await.expect("runs");
        handle.send(Update::Objects(events)).await.expect("runs");
        handle.wait_for(|status| status.synced && status.generation > 1).await.expect("runs");
        test(handle.clone()).await;
    };
    tasks.run_until(time::timeout(Duration::from_secs(30), test)).await.expect("in time");
}

fn ips(list: &[&str]) -> Addresses {
    list.iter().map(|ip| ip.parse::<IpAddr>().expect("valid")).collect()
}

/// What workers decide with, once they do.
async fn held<T: Send + 'static>(handle: &Handle, of: fn(&Node, Vec<String>) -> T) -> T {
    handle.inspect(|_| ()).await.expect("runs");
    handle.wait_for(|status| status.acknowledged == status.generation).await.expect("runs");
    let node = move |view: &control::control::View<'_>| {
        of(&view.publisher.tables().node, rows(view.assembly))
    };
    handle.inspect(node).await.expect("runs")
}

async fn endpoints(handle: &Handle) -> String {
    let row = held(handle, |_, rows| rows.concat()).await;
    row.split(" -> ").nth(1).expect("one row").to_owned()
}

#[tokio::test]
async fn top_9_a_new_zone_counts_at_once() {
    gateway(async |handle| {
        assert_eq!(endpoints(&handle).await, "10.0.0.1:8080 10.0.0.2:8080");
        for (zone, expected) in [("z1", "10.0.0.1:8080"), ("z2", "10.0.0.2:8080")] {
            apply(&handle, node(zone, "192.0.2.1")).await;
            assert_eq!(endpoints(&handle).await, expected);
            let facts = handle.status().node.expect("it has a name");
            assert_eq!((facts.zone.as_deref(), facts.found), (Some(zone), true));
        }
        // The same again, but for what changes no row.
        let before = handle.status().generation;
        apply(&handle, node("z2", "192.0.2.1")).await;
        assert_eq!(endpoints(&handle).await, "10.0.0.2:8080");
        assert_eq!(handle.status().generation, before);
        delete(&handle, Kind::Node, "n1").await;
        assert_eq!(endpoints(&handle).await, "10.0.0.1:8080 10.0.0.2:8080");
        assert!(!handle.status().node.expect("it has a name").found);
    })
    .await;
}

#[tokio::test]
async fn npt_8_new_addresses_of_the_node_count_at_once() {
    gateway(async |handle| {
        let serving = |node: &Node, _| node.node_port_addresses.clone();
        // Without a known primary address all of the host's serve.
        assert_eq!(held(&handle, serving).await, ips(&["198.51.100.1"]));
        apply(&handle, node("z1", "192.0.2.1")).await;
        assert_eq!(held(&handle, serving).await, ips(&["192.0.2.1"]));
        apply(&handle, node("z1", "192.0.2.2")).await;
        assert_eq!(held(&handle, serving).await, ips(&["192.0.2.2"]));
        let all = held(&handle, |node, _| node.addresses.clone()).await;
        assert_eq!(all, ips(&["192.0.2.2", "198.51.100.1"]));
        // LSR-5: the source ranges hold the node's primary address.
        let sources = |view: &control::control::View<'_>| {
            let rows: Vec<_> = view.assembly.writer().all_rows().collect();
            rows[0].frontends.iter().map(|frontend| frontend.allowed_sources.len()).max()
        };
        assert_eq!(handle.inspect(sources).await, Ok(Some(2)));
    })
    .await;
}

#[tokio::test]
async fn rej_10_ranges_come_and_go_live() {
    gateway(async |handle| {
        let dropped = |node: &Node, _| node.service_cidrs.clone();
        let nets = |text: &str| -> Networks {
            text.split(' ').map(|net| net.parse().expect("valid")).collect()
        };
        assert_eq!(held(&handle, dropped).await, nets("10.96.0.0/16"));
        apply(&handle, ranges("extra", "10.97.0.0/24")).await;
        assert_eq!(held(&handle, dropped).await, nets("10.96.0.0/16 10.97.0.0/24"));
        apply(&handle, ranges("kubernetes", "10.96.0.0/16, 'fd00::/112'")).await;
        assert_eq!(held(&handle, dropped).await, nets("10.96.0.0/16 10.97.0.0/24 fd00::/112"));
        assert_eq!(handle.status().service_cidrs.len(), 3);
        delete(&handle, Kind::ServiceCidr, "extra").await;
        assert_eq!(held(&handle, dropped).await, nets("10.96.0.0/16 fd00::/112"));
        // A complete list says who is gone as well.
        let none =
            Event::Reset { kind: Kind::ServiceCidr, objects: Vec::new(), unreadable: Vec::new() };
        handle.send(Update::Object(none)).await.expect("runs");
        assert_eq!(held(&handle, dropped).await, nets("10.96.0.0/16"));
    })
    .await;
}

#[tokio::test]
async fn hck_12_a_node_that_leaves_is_known() {
    gateway(async |handle| {
        let Object::Node(mut node) = node("z1", "192.0.2.1") else { unreachable!("it is one") };
        for leaving in [None, Some(Leaving::Autoscaler), Some(Leaving::Deleted), None] {
            node.leaving = leaving;
            apply(&handle, Object::Node(node.clone())).await;
            let status = handle.wait_for(|status| {
                status.node.as_ref().is_some_and(|node| node.found && node.leaving == leaving)
            });
            status.await.expect("runs");
        }
    })
    .await;
}

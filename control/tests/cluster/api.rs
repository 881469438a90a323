//! Against an API server: what is watched, what is done without, and what is asked for rights.

use std::time::Duration;

use control::control::Handle;
use tokio::net::TcpListener;
use tokio::time;

use crate::support::fake_api::FakeApi;
use crate::support::rows;
use crate::{HINTED, gateway, until};

fn node(name: &str, zone: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: {zone}}}}},
           status: {{addresses: [{{type: InternalIP, address: 192.0.2.1}}]}}}}"
    )
}

fn ranges(name: &str, range: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {{name: {name}}}, spec: {{cidrs: [{range}]}}}}"
    )
}

async fn endpoints(handle: &Handle) -> String {
    let rows = handle.inspect(|view| rows(view.assembly)).await.expect("runs");
    rows.concat().split(" -> ").nth(1).unwrap_or_default().to_owned()
}

async fn service_cidrs(handle: &Handle) -> String {
    let ranges = handle.inspect(|view| view.assembly.settings().service_cidrs.clone()).await;
    let ranges: Vec<String> = ranges.expect("runs").iter().map(ToString::to_string).collect();
    ranges.join(" ")
}

/// Resources with verbs, but for reviews.
fn asked(api: &FakeApi) -> Vec<String> {
    let requests = api.recorded().into_iter().filter(|request| request.method == "GET");
    let mut asked: Vec<String> = requests
        .map(|request| request.path.rsplit('/').next().unwrap_or_default().to_owned())
        .collect();
    asked.sort();
    asked.dedup();
    asked
}

/// Verb, API group and resource of the rights that no gateway can do without.
const FOR_SERVICES: [(&str, &str, &str); 4] = [
    ("list", "", "services"),
    ("watch", "", "services"),
    ("list", "discovery.k8s.io", "endpointslices"),
    ("watch", "discovery.k8s.io", "endpointslices"),
];

#[tokio::test]
async fn top_9_the_own_node_is_watched_and_no_other() {
    let (api, url) = FakeApi::start().await;
    api.apply(HINTED);
    api.apply(&node("n1", "z1"));
    api.apply(&node("n2", "z2"));
    gateway(&url, "{nodeName: n1}", async |handle, _| {
        let status = handle.wait_for(|status| status.synced).await.expect("runs");
        // Services waited for the node.
        assert_eq!(endpoints(&handle).await, "10.0.0.1:8080");
        assert_eq!(status.generation, 2);
        api.apply(&node("n1", "z2"));
        until(async || endpoints(&handle).await == "10.0.0.2:8080").await;
        api.delete("Node", "n1");
        until(async || endpoints(&handle).await == "10.0.0.1:8080 10.0.0.2:8080").await;
        assert_eq!(handle.status().node.map(|node| node.found), Some(false));
        api.apply(&node("n1", "z1"));
        until(async || endpoints(&handle).await == "10.0.0.1:8080").await;
        assert_eq!(api.requests("nodes?"), api.requests("fieldSelector=metadata.name%3Dn1"));
    })
    .await;
}

#[tokio::test]
async fn a_gateway_without_a_node_name_asks_for_no_node() {
    let (api, url) = FakeApi::start().await;
    gateway(&url, "{}", async |handle, _| {
        handle.wait_for(|status| status.synced).await.expect("runs");
        assert_eq!(asked(&api), ["endpointslices", "servicecidrs", "services"]);
        assert_eq!(handle.status().node, None);
    })
    .await;
}

#[tokio::test]
async fn rej_10_ranges_are_followed_and_missed_by_nobody() {
    let (api, url) = FakeApi::start().await;
    api.apply(&ranges("kubernetes", "10.96.0.0/16"));
    gateway(&url, "{}", async |handle, _| {
        handle.wait_for(|status| status.synced).await.expect("runs");
        assert_eq!(service_cidrs(&handle).await, "10.96.0.0/16");
        api.apply(&ranges("extra", "10.97.0.0/24"));
        until(async || service_cidrs(&handle).await == "10.97.0.0/24 10.96.0.0/16").await;
        // One that is being deleted counts until it is gone.
        let deleting = "extra, finalizers: [a/b], deletionTimestamp: '2026-01-01T00:00:00Z'";
        api.apply(&ranges(deleting, "10.97.0.0/24"));
        api.apply(&ranges("third", "10.98.0.0/24"));
        until(async || service_cidrs(&handle).await.ends_with("10.98.0.0/24")).await;
        assert!(service_cidrs(&handle).await.contains("10.97.0.0/24"));
        api.delete("ServiceCIDR", "extra");
        until(async || !service_cidrs(&handle).await.contains("10.97.0.0/24")).await;
    })
    .await;

    // A cluster of before there were any.
    let (api, url) = FakeApi::start().await;
    api.apply(HINTED);
    api.faults(|faults| faults.unknown = Some("servicecidrs"));
    gateway(&url, "{serviceCIDRs: [10.96.0.0/16]}", async |handle, _| {
        handle.wait_for(|status| status.sizes.rows == 1).await.expect("runs");
        assert_eq!(service_cidrs(&handle).await, "10.96.0.0/16");
        let status = handle.wait_for(|status| status.source != control::source::Link::Connecting);
        assert_eq!(status.await.expect("runs").source, control::source::Link::Connected);
        time::sleep(Duration::from_secs(1)).await;
        assert_eq!(api.requests("servicecidrs?"), 1, "not asked for again and again");
    })
    .await;
}

#[tokio::test]
async fn what_may_not_be_read_is_done_without_and_not_asked_for() {
    let (api, url) = FakeApi::start().await;
    api.apply(HINTED);
    api.apply(&node("n1", "z1"));
    // Both verbs or neither.
    let halves = [("list", "", "nodes"), ("patch", "events.k8s.io", "events")];
    api.allow_only(&[&FOR_SERVICES[..], &halves].concat());
    gateway(&url, "{nodeName: n1}", async |handle, counters| {
        handle.wait_for(|status| status.sizes.rows == 1).await.expect("runs");
        assert_eq!(endpoints(&handle).await, "10.0.0.1:8080 10.0.0.2:8080");
        // Something to tell: a cluster IP that two Services have.
        api.apply(&HINTED.replace("name: a", "name: b"));
        handle.wait_for(|status| status.problem_count == 1).await.expect("runs");
        time::sleep(Duration::from_secs(2)).await;
        assert_eq!(asked(&api), ["endpointslices", "services"]);
        assert_eq!(counters.sent() + counters.dropped().map(|(_, n)| n).sum::<u64>(), 0);
        // Two verbs of five resources.
        assert_eq!(api.requests("selfsubjectaccessreviews"), 10);
    })
    .await;
}

#[tokio::test]
async fn services_are_asked_for_even_if_they_may_not_be() {
    let (api, url) = FakeApi::start().await;
    api.apply(HINTED);
    api.allow_only(&[]);
    gateway(&url, "{}", async |handle, _| {
        until(async || api.requests("services?") > 1).await;
        assert!(!handle.status().synced);
        // The right is granted later.
        api.allow_only(&FOR_SERVICES);
        handle.wait_for(|status| status.sizes.rows == 1).await.expect("runs");
    })
    .await;
}

#[tokio::test]
async fn an_api_server_that_says_nothing_of_rights_is_used() {
    let (api, url) = FakeApi::start().await;
    api.apply(HINTED);
    api.apply(&node("n1", "z2"));
    api.faults(|faults| faults.unknown = Some("selfsubjectaccessreviews"));
    gateway(&url, "{nodeName: n1}", async |handle, _| {
        handle.wait_for(|status| status.sizes.rows == 1).await.expect("runs");
        assert_eq!(endpoints(&handle).await, "10.0.0.2:8080");
        assert_eq!(api.requests("selfsubjectaccessreviews"), 1);
    })
    .await;
}

#[tokio::test]
async fn nobody_waits_long_for_what_is_not_needed() {
    let (api, url) = FakeApi::start().await;
    api.apply(HINTED);
    api.apply(&node("n1", "z1"));
    api.faults(|faults| faults.hold_lists = Some("nodes"));
    gateway(&url, "{nodeName: n1}", async |handle, _| {
        handle.wait_for(|status| status.sizes.rows == 1).await.expect("runs");
        assert_eq!(endpoints(&handle).await, "10.0.0.1:8080 10.0.0.2:8080");
        api.faults(|faults| faults.hold_lists = None);
        until(async || endpoints(&handle).await == "10.0.0.1:8080").await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_starts_later_is_found_with_all_it_has() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    gateway(&format!("http://{address}"), "{nodeName: n1}", async |handle, _| {
        time::sleep(Duration::from_millis(300)).await;
        let (api, _) = FakeApi::serve(TcpListener::bind(address).await.expect("still free"));
        api.apply(HINTED);
        api.apply(&node("n1", "z1"));
        until(async || endpoints(&handle).await == "10.0.0.1:8080").await;
    })
    .await;
}

//! The Kubernetes source against an API server that fails in every way we know of.
//!
//! [`real`] alone can run against a cluster; its head says how.

#![allow(unreachable_pub, missing_debug_implementations, reason = "a test crate has no users")]

mod faults;
mod real;
mod storm;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use control::control::Status;
use control::source::Link;
use control::source::kubernetes::Scope;
use support::fake_api::FakeApi;
use support::follow::{all_rows, following, following_all, until};
use tokio::net::TcpListener;
use tokio::time;

/// A Service `name` with one endpoint; `n` tells addresses apart.
fn service(name: &str, n: u8) -> String {
    format!(
        "{{kind: Service, apiVersion: v1, metadata: {{name: {name}}}, spec: {{clusterIP: 10.96.0.{n}, ports: [{{name: http, port: 80}}]}}}}"
    )
}

fn slice(name: &str, n: u8) -> String {
    format!(
        "{{kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, metadata: {{name: {name}-x, labels: {{kubernetes.io/service-name: {name}}}}},
           addressType: IPv4, endpoints: [{{addresses: [10.0.0.{n}]}}], ports: [{{name: http, port: 8080}}]}}"
    )
}

fn row(name: &str, n: u8) -> String {
    format!("demo/{name}:http/tcp 10.96.0.{n}:80 -> 10.0.0.{n}:8080")
}

fn connected(status: &Status) -> bool {
    status.source == Link::Connected
}

#[tokio::test]
async fn exc_6_headless_services_are_asked_for_when_dns_needs_them() {
    for (scope, selected) in [(Scope::Addressed, 2), (Scope::All, 0)] {
        let (api, url) = FakeApi::start().await;
        following_all(&url, scope, async |handle| {
            handle.wait_for(connected).await.expect("runs");
            while api.requests("watch=") < 2 {
                time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        // Of each kind a list and a watch.
        assert_eq!(api.requests("services?") + api.requests("endpointslices?"), 4, "{scope:?}");
        assert_eq!(api.requests("fieldSelector="), selected, "{scope:?}");
        assert_eq!(api.requests("labelSelector="), selected, "{scope:?}");
    }
}

#[tokio::test]
async fn syn_1_nothing_is_published_before_every_kind_was_listed() {
    let (api, url) = FakeApi::start().await;
    api.apply(&service("a", 1));
    api.apply(&slice("a", 1));
    api.faults(|faults| faults.hold_lists = Some("endpointslices"));
    following(&url, async |handle| {
        handle.wait_for(|status| status.last_event.is_some()).await.expect("runs");
        time::sleep(Duration::from_millis(100)).await;
        let status = handle.status();
        assert_eq!((status.synced, status.generation, status.sizes.rows), (false, 1, 0));
        api.faults(|faults| faults.hold_lists = None);
        let status = handle.wait_for(|status| status.synced).await.expect("runs");
        assert_eq!(
            (status.generation, status.sizes.endpoints),
            (2, 1),
            "never a Service without its endpoints"
        );
    })
    .await;
}

#[tokio::test]
async fn changes_arrive_and_bookmarks_are_no_objects() {
    let (api, url) = FakeApi::start().await;
    api.apply(&service("a", 1));
    following(&url, async |handle| {
        handle.wait_for(connected).await.expect("runs");
        api.apply(&slice("a", 1));
        until(&handle, &[row("a", 1)]).await;
        api.bookmark();
        api.apply(&service("b", 2));
        api.apply(&slice("b", 2));
        until(&handle, &[row("a", 1), row("b", 2)]).await;
        // Null arrays are what the API server writes for empty ones.
        api.apply("{kind: EndpointSlice, metadata: {name: b-x, labels: {kubernetes.io/service-name: b}}, addressType: IPv4, endpoints: null, ports: null}");
        until(&handle, &[row("a", 1), "demo/b:http/tcp 10.96.0.2:80 -> nobody".into()]).await;
        api.delete("Service", "b");
        until(&handle, &[row("a", 1)]).await;
        assert_eq!((api.requests("limit="), api.requests("watch=true")), (2, 2));
    })
    .await;
}

/// A kind of which nothing changes for hours must not fall behind what the server remembers.
#[tokio::test]
async fn a_bookmark_moves_the_place_to_resume_from() {
    let (api, url) = FakeApi::start().await;
    api.apply(&service("a", 1));
    following(&url, async |handle| {
        handle.wait_for(connected).await.expect("runs");
        let version = api.bookmark();
        // The watch ends when it has said everything: its minute is over.
        api.set_clock(Duration::from_secs(70));
        while api.requests(&format!("resourceVersion={version}")) == 0 {
            time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(api.requests("limit="), 2, "of each kind the first list");
    })
    .await;
}

#[tokio::test]
async fn an_object_that_cannot_be_read_stays_as_it_was() {
    let (api, url) = FakeApi::start().await;
    api.apply(&service("a", 1));
    api.apply(&slice("a", 1));
    let broken =
        "{kind: Service, metadata: {name: NAME}, spec: {clusterIP: 10.96.0.9, ports: http}}";
    api.apply(&broken.replace("NAME", "c"));
    following(&url, async |handle| {
        let status = handle.wait_for(|status| status.sizes.rows == 1).await.expect("runs");
        assert_eq!(status.problem_count, 1, "the list is used without what can't be read");
        api.apply(&broken.replace("NAME", "a"));
        let status = handle.wait_for(|status| status.problem_count == 2).await.expect("runs");
        assert!(
            status.problems[0].to_string().starts_with("Service demo/a: "),
            "{:?}",
            status.problems
        );
        assert_eq!(all_rows(&handle).await, [row("a", 1)]);
        // In a new list too.
        api.compact();
        api.cut();
        api.apply(&service("b", 2));
        handle.wait_for(|status| status.sizes.rows == 2).await.expect("runs");
        api.apply(&service("a", 3));
        api.apply(&slice("a", 3));
        api.delete("Service", "b");
        until(&handle, &[row("a", 3)]).await;
        handle.wait_for(|status| status.problem_count == 1).await.expect("runs");
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_ends_is_resumed_without_a_list() {
    let (api, url) = FakeApi::start().await;
    api.apply(&service("a", 1));
    following(&url, async |handle| {
        handle.wait_for(connected).await.expect("runs");
        for n in 1..4 {
            api.cut();
            api.apply(&slice("a", 1).replace("10.0.0.1", &format!("10.0.0.{n}")));
            until(&handle, &[row("a", 1).replace("10.0.0.1", &format!("10.0.0.{n}"))]).await;
        }
        assert_eq!(api.requests("limit="), 2);
        assert!(connected(&handle.status()), "the end of a watch is no outage");
    })
    .await;
}

/// The watch expires while one of three Services goes, and later pages of the lists fail for a while.
async fn relist_that_breaks_with(code: u16) {
    let (api, url) = FakeApi::start().await;
    api.faults(|faults| faults.page = Some(1));
    for n in 1..4 {
        api.apply(&service(&format!("s{n}"), n));
        api.apply(&slice(&format!("s{n}"), n));
    }
    following(&url, async |handle| {
        let all = [row("s1", 1), row("s2", 2), row("s3", 3)];
        until(&handle, &all).await;
        let before = api.requests("continue=");
        api.faults(|faults| faults.later_pages = Some(code));
        api.cut();
        // What is deleted now gets no event of its own.
        api.delete("Service", "s1");
        api.compact();
        while api.requests("continue=") < before + 4 {
            assert_eq!(all_rows(&handle).await, all, "the former table stays");
            time::sleep(Duration::from_millis(2)).await;
        }
        api.faults(|faults| faults.later_pages = None);
        until(&handle, &all[1..]).await;
        handle.wait_for(connected).await.expect("runs");
    })
    .await;
}

/// SYN-5.
#[tokio::test]
async fn i12_a_relist_cut_off_by_an_error_leaves_no_trace() {
    relist_that_breaks_with(500).await;
}

#[tokio::test]
async fn i12_a_relist_cut_off_by_an_expired_token_leaves_no_trace() {
    relist_that_breaks_with(410).await;
}

#[tokio::test]
async fn syn_6_an_outage_changes_nothing_but_the_status() {
    let (api, url) = FakeApi::start().await;
    api.apply(&service("a", 1));
    api.apply(&slice("a", 1));
    following(&url, async |handle| {
        until(&handle, &[row("a", 1)]).await;
        handle.wait_for(connected).await.expect("runs");
        api.faults(|faults| faults.refuse = Some(503));
        let stale = handle.wait_for(|status| !connected(status)).await.expect("runs");
        let Link::Stale { error, .. } = &stale.source else { panic!("{:?}", stale.source) };
        assert!(error.contains("503"), "{error}");
        assert_eq!(all_rows(&handle).await, [row("a", 1)]);
        // Back again: connected although no object has changed.
        api.faults(|faults| faults.refuse = None);
        handle.wait_for(connected).await.expect("runs");
        assert_eq!(handle.status().generation, stale.generation);
        assert_eq!(api.requests("limit="), 2, "resumed, not listed");
        api.apply(&slice("a", 1).replace("10.0.0.1", "10.0.0.7"));
        until(&handle, &[row("a", 1).replace("10.0.0.1", "10.0.0.7")]).await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_starts_later_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    following(&format!("http://{address}"), async |handle| {
        time::sleep(Duration::from_millis(300)).await;
        assert_eq!(handle.status().source, Link::Connecting);
        let (api, _) = FakeApi::serve(TcpListener::bind(address).await.expect("still free"));
        api.apply(&service("a", 1));
        handle.wait_for(connected).await.expect("runs");
        handle.wait_for(|status| status.sizes.rows == 1).await.expect("runs");
    })
    .await;
}

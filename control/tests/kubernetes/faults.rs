//! Refusals, broken streams, silence, and servers that die: what was known stays, and the rest comes when it can.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use control::control::{Handle, Status};
use control::source::Link;
use futures::future::join_all;
use tokio::time;

use super::support::fake_api::{BadWatch, Cut, FakeApi};
use super::support::follow::{all_rows, following, until};
use super::{connected, row, service, slice};

/// Longer than a watch may be silent.
const SILENCE: Duration = Duration::from_secs(66);

/// A server with a Service and its slice, and a gateway that follows it.
async fn with_a(test: impl AsyncFnOnce(FakeApi, Handle)) {
    let (api, url) = FakeApi::start().await;
    api.apply(&service("a", 1));
    api.apply(&slice("a", 1));
    following(&url, async |handle| {
        until(&handle, &[row("a", 1)]).await;
        handle.wait_for(connected).await.expect("runs");
        test(api, handle).await;
    })
    .await;
}

/// Lists so far, of Services and of slices.
fn lists(api: &FakeApi) -> (usize, usize) {
    let of = |path: &str| {
        let is_list = |query: &str| query.contains("limit=") && !query.contains("continue=");
        let recorded = api.recorded();
        recorded.iter().filter(|one| one.path.ends_with(path) && is_list(&one.query)).count()
    };
    (of("/services"), of("/endpointslices"))
}

/// Watches of Services so far.
fn watches(api: &FakeApi) -> usize {
    let recorded = api.recorded();
    let is_watch = |query: &str| query.contains("watch=true");
    recorded.iter().filter(|one| one.path.ends_with("/services") && is_watch(&one.query)).count()
}

async fn until_watches(api: &FakeApi, count: usize) {
    while watches(api) < count {
        time::sleep(Duration::from_millis(2)).await;
    }
}

/// The error of a source that has lost its server.
async fn stale(handle: &Handle) -> String {
    let is_stale = |status: &Status| matches!(status.source, Link::Stale { .. });
    let status = handle.wait_for(is_stale).await.expect("runs");
    let Link::Stale { error, .. } = status.source else { unreachable!("{:?}", status.source) };
    error
}

/// SYN-5, SYN-6
#[tokio::test]
async fn syn_6_refusals_of_every_kind_leave_the_tables_and_are_forgotten() {
    let refused = |code: u16| {
        with_a(async move |api, handle| {
            api.faults(|faults| faults.refuse = Some(code));
            let error = stale(&handle).await;
            assert!(error.contains(&code.to_string()), "{code}: {error}");
            assert_eq!(all_rows(&handle).await, [row("a", 1)], "{code}");
            api.faults(|faults| faults.refuse = None);
            handle.wait_for(connected).await.expect("runs");
            assert_eq!(lists(&api), (1, 1), "{code}: resumed, not listed");
            api.apply(&slice("a", 1).replace("10.0.0.1", "10.0.0.7"));
            until(&handle, &[row("a", 1).replace("10.0.0.1", "10.0.0.7")]).await;
        })
    };
    join_all([401, 403, 429, 500, 503, 504].map(refused)).await;
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let (api, url) = FakeApi::start().await;
    api.apply(&service("a", 1));
    api.allow_only(&[
        ("list", "", "services"),
        ("watch", "", "services"),
        ("list", "discovery.k8s.io", "endpointslices"),
    ]);
    following(&url, async |handle| {
        let error = stale(&handle).await;
        for part in ["403", "cannot watch resource \"endpointslices\"", "\"discovery.k8s.io\""] {
            assert!(error.contains(part), "{error}");
        }
    })
    .await;
}

/// SYN-6: the version is too old; the answer to the watch says so, not an event in it.
#[tokio::test]
async fn syn_6_a_watch_refused_with_410_leads_to_a_list() {
    with_a(async |api, handle| {
        api.apply(&service("b", 2));
        until(&handle, &[row("a", 1), "demo/b:http/tcp 10.96.0.2:80 -> nobody".into()]).await;
        api.faults(|faults| faults.refuse_watches = Some(410));
        api.cut();
        // Without an event that anybody could hear.
        api.delete("Service", "a");
        until(&handle, &["demo/b:http/tcp 10.96.0.2:80 -> nobody".into()]).await;
        api.faults(|faults| faults.refuse_watches = None);
        api.apply(&slice("b", 2));
        until(&handle, &[row("b", 2)]).await;
        handle.wait_for(connected).await.expect("runs");
    })
    .await;
}

/// SYN-4, SYN-6: nothing is left, and that is what the list says.
#[tokio::test]
async fn syn_6_a_new_list_may_be_empty() {
    with_a(async |api, handle| {
        api.cut();
        api.delete("Service", "a");
        api.delete("EndpointSlice", "a-x");
        api.compact();
        until(&handle, &[]).await;
        let status = handle.wait_for(|status| status.sizes.endpoints == 0).await.expect("runs");
        assert!(status.synced, "an empty cluster is known, not unknown");
        api.apply(&service("a", 1));
        api.apply(&slice("a", 1));
        until(&handle, &[row("a", 1)]).await;
    })
    .await;
}

#[tokio::test]
async fn syn_6_half_an_event_is_none() {
    with_a(async |api, handle| {
        let before = watches(&api);
        api.faults(|faults| faults.watches = Some(BadWatch::Torn));
        api.apply(&service("b", 2));
        // Each new watch gets half of the same event.
        until_watches(&api, before + 3).await;
        assert_eq!(all_rows(&handle).await, [row("a", 1)]);
        api.faults(|faults| faults.watches = None);
        until(&handle, &[row("a", 1), "demo/b:http/tcp 10.96.0.2:80 -> nobody".into()]).await;
        assert_eq!(lists(&api), (1, 1), "the event was still to be had");
    })
    .await;
}

#[tokio::test]
async fn syn_6_a_connection_that_breaks_is_resumed() {
    with_a(async |api, handle| {
        for n in 2..5 {
            api.cut_by(Cut::Reset);
            api.apply(&slice("a", 1).replace("10.0.0.1", &format!("10.0.0.{n}")));
            until(&handle, &[row("a", 1).replace("10.0.0.1", &format!("10.0.0.{n}"))]).await;
        }
        assert_eq!(lists(&api), (1, 1));
    })
    .await;
}

/// SYN-6: an ERROR event of another kind than 410 tells nothing about the version; what can't be read may have been news.
#[tokio::test]
async fn syn_6_errors_within_a_watch() {
    for (fault, lists_anew) in [(BadWatch::Error(500), false), (BadWatch::Garbage, true)] {
        with_a(async |api, handle| {
            let before = watches(&api);
            api.faults(|faults| faults.watches = Some(fault));
            api.cut();
            api.apply(&service("b", 2));
            until_watches(&api, before + 3).await;
            api.faults(|faults| faults.watches = None);
            until(&handle, &[row("a", 1), "demo/b:http/tcp 10.96.0.2:80 -> nobody".into()]).await;
            handle.wait_for(connected).await.expect("runs");
            assert_eq!(lists(&api).0 > 1, lists_anew, "{fault:?}");
        })
        .await;
    }
}

/// SYN-6: the connection stands and nothing comes: a link that died without a word, or a server that hangs.
#[tokio::test]
async fn syn_6_a_watch_that_says_nothing_is_given_up() {
    with_a(async |api, handle| {
        let before = watches(&api);
        api.faults(|faults| faults.watches = Some(BadWatch::Mute));
        api.cut();
        until_watches(&api, before + 1).await;
        api.apply(&service("b", 2));
        skip(SILENCE).await;
        until_watches(&api, before + 2).await;
        assert_eq!(all_rows(&handle).await, [row("a", 1)]);
        api.faults(|faults| faults.watches = None);
        until(&handle, &[row("a", 1), "demo/b:http/tcp 10.96.0.2:80 -> nobody".into()]).await;
        assert_eq!(lists(&api), (1, 1));
    })
    .await;
}

/// SYN-1, SYN-6: a server that accepts the first request and never answers it.
#[tokio::test]
async fn syn_6_a_list_that_never_comes_is_asked_for_again() {
    let (api, url) = FakeApi::start().await;
    api.apply(&service("a", 1));
    api.apply(&slice("a", 1));
    api.faults(|faults| faults.hold_lists = Some("services"));
    following(&url, async |handle| {
        while lists(&api) != (1, 1) {
            time::sleep(Duration::from_millis(2)).await;
        }
        skip(Duration::from_secs(31)).await;
        while lists(&api).0 < 2 {
            time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(handle.status().sizes.rows, 0);
        api.faults(|faults| faults.hold_lists = None);
        until(&handle, &[row("a", 1)]).await;
    })
    .await;
}

/// SYN-6: the cluster's store came back from a backup, so its versions are younger than ours. Watches from the future are
/// silent for ever.
#[tokio::test]
async fn syn_6_a_store_from_a_backup_is_noticed_at_last() {
    with_a(async |api, handle| {
        api.rewind();
        api.delete("Service", "a");
        api.apply(&service("b", 2));
        let mut seen = watches(&api);
        while lists(&api).0 < 2 {
            skip(SILENCE).await;
            while watches(&api) == seen && lists(&api).0 < 2 {
                time::sleep(Duration::from_millis(2)).await;
            }
            seen = watches(&api);
            assert!(seen < 20, "it watches on and on");
        }
        until(&handle, &["demo/b:http/tcp 10.96.0.2:80 -> nobody".into()]).await;
    })
    .await;
}

/// SYN-6, SYN-9
#[tokio::test]
async fn syn_9_the_server_dies_and_comes_back() {
    let api = FakeApi::new();
    api.apply(&service("a", 1));
    api.apply(&slice("a", 1));
    let address = free_address();
    let mut server = api.serve_apart(address);
    following(&format!("http://{address}"), async |handle| {
        until(&handle, &[row("a", 1)]).await;
        handle.wait_for(connected).await.expect("runs");
        // A short death: everything that was missed can still be had.
        drop(server);
        stale(&handle).await;
        api.apply(&slice("a", 1).replace("10.0.0.1", "10.0.0.7"));
        assert_eq!(all_rows(&handle).await, [row("a", 1)]);
        server = api.serve_apart(address);
        until(&handle, &[row("a", 1).replace("10.0.0.1", "10.0.0.7")]).await;
        handle.wait_for(connected).await.expect("runs");
        assert_eq!(lists(&api), (1, 1));
        // A long one: it begins with the present.
        drop(server);
        stale(&handle).await;
        api.delete("Service", "a");
        api.delete("EndpointSlice", "a-x");
        api.apply(&service("b", 2));
        api.apply(&slice("b", 2));
        api.compact();
        server = api.serve_apart(address);
        until(&handle, &[row("b", 2)]).await;
        handle.wait_for(connected).await.expect("runs");
        drop(server);
    })
    .await;
}

/// Lets time pass, at once.
async fn skip(time: Duration) {
    time::pause();
    time::advance(time).await;
    time::resume();
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound")
}

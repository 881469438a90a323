//! No retry storm: whatever is wrong with the server, it hears of us at the pace of the back-off and no faster.
//!
//! The bound follows from the back-off alone: pauses double from 100 ms and are at least half of that. A slow machine makes
//! fewer attempts, never more.

use std::cell::RefCell;
use std::collections::BTreeMap;

use std::time::Duration;

use futures::future::join_all;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::{self, Instant};

use super::support::fake_api::{BadWatch, FakeApi, Faults};
use super::support::follow::following;
use super::{service, slice};

type Fault = fn(&mut Faults);

/// How long requests are counted.
const COUNTED: Duration = Duration::from_secs(3);
/// What is asked for at least twice in that time, or until it is.
const KINDS: [&str; 2] = ["/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"];
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The most attempts that fit into a time.
fn most(time: Duration) -> usize {
    let (mut attempts, mut spent, mut pause) = (1, Duration::ZERO, FIRST_PAUSE);
    while spent + pause <= time {
        spent += pause;
        pause *= 2;
        attempts += 1;
    }
    attempts
}

#[test]
fn the_bound_is_small() {
    assert_eq!(most(COUNTED), 6);
}

/// Requests by path, at a server with such faults, and the time they took.
async fn asked(fault: impl FnOnce(&mut Faults)) -> (BTreeMap<String, usize>, Duration) {
    let (api, url) = FakeApi::start().await;
    for n in 1..3 {
        api.apply(&service(&format!("s{n}"), n));
        api.apply(&slice(&format!("s{n}"), n));
    }
    api.faults(fault);
    let counts = || {
        let mut counts = BTreeMap::new();
        for request in api.recorded() {
            *counts.entry(request.path).or_default() += 1;
        }
        counts
    };
    let started = Instant::now();
    following(&url, async |_| {
        time::sleep(COUNTED).await;
        while KINDS.iter().any(|path| counts().get(*path).is_none_or(|count| *count < 2)) {
            time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    (counts(), started.elapsed())
}

/// SYN-5: lists and watches are refused.
#[tokio::test]
async fn syn_5_a_server_that_refuses_is_left_in_peace() {
    join_all([401, 403, 429, 500, 503, 504].map(async |code| {
        let (counts, time) = asked(|faults| faults.refuse = Some(code)).await;
        // One who throttles says for how long: a second.
        let seconds = usize::try_from(time.as_secs()).expect("few");
        let most = if code == 429 { 1 + seconds } else { most(time) };
        for (path, count) in counts {
            assert!(count <= most, "{code}: {count} requests for {path} in {time:?}");
        }
    }))
    .await;
}

/// SYN-5: lists are answered, and watches go wrong in the same way again and again.
#[tokio::test]
async fn syn_5_watches_that_always_fail_do_not_hurry_us() {
    let faults: [(&str, Fault); 7] = [
        ("410", |faults| faults.refuse_watches = Some(410)),
        ("403", |faults| faults.refuse_watches = Some(403)),
        ("410 in the watch", |faults| faults.watches = Some(BadWatch::Error(410))),
        ("500 in the watch", |faults| faults.watches = Some(BadWatch::Error(500))),
        ("garbage", |faults| faults.watches = Some(BadWatch::Garbage)),
        ("ends at once", |faults| faults.watches = Some(BadWatch::Ends)),
        ("no second page", |faults| {
            faults.page = Some(1);
            faults.later_pages = Some(410);
        }),
    ];
    join_all(faults.map(async |(what, fault)| {
        let (counts, time) = asked(fault).await;
        // A pause may be followed by a list and a watch.
        let most = 2 * most(time);
        for (path, count) in counts {
            assert!(count <= most, "{what}: {count} requests for {path} in {time:?}");
        }
    }))
    .await;
}

/// SYN-5: somebody listens and hangs up, as a proxy does whose server is down.
#[tokio::test]
async fn syn_5_a_connection_that_is_closed_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let counts: RefCell<BTreeMap<String, usize>> = RefCell::default();
    let hang_up = async {
        loop {
            let (mut connection, _) = listener.accept().await.expect("listening");
            let mut head = [0; 256];
            let length = connection.read(&mut head).await.unwrap_or_default();
            let line = String::from_utf8_lossy(&head[..length]).into_owned();
            let path = line.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
            *counts.borrow_mut().entry(path).or_default() += 1;
        }
    };
    let started = Instant::now();
    following(&url, async |_| {
        let _ = time::timeout(COUNTED, hang_up).await;
    })
    .await;
    let most = most(started.elapsed());
    for path in KINDS {
        let count = counts.borrow()[path];
        assert!(count <= most, "{count} requests for {path}");
    }
}

//! The Kubernetes source with a control loop behind it.

use std::time::{Duration, Instant};

use control::control::Handle;
use control::source::kubernetes::{self, Client, Scope};
use tokio::task::LocalSet;
use tokio::time;

use super::{rows, settings, start_on};

/// What takes longer never comes.
const LIMIT: Duration = Duration::from_secs(60);

/// Follows the server at `url` while `test` runs.
pub(crate) async fn following(url: &str, test: impl AsyncFnOnce(Handle)) {
    following_all(url, Scope::Addressed, test).await;
}

pub(crate) async fn following_all(url: &str, scope: Scope, test: impl AsyncFnOnce(Handle)) {
    let tasks = LocalSet::new();
    let config = kube::Config::new(url.parse().expect("a URL"));
    let client = kubernetes::client(config).expect("a client");
    let handle = follow(&tasks, client, scope);
    let started = Instant::now();
    // Not a timer: tests may let time pass at once.
    let too_long = async {
        while started.elapsed() < 2 * LIMIT {
            time::sleep(Duration::from_millis(100)).await;
        }
    };
    tasks
        .run_until(async {
            tokio::select! {
                () = test(handle) => {}
                () = too_long => panic!("not in time"),
            }
        })
        .await;
}

/// Follows a server while the tasks run.
pub(crate) fn follow(tasks: &LocalSet, client: Client, scope: Scope) -> Handle {
    let handle = start_on(tasks, settings("{}"));
    tasks.spawn_local(kubernetes::follow_services(client, scope, handle.clone()));
    handle
}

pub(crate) async fn all_rows(handle: &Handle) -> Vec<String> {
    handle.inspect(|view| rows(view.assembly)).await.expect("runs")
}

/// Waits until there are exactly these rows.
pub(crate) async fn until(handle: &Handle, expected: &[String]) {
    until_rows(handle, |rows| rows == expected, &expected.join("\n")).await;
}

/// Waits until there is this row.
pub(crate) async fn until_row(handle: &Handle, expected: &str) {
    until_rows(handle, |rows| rows.iter().any(|row| row == expected), expected).await;
}

/// Waits until the rows are good.
pub(crate) async fn until_rows(handle: &Handle, good: impl Fn(&[String]) -> bool, expected: &str) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let rows = all_rows(handle).await;
        if good(&rows) {
            return;
        }
        let status = handle.status();
        assert!(
            Instant::now() < deadline,
            "expected\n{expected}\nthere is\n{}\n{status:?}",
            rows.join("\n")
        );
        time::sleep(Duration::from_millis(2)).await;
    }
}

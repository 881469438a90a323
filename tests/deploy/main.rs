//! What is in `deploy/`: nothing there is compiled, so all of it is tried here as far as one machine can.
//!
//! - `unit`: a real systemd runs the real unit
//! - `container`: the process with the rights of the DaemonSet's container, against an API server that knows its role
//! - `manifests`: Kubernetes' own types read the manifests, and the parts fit together
//! - `image`: the Dockerfile builds as the scripts do, and installs what the program is linked with
//!
//! `unit` and `container` need root, and are skipped without; under CI (variable `CI` set) that is a failure.

mod container;
mod image;
mod manifests;
#[path = "../e2e/netns.rs"]
#[expect(dead_code, reason = "the end-to-end tests need more of it")]
mod netns;
mod unit;

use std::path::Path;

/// The top of the repository.
fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the repository.
fn text(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether a test is left out, for a reason if there is one; never under CI.
fn skipped(reason: Option<String>) -> bool {
    let Some(reason) = reason else { return false };
    assert!(std::env::var_os("CI").is_none(), "may not be skipped under CI: {reason}");
    eprintln!("skipped: {reason}");
    true
}

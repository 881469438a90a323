//! `/healthz`, `/livez` and `/attractz`: what kubelets, balancers and routing daemons ask, in kube-proxy's words (HCK-10).
//!
//! Alive means that what was published reaches the workers. It never depends on the API server: a restart would lose the
//! last good tables and mend nothing.
//!
//! A node that is about to go should get no new connections (HCK-12): `/healthz` and `/attractz` fail. A node of which
//! there is no object is no such node: a gateway need not be a node of the cluster.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use super::Admin;
use crate::object::node::Leaving;

/// The usual limit, that of kube-proxy: see [`Admin::patient_for`].
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The newest tables that every worker had when somebody looked, and when they got there or first fell behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    acknowledged: u64,
    since: Instant,
}

/// How often `/healthz` and `/livez` were asked for, by what they answered.
#[derive(Debug, Default)]
pub(super) struct Asked([[AtomicU64; 2]; 2]);

impl Asked {
    const PAGES: [&str; 2] = ["/healthz", "/livez"];
    const CODES: [&str; 2] = ["200", "503"];

    pub(super) fn healthz(&self, healthy: bool) {
        self.0[0][usize::from(!healthy)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn livez(&self, healthy: bool) {
        self.0[1][usize::from(!healthy)].fetch_add(1, Ordering::Relaxed);
    }

    /// Page, code and answers.
    pub(super) fn rows(&self) -> impl Iterator<Item = ([(&'static str, String); 2], u64)> {
        self.0.iter().zip(Self::PAGES).flat_map(|(counts, page)| {
            counts.iter().zip(Self::CODES).map(move |(count, code)| {
                let labels = [("page", page.to_owned()), ("code", code.to_owned())];
                (labels, count.load(Ordering::Relaxed))
            })
        })
    }
}

/// The answer of `/healthz`, and without the last field of `/livez`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProxyHealth {
    /// Now while all is well (HCK-13), else when it last was.
    last_updated: Timestamp,
    current_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node_eligible: Option<bool>,
}

impl Admin {
    /// Notes how far the workers are.
    pub(super) fn note_progress(&self) {
        let status = self.control.status();
        let mut seen = self.seen();
        let moved = seen.progress.is_none_or(|last| last.acknowledged != status.acknowledged);
        if moved || status.acknowledged == status.generation {
            let (acknowledged, since) = (status.acknowledged, Instant::now());
            seen.progress = Some(Progress { acknowledged, since });
        }
    }

    /// For how long published tables have not reached every worker, if that is too long.
    pub(super) fn stuck(&self) -> Option<Duration> {
        self.note_progress();
        let progress = self.seen().progress?;
        Some(progress.since.elapsed()).filter(|stuck| *stuck > self.patience)
    }

    /// Whether the proxy is healthy, and what to say of it.
    pub(super) fn proxy_health(&self) -> (bool, ProxyHealth) {
        let now = Timestamp::now();
        let stuck = self.stuck();
        let last_updated = stuck.and_then(|stuck| now.checked_sub(stuck).ok()).unwrap_or(now);
        (stuck.is_none(), ProxyHealth { last_updated, current_time: now, node_eligible: None })
    }

    /// Why the node is about to go, if it is.
    pub(super) fn leaving(&self) -> Option<Leaving> {
        self.control.status().node?.leaving
    }

    /// Why routers should not send traffic here; none when they should.
    pub(super) fn repulsions(&self) -> Vec<String> {
        let mut reasons: Vec<String> = self.readiness().failed().map(ToString::to_string).collect();
        if let Some(stuck) = self.stuck() {
            reasons.push(format!("tables: not held by every worker for {} s", stuck.as_secs()));
        }
        reasons.extend(self.leaving().map(|leaving| format!("node: {}", leaving.reason())));
        reasons
    }
}

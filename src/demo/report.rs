//! What the demo found, for people's machines: the JSON of `--json`.

use std::collections::BTreeMap;

use control::admin::Status;
use serde::Serialize;

use super::ledger::Ledger;
use super::plan::{Family, Kind};
use super::talk::{Replies, Turn};

/// Everything. `ok` is the exit status.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) ok: bool,
    /// What was not as it should be.
    pub(super) problems: Vec<String>,
    pub(super) seconds: f64,
    /// Memory of all processes at their peaks.
    pub(super) memory_mib: u64,
    pub(super) vips: Vec<Vip>,
    pub(super) change: Option<Change>,
    pub(super) packets: Option<Ledger>,
    /// The gateway's own account, as `vipgate status -o json` gives it.
    pub(super) status: Option<Status>,
    /// Commands to go on with, if the demo was kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) commands: Vec<String>,
}

/// Answers by backend.
pub(super) type Shares = BTreeMap<String, usize>;

/// One kind of VIP in one family.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Vip {
    pub(super) kind: Kind,
    pub(super) family: Family,
    pub(super) address: String,
    pub(super) http: Tally,
    pub(super) udp: Tally,
    pub(super) ping_micros: Option<u64>,
    /// Where requests came from, for the backends.
    pub(super) seen_as: Vec<String>,
}

/// Who answered, and what went wrong.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    pub(super) answers: Shares,
    pub(super) errors: Vec<String>,
}

/// The change while connections run.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change {
    pub(super) drained: String,
    pub(super) added: String,
    /// Milliseconds from writing the manifest until every worker used it.
    pub(super) drain_millis: u64,
    pub(super) remove_millis: u64,
    /// New connections before, while the change was on its way, after it, and after the removal.
    pub(super) before: Tally,
    pub(super) during: Tally,
    pub(super) after: Tally,
    pub(super) removed: Tally,
    pub(super) download: Download,
    pub(super) flow: Flow,
}

/// The download that ran through all of it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Download {
    pub(super) backend: String,
    pub(super) bytes: u64,
    pub(super) sum_is_right: bool,
    pub(super) longest_pause_millis: u64,
}

/// Datagrams from one port, all the time.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Flow {
    pub(super) port: u16,
    pub(super) sent: usize,
    pub(super) lost: usize,
    /// Who answered, in order.
    pub(super) backends: Vec<Turn>,
}

impl Tally {
    pub(super) fn add(&mut self, replies: Replies) {
        for reply in replies.good {
            *self.answers.entry(reply.backend).or_default() += 1;
        }
        self.errors.extend(replies.errors);
    }

    pub(super) fn append(&mut self, other: Self) {
        for (backend, count) in other.answers {
            *self.answers.entry(backend).or_default() += count;
        }
        self.errors.extend(other.errors);
    }

    pub(super) fn total(&self) -> usize {
        self.answers.values().sum()
    }

    pub(super) fn of(&self, backend: &str) -> usize {
        self.answers.get(backend).copied().unwrap_or_default()
    }
}

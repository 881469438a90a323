//! Events on Services and EndpointSlices: what their owners should know, where they look for it.
//!
//! An Event is said of something that is the case, a [`Finding`]: that a Service has no ready endpoint, say. Findings are read
//! from the objects again and again ([`findings`]); the [`ledger`] decides which of them is to be said now; [`post`] says
//! it to the API server, or to the log where there is none.
//!
//! Invariants:
//! - Saying costs the tables nothing: the control loop is asked, briefly and not often, and waits for nobody.
//! - The same is not said again and again, all together is said at a limited rate, and what is remembered is bounded.
//! - An API server that wants to hear nothing costs a counter and a line in the log.

mod counters;
mod ledger;
mod post;

use std::sync::Arc;
use std::time::Duration;

pub use counters::{Cause, Counters};
pub use post::{Sink, run};

use crate::assembly::Assembly;
use crate::object::{Kind, ObjectKey, ObjectName, Problem, Reason};

/// The API server takes no longer note, in bytes.
const MAX_NOTE: usize = 1024;

/// Why an Event is posted: the word that people and tools look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventReason {
    /// New connections to a port are refused.
    NoReadyEndpoints,
    /// Another Service owns an address and port.
    VipConflict,
    /// The configuration does not let a Service have an address.
    VipNotAllowed,
    /// An endpoint has an address that packets must not be sent to.
    EndpointRejected,
    /// A part of an object can't be read, and is left out.
    InvalidObject,
    /// Nothing comes back through the gateway on connections that keep the client's address.
    OneWayConnections,
    /// A health check node port can't be listened on (HCK-7).
    FailedToStartServiceHealthcheck,
}

impl EventReason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::NoReadyEndpoints,
        Self::VipConflict,
        Self::VipNotAllowed,
        Self::EndpointRejected,
        Self::InvalidObject,
        Self::OneWayConnections,
        Self::FailedToStartServiceHealthcheck,
    ];

    /// The word in the Event.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoReadyEndpoints => "NoReadyEndpoints",
            Self::VipConflict => "VipConflict",
            Self::VipNotAllowed => "VipNotAllowed",
            Self::EndpointRejected => "EndpointRejected",
            Self::InvalidObject => "InvalidObject",
            Self::OneWayConnections => "OneWayConnections",
            Self::FailedToStartServiceHealthcheck => "FailedToStartServiceHealthcheck",
        }
    }

    /// The Event for a problem, if it is one to tell the object's owner.
    fn of(problem: &Reason) -> Option<Self> {
        Some(match problem {
            Reason::Conflict { .. } => Self::VipConflict,
            Reason::NotAllowed { .. } => Self::VipNotAllowed,
            Reason::Endpoint(_) => Self::EndpointRejected,
            Reason::OneWay => Self::OneWayConnections,
            Reason::HealthCheck { .. } => Self::FailedToStartServiceHealthcheck,
            _ if problem.is_error() => Self::InvalidObject,
            _ => return None,
        })
    }

    /// How long it must be the case before it is worth saying: a Service that is made or rolled out has no endpoint for
    /// some seconds.
    fn patience(self) -> Duration {
        match self {
            Self::NoReadyEndpoints => Duration::from_secs(10),
            _ => Duration::ZERO,
        }
    }

    /// Whether it is a problem of an object, which the control loop logs by itself.
    fn is_logged(self) -> bool {
        self != Self::NoReadyEndpoints
    }
}

/// Something that is the case, and to be said once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Finding {
    /// The Service or EndpointSlice it is about.
    pub about: ObjectKey,
    /// Its identity, which tells it from a later one of the same name.
    pub uid: Option<Arc<str>>,
    /// What kind of thing it is.
    pub reason: EventReason,
    /// In words.
    pub note: String,
}

/// The first findings of the objects as they are, at most `limit`, and how many more there are.
#[must_use]
pub fn findings(assembly: &Assembly, limit: usize) -> (Vec<Finding>, usize) {
    let problems = assembly.problems().filter_map(|problem| {
        let about = problem.object.as_ref()?;
        let reason = EventReason::of(&problem.reason)?;
        let told = matches!(about.kind, Kind::Service | Kind::EndpointSlice);
        told.then(|| finding(assembly, about.clone(), reason, text(problem)))
    });
    let empty = assembly.without_endpoints().map(|(name, ports)| {
        let about = ObjectKey { kind: Kind::Service, name: name.clone() };
        let note =
            format!("no endpoint of {} is ready: new connections are refused", ports.join(", "));
        finding(assembly, about, EventReason::NoReadyEndpoints, note)
    });
    let mut all = problems.chain(empty);
    let first = all.by_ref().take(limit).collect();
    (first, all.count())
}

fn finding(assembly: &Assembly, about: ObjectKey, reason: EventReason, note: String) -> Finding {
    let uid = uid(assembly, about.kind, &about.name);
    Finding { about, uid, reason, note: shortened(note) }
}

fn uid(assembly: &Assembly, kind: Kind, name: &ObjectName) -> Option<Arc<str>> {
    let state = assembly.state();
    match kind {
        Kind::Service => state.service(name)?.uid.clone(),
        Kind::EndpointSlice => state.slice(name)?.uid.clone(),
        _ => None,
    }
}

/// A problem without the object, which the Event names by itself.
fn text(problem: &Problem) -> String {
    match problem.field.as_str() {
        "" => problem.reason.to_string(),
        field => format!("{field}: {}", problem.reason),
    }
}

fn shortened(mut note: String) -> String {
    if note.len() > MAX_NOTE {
        let end = (0..=MAX_NOTE - 3).rev().find(|end| note.is_char_boundary(*end));
        note.truncate(end.unwrap_or_default());
        note += "...";
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_end_at_a_whole_character() {
        assert_eq!(shortened("short".into()), "short");
        let long = shortened("é".repeat(600));
        assert!(long.len() <= MAX_NOTE && long.ends_with("é..."), "{}", long.len());
    }

    #[test]
    fn the_page_explains_every_reason() {
        let page = include_str!("../../../docs/events.md");
        for reason in EventReason::ALL {
            let row = format!("| `{}` | ", reason.name());
            assert!(page.lines().any(|line| line.starts_with(&row)), "docs/events.md lacks: {row}");
        }
        let rows = page.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, EventReason::ALL.len(), "docs/events.md has a row too many");
    }
}

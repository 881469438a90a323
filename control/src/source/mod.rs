//! Where objects come from: a cluster's API server, or files. Both speak in [`Event`]s.
//!
//! A source parses what it reads and reports what it can't. It never takes back more than it knows to be gone: a list
//! replaces the former one only when it is complete (I12), and an object that can't be read keeps its last version.

pub mod kubernetes;
pub mod manifests;

use std::collections::BTreeSet;
use std::time::SystemTime;

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::object::{Kind, Object, ObjectKey, ObjectName, Problem};

/// What a source has to say.
#[derive(Clone, Debug)]
pub enum Event {
    /// An object is now like this.
    Apply(Change),
    /// An object is gone.
    Delete(ObjectKey),
    /// An object is now like something that can't be read: it stays as it was.
    Unreadable(ObjectKey, Problem),
    /// A complete list of all objects of a kind.
    Reset {
        /// The kind.
        kind: Kind,
        /// Those that could be read.
        objects: Vec<Change>,
        /// Those that exist but could not: they stay as they were.
        unreadable: Vec<(ObjectName, Problem)>,
    },
    /// All that is wrong with a set of files, in place of what was said before.
    Problems(Vec<Problem>),
    /// Whether changes of a kind are heard of. A source that does not tell kinds apart speaks for Services.
    Link(Kind, Link),
}

/// A new version of an object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The object.
    pub object: Object,
    /// What is wrong in it.
    pub problems: Vec<Problem>,
    /// When what led to it happened, if the object says so (EPS-12).
    pub trigger: Option<Timestamp>,
}

impl Change {
    /// A change without anything remarkable.
    #[must_use]
    pub fn of(object: Object) -> Self {
        Self { object, problems: Vec::new(), trigger: None }
    }
}

/// Whether a source still hears of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum Link {
    /// Nothing was heard yet.
    #[default]
    Connecting,
    /// Changes arrive.
    Connected,
    /// The last complete state is served; nothing newer is known since then.
    #[serde(rename_all = "camelCase")]
    Stale {
        /// Since when.
        #[serde(serialize_with = "seconds")]
        since: SystemTime,
        /// Why.
        error: String,
    },
}

/// Names that a reset leaves alone.
pub(crate) fn names(unreadable: &[(ObjectName, Problem)]) -> BTreeSet<ObjectName> {
    unreadable.iter().map(|(name, _)| name.clone()).collect()
}

/// A wall-clock time as seconds since 1970.
pub(crate) fn seconds<S: serde::Serializer>(
    time: &SystemTime,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_f64(since.as_secs_f64())
}

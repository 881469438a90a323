//! What is wrong with an object: which object, which field, why, and what to change.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::ObjectKey;

/// One thing that is wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Where the object was read, if it came from a file.
    pub place: Option<Place>,
    /// The object; `None` for a document that could not be identified.
    #[serde(serialize_with = "key_as_text")]
    pub object: Option<ObjectKey>,
    /// Path of the field, as in `spec.ports[0].port`; empty for the whole object.
    pub field: String,
    /// Why.
    #[serde(serialize_with = "as_text", rename = "message")]
    pub reason: Reason,
}

/// A position in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Path of the file as it was given, or `-`.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<str>,
    /// Line, from 1; 0 if only the file is known.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

/// Why a field or object is not used as written. The text of each says what to change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// Syntax or type error.
    #[error("{0}")]
    Unreadable(String),
    /// No value where one is needed.
    #[error("{0}")]
    Missing(String),
    /// A field at the wrong place.
    #[error("{0}")]
    Misplaced(String),
    /// A field that does not exist.
    #[error("unknown field: it has no effect, remove or correct it")]
    UnknownField,
    /// Not an address or range, or one that may not stand here.
    #[error("{0}")]
    Address(String),
    /// An endpoint that packets must not be sent to (EPS-14).
    #[error("{0}")]
    Endpoint(String),
    /// Not a port number.
    #[error("{0} is not a port number: use 1 to 65535")]
    Port(i32),
    /// A value out of a closed set.
    #[error("{value:?} is not known: use {expected}")]
    Value {
        /// What is written.
        value: String,
        /// What may be written.
        expected: &'static str,
    },
    /// Two of a thing that must be unique.
    #[error("{0}")]
    Duplicate(String),
    /// Something that is not as its author may think.
    #[error("{0}")]
    Note(String),
    /// Another Service owns this address and port (OBJ-14).
    #[error("{frontend} belongs to Service {owner}, which is older: it is not served for this one")]
    Conflict {
        /// Address, port and protocol.
        frontend: String,
        /// The owner, `namespace/name`.
        owner: String,
    },
    /// The configuration does not let Services have this address.
    #[error("{address} is not in services.{list} of the configuration: it is not served")]
    NotAllowed {
        /// The address.
        address: IpAddr,
        /// The key that lists what is allowed.
        list: &'static str,
    },
    /// On connections whose clients' addresses are kept nothing comes back through the gateway.
    #[error(
        "connections of clients whose addresses are kept get no answer through this gateway: the endpoints' way back \
         must lead through it (docs/vip-does-not-answer.md, question 5)"
    )]
    OneWay,
    /// Nobody answers load balancers that ask for local endpoints (HCK-7).
    #[error(
        "cannot listen on port {port} over {family}: {error}: load balancers take this node for one without endpoints"
    )]
    HealthCheck {
        /// The port.
        port: u16,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// What the kernel says.
        error: String,
    },
}

impl Problem {
    /// Of an object as it is, wherever it was read. An empty field means the whole object.
    pub(crate) fn of(object: ObjectKey, field: impl Into<String>, reason: Reason) -> Self {
        Self { place: None, object: Some(object), field: field.into(), reason }
    }
}

impl Reason {
    /// The reason as a metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Missing(_) => "missing",
            Self::Misplaced(_) => "misplaced",
            Self::UnknownField => "unknown_field",
            Self::Address(_) => "address",
            Self::Port(_) => "port",
            Self::Value { .. } => "value",
            Self::Duplicate(_) => "duplicate",
            Self::Note(_) => "note",
            Self::Conflict { .. } => "conflict",
            Self::NotAllowed { .. } => "vip_not_allowed",
            Self::OneWay => "one_way",
            Self::Endpoint(_) => "endpoint",
            Self::HealthCheck { .. } => "health_check",
        }
    }

    /// Whether something is not served because of it; otherwise it is only worth knowing.
    #[must_use]
    pub fn is_error(&self) -> bool {
        !matches!(self, Self::UnknownField | Self::Duplicate(_) | Self::Note(_))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        self.reason.fmt(f)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

fn as_text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn key_as_text<S: Serializer>(value: &Option<ObjectKey>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(key) => serializer.collect_str(key),
        None => serializer.serialize_none(),
    }
}

/// Collects the problems of one object while it is parsed.
#[derive(Debug)]
pub(crate) struct Report {
    object: ObjectKey,
    problems: Vec<Problem>,
}

impl Report {
    pub(crate) fn new(object: ObjectKey) -> Self {
        Self { object, problems: Vec::new() }
    }

    pub(crate) fn add(&mut self, field: impl Into<String>, reason: Reason) {
        self.problems.push(Problem::of(self.object.clone(), field, reason));
    }

    /// Takes the value out of a result; an error is reported for `field`.
    pub(crate) fn ok<T, E: fmt::Display>(
        &mut self,
        field: impl FnOnce() -> String,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|e| self.add(field(), Reason::Address(e.to_string()))).ok()
    }

    /// The same of an endpoint's address that may not be used.
    pub(crate) fn usable<T>(
        &mut self,
        field: impl FnOnce() -> String,
        result: Result<T, String>,
    ) -> Option<T> {
        result.map_err(|e| self.add(field(), Reason::Endpoint(e))).ok()
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

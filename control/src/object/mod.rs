//! Kubernetes objects, parsed to what a gateway needs of them: parse, don't validate.
//!
//! A value of these types is proof: addresses are addresses, ports are ports, defaults are filled in. What can't be
//! read becomes a [`Problem`] that names the object, the field and what to change; the rest of the object goes on.

pub mod address;
pub mod endpoints;
pub mod node;
pub mod pod;
pub mod problem;
pub mod service;
pub mod service_cidr;
pub mod slice;

use std::fmt;
use std::sync::Arc;

use dataplane::flow::Protocol;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use endpoints::Endpoints;
pub use node::Node;
pub use pod::Pod;
pub use problem::{Place, Problem, Reason};
pub use service::Service;
pub use service_cidr::ServiceCidr;
pub use slice::Slice;

use problem::Report;

/// Namespace and name of an object; cheap to clone. What belongs to no namespace has an empty one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName(Arc<str>);

impl ObjectName {
    /// From its parts. Neither may hold a slash, as in the API.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The name without namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// `namespace/name`, or the name alone.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.strip_prefix('/').unwrap_or(&self.0)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kinds of objects that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `v1` Endpoints; manifests only.
    Endpoints,
    /// `v1` Pod; manifests only.
    Pod,
    /// `v1` Node.
    Node,
    /// `networking.k8s.io/v1` ServiceCIDR.
    ServiceCidr,
}

impl Kind {
    /// The kind as objects write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Endpoints => "Endpoints",
            Self::Pod => "Pod",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
        }
    }

    /// The API group and version it is read in.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Service | Self::Endpoints | Self::Pod | Self::Node => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::ServiceCidr => "networking.k8s.io/v1",
        }
    }

    /// Whether its objects belong to no namespace: those that say something about the cluster, not about one Service.
    #[must_use]
    pub fn is_cluster_wide(self) -> bool {
        matches!(self, Self::Node | Self::ServiceCidr)
    }
}

/// Identity of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub name: ObjectName,
}

impl ObjectKey {
    /// Of an object's kind and metadata; `None` without a name. No namespace means `default`.
    #[must_use]
    pub(crate) fn of(kind: Kind, metadata: &ObjectMeta) -> Option<Self> {
        let name = metadata.name.as_deref().filter(|name| !name.is_empty())?;
        let namespace = metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        Some(Self::named(kind, namespace, name))
    }

    /// By name; no namespace means `default`.
    #[must_use]
    pub fn named(kind: Kind, namespace: Option<&str>, name: &str) -> Self {
        let namespace = if kind.is_cluster_wide() { "" } else { namespace.unwrap_or("default") };
        Self { kind, name: ObjectName::new(namespace, name) }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)
    }
}

/// An object of a kind that decides what the tables say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(Service),
    /// A part of a Service's endpoints.
    Slice(Slice),
    /// A machine of the cluster, of which the one we are counts.
    Node(Node),
    /// Ranges of cluster IPs.
    ServiceCidr(ServiceCidr),
}

impl Object {
    /// Its identity.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        let (kind, name) = match self {
            Self::Service(service) => (Kind::Service, &service.name),
            Self::Slice(slice) => (Kind::EndpointSlice, &slice.name),
            Self::Node(node) => (Kind::Node, &node.name),
            Self::ServiceCidr(ranges) => (Kind::ServiceCidr, &ranges.name),
        };
        ObjectKey { kind, name: name.clone() }
    }
}

/// A parsed object with what is wrong in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<T> {
    /// The object without its bad parts.
    pub object: T,
    /// Its bad parts.
    pub problems: Vec<Problem>,
}

/// A protocol; absent or empty means TCP (OBJ-10).
fn protocol(
    text: Option<&str>,
    field: impl FnOnce() -> String,
    report: &mut Report,
) -> Option<Protocol> {
    match text {
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(other) => {
            report
                .add(field(), Reason::Value { value: other.into(), expected: "TCP, UDP or SCTP" });
            None
        }
    }
}

/// A port number from 1 to 65535.
fn port(number: i32, field: impl FnOnce() -> String, report: &mut Report) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    if port.is_none() {
        report.add(field(), Reason::Port(number));
    }
    port
}

/// The metadata's name, or the problem that there is none.
fn named(kind: Kind, metadata: &ObjectMeta) -> Result<ObjectKey, Box<Problem>> {
    let problem = |reason| {
        Box::new(Problem { place: None, object: None, field: "metadata.name".into(), reason })
    };
    let key = ObjectKey::of(kind, metadata)
        .ok_or_else(|| problem(Reason::Missing(format!("{} has no name: set one", kind.name()))))?;
    let name = &key.name;
    if name.0.matches('/').count() != 1 {
        let why = format!("{name:?} is not a name: use letters, digits, '-' and '.'");
        return Err(problem(Reason::Unreadable(why)));
    }
    Ok(key)
}
